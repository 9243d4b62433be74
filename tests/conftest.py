"""What every test may use."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "tests")]

from framework import inside  # noqa: E402


@pytest.fixture(scope="session")
def binaries() -> None:
    """The executables are there; otherwise skip, or fail when RVISOR_REQUIRE is set (as `make test` does)."""
    from rvisor._sentry import find
    from rvisor.errors import BinaryMissing

    try:
        for name in (find.LAUNCHER, find.SENTRY, find.STUB):
            find.find(name)
    except BinaryMissing as error:
        if os.environ.get("RVISOR_REQUIRE"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def rootfs() -> Path:
    """A Debian root (tools/rootfs.py), or a skip that says how to make one."""
    path = ROOT / "build" / "rootfs"
    if not (path / "etc" / "rvisor-test-root").is_file():
        if os.environ.get("RVISOR_REQUIRE"):
            pytest.fail("build/rootfs is missing: make rootfs")
        pytest.skip("build/rootfs is missing: make rootfs")
    return path


@pytest.fixture(params=inside.PLATFORMS)
def platform(request: pytest.FixtureRequest) -> str:
    """Each platform in turn; RVISOR_PLATFORMS narrows them."""
    return str(request.param)
