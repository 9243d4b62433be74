"""What a sandbox costs before its program runs, and while it waits: start-up and memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rvisor.bench import host
from rvisor.bench.docker import PROGRAM, Daemon
from rvisor.bench.peers import Job
from rvisor.bench.side import Trial
from rvisor.bench.waiting import IDLE, Waiting
from rvisor.errors import RvisorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rvisor.bench.host import Place
    from rvisor.bench.peers import Peer

    Figures = dict[str, tuple[float, str]]

SECONDS = 180.0
CROWD = 20
SETTLED_SECONDS = 1.0


class Start(Trial):
    """From the command's start to its end, and the CPU time of everything that took; `times`, one after the other."""

    def __init__(self, name: str, args: Sequence[str], *, times: int) -> None:
        self.key = f"start {name}"
        self.title = f"Start of {name}"
        self.note = f"From the command's start to its end; the median of {times} in each turn."
        self._args = args
        self._times = times

    def run(self, peer: Peer) -> Figures:
        ran = [peer.run(Job(self._args), timeout=SECONDS) for _ in range(self._times)]
        return {
            "wall": (statistics.median(one.wall for one in ran) * 1e3, "ms"),
            "CPU": (statistics.median(one.cpu for one in ran) * 1e3, "ms"),
        }


class Cold(Trial):
    """The first start after the host has forgotten all files."""

    key = "start cold"
    title = "Start of true, nothing in the host's cache"
    note = "After /proc/sys/vm/drop_caches: programs, libraries and directories are read from the disk."
    warm_up = "none"
    at_the_end = True

    def run(self, peer: Peer) -> Figures:
        job = Job(["/bin/true"])
        argv = peer.argv(job)
        os.sync()
        try:
            Path("/proc/sys/vm/drop_caches").write_text("3")
        except OSError as error:
            raise RvisorError(f"the host's cache cannot be emptied: {error.strerror}") from None
        ran = peer.place.run(argv, env=peer.env(job), timeout=SECONDS)
        if ran.status != 0:
            raise RvisorError(f"{peer.name}: status {ran.status}")
        return {"wall": (ran.wall * 1e3, "ms"), "CPU": (ran.cpu * 1e3, "ms")}


class Crowd(Trial):
    """Many at once."""

    key = "crowd"
    title = f"Start of {CROWD} at once"
    note = f"Until the last of {CROWD} commands that run /bin/true has ended."

    def run(self, peer: Peer) -> Figures:
        job = Job(["/bin/true"])
        group = peer.place.group
        before = group.cpu_seconds()
        wall = at_once(peer, [peer.argv(job) for _ in range(CROWD)], peer.env(job))
        group.clear()
        return {"wall": (wall * 1e3, "ms"), "CPU": ((group.cpu_seconds() - before) * 1e3, "ms")}


def at_once(peer: Peer, commands: Sequence[Sequence[str]], env: Mapping[str, str] | None) -> float:
    """Seconds until all of them, begun beside each other, have ended."""
    begun = time.perf_counter()
    running = [peer.place.start(argv, env=env) for argv in commands]
    try:
        statuses = [process.wait(timeout=SECONDS) for process in running]
    except subprocess.TimeoutExpired:
        raise RvisorError(f"{peer.name}: {len(commands)} at once do not end") from None
    finally:
        for process in running:
            process.kill()
            process.wait()
    wall = time.perf_counter() - begun
    if failed := sum(map(bool, statuses)):
        raise RvisorError(f"{peer.name}: {failed} of {len(commands)} at once failed")
    return wall


class FromPython(Trial):
    """Starts from a Python program: rVisor by its SDK, the others by their commands."""

    key = "start sdk"
    title = "Start of true from a Python program"

    def __init__(self, *, times: int) -> None:
        self._times = times
        self.note = (
            f"rVisor by rvisor.Sandbox, the others by subprocess; one: the median of {times} in each turn, "
            f"{CROWD} at once: until the last has ended; within: from the launcher's first instruction to its."
        )

    def run(self, peer: Peer) -> Figures:
        how = getattr(peer, "platform", "") if peer.name == "rvisor" else ""
        if not how:
            how = json.dumps([peer.argv(Job(["/bin/true"])) for _ in range(self._times + CROWD)])
        argv = [sys.executable, "-m", "rvisor.bench.sdk", str(self._times), str(CROWD), how]
        ran = peer.place.run(argv, timeout=SECONDS)
        if ran.status != 0:
            raise RvisorError(f"{peer.name}: starting from Python: status {ran.status}")
        told = json.loads(ran.stdout)
        made: Figures = {
            "one": (statistics.median(told["one"]) * 1e3, "ms"),
            f"{CROWD} at once": (told["crowd"] * 1e3, "ms"),
        }
        if told["within"]:
            made["within"] = (statistics.median(told["within"]) * 1e3, "ms")
        return made


class UnderDocker(Trial):
    """`docker run` of a static program that does nothing; native is the program itself, without Docker."""

    key = "start docker"
    title = "docker run"
    note = (
        "A static program that does nothing, `--network none`, one and "
        f"{CROWD} at once; natively it runs without Docker. Each peer is the OCI runtime of the same daemon."
    )

    def __init__(self, place: Place, *, times: int) -> None:
        self._place = place
        self._times = times
        self._daemon: Daemon | None = None

    def prepare(self) -> None:
        self._daemon = Daemon(self._place)

    def run(self, peer: Peer) -> Figures:
        assert self._daemon is not None
        if peer.sandbox:
            commands = self._daemon.commands(peer, CROWD)
        else:
            commands = [[os.path.join(self._place.path, "docker", PROGRAM.lstrip("/"))]] * CROWD
        one = [at_once(peer, commands[:1], None) for _ in range(self._times)]
        crowd = at_once(peer, commands, None)
        return {"one": (statistics.median(one) * 1e3, "ms"), f"{CROWD} at once": (crowd * 1e3, "ms")}


class Memory(Trial):
    """An idle shell: its sandbox's processes, without what the host's kernel holds."""

    key = "memory"
    title = "Memory of an idle shell"
    note = (
        "Private: pages that only this process has. Shared: its proportional share of the others. "
        "The command that waits for the sandbox is told apart. What the host's kernel holds is not in it."
    )
    warm_up = "none"

    def run(self, peer: Peer) -> Figures:
        with Waiting(peer, [Job(IDLE)]) as shell:
            shell.ready()
            time.sleep(SETTLED_SECONDS)
            held = {pid: host.Held(pid) for pid in peer.place.group.processes()}
            shell.finish()
        waits = held.pop(shell.processes[0].pid) if peer.sandbox else None
        private = sum(one.private for one in held.values())
        share = sum(one.share for one in held.values())
        made: Figures = {
            "private": (private, "MiB"),
            "shared, its part": (share - private, "MiB"),
            "private and shared": (share, "MiB"),
            "processes": (float(len(held)), ""),
        }
        if waits is not None:
            made["the command that waits for it"] = (waits.share, "MiB")
        return made
