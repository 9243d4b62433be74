"""Classic BPF as seccomp(2) runs it: an interpreter that is slow and plain."""

from __future__ import annotations

from collections.abc import Sequence

Insn = tuple[int, int, int, int]
ARCH = 0xC000003E


def run(program: Sequence[Insn], number: int, arguments: Sequence[int], arch: int = ARCH) -> int:
    """What the program returns for a call."""
    words = [number & 0xFFFFFFFF, arch, 0, 0]
    for argument in arguments:
        words += [argument & 0xFFFFFFFF, argument >> 32]
    at = accumulator = 0
    while True:
        code, jt, jf, k = program[at]
        at += 1
        match code:
            case 0x20:
                accumulator = words[k // 4]
            case 0x54:
                accumulator &= k
            case 0x05:
                at += k
            case 0x15:
                at += jt if accumulator == k else jf
            case 0x25:
                at += jt if accumulator > k else jf
            case 0x35:
                at += jt if accumulator >= k else jf
            case 0x06:
                return k
            case _:
                raise AssertionError(f"not an instruction of ours: {code:#x}")


def by_number(program: Sequence[Insn], number: int) -> int | None:
    """What Linux knows of a number ahead (seccomp_is_const_allow): None as soon as an argument is loaded."""
    at = accumulator = 0
    while True:
        code, jt, jf, k = program[at]
        at += 1
        if code == 0x20:
            if k not in (0, 4):
                return None
            accumulator = number if k == 0 else ARCH
        elif code == 0x06:
            return k
        elif code == 0x05:
            at += k
        elif code == 0x54:
            accumulator &= k
        else:
            holds = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k}[code]
            at += jt if holds else jf


def valid(program: Sequence[Insn]) -> bool:
    """Whether the kernel would take it, as far as our instructions go."""
    length = len(program)
    if not 0 < length <= 4096 or program[-1][0] != 0x06:
        return False
    for at, (code, jt, jf, k) in enumerate(program):
        if not (0 <= jt < 256 and 0 <= jf < 256 and 0 <= k < 1 << 32):
            return False
        if code in (0x15, 0x25, 0x35) and at + 1 + max(jt, jf) >= length:
            return False
        if code == 0x05 and at + 1 + k >= length:
            return False
        if code == 0x20 and (k % 4 or k >= 64):
            return False
    return True
