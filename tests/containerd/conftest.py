"""A containerd of the test's own, in a directory of its own, ended by its pid."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework.bundle import need
from framework.callers import image, runtime

_CONFIG = """version = 2
root = "{top}/root"
state = "{top}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{top}/sock"
[ttrpc]
address = "{top}/sock.ttrpc"
"""


class Containerd:
    """`ctr` on it."""

    image = "localhost/bb:latest"

    def __init__(self, top: Path) -> None:
        self.top = top
        self.runtime = runtime(top)

    def __call__(self, *args: str, status: int | None = 0, **more: object) -> subprocess.CompletedProcess[str]:
        command = ["ctr", "--address", f"{self.top}/sock", *args]
        more.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **more)  # type: ignore[call-overload]
        if status is not None:
            assert done.returncode == status, (args, done.returncode, done.stdout, done.stderr)
        return done  # type: ignore[no-any-return]

    def run(self, name: str, *args: str, flags: tuple[str, ...] = (), by: str = "", status: int | None = 0) -> str:
        """`ctr run`, with our runtime or another."""
        binary = ("--runtime", "io.containerd.runc.v2", "--runc-binary", by or self.runtime)
        return self("run", *binary, *flags, self.image, name, *args, status=status).stdout


@pytest.fixture(scope="session")
def ctr(tmp_path_factory: pytest.TempPathFactory, binaries: None) -> Iterator[Containerd]:
    if os.geteuid() != 0 or shutil.which("containerd") is None:
        need("this needs root and containerd")
    # The shims' sockets have no room for long names.
    top = tmp_path_factory.mktemp("c")
    (top / "config.toml").write_text(_CONFIG.format(top=top))
    with (top / "log").open("wb") as log:
        daemon = subprocess.Popen(["containerd", "-c", str(top / "config.toml")], stdout=log, stderr=log)
    made = Containerd(top)
    try:
        end = time.monotonic() + 30
        while made("version", status=None).returncode != 0:
            assert time.monotonic() < end, (top / "log").read_text()
            time.sleep(0.2)
        archive = top / "image.tar"
        subprocess.run(["tar", "-C", str(image(top)), "-cf", str(archive), "."], check=True, timeout=60)
        oci = top / "oci.tar"
        storage = ["--root", f"{top}/storage", "--runroot", f"{top}/run", "--storage-driver", "vfs"]
        subprocess.run(["podman", *storage, "import", "-q", str(archive), "bb"], check=True, timeout=60)
        save = ["podman", *storage, "save", "-q", "--format", "docker-archive", "-o", str(oci), "localhost/bb:latest"]
        subprocess.run(save, check=True, timeout=60)
        made("image", "import", str(oci))
        yield made
        for name in made("task", "ls", "-q").stdout.split():
            made("task", "rm", "--force", name, status=None)
        for name in made("container", "ls", "-q").stdout.split():
            made("container", "rm", name, status=None)
        made("image", "rm", made.image, status=None)
    finally:
        daemon.terminate()
        daemon.wait(timeout=30)
