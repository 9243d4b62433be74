"""The monitor itself: what it may do, what it costs, and in which order it tells."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from framework import inside
from framework.compile import static
from framework.shared import monitors, run, running

pytestmark = pytest.mark.timeout(120)


def test_it_is_confined_and_waits() -> None:
    """A filter and three capabilities; and nothing to do when the programs that came in have ended."""
    with running("--name", "watched", "--", "sleep", "100") as process:
        (monitor,) = monitors(process.pid)
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{monitor}/status").read_text().splitlines())
        assert (status["Seccomp"], status["NoNewPrivs"], status["CapEff"]) == (
            "2",
            "1",
            f"{1 << 1 | 1 << 5 | 1 << 19:016x}",
        )
        for _ in range(3):
            assert inside.rvisor("exec", "watched", "true").status == 0
        before = switches(monitor)
        time.sleep(0.3)
        assert switches(monitor) - before < 20 and ticks(monitor) < 30


def ticks(pid: int) -> int:
    """Hundredths of a second that it has run."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def switches(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if "ctxt_switches" in line)


def test_the_start_is_told_first() -> None:
    """Whatever a program's first call is, the log has the line of its start."""
    program = static(Path(__file__).parent / "guests" / "plugged.c")
    for _ in range(8):
        done = run("-v", f"{program}:/p:ro", "--", "/p", str(SYSLOG), "3", "@", "255")
        assert "vkernel" in done.out and "started" in done.out, done


SYSLOG = 103
