# A repository: init, add, commit, branch, merge, log, clone.
export LC_ALL=C HOME=$PWD GIT_AUTHOR_DATE='2020-01-02T03:04:05Z' GIT_COMMITTER_DATE='2020-01-02T03:04:05Z'
git config --global user.name Guest
git config --global user.email guest@example.com
git config --global init.defaultBranch main
git config --global gc.auto 0
git config --global safe.directory '*'
git init -q repository && cd repository
for i in $(seq 1 30); do mkdir -p "d$((i % 5))"; seq 1 "$i" > "d$((i % 5))/f$i"; done
git add . && git commit -q -m 'first' && git log --format='%H %an %s'
git status --short; echo change >> d1/f1; git diff --stat; git commit -q -am 'second'
git checkout -q -b side HEAD~1; echo other > side; git add side; git commit -q -m 'on the side'
git checkout -q main; git merge -q -m 'merged' side; git log --oneline --graph
git tag -a v1 -m 'one' ; git describe; git rev-parse HEAD; git ls-files | wc -l; git show --stat HEAD~1 | tail -n 2
git stash list; echo dirty > side; git stash -q; cat side; git stash pop -q; cat side; git checkout -q -- side
git mv side renamed; git commit -q -m 'renamed'; git log --follow --format=%s renamed; git grep -c 7 | head -n 3
git fsck --full 2>&1 | head; git gc -q; git count-objects -v | grep -E 'in-pack|packs'; git repack -q -a -d
cd .. && git clone -q repository clone && cd clone && git log --format=%H -1 && git remote -v | sed "s#$HOME##"
echo pushed > pushed; git add .; git commit -q -m 'to push'; git push -q origin HEAD:refs/heads/other; git -C ../repository branch --list | sort
git bisect start -q HEAD HEAD~3 > /dev/null 2>&1; git bisect reset -q > /dev/null 2>&1; git archive HEAD | tar tf - | wc -l
git rebase -q HEAD~2 && git cat-file -p HEAD | head -n 3; git clone -q --bare . ../bare.git; ls ../bare.git | sort; git -C ../bare.git log --format=%s | head -n 3
git commit -q -m nothing 2>&1 | tail -n 1; git checkout missing 2>&1; git worktree add -q ../tree other 2> /dev/null; git worktree list | wc -l
