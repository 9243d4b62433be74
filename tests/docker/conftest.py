"""Docker, on runc and on runrsc: not part of the default run, as it needs a daemon and minutes. `make test-docker`."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework import dockerd
from framework.bundle import need
from framework.compile import static
from framework.dockerd import Daemon, Docker

if not os.environ.get("RVISOR_DOCKER"):
    collect_ignore_glob = ["test_*.py"]

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def daemon(binaries: None, rootfs: Path) -> Iterator[Daemon]:
    """A daemon with the images busybox, debian and single, and a look at what is left at its end."""
    if lacking := dockerd.missing():
        need(f"not installed: {', '.join(lacking)}")
    made = Daemon(Path(tempfile.mkdtemp(prefix="rvisor-program-docker-")))
    try:
        made.start()
        _images(made, rootfs)
        yield made
    finally:
        made.stop()
    assert made.stayed == []


def _images(daemon: Daemon, rootfs: Path) -> None:
    context = daemon.top / "context"
    (context / "bin").mkdir(parents=True)
    busybox = shutil.which("busybox")
    if busybox is None:
        need("busybox-static is not installed")
    shutil.copy2(str(busybox), context / "bin" / "busybox")
    for name in subprocess.check_output([str(busybox), "--list"], text=True).split():
        if name != "busybox":
            (context / "bin" / name).symlink_to("busybox")
    for name in ("tmp", "etc", "root", "var"):
        (context / name).mkdir()
    (context / "tmp").chmod(0o1777)
    (context / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n")
    (context / "etc" / "group").write_text("root:x:0:\nuser:x:1000:\nextra:x:2000:\n")
    _import(daemon, context, "busybox")
    _import(daemon, rootfs, "debian")
    single = daemon.top / "single"
    single.mkdir()
    shutil.copy2(static(HERE / "single.c"), single / "single")
    (single / "Dockerfile").write_text('FROM scratch\nCOPY single /single\nENTRYPOINT ["/single"]\n')
    built = daemon("build", "-q", "-t", "single", str(single))
    assert built.status == 0, built


def _import(daemon: Daemon, directory: Path, name: str) -> None:
    with subprocess.Popen(["tar", "-C", str(directory), "-c", "."], stdout=subprocess.PIPE) as packed:
        subprocess.run(
            daemon.command("import", "--change", "CMD sh", "-", name),
            stdin=packed.stdout, stdout=subprocess.DEVNULL, check=True, timeout=240,
        )  # fmt: skip


@pytest.fixture
def docker(daemon: Daemon) -> Iterator[Docker]:
    """Docker on runrsc, on the kernel that is tested."""
    made = Docker(daemon, dockerd.OURS)
    yield made
    made.close()


@pytest.fixture
def runc(daemon: Daemon) -> Iterator[Docker]:
    """Docker on runc."""
    made = Docker(daemon, "runc")
    yield made
    made.close()
