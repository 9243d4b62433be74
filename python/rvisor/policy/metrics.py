"""What a container did in a window of time, as policies are told.

Counters are the host's and only grow, so a sampler keeps what it saw last. A thread that began in the window counts
from its start; what a thread did after it was last seen and before it ended is only in the group's own counters.
"""

from __future__ import annotations

import os
import time

from rvisor._record import Record
from rvisor._sentry.cgroup import get as read
from rvisor.policy.cpu import CLASSES, quota

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor.policy.container import Container


class CpuMetrics(Record):
    """One window. `policy` is the class most threads have; None where the host does not tell."""

    window_s: float
    threads: int
    policy: str
    cpus: float
    """CPUs it may use: its cores, or its quota if that is less."""
    cpu_percent: float
    """Of those CPUs."""
    voluntary_per_s: float
    involuntary_per_s: float
    waiting_percent: float | None
    """Time its threads stood in the run queue, as a part of the window, summed over threads."""
    throttled: int | None
    """Periods in which its quota was used up."""
    pressure_percent: float | None
    """Part of the window in which some thread waited for a CPU (PSI)."""

    @property
    def switches_per_s(self) -> float:
        """Both kinds of context switch."""
        return self.voluntary_per_s + self.involuntary_per_s


class MemoryMetrics(Record):
    """One window, or the state at its end. Bytes; None where the host does not tell."""

    window_s: float
    processes: int
    used: int | None
    """What the control group is charged with, the page cache included."""
    anonymous: int | None
    huge: int | None
    """Of those, in huge pages."""
    swapped: int | None
    max: int | None
    high: int | None
    committed: int
    """What its processes were promised: private writable memory, whether touched or not."""
    major_faults_per_s: float
    over_limit: int | None
    """How often the limit was reached in the window."""
    pressure_percent: float | None


class CpuSampler:
    """Each call of `sample` tells of the time since the one before."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._at = time.monotonic()
        self._switches: dict[int, tuple[int, int]] = {}
        self._times: dict[int, tuple[int, int]] = {}
        self._group: dict[str, int | None] = {}
        self.sample()

    def sample(self) -> CpuMetrics:
        """The window that ends now."""
        container, now = self._container, time.monotonic()
        window = max(now - self._at, 1e-6)
        self._at = now
        tasks = container.tasks()
        switches = {task: found for task in tasks if (found := switches_of(task)) is not None}
        times = {task: found for task in tasks if (found := _times_of(task)) is not None}
        voluntary, involuntary = _grown(self._switches, switches)
        ran, waited = _grown(self._times, times)
        self._switches, self._times = switches, times
        before, self._group = self._group, _cpu_counters(container)
        grown = {name: _difference(self._group[name], before.get(name)) for name in self._group}
        used = grown["used_ns"] if grown["used_ns"] is not None else ran
        pressure = grown["pressure_us"]
        policy, cpus = _allowed(tasks, container)
        return CpuMetrics(
            window_s=window,
            threads=len(tasks),
            policy=policy,
            cpus=cpus,
            cpu_percent=used / 1e7 / window / cpus,
            voluntary_per_s=voluntary / window,
            involuntary_per_s=involuntary / window,
            waiting_percent=waited / 1e7 / window if times else None,
            throttled=grown["throttled"],
            pressure_percent=None if pressure is None else pressure / 1e4 / window,
        )


class MemorySampler:
    """Each call of `sample` tells of the time since the one before."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._at = time.monotonic()
        self._faults: dict[int, tuple[int, int]] = {}
        self._group: dict[str, int | None] = {}
        self.sample()

    def sample(self) -> MemoryMetrics:
        """The window that ends now."""
        container, now = self._container, time.monotonic()
        window = max(now - self._at, 1e-6)
        self._at = now
        pids = container.processes()
        faults = {pid: found for pid in pids if (found := _faults_of(pid)) is not None}
        major, _ = _grown(self._faults, faults)
        self._faults = faults
        before, self._group = self._group, _memory_counters(container)
        stat = _table(container.read("memory.stat"))
        pressure = _difference(self._group["pressure_us"], before.get("pressure_us"))
        v2 = container.file("memory.max") is not None
        return MemoryMetrics(
            window_s=window,
            processes=len(pids),
            used=_number(container.read("memory.current" if v2 else "memory.usage_in_bytes")),
            anonymous=stat.get("anon", stat.get("rss")),
            huge=stat.get("anon_thp", stat.get("rss_huge")),
            swapped=stat.get("swapcached" if v2 else "swap"),
            max=_limit(container.read("memory.max" if v2 else "memory.limit_in_bytes")),
            high=_limit(container.read("memory.high" if v2 else "memory.soft_limit_in_bytes")),
            committed=sum(committed_of(pid) for pid in pids),
            major_faults_per_s=major / window,
            over_limit=_difference(self._group["over_limit"], before.get("over_limit")),
            pressure_percent=None if pressure is None else pressure / 1e4 / window,
        )


def switches_of(task: int) -> tuple[int, int] | None:
    """A thread's voluntary and involuntary context switches so far."""
    try:
        status = read(f"/proc/{task}/status")
    except OSError:
        return None
    counts = dict(line.split(":\t", 1) for line in status.splitlines() if "ctxt_switches" in line)
    try:
        return int(counts["voluntary_ctxt_switches"]), int(counts["nonvoluntary_ctxt_switches"])
    except (KeyError, ValueError):
        return None


def committed_of(pid: int) -> int:
    """Bytes of private writable memory a process was promised: what the host's own accounting charges, but for
    mappings that are made writable no more. 0 if it is gone.
    """
    try:
        return int(read(f"/proc/{pid}/statm").split()[5]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def _times_of(task: int) -> tuple[int, int] | None:
    """Nanoseconds on a CPU, and waiting for one."""
    try:
        ran, waited, _ = read(f"/proc/{task}/schedstat").split()
    except (OSError, ValueError):
        return None
    return int(ran), int(waited)


def _faults_of(pid: int) -> tuple[int, int] | None:
    try:
        fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        return int(fields[9]), int(fields[7])
    except (OSError, IndexError, ValueError):
        return None


def _grown(before: dict[int, tuple[int, int]], now: dict[int, tuple[int, int]]) -> tuple[int, int]:
    first = second = 0
    for task, (one, two) in now.items():
        old = before.get(task, (0, 0))
        # A number used again by another thread starts from nothing.
        if one < old[0] or two < old[1]:
            old = (0, 0)
        first += one - old[0]
        second += two - old[1]
    return first, second


def _allowed(tasks: list[int], container: Container) -> tuple[str, float]:
    names = {number: name for name, number in CLASSES.items()}
    classes: dict[str, int] = {}
    cores: set[int] = set()
    for task in tasks:
        try:
            name = names.get(os.sched_getscheduler(task) & ~os.SCHED_RESET_ON_FORK, "other")
            cores |= os.sched_getaffinity(task)
        except OSError:
            continue
        classes[name] = classes.get(name, 0) + 1
    count = float(len(cores) or os.cpu_count() or 1)
    limit = quota(container)
    return max(classes, key=lambda name: classes[name], default="normal"), min(count, limit or count)


def _cpu_counters(container: Container) -> dict[str, int | None]:
    used = _number(container.read("cpuacct.usage"))
    stat = _table(container.read("cpu.stat"))
    if used is None and "usage_usec" in stat:
        used = stat["usage_usec"] * 1000
    return {"used_ns": used, "throttled": stat.get("nr_throttled"), "pressure_us": _pressure(container, "cpu")}


def _memory_counters(container: Container) -> dict[str, int | None]:
    over = _table(container.read("memory.events")).get("max")
    if over is None:
        over = _number(container.read("memory.failcnt"))
    return {"over_limit": over, "pressure_us": _pressure(container, "memory")}


def _pressure(container: Container, what: str) -> int | None:
    """Microseconds so far. The files are version 2's: a group has them where that hierarchy is mounted as well."""
    for line in (container.read(f"{what}.pressure") or "").splitlines():
        if line.startswith("some "):
            return int(line.rpartition("total=")[2])
    return None


def _table(text: str | None) -> dict[str, int]:
    pairs = (line.partition(" ") for line in (text or "").splitlines())
    return {name: int(value) for name, _, value in pairs if value.isdecimal()}


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _limit(text: str | None) -> int | None:
    number = _number(text)
    # Version 1's word for no limit is the largest number of whole pages.
    return None if number is None or number >= 1 << 62 else number


def _difference(now: int | None, before: int | None) -> int | None:
    return None if now is None else max(0, now - (before or 0))
