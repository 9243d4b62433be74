"""A sandbox that waits uses no CPU: not one switch to any of its threads."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from framework import host

SECONDS = 10


def switches(processes: list[host.Process]) -> dict[tuple[int, int], int]:
    """Context switches of every thread so far."""
    counted = {}
    for p in processes:
        for task in os.listdir(f"/proc/{p.pid}/task"):
            lines = Path(f"/proc/{p.pid}/task/{task}/status").read_text().splitlines()
            counted[p.pid, int(task)] = sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return counted


def settled(boxes: list[subprocess.Popen[bytes]]) -> list[list[host.Process]]:
    """Each sandbox's processes, once they have been the same for a second: stubs for later programs come and go."""
    found: list[list[host.Process]] = []
    same = 0
    for _ in range(60):
        time.sleep(0.5)
        now = [host.below(box.pid) for box in boxes]
        same = same + 1 if now == found else 0
        found = now
        if same >= 3:
            return found
    raise AssertionError("the sandboxes' processes do not settle")


WAITS = {
    "sleep": "exec sleep 40",
    "pipe": "sleep 40 | cat | cat",
    "many": "for i in $(seq 20); do sleep 40 & done; wait",
}


def test_nothing_runs_while_nothing_happens() -> None:
    boxes = [host.start("run", "--", "bash", "-c", script) for script in WAITS.values()]
    try:
        found = settled(boxes)
        assert all({p.what for p in family} == {"sentry", "stub"} for family in found)
        everybody = [p for family in found for p in family]
        before = switches(everybody)
        time.sleep(SECONDS)
        after = switches(everybody)
    finally:
        for box in boxes:
            box.kill()
            box.communicate(timeout=20)
    assert len(before) > 30
    assert {who: after[who] - count for who, count in before.items() if after[who] != count} == {}


def test_the_count_would_tell() -> None:
    with host.sandbox("run", "--", "bash", "-c", "echo ready; while :; do sleep 0.02; done", ready="ready") as box:
        family = [p for p in host.below(box.pid) if p.what == "sentry"]
        before = switches(family)
        time.sleep(0.5)
        assert sum(switches(family).values()) > sum(before.values())
