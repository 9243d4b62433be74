"""`rvisor run -it`: programs at a terminal, as a person uses them. `native` is the same at a pty of the host's."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from framework import inside

PROMPT = b"ready> "
BASH = ("bash", "--norc", "--noprofile")
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "PS1": PROMPT.decode(),
    "TERM": "dumb",
}


class Terminal:
    """The person's side."""

    def __init__(self, where: str, *command: str, term: str = "dumb", size: tuple[int, int] = (24, 80)) -> None:
        self.ours, self.theirs = pty.openpty()
        self.resize(*size)
        self.at_first = termios.tcgetattr(self.theirs)
        variables = {**ENVIRONMENT, "TERM": term}
        env = variables
        argv = [*command]
        if where == "inside":
            options = [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
            argv = [sys.executable, "-m", "rvisor", "run", "-it", "-w", "/tmp", *options, "--", *command]
            env = {**os.environ, "PYTHONPATH": str(inside.ROOT / "python")}
        self.process = subprocess.Popen(
            argv,
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            cwd="/tmp",
            env=env,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0) and None,
        )
        self.seen = b""

    def type(self, text: bytes) -> None:
        os.write(self.ours, text)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, text: bytes, seconds: float = 30) -> bytes:
        """What was shown up to `text`."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            left = end - time.monotonic()
            assert left > 0, (text, self.seen)
            if select.select([self.ours], [], [], left)[0]:
                self.seen += os.read(self.ours, 65536)
        shown, _, self.seen = self.seen.partition(text)
        return shown

    def command(self, text: bytes) -> bytes:
        """A command of the shell's, to its next prompt: what was shown, its echo included."""
        self.type(text + b"\n")
        return self.until(b"\n" + PROMPT)

    def ended(self) -> int:
        """Its exit status, the terminal read meanwhile."""
        end = time.monotonic() + 30
        while self.process.poll() is None:
            assert time.monotonic() < end, self.seen
            if select.select([self.ours], [], [], 0.05)[0]:
                self.seen += os.read(self.ours, 65536)
        return self.process.returncode


@contextmanager
def at_terminal(where: str, *command: str, **more: object) -> Iterator[Terminal]:
    terminal = Terminal(where, *command, **more)  # type: ignore[arg-type]
    try:
        yield terminal
    finally:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.ours)
        os.close(terminal.theirs)


pytestmark = pytest.mark.usefixtures("binaries")
everywhere = pytest.mark.parametrize("where", ["native", "inside"])


@everywhere
def test_a_shell(where: str) -> None:
    with at_terminal(where, *BASH) as t:
        t.until(PROMPT)
        assert t.command(b"echo $((6 * 7)); tty -s && echo terminal").endswith(b"\r\n42\r\nterminal\r")
        t.type(b"sleep 100\n")
        time.sleep(0.5)
        t.type(b"\x03")
        t.until(b"^C")
        t.until(PROMPT, seconds=5)
        assert t.command(b"echo status $?").endswith(b"\r\nstatus 130\r")
        t.type(b"cat > /tmp/rvisor-program-x; echo closed\n")
        time.sleep(0.5)
        t.type(b"from the keyboard\n\x04")
        t.until(b"\r\nclosed\r\n" + PROMPT)
        t.type(b"cat /tmp/rvisor-program-x; rm /tmp/rvisor-program-x; exit 5\n")
        t.until(b"\r\nfrom the keyboard\r\n")
        assert t.ended() == 5


@everywhere
def test_job_control(where: str) -> None:
    with at_terminal(where, *BASH) as t:
        t.until(PROMPT)
        t.command(b"sleep 100 &")
        assert b"Running" in t.command(b"jobs")
        t.type(b"fg\n")
        time.sleep(0.5)
        t.type(b"\x1a")
        t.until(b"^Z")
        assert b"Stopped" in t.until(PROMPT)
        t.command(b"bg")
        assert b"Running" in t.command(b"jobs")
        t.type(b"fg\n")
        time.sleep(0.5)
        t.type(b"\x03")
        t.until(PROMPT)
        assert t.command(b"echo status $?; jobs").endswith(b"\r\nstatus 130\r")
        t.command(b"cat &")
        time.sleep(0.3)
        assert b"Stopped" in t.command(b"jobs")
        t.type(b"fg\n")
        time.sleep(0.3)
        t.type(b"hello\n")
        t.until(b"hello\r\nhello\r\n")
        t.type(b"\x1c")
        assert b"Quit" in t.until(PROMPT)
        t.command(b"stty tostop; (echo loud; echo done > /tmp/rvisor-program-y) &")
        time.sleep(0.3)
        assert b"Stopped" in t.command(b"jobs")
        t.command(b"kill -9 %1; rm -f /tmp/rvisor-program-y; stty -tostop")


def test_what_ps_and_stty_say() -> None:
    with at_terminal("inside", *BASH, size=(33, 101)) as t:
        t.until(PROMPT)
        assert t.command(b"tty").endswith(b"\r\n/dev/pts/0\r")
        assert t.command(b"stty size").endswith(b"\r\n33 101\r")
        settings = t.command(b"stty -a")
        assert b"intr = ^C" in settings
        assert b" icanon " in settings
        assert re.search(rb"\b1 +1 +1 pts/0", t.command(b"ps -o pid,pgid,sid,tty -p 1"))
        assert t.command(b"stat -c '%t:%T %G' /dev/console $(tty)").endswith(b"\r\n88:0 tty\r\n88:0 tty\r")
        assert t.command(b"echo shown > /dev/tty; echo again > /dev/console").endswith(b"\r\nshown\r\nagain\r")
        assert (
            t.command(b"ls /dev/pts; setsid -w tty < /dev/null; setsid -w sh -c 'echo x > /dev/tty'").count(b"such")
            == 1
        )


@everywhere
def test_a_new_size_is_seen(where: str) -> None:
    script = "trap 'echo resized to $(stty size)' WINCH; echo begun; while :; do sleep 0.1; done"
    with at_terminal(where, "sh", "-c", script) as t:
        t.until(b"begun")
        t.resize(40, 120)
        t.until(b"resized to 40 120")


@everywhere
@pytest.mark.parametrize(
    ("editor", "keys"),
    [
        ("vim -u NONE -N", b"ihello from vim\x1b:wq\r"),
        ("nano -I", b"hello from nano\x0f\r\x18"),
    ],
)
def test_an_editor(where: str, editor: str, keys: bytes) -> None:
    path = tempfile.mktemp(prefix="rvisor-program-", dir="/tmp")
    try:
        with at_terminal(where, *BASH) as t:
            t.until(PROMPT)
            t.type(f"TERM=xterm {editor} {path}\n".encode())
            t.until(b"\x1b[?1049h")
            time.sleep(1.5)
            for key in re.findall(rb"[^\x00-\x1f]+|.", keys, re.DOTALL):
                t.type(key)
                time.sleep(0.3)
            t.until(b"\x1b[?1049l")
            t.until(PROMPT)
            assert b"hello from " + editor.split()[0].encode() + b"\r" in t.command(f"cat {path}".encode())
    finally:
        Path(path).unlink(missing_ok=True)


@everywhere
def test_a_pager(where: str) -> None:
    with at_terminal(where, *BASH) as t:
        t.until(PROMPT)
        t.type(b"seq -f 'row %g' 1000 | TERM=xterm less\n")
        t.until(b"row 23")
        t.type(b" ")
        t.until(b"row 46")
        t.type(b"G")
        t.until(b"row 1000")
        t.type(b"?row 500\r")
        t.until(b"row 500")
        t.type(b"q")
        t.until(PROMPT)


@everywhere
def test_a_python_prompt(where: str) -> None:
    with at_terminal(where, "/usr/bin/python3", "-q", term="xterm") as t:
        t.until(b">>> ")
        t.type(b"6*7\r")
        t.until(b"42")
        t.until(b">>> ")
        t.type(b"'ab'*2\x1b[D\x1b[D\x1b[D\x7fx\r")
        t.until(b"'axax'")
        t.until(b">>> ")
        t.type(b"while True: pass\r\r")
        time.sleep(1)
        t.type(b"\x03")
        t.until(b"KeyboardInterrupt")
        t.type(b"exit(3)\r")
        assert t.ended() == 3


@everywhere
def test_a_terminal_in_a_terminal(where: str) -> None:
    with at_terminal(where, *BASH) as t:
        t.until(PROMPT)
        t.type(
            b"python3 -c \"import pty; pty.spawn(['sh', '-c', 'tty; trap : INT; echo begun; sleep 100'])\"; echo back\n"
        )
        assert re.search(rb"\n/dev/pts/\d+\r", t.until(b"\nbegun"))
        time.sleep(0.3)
        t.type(b"\x03")
        t.until(b"back\r\n" + PROMPT)


def test_much_output_is_whole_and_can_be_stopped() -> None:
    with at_terminal("inside", "sh", "-c", "seq 200000; sleep 0.2; echo the end") as t:
        t.type(b"\x13")
        time.sleep(0.5)
        t.type(b"\x11")
        text = t.until(b"the end\r\n", seconds=60)
        numbers = text.replace(b"^S", b"").replace(b"^Q", b"").split()
        assert numbers == [b"%d" % n for n in range(1, 200001)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGALRM, signal.SIGABRT])
def test_the_callers_terminal_is_put_back(number: int) -> None:
    """Also when a signal ends us. SIGTERM is passed on; a shell ignores it, so the program is another."""
    with at_terminal("inside", "sh", "-c", "echo begun; exec sleep 100") as t:
        t.until(b"begun\r\n")
        assert termios.tcgetattr(t.theirs) != t.at_first, "raw"
        t.process.send_signal(number)
        t.ended()
        assert termios.tcgetattr(t.theirs) == t.at_first


def test_the_first_program_is_interrupted_but_not_stopped() -> None:
    with at_terminal("inside", "sh", "-c", "echo begun; exec sleep 100") as t:
        t.until(b"begun\r\n")
        t.type(b"\x1a")
        t.until(b"^Z")
        t.type(b"\x03")
        assert t.ended() == 130


def test_without_interaction_nothing_is_read() -> None:
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "rvisor", "run", "-t", "--", "sh", "-c", "tty; printf 'a\\nb'"],
            stdin=theirs,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(inside.ROOT / "python")},
            timeout=60,
            check=False,
        )
        assert done.stdout == b"/dev/pts/0\r\na\r\nb"
    finally:
        os.close(ours)
        os.close(theirs)


def test_interaction_needs_a_terminal() -> None:
    done = inside.rvisor("run", "-it", "--", "true")
    assert done.status == 125
    assert "the input device is not a TTY" in done.err
