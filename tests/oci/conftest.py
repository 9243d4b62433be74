"""`runrsc` for each test, and a look at what it has left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework.bundle import Runtime, need


@pytest.fixture
def runrsc(tmp_path: Path, binaries: None) -> Iterator[Runtime]:
    if os.geteuid() != 0:
        need("runrsc create needs root here")
    runtime = Runtime(tmp_path)
    yield runtime
    for container in list(runtime.root.glob("*")) if runtime.root.exists() else []:
        runtime("delete", "--force", container.name, status=None)
    assert runtime.left() == []
