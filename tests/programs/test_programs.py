"""Real programs, natively and inside, with the same output.

`host`: the host's own root, without --rootfs. `debian`: the root that tools/rootfs.py makes; natively that is a chroot
into an overlay of it, so that neither run leaves a trace.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from framework import inside

SCRIPTS = Path(__file__).resolve().parent / "scripts"
NAMES = sorted(path.name for path in SCRIPTS.iterdir())
INTERPRETERS = {"bash": "bash", "sh": "sh", "py": "python3"}
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "HOSTNAME": "rvisor",
}
SECONDS = 280


def command(name: str, directory: str) -> list[str]:
    return [INTERPRETERS[name.rpartition(".")[2]], f"{directory}/{name}"]


def make_directory() -> Path:
    path = Path(tempfile.mkdtemp(prefix="rvisor-program-", dir="/var/tmp"))
    (path / "work").mkdir()
    return path


@functools.cache
def natively(name: str, root: str) -> inside.Done:
    """On the host's kernel, started as the sandbox starts it."""
    directory = make_directory()
    env = {**ENVIRONMENT, "RVISOR_TEST_ROOT": root}
    try:
        if root == "host":
            argv = ["env", "-i", *(f"{k}={v}" for k, v in env.items()), *command(name, str(SCRIPTS))]
            return inside.run(argv, cwd=directory / "work", timeout=SECONDS)
        debian = inside.ROOT / "build" / "rootfs"
        setup = (
            'cd "$1" && mkdir upper inner merged && mount -t overlay overlay -o '
            '"lowerdir=$2,upperdir=upper,workdir=inner" merged && mkdir merged/scripts && '
            'mount --bind "$3" merged/scripts && mount -t proc proc merged/proc && '
            "mount --rbind /dev merged/dev && shift 3 && "
            'exec chroot merged env -i "$@"'
        )
        script = ["sh", "-c", setup, "sh", str(directory), str(debian), str(SCRIPTS)]
        variables = [f"{k}={v}" for k, v in env.items()]
        inner = ["sh", "-c", 'mkdir /tmp/work && cd /tmp/work && exec "$@"', "sh", *command(name, "/scripts")]
        argv = ["unshare", "--mount", "--pid", "--fork", "--propagation", "private", *script, *variables, *inner]
        return inside.run(argv, timeout=SECONDS)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def confined(name: str, root: str, platform: str) -> inside.Done:
    options = ["--platform", platform, "--timeout", str(SECONDS), "-e", f"RVISOR_TEST_ROOT={root}"]
    if root == "debian":
        options += ["--rootfs", str(inside.ROOT / "build" / "rootfs"), "-v", f"{SCRIPTS}:/scripts:ro"]
        inner = ["sh", "-c", 'mkdir /tmp/work && cd /tmp/work && exec "$@"', "sh", *command(name, "/scripts")]
        return inside.rvisor("run", *options, "--", *inner, timeout=SECONDS + 10)
    directory = make_directory()
    try:
        options += ["-w", str(directory / "work")]
        done = inside.rvisor("run", *options, "--", *command(name, str(SCRIPTS)), timeout=SECONDS + 10)
        assert os.listdir(directory / "work") == [], "the sandbox wrote to the host"
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return done


def variants() -> list[tuple[str, str, str]]:
    slots = [(name, root, "slots") for name in NAMES for root in ("host", "debian")]
    # The slow platform shows that the kernel is right; one root is enough for that.
    return [v for v in slots + [(name, "host", "ptrace") for name in NAMES] if v[2] in inside.PLATFORMS]


@pytest.mark.usefixtures("binaries")
@pytest.mark.parametrize(("name", "root", "platform"), variants())
def test_program(name: str, root: str, platform: str, request: pytest.FixtureRequest) -> None:
    if root == "debian":
        if os.geteuid() != 0:
            pytest.skip("the native half of this needs root: chroot")
        request.getfixturevalue("rootfs")
    want = natively(name, root)
    assert want.status == 0, f"natively:\n{want.out[-2000:]}\n{want.err[-2000:]}"
    got = confined(name, root, platform)
    assert got.out.splitlines() == want.out.splitlines(), got.err[-2000:]
    assert got.status == want.status
    assert got.err.splitlines() == want.err.splitlines()
