"""`rvisor ps`, `exec`, `top` and `kill` on running sandboxes, and the same from Python."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path

import pytest

from framework import host
from framework.inside import ROOT, rvisor
from rvisor import Sandbox
from rvisor.errors import ControlError, GuestFailed, SandboxGone, UsageError

pytestmark = [pytest.mark.usefixtures("binaries"), pytest.mark.timeout(120)]

SERVE = "echo up; exec sleep 1000"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sandboxes of these tests are listed apart from all others."""
    place = tmp_path / "a-directory-whose-name-is-longer-than-the-name-of-a-socket-may-be" / ("x" * 80)
    monkeypatch.setenv("RVISOR_RUNTIME_DIR", str(place))
    return place


@pytest.fixture
def web() -> Iterator[subprocess.Popen[bytes]]:
    with host.sandbox("run", "--name", "web", "-e", "A=b", "-w", "/tmp", "--", "sh", "-c", SERVE, ready="up") as box:
        yield box


def listed() -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(rvisor("ps", "--json").out)
    return found


def test_ps(directory: Path, web: subprocess.Popen[bytes]) -> None:
    with host.sandbox("run", "--", "sh", "-c", SERVE, ready="up") as other:
        found = listed()
        assert [about["name"] == "web" for about in found] == [True, False]
        assert [about["pid"] for about in found] == [web.pid, other.pid]
        assert found[0]["command"] == ["sh", "-c", SERVE]
        assert rvisor("ps", "-q").out.split() == [about["id"] for about in found]
        assert "web" in rvisor("ps").out
        other.send_signal(signal.SIGTERM)
        assert host.status(other).status == 143
        assert [about["name"] for about in listed()] == ["web"]
        assert os.listdir(directory) == ["web"]
    # Killed, it cannot clean up: it is not listed all the same, and its name is free.
    web.kill()
    web.wait()
    assert host.until(lambda: listed() == [])
    assert not directory.exists() or os.listdir(directory) == []


def test_what_is_left_of_the_dead(directory: Path) -> None:
    for name in ("dead", "empty", ".new-old"):
        (directory / name).mkdir(parents=True)
    gone = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.chdir(directory)
    gone.bind("dead/control")
    gone.close()
    os.chdir("/")
    os.utime(directory / ".new-old", (0, 0))
    done = rvisor("run", "--name", "dead", "--", "true")
    assert (done.status, done.err) == (0, "")
    assert listed() == []
    assert not directory.exists() or os.listdir(directory) == []


def test_names(web: subprocess.Popen[bytes]) -> None:
    taken = rvisor("run", "--name", "web", "--", "true")
    assert (taken.status, "runs already" in taken.err) == (125, True)
    for bad in ("", "..", ".a", "a/b", "x" * 65, "ä"):
        assert "is not a name" in rvisor("run", f"--name={bad}", "--", "true").err
    for command in (["exec", "nobody", "true"], ["top", "nobody"], ["kill", "nobody"]):
        done = rvisor(*command)
        assert done.status == (125 if command[0] == "exec" else 2)
        assert "no running sandbox 'nobody'" in done.err
    identity = str(listed()[0]["id"])
    assert rvisor("exec", identity[:8], "echo", "x").out == "x\n"


def test_without_a_place_to_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RVISOR_RUNTIME_DIR", "/proc/nowhere")
    assert rvisor("run", "--", "echo", "x").out == "x\n"
    named = rvisor("run", "--name", "n", "--", "true")
    assert (named.status, "cannot be listed" in named.err) == (125, True)


def test_exec(web: subprocess.Popen[bytes]) -> None:
    assert rvisor("exec", "web", "sh", "-c", "echo $A $B; pwd; exit 3").out == "b\n/tmp\n"
    done = rvisor(
        "exec", "-e", "B=c", "-w", "/", "-u", "7:8", "web", "--", "sh", "-c", "echo $A $B; pwd; id -u; exit 3"
    )
    assert (done.status, done.out, done.err) == (3, "b c\n/\n7\n", "")
    assert rvisor("exec", "-i", "web", "cat", stdin="some text").out == "some text"
    assert rvisor("exec", "web", "cat", stdin="some text").out == ""
    assert rvisor("exec", "web", "sh", "-c", "kill -9 $$").status == 137
    for command, status in ((["nothing"], 127), (["/etc/passwd"], 126)):
        done = rvisor("exec", "web", *command)
        assert (done.status, f"cannot run {command[0]}" in done.err) == (status, True)
    assert rvisor("exec", "-w", "/none", "web", "true").status == 126
    for usage in (["exec"], ["exec", "web"], ["exec", "-td", "web", "sh"], ["exec", "-w", "x", "web", "sh"]):
        assert rvisor(*usage).status == 125
    # What it changes the others see.
    assert rvisor("exec", "web", "sh", "-c", "echo here >/tmp/left").status == 0
    assert rvisor("exec", "web", "cat", "/tmp/left").out == "here\n"


def test_detached_and_top_and_kill(web: subprocess.Popen[bytes]) -> None:
    assert rvisor("exec", "-d", "web", "sleep", "777").status == 0
    assert "sleep 777" in rvisor("top", "web").out
    found = json.loads(rvisor("top", "--json", "web").out)
    assert [p["ppid"] for p in found["processes"]] == [0, 0]
    assert found["stats"]["processes"] == 2
    assert rvisor("kill", "-s", "NOSUCH", "web").status == 2
    assert rvisor("kill", "-s", "0", "web").status == 2
    assert rvisor("kill", "-a", "-s", "SIGTERM", "web").status == 0
    assert host.status(web).status == 143


def test_signals_go_to_the_program(web: subprocess.Popen[bytes]) -> None:
    program = "trap 'echo got; exit 6' INT; echo ready; while :; do sleep 0.1; done"
    with host.sandbox("exec", "web", "sh", "-c", program, ready="ready") as client:
        client.send_signal(signal.SIGINT)
        done = host.status(client)
        assert (done.status, done.out) == (6, "got\n")


def test_the_sandbox_ends_under_a_program(web: subprocess.Popen[bytes]) -> None:
    with host.sandbox("exec", "web", "sh", "-c", SERVE, ready="up") as client:
        assert rvisor("kill", "web").status == 0
        assert host.status(client).status == 137
    assert host.status(web).status == 137


def test_at_a_terminal(web: subprocess.Popen[bytes]) -> None:
    pid, master = pty.fork()
    if pid == 0:
        os.environ["PYTHONPATH"] = str(ROOT / "python")
        os.execv(sys.executable, [sys.executable, "-m", "rvisor", "exec", "-it", "-e", "PS1=> ", "web", "sh", "-i"])
    seen = b""

    def until(word: bytes) -> None:
        nonlocal seen
        end = time.monotonic() + 30
        while word not in seen:
            assert time.monotonic() < end, seen
            if select.select([master], [], [], 1)[0]:
                seen += os.read(master, 4096)
        seen = seen[seen.index(word) + len(word) :]

    until(b"> ")
    ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 123, 0, 0))
    # It takes a moment until the size has travelled.
    os.write(master, b"while [ \"$(stty size)\" != '44 123' ]; do sleep 0.05; done; stty size\r")
    until(b"\n44 123")
    os.write(master, b"echo $((6 * 7)); exit 5\r")
    until(b"42")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    os.close(master)


def test_capabilities() -> None:
    """What `run` gives its root, another program of the sandbox has too; nobody else gains anything."""
    masks = "grep -E 'Cap(Prm|Bnd)' /proc/self/status"
    with host.sandbox(
        "run", "--name", "box", "--cap-drop", "ALL", "--cap-add", "SYS_ADMIN", "--", "sh", "-c", SERVE, ready="up"
    ):
        assert [line.split()[1] for line in rvisor("exec", "box", "sh", "-c", masks).out.splitlines()] == [
            f"{1 << 21:016x}"
        ] * 2
        assert rvisor("exec", "box", "mount", "-t", "tmpfs", "none", "/mnt").status == 0
        other = rvisor("exec", "-u", "1000", "box", "sh", "-c", f"{masks}; mount -t tmpfs none /srv")
        assert other.status != 0
        assert [line.split()[1] for line in other.out.splitlines()[:2]] == ["0" * 16, f"{1 << 21:016x}"]
    assert "1ffffffffff" in rvisor("run", "--privileged", "--", "sh", "-c", masks).out
    assert rvisor("run", "--", "mount", "-t", "tmpfs", "none", "/mnt").status != 0


def test_from_python() -> None:
    with Sandbox(env={"A": "b"}, cwd="/tmp") as box:
        running = box.start(["sleep", "1000"], control=True)
        result = box.exec(
            running, ["sh", "-c", "echo $A $B; pwd; cat; echo no >&2; exit 4"], capture=True, env={"B": "c"}
        )
        assert (result.status, result.stdout, result.stderr) == (4, b"b c\n/tmp\n", b"no\n")
        assert box.exec(running, ["cat"], input=b"x" * 300_000, capture=True).stdout == b"x" * 300_000
        assert box.exec(running, ["id", "-u"], user="9", cwd="/", capture=True).stdout == b"9\n"
        late = box.exec(running, ["sleep", "100"], timeout=0.3)
        assert (late.status, late.timed_out) == (124, True)
        assert box.exec(running, ["sh", "-c", "kill -TERM $$"]).signal == 15
        with pytest.raises(GuestFailed):
            box.exec(running, ["false"], check=True)
        with pytest.raises(ControlError) as caught:
            box.exec(running, ["nothing"])
        assert caught.value.status == 127
        with pytest.raises(UsageError):
            box.exec(running, [])
        assert running.control is not None
        running.control.signal(signal.SIGKILL, pid=1)
        with pytest.raises(SandboxGone):
            while True:
                box.exec(running, ["true"])
        assert running.wait(timeout=20).status == 137
        other = box.start(["true"])
        with pytest.raises(UsageError):
            box.exec(other, ["true"])
        other.close()
