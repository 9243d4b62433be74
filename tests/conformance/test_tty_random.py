"""The line discipline under random settings and bytes: what comes out at both ends is what the host's kernel gives."""

from __future__ import annotations

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
    first, again = (inside.run([program, seed, STEPS], timeout=SECONDS).out.splitlines() for _ in range(2))
    # The host hands input and output on from threads of its own: what two runs disagree on was a race.
    same = next((i for i, (a, b) in enumerate(zip(first, again, strict=True)) if a != b), len(first))
    assert same > 10
    done = inside.rvisor("run", "--platform", platform, "--", program, seed, STEPS, timeout=SECONDS)
    assert done.status == 0, done.err
    got = done.out.splitlines()
    for i in range(same):
        settings = next(line for line in reversed(first[: i + 1]) if " set " in line)
        assert got[i] == first[i], settings
