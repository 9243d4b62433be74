"""Conditions on arguments as they are written: `arg0 & 0x7e020000 == 0`, `arg1:32 in {F_DUPFD, 3}`."""

from __future__ import annotations

import re

from rvisor.profile.constants import CONSTANTS
from rvisor.profile.model import INT, WORD, Condition, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_FORM = re.compile(
    r"\s*arg(?P<argument>\d+)\s*(?P<int>:\s*32)?\s*(?:&\s*(?P<mask>[^=!<>]+?))?\s*"
    r"(?P<op>==|!=|<=|>=|<|>|\bnot\s+in\b|\bin\b)\s*(?P<value>.+?)\s*"
)
_HELP = "write for example `arg0 == 3`, `arg1:32 & 0x10 != 0`, `arg0 in {AF_UNIX, AF_INET}`"


def parse(text: str) -> tuple[tuple[Condition, ...], ...]:
    """What is written, as alternatives of conditions that must all hold. Raises ValueError, which says why."""
    # One blank at most, or the expression would try every way to part many.
    found = _FORM.fullmatch(" ".join(text.split()))
    if found is None:
        raise ValueError(f"{_short(text)} is no condition; {_HELP}")
    argument = int(found["argument"])
    if argument > 5:
        raise ValueError(f"{_short(text)}: a system call has arguments 0 to 5")
    bits = INT if found["int"] else WORD
    mask = bits if found["mask"] is None else number(found["mask"], bits)
    op = " ".join(found["op"].split())
    if op in ("in", "not in"):
        inner = found["value"]
        if not (inner.startswith("{") and inner.endswith("}") and inner[1:-1].strip()):
            raise ValueError(f"{_short(text)}: after `in` there are values in braces: {{1, 2}}")
        values = [number(part, bits) for part in inner[1:-1].split(",")]
        if op == "in":
            made: list[tuple[Condition, ...]] = [
                (Condition(argument, "==", value, mask),) for value in dict.fromkeys(values)
            ]
        else:
            made = [tuple(Condition(argument, "!=", value, mask) for value in dict.fromkeys(values))]
    else:
        made = [(Condition(argument, op, number(found["value"], bits), mask),)]
    for alternative in made:
        for condition in alternative:
            constant = condition.constant()
            if constant is not None:
                raise ValueError(f"{_short(text)} {'always' if constant else 'never'} holds")
    return tuple(made)


def gathered(alternatives: Sequence[tuple[Condition, ...]]) -> list[list[str]]:
    """Alternatives as they are written, those that differ in one value of one argument as one: `arg0 in {1, 2}`."""
    made: list[list[str]] = []
    groups: list[tuple[int, list[tuple[Condition, ...]]]] = []
    for when in alternatives:
        if groups:
            place, group = groups[-1]
            different = [at for at, pair in enumerate(zip(group[0], when, strict=False)) if pair[0] != pair[1]]
            alike = len(when) == len(group[0]) and len(different) == 1 and place in (-1, different[0])
            if alike and _same_but_value(group[0][different[0]], when[different[0]]):
                groups[-1] = (different[0], [*group, when])
                continue
        groups.append((-1, [when]))
    for place, group in groups:
        lines = [str(condition) for condition in group[0]]
        if len(group) > 1:
            values = ", ".join(shown(when[place].value) for when in group)
            lines[place] = f"{lines[place].rpartition(' == ')[0]} in {{{values}}}"
        made.append(lines)
    return made


def _same_but_value(one: Condition, other: Condition) -> bool:
    return one.op == other.op == "==" and (one.argument, one.mask) == (other.argument, other.mask)


def number(text: str, bits: int = WORD) -> int:
    """A number, a constant's name, or several joined with `|`; negative ones as Linux has them in a register."""
    value = 0
    for part in text.split("|"):
        word = part.strip()
        if word in CONSTANTS:
            value |= CONSTANTS[word]
            continue
        try:
            one = int(word, 0)
        except ValueError:
            raise ValueError(
                f"{_short(word)} is neither a number nor a constant that is known here{_near(word)}"
            ) from None
        if not -(bits >> 1) - 1 <= one <= bits:
            raise ValueError(f"{_short(word)} is more than {bits.bit_length()} bits")
        value |= one & bits
    return value


def _short(text: str) -> str:
    return repr(text) if len(text) <= 80 else repr(text[:80]) + "…"


def _near(word: str) -> str:
    if len(word) > 40:
        return ""
    from difflib import get_close_matches

    near = get_close_matches(word.upper(), CONSTANTS, n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""
