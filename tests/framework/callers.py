"""Callers of the runtime, with storage, state and networks in a directory of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from framework.bundle import ROOT, need

UNUSED_PORT = 18_732
_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")


def runtime(top: Path) -> str:
    """An executable that calls the `runrsc` of this tree."""
    path = top / "runrsc"
    bin_dir = os.environ.get("RVISOR_BIN_DIR", "")
    path.write_text(
        "#!/bin/sh\n"
        + (f"export RVISOR_BIN_DIR={bin_dir}\n" if bin_dir else "")
        + f'exec {sys.executable} -I -S {ROOT}/python/rvisor/oci/__main__.py "$@"\n'
    )
    path.chmod(0o755)
    return str(path)


def image(top: Path) -> Path:
    """The root of a busybox image."""
    root = top / "image"
    for name in ("bin", "etc", "tmp", "root", "proc", "dev", "sys"):
        (root / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    if busybox is None:
        need("busybox-static is not installed")
    shutil.copy2(str(busybox), root / "bin" / "busybox")
    subprocess.run(["chroot", str(root), "/bin/busybox", "--install", "-s", "/bin"], check=True, timeout=30)
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\nuser:x:1000:\n")
    return root


class Podman:
    """`podman` on a storage of its own."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.runtime = runtime(top)

    def __call__(
        self, *args: str, status: int | None = 0, by: str = "", stdin: str = "", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run it with this runtime, ours if none is named; its exit status must be `status`, unless that is None."""
        top = self.top
        command = ["podman", "--root", f"{top}/storage", "--runroot", f"{top}/run", "--tmpdir", f"{top}/tmp"]
        command += ["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]
        command += ["--network-config-dir", f"{top}/net", "--runtime", by or self.runtime]
        if args[0] in ("run", "create"):
            args = (args[0], *_LIMITS, *args[1:])
        done = subprocess.run(
            [*command, *args], input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        if status is not None:
            assert done.returncode == status, (args, done.returncode, done.stdout, done.stderr)
        return done

    def said(self, *args: str, **more: str) -> str:
        """What it prints."""
        return self(*args, **more).stdout.strip()
