"""One system call in a running process, made by stopping one of its threads for an instant (ptrace(2)).

For the few settings that Linux lets a process change for itself only: huge pages, the private futex table. The thread
goes on where it stood; a call it waited in is restarted as after any signal without a handler. x86-64 only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal

from rvisor._sentry.cgroup import get as read
from rvisor.policy.container import tasks_of
from rvisor.policy.errors import PolicyError

_SEIZE, _INTERRUPT, _GETREGS, _SETREGS, _STEP, _DETACH = 0x4206, 0x4207, 12, 13, 9, 17
_SETOPTIONS = 0x4200
_SUSPEND_SECCOMP = 1 << 21
_WALL = 0x40000000
_EVENT_STOP = 128
_PRCTL = 157
_CODE_64 = 0x33
_MOST_STOPS = 100


_NAMES = (
    "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base "
    "ds es fs gs"
)


class _Registers(ctypes.Structure):
    """struct user_regs_struct."""

    _fields_ = [(name, ctypes.c_ulonglong) for name in _NAMES.split()]


def prctl(pid: int, option: int, *arguments: int) -> int:
    """prctl(2) in process `pid`; its answer. OSError as the call had it there, ESRCH if the process is gone.

    PolicyError: the process cannot be stopped for it.
    """
    if platform.machine() != "x86_64":
        raise PolicyError("settings of a running process need x86-64")
    words = [option, *arguments, 0, 0, 0, 0][:5]
    # The first thread may have ended before the others.
    task = next((task for task in [pid, *tasks_of(pid)] if _state(task) not in "ZX"), None)
    if task is None:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    filtered = any(line.split() == ["Seccomp:", "2"] for line in read(f"/proc/{task}/status").splitlines())
    try:
        _ptrace(_SEIZE, task, 0, 0)
    except PermissionError:
        why = "another process traces it, or it may not be traced"
        raise PolicyError(f"process {pid} cannot be stopped: {why}") from None
    answer = _stopped(task, words, filtered=filtered)
    if answer < 0:
        raise OSError(-answer, os.strerror(-answer))
    return answer


def _stopped(task: int, words: list[int], *, filtered: bool) -> int:
    held: list[int] = []
    try:
        _ptrace(_INTERRUPT, task, 0, 0)
        _wait(task, held, event=True)
        if filtered:
            _suspend(task)
        before = _registers(task)
        if before.cs != _CODE_64:
            raise PolicyError(f"process {task} is a 32-bit program")
        there = _Registers.from_buffer_copy(before)
        there.rip, there.rax, there.orig_rax = _instruction(task), _PRCTL, (1 << 64) - 1
        there.rdi, there.rsi, there.rdx, there.r10, there.r8 = words
        _ptrace(_SETREGS, task, 0, ctypes.byref(there))
        try:
            _ptrace(_STEP, task, 0, 0)
            _wait(task, held, event=False)
            answer = ctypes.c_longlong(_registers(task).rax).value
        finally:
            _ptrace(_SETREGS, task, 0, ctypes.byref(before))
        return answer
    finally:
        last = held.pop() if held else 0
        try:
            _ptrace(_DETACH, task, 0, last)
            for number in held:
                os.kill(task, number)
        except ProcessLookupError:
            pass


def _suspend(task: int) -> None:
    """Only now that it stands: its own calls are never without its filter."""
    try:
        _ptrace(_SETOPTIONS, task, 0, _SUSPEND_SECCOMP)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
        raise PolicyError(f"process {task} has a filter, which cannot be suspended here") from None


def _wait(task: int, held: list[int], *, event: bool) -> None:
    """Until it stands where it was told to. Signals that come first are held, and delivered at the end."""
    for _ in range(_MOST_STOPS):
        _, status = os.waitpid(task, _WALL)
        if not os.WIFSTOPPED(status):
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        number = os.WSTOPSIG(status)
        if status >> 16 == _EVENT_STOP:
            if event:
                return
            _ptrace(_STEP, task, 0, 0)
        elif number == signal.SIGTRAP and not event:
            return
        else:
            held.append(number)
            _ptrace(_STEP if not event else _CONT, task, 0, 0)
    raise PolicyError(f"process {task} does not come to a stop")


_CONT = 7


def _instruction(task: int) -> int:
    """Where a `syscall` instruction is: the host gives every process some, for its clocks."""
    with open(f"/proc/{task}/maps", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.rstrip().endswith("[vdso]"):
                first, last = (int(word, 16) for word in line.split()[0].split("-"))
                with open(f"/proc/{task}/mem", "rb", buffering=0) as memory:
                    memory.seek(first)
                    at = memory.read(last - first).find(b"\x0f\x05")
                if at >= 0:
                    return first + at
    raise PolicyError(f"process {task} has no vDSO: there is no place to call from")


def _state(task: int) -> str:
    try:
        return read(f"/proc/{task}/stat").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "X"


def _registers(task: int) -> _Registers:
    found = _Registers()
    _ptrace(_GETREGS, task, 0, ctypes.byref(found))
    return found


def _ptrace(request: int, task: int, address: int, data: object) -> None:
    function = ctypes.CDLL(None, use_errno=True).ptrace
    function.restype = ctypes.c_long
    function.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if function(request, task, address, data) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
