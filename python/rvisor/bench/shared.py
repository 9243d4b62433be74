"""The shared kernel beside runc, under one Docker daemon, by turns: system calls, files, nginx, pwgen, `docker run`.

Four ways: runc without a filter, with one that allows everything, with Docker's default, and `rvisor-shared` with
Docker's default, as our compiler has it, and the monitor's rows.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import statistics
import subprocess
import time
from pathlib import Path

from rvisor.bench.docker import IMAGE, PROGRAM, Daemon, installed
from rvisor.bench.host import Place
from rvisor.bench.native import compile_c
from rvisor.errors import RvisorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

SOURCE = Path(__file__).with_name("calls.c")
PLAIN = "runc, no filter"
WAYS = (PLAIN, "runc, empty filter", "runc, Docker's default", "rvisor-shared")
WORK = ("calls", "files", "nginx", "pwgen", "start")
REQUESTS, CONNECTIONS, PORT = 100_000, 100, 18_080
PASSWORDS = 100_000
STARTS = 5
RULES = (0, 10, 500)
"""So many files have a rule; the one that is opened has none."""
_HOST = ("/usr", "/bin", "/lib", "/lib64", "/etc")
_SECONDS = 300
_CONFIG = """user root; worker_processes 1; daemon off; pid {0}/pid; error_log stderr;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; server {{ listen 127.0.0.1:{1}; root {0}; keepalive_requests 1000000; }}
  client_body_temp_path {0}/a; proxy_temp_path {0}/b; fastcgi_temp_path {0}/c;
  uwsgi_temp_path {0}/d; scgi_temp_path {0}/e;
}}
"""


class Figure:
    """One figure: every turn's value for each way. `more`: more is better."""

    def __init__(self, name: str, unit: str, *, more: bool = False) -> None:
        self.name = name
        self.unit = unit
        self.more = more
        self.values: dict[str, list[float]] = {}

    def median(self, way: str) -> float:
        return statistics.median(self.values[way])

    def ratio(self, way: str) -> float:
        """The median of each turn's speed against runc without a filter: above 1 is faster."""
        pairs = zip(self.values[way], self.values[PLAIN], strict=True)
        return statistics.median(own / plain if self.more else plain / own for own, plain in pairs)

    def as_dict(self) -> dict[str, object]:
        ratios = {way: self.ratio(way) for way in self.values}
        return {"figure": self.name, "unit": self.unit, "values": self.values, "ratio": ratios}


def measure(*, runs: int, only: Sequence[str], say: Callable[[str], None]) -> list[Figure]:
    """Every way once a turn, the order turned round from turn to turn."""
    figures: dict[str, Figure] = {}
    with Place() as place:
        bench = _Bench(place)
        for turn in range(runs):
            for work in [name for name in WORK if not only or name in only]:
                for way in WAYS if turn % 2 == 0 else WAYS[::-1]:
                    say(f"turn {turn + 1} of {runs}: {work}: {way}")
                    for name, unit, value in getattr(bench, work)(way):
                        figure = figures.setdefault(name, Figure(name, unit, more=unit == "/s"))
                        figure.values.setdefault(way, []).append(value)
    return list(figures.values())


class _Bench:
    def __init__(self, place: Place) -> None:
        self._work = place.work
        self._daemon = Daemon(place, {self._ruled(count): self._with_rules(place, count) for count in RULES[1:]})
        self._calls = compile_c(SOURCE, place.work, static=True)
        empty = os.path.join(place.work, "empty.json")
        Path(empty).write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW"}), encoding="utf-8")
        Path(place.work, "index.html").write_text("x" * 612, encoding="utf-8")
        Path(place.work, "nginx.conf").write_text(_CONFIG.format(place.work, PORT), encoding="utf-8")
        self._ways = {
            PLAIN: ["--runtime", "runc", "--security-opt", "seccomp=unconfined"],
            WAYS[1]: ["--runtime", "runc", "--security-opt", f"seccomp={empty}"],
            WAYS[2]: ["--runtime", "runc"],
            WAYS[3]: ["--runtime", "rvisor-shared"],
        }

    def _ruled(self, count: int) -> str:
        """The runtime whose profile has rules for so many files."""
        return f"{WAYS[3]}-{count}" if count else WAYS[3]

    def _with_rules(self, place: Place, count: int) -> dict[str, Any]:
        ruled = Path(self._work, "ruled")
        ruled.mkdir(exist_ok=True)
        text = f'name = "rules-{count}"\n'
        for number in range(count):
            (ruled / f"{number}").touch()
            text += f'[[files.rule]]\npaths = ["{ruled}/{number}"]\nallow = "r"\n'
        profile = Path(self._work, f"rules-{count}.toml")
        profile.write_text(text, encoding="utf-8")
        return installed(place, str(profile))["rvisor-shared"]

    def _command(self, way: str, *args: str) -> list[str]:
        shared = [word for path in _HOST if os.path.exists(path) for word in ("-v", f"{path}:{path}:ro")]
        shared += ["-v", f"{self._work}:{self._work}"]
        return self._daemon.command("run", *self._ways[way], *shared, *args)

    def _said(self, command: Sequence[str]) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
        if done.returncode != 0:
            raise RvisorError(f"{command[-1]}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def calls(self, way: str) -> Iterator[tuple[str, str, float]]:
        said = self._said(self._command(way, "--rm", "--network", "none", IMAGE, self._calls))
        for name, value in re.findall(r"(\w+) ([0-9.]+)", said):
            yield f"a call: {name}", "ns", float(value)

    def files(self, way: str) -> Iterator[tuple[str, str, float]]:
        for count in RULES:
            ours = ["--runtime", self._ruled(count)] if way == WAYS[3] else self._ways[way]
            said = self._said(
                self._daemon.command(
                    *("run", "--rm", "--network", "none", *ours, "-v", f"{self._work}:{self._work}", IMAGE),
                    *(self._calls, "300", f"{self._work}/index.html"),
                )
            )
            yield f"open and close, {count} file rules", "ns", float(said.split()[1])

    def pwgen(self, way: str) -> Iterator[tuple[str, str, float]]:
        script = f"a=$(date +%s%N); pwgen -s 20 {PASSWORDS} >/dev/null; b=$(date +%s%N); echo $((b - a))"
        said = self._said(self._command(way, "--rm", "--network", "none", IMAGE, "/bin/sh", "-c", script))
        yield "pwgen", "ms", int(said) / 1e6

    def nginx(self, way: str) -> Iterator[tuple[str, str, float]]:
        """The server in a container that has the host's network, the client outside."""
        command = self._command(
            way, "-d", "--network", "host", IMAGE, "/usr/sbin/nginx", "-c", f"{self._work}/nginx.conf"
        )
        name = self._said(command).strip()
        try:
            url = f"http://127.0.0.1:{PORT}/index.html"
            _listening(PORT)
            said = self._said(["ab", "-q", "-k", "-c", str(CONNECTIONS), "-n", str(REQUESTS), url])
        finally:
            self._said(self._daemon.command("rm", "-f", name))
        rate, failed = re.search(r"Requests per second:\s+([0-9.]+)", said), re.search(r"Failed requests:\s+0\b", said)
        if rate is None or failed is None:
            raise RvisorError(f"ab: {said[-300:]}")
        yield "nginx", "/s", float(rate[1])

    def start(self, way: str) -> Iterator[tuple[str, str, float]]:
        command = self._daemon.command("run", "--rm", "--network", "none", *self._ways[way], IMAGE, PROGRAM)
        taken = []
        for _ in range(STARTS):
            begun = time.perf_counter()
            self._said(command)
            taken.append(time.perf_counter() - begun)
        yield "docker run", "ms", statistics.median(taken) * 1e3


def _listening(port: int) -> None:
    import socket

    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RvisorError(f"nginx does not listen on {port}")


def table(figures: list[Figure]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: medians, and beside them the speed against runc without a filter."""
    rows = []
    for figure in figures:
        digits = 0 if figure.unit == "/s" else 1
        cells = [f"{figure.median(way):,.{digits}f} ({figure.ratio(way):.2f})" for way in WAYS]
        rows.append([f"{figure.name}, {figure.unit}", *cells])
    return ["", *WAYS], rows
