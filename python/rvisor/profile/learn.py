"""What a program was seen to do, and the least profile that lets it do that again.

The source is a list of calls, a line each: the private kernel's own trace, or that of strace(1) with `-e raw=!execve`.
What was seen stands in a file of its own, NAME.seen.toml, which learning writes anew; NAME.toml includes it, and is a
person's.
"""

from __future__ import annotations

import os
import re

from rvisor.profile import build, read, write
from rvisor.profile.model import EPERM, INT, Action, Profile
from rvisor.profile.vocabulary import NUMBERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_LINE = re.compile(r"(?:\[?\d+\]?\s+)?([a-z_][a-z0-9_]*)\((.*)")
_PROCESS = re.compile(r"\[?(\d+)\]?\s")
_CHILD = re.compile(r"\[?(\d+)\]?\s+(?:<\.\.\. )?(?:clone3?|v?fork)\b.*= (0x[0-9a-f]+|\d+)$")
_NOT_THERE = ("ENOENT", "ENOENT (No such file or directory)", "EACCES (Permission denied)", "ENOTDIR", "EACCES")
_MANY = 48
"""Of so many different values of an argument on, it is not what tells kinds of a call apart."""

_HEAD = """\
Written by `rvisor profile learn`, which writes it anew: what was seen, and nothing else.
What you add by hand belongs into {hand}, which includes this file."""
_HAND = """\
What was seen stands in {seen}; what is said of a call here replaces what is said there.
`rvisor profile learn` never changes this file."""


class Seen:
    """Calls by name, and of some the values of the argument that says which kind of it is meant."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.values: dict[str, set[int]] = {}

    def add(self, line: str) -> None:
        """A line of a trace; what is none is passed over."""
        found = _LINE.match(line)
        if not found or found[1] not in NUMBERS:
            return
        name = found[1]
        self.names.add(name)
        if name in build.LOOKED_AT or name == "clone":
            value = _argument(found[2], build.LOOKED_AT.get(name, 0))
            if value is None:
                # Seen, but not which: every kind is then allowed.
                self.values[name] = {-1}
            else:
                self.values.setdefault(name, set()).add(value & INT)

    def update(self, other: Seen) -> None:
        """Both."""
        self.names |= other.names
        for name, values in other.values.items():
            self.values.setdefault(name, set()).update(values)

    def profile(self, name: str, *, default: Action = EPERM, whence: str = "", kinds: bool = True) -> Profile:
        """The least that lets it be done again; without `kinds` arguments are not looked at."""
        names = set(self.names)
        new = 0x7E020000
        flags = self.values.get("clone", set())
        if "clone3" in names:
            # Its flags cannot be seen: it answers ENOSYS, and C libraries make the older call.
            names.add("clone")
        plain_clone = any(value >= 0 and value & new for value in flags)
        values = {
            call: found
            for call, found in self.values.items()
            if kinds and call in build.LOOKED_AT and len(found) <= _MANY and -1 not in found
        }
        syscalls = build.of_calls(names, values, default=default, whence=whence, namespaces=plain_clone)
        return Profile(name=name, description=f"what {name} was seen to do", syscalls=syscalls)


def of_profile(profile: Profile) -> Seen:
    """What was seen before, from the file that was written of it."""
    seen = Seen()
    for rule in profile.syscalls.rules if profile.syscalls is not None else ():
        for name in rule.names:
            seen.names.add(name)
            if rule.when and name in build.LOOKED_AT:
                seen.values.setdefault(name, set()).update(condition.value for condition in rule.when)
    for name in build.LOOKED_AT:
        if name in seen.names:
            seen.values.setdefault(name, {-1})
    return seen


def lines(text: Iterable[str], *, only: str = "") -> Seen:
    """All of a trace, or what the program `only` does, from its start on, and those that it starts."""
    seen = Seen()
    if not only:
        for line in text:
            seen.add(line)
        return seen
    wanted = re.compile(rf'execve\((?:path=)?"(?:[^"]*/)?{re.escape(only)}"')
    every = list(text)
    ours: set[str] = set()
    # A child may be heard of before the call that made it returns: so who is whose child is found out first.
    parents = {}
    for line in every:
        made = _CHILD.match(line)
        if made:
            parents[str(int(made[2], 0))] = made[1]
    for line in every:
        process = _PROCESS.match(line)
        if process is None:
            continue
        who = process[1]
        if parents.get(who) in ours or (wanted.search(line) and not line.rstrip().endswith(_NOT_THERE)):
            ours.add(who)
        if who in ours:
            seen.add(line)
    return seen


def paths(out: str) -> tuple[str, str]:
    """The file of what a person says, and that of what was seen."""
    stem = out.removesuffix(".toml").removesuffix(".seen")
    return f"{stem}.toml", f"{stem}.seen.toml"


def save(seen: Seen, out: str, *, fresh: bool, default: Action, kinds: bool, runs: str) -> tuple[Profile, list[str]]:
    """Write what was seen, with what was seen before unless `fresh`; returns the whole profile, and new names."""
    hand, machine = paths(out)
    before = Seen()
    if not fresh and os.path.exists(machine):
        before = of_profile(read.load(machine))
    new = sorted(seen.names - before.names)
    before.update(seen)
    name = os.path.basename(hand).removesuffix(".toml")
    made = before.profile(name, default=default, kinds=kinds)
    head = _HEAD.format(hand=os.path.basename(hand)) + (f"\n{runs}" if runs else "")
    _write(machine, write.toml(made, head=head))
    if not os.path.exists(hand):
        bare = Profile(name=name, description=made.description)
        _write(
            hand,
            write.toml(
                bare, head=_HAND.format(seen=os.path.basename(machine)), include=[f"./{os.path.basename(machine)}"]
            ),
        )
    return read.load(hand), new


def _argument(text: str, index: int) -> int | None:
    parts = text.split(", ")
    if index >= len(parts):
        return None
    word = parts[index].rpartition("=")[2].partition(")")[0]
    try:
        return int(word, 0)
    except ValueError:
        return None


def _write(path: str, text: str) -> None:
    # Never half a file: somebody may be starting a container with it.
    new = f"{path}.new"
    with open(new, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(new, path)
