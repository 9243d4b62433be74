"""The life of a container whose program does nothing, by the calls a caller makes: OCI runtimes by turns."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from rvisor.bench.docker import PROGRAM, SOURCE, installed
from rvisor.bench.host import Place
from rvisor.bench.native import compile_c, last_line
from rvisor.bench.peers import Job, executable
from rvisor.bench.peers.oci import config
from rvisor.errors import RvisorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = ("create", "state", "start", "delete")
WHOLE = "create + start + delete"
SECONDS = 60.0
_BOTH = "/sys/fs/cgroup/unified"
_OWN = {"runrsc": "rvisor", "runrsc --kernel=shared": "rvisor-shared"}


class Way:
    """One runtime: for each step, and for the three that every container takes, every turn's milliseconds."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self.command = command
        self.values: dict[str, list[float]] = {step: [] for step in (*STEPS, WHOLE)}

    def as_dict(self) -> dict[str, object]:
        return {"runtime": self.name, "unit": "ms", "values": self.values}


def measure(*, runs: int, say: Callable[[str], None]) -> tuple[list[Way], list[str]]:
    """Every runtime once a turn, after one turn that does not count; and of those that do not work, why."""
    with Place() as place:
        if os.path.exists(_BOTH):
            # crun refuses hosts with both versions of control groups; in this mount namespace there is only one. What
            # others make where the second was does not stay in the host's directory below.
            subprocess.run(["umount", _BOTH], check=True)
            subprocess.run(["mount", "-t", "tmpfs", "none", _BOTH], check=True)
            place.cleanup.callback(subprocess.run, ["umount", "--lazy", _BOTH], check=True)
        bundle = _bundle(place)
        ways, troubles = _ways(place), []
        for turn in range(runs + 1):
            if turn:
                say(f"turn {turn} of {runs}")
            for way in list(ways):
                try:
                    taken = _live(place, way, bundle, f"rvisor-bench-{os.getpid()}-{turn}")
                except RvisorError as error:
                    ways.remove(way)
                    troubles.append(str(error))
                    continue
                for step, value in taken.items():
                    if turn:
                        way.values[step].append(value * 1e3)
    return ways, troubles


def _bundle(place: Place) -> str:
    bundle = os.path.join(place.path, "bundle")
    root = os.path.join(bundle, "root")
    for name in ("proc", "dev", "sys"):
        os.makedirs(os.path.join(root, name))
    shutil.move(compile_c(SOURCE, place.path, static=True), root + PROGRAM)
    text = json.dumps(config(Job([PROGRAM]), root=root, cgroup=f"/rvisor-bench-life-{os.getpid()}"))
    Path(bundle, "config.json").write_text(text, encoding="utf-8")
    return bundle


def _ways(place: Place) -> list[Way]:
    made = []
    ours = installed(place)
    state = os.path.join(place.path, "state-")
    for name in ("runc", "crun", "runsc"):
        if path := executable(name):
            more = ["--platform=systrap", "--network=none", "--ignore-cgroups"] if name == "runsc" else []
            made.append(Way(name, [path, "--root", state + name, *more]))
    for name, key in _OWN.items():
        made.append(Way(name, [ours[key]["path"], "--root", state + key]))
    return made


def _live(place: Place, way: Way, bundle: str, name: str) -> dict[str, float]:
    """Seconds of each step. The container is deleted when its program has ended, as callers do it."""
    pid_file = os.path.join(place.path, "pid")
    taken = {}
    try:
        taken["create"] = _call(way, "create", "--bundle", bundle, "--pid-file", pid_file, name)
        ended = os.pidfd_open(int(Path(pid_file).read_text(encoding="utf-8")))
        try:
            taken["state"] = _call(way, "state", name)
            taken["start"] = _call(way, "start", name)
            if not select.select([ended], [], [], SECONDS)[0]:
                raise RvisorError(f"{way.name}: the container's program does not end")
        finally:
            os.close(ended)
        _stopped(way, name)
        taken["delete"] = _call(way, "delete", name)
    except BaseException:
        with contextlib.suppress(RvisorError):
            _call(way, "delete", "--force", name)
        raise
    taken[WHOLE] = taken["create"] + taken["start"] + taken["delete"]
    return taken


def _stopped(way: Way, name: str) -> None:
    """gVisor notices only later that the program has ended."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        done = subprocess.run([*way.command, "state", name], capture_output=True, check=False, timeout=SECONDS)
        if done.returncode == 0 and json.loads(done.stdout)["status"] == "stopped":
            return
        time.sleep(0.01)
    raise RvisorError(f"{way.name}: the container does not stop")


def _call(way: Way, *words: str) -> float:
    """Seconds it took. What it says goes to a file: of a pipe the container would keep the end."""
    with tempfile.TemporaryFile() as said:
        begun = time.perf_counter()
        # subprocess, with a time limit, looks for the end now and then: after 0.5, 1.5, 3.5, 7.5, 15.5 … ms.
        with subprocess.Popen(
            [*way.command, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said
        ) as running:
            ended = os.pidfd_open(running.pid)
            try:
                if not select.select([ended], [], [], SECONDS)[0]:
                    running.kill()
                status = running.wait()
            finally:
                os.close(ended)
        wall = time.perf_counter() - begun
        if status != 0:
            said.seek(0)
            raise RvisorError(f"{way.name} {words[0]}: {last_line(said.read())}")
    return wall


def table(ways: list[Way]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: medians, and in brackets the least."""
    steps = (*STEPS, WHOLE)
    return ["ms", *steps], [
        [way.name, *(f"{statistics.median(way.values[step]):.0f} ({min(way.values[step]):.0f})" for step in steps)]
        for way in ways
    ]
