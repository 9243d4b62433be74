"""Podman with `runrsc`, and with runc as the oracle."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from framework.bundle import GROUPS, need
from framework.callers import Podman, image


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory, binaries: None) -> Iterator[Podman]:
    if os.geteuid() != 0 or shutil.which("podman") is None or shutil.which("conmon") is None:
        need("this needs root, podman and conmon")
    made = Podman(tmp_path_factory.mktemp("podman"))
    archive = made.top / "image.tar"
    subprocess.run(["tar", "-C", str(image(made.top)), "-cf", str(archive), "."], check=True, timeout=60)
    made("import", str(archive), "bb")
    before = {str(p) for p in GROUPS.glob("*/libpod_parent/*")}
    yield made
    made("pod", "rm", "--all", "--force", "--time", "0", status=None)
    made("rm", "--all", "--force", "--time", "0")
    assert {str(p) for p in GROUPS.glob("*/libpod_parent/libpod-*")} <= before
    made("volume", "rm", "--all", "--force", status=None)
    made("rmi", "--all", "--force", status=None)
