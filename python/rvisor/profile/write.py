"""Profiles as text: TOML that `read` takes again, and plain data for JSON."""

from __future__ import annotations

import errno
import re
from itertools import groupby

from rvisor._record import Record, items
from rvisor.profile import conditions
from rvisor.profile.model import Profile, Rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from rvisor.profile.model import Action, DeviceRule, FileRule

_WIDTH = 116


def toml(profile: Profile, *, head: str = "", include: Sequence[str] = ()) -> str:
    """The profile as a file. `head` is a comment above it; what is in `include` is taken to be known already."""
    parts = ["".join(f"# {line}".rstrip() + "\n" for line in head.splitlines())]
    top = {"name": profile.name, "description": profile.description}
    lines = [f"{key} = {text(value)}\n" for key, value in top.items() if value]
    if include:
        lines.append(f"include = {_texts(include)}\n")
    if profile.futex_hash is not None:
        lines.append(f"futex_hash = {profile.futex_hash}\n")
    parts.append("".join(lines))
    if profile.capabilities is not None:
        parts.append(f"[capabilities]\nkeep = {_texts(sorted(profile.capabilities))}\n")
    parts += _simple(profile)
    if profile.syscalls is not None:
        default = "".join(_action(profile.syscalls.default, key="default"))
        reason = f"reason = {text(profile.syscalls.reason)}\n" if profile.syscalls.reason else ""
        parts.append(f"[syscalls]\n{default}{reason}")
        parts += [_rule(rule, when) for rule, when in gathered(profile.syscalls.rules)]
    if profile.files.default != "rwx":
        parts.append(f"[files]\ndefault = {text(profile.files.default)}\n")
    parts += [_file_rule(rules) for rules in _alike(profile.files.rules)]
    return "\n".join(part for part in parts if part)


def plain(profile: Profile) -> dict[str, Any]:
    """For JSON: what is said, without what is not."""
    return {key: value for key, value in data(profile).items() if value not in (None, {}, [])}


def data(value: Any) -> dict[str, Any]:
    """One of the model's objects as a table, without where it was said."""
    made: dict[str, Any] = _data(value)
    return made


def _data(value: Any) -> Any:
    if isinstance(value, Record):
        return _plain([(name, _data(one)) for name, one in items(value)])
    return type(value)(map(_data, value)) if isinstance(value, list | tuple) else value


def text(value: str) -> str:
    """A TOML string."""
    # JSON may hold halves of surrogate pairs, which no file can.
    escaped = (
        value.encode(errors="replace")
        .decode()
        .replace("\\", "\\\\")
        .replace('"', '\\"')
        .replace("\n", "\\n")
        .replace("\t", "\\t")
    )
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\u{ord(found[0]):04x}", escaped) + '"'


def _plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
    def value(one: Any) -> Any:
        return sorted(one) if isinstance(one, frozenset) else one

    names = [key for key, _ in items]
    hidden = {"origin", "capabilities_origin"}
    if names == ["argument", "op", "value", "mask"]:
        return dict(items)
    return {key: value(one) for key, one in items if key not in hidden and one not in (None, "", (), {})}


def _texts(values: Iterable[str]) -> str:
    line = ", ".join(text(value) for value in values)
    if len(line) < _WIDTH - 12:
        return f"[{line}]"
    lines, current = [], "   "
    for value in values:
        word = f" {text(value)},"
        if len(current) + len(word) > _WIDTH:
            lines.append(current)
            current = "   "
        current += word
    return "[\n" + "\n".join([*lines, current]) + "\n]"


def _action(action: Action, *, key: str = "action") -> list[str]:
    lines = [f"{key} = {text(action.kind)}\n"]
    if action.kind == "errno":
        name = errno.errorcode.get(action.number, "0" if action.number == 0 else "EPERM")
        lines.append(f"errno = {text(name)}\n")
    elif action.number:
        lines.append(f"data = {action.number}\n")
    if action.plugin:
        lines.append(f"plugin = {text(action.plugin)}\n")
    return lines


def gathered(rules: Sequence[Rule]) -> Iterator[tuple[Rule, list[str]]]:
    """Rules that differ in a value only as one, with its conditions as they are written."""
    for _, same in groupby(rules, key=lambda rule: (rule.names, rule.action, rule.reason)):
        group = list(same)
        for when in conditions.gathered([rule.when for rule in group]):
            yield group[0], when


def _rule(rule: Rule, conditions: list[str]) -> str:
    when = f"when = {_texts(conditions)}\n" if conditions else ""
    reason = f"reason = {text(rule.reason)}\n" if rule.reason else ""
    return f"[[syscalls.rule]]\nnames = {_texts(rule.names)}\n{''.join(_action(rule.action))}{when}{reason}"


def _alike(rules: Sequence[FileRule]) -> list[list[FileRule]]:
    groups: list[list[FileRule]] = []
    for rule in rules:
        last = groups[-1][-1] if groups else None
        same = last is not None and (last.allow, last.deny, last.subtree, last.reason) == (
            rule.allow,
            rule.deny,
            rule.subtree,
            rule.reason,
        )
        if same:
            groups[-1].append(rule)
        else:
            groups.append([rule])
    return groups


def _file_rule(rules: list[FileRule]) -> str:
    first = rules[0]
    lines = [f"[[files.rule]]\npaths = {_texts([rule.path for rule in rules])}\n"]
    if first.allow is not None:
        lines.append(f"allow = {text(first.allow or '---')}\n")
    if first.deny:
        lines.append(f"deny = {text(first.deny)}\n")
    if first.subtree:
        lines.append("subtree = true\n")
    if first.reason:
        lines.append(f"reason = {text(first.reason)}\n")
    return "".join(lines)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return text(value)


def _simple(profile: Profile) -> list[str]:
    """The sections that are keys and values."""
    parts = []
    if profile.kernel_log is not None:
        size = f"size = {profile.kernel_log.size}\n" if profile.kernel_log.size is not None else ""
        parts.append(f"[kernel_log]\nmode = {text(profile.kernel_log.mode)}\n{size}")
    if profile.sysctl:
        lines = []
        for view in profile.sysctl:
            given = {"value": view.value, "writable": view.writable, "minimum": view.minimum, "maximum": view.maximum}
            inner = ", ".join(f"{k} = {_value(v)}" for k, v in given.items() if v is not None and v is not False)
            lines.append(f"{text(view.name)} = {{ {inner} }}\n")
        parts.append("[sysctl]\n" + "".join(lines))
    for name in ("cpu", "memory"):
        parts += _section(name, getattr(profile, name))
    if profile.network is not None:
        parts.append(f"[network]\ndefault = {text('allow' if profile.network.allow else 'deny')}\n")
        for rule in profile.network.rules:
            lines = [f"action = {text('allow' if rule.allow else 'deny')}\n", f"net = {text(rule.net or 'any')}\n"]
            if rule.ports != (0, 65535):
                lines.append(f"ports = {text('-'.join(str(port) for port in dict.fromkeys(rule.ports)))}\n")
            for key, usual in (("protocol", "any"), ("direction", "both"), ("reason", "")):
                if getattr(rule, key) != usual:
                    lines.append(f"{key} = {text(getattr(rule, key))}\n")
            parts.append("[[network.rule]]\n" + "".join(lines))
    if profile.devices is not None:
        parts.append(f"[devices]\ndefault = {text(profile.devices.default)}\n")
        parts += [_device(rule) for rule in profile.devices.rules]
    return parts


def _device(rule: DeviceRule) -> str:
    numbers = ":".join("*" if number is None else str(number) for number in (rule.major, rule.minor))
    device = "all" if rule.kind == "a" else f"{rule.kind} {numbers}"
    access = f"access = {text(rule.access)}\n" if rule.access != "rwm" else ""
    reason = f"reason = {text(rule.reason)}\n" if rule.reason else ""
    action = text("allow" if rule.allow else "deny")
    return f"[[devices.rule]]\naction = {action}\ndevice = {text(device)}\n{access}{reason}"


def _section(name: str, section: Any) -> list[str]:
    lines, overcommit = [], []
    for key, value in items(section):
        if value is None or key in ("origin", "options"):
            continue
        if key.startswith("overcommit"):
            overcommit.append(f"{key.removeprefix('overcommit').lstrip('_') or 'mode'} = {_value(value)}")
        elif key == "cores":
            lines.append(f"cores = {text(','.join(str(core) for core in value))}\n")
        else:
            lines.append(f"{key} = {_value(value)}\n")
    if overcommit:
        lines.append(f"overcommit = {{ {', '.join(overcommit)} }}\n")
    if section.options:
        inner = ", ".join(f"{text(key)} = {_value(value)}" for key, value in section.options.items())
        lines.append(f"options = {{ {inner} }}\n")
    return [f"[{name}]\n" + "".join(lines)] if lines else []
