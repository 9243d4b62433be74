# title: openssl: s_server and s_client
# size: one TLS connection
# needs: openssl
prepare() {
	openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=localhost -keyout "$made/key" -out "$made/cert" 2>/dev/null
}

run() {
	openssl s_server -accept "127.0.0.1:$port" -key "$made/key" -cert "$made/cert" -www >server.log 2>&1 &
	background+=($!)
	listening "$port"
	local answer
	answer=$(printf 'GET / HTTP/1.0\r\n\r\n' | openssl s_client -connect "127.0.0.1:$port" -CAfile "$made/cert" -quiet -ign_eof 2>errors || :)
	check "$(head -n 1 <<<"$answer") $(grep -c 'Protocol  : TLSv1.3' <<<"$answer") $(grep -c 'verify return:1' errors)"
}
