"""A directory that the host changes while the guest looks: what the guest is told is never stale."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from framework import host

LOOK = """
import os, sys
for line in sys.stdin:
    name = line.strip()
    try:
        for _ in range(5):
            st = os.stat(name)
        with open(name, "rb") as f:
            text = f.read()
        print(st.st_ino, st.st_size, st.st_nlink, st.st_mode, text.decode(), flush=True)
    except OSError as e:
        print(e.strerror, flush=True)
"""


def on_host(path: Path) -> str:
    try:
        st = path.stat()
    except OSError as e:
        return str(e.strerror)
    return f"{st.st_ino} {st.st_size} {st.st_nlink} {st.st_mode} {path.read_text()}"


@pytest.mark.usefixtures("binaries")
def test_the_host_changes_names_and_files(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    a, b, d = shared / "a", shared / "b", shared / "d"
    d.mkdir()
    steps = [
        lambda: a.write_text("first"),
        lambda: None,
        lambda: (b.write_text("other!"), os.rename(b, a)),
        lambda: None,
        lambda: a.chmod(0o600),
        lambda: os.link(a, b),
        lambda: os.unlink(b),
        lambda: (os.rename(a, d / "a"), a.write_text("new in its place")),
        lambda: a.write_text("shorter"),
        lambda: os.unlink(a),
        lambda: None,
        lambda: os.rename(d / "a", a),
        lambda: (os.unlink(a), a.mkdir()),
    ]
    args = ["run", "-i", "-v", f"{shared}:/shared", "-w", "/shared", "--", "python3", "-c", LOOK]
    with host.start(*args, stdin=subprocess.PIPE) as guest:
        assert guest.stdin is not None
        assert guest.stdout is not None
        for number, step in enumerate(steps):
            step()
            for turn in range(3):
                guest.stdin.write(b"a\n")
                guest.stdin.flush()
                told = guest.stdout.readline().decode().rstrip("\n")
                if a.is_dir():
                    assert told == "Is a directory", (number, turn)
                else:
                    assert told == on_host(a), (number, turn)
        guest.stdin.close()
        assert guest.wait(timeout=20) == 0
