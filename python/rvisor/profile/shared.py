"""What a profile is for the shared kernel: parts of what its launcher is told."""

from __future__ import annotations

from rvisor._record import Record
from rvisor.profile import filter, host, promises, support
from rvisor.profile.model import ALLOW, Action, Case, Profile, Table, both
from rvisor.profile.vocabulary import CAPABILITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor._sentry import messages
    from rvisor._sentry.messages import FileRule, Program, Rlimit, SharedSpec
    from rvisor.profile.model import SysctlView
    from rvisor.profile.plugins import Served

DOCKER = 0xA80425FB
"""The capabilities of Docker's containers: the ceiling where a profile has none."""
_ALL = (1 << len(CAPABILITIES)) - 1
_LOG = 1 << 18
_BITS = {"r": 4, "w": 2, "x": 1}


class Parts(Record):
    """`memory` in bytes, `millicpus` in thousandths; None: nothing is said of it."""

    shared: SharedSpec
    ceiling: int
    memory: int | None
    millicpus: int | None
    rlimits: list[Rlimit]
    tuned: Profile | None = None
    """The profile, if it has policies that are set in a running container."""
    served: Served | None = None
    """Its plug-ins, whose process is to be started beside the container."""


def parts(profile: Profile | None, *, also: Table | None = None, oci: bool = False) -> Parts:
    """None: Docker's capabilities, a kernel log of its own, no filter. `also`: rules on system calls that hold as well.
    `oci`: whoever starts the container says which devices and capabilities it has; the profile only takes away.

    Raises ProfileError if the shared kernel could not enforce all of it.
    """
    profile = profile or Profile(name="")
    support.refuse(profile, "shared")
    log = profile.kernel_log
    own_log = has_own_log(profile)
    mask = profile.capability_mask()
    asked = _asked(profile)
    table = _with_restarts(promises.table(profile, both(_table(profile), also)))
    limits = promises.limits(profile)
    served, rows = _served(profile)
    shared: SharedSpec = {
        "user_namespace": False,
        "filter": [] if table is None else filter.compile_table(table),
        "default_access": _access(profile.files.default),
        "file_rules": _rules(profile),
        "sysctl_views": [_view(view) for view in profile.sysctl],
        "programs": _programs(profile, oci),
        "kernel_log": ((log.size if log is not None else None) or _LOG) if own_log else None,
        "uname": {"release": None, "version": None} if "uname" in asked else None,
        "sysinfo": "sysinfo" in asked,
        "plugins": rows,
        "watch_escalation": True,
    }
    return Parts(
        shared=shared,
        ceiling=_default_ceiling(profile, oci) if mask is None else mask,
        memory=limits.memory,
        millicpus=limits.millicpus,
        rlimits=promises.rlimits(profile),
        tuned=profile if promises.needed(profile) else None,
        served=served,
    )


def _served(profile: Profile) -> tuple[Served | None, messages.Plugins | None]:
    rules = () if profile.syscalls is None else profile.syscalls.rules
    if not any(rule.action.kind == "plugin" for rule in rules):
        return None, None
    # Few have any: what starts a container imports little.
    from rvisor.profile import plugins

    served = plugins.served(profile)
    return served, None if served is None else plugins.rows(served)


def has_own_log(profile: Profile) -> bool:
    """The container sees a kernel log of its own, and not the host's or none."""
    return profile.kernel_log is None or profile.kernel_log.mode == "own"


def _default_ceiling(profile: Profile, oci: bool) -> int:
    """What Docker's containers have, or what the caller says, but for ways around what is to be enforced."""
    without = {name for name in support.LEAVES if _peers(profile)}
    if not oci and host.hindrance() is not None:
        # Nothing would ask whether the device of a node may be opened.
        without.add("MKNOD")
    return (_ALL if oci else DOCKER) & ~sum(1 << CAPABILITIES.index(name) for name in without)


def _peers(profile: Profile) -> bool:
    return profile.network is not None and (bool(profile.network.rules) or not profile.network.allow)


def _programs(profile: Profile, oci: bool) -> list[Program]:
    if host.hindrance() is not None:
        return []
    if oci and profile.devices is None and not profile.sysctl and not _peers(profile):
        return []
    from rvisor.profile import groups

    made = groups.settings(profile.sysctl)
    if profile.devices is not None or not oci:
        made += groups.devices(profile.devices, own_log=has_own_log(profile))
    return made + (groups.network(profile.network) if profile.network is not None and _peers(profile) else [])


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
        return ALLOW if action.kind in ("notify", "plugin") else action

    cases = {number: tuple(Case(c.when, let_through(c.action)) for c in every) for number, every in table.cases.items()}
    return Table(table.default, cases)


def _with_restarts(table: Table | None) -> Table | None:
    """A call that waits with a time limit and is stopped for an instant, by a signal or by us, goes on by
    restart_syscall: whoever may wait may do so, if nothing is said of it.
    """
    from rvisor.profile.vocabulary import NUMBERS

    number = NUMBERS["restart_syscall"]
    if table is None or number in table.cases:
        return table
    return Table(table.default, {**table.cases, number: (Case((), ALLOW),)})


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


def _view(view: SysctlView) -> messages.SysctlView:
    from rvisor.profile import groups

    name = view.name.replace(".", "/")
    return {"name": name, "value": view.value, "writable": view.writable, "own": groups.bounded(view)}


def _access(letters: str) -> int:
    return sum(_BITS[letter] for letter in set(letters))
