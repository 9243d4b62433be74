"""After every test here the host is as it was before."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from framework import compile, host

GUESTS = Path(__file__).resolve().parent / "guests"


@pytest.fixture(autouse=True)
def nothing_left(binaries: None) -> Iterator[None]:
    before = host.state()
    yield
    assert host.left_since(before) == []


@pytest.fixture(scope="session")
def guest() -> Callable[[str], str]:
    """A guest program of this directory, compiled: its path."""
    return lambda name: str(compile.static(GUESTS / f"{name}.c", *GUESTS.glob("*.h")))


@pytest.fixture
def as_root() -> None:
    """What only root can try. Said aloud where it must not be missing."""
    if os.geteuid() != 0:
        if os.environ.get("RVISOR_REQUIRE"):
            pytest.fail("this test needs root")
        pytest.skip("needs root")
