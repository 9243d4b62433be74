"""The keys a profile's file may have: the one list for the reader, the JSON schema and the reference."""

from __future__ import annotations

from rvisor._record import Record
from rvisor.profile.model import KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Field(Record):
    """A key: what its value is, and what it means.

    `kind`: text, texts (a list), number, fraction, flag, size (bytes, or text such as 512m), time (ns, or text such as
    3ms), table, tables (a list of them), free (any keys, scalar values), views (sysctl). `low`, `high`: bounds.
    """

    kind: str
    text: str
    choices: tuple[str, ...] = ()
    low: int = 0
    high: int = (1 << 63) - 1
    fields: Mapping[str, Field] | None = None
    needed: bool = False


_REASON = Field("text", "why; shown by `rvisor profile explain`")
_ERRNO = Field("text", "with action errno: its name, EPERM unless said")
_CONTROLLER = Field(
    "text", "a class that changes these while the container runs: a built-in one's name, or `module:Class`"
)
_OPTIONS = Field("free", "what the controller is given")

SYSCALL_RULE = {
    "names": Field("texts", "system calls, by name; with action plugin also syscall_400, one without", needed=True),
    "action": Field("text", "what is done with them", choices=KINDS, needed=True),
    "errno": _ERRNO,
    "data": Field("number", "with action trap or trace: the number given along", high=0xFFFF),
    "plugin": Field("text", "with action plugin: the function that answers, `module:function`"),
    "when": Field("texts", "conditions on arguments, all of which must hold: `arg0 & CLONE_NEWUSER == 0`"),
    "reason": _REASON,
}

FILE_RULE = {
    "paths": Field("texts", "absolute paths, or patterns with * ** ? [abc] {a,b}", needed=True),
    "allow": Field("text", "the letters r, w, x that are allowed, and no others: `r-x`"),
    "deny": Field("text", "the letters that are refused, whatever other rules allow"),
    "subtree": Field("flag", "all below the path as well"),
    "reason": _REASON,
}

NETWORK_RULE = {
    "action": Field("text", "what is done with the peer", choices=("allow", "deny"), needed=True),
    "net": Field("text", "the peers: 10.0.0.0/8, 2001:db8::/32, one address, or any", needed=True),
    "ports": Field("text", "443, or 8000-8999; all unless said"),
    "protocol": Field("text", "any unless said", choices=("any", "tcp", "udp", "icmp")),
    "direction": Field(
        "text",
        "out: connections from inside; in: to inside; both unless said; bind: which own addresses may be taken",
        choices=("both", "out", "in", "bind"),
    ),
    "reason": _REASON,
}

DEVICE_RULE = {
    "action": Field("text", "what is done with them", choices=("allow", "deny"), needed=True),
    "device": Field("text", "as `ls -l` has it: c 1:3, b 8:*; or all", needed=True),
    "access": Field("text", "the letters r, w, and m for making a node; all three unless said"),
    "reason": _REASON,
}

SYSCTL = {
    "value": Field("text", "what is read", needed=True),
    "writable": Field("flag", "may the container write it?"),
    "minimum": Field("number", "the least that may be written", low=-(1 << 63)),
    "maximum": Field("number", "the most that may be written", low=-(1 << 63)),
}

PROFILE = {
    "name": Field("text", "a name for people; the file's unless said"),
    "description": Field("text", "what it is for"),
    "include": Field(
        "texts",
        "profiles this one stands on: names of shipped ones, or paths from this file's directory; what this file says "
        "of a call, a limit or a view replaces what they say",
    ),
    "futex_hash": Field(
        "number", "buckets of the private futex hash, a power of two; 0: the host's global one", high=1 << 20
    ),
    "syscalls": Field(
        "table",
        "system calls",
        fields={
            "default": Field("text", "what is done with calls that no rule is for", choices=KINDS),
            "errno": _ERRNO,
            "reason": _REASON,
            "rule": Field(
                "tables", "rules; the first that fits decides, those with conditions first", fields=SYSCALL_RULE
            ),
        },
    ),
    "capabilities": Field(
        "table",
        "the ceiling: nothing inside ever has others",
        fields={
            "keep": Field("texts", "all there are, with or without CAP_; replaces what an included profile keeps"),
            "add": Field("texts", "in addition to those of the included profiles"),
            "drop": Field("texts", "of those of the included profiles"),
            "reason": _REASON,
        },
    ),
    "files": Field(
        "table",
        "files",
        fields={
            "default": Field("text", "the letters allowed on files that no rule allows anything on; rwx unless said"),
            "rule": Field("tables", "rules; what any of them denies is denied", fields=FILE_RULE),
        },
    ),
    "kernel_log": Field(
        "table",
        "dmesg, /dev/kmsg, /proc/kmsg, syslog(2)",
        fields={
            "mode": Field("text", "own: the container's own log; none: EPERM; host", choices=("own", "none", "host")),
            "size": Field("size", "bytes of the own log", low=4096, high=1 << 30),
        },
    ),
    "sysctl": Field(
        "views", "files of /proc/sys by their names with dots: a value, or a table of these", fields=SYSCTL
    ),
    "cpu": Field(
        "table",
        "CPU time",
        fields={
            "policy": Field("text", "sched(7)", choices=("normal", "batch", "idle", "fifo", "rr")),
            "nice": Field("number", "for normal and batch", low=-20, high=19),
            "priority": Field("number", "for fifo and rr", low=1, high=99),
            "weight": Field("number", "the share among containers, 100 unless said", low=1, high=10000),
            "quota": Field("fraction", "the most CPUs at a time: 1.5"),
            "slice": Field("time", "how long a task runs before others: 3ms", low=100_000, high=100_000_000),
            "cores": Field("text", "the CPUs it may use: 0-3,6"),
            "controller": _CONTROLLER,
            "options": _OPTIONS,
        },
    ),
    "memory": Field(
        "table",
        "memory",
        fields={
            "max": Field("size", "the limit", low=16 << 20),
            "high": Field("size", "where it is slowed down and reclaimed"),
            "swappiness": Field("number", "0-200", high=200),
            "thp": Field("text", "transparent huge pages", choices=("always", "madvise", "never")),
            "overcommit": Field(
                "table",
                "as vm.overcommit_*, with an account of the container's own",
                fields={
                    "mode": Field("text", "vm.overcommit_memory", choices=("heuristic", "always", "never")),
                    "ratio": Field("number", "with never: percent of the limit", high=10000),
                    "kbytes": Field("number", "with never: the limit itself"),
                },
            ),
            "controller": _CONTROLLER,
            "options": _OPTIONS,
        },
    ),
    "network": Field(
        "table",
        "peers",
        fields={
            "default": Field("text", "for peers no rule fits", choices=("allow", "deny")),
            "rule": Field("tables", "rules; the first that fits decides", fields=NETWORK_RULE),
        },
    ),
    "devices": Field(
        "table",
        "devices of the host",
        fields={
            "default": Field(
                "text",
                "for those no rule fits; standard unless said: null, zero, full, random, urandom, terminals",
                choices=("standard", "allow", "deny"),
            ),
            "rule": Field("tables", "rules; the first that fits decides", fields=DEVICE_RULE),
        },
    ),
}


def schema() -> dict[str, Any]:
    """The JSON schema of a profile, for editors (2020-12)."""
    made: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rVisor profile",
    }
    return made | _table(PROFILE)


def _table(fields: Mapping[str, Field]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "object",
        "properties": {name: _schema(field) for name, field in fields.items()},
        "additionalProperties": False,
    }
    needed = [name for name, field in fields.items() if field.needed]
    return made | ({"required": needed} if needed else {})


def _schema(field: Field) -> dict[str, Any]:
    made: dict[str, Any] = {"description": field.text}
    bounds = {"minimum": field.low, "maximum": field.high}
    match field.kind:
        case "text":
            made |= {"type": "string"} | ({"enum": list(field.choices)} if field.choices else {})
        case "texts":
            made |= {"type": "array", "items": {"type": "string"}}
        case "number":
            made |= {"type": "integer"} | bounds
        case "fraction":
            made |= {"type": "number", "exclusiveMinimum": 0}
        case "flag":
            made |= {"type": "boolean"}
        case "size":
            made |= {
                "anyOf": [
                    {"type": "integer"} | bounds,
                    {"type": "string", "pattern": r"^[0-9.]+ *[kmgtKMGT]?(i?[bB])?$"},
                ]
            }
        case "time":
            made |= {"anyOf": [{"type": "integer"} | bounds, {"type": "string", "pattern": "^[0-9.]+ *(ns|us|ms|s)$"}]}
        case "free":
            scalar = {"type": ["string", "number", "boolean"]}
            made |= {"type": "object", "additionalProperties": scalar}
        case "table":
            made |= _table(field.fields or {})
        case "tables":
            made |= {"type": "array", "items": _table(field.fields or {})}
        case "views":
            view = {"anyOf": [{"type": ["string", "integer"]}, _table(field.fields or {})]}
            made |= {"type": "object", "additionalProperties": view}
    return made
