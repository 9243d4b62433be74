"""Two sandboxes at once do not see each other."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from framework import host

# Makes things to be found, says so, and stays. It counts the signals it gets.
ONE = r"""
import os, signal, socket, sys, time
got = []
for number in set(signal.valid_signals()) - {9, 19, 17, 32, 33}:
    signal.signal(number, lambda number, frame: got.append(number))
open("/tmp/mark-of-one", "w").write("one\n")
open("/dev/shm/mark-of-one", "w").write("one\n")
os.mkfifo("/tmp/fifo-of-one")
made = []
try:
    s = socket.socket(socket.AF_UNIX); s.bind("/tmp/socket-of-one"); s.listen(); made.append("unix")
    a = socket.socket(socket.AF_UNIX); a.bind("\0abstract-of-one"); a.listen(); made.append("abstract")
except OSError as error:
    made.append(f"no sockets: {error.strerror}")
children = []
for i in range(40):
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(1000)
    children.append(pid)
print("ready", flush=True)
sys.stdin.readline()
alive = sum(os.waitpid(pid, os.WNOHANG) == (0, 0) for pid in children)
print(os.getpid(), alive, got, open("/tmp/mark-of-one").read().strip(), os.listdir("/proc").count("41"), flush=True)
os._exit(21)
"""

# Looks for them, and does its best to do harm.
TWO = r"""
import errno, os, signal, socket, sys
found = []
for path in ("/tmp/mark-of-one", "/dev/shm/mark-of-one", "/tmp/fifo-of-one", "/tmp/socket-of-one"):
    found += [path] if os.path.lexists(path) else []
for address in ("/tmp/socket-of-one", "\0abstract-of-one"):
    try:
        s = socket.socket(socket.AF_UNIX); s.connect(address); found.append(repr(address))
    except OSError:
        pass
pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
found += [f"processes {pids}"] if pids != [os.getpid()] else []
reached = []
for pid in list(range(2, 5000)):
    for call in (lambda: os.kill(pid, signal.SIGKILL), lambda: os.killpg(pid, signal.SIGKILL)):
        try:
            call(); reached.append(pid)
        except ProcessLookupError:
            pass
try:
    os.kill(-1, signal.SIGTERM); reached.append(-1)
except ProcessLookupError:
    pass
open("/tmp/mark-of-one", "w").write("two\n")
open("/etc/passwd", "w").write("two\n")
print(os.getpid(), found, reached, flush=True)
os._exit(22)
"""


@pytest.fixture
def one() -> Iterator[subprocess.Popen[bytes]]:
    with host.sandbox("run", "-i", "--", "python3", "-c", ONE, ready="ready", stdin=subprocess.PIPE) as box:
        yield box


def test_they_do_not_see_each_other(one: subprocess.Popen[bytes]) -> None:
    passwd = Path("/etc/passwd").read_bytes()
    two = host.status(host.start("run", "--", "python3", "-c", TWO))
    assert (two.status, two.out, two.err) == (22, "1 [] []\n", "")
    assert one.stdin is not None
    one.stdin.write(b"\n")
    one.stdin.flush()
    first = host.status(one)
    # All its children live, no signal came, its file is its own; and it does see its own 41st process.
    assert (first.status, first.out, first.err) == (21, "1 40 [] one 1\n", "")
    assert Path("/etc/passwd").read_bytes() == passwd
    for path in ("/tmp/mark-of-one", "/dev/shm/mark-of-one", "/tmp/fifo-of-one", "/tmp/socket-of-one"):
        assert not os.path.lexists(path)


def test_neither_sees_the_host(one: subprocess.Popen[bytes]) -> None:
    """Nothing of the host's processes is in /proc, and no number reaches them."""
    script = (
        'ls /proc | grep -c "^[0-9]"; kill -0 $1 2>/dev/null && echo reached; '
        "readlink /proc/1/exe; cat /proc/1/comm; true"
    )
    done = host.status(host.start("run", "--", "bash", "-c", script, "bash", str(os.getpid())))
    assert done.out.splitlines()[1:] == ["/usr/bin/bash", "bash"]
    assert int(done.out.splitlines()[0]) <= 3


def test_a_shared_directory_is_all_they_share(tmp_path: Path) -> None:
    """With the same volume they do see each other's files, so the look itself can succeed; fifos stay apart."""
    tmp_path.chmod(0o777)
    mount = f"{tmp_path}:/shared"
    script = (
        'echo mine > "/shared/$1"; touch /tmp/$1; while ! [ -e "/shared/$2" ]; do :; done; cat "/shared/$2"; ls /tmp'
    )
    with ExitStack() as stack:
        boxes = [
            stack.enter_context(host.sandbox("run", "-v", mount, "--", "bash", "-c", script, "bash", me, other))
            for me, other in (("a", "b"), ("b", "a"))
        ]
        time.sleep(0.1)
        ends = [host.status(box) for box in boxes]
    for me, done in zip("ab", ends, strict=True):
        assert done.status == 0
        lines = done.out.splitlines()
        assert lines[0] in ("mine", "")
        assert me in lines
        assert ({"a", "b"} - {me}).isdisjoint(lines)
