"""System calls one by one: natively and inside in turns, medians of all turns, ratio to native."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from rvisor.bench.native import compile_c, last_line
from rvisor.errors import RvisorError
from rvisor.sandbox import Sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SOURCE = Path(__file__).with_name("micro.c")

TARGETS: dict[str, float | None] = {
    "getppid": 1.0,
    "read 4 KiB": 2.0,
    "write 4 KiB": 2.0,
    "read 64 KiB": 1.5,
    "write 64 KiB": 1.5,
    "fstat": 1.6,
    "stat": 1.6,
    "open+close": 2.0,
    "creat+unlink": 1.4,
    "mkdir+rmdir": 1.4,
    "mmap+munmap": None,
    "fork+wait": 1.5,
    "fork+exec+wait": None,
    "vfork+exec+wait": 1.2,
    "pipe ping-pong": 1.5,
    "thread create+join": None,
    "signal round trip": None,
    "getdents 1000": None,
}
"""Each row and the ratio to native it is to reach, if one was set."""

ON_FILES = (
    "read 4 KiB",
    "write 4 KiB",
    "read 64 KiB",
    "write 64 KiB",
    "fstat",
    "stat",
    "open+close",
    "creat+unlink",
    "mkdir+rmdir",
    "getdents 1000",
)
"""Rows that have files under them: measured in the container's own root, and once more in a host directory."""

ON_HOST = ", host"
"""Ends the name of a row in a host directory."""

_GUEST_SECONDS = 300.0


class Row:
    """One call: medians in nanoseconds, None where the program did not get that far."""

    __slots__ = ("cold", "hot", "name", "native", "native_cold", "target")

    def __init__(self, name: str, samples: dict[tuple[str, str, str], list[float]], *, host: bool = False) -> None:
        inside = "host" if host else "inside"

        def middle(where: str, mode: str) -> float | None:
            values = samples.get((where, name, mode))
            return statistics.median(values) if values else None

        self.name = name + ON_HOST if host else name
        self.native = middle("native", "hot")
        self.native_cold = middle("native", "cold")
        self.hot = middle(inside, "hot")
        self.cold = middle(inside, "cold")
        self.target = TARGETS.get(name)

    @property
    def ratio(self) -> float | None:
        """Hot inside to hot natively."""
        return self.hot / self.native if self.hot is not None and self.native else None

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None when there is none, or no figure."""
        if self.target is None or self.ratio is None:
            return None
        return round(self.ratio, 2) <= self.target

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "native_ns": self.native,
            "native_cold_ns": self.native_cold,
            "hot_ns": self.hot,
            "cold_ns": self.cold,
            "ratio": self.ratio,
            "target": self.target,
            "reached": self.reached,
        }


def measure(
    *,
    runs: int,
    platform: str,
    only: Sequence[str],
    pause_us: int,
    static: bool,
    directory: str | None,
    say: Callable[[str], None],
) -> list[Row]:
    """Measure; `directory` is where on the host the files are made, natively and, by a bind mount, inside.

    A row of `ON_FILES` is measured inside in the container's root, and again, as another row, in that directory.
    """
    samples: dict[tuple[str, str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="rvisor-bench-", dir=directory) as work:
        program = compile_c(SOURCE, work, static=static)
        plain = [name for name in TARGETS if not only or name in only]
        shared = [name for name in ON_FILES if not only or name in only or name + ON_HOST in only]
        box = Sandbox(volumes=[f"{work}:{work}"], cwd=work, platform=platform)
        for turn in range(1, runs + 1):
            say(f"run {turn} of {runs}: natively")
            both = [name for name in TARGETS if name in plain or name in shared]
            done = subprocess.run(
                [program, work, str(pause_us), *both], capture_output=True, stdin=subprocess.DEVNULL, check=False
            )
            _collect(samples, "native", done.stdout)
            if done.returncode != 0:
                raise RvisorError(f"the measuring program failed natively: {last_line(done.stderr)}")
            for where, place, rows in (("inside", "/tmp", plain), ("host", work, shared)):
                if not rows:
                    continue
                say(f"run {turn} of {runs}: inside" + (", host directory" if where == "host" else ""))
                result = box.run([program, place, str(pause_us), *rows], capture=True, timeout=_GUEST_SECONDS)
                _collect(samples, where, result.stdout)
                if result.status != 0:
                    why = f"status {result.status} inside: {last_line(result.stderr)}"
                    say(f"the measuring program ended with {why}")
                    _clear(work, keep=program)
    return [Row(name, samples) for name in plain] + [Row(name, samples, host=True) for name in shared]


def _collect(samples: dict[tuple[str, str, str], list[float]], where: str, output: bytes) -> None:
    for line in output.splitlines():
        try:
            answer = json.loads(line)
            samples.setdefault((where, answer["name"], answer["mode"]), []).append(float(answer["ns"]))
        except (ValueError, KeyError, TypeError):
            continue


def _clear(work: str, *, keep: str) -> None:
    for entry in os.scandir(work):
        if entry.path == keep:
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)
