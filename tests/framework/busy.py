"""What others use of this machine: where a CPU to spare is needed, a test must know whether there was one."""

from __future__ import annotations

import os
import time
from pathlib import Path

OTHERS = 0.2
"""A machine on which others use more of a CPU than this is busy."""


class Others:
    """CPUs that others than this process and its children used while it was entered; those that have ended count."""

    def __init__(self) -> None:
        self.cpus = 0.0

    def __enter__(self) -> Others:
        self._begun, self._before = time.monotonic(), _used() - _ours()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpus = (_used() - _ours() - self._before) / (time.monotonic() - self._begun)


def _used() -> float:
    """Seconds of CPU time that this machine has spent on anything."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return sum(int(word) for at, word in enumerate(words[1:9]) if at not in (3, 4)) / os.sysconf("SC_CLK_TCK")


def _ours() -> float:
    return sum(os.times()[:4])
