"""Control groups of a container: cgroups(7), version 1, and version 2 where there is nothing else.

The sandbox's kernel and the host processes of its guests are in them, so that callers find what the container uses
where they look for it. The limit of processes is raised by what the sandbox itself needs.
"""

from __future__ import annotations

import errno
import os
import time

from rvisor._sentry.cgroup import get as _get
from rvisor._sentry.cgroup import put as _put
from rvisor._sentry.numbers import SIGKILL
from rvisor.oci.errors import OciError
from rvisor.oci.resources import check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rvisor._sentry.messages import Device, Limits


class NotAllowed(OciError):
    """This user may not make control groups."""


OWN_TASKS = 32
"""The sandbox's own tasks beside the guest's: kernel and helpers, the stubs' init, warm stubs."""
_FEW_TASKS = 512
SMALLEST_MEMORY = 16 << 20
_MOUNT = "/sys/fs/cgroup"


def unified() -> bool:
    return os.path.exists(os.path.join(_MOUNT, "cgroup.controllers"))


def mounts() -> dict[str, str]:
    """Each version 1 controller's hierarchy, and where it is mounted; `name=systemd` is one too."""
    found: dict[str, str] = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            head, _, tail = line.partition(" - ")
            fields, (kind, _, options) = head.split(), tail.split(" ", 2)
            if kind != "cgroup":
                continue
            for option in options.strip().split(","):
                if option in _CONTROLLERS or option.startswith("name="):
                    found.setdefault(option, fields[4])
    return found


_CONTROLLERS = (
    "cpuset", "cpu", "cpuacct", "memory", "pids", "blkio", "freezer", "devices", "hugetlb", "net_cls", "net_prio",
    "perf_event", "rdma", "misc",
)  # fmt: skip


def own() -> dict[str, str]:
    """This process's own group in each hierarchy; version 2's has the empty name."""
    found = {}
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for controller in controllers.split(","):
                found[controller] = path
    return found


def normal_path(path: str, name: str, *, systemd: bool) -> str:
    """Where it is to be, from `linux.cgroupsPath`. A systemd name is turned into the path systemd would use."""
    if systemd or path.count(":") == 2:
        parts = (path or f"system.slice:runrsc:{name}").split(":")
        if len(parts) != 3:
            raise OciError(f"linux.cgroupsPath: {path!r} is not slice:prefix:name, as --systemd-cgroup has it")
        slice_, prefix, unit = parts
        scope = unit if unit.endswith(".slice") else f"{prefix}-{unit}.scope" if prefix else f"{unit}.scope"
        folded = []
        stem = slice_.removesuffix(".slice")
        if stem and stem != "-":
            words = stem.split("-")
            folded = ["-".join(words[: n + 1]) + ".slice" for n in range(len(words))]
        path = "/" + "/".join([*folded, scope])
    if ".." in path.split("/"):
        raise OciError(f"linux.cgroupsPath: {path!r} must not have .. in it")
    return path or name


def paths(path: str) -> list[str]:
    """The directory in each hierarchy. A relative path is below this process's own group."""
    mine = own()
    if unified():
        return [_below(_MOUNT, path, mine.get("", "/"))]
    groups = []
    for controller, mount in sorted(mounts().items()):
        group = _below(mount, path, mine.get(controller, "/"))
        if group not in groups:
            groups.append(group)
    if not groups:
        raise OciError("this host has no control groups mounted in /sys/fs/cgroup")
    return groups


def for_programs(path: str) -> list[str]:
    """The directory beside those of version 1 that programs can be attached to; none where that is not possible."""
    from rvisor.profile import host

    mount = None if unified() or host.hindrance() is not None else host.mount()
    return [] if mount is None else [_below(mount, path, own().get("", "/"))]


def _below(mount: str, path: str, mine: str) -> str:
    if path.startswith("/"):
        return os.path.normpath(os.path.join(mount, path.lstrip("/")))
    base = os.path.join(mount, mine.lstrip("/"))
    # In a container the host's path may not exist: the mount's top is then the caller's own.
    return os.path.normpath(os.path.join(base if os.path.isdir(base) else mount, path))


def make(groups: list[str]) -> None:
    """Make them, empty; raises OciError if one is in use."""
    one = unified()
    for group in groups:
        try:
            if not _make(group, one) and _get(os.path.join(group, "cgroup.procs")):
                raise OciError(f"the control group {group} is in use by other processes")
        except OSError as error:
            kind = NotAllowed if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else OciError
            raise kind(f"making the control group {group}: {error.strerror}") from None


def _make(group: str, one: bool) -> bool:
    """Make it, and those above it; false if it was there. `one`: of the only hierarchy."""
    parent = os.path.dirname(group)
    if not os.path.isdir(parent):
        _make(parent, one)
    if one and os.path.exists(os.path.join(parent, "cgroup.controllers")):
        for controller in _get(os.path.join(parent, "cgroup.controllers")).split():
            try:
                _put(os.path.join(parent, "cgroup.subtree_control"), f"+{controller}")
            except OSError:
                continue
    made = True
    try:
        os.mkdir(group, 0o755)
    except FileExistsError:
        made = False
    if not one:
        for name in ("cpuset.cpus", "cpuset.mems"):
            _fill(group, name)
    return made


def _fill(group: str, name: str) -> None:
    """A new cpuset has no CPUs, and then nothing can be put into it. Others may be just making its parent."""
    path = os.path.join(group, name)
    if not os.path.exists(path) or _get(path).strip():
        return
    parent = os.path.dirname(group)
    _fill(parent, name)
    _put(path, _get(os.path.join(parent, name)))


def host_pids(limit: int) -> int:
    """`pids.max` for a limit. The sandbox's own tasks are counted in it, as its memory is, or added to a small one."""
    return max(limit, min(limit, _FEW_TASKS) + OWN_TASKS)


def guest_limits(resources: dict[str, Any]) -> Limits:
    """The limits that the sandbox's kernel keeps and shows; None for none."""
    memory = (resources.get("memory") or {}).get("limit") or 0
    cpu = resources.get("cpu") or {}
    quota, period = cpu.get("quota") or 0, cpu.get("period") or 100_000
    pids = (resources.get("pids") or {}).get("limit") or 0
    return {
        "memory": memory if memory > 0 else None,
        "millicpus": max(10, quota * 1000 // period) if quota > 0 else None,
        "pids": host_pids(pids) - OWN_TASKS if pids > 0 else None,
    }


def guest_changes(resources: dict[str, Any]) -> dict[str, int]:
    """Which of those an update changes; 0 for no limit any more."""
    wanted = guest_limits(resources)
    named = {
        "memory": (resources.get("memory") or {}).get("limit"),
        "millicpus": (resources.get("cpu") or {}).get("quota"),
        "pids": (resources.get("pids") or {}).get("limit"),
    }
    return {name: wanted[name] or 0 for name, value in named.items() if value}  # type: ignore[literal-required]


def set_limits(
    groups: list[str], resources: dict[str, Any], *, where: str = "linux.resources", shared: bool = False
) -> None:
    """Write the limits, of a sandbox or `shared` of programs alone. What this host has no controller for is refused."""
    for controller, name, value, what in settings(resources, where=where, shared=shared):
        path = _file(groups, name)
        if path is None:
            raise OciError(f"{where}.{what}: this host does not offer the cgroup file {name} ({controller})")
        try:
            _put(path, value)
        except OSError as error:
            # The sum of memory and swap can never be below the memory: which is first depends on what was there.
            both = name == "memory.limit_in_bytes" and (resources.get("memory") or {}).get("swap")
            if both and _retry_memory(groups, resources, value):
                continue
            raise OciError(f"{where}.{what}: writing {value} to {path}: {error.strerror}") from None


_STANDARD = ("c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm",
             "c 5:1 rwm", "c 5:2 rwm", "c 136:* rwm")  # fmt: skip
"""Every container may make nodes, and open null, zero, full, random, urandom, tty, console, ptmx and its terminals."""


def set_devices(groups: list[str], resources: dict[str, Any], devices: list[Device], *, own_log: bool) -> bool:
    """Which devices programs on the host's kernel may open; False where this host has no controller for that. With a
    kernel log of their own that is never the host's.
    """
    deny, allow = _file(groups, "devices.deny"), _file(groups, "devices.allow")
    if deny is None or allow is None:
        return False
    try:
        _put(deny, "a")
        for rule in resources.get("devices") or ():
            _put(allow if rule["allow"] else deny, _rule(rule))
        for line in (
            *_STANDARD,
            *(f"{'b' if d['kind'] == 'b' else 'c'} {d['major']}:{d['minor']} rwm" for d in devices),
        ):
            _put(allow, line)
        if own_log:
            _put(deny, "c 1:11 rw")
    except OSError as error:
        raise OciError(f"linux.resources.devices: {error.filename}: {error.strerror}") from None
    return True


def _rule(rule: dict[str, Any]) -> str:
    kind = rule.get("type") or "a"
    if kind == "a":
        return "a"
    major, minor = (rule.get(name) for name in ("major", "minor"))
    numbers = ":".join("*" if number is None or number < 0 else str(number) for number in (major, minor))
    return f"{'c' if kind == 'u' else kind} {numbers} {rule.get('access') or 'rwm'}"


def _retry_memory(groups: list[str], resources: dict[str, Any], value: str) -> bool:
    swap, limit = _file(groups, "memory.memsw.limit_in_bytes"), _file(groups, "memory.limit_in_bytes")
    if swap is None or limit is None:
        return False
    try:
        _put(swap, str(resources["memory"]["swap"]))
        _put(limit, value)
    except (OSError, KeyError):
        return False
    return True


def settings(resources: dict[str, Any], *, where: str, shared: bool = False) -> list[tuple[str, str, str, str]]:
    """Controller, file, value, and what it is called in the specification."""
    v2 = unified()
    found: list[tuple[str, str, str, str]] = []

    def put(what: str, controller: str, v1: str, v2_name: str, value: object) -> None:
        name = v2_name if v2 else v1
        if not name:
            raise OciError(f"{where}.{what}: there is no such limit in this version of control groups")
        found.append((controller, name, str(value), what))

    check(resources, where)
    memory = resources.get("memory") or {}
    limit = memory.get("limit")
    if limit:
        if 0 < limit < SMALLEST_MEMORY and not shared:
            raise OciError(
                f"{where}.memory.limit: {limit} is too small: a sandbox needs at least 16 MiB, its kernel included"
            )
        put("memory.limit", "memory", "memory.limit_in_bytes", "memory.max", "max" if v2 and limit < 0 else limit)
    if memory.get("reservation"):
        put("memory.reservation", "memory", "memory.soft_limit_in_bytes", "memory.low", memory["reservation"])
    swap = memory.get("swap")
    if swap:
        if v2:
            swap = "max" if swap < 0 else max(0, swap - (limit or 0))
        put("memory.swap", "memory", "memory.memsw.limit_in_bytes", "memory.swap.max", swap)
        if not v2 and not os.path.exists(f"{mounts().get('memory', _MOUNT)}/memory.memsw.limit_in_bytes"):
            # The host does not count swap: without swap there is nothing to limit.
            found.pop()
    if memory.get("swappiness") is not None:
        put("memory.swappiness", "memory", "memory.swappiness", "", memory["swappiness"])
    if memory.get("disableOOMKiller"):
        put("memory.disableOOMKiller", "memory", "memory.oom_control", "", 1)
    cpu = resources.get("cpu") or {}
    if cpu.get("shares"):
        put("cpu.shares", "cpu", "cpu.shares", "cpu.weight", _weight(cpu["shares"]) if v2 else cpu["shares"])
    period, quota = cpu.get("period"), cpu.get("quota")
    if v2 and (period or quota):
        put("cpu.quota", "cpu", "", "cpu.max", f"{quota if quota and quota > 0 else 'max'} {period or 100000}")
    elif period:
        put("cpu.period", "cpu", "cpu.cfs_period_us", "", period)
    if quota and not v2:
        put("cpu.quota", "cpu", "cpu.cfs_quota_us", "", quota)
    if cpu.get("burst") is not None:
        put("cpu.burst", "cpu", "cpu.cfs_burst_us", "cpu.max.burst", cpu["burst"])
    for key, name in (("realtimePeriod", "cpu.rt_period_us"), ("realtimeRuntime", "cpu.rt_runtime_us")):
        if cpu.get(key):
            put(f"cpu.{key}", "cpu", name, "", cpu[key])
    for key in ("cpus", "mems"):
        if cpu.get(key):
            put(f"cpu.{key}", "cpuset", f"cpuset.{key}", f"cpuset.{key}", cpu[key])
    if cpu.get("idle") is not None:
        put("cpu.idle", "cpu", "cpu.idle", "cpu.idle", cpu["idle"])
    pids = (resources.get("pids") or {}).get("limit")
    if pids:
        most: object = (pids if shared else host_pids(pids)) if pids > 0 else "max"
        put("pids.limit", "pids", "pids.max", "pids.max", most)
    _block(resources.get("blockIO") or {}, put)
    for page in resources.get("hugepageLimits") or ():
        name = f"hugetlb.{page['pageSize']}"
        put("hugepageLimits", "hugetlb", f"{name}.limit_in_bytes", f"{name}.max", page["limit"])
    network = resources.get("network") or {}
    if network.get("classID"):
        put("network.classID", "net_cls", "net_cls.classid", "", network["classID"])
    for priority in network.get("priorities") or ():
        put("network.priorities", "net_prio", "net_prio.ifpriomap", "", f"{priority['name']} {priority['priority']}")
    if resources.get("rdma"):
        raise OciError(f"{where}.rdma: a sandbox has no RDMA devices")
    for name, value in (resources.get("unified") or {}).items():
        put("unified", name.partition(".")[0], "", name, value)
    return found


def _block(block: dict[str, Any], put: Any) -> None:
    if block.get("weight"):
        weight = _io_weight(block["weight"]) if unified() else block["weight"]
        put("blockIO.weight", "blkio", "blkio.weight", "io.weight", weight)
    if block.get("leafWeight"):
        put("blockIO.leafWeight", "blkio", "blkio.leaf_weight", "", block["leafWeight"])
    for device in block.get("weightDevice") or ():
        node = f"{device['major']}:{device['minor']}"
        weight = _io_weight(device["weight"]) if unified() else device["weight"]
        put("blockIO.weightDevice", "blkio", "blkio.weight_device", "io.weight", f"{node} {weight}")
    for direction, short in (("Read", "r"), ("Write", "w")):
        for unit, v1, v2 in (("Bps", "bps", "bps"), ("IOPS", "iops", "iops")):
            for device in block.get(f"throttle{direction}{unit}Device") or ():
                node, rate = f"{device['major']}:{device['minor']}", device["rate"]
                value = f"{node} {short}{v2}={rate}" if unified() else f"{node} {rate}"
                file = f"blkio.throttle.{direction.lower()}_{v1}_device"
                put(f"blockIO.throttle{direction}{unit}Device", "blkio", file, "io.max", value)


def _weight(shares: int) -> int:
    """The kernel's own conversion of version 1's shares."""
    return 1 + (max(2, min(shares, 262144)) - 2) * 9999 // 262142


def _io_weight(weight: int) -> int:
    """Version 1 has weights from 10 to 1,000, version 2 from 1 to 10,000."""
    return 1 + (max(10, min(weight, 1000)) - 10) * 9999 // 990


def _file(groups: list[str], name: str) -> str | None:
    for group in groups:
        path = os.path.join(group, name)
        if os.path.exists(path):
            return path
    return None


def processes(groups: list[str]) -> list[int]:
    """The host processes in these groups."""
    found: set[int] = set()
    for group in groups:
        for top, _, _ in os.walk(group):
            try:
                found.update(int(pid) for pid in _get(os.path.join(top, "cgroup.procs")).split())
            except OSError:
                continue
        if found:
            break
    return sorted(found)


def freeze(groups: list[str], frozen_: bool) -> None:
    """Stop everything in them, or let it go on."""
    state = _file(groups, "cgroup.freeze") if unified() else _file(groups, "freezer.state")
    if state is None:
        raise OciError("this host offers no freezer: the container cannot be paused")
    _put(state, ("1" if frozen_ else "0") if unified() else ("FROZEN" if frozen_ else "THAWED"))
    end = time.monotonic() + 5.0
    while frozen(groups) != frozen_:
        if time.monotonic() > end:
            raise OciError("the freezer does not come to rest")
        time.sleep(0.002)


def frozen(groups: list[str]) -> bool:
    """Does everything in them stand?"""
    if unified():
        events = _file(groups, "cgroup.events")
        return events is not None and "frozen 1" in _get(events)
    state = _file(groups, "freezer.state")
    return state is not None and _get(state).strip() == "FROZEN"


def empty(group: str) -> bool:
    """Is it there, and nobody in it or below it?"""
    return os.path.isdir(group) and not processes([group])


def kill_all(groups: list[str]) -> None:
    """End whatever is left in them."""
    pause = 0.001
    for _ in range(100):
        left = processes(groups)
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(pause)
        pause = min(2 * pause, 0.01)


def number(groups: list[str], name: str) -> int:
    """One number out of a file of theirs; 0 if there is none."""
    path = _file(groups, name)
    try:
        return int(_get(path)) if path else 0
    except (OSError, ValueError):
        return 0


def table(groups: list[str], name: str) -> dict[str, int]:
    """A file of names and numbers."""
    path = _file(groups, name)
    found = {}
    for line in _get(path).splitlines() if path else ():
        key, _, value = line.partition(" ")
        if value.strip().isdecimal():
            found[key] = int(value)
    return found
