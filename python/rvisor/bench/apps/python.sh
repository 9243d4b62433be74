# title: python: start-up, asyncio, TLS
# size: {40} starts of python3 -c pass; 8 TLS connections of {300} lines each
# needs: python3 openssl
# target: 0.8
prepare() {
	openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=localhost -keyout "$made/key" -out "$made/cert" 2>/dev/null
}

starts() {
	for _ in $(seq "$(scaled 40)"); do
		python3 -c pass
	done
}

run() {
	timed start-up starts
	cat >echo.py <<-'END'
		import asyncio, ssl, sys
		made, port, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
		async def answer(reader, writer):
		    while line := await reader.readline():
		        writer.write(line.upper())
		        await writer.drain()
		    writer.close()
		async def ask(k, tls):
		    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
		    total = 0
		    for i in range(times):
		        writer.write(f"line {k} {i}\n".encode())
		        total += len(await reader.readline())
		    writer.close()
		    return total
		async def main():
		    mine = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
		    mine.load_cert_chain(made + "/cert", made + "/key")
		    theirs = ssl.create_default_context(cafile=made + "/cert")
		    theirs.check_hostname = False
		    server = await asyncio.start_server(answer, "127.0.0.1", port, ssl=mine)
		    async with server:
		        print(await asyncio.gather(*(ask(k, theirs) for k in range(8))))
		try:
		    import uvloop
		    uvloop.install()
		except ImportError:
		    pass
		asyncio.run(main())
	END
	timed 'asyncio with TLS' python3 echo.py "$made" "$port" "$(scaled 300)"
	check "$(cat out)"
}
