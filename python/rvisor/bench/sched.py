"""hackbench under each scheduling class, by turns: the matrix of the first vKernel, reduced to a small machine.

Each cell is so many groups of 20 senders and 20 receivers, each sender writing so many messages to each receiver of
its group. As there: runs are repeated, the largest and the smallest time left out, the mean of the others taken.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import threading

from rvisor.errors import RvisorError
from rvisor.policy import calls, load
from rvisor.policy.container import Container
from rvisor.policy.controller import Controller
from rvisor.policy.errors import PolicyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CELLS = ("1x50", "1x100", "1x250", "2x50", "2x100", "2x250", "4x50", "4x100", "4x250")
"""Groups and messages."""
CLASSES = {
    "normal": calls.Attr(os.SCHED_OTHER, 0, 0, 0, 0),
    "normal 10 ms": calls.Attr(os.SCHED_OTHER, 0, 0, 0, 10_000_000),
    "batch": calls.Attr(os.SCHED_BATCH, 0, 0, 0, 0),
    "batch 100 ms": calls.Attr(os.SCHED_BATCH, 0, 0, 0, 100_000_000),
    "fifo": calls.Attr(os.SCHED_FIFO, 0, 0, 1, 0),
    "rr": calls.Attr(os.SCHED_RR, 0, 0, 1, 0),
}
"""`batch 100 ms` is nearest to the first vKernel's FIFO: nobody inside is driven off, the host outside stays fair."""
ADAPTIVE = "adaptive"
_LONGEST_SECONDS = 100
_INTERVAL = 0.1


class Cell:
    """One size of load: seconds by class, and the classes it could not be run under."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seconds: dict[str, list[float]] = {}

    def mean(self, kind: str) -> float | None:
        """Without the largest and the smallest, if there are three or more; None: not measured."""
        found = sorted(self.seconds.get(kind, ()))
        return statistics.mean(found[1:-1] if len(found) >= 3 else found) if found else None

    def as_dict(self) -> dict[str, object]:
        return {"cell": self.name, "seconds": self.seconds, "mean": {kind: self.mean(kind) for kind in self.seconds}}


def measure(*, runs: int, only: Sequence[str], say: Callable[[str], None]) -> tuple[list[Cell], list[str]]:
    """The cells, and a line for each class the host refuses."""
    program = shutil.which("hackbench")
    if program is None:
        raise RvisorError("hackbench was not found", hint="install rt-tests")
    kinds = [*CLASSES, ADAPTIVE]
    troubles = []
    for kind in list(CLASSES):
        try:
            _run(["true"], kind)
        except (OSError, subprocess.SubprocessError) as error:
            troubles.append(f"{kind}: not measured: {error}")
            kinds.remove(kind)
    cells = []
    for name in only or CELLS:
        groups, _, messages = name.partition("x")
        cell = Cell(name)
        say(f"{groups} groups, {messages} messages")
        for _ in range(runs):
            for kind in kinds:
                said = _run([program, "-g", groups, "-l", messages], kind)
                found = re.search(r"Time: ([0-9.]+)", said)
                if found is None:
                    raise RvisorError(f"hackbench ended without a time: {said.strip()[-200:]}")
                cell.seconds.setdefault(kind, []).append(float(found[1]))
        cells.append(cell)
    return cells, troubles


def _run(command: list[str], kind: str) -> str:
    """What it prints, run under that class from its first instruction on."""
    attr = CLASSES["normal" if kind == ADAPTIVE else kind]

    def before() -> None:
        calls.sched_setattr(0, attr)

    with subprocess.Popen(
        command,
        preexec_fn=before,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        if kind == ADAPTIVE:
            threading.Thread(target=_govern, args=(process.pid,), daemon=True).start()
        try:
            said, _ = process.communicate(timeout=_LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    if process.returncode != 0:
        raise RvisorError(f"{command[0]} failed under {kind}: {said.strip()[-200:]}")
    return said


def _govern(pid: int) -> None:
    """The seed's rule at work. Its own time is part of what it costs, as the load has to share the CPUs with it."""
    try:
        controller = Controller("cpu", Container.of_pid(pid), load.load("cpu", "adaptive"))
        for _ in controller.run(interval=_INTERVAL):
            pass
    except (OSError, PolicyError, RvisorError):
        # The load has ended in the middle of a window.
        return


def table(cells: Sequence[Cell]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: seconds under `normal`, and the others' time as a part of it."""
    kinds = [kind for kind in [*CLASSES, ADAPTIVE] if any(kind in cell.seconds for cell in cells)]
    rows = []
    for cell in cells:
        plain = cell.mean("normal")
        row = [cell.name.replace("x", " × "), "-" if plain is None else f"{plain:.3f} s"]
        for kind in kinds:
            value = cell.mean(kind)
            if kind != "normal":
                row.append("-" if plain is None or value is None else f"{value / plain:.2f}")
        rows.append(row)
    return ["groups × messages", "normal", *(kind for kind in kinds if kind != "normal")], rows
