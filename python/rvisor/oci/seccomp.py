"""A seccomp profile of the runtime specification as a filter of seccomp(2), which the sandbox's kernel runs.

Rules are asked in this order: those with conditions as they are written, then the one without, then the default.
Conditions on different arguments must all hold; on one argument any of them is enough, as runc has it.
"""

from __future__ import annotations

import errno

from rvisor.oci.errors import OciError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Insn = tuple[int, int, int, int]

_LD, _AND, _JEQ, _JGT, _JGE, _RET = 0x20, 0x54, 0x15, 0x25, 0x35, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_ACTIONS = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": _ERRNO,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": _ALLOW,
}
ACTIONS = tuple(_ACTIONS)
OPERATORS = tuple(f"SCMP_CMP_{name}" for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"))
_FLAGS = ("SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW")
_LONGEST = 4096
_LOW = 0xFFFFFFFF


def numbers() -> dict[str, int]:
    """The system calls of the private kernel. Others it does not have, whatever a profile says of them."""
    from json import loads

    from rvisor._sentry import find, spawn

    status, out, _ = spawn.run_tool([find.find(find.SENTRY), "--syscalls"])
    if status != 0:
        raise OciError("the sandbox's kernel does not tell its system calls")
    return {row["name"]: row["nr"] for row in loads(out)}


def program(profile: dict[str, Any], known: dict[str, int] | None = None) -> list[Insn]:
    """The filter; raises OciError for what cannot be meant."""
    from rvisor.oci.config import get, parts, texts

    known = known if known is not None else numbers()
    if profile.get("listenerPath"):
        raise OciError("config.json: linux.seccomp.listenerPath: a private kernel has no such listener")
    for flag in texts(profile, "linux.seccomp.flags"):
        if flag not in _FLAGS:
            raise OciError(f"config.json: linux.seccomp.flags: {flag} is not supported")
    default = _action(profile, "linux.seccomp.defaultAction", profile.get("defaultErrnoRet"))
    conditional: dict[int, list[tuple[list[dict[str, Any]], int]]] = {}
    plain: dict[int, int] = {}
    for rule in parts(profile, "linux.seccomp.syscalls"):
        action = _action(rule, "linux.seccomp.syscalls.action", rule.get("errnoRet"))
        conditions = parts(rule, "linux.seccomp.syscalls.args")
        for condition in conditions:
            _check(condition, get)
        for name in texts(rule, "linux.seccomp.syscalls.names"):
            number = known.get(name)
            if number is None:
                continue
            if conditions:
                conditional.setdefault(number, []).append((conditions, action))
            else:
                plain.setdefault(number, action)
    code: list[Insn] = [(_LD, 0, 0, 0)]
    # A program that was built for a newer kernel finds that a call is not there, rather than that it may not be made.
    code += _unknown(max(known.values(), default=0), default)
    for number, rules in conditional.items():
        block: list[Insn] = []
        for conditions, action in rules:
            for alternative in _alternatives(conditions):
                block += _rule(alternative, action)
        block.append((_RET, 0, 0, plain.pop(number, default)))
        # A jump over what may be longer than 255 instructions.
        code += [(_JEQ, 1, 0, number), (0x05, 0, 0, len(block)), *block]
    for number, action in plain.items():
        if action != default:
            code += [(_JEQ, 0, 1, number), (_RET, 0, 0, action)]
    code.append((_RET, 0, 0, default))
    if len(code) > _LONGEST:
        raise OciError(f"config.json: linux.seccomp: the profile is too long: {len(code)} instructions")
    return code


def _unknown(highest: int, default: int) -> list[Insn]:
    if default == _ALLOW:
        return []
    return [(_JGT, 0, 1, highest), (_RET, 0, 0, _ERRNO | errno.ENOSYS)]


def _action(data: dict[str, Any], where: str, number: object) -> int:
    name = data.get(where.rpartition(".")[2])
    if name not in _ACTIONS:
        raise OciError(f"config.json: {where}: {name!r} is not supported")
    action = _ACTIONS[name]
    if name not in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        return action
    value = errno.EPERM if number is None else number
    if not isinstance(value, int) or not 0 <= value <= 0xFFFF:
        raise OciError(f"config.json: {where}: {value!r} is no errno")
    return action | value


def _check(condition: dict[str, Any], get: Any) -> None:
    where = "linux.seccomp.syscalls.args"
    if not 0 <= get(condition, f"{where}.index", int, -1) <= 5:
        raise OciError(f"config.json: {where}.index: a system call has arguments 0 to 5")
    if condition.get("op") not in OPERATORS:
        raise OciError(f"config.json: {where}.op: {condition.get('op')!r} is not known")
    for name in ("value", "valueTwo"):
        if not 0 <= get(condition, f"{where}.{name}", int, 0) < 1 << 64:
            raise OciError(f"config.json: {where}.{name}: not 64 bits")


def _alternatives(conditions: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    indexes = [c["index"] for c in conditions]
    if len(set(indexes)) == len(indexes):
        return [conditions]
    return [[condition] for condition in conditions]


def _rule(conditions: list[dict[str, Any]], action: int) -> list[Insn]:
    """Returns `action` if all hold, falls through otherwise."""
    code: list[Insn] = [(_RET, 0, 0, action)]
    for condition in reversed(conditions):
        code = _condition(condition, len(code)) + code
    return code


def _condition(condition: dict[str, Any], rest: int) -> list[Insn]:
    """Falls through if it holds, otherwise jumps over `rest` instructions more."""
    op = condition["op"].removeprefix("SCMP_CMP_")
    value, two = condition.get("value") or 0, condition.get("valueTwo") or 0
    low = 16 + 8 * condition["index"]
    high = low + 4
    if op == "MASKED_EQ":
        wanted = two & value
        return [
            (_LD, 0, 0, high),
            (_AND, 0, 0, value >> 32),
            (_JEQ, 0, 3 + rest, wanted >> 32),
            (_LD, 0, 0, low),
            (_AND, 0, 0, value & _LOW),
            (_JEQ, 0, rest, wanted & _LOW),
        ]
    if op == "EQ":
        return [(_LD, 0, 0, high), (_JEQ, 0, 2 + rest, value >> 32), (_LD, 0, 0, low), (_JEQ, 0, rest, value & _LOW)]
    if op == "NE":
        return [(_LD, 0, 0, high), (_JEQ, 0, 2, value >> 32), (_LD, 0, 0, low), (_JEQ, rest, 0, value & _LOW)]
    jump = _JGE if op in ("GE", "LT") else _JGT
    holds = op in ("GE", "GT")
    return [
        (_LD, 0, 0, high),
        (_JGT, 3 if holds else 3 + rest, 0, value >> 32),
        (_JEQ, 0, 2 + rest if holds else 2, value >> 32),
        (_LD, 0, 0, low),
        (jump, 0 if holds else rest, rest if holds else 0, value & _LOW),
    ]
