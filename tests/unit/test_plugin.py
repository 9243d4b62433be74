"""What a plug-in's function sees of a call, and what becomes of rows with plug-ins."""

from __future__ import annotations

import errno
import os

import pytest

from rvisor.errors import ProfileError
from rvisor.plugin import Call
from rvisor.profile import plugins, read, shared, support
from rvisor.profile.model import ALLOW, Action


class Memory:
    """Two pages from 0x1000 on, of which the second is not there beyond its beginning."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)

    def pid(self) -> int:
        return 7

    def read(self, address: int, length: int) -> bytes:
        if address < 0x1000 or address + length > 0x1000 + len(self.data):
            raise OSError(errno.EFAULT, "")
        return bytes(self.data[address - 0x1000 : address - 0x1000 + length])

    def write(self, address: int, data: bytes) -> None:
        self.data[address - 0x1000 : address - 0x1000 + len(data)] = data


def call(memory: Memory) -> Call:
    return Call(400, "syscall_400", (1, 2, 3, 4, 5, 6), memory)


def test_memory_of_a_call() -> None:
    made = call(Memory(b"\0" * 4090 + b"a text \xff\0" + b"x" * 4087))
    assert made.pid == 7 and repr(made) == "syscall_400(0x1, 0x2, 0x3, 0x4, 0x5, 0x6)"
    assert made.string(0x1000 + 4090) == "a text " + os.fsdecode(b"\xff")
    made.write(0x1000, b"new")
    assert made.read(0x1000, 4) == b"new\0"
    for failing, expected in (
        (lambda: made.string(0x2010), errno.EFAULT),
        (lambda: made.string(0x2010, limit=100), errno.ENAMETOOLONG),
        (lambda: made.read(-1, 1), errno.EFAULT),
        (lambda: made.write(1 << 64, b""), errno.EFAULT),
    ):
        with pytest.raises(OSError) as caught:
            failing()
        assert caught.value.errno == expected
    for too_much in (lambda: made.read(0x1000, 1 << 17), lambda: made.write(0x1000, bytes(1 << 17))):
        with pytest.raises(ValueError, match="at most 65536"):
            too_much()


def test_the_rows_of_a_profile() -> None:
    text = (
        '[syscalls]\ndefault = "errno"\n'
        '[[syscalls.rule]]\nnames = ["getpid", "syscall_400"]\naction = "plugin"\nplugin = "m:f"\n'
        '[[syscalls.rule]]\nnames = ["getpid"]\naction = "errno"\nwhen = ["arg0 == 5"]\n'
    )
    profile = read.loads(text)
    found = plugins.served(profile)
    assert found is not None
    function = Action("plugin", plugin="m:f")
    answers = [found.table.decide(nr, (first, 0, 0, 0, 0, 0)) for nr, first in ((39, 5), (39, 6), (400, 0), (1, 0))]
    assert answers == [ALLOW, function, function, ALLOW]
    assert plugins.rows(found)["functions"] == {"39": "m:f", "400": "m:f"}
    # The profile's own filter lets through what the rows ask about.
    parts = shared.parts(profile)
    assert parts.shared["plugins"] is not None and parts.served == found
    assert [what for what, _ in profile.unsupported("private")] == ["syscalls: the action 'plugin'"]
    for name in support.START:
        wrong = read.loads(text.replace("getpid", name, 1))
        assert wrong.unsupported("shared")


@pytest.mark.parametrize("name, why", [
    ("syscall_63", "there is no system call"),
    ("syscall_512", "there is no system call"),
    ("syscall_0400", "there is no system call"),
    ("execve", "a plug-in for execve, which the start of a container needs,"),
    ("clone", "a plug-in for clone, which is looked at for the ceiling"),
    ("syslog", "a plug-in for syslog beside the kernel log"),
])  # fmt: skip
def test_what_no_plug_in_can_serve(name: str, why: str) -> None:
    rule = f'[[syscalls.rule]]\nnames = ["{name}"]\naction = "plugin"\nplugin = "m:f"\n'
    with pytest.raises(ProfileError, match=why):
        support.refuse(read.loads(f'[syscalls]\ndefault = "allow"\n{rule}'), "shared")


def test_numbers_are_for_plug_ins() -> None:
    with pytest.raises(ProfileError, match="calls without a name are for plug-ins only"):
        read.loads('[syscalls]\ndefault = "allow"\n[[syscalls.rule]]\nnames = ["syscall_400"]\naction = "errno"\n')
