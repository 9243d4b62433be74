"""A container's share of the CPUs: scheduling policy, slice, weight, quota, cores; at start, and again while it runs.

Classes and slices are the threads' own and are inherited by those they start. Weight, quota and cores are the control
group's; without one, cores are each thread's affinity. A sandbox's kernel is scheduled like its guests: of two that
wait for each other none may go first.
"""

from __future__ import annotations

import os

from rvisor._sentry.cgroup import get as read
from rvisor._sentry.cgroup import put as write
from rvisor.policy import calls
from rvisor.policy.container import freezer, settle
from rvisor.policy.errors import PolicyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from rvisor.policy.container import Container
    from rvisor.profile.model import Cpu

CLASSES = {
    "normal": os.SCHED_OTHER,
    "batch": os.SCHED_BATCH,
    "idle": os.SCHED_IDLE,
    "fifo": os.SCHED_FIFO,
    "rr": os.SCHED_RR,
}
REAL_TIME = ("fifo", "rr")
REAL_TIME_US = 400_000
"""Budget of a group per second and CPU, unless told: the host's own processes keep the rest."""
SLICE_NS = (100_000, 100_000_000)
"""What the host's scheduler takes; it would silently clamp others."""
_PERIOD_US = 100_000
_LEAST_QUOTA = 0.01


def check(wanted: Cpu, *, where: str = "cpu") -> None:
    """PolicyError names what is out of range, or does not go together."""
    ranges = {"priority": (1, 99), "nice": (-20, 19), "weight": (1, 10_000)}
    for name, (low, high) in ranges.items():
        value = getattr(wanted, name)
        if value is not None and not low <= value <= high:
            raise PolicyError(f"{where}.{name}: {value} is not from {low} to {high}")
    if wanted.policy is not None and wanted.policy not in CLASSES:
        raise PolicyError(f"{where}.policy: {wanted.policy!r} is none of {', '.join(CLASSES)}")
    if wanted.slice and not SLICE_NS[0] <= wanted.slice <= SLICE_NS[1]:
        raise PolicyError(f"{where}.slice: {wanted.slice} ns is neither 0 nor from {SLICE_NS[0]} to {SLICE_NS[1]}")
    if wanted.quota and not _LEAST_QUOTA <= wanted.quota <= _MOST_CORES:
        raise PolicyError(f"{where}.quota: {wanted.quota} is neither 0 nor a number of CPUs from {_LEAST_QUOTA} on")
    real_time = wanted.policy in REAL_TIME
    if wanted.priority is not None and not real_time:
        raise PolicyError(f"{where}.priority goes with policy fifo or rr")
    for name in ("nice", "slice"):
        if getattr(wanted, name) is not None and real_time:
            raise PolicyError(f"{where}.{name} does not go with policy {wanted.policy}")
    if wanted.cores is not None and not any(core < (os.cpu_count() or 1) for core in wanted.cores):
        raise PolicyError(f"{where}.cores: this host has none of the CPUs {ranges_of(wanted.cores)!r}")


def cores(text: str, *, where: str = "cpu") -> tuple[int, ...]:
    """`0-1,3` as numbers; PolicyError."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(first + last) > 10:
            raise PolicyError(f"{where}.cores: {text!r} is not a list like 0-1,3")
        low, high = int(first), int(last or first)
        if low > high or high > _MOST_CORES:
            raise PolicyError(f"{where}.cores: {part!r} is no range of CPUs")
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def ranges_of(numbers: Iterable[int]) -> str:
    """The other way round: numbers as `0-1,3`."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)


_MOST_CORES = 8191


def apply(wanted: Cpu, container: Container, *, realtime_us: int = REAL_TIME_US) -> int:
    """Set it, all threads and those to come; returns how many threads were there. PolicyError: what the host refuses.

    None leaves a setting as it is; a quota or slice of 0 takes it away. Settings are made one after the other, the
    groups' first: after an error those before it hold. `realtime_us` a second is what fifo and rr may use of each
    CPU, where the host divides real time among groups.
    """
    check(wanted)
    if wanted.weight is not None:
        _weight(wanted.weight, container)
    if wanted.quota is not None:
        _quota(wanted.quota, container)
    affinity = None if wanted.cores is None else _cores(wanted.cores, container)
    if wanted.policy in REAL_TIME:
        _budget(container, realtime_us)
    count = 0
    if affinity is not None or any(getattr(wanted, name) is not None for name in ("policy", "nice", "slice")):
        count = settle(container, lambda task: _set(task, wanted, affinity), freeze=freezer(container))
    if wanted.policy is not None and wanted.policy not in REAL_TIME:
        _release(container)
    return count


def _set(task: int, wanted: Cpu, affinity: set[int] | None) -> bool:
    """Whether the thread had all of it already."""
    had = True
    if affinity is not None and os.sched_getaffinity(task) != affinity:
        os.sched_setaffinity(task, affinity)
        had = False
    now = calls.sched_getattr(task)
    if now.policy == _SCHED_DEADLINE:
        raise PolicyError(f"cpu.policy: thread {task} has a deadline of its own, which is left alone")
    aim = _aim(now, wanted)
    if aim == now:
        return had
    try:
        # 0: the host's own, which it may change.
        calls.sched_setattr(task, aim._replace(runtime_ns=0) if aim.runtime_ns == base_slice_ns() else aim)
    except PermissionError:
        why = "its control group has no real-time budget left" if wanted.policy in REAL_TIME else "not permitted"
        raise PolicyError(f"cpu.policy: {wanted.policy or 'slice'} for thread {task}: {why}") from None
    except ProcessLookupError:
        raise
    except OSError as error:
        raise PolicyError(f"cpu.policy: thread {task}: {error.strerror}") from None
    # The host takes what it can: what it made of a slice is not asked for again.
    return calls.sched_getattr(task) == now


_SCHED_DEADLINE = 6
_base: list[int] = []


def base_slice_ns() -> int:
    """The slice the host gives by itself: a thread's that asks for none."""
    if not _base:
        import contextlib
        import threading

        def ask() -> None:
            task = threading.get_native_id()
            with contextlib.suppress(OSError):
                calls.sched_setattr(task, calls.Attr(os.SCHED_OTHER, 0, calls.sched_getattr(task).nice, 0, 0))
                _base.append(calls.sched_getattr(task).runtime_ns)

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    return _base[0] if _base else 0


def _aim(now: calls.Attr, wanted: Cpu) -> calls.Attr:
    policy = now.policy if wanted.policy is None else CLASSES[wanted.policy]
    # Else what it starts would be normal again.
    flags = now.flags & ~calls.RESET_ON_FORK if wanted.policy is not None else now.flags
    if policy in (os.SCHED_FIFO, os.SCHED_RR):
        priority = wanted.priority if wanted.priority is not None else max(1, now.priority)
        return calls.Attr(policy, flags, now.nice, priority, now.runtime_ns)
    nice = now.nice if wanted.nice is None else wanted.nice
    runtime = now.runtime_ns
    if wanted.slice is not None:
        runtime = wanted.slice or base_slice_ns()
    return calls.Attr(policy, flags, nice, 0, runtime)


def shares(weight: int) -> int:
    """cpu.shares for a weight: both scales' defaults meet, 100 is 1024."""
    return max(2, min(262_144, round(weight * 1024 / 100)))


def _weight(weight: int, container: Container) -> None:
    if container.file("cpu.weight") is not None:
        container.write("cpu.weight", str(weight), what="cpu.weight")
    else:
        container.write("cpu.shares", str(shares(weight)), what="cpu.weight")


def _quota(cpus: float, container: Container) -> None:
    if (now := container.read("cpu.max")) is not None:
        period = int(now.split()[1])
        value = round(cpus * period) if cpus else "max"
        container.write("cpu.max", f"{value} {period}", what="cpu.quota")
        return
    period = int(container.read("cpu.cfs_period_us") or _PERIOD_US)
    container.write("cpu.cfs_quota_us", str(round(cpus * period) if cpus else -1), what="cpu.quota")


def _cores(chosen: tuple[int, ...], container: Container) -> set[int] | None:
    """In the group's cpuset, or, where there is none, as the affinity that each thread is to have."""
    if container.file("cpuset.cpus") is None:
        return {core for core in chosen if core < (os.cpu_count() or 1)}
    container.write("cpuset.cpus", ranges_of(chosen), what="cpu.cores")
    return None


def _budget(container: Container, wanted: int) -> None:
    """Real time for the group, out of what its parents have, or may have."""
    path = container.file(_RUNTIME)
    if path is None:
        # Version 2, or a host that does not divide real time, or a process in a group of others.
        return
    period = int(read(os.path.join(os.path.dirname(path), "cpu.rt_period_us")))
    wanted = wanted * period // 1_000_000
    group = os.path.dirname(path)
    parents = []
    while os.path.exists(os.path.join(os.path.dirname(group), _RUNTIME)):
        group = os.path.dirname(group)
        parents.append(group)
    group = os.path.dirname(path)
    # The tops' budget is the host's; those between get what is missing.
    more = wanted - int(read(path))
    try:
        for parent in reversed(parents[:-1]) if more > 0 else ():
            file = os.path.join(parent, _RUNTIME)
            missing = sum(_runtimes(parent)) + more - int(read(file))
            if missing > 0:
                write(file, str(int(read(file)) + missing))
        _share_out(group, wanted)
    except OSError as error:
        hint = "--realtime-us asks for less; other groups may have taken what there is"
        raise PolicyError(
            f"cpu.policy: no real-time budget of {wanted} us for {group}: {error.strerror}", hint=hint
        ) from None


_RUNTIME = "cpu.rt_runtime_us"


def _share_out(group: str, runtime: int) -> None:
    """A group's budget, and equal parts of it for the groups below: children need less than their parent has, first."""
    children = _children(group)
    path = os.path.join(group, _RUNTIME)
    grows = runtime >= int(read(path))
    if grows:
        write(path, str(runtime))
    for child in children:
        _share_out(child, runtime // len(children))
    if not grows:
        write(path, str(runtime))


def _release(container: Container) -> None:
    """Give the budget back; who made it bigger than its groups needed keeps that."""
    path = container.file(_RUNTIME)
    if path is None or int(read(path)) <= 0:
        return
    group = os.path.dirname(path)
    given = int(read(path))
    try:
        _share_out(group, 0)
        group = os.path.dirname(group)
        while os.path.exists(os.path.join(os.path.dirname(group), _RUNTIME)):
            file = os.path.join(group, _RUNTIME)
            needed = sum(_runtimes(group))
            if int(read(file)) != needed + given:
                break
            write(file, str(needed))
            group = os.path.dirname(group)
    except OSError:
        # A real-time thread of somebody's is still in one of them; the budget limits it as before.
        return


def _children(group: str) -> list[str]:
    return [entry.path for entry in os.scandir(group) if entry.is_dir(follow_symlinks=False)]


def _runtimes(group: str) -> list[int]:
    return [int(read(os.path.join(child, _RUNTIME))) for child in _children(group)]


def show(container: Container) -> dict[str, Any]:
    """What is set now, as the host has it: each class, slice and affinity with how many threads have it."""
    names = {number: name for name, number in CLASSES.items()}
    classes: dict[str, int] = {}
    slices: dict[int, int] = {}
    cpus: set[int] = set()
    tasks = container.tasks()
    for task in tasks:
        try:
            attr = calls.sched_getattr(task)
            cpus |= os.sched_getaffinity(task)
        except OSError:
            continue
        name = names.get(attr.policy, f"policy {attr.policy}")
        detail = f" {attr.priority}" if name in REAL_TIME else f" nice {attr.nice}" if attr.nice else ""
        classes[name + detail] = classes.get(name + detail, 0) + 1
        if name in ("normal", "batch"):
            slices[attr.runtime_ns] = slices.get(attr.runtime_ns, 0) + 1
    return {
        "threads": len(tasks),
        "classes": classes,
        "slices_ns": slices,
        "cores": sorted(cpus),
        "weight": _shown_weight(container),
        "quota": quota(container),
        "realtime_us": None if (text := container.read(_RUNTIME)) is None else int(text),
        "groups": container.groups,
    }


def _shown_weight(container: Container) -> int | None:
    if (text := container.read("cpu.weight")) is not None:
        return int(text)
    text = container.read("cpu.shares")
    return None if text is None else max(1, round(int(text) * 100 / 1024))


def quota(container: Container) -> float | None:
    """In CPUs; None: there is none."""
    limit, period = (container.read("cpu.max") or "").split() or (
        container.read("cpu.cfs_quota_us") or "-1",
        container.read("cpu.cfs_period_us") or str(_PERIOD_US),
    )
    return None if limit in ("max", "-1") else int(limit) / int(period)
