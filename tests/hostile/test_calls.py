"""Every system call number with hostile registers: from guest code, and from inside the stub's own image."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from framework import inside

NUMBERS = [*range(471), 1024, *(0x40000000 | n for n in (0, 1, 2, 9, 57, 59, 231, 512, 520, 547)), -1, (1 << 32) + 1]

# @ is a path in the canary directory, # a zeroed buffer. None of them ends the sandbox's first process or its group.
HOSTILE = {
    "zeroes": "0 0 0 0 0 0",
    "ones": "-1 -1 -1 -1 -1 -1",
    "path": "@ 0x42 0777 # # #",
    "at": "-100 @ 0x42 0777 # 0",
    "paths": "@ @ @ @ @ @",
    "kill": "-1 9 9 9 9 9",
    "pointers": "# # # # # #",
    "kernel": "0xffffffff81000000 0xffffffff81000000 0x7ff000000000 0x7ff200000000 0x800000000000 8",
    "descriptor": "3 # 4096 3 # 4096",
}
UNFILTERED = {335: {("fault", 4), ("ended", 132)}, 336: {("returned", -6)}}
"""uretprobe and uprobe: since Linux 6.14 the host's kernel passes them by every seccomp filter. Where no probe was set
they end in SIGILL and ENXIO, and only the host's root can set one."""
STATUS = 7
"""What calls.c ends with."""


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host's that the sandbox can see, and a process that must live on."""
    (tmp_path / "kept").write_text("as it was\n")
    tmp_path.chmod(0o777)
    before = sorted((path.name, os.stat(path)) for path in (tmp_path, tmp_path / "kept"))
    sleeper = subprocess.Popen(["sleep", "600"])
    try:
        yield tmp_path
        assert sleeper.poll() is None, "a process of the host's was ended"
    finally:
        sleeper.kill()
        sleeper.wait()
    after = sorted((path.name, os.stat(path)) for path in (tmp_path, tmp_path / "kept"))
    assert [(name, s.st_mode, s.st_mtime_ns, s.st_ctime_ns) for name, s in after] == [
        (name, s.st_mode, s.st_mtime_ns, s.st_ctime_ns) for name, s in before
    ]
    assert os.listdir(tmp_path) == ["kept"]
    assert (tmp_path / "kept").read_text() == "as it was\n"


def make(program: str, canary: Path, lines: list[str]) -> dict[str, list[tuple[int, str, int]]]:
    """Have the calls made in one sandbox; per way: number, outcome, value, in order."""
    # Some four thousand processes that end badly: on a busy machine that takes minutes.
    limits = ["--timeout", "240"]
    done = inside.rvisor("run", "-i", *limits, "--", program, str(canary), stdin="\n".join(lines), timeout=270)
    assert done.status == STATUS, (done.status, done.out[-500:], done.err[-2000:])
    assert done.err == ""
    found = defaultdict(list)
    for line in done.out.splitlines():
        way, number, outcome, value = line.split()
        found[way].append((int(number, 0), outcome, int(value)))
    assert sum(map(len, found.values())) == len(lines)
    return found


def every(way: str) -> list[str]:
    return [f"{way} {number} {args}" for args in HOSTILE.values() for number in NUMBERS]


@pytest.mark.parametrize("way", ["guest", "user"])
def test_from_the_guest(way: str, guest: Callable[[str], str], canary: Path) -> None:
    served = {row["nr"] for row in json.loads(inside.rvisor("syscalls", "--json").out)}
    found = make(guest("calls"), canary, every(way))[way]
    enosys = -38
    wrong = [
        (number, outcome, value)
        for number, outcome, value in found
        if number not in served and (outcome, value) not in {("returned", enosys)} | UNFILTERED.get(number, set())
    ]
    assert wrong == []
    # It was not all refused: the calls reached the kernel.
    assert len({number for number, outcome, value in found if outcome == "returned" and value >= 0}) > 60


def test_by_a_jump_into_the_stub(guest: Callable[[str], str], canary: Path) -> None:
    """Whatever follows the instruction runs on with the guest's registers; only the caller may come to harm."""
    found = make(guest("calls"), canary, every("jump"))["jump"]
    outcomes = {outcome for _, outcome, _ in found}
    assert outcomes <= {"returned", "ended", "fault", "hung"}
    assert "ended" in outcomes


def surface() -> list[dict[str, object]]:
    rules: list[dict[str, object]] = json.loads(inside.rvisor("doctor", "--surface", "--json").out)["stub"]["calls"]
    assert rules
    return rules


def test_what_the_filter_lets_through_is_what_is_printed(guest: Callable[[str], str], canary: Path) -> None:
    """By whatever arguments a number can be let through, it is on the list, and each one on the list is let through."""
    rules = surface()
    lines = every("stub")
    lines += [f"stub {rule['nr']} {args}" for rule in rules for args in both_sides(str(rule["conditions"]))[0]]
    found = make(guest("calls"), canary, lines)["stub"]
    through = {
        number
        for number, outcome, value in found
        if outcome != "trapped" and (outcome, value) not in UNFILTERED.get(number, set())
    }
    assert through == {rule["nr"] for rule in rules}
    assert {outcome for _, outcome, _ in found} >= {"trapped", "returned"}


def both_sides(conditions: str) -> tuple[list[str], list[str]]:
    """Arguments that meet what `doctor --surface` prints, and arguments that just do not."""
    good, bad = [[0] * 6], []
    for text in conditions.split(" and ") if conditions else []:
        if equal := re.fullmatch(r"arg(\d) == (0x\w+)", text):
            index, value = int(equal[1]), int(equal[2], 0)
            good = [[*args[:index], value, *args[index + 1 :]] for args in good]
            bad += [[*good[0][:index], other, *good[0][index + 1 :]] for other in (value + 1, value | 1 << 32)]
        elif member := re.fullmatch(r"arg(\d) in \{(.*)\}", text):
            index, values = int(member[1]), [int(word, 0) for word in member[2].split(", ")]
            good = [[*args[:index], value, *args[index + 1 :]] for args in good for value in values]
            others = {value ^ bit for value in values for bit in (1, 2, 0x80, 0x100, 1 << 32, 1 << 63)} - set(values)
            bad += [[*good[0][:index], other, *good[0][index + 1 :]] for other in others]
        elif masked := re.fullmatch(r"arg(\d) & (0x\w+) == (0x\w+)", text):
            index, mask, value = int(masked[1]), int(masked[2], 0), int(masked[3], 0)
            good = [[*args[:index], value, *args[index + 1 :]] for args in good]
            bits = [1 << bit for bit in range(64) if mask >> bit & 1]
            bad += [[*good[0][:index], value ^ bit, *good[0][index + 1 :]] for bit in bits]
        else:
            pytest.fail(f"a condition this test does not know: {text}")
    return [" ".join(map(str, args)) for args in good], [" ".join(map(str, args)) for args in bad]


def test_arguments_beside_the_list_are_refused(guest: Callable[[str], str], canary: Path) -> None:
    lines = [f"stub {rule['nr']} {args}" for rule in surface() for args in both_sides(str(rule["conditions"]))[1]]
    assert len(lines) > 50
    found = make(guest("calls"), canary, lines)["stub"]
    assert [entry for entry in found if entry[1] != "trapped"] == []


def test_no_call_of_another_architecture(guest: Callable[[str], str], canary: Path) -> None:
    lines = [f"int80 {number} {args}" for args in (HOSTILE["zeroes"], HOSTILE["path"]) for number in NUMBERS]
    found = make(guest("calls"), canary, lines)["int80"]
    assert [entry for entry in found if entry[1] != "trapped"] == []


def test_the_kernel_serves_on(guest: Callable[[str], str], canary: Path) -> None:
    """The same sandbox, after all of it, still runs programs as before."""
    script = f'{guest("calls")} {canary}; test $? = {STATUS} && echo "$(ls /bin/sh)" && exit 5'
    lines = [line for way in ("user", "jump", "stub") for line in every(way)[:: len(HOSTILE)]]
    done = inside.rvisor("run", "-i", "--timeout", "60", "--", "sh", "-c", script, stdin="\n".join(lines))
    assert done.status == 5, done.err
    assert done.out.endswith("/bin/sh\n")


def test_the_canary_would_tell(guest: Callable[[str], str], tmp_path: Path) -> None:
    """The same calls on a directory that was shared, writable, leave their mark: the kernel keeps them off."""
    program = guest("calls")
    done = inside.rvisor(
        "run", "-i", "-v", f"{tmp_path}:{tmp_path}", "--", program, str(tmp_path), stdin="guest 2 @ 0x42 0777 0 0 0"
    )
    assert (done.status, done.out.split()[2]) == (STATUS, "returned")
    assert os.listdir(tmp_path) == ["made"]
