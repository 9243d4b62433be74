"""What the shipped profiles of programs were learned from: each program at its work, driven from outside.

A workload is given a way to start its program (natively under strace, on a private kernel, under a profile), uses it
as a client would, ends it, and raises when anything is not as it should be.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

NOBODY = 65534


@dataclass
class Ways:
    """How a program is started. `prefix` comes before its own words; signals go to `rvisor run`, or natively to it."""

    prefix: Callable[[Path, int], list[str]]
    native: bool = False
    timeout: float = 60
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, command: list[str], directory: Path, *, user: int = 0) -> subprocess.Popen[bytes]:
        """Start it, its output into a file."""
        with (directory / "out").open("ab") as out:
            process = subprocess.Popen(
                [*self.prefix(directory, user), *command],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        self.started.append(process)
        return process

    def tell(self, process: subprocess.Popen[bytes], number: signal.Signals, pid_file: Path) -> None:
        """A signal to the program itself."""
        if self.native:
            os.kill(int(pid_file.read_text().split()[0]), number)
        else:
            process.send_signal(number)

    def ended(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        """It ends, and well."""
        status = process.wait(self.timeout)
        assert status == 0, (status, (directory / "out").read_text(errors="replace")[-2000:])


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def listening(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, f"it ended with status {process.returncode}"
        time.sleep(0.05)
    raise AssertionError("nobody listens")


def fetch(url: str, data: bytes | None = None) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, data=data, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def nginx(ways: Ways, directory: Path) -> None:
    """Static files, logs, two workers, a reload, an orderly end."""
    (directory / "www").mkdir()
    (directory / "www" / "index.html").write_text("hello\n")
    (directory / "www" / "large").write_bytes(b"y" * 1_000_000)
    port = free_port()
    (directory / "nginx.conf").write_text(
        f"""
        user root; worker_processes 2; daemon off; pid {directory}/pid; error_log {directory}/error.log;
        events {{ worker_connections 256; }}
        http {{
          access_log {directory}/access.log; sendfile on; gzip on; gzip_types text/html;
          client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
          fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
          server {{ listen 127.0.0.1:{port}; root {directory}/www;
                    location /pass/ {{ proxy_pass http://127.0.0.1:{port}/; }} }}
        }}
        """
    )
    process = ways.start(["nginx", "-p", str(directory), "-c", f"{directory}/nginx.conf"], directory)
    listening(port, process)
    url = f"http://127.0.0.1:{port}"

    def look() -> None:
        for _ in range(3):
            assert fetch(f"{url}/index.html") == (200, b"hello\n")
            assert fetch(f"{url}/large") == (200, b"y" * 1_000_000)
        assert fetch(f"{url}/pass/index.html") == (200, b"hello\n")
        assert fetch(f"{url}/absent")[0] == 404
        assert fetch(f"{url}/pass/index.html", b"x" * 100_000)[0] == 405

    look()
    ways.tell(process, signal.SIGHUP, directory / "pid")
    time.sleep(1)
    look()
    ways.tell(process, signal.SIGQUIT, directory / "pid")
    ways.ended(process, directory)
    assert "signal 31" not in (directory / "error.log").read_text()


def redis(ways: Ways, directory: Path) -> None:
    """Values, lists, scripts; a snapshot and a log of commands, which children write; an end, and a start from them."""
    port = free_port()

    def ask(*words: str) -> str:
        done = subprocess.run(
            ["redis-cli", "-p", str(port), *words], capture_output=True, text=True, timeout=20, check=False
        )
        return done.stdout.strip()

    for turn in range(2):
        words = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--appendonly", "yes"]
        process = ways.start(["redis-server", *words, "--io-threads", "2"], directory)
        listening(port, process)
        until = time.monotonic() + 20
        while ask("ping") != "PONG" and time.monotonic() < until:
            time.sleep(0.05)
        if turn == 0:
            assert ask("set", "a", "1") == "OK"
            assert ask("eval", "return redis.call('incr', 'a')", "0") == "2"
            assert ask("rpush", "l", *"abc") == "3"
            for command in ("bgsave", "bgrewriteaof"):
                assert "started" in ask(command)
                until = time.monotonic() + 20
                while "in_progress:1" in ask("info", "persistence") and time.monotonic() < until:
                    time.sleep(0.05)
            said = ask("info", "persistence")
            assert "rdb_last_bgsave_status:ok" in said and "aof_last_bgrewrite_status:ok" in said
        else:
            assert (ask("get", "a"), ask("llen", "l")) == ("2", "3")
        ask("shutdown", "save" if turn == 0 else "nosave")
        ways.ended(process, directory)


PYTHON = """
import asyncio, ctypes, hashlib, json, mmap, multiprocessing, os, pathlib, random, select, signal, socket, ssl
import sqlite3, subprocess, tempfile, threading, time, urllib.request, http.server
with tempfile.TemporaryDirectory() as d:
    p = pathlib.Path(d)
    (p / "a").write_text("x" * 100000); (p / "a").rename(p / "b"); os.chmod(p / "b", 0o600)
    assert len(list(p.iterdir())) == 1 and (p / "b").stat().st_size == 100000
    os.symlink("b", p / "c"); assert os.readlink(p / "c") == "b"
    db = sqlite3.connect(p / "db"); db.execute("create table t(a)"); db.execute("insert into t values(1)"); db.commit()
    assert db.execute("select count(*) from t").fetchone() == (1,); db.close()
    with open(p / "m", "w+b") as f:
        f.truncate(4096); m = mmap.mmap(f.fileno(), 4096); m[0] = 7; m.flush(); m.close(); os.fsync(f.fileno())
assert subprocess.run(["true"]).returncode == 0
assert subprocess.run("echo hi", shell=True, capture_output=True).stdout == b"hi\\n"
t = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(4)]
[x.start() for x in t]; [x.join() for x in t]
s = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler); os.chdir("/")
threading.Thread(target=s.serve_forever, daemon=True).start()
assert urllib.request.urlopen(f"http://127.0.0.1:{s.server_port}/").status == 200; s.shutdown(); s.server_close()
a, b = socket.socketpair(); a.send(b"x"); assert b.recv(1) == b"x"
async def main():
    q = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    assert (await q.communicate(b"x"))[0] == b"x"
    await asyncio.gather(*[asyncio.sleep(0.01) for _ in range(3)])
asyncio.run(main())
signal.signal(signal.SIGALRM, lambda *_: None); signal.alarm(1); signal.pause()
hashlib.sha256(os.urandom(10)); random.random(); os.getpid(); os.getppid(); os.uname(); os.umask(0o22); os.cpu_count()
pid = os.fork()
if pid == 0: os._exit(3)
assert os.waitpid(pid, 0)[1] >> 8 == 3
print("done")
"""


def python(ways: Ways, directory: Path) -> None:
    """The standard library at what programs do most: files, a database, processes, threads, sockets, asyncio."""
    (directory / "work.py").write_text(PYTHON)
    process = ways.start(["/usr/bin/python3", "-I", str(directory / "work.py")], directory)
    ways.ended(process, directory)
    assert "done" in (directory / "out").read_text()


BUSYBOX = """
set -e
b=/usr/bin/busybox
cd "$1"
$b mkdir -p d/e; $b seq 1 1000 >d/n; $b cp d/n d/m; $b mv d/m d/e/m; $b ln -s n d/l; $b ln d/n d/h
test "$($b wc -l <d/l)" = 1000
test "$($b grep -c 7 d/n)" = 271
test "$($b sed -n 5p d/n; $b awk '{ s += $1 } END { print s }' d/n)" = "5
500500"
$b sort -rn d/n | $b head -n 1 | $b tr 1 2 | $b cat
$b tar czf t.tgz d; $b mkdir x; $b tar xzf t.tgz -C x; $b cmp d/n x/d/n; $b md5sum d/n
$b gzip d/h -c | $b gunzip | $b tail -n 1
$b find d -type f | $b xargs $b ls -l >/dev/null
$b chmod 600 d/n; $b touch -d '2020-01-01 00:00:00' d/n; $b stat d/n >/dev/null; $b du -s d >/dev/null
for a in id 'uname -a' date hostname ps free 'df .'; do $b $a >/dev/null; done
$b sleep 0.1 & p=$!; $b kill -0 $p; wait $p
$b timeout 5 $b true; if $b timeout 1 $b sleep 3; then exit 1; fi
$b env | $b sort >/dev/null; $b mktemp -d . >/dev/null 2>&1 || :
$b dd if=/dev/zero of=z bs=1k count=10 2>/dev/null; $b truncate -s 5 z; $b od -c z >/dev/null; $b rm -rf d x t.tgz z
(exit 3) || test $? = 3
trap 'echo trapped' USR1; $b kill -USR1 $$
$b echo done
"""


def busybox(ways: Ways, directory: Path) -> None:
    """Its shell, and some fifty of its applets."""
    (directory / "work.sh").write_text(BUSYBOX)
    process = ways.start(["/usr/bin/busybox", "sh", str(directory / "work.sh"), str(directory)], directory)
    ways.ended(process, directory)
    assert "trapped\ndone\n" in (directory / "out").read_text()


def postgres(ways: Ways, directory: Path) -> None:
    """A cluster that was made before: queries, several clients, an index, vacuum, a fast end."""
    port = free_port()
    env = {**os.environ, "LC_ALL": "C", "HOME": str(directory)}

    def outside(*words: str) -> str:
        done = subprocess.run(
            ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *words],
            capture_output=True,
            text=True,
            env=env,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    os.chmod(directory, 0o755)
    os.chown(directory, NOBODY, NOBODY)
    outside("initdb", "-D", f"{directory}/data", "-U", "me", "-A", "trust", "--no-locale", "--no-sync")
    words = ["-D", f"{directory}/data", "-p", str(port), "-k", str(directory), "-c", "listen_addresses=127.0.0.1"]
    process = ways.start(["postgres", *words], directory, user=NOBODY)
    listening(port, process)

    def query(text: str) -> str:
        return outside("psql", "-h", "127.0.0.1", "-p", str(port), "-U", "me", "-d", "postgres", "-Atc", text)

    query(
        "create table t(a int primary key, b text);"
        "insert into t select i, repeat('x', 100) from generate_series(1, 20000) i"
    )
    assert query("select count(*), sum(a) from t") == "20000|200010000"
    query("create index on t(b); update t set b = 'y' where a % 2 = 0; checkpoint")
    query("vacuum analyze t")
    assert query("select count(*) from t a join t b using (a) where b.b = 'y'") == "10000"
    outside("pgbench", "-i", "-q", "-s", "1", "-h", "127.0.0.1", "-p", str(port), "-U", "me", "postgres")
    outside("pgbench", "-c", "4", "-t", "20", "-h", "127.0.0.1", "-p", str(port), "-U", "me", "postgres")
    ways.tell(process, signal.SIGINT, directory / "data" / "postmaster.pid")
    ways.ended(process, directory)


WORKLOADS: dict[str, Callable[[Ways, Path], None]] = {
    "nginx": nginx,
    "redis": redis,
    "python": python,
    "postgres": postgres,
    "busybox": busybox,
}
NEEDS = {
    "nginx": ["nginx"],
    "redis": ["redis-server", "redis-cli"],
    "python": ["/usr/bin/python3"],
    "postgres": ["postgres", "initdb", "psql", "pgbench", "setpriv"],
    "busybox": ["/usr/bin/busybox"],
}


def missing(name: str) -> list[str]:
    """Programs the workload needs that are not there."""
    return [program for program in NEEDS[name] if shutil.which(program) is None]
