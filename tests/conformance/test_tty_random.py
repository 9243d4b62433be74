"""The line discipline under random settings and bytes: what comes out at both ends is what the host's kernel gives."""

from __future__ import annotations

import itertools

import pytest

from framework import inside
from framework.compile import static
from framework.guests import SECONDS

SOURCE = inside.ROOT / "tests" / "conformance" / "oracle" / "tty_random.c"
STEPS = "1500"


@pytest.mark.usefixtures("binaries")
@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_same_bytes(seed: str, platform: str) -> None:
    program = str(static(SOURCE))
    # The host hands input and output on from threads of its own: what two runs disagree on was a race.
    expected = max((_agreed(program, seed) for _ in range(2)), key=len)
    assert len(expected) > int(STEPS) // 2
    done = inside.rvisor("run", "--platform", platform, "--", program, seed, STEPS, timeout=SECONDS)
    assert done.status == 0, done.err
    got = done.out.splitlines()
    for i, line in enumerate(expected):
        settings = next(line for line in reversed(expected[: i + 1]) if " set " in line)
        assert got[i] == line, settings


def _agreed(program: str, seed: str) -> list[str]:
    """What two runs on the host's kernel print alike, from the first line on."""
    first, again = (inside.run([program, seed, STEPS], timeout=SECONDS).out.splitlines() for _ in range(2))
    return [line for line, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, again, strict=True))]
