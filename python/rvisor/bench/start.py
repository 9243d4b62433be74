"""What a sandbox costs before and beside its program: start-up, memory, and the pace of pure computation."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rvisor.bench.native import compile_c
from rvisor.errors import RvisorError
from rvisor.sandbox import Sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = Path(__file__).with_name("compute.c")

SETTLED_SECONDS = 1.0
"""After this long an idle shell has its pages, and the stubs that wait for the next programs are there."""


class Figure:
    """One measured figure; `target` is its bound, below which (or above which) it is to be."""

    __slots__ = ("at_least", "name", "target", "unit", "value")

    def __init__(
        self, name: str, value: float, unit: str, *, target: float | None = None, at_least: bool = False
    ) -> None:
        self.name = name
        self.value = value
        self.unit = unit
        self.target = target
        self.at_least = at_least

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None when there is none."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "target": self.target,
            "reached": self.reached,
        }


def measure(*, runs: int, platform: str, say: Callable[[str], None]) -> list[Figure]:
    """Start-up of `/bin/true`, and the memory of an idle shell."""
    command = shutil.which("rvisor")
    args = [command] if command else [sys.executable, "-m", "rvisor"]
    walls: list[float] = []
    natives: list[float] = []
    inner: list[float] = []
    box = Sandbox(platform=platform)
    for turn in range(runs):
        if turn % 10 == 0:
            say(f"start {turn + 1} of {runs}")
        natives.append(_wall(["/bin/true"]))
        walls.append(_wall([*args, "run", "--platform", platform, "--", "/bin/true"]))
        inner.append(box.run(["/bin/true"], capture=True).started_ns / 1e6)
    sentry, stubs, shared = _idle_shell([*args, "run", "--platform", platform, "-i", "--", "/bin/sh"])
    return [
        Figure("/bin/true, natively", statistics.median(natives), "ms"),
        Figure("rvisor run -- /bin/true", statistics.median(walls), "ms"),
        Figure("launcher's first instruction to the guest's first", statistics.median(inner), "ms", target=15.0),
        Figure("idle shell: sentry", sentry, "MiB"),
        Figure("idle shell: stubs, the shell's own pages and shared slots too", stubs, "MiB"),
        Figure("idle shell: sentry and stubs together, shared pages once", shared, "MiB", target=12.0),
    ]


def measure_compute(*, runs: int, platform: str, say: Callable[[str], None]) -> list[Figure]:
    """Computation on every CPU: the pace inside, as a part of the native one."""
    with tempfile.TemporaryDirectory(prefix="rvisor-bench-") as work:
        program = compile_c(SOURCE, work)
        box = Sandbox(volumes=[f"{work}:{work}"], platform=platform)
        cpus = str(os.cpu_count() or 1)
        native: list[float] = []
        inside: list[float] = []
        for turn in range(runs):
            say(f"computation, turn {turn + 1} of {runs}")
            done = subprocess.run([program, cpus], capture_output=True, check=False)
            native.append(_seconds(done.stdout))
            inside.append(_seconds(box.run([program, cpus], capture=True, timeout=120).stdout))
    pace = statistics.median(native) / statistics.median(inside) * 100
    return [
        Figure("natively", statistics.median(native), "s"),
        Figure("inside", statistics.median(inside), "s"),
        Figure(f"pace on {cpus} CPUs", pace, "%", target=97.0, at_least=True),
    ]


def _wall(args: list[str]) -> float:
    begun = time.perf_counter_ns()
    subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter_ns() - begun) / 1e6


def _seconds(output: bytes) -> float:
    try:
        return float(output)
    except ValueError:
        raise RvisorError("the computing program gave no figure") from None


def _idle_shell(args: list[str]) -> tuple[float, float, float]:
    """Resident MiB of the sentry, of the stubs, and the proportional sum of both."""
    resident = {"sentry": 0.0, "stub": 0.0}
    shared = 0.0
    with subprocess.Popen(args, stdin=subprocess.PIPE) as shell:
        time.sleep(SETTLED_SECONDS)
        for pid in _descendants(shell.pid):
            name = Path(f"/proc/{pid}/comm").read_text().strip().removeprefix("rvisor-")
            if name in resident:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                resident[name] += _kib(rollup, "Rss:") / 1024
                shared += _kib(rollup, "Pss:") / 1024
        shell.communicate()
    return resident["sentry"], resident["stub"], shared


def _kib(rollup: str, field: str) -> int:
    for line in rollup.splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise RvisorError(f"the host's smaps_rollup has no {field[:-1]}")


def _descendants(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found.extend(int(child) for child in children.read_text().split())
    return found
