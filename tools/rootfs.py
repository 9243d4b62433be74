#!/usr/bin/env python3
"""Make the Debian root file system the program tests run in, once.

    tools/rootfs.py [DIR]        default: build/rootfs

Needs root, debootstrap and a reachable Debian mirror. A finished root carries a stamp with the list of
its packages: while the list stays the same, the command does nothing. A half-made root is never used:
it is built beside DIR and renamed at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SUITE = "bookworm"
MIRROR = os.environ.get("RVISOR_DEBIAN_MIRROR", "http://deb.debian.org/debian")
PACKAGES = "busybox-static,ca-certificates,file,findutils,gawk,gcc,git,grep,libc6-dev,make,perl,procps,python3,sed,tar"
SOURCE_ROOT = Path(__file__).resolve().parent.parent


def stamp() -> str:
    return f"{SUITE} {PACKAGES}\n"


def make(root: Path) -> None:
    """Build `root` unless it is there with today's packages."""
    mark = root / "etc" / "rvisor-test-root"
    if mark.is_file() and mark.read_text() == stamp():
        print(f"{root}: up to date")
        return
    if os.geteuid() != 0:
        sys.exit("tools/rootfs.py: debootstrap needs root; run it with sudo")
    if shutil.which("debootstrap") is None:
        sys.exit("tools/rootfs.py: debootstrap is not installed; apt-get install debootstrap")
    part = root.with_name(root.name + ".part")
    for old in (part, root):
        if old.exists():
            shutil.rmtree(old)
    part.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(part), MIRROR],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    for cache in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(part / cache, ignore_errors=True)
    (part / "etc" / "rvisor-test-root").write_text(stamp())
    part.rename(root)
    print(f"{root}: made")


if __name__ == "__main__":
    if len(sys.argv) > 2 or (len(sys.argv) == 2 and sys.argv[1].startswith("-")):
        sys.exit(__doc__)
    make(Path(sys.argv[1]) if len(sys.argv) == 2 else SOURCE_ROOT / "build" / "rootfs")
