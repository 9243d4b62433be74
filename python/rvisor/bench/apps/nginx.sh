# title: nginx: static files, keep-alive, 4 workers
# size: 612 bytes; wrk: 32 connections, keep-alive; ab: {10000} requests, 50 connections; both ends inside
# needs: nginx wrk ab curl
# target: 0.6
run() {
	mkdir -p www logs
	head -c 612 /dev/zero | tr '\0' x >www/index.html
	head -c 1000000 /dev/zero | tr '\0' y >www/large
	cat >nginx.conf <<-END
		user root;
		worker_processes 4;
		daemon off;
		pid $here/pid;
		error_log $here/logs/error.log;
		events { worker_connections 1024; }
		http {
		  access_log off;
		  sendfile on;
		  client_body_temp_path $here/body; proxy_temp_path $here/proxy; fastcgi_temp_path $here/fastcgi;
		  uwsgi_temp_path $here/uwsgi; scgi_temp_path $here/scgi;
		  server { listen 127.0.0.1:$port; root $here/www; keepalive_requests 1000000; }
		}
	END
	nginx -p "$here" -c "$here/nginx.conf" &
	background+=($!)
	listening "$port"
	check "$(curl -s "http://127.0.0.1:$port/index.html" | md5sum)"
	check "$(curl -s "http://127.0.0.1:$port/large" | md5sum)"
	check "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port/absent")"
	loaded 'keep-alive (wrk)' "http://127.0.0.1:$port/index.html"
	rate 'a connection each (ab)' "$(ab -q -n "$(scaled 10000)" -c 50 "http://127.0.0.1:$port/index.html" | awk '/^Requests per second/ { print $4 }')" /s
}
