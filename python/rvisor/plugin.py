"""System calls that a Python function serves: the plug-in rows of a profile, on the shared kernel.

    # square.py, beside the profile
    def square(call):
        return call.args[0] ** 2

    # profile.toml
    [[syscalls.rule]]
    names = ["syscall_400"]
    action = "plugin"
    plugin = "square:square"

The function is called with a `Call` and returns what the system call returns, a number from 0 on, or raises OSError
with the errno that it answers. Whatever else becomes of it, the caller gets EIO and the operator is told why (`rvisor
vkernel log`): another exception, another value, 2 s without an answer, the end of its process.

Functions run outside of the container, in one process for each container, one call at a time. That process is started
again a second after it has ended: what the module keeps in variables is gone then. A call whose caller gets a signal
may be made again, as any that waits.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Caller(Protocol):
        """The thread that makes a call."""

        def pid(self) -> int: ...
        def read(self, address: int, length: int) -> bytes: ...
        def write(self, address: int, data: bytes) -> None: ...


PIECE = 1 << 16
"""Bytes that are read or written at once, at most."""
_PAGE = 4096


class Call:
    """A system call that is being made: its number, its name (`syscall_400` if it has none) and its six arguments, of
    64 bits without a sign, as they were in the registers.

    Memory is the caller's, and may be changed by its other threads at any time: decide on what was read, and read once.
    """

    __slots__ = ("_caller", "_pid", "args", "name", "number")

    def __init__(self, number: int, name: str, args: tuple[int, ...], caller: Caller) -> None:
        self.number = number
        self.name = name
        self.args = args
        self._caller = caller
        self._pid: int | None = None

    @property
    def pid(self) -> int:
        """The calling process's, as it knows itself. OSError (ESRCH): it is gone."""
        if self._pid is None:
            self._pid = self._caller.pid()
        return self._pid

    def read(self, address: int, length: int) -> bytes:
        """So many bytes of the caller's memory. OSError: EFAULT, or ESRCH if it is gone."""
        return self._caller.read(_checked(address), _bounded(length))

    def write(self, address: int, data: bytes) -> None:
        """Write into the caller's memory. OSError: EFAULT, or ESRCH if it is gone."""
        _bounded(len(data))
        self._caller.write(_checked(address), bytes(data))

    def string(self, address: int, limit: int = 4096) -> str:
        """The text at this address, to its zero byte; bytes that are no UTF-8 are as in names of files (`os.fsencode`).

        OSError: EFAULT, ESRCH, or ENAMETOOLONG if `limit` bytes have no zero among them.
        """
        found = b""
        while len(found) < _bounded(limit):
            # What is behind the page that the text ends in need not be there.
            length = min(_PAGE - (address + len(found)) % _PAGE, limit - len(found))
            part, end, _ = self.read(address + len(found), length).partition(b"\0")
            found += part
            if end:
                return os.fsdecode(found)
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(hex, self.args))})"


def _checked(address: int) -> int:
    if not 0 <= address < 1 << 64:
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
    return address


def _bounded(length: int) -> int:
    if not 0 <= length <= PIECE:
        raise ValueError(f"{length} bytes at once: at most {PIECE}")
    return length
