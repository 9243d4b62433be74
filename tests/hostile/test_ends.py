"""How a run ends, and what reaches the program: statuses, signals, streams, limits."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from framework import host, inside


def test_timeout() -> None:
    begun = time.monotonic()
    done = inside.rvisor("run", "--timeout", "1", "--", "sleep", "60")
    took = time.monotonic() - begun
    assert (done.status, done.out, done.err) == (124, "", "rvisor: timed out after 1 s: killed\n")
    assert 1 <= took < 30


def test_timeout_of_a_program_that_will_not_listen() -> None:
    script = "trap '' TERM INT HUP; while :; do :; done & while :; do :; done"
    done = inside.rvisor("run", "--timeout", "0.5", "--", "bash", "-c", script)
    assert (done.status, done.err) == (124, "rvisor: timed out after 0.5 s: killed\n")


def test_no_timeout_before_its_time() -> None:
    done = inside.rvisor("run", "--timeout", "30", "--", "sh", "-c", "exit 9")
    assert (done.status, done.err) == (9, "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT, signal.SIGPIPE])
def test_killed_by_a_signal(number: signal.Signals) -> None:
    """A child's death, as the shell tells it; and the first process's, by SIGKILL, which even it cannot refuse."""
    done = inside.rvisor("run", "--", "sh", "-c", f"sh -c 'kill -{int(number)} $$'; exit $?")
    assert done.status == 128 + number
    if number == signal.SIGKILL:
        done = inside.rvisor("run", "--", "sh", "-c", "kill -9 $$")
        assert (done.status, done.err) == (137, "")


def test_every_exit_status() -> None:
    script = (
        "import os\nfor i in range(256):\n pid = os.fork()\n if pid == 0: os._exit(i)\n"
        " print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    done = inside.rvisor("run", "--", "python3", "-c", script)
    assert done.out.split() == [str(i) for i in range(256)]


@pytest.mark.parametrize("status", [0, 1, 2, 77, 124, 125, 126, 127, 128, 137, 143, 254, 255])
def test_exit_status(status: int) -> None:
    """Those the command gives a meaning to, too: what it says beside them makes the difference."""
    done = inside.rvisor("run", "--", "sh", "-c", f"exit {status}")
    assert (done.status, done.out, done.err) == (status, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT])
def test_a_signal_reaches_the_program(number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    # A child would have the signal, too, and bash says so if it was there already.
    script = f"trap 'echo got {name}; exit 3' {name}; echo ready; while :; do :; done"
    with host.sandbox("run", "--", "bash", "-c", script, ready="ready") as box:
        box.send_signal(number)
        done = host.status(box, 20)
    assert (done.status, done.out, done.err) == (3, f"got {name}\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_nobody_handles_ends_it(number: signal.Signals) -> None:
    with host.sandbox("run", "--", "bash", "-c", "echo ready; exec sleep 1000", ready="ready") as box:
        time.sleep(0.1)
        box.send_signal(number)
        done = host.status(box, 20)
    assert (done.status, done.err) == (128 + number, "")


def test_ctrl_c_reaches_a_child_in_the_foreground() -> None:
    """As at a terminal, where the whole foreground group gets it, exactly once."""
    script = "trap 'echo outer' INT; echo ready; bash -c 'trap \"echo inner; exit 4\" INT; sleep 1000 & wait'; exit 5"
    with host.sandbox("run", "--", "bash", "-c", script, ready="ready") as box:
        time.sleep(0.3)
        box.send_signal(signal.SIGINT)
        done = host.status(box, 20)
    assert (done.status, sorted(done.out.split())) == (5, ["inner", "outer"])


def test_stdin_of_50_mb_through_a_pipe() -> None:
    size = 50_000_000
    block = hashlib.shake_128(b"rvisor").digest(1 << 16)
    box = host.start("run", "-i", "--", "cat", stdin=subprocess.PIPE)
    assert box.stdin is not None
    assert box.stdout is not None
    sent, got, received = hashlib.sha256(), hashlib.sha256(), 0

    def feed() -> None:
        left = size
        assert box.stdin is not None
        while left:
            piece = block[: min(left, len(block) - left % 7)]
            sent.update(piece)
            box.stdin.write(piece)
            left -= len(piece)
        box.stdin.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    while data := box.stdout.read1(1 << 16):  # type: ignore[attr-defined]
        got.update(data)
        received += len(data)
    feeder.join()
    assert box.wait(timeout=30) == 0
    assert received == size
    assert got.digest() == sent.digest()
    box.stderr.close()  # type: ignore[union-attr]
    box.stdout.close()


def test_a_slow_reader_gets_each_byte_once() -> None:
    """Writes larger than the pipe, with a reader that lets it fill: nothing is lost, nothing comes twice."""
    script = (
        "import os\nfor i in range(40): data = b'%07d\\n' % i * 30000; n = os.write(1, data); assert n == len(data), n"
    )
    box = host.start("run", "--", "python3", "-c", script)
    assert box.stdout is not None
    got = b""
    while data := box.stdout.read1(40000):  # type: ignore[attr-defined]
        got += data
        time.sleep(0.001)
    assert box.wait(timeout=30) == 0
    assert got == b"".join(b"%07d\n" % i * 30000 for i in range(40))
    box.stderr.close()  # type: ignore[union-attr]
    box.stdout.close()


def test_a_closed_output_ends_the_writer() -> None:
    for command in (["yes"], ["sh", "-c", "yes; echo $? >&2"]):
        box = host.start("run", "--", *command)
        assert box.stdout is not None
        assert box.stdout.readline() == b"y\n"
        box.stdout.close()
        assert box.stderr is not None
        err = box.stderr.read().decode()
        status = box.wait(timeout=20)
        box.stderr.close()
        if command == ["yes"]:
            assert (status, err) == (128 + signal.SIGPIPE, "")
        else:
            assert (status, err.splitlines()[-1:]) == (0, [str(128 + signal.SIGPIPE)])


def test_out_of_memory() -> None:
    script = (
        "x = bytearray(); print('begun', flush=True)\nwhile len(x) < 200 << 20: x += b'x' * (1 << 20)\nprint('all')"
    )
    done = inside.rvisor("run", "--memory", "64m", "--", "python3", "-c", script)
    assert (done.status, done.out) == (137, "begun\n")
    assert done.err.startswith("rvisor: out of memory: the limit of 64 MiB was reached")
    assert len(done.err.splitlines()) == 1


def test_out_of_memory_of_a_child_is_the_childs_death() -> None:
    """The kernel outlives it and tells the parent; and with memory to spare nobody dies."""
    script = "python3 -c 'x = b\"x\" * (200 << 20)'; echo child $?; python3 -c 'x = b\"x\" * (2 << 20)'; echo child $?"
    done = inside.rvisor("run", "--memory", "96m", "--", "bash", "-c", script)
    assert (done.status, done.out.splitlines()) == (0, ["child 137", "child 0"]), done
    assert "out of memory" in done.err
    done = inside.rvisor("run", "--memory", "600m", "--", "bash", "-c", script)
    assert (done.status, done.out.splitlines(), done.err) == (0, ["child 0", "child 0"], "")


def test_memory_of_files_counts() -> None:
    done = inside.rvisor("run", "--memory", "64m", "--", "dd", "if=/dev/zero", "of=/tmp/much", "bs=1M", "count=200")
    assert done.status != 0
    assert "out of memory" in done.err or "No space left" in done.err


FORKS = """
import os, sys, time
most = 0
def bomb(depth):
    while True:
        try:
            if os.fork() == 0:
                bomb(depth + 1)
        except OSError:
            if depth:
                time.sleep(0.01)
                continue
            return
bomb(0)
for _ in range(50):
    most = max(most, sum(name.isdecimal() for name in os.listdir("/proc")))
    time.sleep(0.005)
print(most)
sys.stdout.flush()
os._exit(6)
"""


def test_a_fork_bomb_is_bounded_and_ends() -> None:
    begun = time.monotonic()
    done = inside.rvisor("run", "--pids", "20", "--timeout", "50", "--", "python3", "-c", FORKS)
    assert (done.status, done.err) == (6, "")
    assert 10 < int(done.out) <= 20
    assert time.monotonic() - begun < 30


def test_a_fork_bomb_in_the_shell() -> None:
    bomb = "b() { b | b & }; b; sleep 1000"
    with host.sandbox("run", "--pids", "20", "--timeout", "3", "--", "bash", "-c", bomb) as box:
        time.sleep(1)
        assert len(host.below(box.pid)) <= 20 + 32
        done = host.status(box, 30)
    assert done.status == 124


def test_closed_standard_descriptors() -> None:
    """A caller without them gets /dev/null in their places, not somebody else's file."""
    script = 'exec "$@" <&- >&- 2>&-'
    env = {**os.environ, "PYTHONPATH": str(inside.ROOT / "python")}
    command = [sys.executable, "-m", "rvisor", "run", "-i", "--", "sh", "-c", "cat; echo x; echo y >&2; exit 11"]
    done = subprocess.run(["sh", "-c", script, "sh", *command], env=env, check=False, timeout=30)
    assert done.returncode == 11
