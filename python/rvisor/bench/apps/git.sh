# title: git: a repository of 1,000 files
# size: {1000} files in 20 directories
# needs: git
# target: 0.7
run() {
	export HOME=$here GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z'
	git config --global user.name bench
	git config --global user.email bench@example.org
	git init -q -b main one
	for i in $(seq "$(scaled 1000)"); do
		mkdir -p "one/d$((i % 20))"
		echo "file $i" >"one/d$((i % 20))/$i"
	done
	timed add git -C one add .
	timed commit git -C one commit -qm first
	timed clone git clone -q one two
	timed status git -C two status --porcelain
	check "$(git -C two rev-parse HEAD) $(find two -type f -not -path '*/.git/*' | wc -l)"
}
