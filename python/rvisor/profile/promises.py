"""What both kernels have to know of a profile before its program begins: limits, and how much may be promised."""

from __future__ import annotations

import os

from rvisor._record import Record
from rvisor.profile.model import ALLOW, Action, Condition, Rule, Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor._sentry.messages import Rlimit
    from rvisor.profile.model import Memory, Profile

_RLIMIT_DATA = 2
_CPU = ("policy", "nice", "priority", "weight", "slice", "cores", "controller")
_MEMORY = ("high", "swappiness", "overcommit", "thp", "controller")


class Limits(Record):
    """Of the control groups a launcher makes: bytes, thousandths of a CPU; None: no group for it."""

    memory: int | None
    millicpus: int | None


def needed(profile: Profile) -> bool:
    """Whether there is anything to set in a running container."""
    cpu = any(getattr(profile.cpu, name) is not None for name in _CPU)
    memory = any(getattr(profile.memory, name) is not None for name in _MEMORY)
    return cpu or memory or profile.futex_hash is not None


def limits(profile: Profile) -> Limits:
    """What is set needs a group to be set in: one whose limit is all there is, if the profile has none."""
    amount, quota = profile.memory.max, profile.cpu.quota
    if amount is None and (profile.memory.high is not None or profile.memory.swappiness is not None):
        amount = host_memory()
    if quota is None and profile.cpu.weight is not None:
        quota = float(os.cpu_count() or 1)
    return Limits(amount, None if quota is None else round(quota * 1000))


def rlimits(profile: Profile) -> list[Rlimit]:
    """How much each process may be promised."""
    limit = commit_limit(profile.memory)
    return [] if limit is None else [{"which": _RLIMIT_DATA, "soft": limit, "hard": limit}]


def table(profile: Profile, there: Table | None) -> Table | None:
    """The table with what refuses more memory than there is for the container."""
    refused = rules(profile.memory)
    return (there or Table(ALLOW, {})).first(refused) if refused else there


def commit_limit(wanted: Memory, own: int | None = None) -> int | None:
    """Bytes that may be promised under `never`, as vm.overcommit_ratio and _kbytes mean it; None: as many as wanted.

    The ratio, 50 per cent if nothing is said, is of the container's limit, or of the host's memory if it has none.
    """
    if wanted.overcommit != "never":
        return None
    if wanted.overcommit_kbytes:
        return wanted.overcommit_kbytes << 10
    ratio = 50 if wanted.overcommit_ratio is None else wanted.overcommit_ratio
    return min(wanted.max or own or 1 << 62, host_memory()) * ratio // 100


def host_memory() -> int:
    """Bytes of memory this host has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def rules(wanted: Memory) -> tuple[Rule, ...]:
    """`heuristic` as rules of the filter: a private writable mapping larger than all the container's memory is refused.

    Linux refuses one that is larger than the host's. The arguments are numbers, so nobody needs to be asked.
    """
    from errno import ENOMEM

    if wanted.overcommit != "heuristic" or not wanted.max:
        return ()
    refused = Action("errno", ENOMEM)
    reason = "memory.overcommit heuristic: more than the container has"
    larger = wanted.max
    mapped = (
        Condition(1, ">", larger),
        Condition(2, "==", _PROT_WRITE, _PROT_WRITE),
        Condition(3, "==", _MAP_PRIVATE, _MAP_TYPE | _MAP_NORESERVE),
    )
    return (
        Rule(("mmap",), refused, mapped, reason),
        Rule(("mremap",), refused, (Condition(2, ">", larger),), reason),
    )


_PROT_WRITE, _MAP_PRIVATE, _MAP_TYPE, _MAP_NORESERVE = 2, 2, 0xF, 0x4000
