# title: curl: from a loopback server, by name and by address
# size: a file of 3 MB, a small one, a range
# needs: curl python3
run() {
	mkdir -p www
	head -c 3000000 /dev/zero | tr '\0' z >www/large
	echo small >www/small
	python3 -m http.server -d www -b 127.0.0.1 "$port" >log 2>&1 &
	background+=($!)
	listening "$port"
	check "$(curl -s "http://localhost:$port/small") $(curl -s "http://127.0.0.1:$port/large" | md5sum)"
	check "$(curl -s -r 10-19 -o /dev/null -w '%{http_code} %{size_download}' "http://127.0.0.1:$port/small")"
	local status=0
	curl -s "http://127.0.0.1:$((port + 1))/" || status=$?
	check "$status"
}
