"""What calls cost as the load grows: more threads in one sandbox, more sandboxes beside each other."""

from __future__ import annotations

import itertools
import json
import os
import time
from pathlib import Path

from rvisor.bench import host
from rvisor.bench.native import compile_c
from rvisor.bench.peers import Job
from rvisor.bench.side import Trial
from rvisor.bench.waiting import Waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor.bench.host import Place
    from rvisor.bench.peers import Peer

    Figures = dict[str, tuple[float, str]]

SOURCE = Path(__file__).with_name("load.c")
THREADS = (1, 2, 4, 8)
BOXES = (1, 10, 50)
_numbers = itertools.count(1)


def _command(peer: Peer, program: str, seconds: float, threads: tuple[int, ...]) -> Job:
    place = peer.place
    number = next(_numbers)
    # Inside, /tmp is the sandbox's own; natively each has a directory of its own as well.
    own = f"/tmp/{os.path.basename(place.path)}-load-{number}"
    directory = own if peer.sandbox else os.path.join(place.work, f"load-{number}")
    args = ["/bin/sh", "-c", 'mkdir -p "$0" && exec "$@"', directory, program, directory, f"{seconds:g}"]
    return Job([*args, *map(str, threads)], volumes=[place.work])


class Threads(Trial):
    """One sandbox, more and more threads that all make calls."""

    key = "load threads"
    title = f"Calls by {', '.join(map(str, THREADS))} threads at once"

    def __init__(self, place: Place, *, seconds: float) -> None:
        self._program = compile_c(SOURCE, place.work)
        self._seconds = seconds
        self.note = f"Calls a second of all threads together, {seconds:g} s for each figure."

    def run(self, peer: Peer) -> Figures:
        with Waiting(peer, [_command(peer, self._program, self._seconds, THREADS)]) as one:
            one.ready()
            (output,) = one.finish()
        made: Figures = {}
        for line in output.splitlines():
            row = json.loads(line)
            plural = "s" if row["threads"] > 1 else ""
            made[f"{row['name']}, {row['threads']} thread{plural}"] = (row["calls"] / row["seconds"], "/s")
        return made


class Boxes(Trial):
    """So many sandboxes, one thread in each, all of which make calls."""

    def __init__(self, place: Place, *, count: int, seconds: float) -> None:
        self._program = compile_c(SOURCE, place.work)
        self._count = count
        self._seconds = seconds
        self.key = f"load boxes {count:02}"
        self.title = f"Calls in {count} sandboxes at once" if count > 1 else "Calls in one sandbox"
        self.note = (
            f"Calls a second of all sandboxes together, {seconds:g} s for each figure; one thread in each. "
            "Start: until the last one's program runs. Memory: proportional shares of all processes, for each sandbox."
        )
        self.warm_up = "none"

    def run(self, peer: Peer) -> Figures:
        jobs = [_command(peer, self._program, self._seconds, (1,)) for _ in range(self._count)]
        begun = time.perf_counter()
        with Waiting(peer, jobs) as boxes:
            boxes.ready()
            started = time.perf_counter() - begun
            shares = sum(host.Held(pid).share for pid in peer.place.group.processes())
            outputs = boxes.finish()
        rates: dict[str, float] = {}
        for output in outputs:
            for line in output.splitlines():
                row = json.loads(line)
                rates[row["name"]] = rates.get(row["name"], 0.0) + row["calls"] / row["seconds"]
        made: Figures = {name: (rate, "/s") for name, rate in rates.items()}
        made["start"] = (started * 1e3, "ms")
        made["memory, each"] = (shares / self._count, "MiB")
        return made
