"""What a sandbox's processes may ask of the host: read off the filters that the host's kernel holds for them.

Needs root without a filter of its own, and a host kernel that was built to tell (CONFIG_CHECKPOINT_RESTORE).
"""

from __future__ import annotations

import ctypes
import os
import struct
import time
from pathlib import Path

from rvisor.bench.peers import Job
from rvisor.bench.waiting import IDLE, Waiting
from rvisor.errors import RvisorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor.bench.peers import Peer

    Filter = list[tuple[int, int, int, int]]

_SEIZE, _INTERRUPT, _GET_FILTER, _DETACH = 0x4206, 0x4207, 0x420C, 17
_WALL = 0x40000000
_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CALLS = range(512)
"""More numbers than Linux has calls."""
_RETURNS = {0x7FFF0000: "allow", 0x7FFC0000: "allow", 0x7FF00000: "trace", 0x7FC00000: "notify", 0x00030000: "trap"}


def of(peer: Peer) -> dict[str, tuple[float, str]]:
    """For the least and the most that a process of an idle shell's sandbox may ask."""
    with Waiting(peer, [Job(IDLE)]) as shell:
        shell.ready()
        time.sleep(1)
        found = {}
        for pid in peer.place.group.processes():
            if peer.sandbox and pid == shell.processes[0].pid:
                continue
            try:
                found[pid] = filters(pid)
            except OSError:
                continue
        shell.finish()
    if not found:
        raise RvisorError(f"{peer.name}: the filters of its processes cannot be read here")
    counted = {(len(reachable(held)), sum(map(len, held))) for held in found.values()}
    (least, short), (most, long) = min(counted), max(counted)
    return {
        "least, calls": (float(least), ""),
        "least, filter's instructions": (float(short), ""),
        "most, calls": (float(most), ""),
        "most, filter's instructions": (float(long), ""),
    }


def reachable(held: list[Filter]) -> set[int]:
    """Calls that every filter lets through, at least with some arguments. Without a filter: all there are."""
    if not held:
        return set(CALLS) & host_calls()
    return {number for number in CALLS if all("allow" in answers(code, number) for code in held)} & host_calls()


def host_calls() -> set[int]:
    """The numbers that this host's kernel knows, as far as its C library's headers tell."""
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        return set(CALLS)
    words = (line.split() for line in header.read_text().splitlines() if line.startswith("#define __NR_"))
    return {int(line[2]) for line in words}


def answers(code: Filter, number: int) -> set[str]:
    """What a filter may answer to a call, whatever its arguments are."""
    found: set[str] = set()
    states: list[tuple[int, int | None]] = [(0, None)]
    seen = set(states)
    while states:
        at, value = states.pop()
        operation, if_true, if_false, operand = code[at]
        after: list[tuple[int, int | None]]
        if operation & 7 == 6:
            # One that returns its accumulator may return anything.
            found.add(_RETURNS.get(operand & 0xFFFF0000, "refuse") if operation == 0x06 else "allow")
            continue
        if operation & 7 == 5:
            after = [(at + 1 + step, value) for step in _steps(operation, if_true, if_false, operand, value)]
        elif operation == 0x20:
            known = {0: number, 4: _ARCH.get(os.uname().machine)}
            after = [(at + 1, known.get(operand))]
        elif operation & 7 in (0, 4) or operation == 0x87:
            after = [(at + 1, operand if operation == 0x00 else None)]
        else:
            after = [(at + 1, value)]
        for state in after:
            if state not in seen:
                seen.add(state)
                states.append(state)
    return found


def _steps(operation: int, if_true: int, if_false: int, operand: int, value: int | None) -> set[int]:
    if operation == 0x05:
        return {operand}
    compare = {0x15: int.__eq__, 0x25: int.__gt__, 0x35: int.__ge__, 0x45: int.__and__}.get(operation)
    if compare is None or value is None:
        return {if_true, if_false}
    return {if_true if compare(value, operand) else if_false}


def filters(pid: int) -> list[Filter]:
    """The filters of a process's first thread; OSError if it cannot be asked."""
    status = Path(f"/proc/{pid}/status").read_text()
    if "\nSeccomp:\t2" not in status:
        return []
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.restype = ctypes.c_long
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

    def ask(request: int, address: int = 0, data: ctypes.Array[ctypes.c_char] | None = None) -> int:
        result: int = libc.ptrace(request, pid, address, data)
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result

    ask(_SEIZE)
    try:
        ask(_INTERRUPT)
        os.waitpid(pid, _WALL)
        held: list[Filter] = []
        while True:
            try:
                count = ask(_GET_FILTER, len(held))
            except FileNotFoundError:
                return held
            code = ctypes.create_string_buffer(8 * count)
            ask(_GET_FILTER, len(held), code)
            held.append(list(struct.iter_unpack("=HBBI", code.raw)))
    finally:
        ask(_DETACH)
