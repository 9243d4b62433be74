"""System calls that Python has no names for: sched_setattr(2), sched_getattr(2), process_madvise(2)."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import NamedTuple

_NUMBERS = {
    "x86_64": {"sched_setattr": 314, "sched_getattr": 315, "process_madvise": 440},
    "aarch64": {"sched_setattr": 274, "sched_getattr": 275, "process_madvise": 440},
}
_ATTR = struct.Struct("<IIQiIQQQ")
"""struct sched_attr, without the clamps: size, policy, flags, nice, priority, runtime, deadline, period."""
RESET_ON_FORK = 1


class Attr(NamedTuple):
    """A thread's scheduling: `policy` is one of os.SCHED_*, `runtime_ns` its slice under the fair policies."""

    policy: int
    flags: int
    nice: int
    priority: int
    runtime_ns: int


def sched_getattr(task: int) -> Attr:
    """OSError as the host has it."""
    space = ctypes.create_string_buffer(_ATTR.size)
    call("sched_getattr", task, space, _ATTR.size, 0)
    _, policy, flags, nice, priority, runtime, _, _ = _ATTR.unpack(space.raw)
    return Attr(policy, flags, nice, priority, runtime)


def sched_setattr(task: int, attr: Attr) -> None:
    """OSError as the host has it: ESRCH it is gone, EPERM no right, or no real-time budget in its control group."""
    packed = _ATTR.pack(_ATTR.size, attr.policy, attr.flags, attr.nice, attr.priority, attr.runtime_ns, 0, 0)
    call("sched_setattr", task, packed, 0)


def call(name: str, *arguments: object) -> int:
    """The host's answer; OSError."""
    number = _NUMBERS.get(platform.machine(), {}).get(name)
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    passed = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    answer: int = _syscall()(ctypes.c_long(number), *passed)
    if answer < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return answer


_found: list[ctypes._FuncPointer] = []


def _syscall() -> ctypes._FuncPointer:
    if not _found:
        function = ctypes.CDLL(None, use_errno=True).syscall
        function.restype = ctypes.c_long
        _found.append(function)
    return _found[0]
