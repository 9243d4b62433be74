"""`docker run -it`, `exec -it`, `attach` at a real pseudo-terminal whose size changes; on both runtimes."""

from __future__ import annotations

import time

import pytest

from framework.dockerd import RUNTIMES, Daemon, Docker

SIZES = "trap 'echo size $(stty size)' WINCH; echo ready; while [ ! -e /tmp/end ]; do sleep 0.1; done; exit 5"


@pytest.fixture(params=RUNTIMES)
def any_docker(request: pytest.FixtureRequest, daemon: Daemon):  # type: ignore[no-untyped-def]
    made = Docker(daemon, request.param)
    yield made
    made.close()


def test_run(any_docker: Docker) -> None:
    any_docker.names.append(any_docker.name)
    flags = ("--runtime", any_docker.runtime, "--name", any_docker.name)
    terminal = any_docker.terminal("run", "-it", *flags, "busybox", "sh", rows=33, columns=101)
    terminal.expect("/ # ")
    # The client sets the size after it has started the program.
    terminal.type("tty; until stty size; do sleep 0.1; done 2>/dev/null; echo $TERM\r")
    seen = terminal.expect("xterm\r\n")
    assert "/dev/pts/0\r\n" in seen or "/dev/console\r\n" in seen
    assert "33 101\r\nxterm\r\n" in seen
    terminal.expect("/ # ")
    terminal.type("sleep 100\r")
    time.sleep(1)
    terminal.type("\x03")
    terminal.expect("/ # ")
    terminal.type("cat\r")
    terminal.expect("cat\r\n")
    time.sleep(1)
    terminal.type("line\r")
    terminal.expect("line\r\nline\r\n")
    terminal.type("\x04")
    terminal.expect("/ # ")
    terminal.type("exit 7\r")
    assert terminal.wait() == 7


def test_resize(any_docker: Docker) -> None:
    any_docker.names.append(any_docker.name)
    flags = ("--runtime", any_docker.runtime, "--name", any_docker.name)
    terminal = any_docker.terminal("run", "-it", *flags, "busybox", "sh", "-c", SIZES)
    terminal.expect("ready\r\n")
    for rows, columns in ((40, 120), (11, 44), (100, 300)):
        terminal.resize_seen(rows, columns, f"size {rows} {columns}\r\n")
    any_docker.ok("exec", any_docker.name, "touch", "/tmp/end")
    assert terminal.wait() == 5


def test_ctrl_c_at_pid_1(any_docker: Docker) -> None:
    """It handles it or not; as pid 1 it does not die of what it does not handle."""
    handled = "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.1; done"
    terminal = any_docker.terminal(
        "run", "--rm", "-it", "--runtime", any_docker.runtime, "busybox", "sh", "-c", handled
    )
    terminal.expect("ready\r\n")
    terminal.type("\x03")
    terminal.expect("caught")
    assert terminal.wait() == 3
    ignored = "echo ready; exec sleep 3"
    terminal = any_docker.terminal(
        "run", "--rm", "-it", "--runtime", any_docker.runtime, "busybox", "sh", "-c", ignored
    )
    terminal.expect("ready\r\n")
    # The shell itself obeys; what it becomes does not.
    time.sleep(1)
    terminal.type("\x03")
    assert terminal.wait() == 0


def test_exec(any_docker: Docker) -> None:
    name = any_docker.up("busybox", "sleep", "1000")
    terminal = any_docker.terminal("exec", "-it", name, "sh", "-c", SIZES, rows=20, columns=70)
    terminal.expect("ready\r\n")
    # The client tells the first size a little later, again and again until it is taken.
    time.sleep(1)
    terminal.resize_seen(50, 130, "size 50 130\r\n")
    terminal.resize(9, 33)
    terminal.expect("size 9 33\r\n")
    any_docker.ok("exec", name, "touch", "/tmp/end")
    assert terminal.wait() == 5
    first = any_docker.terminal("exec", "-it", name, "sh", "-c", "sleep 1; stty size", rows=37, columns=99)
    first.expect("37 99\r\n")
    assert first.wait() == 0
    killed = any_docker.terminal("exec", "-it", name, "sh", "-c", "kill -9 $$")
    assert killed.wait() == 137


def test_attach_and_detach(any_docker: Docker) -> None:
    name = any_docker.up("-it", "busybox", "sh", "-c", "while read word; do echo got $word; done")
    terminal = any_docker.terminal("attach", name)
    terminal.type("one\r")
    terminal.expect("got one\r\n")
    terminal.type("\x10\x11")
    terminal.wait()
    assert any_docker.inspect(name, "{{.State.Status}}") == "running"
    terminal = any_docker.terminal("attach", name)
    terminal.type("two\r")
    terminal.expect("got two\r\n")
    terminal.type("\x04")
    terminal.wait()
    any_docker.until(name, "{{.State.Status}}", "exited")
    assert "got one" in any_docker.ok("logs", name)


def test_interactive_without_a_terminal(any_docker: Docker) -> None:
    done = any_docker.run("-i", "busybox", "sh", "-c", "cat; exit 3", stdin="in\n")
    assert (done.status, done.out) == (3, "in\n")


def test_an_editor(any_docker: Docker) -> None:
    """A full-screen program: it asks for the size and draws by it."""
    terminal = any_docker.terminal(
        "run", "--rm", "-it", "--runtime", any_docker.runtime, "busybox", "vi", "/tmp/new", rows=20, columns=60
    )
    terminal.expect("/tmp/new")
    terminal.type("ihello\x1b")
    # An escape is one only when nothing follows it at once.
    time.sleep(0.5)
    terminal.type(":wq\r")
    assert terminal.wait() == 0
