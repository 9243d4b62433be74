"""The command line with a launcher that is none: no privileges, seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from rvisor.testing import fake_binaries


@pytest.fixture(autouse=True)
def fake(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path_factory.mktemp("bin")
    monkeypatch.setenv("RVISOR_BIN_DIR", fake_binaries(str(directory)))
    return directory
