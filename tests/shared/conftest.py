"""Containers on the shared kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework.bundle import Runtime
from framework.compile import static


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, binaries: None) -> None:
    """A runtime directory of the test's own."""
    monkeypatch.setenv("RVISOR_RUNTIME_DIR", str(tmp_path / "run"))
    if os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture(scope="session")
def attack() -> Path:
    return static(Path(__file__).parent / "guests" / "attack.c")


@pytest.fixture
def runrsc(tmp_path: Path) -> Iterator[Runtime]:
    runtime = Runtime(tmp_path, "--kernel=shared")
    yield runtime
    for container in list(runtime.root.glob("*")) if runtime.root.exists() else []:
        runtime("delete", "--force", container.name, status=None)
    assert runtime.left() == []
