# title: Go: an HTTP server, statically linked
# size: 32 connections, keep-alive; both ends inside
# needs: go wrk curl
# target: 0.6
prepare() {
	cat >"$made/server.go" <<-'END'
		package main

		import (
			"fmt"
			"net/http"
			"os"
		)

		func main() {
			http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "hello %s", r.URL.Path) })
			fmt.Println(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
		}
	END
	cd "$made" && GO111MODULE=off GOCACHE=$made/cache CGO_ENABLED=0 go build -o server server.go
}

run() {
	"$made/server" "$port" &
	background+=($!)
	listening "$port"
	check "$(curl -s "http://127.0.0.1:$port/there")"
	loaded requests "http://127.0.0.1:$port/"
}
