"""The host's side of `-t`: what carries bytes between the caller's terminal and the sandbox's own.

The program's terminal is one of its kernel's: lines, echo, and what Ctrl-C means are done there. A raw pty leads to it,
whose slave the sandbox's kernel holds and whose size it follows. The caller's terminal is raw while the program runs,
so that every key travels as the bytes it is, and is put back at the end, also when a signal ends us.
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
    from rvisor._sentry.attach import Attached
    from rvisor._sentry.spawn import Running

_LARGEST_READ = 65536

_FATAL = (
    signal.SIGABRT,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGXCPU,
    signal.SIGIO,
    signal.SIGPWR,
    signal.SIGSTKFLT,
)
"""Signals that would end this process with the caller's terminal still raw, and are not passed on."""


class Terminal:
    """A pty whose `slave` the sandbox's kernel gets; `attach` joins it to the caller's descriptors 0 and 1."""

    def __init__(self, *, shared: bool = False) -> None:
        self.master, self.slave = os.openpty()
        # On the shared kernel the slave is the program's own terminal, with the host's line discipline.
        if not shared:
            tty.setraw(self.slave)
            # Ours alone, so that neither side need ever wait for it.
            os.set_blocking(self.slave, False)
        os.set_blocking(self.master, False)
        self._outside = next((fd for fd in (0, 1, 2) if os.isatty(fd)), None)
        self._saved: list[object] | None = None
        self._raw = False
        self._old: dict[int, object] = {}
        self._to_program = b""
        self._ended = False
        self.resize()

    def resize(self) -> tuple[int, int]:
        """Give the pty the size of the caller's terminal: rows and columns."""
        size = struct.pack("HHHH", 24, 80, 0, 0)
        if self._outside is not None:
            try:
                seen = fcntl.ioctl(self._outside, termios.TIOCGWINSZ, size)
                if seen[:4] != b"\0\0\0\0":
                    size = seen
            except OSError:
                pass
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)
        rows, columns, _, _ = struct.unpack("HHHH", size)
        return rows, columns

    def attach(self, running: Running | Attached, *, interactive: bool) -> None:
        """Relay between the caller and the program, both ways if `interactive`."""
        os.close(self.slave)
        if interactive:
            if os.isatty(0):
                self._saved = termios.tcgetattr(0)
                self._old = {number: signal.signal(number, self._fatal) for number in _FATAL}
                self.raw()
            running.watch(0, select.POLLIN, lambda events: self._read_caller(running))
        running.watch(self.master, select.POLLIN, lambda events: self._serve_master(running, events))

    def raw(self) -> None:
        """Make the caller's terminal raw, if it is joined."""
        if self._saved is not None:
            tty.setraw(0, termios.TCSANOW)
            self._raw = True

    def cooked(self) -> None:
        """Put the caller's terminal back as it was, for now."""
        if self._saved is not None and self._raw:
            # Not TCSADRAIN: it waits for a reader of the caller's terminal, who may be waiting for us.
            termios.tcsetattr(0, termios.TCSANOW, self._saved)  # type: ignore[arg-type]
            self._raw = False

    def program_ended(self, running: Running | Attached) -> None:
        """What the caller types now is the caller's shell's."""
        self._ended = True
        self._to_program = b""
        running.unwatch(0)

    def restore(self) -> None:
        """Put the caller's terminal back as it was, and close ours."""
        self.cooked()
        while self._old:
            number, old = self._old.popitem()
            signal.signal(number, old)  # type: ignore[arg-type]
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def _fatal(self, number: int, _frame: object) -> None:
        self.cooked()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _read_caller(self, running: Running | Attached) -> int:
        try:
            data = os.read(0, 4096)
        except OSError:
            data = b""
        if not data:
            return 0
        # One piece at a time: nothing more is read from the caller before the sandbox has taken this.
        self._to_program = data
        running.watch(self.master, select.POLLIN | select.POLLOUT, lambda events: self._serve_master(running, events))
        running.unwatch(0)
        return 0

    def _serve_master(self, running: Running | Attached, events: int) -> int:
        if events & select.POLLOUT and self._to_program:
            try:
                self._to_program = self._to_program[os.write(self.master, self._to_program) :]
            except BlockingIOError:
                pass
            except OSError:
                self._to_program = b""
            if not self._to_program and not self._ended:
                running.watch(0, select.POLLIN, lambda events: self._read_caller(running))
        if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            try:
                data = os.read(self.master, _LARGEST_READ)
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
