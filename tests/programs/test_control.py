"""The control socket: each request with a success and an error, whatever clients send, and whatever ends meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import random
import select
import signal
import socket
import time
import tty
from collections.abc import Iterator
from typing import Any

import pytest

from rvisor import Sandbox
from rvisor._sentry import messages
from rvisor._sentry.control import Control
from rvisor._sentry.spawn import Outcome, Running
from rvisor.errors import ControlError, LaunchError, SandboxGone

pytestmark = [pytest.mark.usefixtures("binaries"), pytest.mark.timeout(120)]

ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin"}


class Box:
    """A running sandbox with its control."""

    def __init__(self, running: Running) -> None:
        assert running.control is not None
        self.running = running
        self.control = running.control

    def sh(self, script: str, **more: Any) -> tuple[int, str]:
        """Run a script as another process: its status and output."""
        process = messages.process(["sh", "-c", script], env=ENV)
        process.update(more)  # type: ignore[typeddict-item]
        read, write = os.pipe()
        with open(os.devnull) as null:
            pid = self.control.exec(process, descriptors=(null.fileno(), write, write))
        os.close(write)
        with open(read) as output:
            text = output.read()
        ended = self.control.wait(pid, timeout=30)
        assert ended is not None
        return ended.status, text

    def spawn(self, *args: str) -> int:
        """Start a program without streams worth naming; its pid."""
        with open(os.devnull, "r+") as null:
            return self.control.exec(messages.process(args, env=ENV), descriptors=[null.fileno()] * 3)

    def end(self) -> Outcome:
        with contextlib.suppress(SandboxGone):
            self.control.signal(signal.SIGKILL, pid=1)
        return self.running.wait(timeout=20)


@contextlib.contextmanager
def sandbox(*args: str, platform: str = "slots", **more: Any) -> Iterator[Box]:
    with Sandbox(platform=platform, cwd="/") as made:
        running = made.start(args or ("sleep", "1000"), control=True, **more)
        try:
            running.wait_until_loaded()
            yield Box(running)
        finally:
            running.close()


@pytest.fixture
def box(platform: str) -> Iterator[Box]:
    with sandbox(platform=platform) as made:
        yield made


def refused(errno: str, status: int = 125) -> Any:
    """The call is refused with this error."""

    @contextlib.contextmanager
    def check() -> Iterator[None]:
        with pytest.raises(ControlError) as caught:
            yield
        assert (caught.value.errno, caught.value.status) == (errno, status), caught.value

    return check()


def test_exec_is_a_process_of_the_container(box: Box) -> None:
    status, text = box.sh("echo $PPID; cat /proc/$$/stat; pwd; umask; exit 7")
    lines = text.splitlines()
    stat = lines[1].rpartition(")")[2].split()
    pid = lines[1].split()[0]
    assert (status, lines[0], lines[2], lines[3]) == (7, "0", "/", "0022")
    # A session and a group of its own, and no terminal.
    assert stat[1:5] == ["0", pid, pid, "0"]


def test_exec_as_somebody_else(box: Box) -> None:
    who = {"uid": 1234, "gid": 55, "groups": [7, 8], "umask": 0o77, "no_new_privs": True, "cwd": "/tmp"}
    script = "id -u; id -g; id -G; umask; pwd; ulimit -n; grep -E 'NoNewPrivs|CapBnd' /proc/self/status; echo $A"
    limits = [{"which": 7, "soft": 100, "hard": 200}]
    status, text = box.sh(script, rlimits=limits, env=[f"PATH={ENV['PATH']}", "A=b c"], **who)
    assert status == 0
    first = ["1234", "55", "55 7 8", "0077", "/tmp", "100"]
    assert text.splitlines() == [*first, "CapBnd:\t00000000a80425fb", "NoNewPrivs:\t1", "b c"]


def test_exec_with_capabilities(box: Box) -> None:
    sets = {"bounding": 0x21, "effective": 0x21, "inheritable": 0, "permitted": 0x21, "ambient": 0}
    _, text = box.sh("grep Cap /proc/self/status", capabilities=sets)
    assert [int(line.split()[1], 16) for line in text.splitlines()] == [0, 0x21, 0x21, 0x21, 0]
    kept = {"bounding": 0x20, "effective": 0x20, "inheritable": 0x20, "permitted": 0x20, "ambient": 0x20}
    _, text = box.sh("grep Cap /proc/self/status", capabilities=kept, uid=5)
    assert [int(line.split()[1], 16) for line in text.splitlines()] == [0x20] * 5
    with refused("EINVAL"):
        box.sh("true", capabilities=sets | {"ambient": 1})


def test_exec_is_refused_with_its_reason(box: Box) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for errno, status, process in (
        ("ENOENT", 127, messages.process(["no-such-program"], env=ENV)),
        ("ENOENT", 127, messages.process(["/no/such"], env=ENV)),
        ("ENOENT", 127, messages.process([], env=ENV)),
        ("EACCES", 126, messages.process(["/etc/passwd"], env=ENV)),
        ("EACCES", 126, messages.process(["/etc"], env=ENV)),
        ("ENOENT", 126, messages.process(["true"], env=ENV, cwd="/no/such")),
        ("ENOTDIR", 126, messages.process(["true"], env=ENV, cwd="/etc/passwd")),
        ("EINVAL", 125, messages.process(["true\0"], env=ENV)),
        ("EINVAL", 125, {**messages.process(["true"], env=ENV), "rlimits": [{"which": 16, "soft": 0, "hard": 0}]}),
        ("EINVAL", 125, {**messages.process(["true"], env=ENV), "oom_score_adj": 1001}),
        ("ENOTTY", 125, messages.process(["true"], env=ENV, terminal=True)),
    ):
        with refused(errno, status):
            box.control.exec(process, descriptors=[null] * (1 if process["terminal"] else 3))  # type: ignore[typeddict-item]
    for count in (0, 1, 2, 4, 50):
        with refused("EINVAL"):
            box.control.exec(messages.process(["true"], env=ENV), descriptors=[null] * count)
    with refused("EMSGSIZE"):
        box.control.exec(messages.process(["true", "x" * 200_000], env=ENV), descriptors=[null] * 3)
    os.close(null)
    # Nothing of them is left.
    assert [p["pid"] for p in box.control.processes()] == [1]
    assert box.sh("echo $(ls /proc/self/fd | wc -l)") == (0, "4\n")


def test_orphans_go_to_pid_1_and_the_client_may_go_away(box: Box) -> None:
    box.sh("sleep 500 >/dev/null 2>&1 & true")
    found = {p["name"]: p for p in box.control.processes() if p["pid"] != 1}
    assert found["sleep"]["ppid"] == 1


def test_a_process_outlives_its_client(tmp_path: Any) -> None:
    with listening(tmp_path) as (running, directory):
        with Control.connect(directory) as first, open(os.devnull, "r+") as null:
            pid = first.exec(messages.process(["sleep", "500"], env=ENV), descriptors=[null.fileno()] * 3)
        with Control.connect(directory) as second:
            second.subscribe()
            assert pid in [p["pid"] for p in second.processes()]
            second.signal(signal.SIGTERM, pid=pid)
            event = second.event(timeout=20)
            assert event is not None and event.exit is not None
            assert (event.pid, event.exit.status, event.exit.signal) == (pid, 143, 15)
        assert running.pid > 0


@contextlib.contextmanager
def listening(directory: Any, *args: str, **more: Any) -> Iterator[tuple[Running, str]]:
    """A sandbox with a listening socket in a directory."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.bind(str(directory / "control"))
    server.listen(128)
    with Sandbox(cwd="/") as made:
        running = made.start(args or ("sleep", "1000"), control_fd=server.fileno(), **more)
        server.close()
        try:
            running.wait_until_loaded()
            yield running, str(directory)
        finally:
            running.close()


def test_signal(box: Box) -> None:
    pid = box.spawn("sleep", "500")
    box.control.signal(0, pid=pid)
    box.control.signal(signal.SIGINT, pid=pid)
    ended = box.control.wait(pid, timeout=20)
    assert ended is not None and (ended.status, ended.signal) == (130, 2)
    nobody = [("ESRCH", 15, 4000), ("ESRCH", 0, 0), ("ESRCH", 9, -1)]
    for errno, number, target in (*nobody, ("EINVAL", 65, 1), ("EINVAL", -1, 1)):
        with refused(errno):
            box.control.signal(number, pid=target)
    pids = [box.spawn("sleep", "500") for _ in range(3)]
    box.control.signal(signal.SIGTERM)
    ends = [box.control.wait(pid, timeout=20) for pid in pids]
    assert {end.status for end in ends if end} <= {143, 137}
    assert box.running.wait(timeout=20).status == 143


def test_processes_and_stats(box: Box) -> None:
    before = box.control.stats()
    pids = {box.spawn("sleep", f"{500 + n}") for n in range(40)}
    found = {p["pid"]: p for p in box.control.processes()}
    assert pids <= set(found)
    one = found[max(pids)]
    assert (one["ppid"], one["uid"], one["name"], one["threads"]) == (0, 0, "sleep", 1)
    assert abs(one["started_ns"] / 1e9 - time.time()) < 60
    assert one["memory"] > 100_000
    end = time.monotonic() + 30
    while [p["state"] for p in box.control.processes()] != ["S"] * 41 and time.monotonic() < end:
        time.sleep(0.05)
    assert ["sleep", "539"] in [p["args"] for p in box.control.processes()]
    after = box.control.stats()
    assert after["processes"] == after["threads"] == 41
    assert after["calls"] > before["calls"] and after["uptime_ns"] > before["uptime_ns"]
    assert after["files"] >= 41 * 3
    assert not after["held"]


def test_events(platform: str) -> None:
    with sandbox("sh", "-c", "read x", stdin=os.open(os.devnull, os.O_RDONLY), platform=platform, hold=True) as box:
        box.control.subscribe()
        box.control.start()
        seen = [box.control.event(timeout=20), box.control.event(timeout=20)]
        assert [(e.pid, e.exit and e.exit.status) for e in seen if e] == [(1, None), (1, 1)]
        with pytest.raises(SandboxGone):
            box.control.event(timeout=20)


def test_exec_at_a_terminal(box: Box) -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    process = messages.process(["sh", "-i"], env=ENV | {"PS1": "> "}, terminal=True)
    pid = box.control.exec(process, descriptors=[slave])
    os.close(slave)
    seen = b""

    def until(word: bytes) -> None:
        nonlocal seen
        end = time.monotonic() + 30
        while word not in seen:
            assert time.monotonic() < end, seen
            if select.select([master], [], [], 1)[0]:
                seen += os.read(master, 4096)

    until(b"> ")
    box.control.resize(pid, rows=33, columns=99)
    os.write(master, b"stty size; tty; cat\r")
    until(b"33 99")
    until(b"/dev/pts/")
    end = time.monotonic() + 30
    while [p["state"] for p in box.control.processes() if p["name"] == "cat"] != ["S"]:
        assert time.monotonic() < end
    os.write(master, b"\x03")
    until(b"^C\r\n> ")
    os.write(master, b"exit 9\r")
    ended = box.control.wait(pid, timeout=20)
    assert ended is not None and ended.status == 9
    with pytest.raises(OSError, match="Input/output"):
        while True:
            os.read(master, 4096)
    os.close(master)
    for unfit in (1, pid):
        with refused("ENOTTY"):
            box.control.resize(unfit, rows=1, columns=1)
    assert box.sh("ls /dev/pts") == (0, "ptmx\n")


def test_a_background_job_loses_the_terminal_with_its_leader(box: Box) -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    script = "trap '' HUP; (sleep 0.2; echo late; sleep 500) & echo done; exit 3"
    pid = box.control.exec(messages.process(["sh", "-c", script], env=ENV, terminal=True), descriptors=[slave])
    os.close(slave)
    ended = box.control.wait(pid, timeout=20)
    assert ended is not None and ended.status == 3
    data = b""
    with pytest.raises(OSError, match="Input/output"):
        while True:
            data += os.read(master, 4096)
    assert data == b"done\r\n"
    os.close(master)


def test_hold(platform: str) -> None:
    read, write = os.pipe()
    with sandbox("echo", "begun", stdout=write, platform=platform, hold=True) as box:
        os.close(write)
        assert box.running.held and not box.running.started
        assert box.control.stats()["held"]
        assert [p["name"] for p in box.control.processes()] == ["echo"]
        assert box.sh("echo others run") == (0, "others run\n")
        assert select.select([read], [], [], 0.2)[0] == []
        box.control.start()
        assert box.running.wait(timeout=20).status == 0
        assert os.read(read, 100) == b"begun\n"
        os.close(read)


def test_what_ends_a_held_program(platform: str) -> None:
    with sandbox(platform=platform, hold=True) as box:
        box.control.signal(signal.SIGKILL, pid=1)
        assert box.running.wait(timeout=20).status == 137
    with sandbox(platform=platform, hold=True) as box:
        box.control.signal(signal.SIGTERM, pid=1)
        box.control.start()
        assert box.running.wait(timeout=20).status == 143
    with sandbox(platform=platform, hold=True) as box:
        box.control.start()
        with refused("EALREADY"):
            box.control.start()


@pytest.mark.parametrize(("program", "status"), [("no-such-program", 127), ("/etc/passwd", 126)])
def test_a_held_program_that_cannot_run(program: str, status: int) -> None:
    with sandbox(program, hold=True) as box:
        with pytest.raises(LaunchError) as caught:
            box.running.wait(timeout=20)
        assert caught.value.status == status


def raw(control: Control, data: bytes, descriptors: list[int] | None = None) -> Any:
    """What is answered to these bytes."""
    sock = control._socket
    sock.settimeout(20)
    socket.send_fds(sock, [data], descriptors or [])
    return json.loads(sock.recv(1 << 18))


def test_garbage(box: Box) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    chance = random.Random(1)
    good = json.dumps({"id": 5, "call": {"exec": {"process": messages.process(["true"], env=ENV)}}}).encode()
    for _ in range(300):
        data = bytearray(good if chance.random() < 0.7 else chance.randbytes(chance.randrange(1, 3000)))
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        answer = raw(box.control, bytes(data), [null] * chance.choice((0, 0, 1, 2, 3, 4, 20)))
        assert "error" in answer or "reply" in answer, answer
        # A change of a letter may have left it a request for another program.
        if "reply" in answer and "exec" in answer["reply"]["answer"]:
            box.control._take(json.loads(box.control._socket.recv(1 << 18)))
    for data in (b"[" * 100_000, b'{"id":' * 20_000, b"\0", b'"' + b"\\u0000" * 10_000 + b'"', b"1" * 190_000):
        assert raw(box.control, data)["error"]["errno"] == "EINVAL"
    assert raw(box.control, b"x" * 197_000)["error"]["errno"] == "EMSGSIZE"
    unknown = b'{"id":9,"call":{"signal":{"number":9,"pid":1,"why":"?"}}}'
    assert raw(box.control, unknown)["error"]["id"] == 9
    os.close(null)
    assert box.sh("ls /proc/self/fd | wc -l") == (0, "4\n")


def test_clients_that_go_away(tmp_path: Any) -> None:
    request = json.dumps({"id": 1, "call": {"exec": {"process": messages.process(["sleep", "0.3"], env=ENV)}}}).encode()
    with listening(tmp_path) as (_, directory), open(os.devnull, "r+") as null:
        for stage in range(60):
            client = Control.connect(directory)
            sock = client._socket
            if stage % 6 == 1:
                sock.send(b"\xff{")
            elif stage % 6 == 2:
                socket.send_fds(sock, [request], [null.fileno()] * 3)
            elif stage % 6 == 3:
                socket.send_fds(sock, [request], [null.fileno()] * 3)
                sock.recv(1000)
            elif stage % 6 == 4:
                sock.send(b"")
            elif stage % 6 == 5:
                sock.shutdown(socket.SHUT_RD)
                sock.send(b'{"id":1,"call":{"processes":{}}}')
            client.close()
        # More than may be connected at once.
        crowd = [Control.connect(directory) for _ in range(300)]
        for client in crowd[:100]:
            client.close()
        for client in crowd[100:]:
            assert client.stats()["processes"] >= 1
            client.close()
        with Control.connect(directory) as client:
            end = time.monotonic() + 20
            while client.stats()["processes"] > 1 and time.monotonic() < end:
                time.sleep(0.05)
            assert client.stats()["processes"] == 1


def test_a_client_that_does_not_read_holds_up_nobody(tmp_path: Any) -> None:
    with listening(tmp_path) as (_, directory):
        deaf = Control.connect(directory)._socket
        deaf.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 5000:
                deaf.send(b'{"id":1,"call":{"stats":{}}}')
                sent += 1
        with Control.connect(directory) as client:
            assert client.stats()["processes"] == 1
        # It gets all its answers when it reads at last.
        deaf.settimeout(20)
        assert all(b'"reply"' in deaf.recv(1 << 18) for _ in range(sent))
        deaf.close()


def test_a_hundred_at_once(box: Box) -> None:
    process = messages.process(["sh", "-c", "echo x; exit 5"], env=ENV)
    pids, outputs = [], []
    for _ in range(100):
        read, write = os.pipe()
        with open(os.devnull) as null:
            pids.append(box.control.exec(process, descriptors=(null.fileno(), write, write)))
        os.close(write)
        outputs.append(open(read))  # noqa: SIM115
    assert len(set(pids)) == 100
    ends = [box.control.wait(pid, timeout=60) for pid in pids]
    assert {end.status for end in ends if end} == {5} and None not in ends
    for output in outputs:
        assert output.read() == "x\n"
        output.close()
    assert [p["pid"] for p in box.control.processes()] == [1]


def test_pid_1_ends_meanwhile(platform: str) -> None:
    for delay in ("0.05", "0.1", "0.2"):
        with sandbox("sleep", delay, platform=platform) as box:
            with pytest.raises(SandboxGone):
                while True:
                    box.spawn("sleep", "500")
            # All that was told of the end is that they were killed.
            with pytest.raises(SandboxGone):
                while True:
                    event = box.control.event(timeout=5)
                    assert event is not None and event.exit is not None and event.exit.status == 137
            assert box.running.wait(timeout=20).status == 0


def test_the_limit_of_processes() -> None:
    with Sandbox(pids=5, cwd="/") as made:
        running = made.start(["sleep", "1000"], control=True)
        try:
            running.wait_until_loaded()
            box = Box(running)
            for _ in range(4):
                box.spawn("sleep", "500")
            with refused("EAGAIN"):
                box.spawn("sleep", "500")
        finally:
            running.close()
