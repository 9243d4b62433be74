"""The measurements that the first rVisor and vKernel were judged by, with what was published of them."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

from rvisor.bench.native import compile_c, last_line
from rvisor.bench.peers import Job, executable
from rvisor.bench.side import Trial
from rvisor.errors import RvisorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor.bench.host import Place
    from rvisor.bench.peers import Peer

    Figures = dict[str, tuple[float, str]]

SECONDS = 180.0
SOURCE = Path(__file__).with_name("seed.c")

PUBLISHED: dict[str, tuple[str, dict[str, float]]] = {
    "write": ("to its host, clock()", {"rvisor": 1.42, "runc": 1.30, "gvisor-ptrace": 4.53}),
    "mkdir": ("to its host, clock()", {"rvisor": 1.76, "runc": 1.48, "gvisor-ptrace": 3.35}),
    "nginx": ("to runc, the first rVisor's report", {"runc": 1.0, "gvisor-ptrace": 46.7}),
    "pwgen": ("to runc, vKernel's report of 2022", {"runc": 1.0, "gvisor-ptrace": 25.8, "gvisor-kvm": 20.0}),
    "start": ("to runc under Docker, vKernel's report of 2024", {"runc": 1.0, "gvisor-systrap": 1.52}),
}
"""What they published: cost as a multiple of what is named, by the last word of a trial's key."""

REQUESTS, CLIENTS, PORT = 50_000, 100, 8080
LENGTH, COUNT = 1024, 100


def published(key: str) -> tuple[str, dict[str, float]] | None:
    """What was published of a trial."""
    if key == "start true":
        return PUBLISHED["start"]
    words = key.split()
    return PUBLISHED.get(words[1]) if words[0] == "seed" and len(words) > 1 else None


class Half(Trial):
    """Half of the first rVisor's benchmark; `count` is how often; `shared`: in a directory of the host."""

    def __init__(self, program: str, what: str, count: int, *, shared: bool) -> None:
        name = {"write": "Writing disk", "mkdir": "Mkdir/Rmdir"}[what]
        place = "directory of the host" if shared else "own root"
        self.key = f"seed {what}{' host' if shared else ''}"
        self.title = f"{name}, {place}"
        doing = {"write": "blocks of 4 KiB written, no fsync", "mkdir": "times mkdir and rmdir of one name"}[what]
        self.note = f"{count:,} {doing}; the count was set so that it takes the time it does natively."
        self.warm_up = "native"
        self._program = program
        self._what = what
        self._count = count
        self._shared = shared

    def run(self, peer: Peer) -> Figures:
        place = peer.place.work if self._shared or not peer.sandbox else "/tmp"
        args = [self._program, place, self._what, str(self._count)]
        ran = peer.run(Job(args, volumes=[peer.place.work]), timeout=SECONDS)
        clock, wall = (float(word) for word in ran.stdout.split())
        return {
            "clock()": (clock, "µs"),
            "wall": (wall, "µs"),
            "CPU of all processes, start too": (ran.cpu * 1e6, "µs"),
        }


def calibrated(place: Place, program: str, what: str, *, seconds: float) -> int:
    """How often `what` is done in some `seconds` of CPU time natively, in two figures."""
    count = 500
    while True:
        done = subprocess.run(
            [program, place.work, what, str(count)], capture_output=True, stdin=subprocess.DEVNULL, check=False
        )
        if done.returncode != 0:
            raise RvisorError(f"the seed's benchmark fails natively: {last_line(done.stderr)}")
        used = float(done.stdout.split()[0]) / 1e6
        if used >= seconds / 8:
            break
        count *= 2
    wanted = int(count * seconds / used)
    digits = max(0, len(str(wanted)) - 2)
    return max(1, round(wanted, -digits))


def halves(place: Place, counts: dict[str, int], *, scale: int) -> list[Trial]:
    """The first rVisor's benchmark. `counts` are filled in where they are not told."""
    program = compile_c(SOURCE, place.work)
    made: list[Trial] = []
    for what in ("write", "mkdir"):
        if what not in counts:
            counts[what] = calibrated(place, program, what, seconds=2.0 * scale / 100)
        made += [Half(program, what, counts[what], shared=shared) for shared in (False, True)]
    return made


class Nginx(Trial):
    """nginx in the sandbox, ab on the host, a connection for each request, over a pair of interfaces."""

    key = "seed nginx"
    title = "nginx, ab from outside"
    warm_up = "native"

    def __init__(self, place: Place, *, scale: int) -> None:
        self._requests = max(100, REQUESTS * scale // 100)
        self._seconds = max(1, 10 * scale // 100)
        self._root = os.path.join(place.work, "seed-nginx")
        self.note = (
            f"ab -n {self._requests} -c {CLIENTS}, at most {self._seconds} s; 612 bytes, 2 workers; nginx in the "
            "sandbox, ab on the host. CPU: of nginx and its sandbox for each request."
        )

    def run(self, peer: Peer) -> Figures:
        nginx, ab = executable("nginx"), executable("ab")
        if nginx is None or ab is None:
            raise RvisorError("there is no nginx or no ab here", hint="apt-get install nginx-light apache2-utils")
        with peer.place.network() as network:
            command = self._server(nginx)
            job = Job(["/bin/sh", "-c", command], volumes=[self._root], network=network.path)
            group = peer.place.group
            server = peer.place.start(
                peer.argv(job), env=peer.env(job), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            try:
                _listening(network.address, PORT, server, peer.name)
                before = group.cpu_seconds()
                done = subprocess.run(
                    [ab, "-q", "-r", "-t", str(self._seconds), "-n", str(self._requests), "-c", str(CLIENTS),
                     f"http://{network.address}:{PORT}/index.html"],
                    capture_output=True,
                    stdin=subprocess.DEVNULL,
                    timeout=SECONDS,
                    check=False,
                )  # fmt: skip
                used = group.cpu_seconds() - before
            finally:
                assert server.stdin is not None
                server.stdin.close()
                try:
                    server.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    server.kill()
                    server.wait()
                group.clear()
        told = done.stdout.decode(errors="replace")
        rate = re.search(r"Requests per second: +([\d.]+)", told)
        complete = re.search(r"Complete requests: +(\d+)", told)
        failed = re.search(r"Failed requests: +(\d+)", told)
        if not rate or not complete or not failed or int(failed[1]) or not int(complete[1]):
            said = failed[0] if failed and int(failed[1]) else last_line(done.stderr or done.stdout)
            raise RvisorError(f"{peer.name}: ab: {said}")
        return {
            "requests": (float(rate[1]), "/s"),
            "CPU for each": (used / int(complete[1]) * 1e6, "µs"),
        }

    def _server(self, nginx: str) -> str:
        shutil.rmtree(self._root, ignore_errors=True)
        os.makedirs(os.path.join(self._root, "www"))
        root = self._root
        Path(root, "www", "index.html").write_bytes(b"x" * 612)
        bodies = "".join(
            f"{kind}_temp_path {root}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        Path(root, "nginx.conf").write_text(
            f"user root;\nworker_processes 2;\ndaemon off;\npid {root}/pid;\nerror_log {root}/error.log;\n"
            "events { worker_connections 1024; }\n"
            f"http {{\naccess_log off;\nsendfile on;\n{bodies}"
            f"server {{ listen {PORT}; root {root}/www; }}\n}}\n",
            encoding="utf-8",
        )
        # Ends when the line it waits for does not come.
        return f"{nginx} -p {root} -c {root}/nginx.conf & read line; kill $!; wait"


def _listening(address: str, port: int, server: subprocess.Popen[bytes], name: str) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RvisorError(f"{name}: nginx ended with status {server.returncode}")
        try:
            socket.create_connection((address, port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RvisorError(f"{name}: nginx does not listen")


class Pwgen(Trial):
    """pwgen: three calls for each random number."""

    key = "seed pwgen"
    title = "pwgen"
    warm_up = "native"

    def __init__(self, *, scale: int) -> None:
        self._count = max(1, COUNT * scale // 100)
        self.note = f"pwgen {LENGTH} {self._count}: {self._count} passwords of {LENGTH} characters, the start too."

    def run(self, peer: Peer) -> Figures:
        pwgen = executable("pwgen")
        if pwgen is None:
            raise RvisorError("there is no pwgen here", hint="apt-get install pwgen")
        ran = peer.run(Job([pwgen, str(LENGTH), str(self._count)]), timeout=SECONDS)
        if len(ran.stdout.split()) != self._count:
            raise RvisorError(f"{peer.name}: pwgen made {len(ran.stdout.split())} passwords instead of {self._count}")
        return {"wall": (ran.wall * 1e3, "ms"), "CPU": (ran.cpu * 1e3, "ms")}
