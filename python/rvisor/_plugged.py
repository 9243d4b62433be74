"""The process of a container's plug-ins: one that watches, and its child, which has the functions.

The child speaks with the container's monitor (`crates/launch/src/shared/plugins.rs`), which ends it when it does not
answer; the other one then makes another child, and ends when the monitor has. What they need of the host is little, and
they have no more: the calls of the shipped profile `default`, no new rights, and of root's only those to become nobody,
which the child does when its modules are loaded, and to end that.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
import traceback
from typing import Any

from rvisor._sentry import spawn
from rvisor.plugin import Call
from rvisor.profile import filter, read
from rvisor.profile.model import ALLOW, Action, Case, Condition, Table
from rvisor.profile.plugins import HEAD, NONE, READY
from rvisor.profile.vocabulary import name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Function = Callable[[Call], object]

VALUE, ERROR, READ, WRITE, PID = 1, 2, 4, 5, 6
_HEAD = struct.Struct(HEAD)
_MESSAGE = (1 << 16) + 64
_NOT_LOADED = 3
_PAUSE = 1.0
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 22, 24, 38
_CAPSET, _CAPABILITIES_3 = 126, 0x20080522
_KEPT = 1 << 5 | 1 << 6 | 1 << 7
"""KILL, SETGID, SETUID."""
_NOBODY = 65534


def main() -> int:
    """Until the monitor's end of the socket is closed."""
    fd = int(sys.argv[1])
    told = json.load(sys.stdin)
    os.close(0)
    os.open(os.devnull, os.O_RDONLY)
    confine()
    while True:
        own = os.getpid()
        child = spawn.stay_behind()
        if child == 0:
            end_with(own)
            os._exit(serve(socket.socket(fileno=fd), told, own))
        began = time.monotonic()
        if not _watch(fd, child):
            return 0
        # A function that ends its process at each call does not keep a processor busy.
        if _gone(fd, began + _PAUSE - time.monotonic()):
            return 0


def _watch(fd: int, child: int) -> bool:
    """Until the child has ended: whether there is to be another."""
    process = os.pidfd_open(child)
    poller = select.poll()
    poller.register(fd, 0)
    poller.register(process, select.POLLIN)
    ready = [found for found, _ in poller.poll()]
    os.close(process)
    if fd in ready:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return fd not in ready and status != _NOT_LOADED


def _gone(fd: int, seconds: float) -> bool:
    poller = select.poll()
    poller.register(fd, 0)
    return bool(poller.poll(max(0.0, seconds) * 1000))


def end_with(parent: int) -> None:
    """End as soon as that process has."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def confine() -> None:
    """Give up what neither process needs."""
    table = read.load("default").table()
    assert table is not None
    program = filter.compile_table(table)
    if os.geteuid() == 0:
        number = 0
        while _prctl(_PR_CAPBSET_DROP, number, must=False):
            number += 1
        head, kept = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0), (ctypes.c_uint32 * 6)(_KEPT, _KEPT)
        if _libc().syscall(ctypes.c_long(_CAPSET), head, kept) != 0:
            raise OSError(ctypes.get_errno(), "capset")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    packed = b"".join(struct.pack("=HBBI", *insn) for insn in program)
    space = ctypes.create_string_buffer(packed, len(packed))
    described = struct.pack("@HP", len(program), ctypes.addressof(space))
    _prctl(_PR_SET_SECCOMP, 2, ctypes.create_string_buffer(described, len(described)))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int, more: object = None, *, must: bool = True) -> bool:
    zero = ctypes.c_ulong(0)
    done: int = _libc().prctl(option, ctypes.c_ulong(value), zero if more is None else more, zero, zero)
    if done < 0 and must:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
    return done >= 0


def become_nobody(parent: int) -> None:
    """Where this is root: whatever is root's is not the functions' then, and no capability is left."""
    if os.geteuid() != 0:
        return
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    # The change has made it forget.
    end_with(parent)


def serve(end: socket.socket, told: dict[str, Any], parent: int) -> int:
    """Load the functions, then answer one call after another."""
    table = _table(told["table"])
    sys.path[:0] = told["paths"]
    functions: dict[str, Function] = {}
    for name in dict.fromkeys(case.action.plugin for cases in table.cases.values() for case in cases):
        try:
            if name:
                functions[name] = _find(name)
        # SystemExit as well: a module is loaded, or it is not.
        except BaseException as error:
            end.send(_HEAD.pack(NONE, 0, 0) + f"{name}\0{type(error).__name__}: {error}".encode(errors="replace"))
            return _NOT_LOADED
    become_nobody(parent)
    own = os.pidfd_open(os.getpid())
    socket.send_fds(end, [_HEAD.pack(READY, 0, 0)], [own])
    os.close(own)
    while message := end.recv(_MESSAGE):
        _, number, identity = _HEAD.unpack_from(message)
        arguments = struct.unpack_from("=6Q", message, _HEAD.size)
        function = functions[table.decide(number, arguments).plugin]
        call = Call(number, name_of(number), arguments, _Caller(end, identity))
        end.send(_answered(function, call, identity))
    return 0


def _table(said: list[Any]) -> Table:
    def case(when: list[list[Any]], plugin: str) -> Case:
        conditions = tuple(Condition(*one) for one in when)
        return Case(conditions, Action("plugin", plugin=plugin) if plugin else ALLOW)

    return Table(ALLOW, {number: tuple(case(*one) for one in cases) for number, cases in said})


def _find(name: str) -> Function:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{path} is no function")
    function: Function = found
    return function


def _answered(function: Function, call: Call, identity: int) -> bytes:
    try:
        value = function(call)
        if isinstance(value, int) and 0 <= value < 1 << 63:
            return _HEAD.pack(VALUE, 0, identity) + struct.pack("=Q", value)
        why = f"it returned {str(value)[:200]!r}, no number from 0 on"
    except OSError as error:
        if error.errno is not None and 0 < error.errno < 4096:
            return _HEAD.pack(ERROR, error.errno, identity)
        why = _why(error)
    except Exception as error:
        why = _why(error)
    return _HEAD.pack(NONE, 0, identity) + why.encode(errors="replace")


def _why(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error)[:200]} ({os.path.basename(place.filename)}, line {place.lineno})"


class _Caller:
    """Asks the monitor, who alone reaches the caller."""

    def __init__(self, end: socket.socket, identity: int) -> None:
        self._end = end
        self._identity = identity

    def pid(self) -> int:
        return self._ask(PID, b"")[0]

    def read(self, address: int, length: int) -> bytes:
        return self._ask(READ, struct.pack("=QQ", address, length))[1]

    def write(self, address: int, data: bytes) -> None:
        self._ask(WRITE, struct.pack("=Q", address) + data)

    def _ask(self, kind: int, body: bytes) -> tuple[int, bytes]:
        self._end.send(_HEAD.pack(kind, 0, self._identity) + body)
        message = self._end.recv(_MESSAGE)
        if len(message) < _HEAD.size:
            # The monitor has ended, and with it everything.
            os._exit(0)
        _, number, _ = _HEAD.unpack_from(message)
        if number < 0:
            raise OSError(-number, os.strerror(-number))
        return number, message[_HEAD.size :]


if __name__ == "__main__":
    sys.exit(main())
