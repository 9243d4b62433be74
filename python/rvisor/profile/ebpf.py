"""An assembler for the host's in-kernel programs (BPF, 64 bits): as much of it as `groups` needs."""

from __future__ import annotations

from rvisor.errors import ProfileError

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, FP = range(11)
BYTE, HALF, WORD, DOUBLE = 0x10, 0x08, 0x00, 0x18

_LDX, _ST, _STX, _MOVE, _MOVE_IMMEDIATE = 0x61, 0x62, 0x63, 0xBF, 0xB7
_ALU32 = {"add": 0x04, "or": 0x44, "and": 0x54, "shl": 0x64, "shr": 0x74, "xor": 0xA4}
_JUMP = {"==": 0x10, "!=": 0x50, ">": 0x20, ">=": 0x30, "<": 0xA0, "<=": 0xB0, "s<": 0xC0, "s>": 0x60}
_TO_BIG_ENDIAN, _CALL, _EXIT, _GOTO = 0xDC, 0x85, 0x95, 0x05
_REGISTER, _OF_64, _OF_32 = 0x08, 0x05, 0x06
_FARTHEST = 0x7FFF


class Assembler:
    """Instructions in their order. Jumps are to labels, which are set before or after."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int, int]] = []
        self._labels: dict[int, int] = {}
        self._jumps: dict[int, int] = {}
        self._next = 0

    def label(self) -> int:
        """A new one, not yet at a place."""
        self._next += 1
        return self._next

    def here(self, label: int) -> None:
        """What is said next is at the label."""
        self._labels[label] = len(self._code)

    def load(self, to: int, source: int, offset: int, size: int = WORD) -> None:
        self._emit(_LDX | size, to, source, offset)

    def store(self, to: int, offset: int, value: int, size: int = WORD) -> None:
        self._emit(_ST | size, to, 0, offset, value)

    def move(self, to: int, source: int) -> None:
        self._emit(_MOVE, to, source)

    def put(self, to: int, value: int) -> None:
        self._emit(_MOVE_IMMEDIATE, to, 0, 0, value)

    def add(self, to: int, value: int) -> None:
        """Of 64 bits, as pointers are."""
        self._emit(0x07, to, 0, 0, value)

    def sum(self, to: int, source: int) -> None:
        self._emit(0x0F, to, source)

    def alu(self, what: str, to: int, value: int) -> None:
        """Of 32 bits: add, or, and, shl, shr, xor."""
        self._emit(_ALU32[what], to, 0, 0, value)

    def big_endian(self, to: int, bits: int) -> None:
        self._emit(_TO_BIG_ENDIAN, to, 0, 0, bits)

    def jump(self, label: int) -> None:
        self._jumps[len(self._code)] = label
        self._emit(_GOTO)

    def when(self, left: int, op: str, value: int, label: int) -> None:
        """Of 32 bits."""
        self._jumps[len(self._code)] = label
        self._emit(_JUMP[op] | _OF_32, left, 0, 0, value)

    def when_double(self, left: int, op: str, right: int, label: int) -> None:
        """Two registers of 64 bits."""
        self._jumps[len(self._code)] = label
        self._emit(_JUMP[op] | _REGISTER | _OF_64, left, right)

    def double(self, to: int, value: int) -> None:
        """A constant of 64 bits: two instructions."""
        self._emit(0x18, to, 0, 0, value & 0xFFFFFFFF)
        self._emit(0, 0, 0, 0, value >> 32 & 0xFFFFFFFF)

    def call(self, helper: int) -> None:
        self._emit(_CALL, 0, 0, 0, helper)

    def end(self, value: int) -> None:
        self.put(R0, value)
        self._emit(_EXIT)

    def code(self) -> list[int]:
        """Each instruction as one number. Raises ProfileError if a jump is too far."""
        reached = self._reached()
        # The host's kernel refuses a program with instructions that nothing leads to.
        places = {old: new for new, old in enumerate(place for place in range(len(self._code)) if place in reached)}
        made = []
        for place, new in places.items():
            op, to, source, offset, value = self._code[place]
            if place in self._jumps:
                offset = places[self._labels[self._jumps[place]]] - new - 1
                if offset > _FARTHEST:
                    raise ProfileError("there are too many rules for one program of the host's kernel")
            made.append(op | to << 8 | source << 12 | (offset & 0xFFFF) << 16 | (value & 0xFFFFFFFF) << 32)
        return made

    def _reached(self) -> set[int]:
        found: set[int] = set()
        left = [0]
        while left:
            place = left.pop()
            while place not in found:
                found.add(place)
                op = self._code[place][0]
                if place in self._jumps:
                    left.append(self._labels[self._jumps[place]])
                if op == _EXIT:
                    break
                place = self._labels[self._jumps[place]] if op == _GOTO else place + 1
        return found

    def _emit(self, op: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> None:
        self._code.append((op, to, source, offset, value))
