"""Who builds disk images inside: losetup, mkfs, blkid, on loop devices that only some containers have."""

from __future__ import annotations

import shutil

import pytest

from framework import inside

pytestmark = pytest.mark.usefixtures("binaries")

BUILD = """
set -e
truncate -s 16M image
device=$(losetup -f --show image)
mkfs.ext4 -q -L label "$device"
blkid -p -o value -s LABEL "$device"
losetup -n -O BACK-FILE "$device"
lsblk -n -o SIZE "$device"
fsck.ext4 -fn "$device" >/dev/null 2>&1
! mount -t ext4 "$device" /mnt 2>/dev/null
losetup -d "$device"
losetup -a
blkid -p -o value -s LABEL image
"""


@pytest.mark.skipif(not shutil.which("mkfs.ext4"), reason="needs e2fsprogs")
@pytest.mark.parametrize("right", ["--privileged", "--cap-add=SYS_ADMIN"])
def test_an_image_is_built(right: str) -> None:
    done = inside.rvisor("run", right, "-w", "/tmp", "--", "sh", "-c", BUILD)
    assert (done.status, done.out.split()) == (0, ["label", "/tmp/image", "16M", "label"]), done.err


def test_others_have_no_devices() -> None:
    tried = "mknod b b 7 0; mknod c c 10 237; cat b; cat c; ls -d /dev/loop* /sys/block/*; cat /proc/misc"
    done = inside.rvisor("run", "-w", "/tmp", "--", "sh", "-c", tried)
    assert (done.out, done.err.count("No such device or address")) == ("", 2), done.err


def test_the_right_is_not_had_from_a_namespace() -> None:
    done = inside.rvisor("run", "-w", "/tmp", "--", "sh", "-c", "mknod b b 7 0; unshare -Ur cat b")
    assert done.out == ""
    assert "cat: b" in done.err
