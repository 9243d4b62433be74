"""A container's memory: limits, when reclaim begins, swapping, huge pages, how much may be promised.

Limits are the control group's. Huge pages and the private futex table are each process's own: a launcher sets them
before it executes the first program (`before_exec`), and `apply` in what runs already, by stopping each process for
an instant.
"""

from __future__ import annotations

from typing import NamedTuple

from rvisor._sentry.cgroup import get as read
from rvisor.policy import inject
from rvisor.policy.errors import PolicyError
from rvisor.policy.metrics import committed_of
from rvisor.profile import promises
from rvisor.profile.promises import rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rvisor.policy.container import Container
    from rvisor.profile.model import Memory

MODES = ("heuristic", "always", "never")
THP = ("always", "madvise", "never")
_PR_SET_THP_DISABLE, _EXCEPT_ADVISED = 41, 2
_PR_FUTEX_HASH, _SET_SLOTS, _GET_SLOTS = 78, 1, 2
_MOST_SLOTS = 1 << 20
_THP_FILE = "/sys/kernel/mm/transparent_hugepage/enabled"


class BeforeExec(NamedTuple):
    """What a launcher does in the new process: prctl(2) with these arguments, setrlimit(2) to this, soft and hard."""

    prctls: tuple[tuple[int, int, int], ...]
    rlimits: tuple[tuple[str, int], ...]


def check(wanted: Memory, *, where: str = "memory") -> None:
    """PolicyError names what is out of range, or does not go together."""
    for name in ("max", "high", "overcommit_kbytes"):
        value = getattr(wanted, name)
        if value is not None and not 0 <= value < 1 << 53:
            raise PolicyError(f"{where}.{name}: {value} is out of range")
    for name, most in (("swappiness", 200), ("overcommit_ratio", 1000)):
        value = getattr(wanted, name)
        if value is not None and not 0 <= value <= most:
            raise PolicyError(f"{where}.{name}: {value} is not from 0 to {most}")
    if wanted.overcommit is not None and wanted.overcommit not in MODES:
        raise PolicyError(f"{where}.overcommit: {wanted.overcommit!r} is none of {', '.join(MODES)}")
    if wanted.thp is not None and wanted.thp not in THP:
        raise PolicyError(f"{where}.thp: {wanted.thp!r} is none of {', '.join(THP)}")
    if wanted.overcommit_ratio is not None and wanted.overcommit_kbytes:
        raise PolicyError(f"{where}: overcommit_ratio and overcommit_kbytes exclude each other")
    if wanted.max and wanted.high and wanted.high > wanted.max:
        raise PolicyError(f"{where}.high: {wanted.high} is above max, {wanted.max}")


def before_exec(wanted: Memory) -> BeforeExec:
    """For the launcher. Both are kept over fork and exec; hard limits are lifted with CAP_SYS_RESOURCE only."""
    check(wanted)
    word = _thp_word(wanted.thp)
    limit = commit_limit(wanted)
    return BeforeExec(
        prctls=() if word in (None, (0, 0)) else ((_PR_SET_THP_DISABLE, *word),) if word else (),
        rlimits=() if limit is None else (("DATA", limit),),
    )


def commit_limit(wanted: Memory, container: Container | None = None) -> int | None:
    """As `promises.commit_limit`, by the limit the container's group has if nothing else is said."""
    own = None
    if container is not None:
        text = container.read("memory.max") or container.read("memory.limit_in_bytes") or ""
        own = int(text) if text.isdecimal() and int(text) < 1 << 62 else None
    return promises.commit_limit(wanted, own)


def apply(wanted: Memory, container: Container, *, futex_slots: int | None = None, filtered: bool = False) -> int:
    """Set it; returns how many processes there were to set something in. PolicyError: what the host refuses.

    None leaves a setting as it is, a limit of 0 takes it away. After an error the settings before it hold. `filtered`:
    the container's filter has `rules` in it.
    """
    check(wanted)
    if rules(wanted) and not filtered:
        why = "with a limit it is rules of the filter, which a running container does not get"
        raise PolicyError(f"memory.overcommit: heuristic: {why}")
    if wanted.max is not None or wanted.high is not None:
        _limits(wanted, container)
    if wanted.swappiness is not None:
        container.write("memory.swappiness", str(wanted.swappiness), what="memory.swappiness")
    word = _thp_word(wanted.thp)
    limit = commit_limit(wanted, container)
    if wanted.overcommit in ("always", "heuristic"):
        limit = -1
    return _processes(container, word, limit, futex_slots)


def _processes(container: Container, thp: tuple[int, int] | None, limit: int | None, slots: int | None) -> int:
    """In every process, and in those that processes that had not been set yet have forked meanwhile."""
    if thp is None and limit is None and slots is None:
        return 0
    done: set[int] = set()
    quiet = 0
    while quiet < 2:
        new = [pid for pid in container.processes() if pid not in done]
        quiet = 0 if new else quiet + 1
        for pid in new:
            done.add(pid)
            try:
                if thp is not None:
                    inject.prctl(pid, _PR_SET_THP_DISABLE, *thp)
                if limit is not None:
                    _limit_data(pid, limit)
                if slots is not None:
                    set_futex_slots(pid, slots)
            except ProcessLookupError:
                continue
            except OSError as error:
                raise PolicyError(f"memory: process {pid}: {error.strerror}") from None
    return len(done)


def own(pid: int) -> tuple[str, tuple[int, int]] | None:
    """What a process has of its own: whether it may have huge pages, and what it may be promised. None: it is gone."""
    import resource

    try:
        return _field(pid, "THP_enabled"), resource.prlimit(pid, resource.RLIMIT_DATA)
    except OSError:
        return None


def restore(pid: int, before: tuple[str, tuple[int, int]] | None) -> None:
    """Put that back."""
    import resource

    now = own(pid)
    if before is None or now is None:
        return
    try:
        if now[0] != before[0]:
            inject.prctl(pid, _PR_SET_THP_DISABLE, int(before[0] == "0"))
        resource.prlimit(pid, resource.RLIMIT_DATA, before[1])
    except (OSError, PolicyError):
        return


def _limit_data(pid: int, limit: int) -> None:
    import resource

    # The limit of one's own is not lifted from inside: the hard one goes with it.
    bound = resource.RLIM_INFINITY if limit < 0 else limit
    resource.prlimit(pid, resource.RLIMIT_DATA, (bound, bound))


def set_futex_slots(pid: int, slots: int) -> None:
    """Give a process a futex table of its own, or with 0 the host's for good. PolicyError, ProcessLookupError."""
    if slots & (slots - 1) or slots == 1 or slots > _MOST_SLOTS:
        raise PolicyError(f"futex_hash: {slots} is neither 0 nor a power of two up to {_MOST_SLOTS}")
    try:
        inject.prctl(pid, _PR_FUTEX_HASH, _SET_SLOTS, slots)
    except OSError as error:
        from errno import EBUSY, EINVAL

        why = {
            EBUSY: "it has gone back to the host's table already, which is for good",
            EINVAL: "this host has no private futex tables, or takes no table of that size",
        }.get(error.errno or 0, error.strerror)
        raise PolicyError(f"futex_hash: process {pid}: {why}") from None


def futex_slots(pid: int) -> int:
    """Slots of a process's own futex table now; 0: it uses the host's. OSError, PolicyError as `inject.prctl`."""
    return inject.prctl(pid, _PR_FUTEX_HASH, _GET_SLOTS)


def _thp_word(thp: str | None) -> tuple[int, int] | None:
    """The second and third argument of PR_SET_THP_DISABLE; PolicyError: the host is set so that there is none."""
    if thp is None:
        return None
    if thp == "never":
        return 1, 0
    try:
        text = read(_THP_FILE)
        host = text[text.index("[") + 1 : text.index("]")]
    except (OSError, ValueError):
        host = "never"
    if host == "never" or (thp == "always" and host == "madvise"):
        raise PolicyError(f"memory.thp: {thp}: the host gives huge pages to less: {_THP_FILE} is {host}")
    return (1, _EXCEPT_ADVISED) if thp != host else (0, 0)


def _limits(wanted: Memory, container: Container) -> None:
    v2 = container.file("memory.max") is not None
    names = {"max": "memory.max", "high": "memory.high"} if v2 else _V1
    for name in ("max", "high"):
        value = getattr(wanted, name)
        if value is not None:
            text = str(value) if value else "max" if v2 else "-1"
            container.write(names[name], text, what=f"memory.{name}")


_V1 = {"max": "memory.limit_in_bytes", "high": "memory.soft_limit_in_bytes"}
"""Version 1 has no `high`: its soft limit counts when the whole host is short of memory only, and slows nobody."""


def show(container: Container) -> dict[str, Any]:
    """What is set now, and what was promised, as the host has it."""
    import resource

    from rvisor.policy.metrics import MemorySampler

    pids = container.processes()
    now = MemorySampler(container).sample()
    thp = [_field(pid, "THP_enabled") for pid in pids]
    limits = set()
    for pid in pids:
        try:
            limits.add(resource.prlimit(pid, resource.RLIMIT_DATA)[0])
        except OSError:
            continue
    swappiness = container.read("memory.swappiness")
    return {
        "processes": len(pids),
        "used": now.used,
        "max": now.max,
        "high": now.high,
        "swappiness": None if swappiness is None else int(swappiness),
        "committed": sum(committed_of(pid) for pid in pids),
        "commit_limits": sorted(limit for limit in limits if limit >= 0),
        "thp_disabled": sum(value == "0" for value in thp),
        "huge": now.huge,
        "groups": container.groups,
    }


def _field(pid: int, name: str) -> str:
    try:
        lines = read(f"/proc/{pid}/status").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name + ":")), "")
