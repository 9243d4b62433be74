"""Containers on the shared kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
