"""The compiled filter against the plain meaning of its rules."""

from __future__ import annotations

import errno
import random
import time

import pytest

from framework import bpf
from rvisor.errors import ProfileError
from rvisor.profile import filter, read
from rvisor.profile.model import ALLOW, INT, OPERATORS, WORD, Action, Case, Condition, Table
from rvisor.profile.vocabulary import HIGHEST, NAMES, NUMBERS

EPERM = Action("errno", errno.EPERM)
ACTIONS = [ALLOW, EPERM, Action("errno", errno.ENOSYS), Action("kill"), Action("log"), Action("trap", 7)]
VALUES = [0, 1, 2, 3, 7, 40, INT, INT + 1, 1 << 63, WORD, 0x7E020000, 0xFFFFFFFF00000000, 5 << 32, (5 << 32) + 1]
MASKS = [WORD, INT, 0x7E020000, 1, 1 << 63, 0xFFFFFFFF00000000, 0xF0000000F]


def random_condition(chance: random.Random) -> Condition:
    mask = chance.choice(MASKS)
    value = chance.choice(VALUES) & (mask if chance.random() < 0.9 else WORD)
    return Condition(chance.randrange(6), chance.choice(OPERATORS), value, mask)


def random_cases(chance: random.Random) -> tuple[Case, ...]:
    cases = []
    if chance.random() < 0.3:
        argument, mask = chance.randrange(6), chance.choice([WORD, INT])
        for _ in range(chance.randrange(1, 30)):
            value = (chance.choice(VALUES) + chance.randrange(20)) & mask
            cases.append(Case((Condition(argument, "==", value, mask),), chance.choice(ACTIONS)))
    for _ in range(chance.randrange(3)):
        when = tuple(random_condition(chance) for _ in range(chance.randrange(1, 4)))
        cases.append(Case(when, chance.choice(ACTIONS)))
    if chance.random() < 0.6:
        cases.append(Case((), chance.choice(ACTIONS)))
    return tuple(cases)


def near(chance: random.Random) -> int:
    return (chance.choice(VALUES) + chance.choice([0, 0, 0, 1, -1, chance.randrange(20), 1 << 32])) & WORD


@pytest.mark.parametrize("seed", range(60))
def test_compiled_is_what_the_rules_say(seed: int) -> None:
    chance = random.Random(seed)
    count = chance.choice([0, 1, 5, 40])
    numbers = chance.sample(sorted(NAMES), count)
    table = Table(chance.choice(ACTIONS), {number: random_cases(chance) for number in sorted(numbers)})
    program = filter.compile_table(table)
    assert bpf.valid(program)
    for number in [*numbers, *chance.sample(range(HIGHEST + 1), 20)]:
        for _ in range(20):
            arguments = tuple(near(chance) for _ in range(6))
            expected = filter.returns(table.decide(number, arguments))
            assert bpf.run(program, number, arguments) == expected, (number, arguments)


def test_other_architectures_and_later_calls() -> None:
    for default, beyond in ((EPERM, filter.ENOSYS), (ALLOW, 0x7FFF0000), (Action("kill"), filter.ENOSYS)):
        program = filter.compile_table(Table(default, {}))
        assert bpf.run(program, 1, (0,) * 6, arch=0x40000003) == 0x80000000
        assert bpf.run(program, 1 | 0x40000000, (0,) * 6) == filter.ENOSYS
        assert bpf.run(program, HIGHEST + 1, (0,) * 6) == beyond
        assert bpf.run(program, 0x3FFFFFFF, (0,) * 6) == beyond


def test_what_is_constant_is_known_by_number() -> None:
    profile = read.loads(
        """
        [syscalls]
        default = "errno"
        rule = [
            { names = ["read", "write", "openat"], action = "allow" },
            { names = ["clone"], action = "allow", when = ["arg0 & CLONE_NEWUSER == 0"] },
            { names = ["uname"], action = "kill" },
        ]
        """
    )
    assert profile.syscalls is not None
    table = profile.syscalls.table()
    program = filter.compile_table(table)
    allowed = {number for number in range(HIGHEST + 1) if bpf.by_number(program, number) == 0x7FFF0000}
    assert allowed == {NUMBERS[name] for name in ("read", "write", "openat")}
    assert bpf.by_number(program, NUMBERS["clone"]) is None


def test_many_values_are_searched() -> None:
    cases = tuple(Case((Condition(1, "==", 8 * value, INT),), ALLOW) for value in range(1500))
    program = filter.compile_table(Table(EPERM, {NUMBERS["ioctl"]: cases}))
    steps = 0

    class Counting(list[bpf.Insn]):
        def __getitem__(self, at: object) -> bpf.Insn:  # type: ignore[override]
            nonlocal steps
            steps += 1
            return super().__getitem__(at)  # type: ignore[index, no-any-return]

    for value in range(0, 12100, 7):
        steps = 0
        said = bpf.run(Counting(program), NUMBERS["ioctl"], (0, value, 0, 0, 0, 0))
        assert said == (0x7FFF0000 if value % 8 == 0 and value < 12000 else 0x50001)
        assert steps < 32


def test_too_long_is_said() -> None:
    cases = tuple(Case((Condition(1, "==", 8 * value, WORD),), ALLOW) for value in range(20_000))
    began = time.process_time()
    with pytest.raises(ProfileError, match=r"instructions; Linux takes 4096") as caught:
        filter.compile_table(Table(EPERM, {NUMBERS["ioctl"]: cases}))
    assert "ioctl (20000 conditions)" in caught.value.hint
    assert time.process_time() - began < 10
