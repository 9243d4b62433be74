# title: Rust: a threaded server
# size: 32 connections, keep-alive; both ends inside
# needs: rustc wrk curl
# target: 0.6
prepare() {
	cat >"$made/server.rs" <<-'END'
		use std::io::{BufRead, BufReader, Write};
		use std::net::{TcpListener, TcpStream};

		fn serve(stream: TcpStream) -> std::io::Result<()> {
		    let mut out = stream.try_clone()?;
		    let mut blank = 0;
		    for line in BufReader::new(stream).lines() {
		        if line?.is_empty() {
		            blank += 1;
		            write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
		        }
		    }
		    let _ = blank;
		    Ok(())
		}

		fn main() {
		    let port = std::env::args().nth(1).expect("a port");
		    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).expect("bind");
		    for stream in listener.incoming().flatten() {
		        std::thread::spawn(move || serve(stream));
		    }
		}
	END
	rustc -O -o "$made/server" "$made/server.rs"
}

run() {
	"$made/server" "$port" &
	background+=($!)
	listening "$port"
	check "$(curl -s "http://127.0.0.1:$port/")"
	loaded requests "http://127.0.0.1:$port/"
}
