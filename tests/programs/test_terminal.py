"""`rvisor run -it`: a shell at a terminal, as a person uses it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time

import pytest

from framework import inside

PROMPT = b"ready> "


class Terminal:
    """The person's side."""

    def __init__(self, *command: str) -> None:
        self.ours, theirs = pty.openpty()
        env = {**os.environ, "PYTHONPATH": str(inside.ROOT / "python"), "TERM": "dumb"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rvisor", "run", "-it", "-e", "PS1=ready> ", "--", *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=env,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = b""

    def type(self, text: bytes) -> None:
        os.write(self.ours, text)

    def until(self, text: bytes, seconds: float = 20) -> bytes:
        """What was shown up to `text`."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            left = end - time.monotonic()
            assert left > 0, (text, self.seen)
            if select.select([self.ours], [], [], left)[0]:
                self.seen += os.read(self.ours, 4096)
        shown, _, self.seen = self.seen.partition(text)
        return shown


@pytest.mark.usefixtures("binaries")
def test_a_shell_at_a_terminal() -> None:
    t = Terminal("bash", "--norc", "--noprofile")
    try:
        t.until(PROMPT)
        t.type(b"echo $((6 * 7)); tty -s && echo terminal\n")
        t.until(b"\r\n42\r\n")
        t.until(b"terminal\r\n" + PROMPT)
        t.type(b"sleep 100\n")
        time.sleep(0.5)
        t.type(b"\x03")
        t.until(PROMPT, seconds=5)
        t.type(b"echo status $?\n")
        t.until(b"\r\nstatus 130\r\n" + PROMPT)
        t.type(b"cat > /tmp/x; echo closed\n")
        time.sleep(0.5)
        t.type(b"from the keyboard\n")
        t.type(b"\x04")
        t.until(b"\r\nclosed\r\n" + PROMPT)
        t.type(b"cat /tmp/x; exit 5\n")
        t.until(b"\r\nfrom the keyboard\r\n")
        assert t.process.wait(timeout=20) == 5
    finally:
        t.process.kill()
        t.process.wait()
        os.close(t.ours)
