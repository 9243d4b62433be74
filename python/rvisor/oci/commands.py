"""The commands on containers that there are: state, kill, delete, list, ps, pause, resume, update, events."""

from __future__ import annotations

import os
import sys
import time

from rvisor._sentry.numbers import SIGKILL
from rvisor.errors import ControlError, SandboxGone
from rvisor.oci import state as states
from rvisor.oci.cli import emit
from rvisor.oci.errors import NoSuchContainer, OciError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rvisor.oci.cli import Command
    from rvisor.oci.state import Container


def state(command: Command) -> int:
    command.words(1, 1)
    emit(states.find(command.root, command.id).state(), indent=2)
    return 0


def _signal(text: str) -> int:
    """A number, or a name with or without SIG."""
    if text.isdecimal():
        number = int(text)
        if 0 < number <= 64:
            return number
    else:
        name = text.upper()
        name = name if name.startswith("SIG") else f"SIG{name}"
        base, plus, offset = name.partition("+")
        if base == "SIGRTMIN" and (not plus or offset.isdecimal()):
            return 34 + int(offset or 0)
        import signal

        if name in signal.Signals.__members__:
            return int(signal.Signals[name])
    raise OciError(f"unknown signal {text!r}")


def kill(command: Command) -> int:
    words = command.words(1, 2)
    number = _signal(words[1] if len(words) == 2 else "SIGTERM")
    container = states.find(command.root, command.id)
    everyone = command.flags.on("all")
    status = container.status()
    if status == "stopped":
        if everyone:
            return 0
        raise OciError("container not running")
    if status == "creating":
        raise OciError("container not running: it is being created")
    if number == SIGKILL:
        from rvisor.oci import cgroups

        try:
            os.kill(container.pid, SIGKILL)
        except ProcessLookupError:
            raise OciError("container not running") from None
        if status == "paused":
            cgroups.freeze(container.cgroups, False)
        return 0
    if container.shared and everyone:
        for pid in _processes(container):
            _send(pid, number)
        return 0
    if container.shared or status == "paused" or (status == "created" and not everyone):
        _from_host(container, number)
        return 0
    try:
        with container.control() as control:
            if everyone:
                control.signal(number, container=container.first)
            else:
                control.signal(number, pid=container.first)
    except SandboxGone:
        raise OciError("container not running") from None
    except ControlError as error:
        if error.errno == "ESRCH":
            raise OciError("container not running") from None
        raise
    return 0


def _processes(container: Container) -> list[int]:
    """All its processes, as the host numbers them."""
    from rvisor.oci import cgroups

    return cgroups.processes(container.cgroups) or [container.pid]


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _from_host(container: Container, number: int) -> None:
    """A kernel that stands, or whose program has not begun, finds the signal later."""
    try:
        os.kill(container.pid, number)
    except ProcessLookupError:
        raise OciError("container not running") from None


def delete(command: Command) -> int:
    command.words(1, 1)
    force = command.flags.on("force")
    try:
        container = states.find(command.root, command.id, lock=True, damaged=force)
    except NoSuchContainer:
        if force:
            return 0
        raise
    status = container.status()
    if not force and status == "created":
        # As runc: a program that has not begun is not missed.
        status = "stopped"
    if not force and status != "stopped":
        raise OciError(f"cannot delete container {container.id} that is not stopped: {status}")
    told = container.state("stopped")
    container.destroy()
    if container.hooked("poststop"):
        from rvisor.oci import lifecycle

        lifecycle.late(container, "poststop", told, command)
    return 0


def list_(command: Command) -> int:
    command.words(0, 0)
    form = command.flags.text("format", "table")
    if form not in ("table", "json"):
        raise OciError(f"list: invalid format {form!r}")
    found = [container.state() for container in states.every(command.root)]
    if command.flags.on("quiet"):
        for row in found:
            print(row["id"])
    elif form == "json":
        emit(found)
    else:
        names = ("id", "pid", "status", "bundle", "created", "owner")
        rows = [tuple(name.upper() for name in names), *(tuple(str(row[n]) for n in names) for row in found)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(names))]
        for line in rows:
            print("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return 0


def ps(command: Command) -> int:
    import subprocess

    container = states.find(command.root, command.id)
    if container.status() == "stopped":
        raise OciError("container not running")
    form = command.flags.text("format", "table")
    # All of them are the sandbox's: its kernel, and what holds the memory of each guest process.
    pids = _processes(container)
    if form == "json":
        emit(pids)
        return 0
    if form != "table":
        raise OciError(f"ps: invalid format {form!r}")
    if not container.shared and container.status() != "paused" and command.flags.words[1:] in ([], ["-ef"]):
        return _inside(container)
    done = subprocess.run(["ps", *(command.flags.words[1:] or ["-ef"])], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OciError(f"ps: {done.stderr.strip()}")
    head, *rows = done.stdout.splitlines()
    if "PID" not in head.split():
        raise OciError("ps: there is no column PID")
    column = head.split().index("PID")
    print(head)
    for row in rows:
        cells = row.split()
        if len(cells) > column and cells[column].isdecimal() and int(cells[column]) in pids:
            print(row)
    return 0


def _inside(container: Container) -> int:
    """The processes as the container's own kernel has them, in the columns of `ps -ef`."""
    with container.control() as control:
        found = control.processes()
    now = time.time()
    print(f"{'UID':<8} {'PID':>7} {'PPID':>7}  C {'STIME':<5} {'TTY':<8} {'TIME':>8} CMD")
    for p in found:
        began, used = p["started_ns"] / 1e9, p["cpu_ns"] / 1e9
        share = min(99, int(100 * used / max(now - began, 0.01)))
        since = time.strftime("%H:%M" if now - began < 86400 else "%b%d", time.localtime(began))
        spent = f"{int(used // 3600):02}:{int(used // 60 % 60):02}:{int(used % 60):02}"
        line = " ".join(p["args"]) or f"[{p['name']}]"
        print(f"{p['uid']:<8} {p['pid']:>7} {p['ppid']:>7} {share:>2} {since:<5} {'?':<8} {spent:>8} {line}")
    return 0


def pause(command: Command) -> int:
    return _freeze(command, True)


def resume(command: Command) -> int:
    return _freeze(command, False)


def _freeze(command: Command, frozen: bool) -> int:
    from rvisor.oci import cgroups

    command.words(1, 1)
    container = states.find(command.root, command.id, lock=True)
    status = container.status()
    if container.sandbox:
        raise OciError(f"a container of a pod cannot be paused alone: pause {container.sandbox}")
    if frozen and status not in ("running", "created"):
        raise OciError(f"container not running or created: {status}")
    if not frozen and status != "paused":
        raise OciError("container not paused")
    if frozen:
        container.write(paused=True)
        try:
            cgroups.freeze(container.cgroups, True)
        except BaseException:
            cgroups.freeze(container.cgroups, False)
            container.write(paused=False)
            raise
    else:
        cgroups.freeze(container.cgroups, False)
        container.write(paused=False)
    return 0


_UPDATES = {
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-share": ("cpu", "shares"),
    "cpu-burst": ("cpu", "burst"),
    "cpuset-cpus": ("cpu", "cpus"),
    "cpuset-mems": ("cpu", "mems"),
    "pids-limit": ("pids", "limit"),
    "blkio-weight": ("blockIO", "weight"),
}


def update(command: Command) -> int:
    from rvisor.oci import cgroups, config

    command.words(1, 1)
    container = states.find(command.root, command.id, lock=True)
    if container.status() == "stopped":
        raise OciError("container not running")
    source = command.flags.text("resources")
    resources: dict[str, Any] = {}
    if source:
        resources = config.read_json("/dev/stdin" if source == "-" else source)
    for flag, (part, key) in _UPDATES.items():
        if not command.flags.given(flag):
            continue
        text = command.flags.text(flag)
        if key not in ("cpus", "mems") and not text.lstrip("-").isdecimal():
            raise OciError(f"update: --{flag}: {text!r} is not a number")
        resources.setdefault(part, {})[key] = text if key in ("cpus", "mems") else int(text)
    if not isinstance(resources.get("memory", {}), dict):
        raise OciError("update: memory: not an object")
    cgroups.set_limits(container.cgroups, resources, where="resources", shared=container.shared)
    if not container.shared and not container.sandbox:
        with container.control() as control:
            # A paused sandbox answers when it goes on.
            control.limits(cgroups.guest_changes(resources), wait=container.status() != "paused")
    return 0


def events(command: Command) -> int:
    command.words(1, 1)
    container = states.find(command.root, command.id)
    if container.status() == "stopped":
        raise OciError("container not running")
    if command.flags.on("stats"):
        emit(_stats(container))
        return 0
    interval = command.flags.text("interval", "5s").removesuffix("s")
    try:
        seconds = float(interval)
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise OciError("events: --interval must be a number of seconds, more than 0")
    kills = _kills(container)
    while container.status() != "stopped":
        now = _kills(container)
        if now > kills:
            emit({"type": "oom", "id": container.id})
            kills = now
        emit(_stats(container))
        sys.stdout.flush()
        time.sleep(seconds)
    return 0


def _kills(container: Container) -> int:
    from rvisor._sentry import cgroup

    return cgroup.out_of_memory_kills(container.cgroups)


def _asked(pids: int, *, shared: bool) -> int:
    """The limit that `pids.max` was made of."""
    from rvisor.oci import cgroups

    asked = max(0, pids - cgroups.OWN_TASKS)
    return asked if not shared and cgroups.host_pids(asked) == pids else pids


def _stats(container: Container) -> dict[str, object]:
    """As `runc events` has it."""
    from rvisor.oci import cgroups

    groups = container.cgroups

    def memory(stem: str) -> dict[str, int]:
        return {
            "limit": cgroups.number(groups, f"{stem}.limit_in_bytes"),
            "usage": cgroups.number(groups, f"{stem}.usage_in_bytes") or cgroups.number(groups, "memory.current"),
            "max": cgroups.number(groups, f"{stem}.max_usage_in_bytes"),
            "failcnt": cgroups.number(groups, f"{stem}.failcnt"),
        }

    used = cgroups.table(groups, "memory.stat")
    cpu = cgroups.table(groups, "cpu.stat")
    total = cgroups.number(groups, "cpuacct.usage") or cpu.get("usage_usec", 0) * 1000
    return {
        "type": "stats",
        "id": container.id,
        "data": {
            "cpu": {
                "usage": {"total": total, "kernel": 0, "user": total},
                "throttling": {
                    "periods": cpu.get("nr_periods", 0),
                    "throttledPeriods": cpu.get("nr_throttled", 0),
                    "throttledTime": cpu.get("throttled_time", 0),
                },
            },
            "memory": {
                "cache": used.get("cache", used.get("file", 0)),
                "usage": memory("memory"),
                "swap": memory("memory.memsw"),
                "kernel": {"limit": 0},
                "raw": used,
            },
            "pids": {
                "current": cgroups.number(groups, "pids.current"),
                "limit": _asked(cgroups.number(groups, "pids.max"), shared=container.shared),
            },
            "blkio": {},
            "hugetlb": {},
            "intel_rdt": {},
            "network_interfaces": None,
        },
    }
