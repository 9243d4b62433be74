"""A million calls, each with an answer of its own: none is lost, none is made or answered twice."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable

import pytest

from framework import inside

CALLS = int(os.environ.get("RVISOR_STRESS_CALLS", "1000000"))
"""Altogether; RVISOR_STRESS_CALLS=10000000 for the long run."""
SECONDS = 20 * CALLS / 1e6


@pytest.mark.timeout(0)
@pytest.mark.parametrize("threads", [1, 4])
def test_every_answer_is_its_own(threads: int, guest: Callable[[str], str]) -> None:
    begun = time.monotonic()
    calls = CALLS // 2
    done = inside.rvisor("run", "--", guest("stress"), str(threads), str(calls), timeout=SECONDS * 3)
    took = time.monotonic() - begun
    assert done.status == 0, done.out
    made = re.fullmatch(r"(\d+) calls, 0 wrong\n", done.out)
    assert made
    assert int(made[1]) >= calls // threads * threads
    print(f"{threads} threads: {made[1]} calls in {took:.1f} s")


@pytest.mark.parametrize("sabotage", ["lseek", "counter"])
def test_one_call_made_twice_would_be_seen(sabotage: str, guest: Callable[[str], str]) -> None:
    done = inside.run([guest("stress"), "2", "10000", "1", sabotage])
    assert done.status == 1
    assert ", 0 wrong" not in done.out
