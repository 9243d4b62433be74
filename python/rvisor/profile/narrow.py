"""Of two compiled filters, whether the second refuses all that the first does: a filter that a program is behind stays.

What is compared is what Linux runs, not what it was made from. For each number every value of an argument that could
make a difference stands for those that make the same one: each word is cut where either program compares it.
"""

from __future__ import annotations

import errno

from rvisor._record import Record
from rvisor.profile import filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rvisor.profile.filter import Insn

    Word = int
    """Offset in struct seccomp_data."""

MOST_STEPS = 3_000_000
"""Instructions that are run to compare two filters; more is refused."""
_ARGUMENTS = 16
_ACTION = 0xFFFF0000
_KINDS = {
    0x80000000: "kill",
    0: "kill-thread",
    0x00030000: "trap",
    0x00050000: "errno",
    0x7FC00000: "notify",
    0x7FF00000: "trace",
    0x7FFC0000: "log",
    0x7FFF0000: "allow",
}
_STRICTEST = tuple(_KINDS)
_ALLOW: list[Insn] = [(filter.RET, 0, 0, 0x7FFF0000)]


class TooLong(Exception):
    """The two have more cases than are tried."""


class Compared(Record):
    """`wider`: a line for each call that would be allowed more, with arguments it would be for. `differs`: something
    would be answered otherwise.
    """

    wider: tuple[str, ...]
    differs: bool


def compare(before: list[Insn], after: list[Insn]) -> Compared:
    """What changes for a program behind the first that is put behind the second. An empty one allows everything."""
    one, other = before or _ALLOW, after or _ALLOW
    if one == other:
        return Compared((), False)
    from rvisor.profile.vocabulary import HIGHEST, NAMES

    wider, differs, left = [], False, [MOST_STEPS]
    # Of the numbers that no list has, one stands for all; and one of x32's.
    for number in (*range(HIGHEST + 2), filter.X32):
        for arguments, old, new in _cases(one, other, number, left):
            differs |= old != new
            if _rank(new) > _rank(old):
                name = NAMES.get(number, f"call {number}")
                wider.append(f"{name}{arguments}: {_said(old)} now, would be {_said(new)}")
                break
    return Compared(tuple(wider), differs)


def answers(program: list[Insn], number: int) -> set[str]:
    """What a program may say to a call, whatever its arguments."""
    found = {new for _, _, new in _cases(_ALLOW, program or _ALLOW, number, [MOST_STEPS])}
    return {_said(value) for value in found}


def _rank(value: int) -> int:
    return _STRICTEST.index(value & _ACTION)


def _said(value: int) -> str:
    kind = _KINDS[value & _ACTION]
    number = value & 0xFFFF
    return f"errno {errno.errorcode.get(number, number)}" if kind == "errno" else kind


def _cases(one: list[Insn], other: list[Insn], number: int, left: list[int]) -> Iterator[tuple[str, int, int]]:
    """Arguments that stand for all, and both answers. A word that neither looks at on the way is not chosen."""
    values: dict[Word, list[int]] = {}
    todo: list[dict[Word, int]] = [{}]
    while todo:
        known = todo.pop()
        said = [_run(program, number, known, left) for program in (one, other)]
        word = next((-answer for answer in said if answer < 0), None)
        if word is None:
            yield _shown(known), said[0], said[1]
        else:
            if not values:
                compared: dict[Word, set[tuple[int, int]]] = {}
                for program in (one, other):
                    _look(program, number, compared)
                values = {word: _cut(pairs, left) for word, pairs in compared.items()}
            todo += [{**known, word: value} for value in values[word]]


def _run(program: list[Insn], number: int, known: dict[Word, int], left: list[int]) -> int:
    """The answer; or the word that it depends on and that is not known, below zero."""
    at = accumulator = 0
    while True:
        left[0] -= 1
        if left[0] < 0:
            raise TooLong
        code, jt, jf, k = program[at]
        at += 1
        if code == filter.LD:
            if k < _ARGUMENTS:
                accumulator = number if k == 0 else filter.ARCH
            elif k in known:
                accumulator = known[k]
            else:
                return -k
        elif code == filter.AND:
            accumulator &= k
        elif code == filter.JA:
            at += k
        elif code == filter.RET:
            return k
        else:
            at += jt if _holds(code, accumulator, k) else jf


def _holds(code: int, value: int, k: int) -> bool:
    return value == k if code == filter.JEQ else value > k if code == filter.JGT else value >= k


def _look(program: list[Insn], number: int, compared: dict[Word, set[tuple[int, int]]]) -> None:
    """Where each word of the arguments is compared, after which mask: (mask, first value of the upper part)."""
    seen: set[tuple[int, int, int]] = set()
    # Where; the word in the accumulator, 0 for the number, 4 for the architecture; its mask.
    todo = [(0, 0, filter.FULL)]
    while todo:
        state = todo.pop()
        if state in seen:
            continue
        seen.add(state)
        at, word, mask = state
        code, jt, jf, k = program[at]
        at += 1
        if code == filter.LD:
            todo.append((at, k, filter.FULL))
        elif code == filter.AND:
            todo.append((at, word, mask & k))
        elif code == filter.JA:
            todo.append((at + k, word, mask))
        elif code != filter.RET:
            if word >= _ARGUMENTS:
                edges = compared.setdefault(word, set())
                edges.update(
                    (mask, edge) for edge in ((k, k + 1) if code == filter.JEQ else (k + (code == filter.JGT),))
                )
                ways = [jt, jf]
            else:
                value = (number if word == 0 else filter.ARCH) & mask
                ways = [jt if _holds(code, value, k) else jf]
            todo += [(at + way, word, mask) for way in ways]


def _cut(edges: set[tuple[int, int]], left: list[int]) -> list[int]:
    """A value for each way in which a word can lie between the edges, under all masks at once.

    Its bits are chosen from the highest on. What matters of those chosen is, for each mask, where they lie among that
    mask's edges: between two, or still at the beginning of some.
    """
    masks = sorted({mask for mask, _ in edges})
    among = [sorted({edge for of, edge in edges if of == mask and edge <= filter.FULL}) for mask in masks]
    states: dict[tuple[tuple[int, int], ...], int] = {tuple((0, len(every)) for every in among): 0}
    for bit in reversed(range(32)):
        following: dict[tuple[tuple[int, int], ...], int] = {}
        for state, value in states.items():
            left[0] -= 8
            if left[0] < 0:
                raise TooLong
            for chosen in (0, 1 << bit):
                places = [
                    _place(every, first, last, bit, chosen & mask)
                    for every, mask, (first, last) in zip(among, masks, state, strict=True)
                ]
                following.setdefault(tuple(places), value | chosen)
        states = following
    return list(states.values())


def _place(edges: list[int], first: int, last: int, bit: int, chosen: int) -> tuple[int, int]:
    """Of the edges from `first` to `last`, which begin with the bits so far, those that go on with this one.

    None left: how many edges are below.
    """
    if first == last:
        return first, last
    from bisect import bisect_left

    start = edges[first] >> (bit + 1) << (bit + 1)
    upper = bisect_left(edges, start | 1 << bit, first, last)
    return (upper, last) if chosen else (first, upper)


def _shown(known: dict[Word, int]) -> str:
    """Arguments as a profile's conditions have them."""
    found: dict[int, int] = {}
    for word, value in known.items():
        argument, upper = divmod(word - _ARGUMENTS, 8)
        found[argument] = found.get(argument, 0) | value << (32 if upper else 0)
    return " with " + ", ".join(f"arg{n} = {value:#x}" for n, value in sorted(found.items())) if found else ""
