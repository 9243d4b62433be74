"""The host's in-kernel machine, as much of it as our programs use: for comparing them with their plain meaning."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

STACK = 1 << 20
CONTEXT = 1 << 24
_SIZES = {0x10: "B", 0x08: "H", 0x00: "I", 0x18: "Q"}
_SIGNED = {0xC0: lambda a, b: a < b, 0x60: lambda a, b: a > b}
_PLAIN: Mapping[int, Callable[[int, int], bool]] = {
    0x10: lambda a, b: a == b,
    0x50: lambda a, b: a != b,
    0x20: lambda a, b: a > b,
    0x30: lambda a, b: a >= b,
    0xA0: lambda a, b: a < b,
    0xB0: lambda a, b: a <= b,
}
_ALU: Mapping[int, Callable[[int, int], int]] = {
    0x00: lambda a, b: a + b,
    0x40: lambda a, b: a | b,
    0x50: lambda a, b: a & b,
    0x60: lambda a, b: a << b,
    0x70: lambda a, b: a >> b,
    0xA0: lambda a, b: a ^ b,
    0xB0: lambda a, b: b,
}


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) & 1 else value


Helper = Callable[[bytearray, list[int]], int]


def run(code: list[int], context: bytes, helpers: Mapping[int, Helper] | None = None) -> int:
    """What the program answers. A helper gets the memory (the stack's end is at 512) and the five arguments."""
    registers = [0] * 11
    registers[1], registers[10] = CONTEXT, STACK + 512
    stack = bytearray(512)
    place = 0
    while True:
        word = code[place]
        op, to, source = word & 0xFF, word >> 8 & 15, word >> 12 & 15
        offset, value = _signed(word >> 16 & 0xFFFF, 16), _signed(word >> 32, 32)
        place += 1
        kind = op & 7
        if op == 0x18:
            registers[to] = (word >> 32) | (code[place] >> 32) << 32
            place += 1
        elif kind in (1, 2):
            at = registers[source if kind == 1 else to] + offset
            form = "=" + _SIZES[op & 0x18]
            if kind == 2:
                struct.pack_into(form, stack, at - STACK, value & ((1 << 8 * struct.calcsize(form)) - 1))
            elif at >= CONTEXT:
                registers[to] = struct.unpack_from(form, context, at - CONTEXT)[0]
            else:
                registers[to] = struct.unpack_from(form, stack, at - STACK)[0]
        elif op == 0xDC:
            registers[to] = int.from_bytes((registers[to] & ((1 << value) - 1)).to_bytes(value // 8, "little"), "big")
        elif kind in (4, 7):
            right = registers[source] if op & 8 else value
            bits = 32 if kind == 4 else 64
            mask = (1 << bits) - 1
            registers[to] = _ALU[op & 0xF0](registers[to] & mask, right & mask) & mask
        elif op == 0x95:
            return registers[0]
        elif op == 0x85:
            assert helpers is not None
            registers[0] = helpers[value](stack, registers[1:6]) & ((1 << 64) - 1)
            registers[1:6] = [0xDEAD] * 5
        elif op == 0x05:
            place += offset
        else:
            bits = 32 if kind == 6 else 64
            mask = (1 << bits) - 1
            left, right = registers[to] & mask, (registers[source] if op & 8 else value) & mask
            compare = _SIGNED.get(op & 0xF0)
            if compare is not None:
                holds = compare(_signed(left, bits), _signed(right, bits))
            else:
                holds = _PLAIN[op & 0xF0](left, right)
            place += offset if holds else 0
