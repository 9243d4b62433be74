# title: node: npm install of a tarball, an HTTP server
# size: npm: one tarball of 300 files, offline; HTTP: 32 connections; both ends inside
# needs: node npm wrk curl
# target: 0.7
prepare() {
	mkdir -p "$made/package/lib"
	echo '{"name": "many", "version": "1.0.0", "main": "lib/f1.js"}' >"$made/package/package.json"
	for i in $(seq 300); do
		echo "module.exports = () => $i;" >"$made/package/lib/f$i.js"
	done
	tar -C "$made" -czf "$made/many-1.0.0.tgz" package
}

run() {
	export HOME=$here npm_config_cache=$here/cache npm_config_update_notifier=false
	echo '{"name": "user", "version": "1.0.0"}' >package.json
	timed 'npm install' npm install --offline --no-audit --no-fund --silent "$made/many-1.0.0.tgz"
	check "$(node -e 'console.log(require("many")(), process.version)') $(ls node_modules/many/lib | wc -l)"
	cat >server.js <<-'END'
		require("http").createServer((request, answer) => answer.end("hello " + request.url)).listen(process.argv[2], "127.0.0.1");
	END
	node server.js "$port" &
	background+=($!)
	listening "$port"
	check "$(curl -s "http://127.0.0.1:$port/there")"
	loaded requests "http://127.0.0.1:$port/"
}
