"""What can be measured side by side: calls, start, memory, applications, the first rVisor's benchmark, surface."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rvisor.bench import apps, host, micro
from rvisor.bench.native import compile_c, last_line
from rvisor.bench.peers import Job
from rvisor.bench.side import Trial
from rvisor.errors import RvisorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rvisor.bench.host import Place
    from rvisor.bench.peers import Peer

    Figures = dict[str, tuple[float, str]]

KINDS = ("micro", "start", "memory", "apps", "seed", "surface")
SECONDS = 600.0

SEED = Path(__file__).with_name("seed.c")
SEED_RATIOS = {"rvisor": (1.42, 1.76), "runc": (1.30, 1.48), "gvisor-ptrace": (4.53, 3.35)}
"""The ratios to its host that the first rVisor published: writing, directories. CPU times by clock()."""

SETTLED_SECONDS = 1.0
CROWD = 20


class Micro(Trial):
    """Each system call in a loop and after a pause: in the sandbox's own root, and in a directory of the host."""

    key = "micro"
    title = "System calls"

    def __init__(self, place: Place, *, only: Sequence[str], pause_us: int, static: bool) -> None:
        self._program = compile_c(micro.SOURCE, place.work, static=static)
        self._pause = str(pause_us)
        self._numbers = itertools.count(1)
        self._root = [name for name in micro.TARGETS if not only or name in only]
        self._host = [name for name in micro.ON_FILES if not only or name in only or name + micro.ON_HOST in only]

    def run(self, peer: Peer) -> Figures:
        if not peer.sandbox:
            both = [name for name in micro.TARGETS if name in self._root or name in self._host]
            found = self._in(peer, peer.place.work, both)
            rows = {name: found[name] for name in self._root}
            return self._named(rows) | self._named({name + micro.ON_HOST: found[name] for name in self._host})
        made: Figures = {}
        if self._root:
            # The layer is the same for all turns, and the host's /tmp shows through.
            own = f"/tmp/{os.path.basename(peer.place.path)}-{next(self._numbers)}"
            made |= self._named(self._in(peer, own, self._root))
        if self._host:
            found = self._in(peer, peer.place.work, self._host)
            made |= self._named({name + micro.ON_HOST: times for name, times in found.items()})
        return made

    def _in(self, peer: Peer, directory: str, rows: list[str]) -> dict[str, dict[str, float]]:
        args = ["/bin/sh", "-c", 'mkdir -p "$0" && exec "$@"', directory, self._program, directory, self._pause, *rows]
        ran = peer.run(Job(args, volumes=[peer.place.work]), timeout=SECONDS)
        found: dict[str, dict[str, float]] = {}
        for line in ran.stdout.splitlines():
            answer = json.loads(line)
            found.setdefault(answer["name"], {})[answer["mode"]] = float(answer["ns"])
        return found

    @staticmethod
    def _named(rows: dict[str, dict[str, float]]) -> Figures:
        hot: Figures = {name: (times["hot"], "ns") for name, times in rows.items()}
        # A clock that a kernel sets right meanwhile can make one call shorter than nothing.
        return hot | {f"{name}, cold": (times["cold"], "ns") for name, times in rows.items() if times["cold"] > 0}


class Start(Trial):
    """From the command's start to its end, and the CPU time of everything that took."""

    def __init__(self, name: str, args: Sequence[str]) -> None:
        self.key = f"start {name}"
        self.title = f"Start of {name}"
        self._args = args

    def run(self, peer: Peer) -> Figures:
        ran = peer.run(Job(self._args), timeout=SECONDS)
        return {"wall": (ran.wall * 1e3, "ms"), "CPU": (ran.cpu * 1e3, "ms")}


class Crowd(Trial):
    """Many at once."""

    key = "crowd"
    title = f"{CROWD} at once"

    def run(self, peer: Peer) -> Figures:
        job = Job(["/bin/true"])
        commands = [peer.argv(job) for _ in range(CROWD)]
        group = peer.place.group
        before = group.cpu_seconds()
        begun = time.perf_counter()
        running = [peer.place.start(argv, env=peer.env(job)) for argv in commands]
        try:
            statuses = [process.wait(timeout=SECONDS) for process in running]
        except subprocess.TimeoutExpired:
            raise RvisorError(f"{peer.name}: {CROWD} at once do not end") from None
        finally:
            for process in running:
                process.kill()
                process.wait()
        wall = time.perf_counter() - begun
        group.clear()
        if any(statuses):
            raise RvisorError(f"{peer.name}: {sum(map(bool, statuses))} of {CROWD} at once failed")
        return {"wall": (wall * 1e3, "ms"), "CPU": ((group.cpu_seconds() - before) * 1e3, "ms")}


class Memory(Trial):
    """An idle shell: the proportional shares of all its sandbox's processes, without what the host's kernel holds."""

    key = "memory"
    title = "Memory of an idle shell"

    def run(self, peer: Peer) -> Figures:
        job = Job(["/bin/sh", "-c", "echo ready; read line"])
        pipe = subprocess.PIPE
        with peer.place.start(peer.argv(job), env=peer.env(job), stdin=pipe, stdout=pipe, stderr=pipe) as shell:
            assert shell.stdout is not None
            ready = shell.stdout.readline()
            time.sleep(SETTLED_SECONDS)
            shares = {pid: host.private_mib(pid) for pid in peer.place.group.processes()}
            _, said = shell.communicate(b"\n", timeout=60)
        peer.place.group.clear()
        if ready != b"ready\n":
            raise RvisorError(f"{peer.name}: the idle shell does not start: {last_line(said)}")
        operator = shares.get(shell.pid, 0.0) if peer.sandbox else 0.0
        return {
            "all processes": (sum(shares.values()), "MiB"),
            "without the command that waits for it": (sum(shares.values()) - operator, "MiB"),
            "processes": (float(len(shares)), ""),
        }


class App(Trial):
    """One application's script, on files of the host that all peers share."""

    def __init__(self, place: Place, app: apps.App, *, scale: int) -> None:
        self.key = f"apps {app.name}"
        self.title = app.title
        self._app = app
        self._root = os.path.join(place.work, app.name)
        self._env = {"WORK": self._root, "SCALE": str(scale), "PATH": apps.search_path()}
        self._checks: list[str] | None = None
        self._prepared = False

    def run(self, peer: Peer) -> Figures:
        if not self._prepared:
            os.makedirs(self._root, exist_ok=True)
            self._script(peer, "prepare", natively=True)
            self._prepared = True
        shutil.rmtree(os.path.join(self._root, "here"), ignore_errors=True)
        ran = self._script(peer, "run", natively=False)
        output = apps.Output(ran.stdout.decode(errors="replace"))
        if self._checks is None:
            self._checks = output.checks
        elif output.checks != self._checks:
            raise RvisorError(f"{peer.name}: does {output.checks!r} instead of {self._checks!r}")
        return {**output.figures, "all of it: CPU": (ran.cpu, "s")}

    def _script(self, peer: Peer, what: str, *, natively: bool) -> host.Ran:
        from rvisor.bench.peers.plain import Native

        args = ["bash", str(apps.SCRIPTS / "prelude.sh"), self._app.name, what]
        job = Job(args, volumes=[self._root], read_only=[str(apps.SCRIPTS)], env=self._env, cwd="/")
        return (Native(peer.place) if natively else peer).run(job, timeout=SECONDS)


class Seed(Trial):
    """Half of the first rVisor's benchmark; `count` is how often, `where` is `root` or a directory of the host."""

    def __init__(self, program: str, what: str, count: int, *, shared: bool) -> None:
        name = {"write": "Writing disk", "mkdir": "Mkdir/Rmdir"}[what]
        place = "directory of the host" if shared else "own root"
        self.key = f"seed {what}{' host' if shared else ''}"
        self.title = f"{name}, {place}, {count:,} times"
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


class Surface(Trial):
    """What a sandbox's processes may ask of the host: the one that may least, usually the program's, and the most."""

    key = "surface"
    title = "Host calls within reach of a sandbox's processes"

    def run(self, peer: Peer) -> Figures:
        from rvisor.bench import surface

        if peer.name == "rvisor":
            told = subprocess.run(
                [sys.executable, "-m", "rvisor", "doctor", "--surface", "--json"], capture_output=True, check=False
            )
            if told.returncode != 0:
                raise RvisorError(f"rvisor doctor --surface: {last_line(told.stderr)}")
            parts = json.loads(told.stdout)
            made: Figures = {}
            for part, name in (("stub", "least"), ("sentry", "most")):
                calls = {rule["nr"] for rule in parts[part]["calls"]}
                made[f"{name}, calls"] = (float(len(calls)), "")
                made[f"{name}, filter's instructions"] = (float(parts[part]["instructions"]), "")
            return made
        return surface.of(peer)


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


def of(
    kinds: Sequence[str],
    place: Place,
    *,
    only: Sequence[str],
    scale: int,
    pause_us: int,
    static: bool,
    counts: dict[str, int],
) -> tuple[list[Trial], list[str]]:
    """The trials of these kinds, and a line for each that cannot be done. `counts` are the seed's, filled in."""
    made: list[Trial] = []
    troubles: list[str] = []
    if "micro" in kinds:
        rows = [name for name in only if name.removesuffix(micro.ON_HOST) in micro.TARGETS]
        made.append(Micro(place, only=rows, pause_us=pause_us, static=static))
    if "start" in kinds:
        made += [Start("true", ["/bin/true"]), Start("sh", ["/bin/sh", "-c", "echo"])]
        made += [Start("python", ["/usr/bin/python3", "-c", "pass"]), Crowd()]
    if "memory" in kinds:
        made.append(Memory())
    if "apps" in kinds:
        for app in apps.apps(only if list(kinds) == ["apps"] else ()):
            if absent := app.absent():
                troubles.append(f"{app.title}: not measured, absent here: {', '.join(absent)}")
            else:
                made.append(App(place, app, scale=scale))
    if "seed" in kinds:
        program = compile_c(SEED, place.work)
        for shared in (False, True):
            for what in ("write", "mkdir"):
                if what not in counts:
                    counts[what] = calibrated(place, program, what, seconds=2.0 * scale / 100)
                made.append(Seed(program, what, counts[what], shared=shared))
        if "start" not in kinds:
            made.append(Crowd())
    if "surface" in kinds:
        made.append(Surface())
    return made, troubles
