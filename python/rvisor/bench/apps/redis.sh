# title: redis: GET, SET, pipelines, RDB and AOF
# size: {40000} requests, 20 connections; pipelines of 16: {400000} requests; both ends inside
# needs: redis-server redis-benchmark redis-cli
# target: 0.6
serve() {
	redis-server --port "$port" --bind 127.0.0.1 --dir "$here" --save '' --appendonly "$1" --daemonize no >log 2>&1 &
	background+=($!)
	listening "$port"
}

stop() {
	redis-cli -p "$port" shutdown "$1" || :
	wait "${background[-1]}" || :
}

benchmark() {
	redis-benchmark -p "$port" -t get,set -c 20 --csv "$@" 2>/dev/null | tr -d '"' | awk -F, '$1 == "GET" || $1 == "SET" { print $1, $2 }'
}

run() {
	serve no
	while read -r name value; do rate "$name" "$value" /s; done < <(benchmark -n "$(scaled 40000)")
	while read -r name value; do rate "$name, pipeline of 16" "$value" /s; done < <(benchmark -P 16 -n "$(scaled 400000)")
	redis-cli -p "$port" set saved 'to the disk' >/dev/null
	stop save
	serve no
	check "$(redis-cli -p "$port" get saved)"
	stop nosave
	serve yes
	redis-cli -p "$port" set logged 'in the file' >/dev/null
	redis-cli -p "$port" incrby count 41 >/dev/null
	stop nosave
	serve yes
	check "$(redis-cli -p "$port" get logged) $(redis-cli -p "$port" incr count)"
	stop nosave
}
