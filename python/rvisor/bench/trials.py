"""What can be measured side by side: calls, start, memory, applications, the first rVisor's benchmark, surface."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys

from rvisor.bench import apps, host, load, micro, seed, start, starting
from rvisor.bench.native import compile_c, last_line
from rvisor.bench.peers import Job
from rvisor.bench.peers.plain import Native
from rvisor.bench.side import Trial
from rvisor.errors import RvisorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rvisor.bench.host import Place
    from rvisor.bench.peers import Peer

    Figures = dict[str, tuple[float, str]]

KINDS = ("micro", "seed", "start", "memory", "apps", "surface")
SECONDS = 180.0


class Micro(Trial):
    """Each system call in a loop and after a pause: in the sandbox's own root, and in a directory of the host."""

    key = "micro"
    title = "System calls"
    note = (
        "Each call in a loop, in the sandbox's own root; host: in a directory of the host; cold: once after a pause of "
        "computation."
    )
    warm_up = "none"

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


class App(Trial):
    """One application's script, on files of the host that all peers share."""

    def __init__(self, place: Place, app: apps.App, *, scale: int) -> None:
        self.key = f"apps {app.name}"
        self.title = app.title
        self.note = app.size(scale)
        self.warm_up = "native"
        self._app = app
        self._root = os.path.join(place.work, app.name)
        self._env = {"WORK": self._root, "SCALE": str(scale), "PATH": apps.search_path()}
        self._place = place
        self._checks: list[str] | None = None

    def prepare(self) -> None:
        os.makedirs(self._root, exist_ok=True)
        self._script(Native(self._place), "prepare")

    def run(self, peer: Peer) -> Figures:
        shutil.rmtree(os.path.join(self._root, "here"), ignore_errors=True)
        ran = self._script(peer, "run")
        output = apps.Output(ran.stdout.decode(errors="replace"))
        if self._checks is None:
            self._checks = output.checks
        elif output.checks != self._checks:
            raise RvisorError(f"{peer.name}: does {output.checks!r} instead of {self._checks!r}")
        return {**output.figures, "all of it: CPU": (ran.cpu, "s")}

    def _script(self, peer: Peer, what: str) -> host.Ran:
        args = ["bash", str(apps.SCRIPTS / "prelude.sh"), self._app.name, what]
        job = Job(args, volumes=[self._root], read_only=[str(apps.SCRIPTS)], env=self._env, cwd="/")
        return peer.run(job, timeout=SECONDS)


class Compute(Trial):
    """Arithmetic on every CPU: what a sandbox takes from a program that asks for nothing."""

    key = "compute"
    title = "Arithmetic on every CPU"
    note = "A fixed piece of arithmetic by a thread for each CPU, no system call in it."

    def __init__(self, place: Place) -> None:
        self._program = compile_c(start.SOURCE, place.work)

    def run(self, peer: Peer) -> Figures:
        job = Job([self._program, str(os.cpu_count() or 1)], volumes=[peer.place.work])
        return {"time": (float(peer.run(job, timeout=SECONDS).stdout), "s")}


class Surface(Trial):
    """What a sandbox's processes may ask of the host: the one that may least, usually the program's, and the most."""

    key = "surface"
    title = "Host calls within reach of a sandbox's processes"
    note = "Read off the filters that the host's kernel holds; without a filter it is all calls there are."
    turns = 1
    warm_up = "none"

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


class Settings:
    """How much is done. `scale` in per cent, `pause_us` before a cold call; `only` these rows or applications.

    `gentle`: nothing that the rest of the machine notices.
    """

    def __init__(self, *, only: Sequence[str], scale: int, pause_us: int, static: bool, gentle: bool) -> None:
        self.only = only
        self.scale = scale
        self.pause_us = pause_us
        self.static = static
        self.gentle = gentle

    @property
    def load_seconds(self) -> float:
        """Of each figure of the load."""
        return max(0.02, min(0.3, 0.3 * self.scale / 25))

    @property
    def times(self) -> int:
        """Starts in one turn."""
        return max(1, min(10, 5 * self.scale // 25))


def of(
    kinds: Sequence[str], place: Place, settings: Settings, *, counts: dict[str, int]
) -> tuple[list[Trial], list[str]]:
    """The trials of these kinds, and a line for each that cannot be done. `counts` are the seed's, filled in."""
    made: list[Trial] = []
    troubles: list[str] = []
    only, scale, times = settings.only, settings.scale, settings.times
    if "micro" in kinds:
        rows = [name for name in only if name.removesuffix(micro.ON_HOST) in micro.TARGETS]
        made.append(Micro(place, only=rows, pause_us=settings.pause_us, static=settings.static))
        if not rows:
            made.append(load.Threads(place, seconds=settings.load_seconds))
            made += [load.Boxes(place, count=count, seconds=settings.load_seconds) for count in load.BOXES]
    if "seed" in kinds:
        made += seed.halves(place, counts, scale=scale)
        made += [seed.Nginx(place, scale=scale), seed.Pwgen(scale=scale)]
    if "start" in kinds or "seed" in kinds:
        made += [starting.Start("true", ["/bin/true"], times=times), starting.Crowd()]
    if "start" in kinds:
        made += [starting.Start("sh", ["/bin/sh", "-c", "echo"], times=times)]
        made += [starting.Start("python", ["/usr/bin/python3", "-c", "pass"], times=times)]
        made.append(starting.FromPython(times=times))
        if not settings.gentle:
            made += [starting.UnderDocker(place, times=times), starting.Cold()]
    if "memory" in kinds:
        made.append(starting.Memory())
    if "apps" in kinds:
        for app in apps.apps(only if list(kinds) == ["apps"] else ()):
            if absent := app.absent():
                troubles.append(f"{app.title}: not measured, absent here: {', '.join(absent)}")
            else:
                made.append(App(place, app, scale=scale))
        if not only:
            made.append(Compute(place))
    if "surface" in kinds:
        made.append(Surface())
    return made, troubles
