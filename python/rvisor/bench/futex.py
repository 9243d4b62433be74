"""futex(2) with the host's table of waiters, and with tables of the process's own, alone and beside a stress.

`perf bench futex` does the work; a table is chosen in the running process, as the host forgets the choice at exec. A
process with threads gets a table of its own by itself, of a size by threads and CPUs: `by itself` measures that.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import time

from rvisor.errors import RvisorError
from rvisor.policy import memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TABLES: dict[str, int | None] = {"by itself": None, "host's table": 0, "64 slots": 64, "1024 slots": 1024}
THREADS, FUTEXES, SECONDS = 8, 1024, 1
WAITERS = 128
REPEATS = "20"
STRESS = ("-t", "16", "-f", "1", "-r", "3600")
"""The seed's stress, with fewer threads and a low weight: it is to take the table, not the CPUs."""
_SETTLED = 0.3
_LONGEST_SECONDS = 60


class Row:
    """One table: operations a second of each thread, milliseconds to wake all; each alone and beside the stress."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.values: dict[str, list[float]] = {}
        self.slots: int | None = None

    def median(self, what: str) -> float:
        """The median over the runs."""
        return statistics.median(self.values[what])

    def as_dict(self) -> dict[str, object]:
        return {"table": self.name, "slots": self.slots, "values": self.values}


def measure(*, runs: int, say: Callable[[str], None]) -> list[Row]:
    """Every table, by turns."""
    perf = shutil.which("perf")
    if perf is None:
        raise RvisorError("perf was not found", hint="install linux-perf")
    rows = [Row(name) for name in TABLES]
    for stressed in (False, True):
        beside = " beside stress" if stressed else ""
        stress = _stress(perf) if stressed else None
        try:
            for turn in range(runs):
                say(f"turn {turn + 1} of {runs}{beside}")
                for row in rows:
                    said = _run(row, [perf, "bench", "futex", "hash", *_words(THREADS, FUTEXES, SECONDS)])
                    row.values.setdefault("hash" + beside, []).append(_found(r"Averaged (\d+) operations/sec", said))
                    said = _run(row, [perf, "bench", "-r", REPEATS, "futex", "wake", "-t", str(WAITERS)])
                    row.values.setdefault("wake" + beside, []).append(_found(r"threads in ([0-9.]+) ms \(", said))
        finally:
            if stress is not None:
                stress.kill()
                stress.wait()
    return rows


def _words(threads: int, futexes: int, seconds: int) -> list[str]:
    return ["-t", str(threads), "-f", str(futexes), "-r", str(seconds)]


def _stress(perf: str) -> subprocess.Popen[bytes]:
    """In the host's table, as a kernel without private tables would have it."""
    quiet = subprocess.DEVNULL
    command = ["nice", "-n", "19", perf, "bench", "futex", "hash", *STRESS]
    process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
    _choose(process, 0)
    time.sleep(_SETTLED)
    return process


def _run(row: Row, command: list[str]) -> str:
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        _choose(process, TABLES[row.name])
        try:
            if row.slots is None:
                row.slots = memory.futex_slots(process.pid)
        except ProcessLookupError:
            raise RvisorError(f"{command[0]} ended before its table could be looked at") from None
        try:
            said, _ = process.communicate(timeout=_LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return said


def _choose(process: subprocess.Popen[str] | subprocess.Popen[bytes], slots: int | None) -> None:
    """Once it is the program that it is to be, and has threads: Linux has chosen a table for them by then."""
    end = time.monotonic() + 5
    while len(os.listdir(f"/proc/{process.pid}/task")) < 2 and time.monotonic() < end:
        time.sleep(0.001)
    if slots is not None:
        memory.set_futex_slots(process.pid, slots)


def _found(pattern: str, said: str) -> float:
    found = re.search(pattern, said)
    if found is None:
        raise RvisorError(f"perf bench futex ended without a figure: {said.strip()[-200:]}")
    return float(found[1])


def table(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows."""
    units = {"hash": "op/s", "wake": "ms"}
    whats = list(rows[0].values)
    head = ["table", "slots", *(f"{what}, {units[what.split()[0]]}" for what in whats)]
    made = []
    for row in rows:
        values = [f"{row.median(what):,.0f}" if "hash" in what else f"{row.median(what):.3f}" for what in whats]
        made.append([row.name, str(row.slots or "-"), *values])
    return head, made
