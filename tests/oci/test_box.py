"""`runrsc box` and the control socket: the first rVisor's client, its words and its three verbs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework import host
from framework.bundle import GROUPS, ROOT, Runtime
from rvisor.oci.box import waiting_program


@pytest.fixture
def box(runrsc: Runtime) -> Iterator[Runtime]:
    yield runrsc
    while runrsc("box", "shutdown", status=None).returncode == 0:
        continue
    assert not Path(f"{runrsc.root}-boxes").exists()


def made(box: Runtime, *more: str) -> str:
    return box("box", "create", str(box.bundle / "rootfs"), *more).stdout.strip()


def test_the_program_that_waits() -> None:
    """It is an executable of the host's as well: it stays, and takes SIGTERM."""
    path = Path("/dev/shm") / f"rvisor-program-{os.getpid()}"
    path.write_bytes(waiting_program())
    path.chmod(0o755)
    try:
        started = subprocess.Popen([str(path)])
        time.sleep(0.2)
        assert started.poll() is None
        ignored = re.search(r"SigIgn:\s*(\w+)", Path(f"/proc/{started.pid}/status").read_text())
        assert ignored
        assert int(ignored[1], 16) & 1 << signal.SIGCHLD - 1
        started.terminate()
        assert started.wait(10) == -signal.SIGTERM
    finally:
        path.unlink()


def test_a_life(box: Runtime) -> None:
    assert made(box) == "1"
    done = box("box", "exec", "/bin/env", "-env", "A=b c", "-env", "E=")
    assert done.stdout == "A=b c\nE=\nPWD=/\n"
    assert re.fullmatch(r"\[INFO\] son process = \d+\n", done.stderr)
    assert box("box", "exec", "/bin/pwd").stdout == "/\n"
    assert box("box", "exec", "/bin/sh", "--", "-c", "echo $0 $1; exit 7", "x", "y", status=7).stdout == "x y\n"
    null = subprocess.DEVNULL
    box("box", "exec", "/bin/sleep", "100", "&", stdout=null, stderr=null)
    lines = box("box", "ps").stdout.splitlines()
    assert lines[0] == "  PID TTY          TIME CMD"
    assert [line.split()[1:] for line in lines[1:]] == [["?", "00:00:00", "sleep"]]
    pid = lines[1].split()[0]
    assert box("box", "shutdown").stdout == f"[INFO] {pid} has been killed.\n"
    assert "there is no box" in box("box", "ps", status=1).stderr


def test_limits(box: Runtime) -> None:
    made(box)
    files = list(GROUPS.glob("memory/runrsc-1-*/memory.limit_in_bytes")) or list(GROUPS.glob("runrsc-1-*/memory.max"))
    assert [int(f.read_text()) for f in files if f.parent.is_dir()] == [64 << 20]
    swappiness = [f.parent / "memory.swappiness" for f in files if (f.parent / "memory.swappiness").exists()]
    assert all(f.read_text() == "0\n" for f in swappiness)
    assert made(box, "--memory", "128m", "--swappiness", "10") == "2"
    assert box("box", "exec", "--box", "1", "/bin/true").returncode == 0
    # What is written in one is in the directory, as it is the same.
    box("box", "exec", "/bin/sh", "--", "-c", "echo hello > /tmp/f")
    assert (box.bundle / "rootfs" / "tmp" / "f").read_text() == "hello\n"
    assert sorted(p.name for p in (box.bundle / "rootfs" / "dev").iterdir()) == []


def test_orphans_are_reaped(box: Runtime) -> None:
    made(box)
    box("box", "exec", "/bin/sh", "--", "-c", "sh -c 'sleep 0.2 & sleep 0.3 &'; true")
    assert host.until(lambda: len(box("box", "ps").stdout.splitlines()) == 1)


def test_refused(box: Runtime) -> None:
    for args, why in [
        (("create",), "expects ROOT"),
        (("create", "/nowhere"), "/nowhere: not a directory"),
        (("create", "/", "--memory", "x"), "--memory is a size"),
        (("create", "/", "--memory", "1m"), "too small"),
        (("exec", "/bin/true"), "there is no box"),
        (("ps", "--box", "9"), "there is no box 9"),
        (("ps", "--box", "x"), "is no id"),
        (("what",), "there is no verb 'what'"),
    ]:
        box.refused("box", *args, why=why)
    made(box)
    for args, why in [
        (("exec",), "expects the path"),
        (("exec", "bin/true"), "expects the path"),
        (("exec", "/bin/true", "-env", "A"), "NAME=VALUE"),
        (("exec", "/nothing"), "no such file"),
    ]:
        box.refused("box", *args, why=why)
    assert box("box", "exec", "/nothing", status=127).returncode == 127


def test_the_benchmark_of_a_program(box: Runtime) -> None:
    made(box)
    assert box("box", "benchmark", "/bin/echo").stdout == "\n"


CLIENT = """
import sys
from rvisor.oci.device import Device
with Device(sys.argv[1]) as device:
    box = device.create(sys.argv[2])
    print(box, flush=True)
    device.add_self(box, "/bin/sh", ["-c", "echo inside $A; ls /; exit 9"], ["A=b"])
"""


@pytest.fixture
def served(box: Runtime) -> Iterator[str]:
    path = f"{box.root}.sock"
    env = dict(os.environ, PYTHONPATH=str(ROOT / "python"))
    command = [sys.executable, "-m", "rvisor.oci", "--root", str(box.root), "box", "serve", "--socket", path]
    server = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert "ready to accept" in server.stdout.readline()
    yield path
    server.terminate()
    assert server.wait(20) == 0
    assert not os.path.exists(path)


def test_three_verbs(box: Runtime, served: str) -> None:
    from rvisor.oci.device import Device
    from rvisor.oci.errors import OciError

    env = dict(os.environ, PYTHONPATH=str(ROOT / "python"))
    command = [sys.executable, "-c", CLIENT, served, str(box.bundle / "rootfs")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 9, done.stderr
    assert done.stdout.startswith("1\ninside b\nbin\n")
    with Device(served) as device:
        device.remove(1)
        with pytest.raises(OciError, match="there is no box 1"):
            device.remove(1)
        with pytest.raises(OciError, match="not a directory"):
            device.create("/nowhere")
        with pytest.raises(OciError, match="there is no box 7"):
            device.add_self(7, "/bin/true")
    assert os.stat(served).st_mode & 0o777 == 0o600


def test_bad_messages(box: Runtime, served: str) -> None:
    """Each is answered, and the next one is heard."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as raw:
        raw.connect(served)
        for text in (b"{", b"[]", b"7", b'{"verb": 1}', b'{"verb": "CREATE"}', b'{"verb": "REMOVE", "id": "1"}',
                     b'{"verb": "REMOVE", "id": true}', b"\xff" * 1000, b"[" * 60000, b'{"verb": "KILL"}'):  # fmt: skip
            raw.send(text)
            assert b'"error"' in raw.recv(65536), text[:40]
    box.refused("box", "serve", "--socket", served, why="somebody serves it already")


def test_the_benchmark(box: Runtime) -> None:
    if shutil.which("cc") is None or os.environ.get("RVISOR_LONG") is None:
        pytest.skip("RVISOR_LONG=1 runs it")
    made(box)
    lines = box("box", "benchmark", timeout=280).stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "host",
        "Writting disk",
        "Mkdir/Rmdir",
        "box",
        "Writting disk",
        "Mkdir/Rmdir",
    ]
