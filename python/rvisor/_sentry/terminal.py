"""The host's side of `-t`: a pseudo-terminal between the caller's terminal and the program.

The caller's terminal is raw while the program runs, so Ctrl-C travels as the byte it is. Lines and echo are done by the
pty, as the program sets it. No process on the host has it as its controlling terminal, so what its control characters
mean is sent to the sandbox as a signal, for the group in its foreground.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import termios
import tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor._sentry.spawn import Running

_LARGEST_READ = 65536


class Terminal:
    """A pty whose `slave` the program gets; `attach` joins it to the caller's descriptors 0 and 1."""

    def __init__(self) -> None:
        self._master, self.slave = os.openpty()
        self._outside = next((fd for fd in (0, 1, 2) if os.isatty(fd)), None)
        self._saved: list[object] | None = None
        self._to_program = b""
        self._ended = False
        self.resize()

    def resize(self) -> None:
        """Give the pty the size of the caller's terminal."""
        size = struct.pack("HHHH", 24, 80, 0, 0)
        if self._outside is not None:
            try:
                seen = fcntl.ioctl(self._outside, termios.TIOCGWINSZ, size)
                if seen[:4] != b"\0\0\0\0":
                    size = seen
            except OSError:
                pass
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def attach(self, running: Running, *, interactive: bool) -> None:
        """Relay between the caller and the program, both ways if `interactive`."""
        os.close(self.slave)
        os.set_blocking(self._master, False)
        if interactive:
            if os.isatty(0):
                self._saved = termios.tcgetattr(0)
                tty.setraw(0)
            running.watch(0, select.POLLIN, lambda events: self._read_caller(running))
        running.watch(self._master, select.POLLIN, lambda events: self._serve_master(running, events))

    def program_ended(self, running: Running) -> None:
        """What the caller types now is the caller's shell's."""
        self._ended = True
        self._to_program = b""
        running.unwatch(0)

    def restore(self) -> None:
        """Put the caller's terminal back as it was."""
        if self._saved is not None:
            # Not TCSADRAIN: it waits for a reader of the caller's terminal, who may be waiting for us.
            termios.tcsetattr(0, termios.TCSANOW, self._saved)  # type: ignore[arg-type]
            self._saved = None
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def _read_caller(self, running: Running) -> int:
        try:
            data = os.read(0, 4096)
        except OSError:
            data = b""
        if not data:
            return 0
        # One piece at a time: nothing more is read from the caller before the program has taken this.
        self._to_program = data
        for number in self._signals(data):
            running.send_signal(number)
        running.watch(self._master, select.POLLIN | select.POLLOUT, lambda events: self._serve_master(running, events))
        running.unwatch(0)
        return 0

    def _signals(self, data: bytes) -> list[int]:
        """What the control characters in `data` mean to the program, as it has set its terminal."""
        settings = termios.tcgetattr(self._master)
        if not settings[3] & termios.ISIG:
            return []
        meant = {
            settings[6][character]: number
            for character, number in (
                (termios.VINTR, signal.SIGINT),
                (termios.VQUIT, signal.SIGQUIT),
                (termios.VSUSP, signal.SIGTSTP),
            )
            if settings[6][character] != b"\0"
        }
        return [meant[byte] for byte in (data[i : i + 1] for i in range(len(data))) if byte in meant]

    def _serve_master(self, running: Running, events: int) -> int:
        if events & select.POLLOUT and self._to_program:
            try:
                self._to_program = self._to_program[os.write(self._master, self._to_program) :]
            except BlockingIOError:
                pass
            except OSError:
                self._to_program = b""
            if not self._to_program and not self._ended:
                running.watch(0, select.POLLIN, lambda events: self._read_caller(running))
        if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            try:
                data = os.read(self._master, _LARGEST_READ)
            except BlockingIOError:
                data = None
            except OSError:
                data = b""
            if data == b"":
                return 0
            view = memoryview(data or b"")
            while view:
                view = view[os.write(1, view) :]
        return select.POLLIN | (select.POLLOUT if self._to_program else 0)
