"""The system calls that are written in a program's file, without running it.

Two sources: instructions `mov $N,%eax … syscall` in its own code, and functions it imports, whose code in the libraries
it names is looked at in the same way, with what that code calls itself. It is a second source beside `learn`: it sees
what no run happened to do, and also what no run ever will; what is opened at run time (dlopen, NSS) or computed it does
not see.

The few structures of ELF-64 are read here, as this needs no dependency: a disassembler would be needed to follow every
way through the code, and would not know which of them are taken either.
"""

from __future__ import annotations

import os
import re
import struct

from rvisor.errors import ProfileError
from rvisor.profile.vocabulary import NAMES, NUMBERS

_DIRECTORIES = ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib")
# mov $imm32,%eax or xor %eax,%eax, up to 24 bytes that do not load it again, syscall.
_CALL = re.compile(rb"(?:\xb8(.{4})|\x31\xc0|\x33\xc0)((?:(?!\xb8)[\x00-\xff]){0,24}?)\x0f\x05", re.DOTALL)
_PUSH = re.compile(rb"\x6a(.)\x58[\x00-\xff]{0,12}?\x0f\x05", re.DOTALL)
_DEPTH = 6
_LARGEST = 512 << 20
_LONGEST = 4096
_STARTING = "execve exit_group brk mmap munmap mprotect arch_prctl set_tid_address set_robust_list rseq prlimit64"
_LOADER = "openat read pread64 newfstatat fstat close access readlink getrandom"
"""What the loader and the C library do before the program begins."""

_INDIRECT = (
    (re.compile(r"_*(v?f?w?printf|f?put|puts|fwrite|fflush|perror|error|vfprintf)"), "write fstat newfstatat ioctl"),
    (re.compile(r"_*(f?gets|f?getc|fread|getline|getdelim|f?scanf)"), "read fstat newfstatat lseek"),
    (re.compile(r"f(open|dopen|close|reopen|seek|tell)"), "openat close fstat newfstatat lseek read write"),
    (
        re.compile(r"get(addrinfo|nameinfo|hostby)"),
        "socket connect sendto recvfrom sendmmsg recvmsg poll bind getsockname",
    ),
    (re.compile(r"get(pw|gr|serv|proto)"), "openat read close fstat newfstatat lseek socket connect poll"),
    (re.compile(r"pthread_create|thrd_create|posix.spawnp?|system$|popen"), "clone clone3 mmap mprotect madvise wait4"),
)
"""What the C library does behind pointers, which are not followed."""


class Found:
    """Names of calls, and what could not be looked at."""

    def __init__(self, names: set[str]) -> None:
        self.names = names
        self.notes: list[str] = []


def calls(path: str) -> Found:
    """The calls of a program, with its libraries. Raises ProfileError."""
    program = _File(path)
    found = Found(set(_STARTING.split()))
    found.names |= _direct(program.code())
    if not program.imports and not program.needed:
        return found
    found.names |= set(_LOADER.split())
    libraries, waiting, known = [], list(program.needed), set()
    while waiting:
        name = waiting.pop()
        if name in known:
            continue
        known.add(name)
        where = next((p for p in (os.path.join(d, name) for d in _DIRECTORIES) if os.path.exists(p)), None)
        if where is None:
            found.notes.append(f"{path}: {name} is not there: what it does is not known")
            continue
        libraries.append(_File(where))
        waiting += libraries[-1].needed
    _follow(program.imports, libraries, found)
    return found


def _follow(imports: set[str], libraries: list[_File], found: Found) -> None:
    """Functions by name, in whichever library has them, and those that these import or call."""
    homes: dict[str, _File] = {}
    for library in libraries:
        for name in library.functions:
            homes.setdefault(name, library)
    waiting = [(name, 0) for name in imports]
    seen = set(imports)
    looked: set[tuple[int, int]] = set()
    while waiting:
        name, depth = waiting.pop()
        for pattern, calls in _INDIRECT:
            if pattern.match(name):
                found.names.update(calls.split())
        if name not in homes:
            continue
        library = homes[name]
        if name in NUMBERS:
            found.names.add(name)
        for start, size in _reached(library, library.functions[name], looked):
            code = library.at(start, size)
            found.names |= _direct(code)
            if depth < _DEPTH:
                for other in library.calls_out(start, code):
                    if other not in seen:
                        seen.add(other)
                        waiting.append((other, depth + 1))


def _reached(library: _File, function: tuple[int, int], looked: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """The function and those of the same library that it calls directly, as far as they have names."""
    found, waiting = [], [(function, 0)]
    while waiting:
        one, depth = waiting.pop()
        key = (id(library), one[0])
        if key in looked:
            continue
        looked.add(key)
        found.append(one)
        if depth < _DEPTH:
            code = library.at(*one)
            waiting += [(other, depth + 1) for other in library.calls_within(one[0], code)]
    return found


def _direct(code: bytes) -> set[str]:
    names = set()
    for match in _CALL.finditer(code):
        number = int.from_bytes(match[1], "little") if match[1] else 0
        if number in NAMES:
            names.add(NAMES[number])
    for match in _PUSH.finditer(code):
        if match[1][0] in NAMES:
            names.add(NAMES[match[1][0]])
    return names


class _File:
    """One ELF-64 file for x86-64."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            if not os.path.isfile(path):
                raise ProfileError(f"{path}: not a regular file")
            with open(path, "rb") as file:
                self._data = file.read(_LARGEST + 1)
        except OSError as error:
            raise ProfileError(f"{path}: {error.strerror}") from None
        try:
            self._read()
        except (struct.error, IndexError, ValueError, OverflowError, MemoryError):
            raise ProfileError(f"{path}: not an ELF file that can be read") from None

    def _read(self) -> None:
        data = self._data
        if data[:6] != b"\x7fELF\x02\x01" or len(data) > _LARGEST:
            raise ValueError
        machine = struct.unpack_from("<H", data, 18)[0]
        if machine != 62:
            raise ProfileError(f"{self.path}: not a program for x86-64")
        headers, size, count = (struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54))
        self._segments: list[tuple[int, int, int, int]] = []
        dynamic = (0, 0)
        for number in range(count):
            kind, flags, offset, address, _, length = struct.unpack_from("<IIQQQQ", data, headers + number * size)
            if kind == 1:
                self._segments.append((address, offset, length, flags))
            elif kind == 2:
                dynamic = (offset, length)
        self.needed: list[str] = []
        self.imports: set[str] = set()
        self.functions: dict[str, tuple[int, int]] = {}
        self._starts: dict[int, int] = {}
        self._slots: dict[int, str] = {}
        if dynamic[1]:
            self._dynamic(*dynamic)

    def _dynamic(self, offset: int, length: int) -> None:
        entries = [struct.unpack_from("<qQ", self._data, offset + at) for at in range(0, length - 15, 16)]
        table = dict(entries)
        text = self._offset(table.get(5, 0))
        self.needed = [self._text(text + value) for tag, value in entries if tag == 1]
        symbols = self._offset(table.get(6, 0))
        names: dict[int, str] = {}
        # The table of names follows the table of symbols; there is no count.
        count = min((text - symbols) // 24, 1 << 20) if text > symbols else 0
        for number in range(1, count):
            name, info, _, section, value, size = struct.unpack_from("<IBBHQQ", self._data, symbols + 24 * number)
            if info & 15 not in (0, 2, 10):
                continue
            label = self._text(text + name)
            names[number] = label
            if section:
                self.functions[label] = (value, min(size, 1 << 16))
                self._starts[value] = min(size, 1 << 16)
            else:
                self.imports.add(label)
        for relocations, length in ((table.get(23, 0), table.get(2, 0)), (table.get(7, 0), table.get(8, 0))):
            start = self._offset(relocations) if relocations else 0
            for at in range(0, min(length, 1 << 24) - 23, 24):
                where, info = struct.unpack_from("<QQ", self._data, start + at)
                if info >> 32 in names:
                    self._slots[where] = names[info >> 32]

    def _offset(self, address: int) -> int:
        for start, offset, length, _ in self._segments:
            if start <= address < start + length:
                return address - start + offset
        raise ValueError

    def _text(self, at: int) -> str:
        return self._data[at : self._data.index(b"\0", at, at + _LONGEST)].decode(errors="replace")

    def code(self) -> bytes:
        """All that can be executed."""
        return b"".join(
            self._data[offset : offset + length] for _, offset, length, flags in self._segments if flags & 1
        )

    def at(self, address: int, size: int) -> bytes:
        """The bytes of a function."""
        try:
            offset = self._offset(address)
        except ValueError:
            return b""
        return self._data[offset : offset + size]

    def _targets(self, start: int, code: bytes) -> list[int]:
        return [
            start + at.start() + 5 + int.from_bytes(at[1], "little", signed=True)
            for at in re.finditer(rb"[\xe8\xe9](.{4})", code, re.DOTALL)
        ]

    def calls_within(self, start: int, code: bytes) -> list[tuple[int, int]]:
        """Functions of this file that the code calls."""
        return [(target, self._starts[target]) for target in self._targets(start, code) if target in self._starts]

    def calls_out(self, start: int, code: bytes) -> list[str]:
        """Imported functions that the code calls: by a stub that jumps through a slot, or through the slot at once."""
        found = []
        for target in self._targets(start, code):
            stub = self.at(target, 16)
            jump = re.search(rb"\xff\x25(.{4})", stub, re.DOTALL)
            if jump:
                slot = target + jump.end() + int.from_bytes(jump[1], "little", signed=True)
                if slot in self._slots:
                    found.append(self._slots[slot])
        for direct in re.finditer(rb"\xff[\x15\x25](.{4})", code, re.DOTALL):
            slot = start + direct.end() + int.from_bytes(direct[1], "little", signed=True)
            if slot in self._slots:
                found.append(self._slots[slot])
        return found
