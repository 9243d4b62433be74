"""What a profile is for the shared kernel: parts of what its launcher is told."""

from __future__ import annotations

from dataclasses import dataclass

from rvisor.errors import ProfileError
from rvisor.profile import filter, read
from rvisor.profile.model import ALLOW, Action, Case, Origin, Profile, Table, both

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rvisor._sentry.messages import FileRule, SharedSpec

DOCKER = 0xA80425FB
"""The capabilities of Docker's containers: the ceiling where a profile has none."""
ANSWERED = ("uname", "sysinfo", "syslog")
"""Calls that the monitor can answer."""
_LOG = 1 << 18
_CPU = ("policy", "nice", "priority", "weight", "slice", "cores", "controller")
_MEMORY = ("high", "swappiness", "overcommit", "overcommit_ratio", "overcommit_kbytes", "thp", "controller")
_BITS = {"r": 4, "w": 2, "x": 1}


@dataclass(frozen=True)
class Parts:
    """`memory` in bytes, `millicpus` in thousandths; None: nothing is said of it."""

    shared: SharedSpec
    ceiling: int
    memory: int | None
    millicpus: int | None
    tuned: Profile | None = None
    """The profile, if it has policies that are set in a running container."""


def parts(profile: Profile | None, *, also: Table | None = None) -> Parts:
    """None: Docker's capabilities, a kernel log of its own, no filter. `also`: rules on system calls that hold as well.

    Raises ProfileError if the shared kernel could not enforce all of it.
    """
    profile = profile or Profile(name="")
    read.refuse_unsupported(profile, "shared")
    if wrong := list(_unsupported(profile)):
        lines = [f"{read.place(origin)}{what} is not there with --kernel=shared" for what, origin in wrong]
        raise ProfileError("\n".join(lines), hint="a profile is enforced whole or not at all")
    log = profile.kernel_log
    own_log = log is None or log.mode == "own"
    mask = profile.capability_mask()
    quota = profile.cpu.quota
    asked = _asked(profile)
    table = both(_table(profile), also)
    shared: SharedSpec = {
        "user_namespace": False,
        "filter": [] if table is None else filter.compile_table(table),
        "default_access": _access(profile.files.default),
        "file_rules": _rules(profile),
        "sysctl_views": [
            {"name": view.name.replace(".", "/"), "value": view.value, "writable": view.writable}
            for view in profile.sysctl
        ],
        "kernel_log": ((log.size if log is not None else None) or _LOG) if own_log else None,
        "uname": {"release": None, "version": None} if "uname" in asked else None,
        "sysinfo": "sysinfo" in asked,
        "watch_escalation": True,
    }
    return Parts(
        shared=shared,
        ceiling=DOCKER if mask is None else mask,
        memory=profile.memory.max,
        millicpus=None if quota is None else round(quota * 1000),
        tuned=profile if _tuned(profile) else None,
    )


def _tuned(profile: Profile) -> bool:
    cpu = any(getattr(profile.cpu, name) is not None for name in _CPU)
    memory = any(getattr(profile.memory, name) is not None for name in _MEMORY)
    return cpu or memory or profile.futex_hash is not None


def _asked(profile: Profile) -> set[str]:
    rules = () if profile.syscalls is None else profile.syscalls.rules
    return {name for rule in rules if rule.action.kind == "notify" for name in rule.names}


def _table(profile: Profile) -> Table | None:
    """The monitor is asked by a filter of its own, so this one lets its calls through."""
    table = None if profile.syscalls is None else profile.syscalls.table()
    if profile.kernel_log is not None and profile.kernel_log.mode == "none":
        from errno import EPERM

        from rvisor.profile.vocabulary import NUMBERS

        table = table or Table(ALLOW, {})
        table = Table(table.default, {**table.cases, NUMBERS["syslog"]: (Case((), Action("errno", EPERM)),)})
    if table is None:
        return None

    def let_through(action: Action) -> Action:
        return ALLOW if action.kind == "notify" else action

    cases = {number: tuple(Case(c.when, let_through(c.action)) for c in every) for number, every in table.cases.items()}
    return Table(table.default, cases)


def _rules(profile: Profile) -> list[FileRule]:
    return [
        {
            "path": rule.path,
            "allow": None if rule.allow is None else _access(rule.allow),
            "deny": _access(rule.deny),
            "subtree": rule.subtree,
        }
        for rule in profile.files.rules
    ]


def _access(letters: str) -> int:
    return sum(_BITS[letter] for letter in set(letters))


def _unsupported(profile: Profile) -> Iterator[tuple[str, Origin]]:
    rules = () if profile.syscalls is None else profile.syscalls.rules
    for rule in rules:
        if rule.action.kind == "plugin":
            yield "syscalls: the action 'plugin'", rule.origin
        if rule.action.kind == "notify":
            for name in rule.names:
                if name not in ANSWERED:
                    yield f"syscalls: the action 'notify' for {name}", rule.origin
            if rule.when:
                yield "syscalls: the action 'notify' under a condition", rule.origin
    if profile.syscalls is not None and profile.syscalls.default.kind in ("notify", "plugin"):
        yield f"syscalls: the default {profile.syscalls.default.kind!r}", profile.syscalls.origin
    for view in profile.sysctl:
        if view.minimum is not None or view.maximum is not None:
            yield f"sysctl: bounds for {view.name}", view.origin
    network = profile.network
    for peer in network.rules if network is not None else ():
        yield "network: a rule for peers", peer.origin
    if network is not None and not network.allow:
        yield "network: the default 'deny'", Origin()
