"""Whether one filter is narrower than another, against the plain meaning of the rules both were made from."""

from __future__ import annotations

import errno
import random

import pytest

from rvisor.profile import filter, narrow
from rvisor.profile.model import ALLOW, INT, OPERATORS, WORD, Action, Case, Condition, Table
from rvisor.profile.vocabulary import NAMES, NUMBERS

EPERM = Action("errno", errno.EPERM)
ORDER = ["kill", "kill-thread", "trap", "errno", "trace", "log", "allow"]
ACTIONS = [ALLOW, EPERM, Action("errno", errno.ENOSYS), Action("kill"), Action("log")]
VALUES = [0, 1, 2, 3, 7, 40, INT, INT + 1, 1 << 63, WORD, 5 << 32]
MASKS = [WORD, INT, 0x7E020000, 1, 0xF0000000F]
IOCTL = NUMBERS["ioctl"]


def condition(chance: random.Random) -> Condition:
    mask = chance.choice(MASKS)
    return Condition(chance.randrange(2), chance.choice(OPERATORS), chance.choice(VALUES) & mask, mask)


def cases(chance: random.Random) -> tuple[Case, ...]:
    found = [
        Case(tuple(condition(chance) for _ in range(chance.randrange(1, 3))), chance.choice(ACTIONS))
        for _ in range(chance.randrange(4))
    ]
    return (*found, Case((), chance.choice(ACTIONS)))


def changed(chance: random.Random, before: tuple[Case, ...]) -> tuple[Case, ...]:
    """One that differs little, so that many pairs are narrower."""
    found = list(before)
    match chance.randrange(4):
        case 0:
            found.insert(0, Case((condition(chance),), chance.choice([EPERM, Action("kill")])))
        case 1:
            found[chance.randrange(len(found))] = cases(chance)[0]
        case 2:
            at = chance.randrange(len(found))
            found[at] = Case((*found[at].when, condition(chance)), found[at].action)
        case _:
            found = [Case(one.when, EPERM if one.action == ALLOW else one.action) for one in found]
    return tuple(found) if not found[-1].when else (*found, Case((), EPERM))


def near(chance: random.Random, table: Table, other: Table) -> int:
    words = [c.value for t in (table, other) for case in t.cases[IOCTL] for c in case.when] + VALUES
    return (chance.choice(words) + chance.choice([0, 0, 1, -1, 1 << 32, -(1 << 32), 0x20000])) & WORD


@pytest.mark.parametrize("seed", range(100))
def test_wider_is_what_the_rules_say(seed: int) -> None:
    """What is narrower never allows more of 500 calls around the values; what is wider shows a call that it allows."""
    chance = random.Random(seed)
    first = cases(chance)
    one = Table(EPERM, {IOCTL: first})
    other = Table(EPERM, {IOCTL: changed(chance, first)})
    before, after = filter.compile_table(one), filter.compile_table(other)
    compared = narrow.compare(before, after)
    for _ in range(500):
        arguments = (near(chance, one, other), near(chance, one, other), 0, 0, 0, 0)
        old, new = one.decide(IOCTL, arguments), other.decide(IOCTL, arguments)
        if not compared.wider:
            assert ORDER.index(new.kind) <= ORDER.index(old.kind), (arguments, old, new)
        if not compared.differs:
            assert new == old
    for line in compared.wider:
        found = dict(word.split(" = ") for word in line.split(":")[0].partition(" with ")[2].split(", ") if word)
        shown = tuple(int(found.get(f"arg{n}", "0"), 0) for n in range(6))
        assert ORDER.index(other.decide(IOCTL, shown).kind) > ORDER.index(one.decide(IOCTL, shown).kind), line


def test_words_of_people() -> None:
    def table(default: Action, **named: Action) -> list[filter.Insn]:
        return filter.compile_table(Table(default, {NUMBERS[name]: (Case((), a),) for name, a in named.items()}))

    compared = narrow.compare(table(EPERM, read=ALLOW), table(EPERM, read=ALLOW, write=ALLOW))
    assert compared.wider == ("write: errno EPERM now, would be allow",)
    assert narrow.compare(table(EPERM, read=ALLOW, write=ALLOW), table(EPERM, read=ALLOW)) == narrow.Compared((), True)
    assert narrow.compare(table(Action("kill")), table(EPERM)).wider[0].endswith(": kill now, would be errno EPERM")
    assert narrow.compare([], table(ALLOW)) == narrow.Compared((), True), "x32 is refused"
    assert narrow.compare([], []) == narrow.Compared((), False)
    assert len(narrow.compare(table(EPERM), []).wider) > len(NAMES)
    # The same with another number is as strict.
    assert narrow.compare(table(EPERM), table(Action("errno", errno.ENOENT))) == narrow.Compared((), True)
    assert narrow.answers(table(ALLOW, uname=EPERM), NUMBERS["uname"]) == {"errno EPERM"}


def test_every_way_a_word_can_lie() -> None:
    """Under masks that overlap, too: each of 65,536 words behaves as one of those that were chosen."""
    edges = {(mask, edge) for mask in (0xFFFF, 0xFF, 0xF0F, 0x8001) for edge in (0, 1, 15, 0x101, 0x8000, 0xFFFF)}

    def lies(word: int) -> tuple[bool, ...]:
        return tuple((word & mask) >= edge for mask, edge in sorted(edges))

    assert {lies(word) for word in narrow._cut(edges, [1 << 30])} == {lies(word) for word in range(1 << 16)}


def test_many_values() -> None:
    def values(step: int) -> list[filter.Insn]:
        every = tuple(Case((Condition(1, "==", step * value, INT),), ALLOW) for value in range(1200))
        return filter.compile_table(Table(EPERM, {IOCTL: every}))

    assert narrow.compare(values(8), values(8)) == narrow.Compared((), False)
    assert narrow.compare(values(8), values(4)).wider
    masks = tuple(Case((Condition(n % 6, "==", 1 << n, 1 << n | 1),), ALLOW) for n in range(1, 60))
    with pytest.raises(narrow.TooLong):
        narrow.compare(
            filter.compile_table(Table(EPERM, {IOCTL: masks})),
            filter.compile_table(Table(EPERM, {IOCTL: (*masks[1:], masks[0])})),
        )


def test_templates() -> None:
    from rvisor.profile import read

    def compiled(name: str) -> list[filter.Insn]:
        table = read.load(name).table()
        assert table is not None
        return filter.compile_table(table)

    assert narrow.compare([], compiled("default")).wider == ()
    assert narrow.compare(compiled("zcore57"), compiled("default")).wider
