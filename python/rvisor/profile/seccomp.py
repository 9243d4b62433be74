"""seccomp as Docker and the runtime specification write it (JSON), in and out.

In what is read, conditions on different arguments must all hold; on one argument any of them is enough, as runc has it.
`includes` and `excludes` are decided when it is read, for the capabilities and the Linux that are named, and x86-64.
"""

from __future__ import annotations

import errno

from rvisor._record import Record, replace
from rvisor.errors import ProfileError
from rvisor.profile.model import WORD, Action, Condition, Origin, Rule, Syscalls
from rvisor.profile.vocabulary import DOCKER_CAPABILITIES, NUMBERS, OTHER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from typing import Any

ACTIONS = {
    "SCMP_ACT_KILL": "kill-thread",
    "SCMP_ACT_KILL_THREAD": "kill-thread",
    "SCMP_ACT_KILL_PROCESS": "kill",
    "SCMP_ACT_TRAP": "trap",
    "SCMP_ACT_ERRNO": "errno",
    "SCMP_ACT_TRACE": "trace",
    "SCMP_ACT_LOG": "log",
    "SCMP_ACT_ALLOW": "allow",
    "SCMP_ACT_NOTIFY": "notify",
}
OPERATORS = {
    "SCMP_CMP_NE": "!=",
    "SCMP_CMP_LT": "<",
    "SCMP_CMP_LE": "<=",
    "SCMP_CMP_EQ": "==",
    "SCMP_CMP_GE": ">=",
    "SCMP_CMP_GT": ">",
    "SCMP_CMP_MASKED_EQ": "==",
}
ARCHITECTURES = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")
_LARGEST_ERRNO = 4095
_NOTHING = Origin()


class Unfit(ProfileError):
    """Something that cannot be meant; `keys` lead to it."""

    def __init__(self, message: str, place: str) -> None:
        import re

        super().__init__(message)
        found = re.findall(r"([^.\[\]]+)|\[(\d+)\]", place)
        self.keys: tuple[str | int, ...] = tuple(name or int(number) for name, number in found)


class For(Record):
    """Whom a profile with conditions of its own is read for."""

    capabilities: Collection[str] = DOCKER_CAPABILITIES
    linux: tuple[int, int] = (6, 18)


class Read(Record):
    """What was read, and what somebody may want to know of how."""

    syscalls: Syscalls
    notes: tuple[str, ...] = ()


def read(data: Mapping[str, Any], *, where: str = "", whom: For | None = None) -> Read:
    """Raises Unfit for what cannot be meant, with its place: `where`, then keys and numbers of lists."""
    return _Reader(where, whom or For()).all(data)


def write(syscalls: Syscalls) -> dict[str, Any]:
    """The same as JSON for Docker; raises ProfileError for what it has no words for."""
    made: dict[str, Any] = _action_out(syscalls.default, "the default", key="defaultAction")
    made["architectures"] = ["SCMP_ARCH_X86_64"]
    made["syscalls"] = []
    actions: dict[str, Action] = {}
    for rule in syscalls.rules:
        what = f"the rule on {', '.join(rule.names[:3])}"
        for name in rule.names:
            if actions.setdefault(name, rule.action) != rule.action:
                raise ProfileError(
                    f"{name}: one call with several actions has no order there",
                    hint="say the conditions so that one action is enough",
                )
        entry = {"names": sorted(rule.names)} | _action_out(rule.action, what, key="action")
        if rule.when:
            if len({condition.argument for condition in rule.when}) != len(rule.when):
                raise ProfileError(f"{what}: two conditions on one argument would be alternatives there")
            for when in _spread(rule.when, what):
                made["syscalls"].append(entry | {"args": [_condition_out(one, what) for one in when]})
        else:
            made["syscalls"].append(entry)
        if rule.reason:
            made["syscalls"][-1]["comment"] = rule.reason
    return made


def allow_list(syscalls: Syscalls) -> Syscalls:
    """A list of what is denied as one of what is allowed: the same calls, and none that a later Linux adds."""
    if syscalls.default.kind not in ("allow", "log"):
        raise ProfileError(f"this list denies already what it does not name: its default is {syscalls.default}")
    refused = Action("errno", errno.EPERM)
    plain = {name for rule in syscalls.rules if not rule.when for name in rule.names}
    rest = tuple(name for name in NUMBERS if name not in plain)
    kept = [rule for rule in syscalls.rules if rule.action != refused or rule.when]
    return replace(
        syscalls,
        default=refused,
        rules=(*kept, Rule(rest, syscalls.default, reason="all that the list of denied calls does not name")),
    )


class _Reader:
    def __init__(self, where: str, whom: For) -> None:
        self._where = where
        self._whom = whom
        self._notes: list[str] = []
        self._unknown: list[str] = []

    def all(self, data: Mapping[str, Any]) -> Read:
        default = self._action(data, "defaultAction", "defaultErrnoRet", "")
        self._architectures(data)
        if self._get(data, "listenerPath", str, "", "") and default.kind != "notify":
            self._notes.append("listenerPath: the operator's monitor answers what is to be notified")
        rules: list[Rule] = []
        for number, entry in enumerate(self._list(data, "syscalls", dict, "")):
            place = f"syscalls[{number}]"
            if not self._applies(entry, place):
                continue
            rules += self._rule(entry, place)
        if self._unknown:
            self._notes.append(f"unknown names, left out: {', '.join(dict.fromkeys(self._unknown))}")
        ordered = [rule for rule in rules if rule.when] + self._first_only([rule for rule in rules if not rule.when])
        return Read(Syscalls(default, tuple(ordered)), tuple(self._notes))

    def _first_only(self, rules: list[Rule]) -> list[Rule]:
        """Of several rules without conditions the first counts, as libseccomp has it."""
        said: dict[str, Action] = {}
        kept, late = [], set()
        for rule in rules:
            late |= {name for name in rule.names if said.get(name, rule.action) != rule.action}
            names = tuple(name for name in rule.names if name not in said)
            said.update(dict.fromkeys(names, rule.action))
            if names:
                kept.append(replace(rule, names=names))
        if late:
            self._notes.append(f"several rules of which the first counts: {', '.join(sorted(late))}")
        return kept

    def _fail(self, place: str, what: str) -> Unfit:
        path = ".".join(part for part in (self._where, place) if part)
        return Unfit(f"{path}: {what}", place)

    def _get(self, data: Mapping[str, Any], key: str, kind: type, place: str, default: Any) -> Any:
        value = data.get(key)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self._fail(f"{place}.{key}".lstrip("."), f"{value!r} is not of the type {kind.__name__}")
        return value

    def _list(self, data: Mapping[str, Any], key: str, kind: type, place: str) -> list[Any]:
        found: list[Any] = self._get(data, key, list, place, [])
        for number, one in enumerate(found):
            if not isinstance(one, kind):
                raise self._fail(f"{place}.{key}[{number}]".lstrip("."), f"{one!r} is not of the type {kind.__name__}")
        return found

    def _architectures(self, data: Mapping[str, Any]) -> None:
        named = list(self._list(data, "architectures", str, ""))
        for number, entry in enumerate(self._list(data, "archMap", dict, "")):
            place = f"archMap[{number}]"
            named.append(self._get(entry, "architecture", str, place, ""))
            named += self._list(entry, "subArchitectures", str, place)
        if named and "SCMP_ARCH_X86_64" not in named:
            raise self._fail("architectures", "SCMP_ARCH_X86_64 is not among them; there is no other here")
        if set(named) & set(ARCHITECTURES[1:]):
            self._notes.append("programs for x86 and x32 are refused, whatever the architectures say")

    def _applies(self, entry: Mapping[str, Any], place: str) -> bool:
        includes = self._get(entry, "includes", dict, place, {})
        excludes = self._get(entry, "excludes", dict, place, {})
        fits = self._filter(includes, f"{place}.includes")
        unfit = self._filter(excludes, f"{place}.excludes")
        if False in (fits[0], fits[2]) or not all(fits[1] or ()):
            return False
        return not (unfit[0] or any(unfit[1] or ()) or unfit[2])

    def _filter(self, data: Mapping[str, Any], place: str) -> tuple[bool | None, list[bool] | None, bool | None]:
        """Whether the architecture is named, each capability is there, Linux is new enough; None if nothing is said."""
        unknown = set(data) - {"arches", "caps", "minKernel"}
        if unknown:
            raise self._fail(place, f"{min(unknown)!r} is not known")
        arches = self._list(data, "arches", str, place)
        capabilities = self._list(data, "caps", str, place)
        least = self._get(data, "minKernel", str, place, "")
        version = least.split(".") if least else ["0", "0"]
        if len(version) != 2 or not all(part.isdecimal() and len(part) <= 5 for part in version):
            raise self._fail(f"{place}.minKernel", f"{least!r} is no version: 4.8")
        have = {name.upper().removeprefix("CAP_") for name in self._whom.capabilities}
        return (
            bool({"amd64", "x86_64"} & set(arches)) if arches else None,
            [name.upper().removeprefix("CAP_") in have for name in capabilities] if capabilities else None,
            self._whom.linux >= (int(version[0]), int(version[1])) if least else None,
        )

    def _rule(self, entry: Mapping[str, Any], place: str) -> Iterator[Rule]:
        action = self._action(entry, "action", "errnoRet", place)
        names = list(self._list(entry, "names", str, place))
        single = self._get(entry, "name", str, place, "")
        if single:
            names.append(single)
        if not names:
            raise self._fail(place, "no call is named")
        known = []
        for name in dict.fromkeys(names):
            if name in NUMBERS:
                known.append(name)
            elif name not in OTHER:
                self._unknown.append(name)
        conditions = [
            self._condition(one, f"{place}.args[{number}]")
            for number, one in enumerate(self._list(entry, "args", dict, place))
        ]
        reason = self._get(entry, "comment", str, place, "")
        if not known:
            return
        for when in _alternatives(conditions):
            constant = [one.constant() for one in when]
            if False not in constant:
                left = tuple(one for one, always in zip(when, constant, strict=True) if not always)
                yield Rule(tuple(known), action, left, reason, _NOTHING)

    def _action(self, data: Mapping[str, Any], key: str, number_key: str, place: str) -> Action:
        name = data.get(key)
        kind = ACTIONS.get(name) if isinstance(name, str) else None
        if kind is None:
            raise self._fail(f"{place}.{key}".lstrip("."), f"{name!r} is not supported")
        if kind not in ("errno", "trace"):
            return Action(kind)
        number = self._get(data, number_key, int, place, errno.EPERM)
        if not 0 <= number <= (0xFFFF if kind == "trace" else _LARGEST_ERRNO):
            raise self._fail(f"{place}.{number_key}".lstrip("."), f"{number!r} is no errno")
        return Action(kind, number)

    def _condition(self, data: Mapping[str, Any], place: str) -> Condition:
        index = self._get(data, "index", int, place, -1)
        if not 0 <= index <= 5:
            raise self._fail(f"{place}.index", "a system call has arguments 0 to 5")
        name = data.get("op")
        op = OPERATORS.get(name) if isinstance(name, str) else None
        if op is None:
            raise self._fail(f"{place}.op", f"{name!r} is not known")
        value, two = self._get(data, "value", int, place, 0), self._get(data, "valueTwo", int, place, 0)
        for key, one in (("value", value), ("valueTwo", two)):
            if not 0 <= one <= WORD:
                raise self._fail(f"{place}.{key}", "not 64 bits")
        if name == "SCMP_CMP_MASKED_EQ":
            return Condition(index, op, two & value, value)
        return Condition(index, op, value)


def _alternatives(conditions: list[Condition]) -> list[tuple[Condition, ...]]:
    arguments = [one.argument for one in conditions]
    if len(set(arguments)) == len(arguments):
        return [tuple(conditions)]
    return [(one,) for one in conditions]


def _spread(when: tuple[Condition, ...], what: str) -> Iterator[tuple[Condition, ...]]:
    """There is no masked inequality there: some bit of the mask differs, so there is a rule for each."""
    odd = [place for place, one in enumerate(when) if one.op == "!=" and one.mask != WORD]
    if not odd:
        yield when
        return
    if len(odd) > 1:
        raise ProfileError(f"{what}: more than one inequality of fewer than 64 bits has no words there")
    one = when[odd[0]]
    for bit in range(64):
        if one.mask >> bit & 1:
            differs = Condition(one.argument, "==", ~one.value & 1 << bit, 1 << bit)
            yield (*when[: odd[0]], differs, *when[odd[0] + 1 :])


def _condition_out(condition: Condition, what: str) -> dict[str, Any]:
    made: dict[str, Any] = {"index": condition.argument}
    if condition.mask == WORD:
        names = {op: name for name, op in OPERATORS.items() if name != "SCMP_CMP_MASKED_EQ"}
        return made | {"value": condition.value, "op": names[condition.op]}
    if condition.op == "==":
        return made | {"value": condition.mask, "valueTwo": condition.value, "op": "SCMP_CMP_MASKED_EQ"}
    raise ProfileError(f"{what}: {condition} has no words there")


def _action_out(action: Action, what: str, *, key: str) -> dict[str, Any]:
    names = {kind: name for name, kind in ACTIONS.items() if name != "SCMP_ACT_KILL"}
    if action.kind not in names:
        raise ProfileError(f"{what}: the action {action.kind} has no word there")
    made: dict[str, Any] = {key: names[action.kind]}
    if action.kind in ("errno", "trace"):
        made["defaultErrnoRet" if key == "defaultAction" else "errnoRet"] = action.number
    return made
