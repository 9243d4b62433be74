"""Instances of the shared kernel (vKI): one for each container that runs on it, as long as that runs.

What an instance consists of is in the host's kernel (filters, Landlock rules, mounts, control groups) and in the
container's monitor. Its description lies beside the sandbox's in the runtime directory; updates take turns by a lock.
"""

from __future__ import annotations

import fcntl
import os
import time

from rvisor._sentry import cgroup, runtime
from rvisor._sentry.control import Control
from rvisor.errors import ControlError, RvisorError, SandboxGone, UsageError
from rvisor.profile.vocabulary import name_of as name_of_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rvisor._sentry.messages import Confinement, LaunchSpec, Process, Program, SharedSpec
    from rvisor._sentry.runtime import About
    from rvisor._sentry.spawn import Running
    from rvisor.profile.model import Profile, Table
    from rvisor.profile.shared import Parts

PREFIX = "vkernel_"
_STATE = runtime.VKERNEL
_LARGEST_LOG = 8 << 20
_LIVE = ("sysctl_views", "uname", "programs")
"""Parts that change in a running container."""
_FILES = ("default_access", "file_rules")
_FOREVER = {
    "kernel_log": "whether syslog(2) is answered is in the filter",
    "plugins": "which calls a plug-in serves is in a filter that was made at the start",
    "user_namespace": "the namespaces are made",
    "watch_escalation": "it is in the filter",
}
"""Why the others do not."""


def name_of(identity: str) -> str:
    """An instance's name: that of the original's module."""
    return PREFIX + identity[:12]


def instances() -> list[About]:
    """Every running container that has one, oldest first."""
    return [about for about in runtime.running() if about.get("kernel") == "shared"]


def find(word: str) -> tuple[str, About]:
    """By the instance's name, or the container's name or id: the container's directory, and what is known of it."""
    directory, about = runtime.find(word.removeprefix(PREFIX))
    if about.get("kernel") != "shared":
        raise UsageError(f"{word!r} has a private kernel", hint="`rvisor vkernel ls` lists those on the shared one")
    return directory, about


def register(directory: str, *, profile: str | None, parts: Parts, **more: object) -> None:
    """Describe the instance of a container that is about to run.

    `more`, of an OCI container: `groups`, its control groups; `seccomp`, what its configuration says; `capabilities`.
    """
    policies = _policies(parts.tuned)
    about = {"profile": profile, "shared": parts.shared, "ceiling": parts.ceiling, "policies": policies, "updates": 0}
    _write(directory, {**about, **more})


def rules(directory: str) -> SharedSpec:
    """What a further program of the container is behind."""
    found: SharedSpec = _read(directory)["shared"]
    return found


def further(
    control: Control, rules: SharedSpec, process: Process, *, identity: str, groups: list[str], detached: bool
) -> LaunchSpec:
    """What the launcher is told of one more program in the container whose monitor `control` is connected to."""
    rules["enter"] = True
    process["seccomp"] = []
    return {
        "id": identity,
        "sentry": "",
        "stub": "",
        "root": {"path": "/", "overlay": "none", "read_only": False},
        "volumes": [],
        "masked": [],
        "read_only": [],
        "process": process,
        "hostname": "",
        "domainname": None,
        "network": "host",
        "sysctls": {},
        "network_fd": None,
        "network_rules": [],
        "files": [],
        "limits": {"memory": None, "millicpus": None, "pids": None},
        "cgroups": groups,
        "platform": "slots",
        "strace_fd": None,
        "log_fd": None,
        "events_fd": -1,
        "caller_fd": None,
        "detached": detached,
        "control_fd": None,
        "hold": False,
        "guarded_init": False,
        "join_fd": control.fileno(),
        "visible": False,
        "ids": None,
        "shared": rules,
    }


def execute(
    directory: str, about: About, process: Process, *, streams: tuple[int, int, int], detached: bool
) -> Running:
    """Start one more program in a container, a child of this process: in its namespaces and groups, behind its rules.
    Its ceiling is the container's.
    """
    from rvisor._sentry import messages, spawn

    state = _read(directory)
    # Those of runrsc have theirs from their configuration.
    of_runrsc: Confinement = {"seccomp": [], "ceiling": state.get("capabilities"), "rlimits": []}
    messages.confine(process, of_runrsc if "groups" in state else about.get("confinement"))
    process["no_new_privs"] = True
    groups = _groups(state, about["id"])
    with Locked(directory, alone=False) as lock, Control.connect(directory) as control:
        shared = rules(directory)
        spec = further(control, shared, process, identity=about["id"][:12], groups=groups, detached=detached)
        running = spawn.start(spec, streams=streams, held=lock.fd)
    try:
        running.wait_until_loaded()
    except BaseException:
        running.close()
        raise
    return running


def processes(directory: str) -> list[dict[str, Any]]:
    """What runs in a container, as Control.processes tells it of a sandbox: by the container's own pids."""
    state = _read(directory)
    namespace = _pid_namespace(str(live_pid(directory)))
    if namespace == _pid_namespace("self"):
        within = {pid for group in state.get("groups", ()) for pid in cgroup.get(f"{group}/cgroup.procs").split()}
    else:
        within = {name for name in os.listdir("/proc") if name.isdecimal() and _pid_namespace(name) == namespace}
    found = [one for one in map(_process, within) if one is not None]
    inside = {one["host_pid"]: one["pid"] for one in found}
    for one in found:
        one["ppid"] = inside.get(one["ppid"], 0)
    return sorted(found, key=lambda one: int(one["pid"]))


def _pid_namespace(name: str) -> str:
    try:
        return os.readlink(f"/proc/{name}/ns/pid")
    except OSError:
        return ""


def _process(name: str) -> dict[str, Any] | None:
    """None: it has ended just now."""
    try:
        with open(f"/proc/{name}/status", encoding="utf-8", errors="replace") as lines:
            fields = dict(line.rstrip("\n").split(":\t", 1) for line in lines if ":\t" in line)
        with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
            numbers = file.read().rpartition(")")[2].split()
        with open(f"/proc/{name}/cmdline", encoding="utf-8", errors="replace") as file:
            args = file.read().split("\0")[:-1]
        with open("/proc/stat", encoding="ascii") as lines:
            booted = next(int(line.split()[1]) for line in lines if line.startswith("btime"))
    except OSError:
        return None
    tick = 10**9 // os.sysconf("SC_CLK_TCK")
    return {
        "pid": int(fields["NSpid"].split()[-1]),
        "host_pid": int(name),
        "ppid": int(fields["PPid"]),
        "uid": int(fields["Uid"].split()[0]),
        "state": fields["State"][0],
        "threads": int(fields["Threads"]),
        "name": fields["Name"],
        "args": args,
        "started_ns": booted * 10**9 + int(numbers[19]) * tick,
        "cpu_ns": (int(numbers[11]) + int(numbers[12])) * tick,
        "memory": int(fields.get("VmRSS", "0").split()[0]) << 10,
    }


def show(word: str) -> dict[str, Any]:
    """What holds in an instance now."""
    directory, about = find(word)
    state = _read(directory)
    shared: SharedSpec = state["shared"]
    with Control.connect(directory) as control:
        live = control.show()
    return {
        "name": name_of(about["id"]),
        "container": about["name"],
        "pid": live["pid"],
        "profile": state["profile"],
        "updates": state["updates"],
        "capabilities": _names(state.get("capabilities", state["ceiling"])),
        "filter": {"instructions": len(shared["filter"]), "by": "seccomp"},
        "monitor": _rows(shared),
        "files": [_file(rule) for rule in shared["file_rules"]],
        "sysctl": live["sysctl"],
        "programs": sorted(program["attach"] for program in shared["programs"]),
        "control_groups": _groups(state, about["id"]),
    }


def update(word: str, profile: Profile, *, path: str) -> list[str]:
    """Give a running container this profile; what was changed. All of it or nothing: RvisorError says why not."""
    from contextlib import suppress
    from json import dumps, loads

    from rvisor.profile import shared

    directory, about = find(word)
    with Locked(directory, alone=True):
        state = _read(directory)
        wanted = shared.parts(profile, also=_also(state), oci="groups" in state)
        new: SharedSpec = loads(dumps(wanted.shared))
        before: SharedSpec = state["shared"]
        fixed = [f"{part}: {why}" for part, why in _FOREVER.items() if before[part] != new[part]]  # type: ignore[literal-required]
        if state["ceiling"] != wanted.ceiling:
            fixed.append("capabilities: the ceiling is set when the container starts")
        fixed += _rows_that_stay(before, new)
        added, wider = _filter(before, new)
        fixed += wider
        if fixed:
            raise UsageError(
                "this cannot change while the container runs:\n" + "\n".join(f"  {line}" for line in fixed),
                hint="nothing was changed; start the container again",
            )
        narrowed = [part for part in _FILES if before[part] != new[part]]  # type: ignore[literal-required]
        narrowed += ["filter"] if added else []
        changed = [part for part in _LIVE if before[part] != new[part]]  # type: ignore[literal-required]
        mine, theirs = _pictures(before), _pictures(new)
        if _own(before) != _own(new):
            raise UsageError("sysctl: a setting of the container's own is set when it starts; its bounds can change")
        if missing := set(mine) - set(theirs):
            raise UsageError(f"sysctl: the view of {missing.pop()} cannot be taken away again")
        groups = _groups(state, about["id"])
        limits = _limits(groups, wanted)
        policies = _policies(wanted.tuned)
        retuned = {name for name, value in policies.items() if value != state["policies"].get(name)}
        if gone := sorted(set(state["policies"]) - set(policies)):
            raise UsageError(f"{gone[0]}: it was set and stays: say what it is to be instead")
        if watched := sorted(name for name in retuned if name.endswith(("controller", "options"))):
            raise UsageError(f"{watched[0]}: a controller begins and ends with the container")
        rows = {row: before[row] or new[row] for row in ("uname", "sysinfo")}
        after = {**wanted.shared, **rows, "filter": new["filter"] if added else before["filter"]}
        now = {"profile": path, "shared": after, "policies": policies, "updates": state["updates"] + 1}
        done: list[tuple[str, str]] = []
        told: list[str] = []
        attached = shown = False

        def narrow() -> None:
            # Those that come in later are behind it in any case: first it is written down.
            _write(directory, {**state, **now})
            if narrowed:
                told.extend(_narrow(directory, groups, before, new, added))

        try:
            for file, value in limits:
                done.append((file, cgroup.get(file)))
                cgroup.put(file, value)
            if "programs" in changed:
                _attach(groups, new["programs"])
                attached = True
            if set(changed) - {"programs"}:
                with Control.connect(directory) as control:
                    control.update(uname=new["uname"], sysctl=theirs)
                shown = True
            # Last what undoes itself, with what nobody can undo as its own last step.
            if retuned and wanted.tuned is not None:
                _tune(wanted.tuned, about["id"], groups, live_pid(directory), then=narrow)
            else:
                narrow()
        except (OSError, RvisorError) as error:
            with suppress(OSError):
                _write(directory, state)
            for file, value in reversed(done):
                with suppress(OSError):
                    cgroup.put(file, value)
            if attached:
                with suppress(RvisorError):
                    _attach(groups, before["programs"])
            if shown:
                with suppress(RvisorError), Control.connect(directory) as control:
                    control.update(uname=before["uname"], sysctl=mine)
            if isinstance(error, RvisorError):
                raise
            raise UsageError(f"nothing was changed: {error.filename}: {error.strerror}") from None
    return changed + narrowed + [os.path.basename(file) for file, _ in limits] + sorted(retuned) + told


def _rows_that_stay(before: SharedSpec, new: SharedSpec) -> list[str]:
    """What the monitor answers it goes on answering, unless the filter refuses it; and there are no more rows."""
    from rvisor.profile import narrow

    found = []
    for row in ("uname", "sysinfo"):
        there, wanted = bool(before[row]), bool(new[row])
        if wanted and not there:
            found.append(f"{row}: whether the monitor answers it is in a filter that was made at the start")
        elif there and not wanted and narrow.answers(new["filter"], _number(row)) & {"allow", "log"}:
            found.append(f"{row}: notify now, would be allow: a running filter can only be narrowed")
    return found


def _number(name: str) -> int:
    from rvisor.profile.vocabulary import NUMBERS

    return NUMBERS[name]


def _filter(before: SharedSpec, new: SharedSpec) -> tuple[bool, list[str]]:
    """Whether a filter is to be added, and what of the new one cannot be had."""
    from rvisor.profile import narrow

    try:
        compared = narrow.compare(before["filter"], new["filter"])
    except narrow.TooLong:
        return False, ["filter: the two have more cases than can be compared"]
    shown = [f"{line}: a running filter can only be narrowed" for line in compared.wider[:_MOST_LINES]]
    if len(compared.wider) > _MOST_LINES:
        shown.append(f"… and {len(compared.wider) - _MOST_LINES} more calls")
    return compared.differs, shown


_MOST_LINES = 20


def _narrow(directory: str, groups: list[str], before: SharedSpec, new: SharedSpec, added: bool) -> list[str]:
    """Put the new filter and file rules on every process: nobody can take them off again. What is to be said of it."""
    from json import dumps, loads

    from rvisor._sentry import find, spawn

    request = {
        "filter": new["filter"] if added else [],
        "before": {part: before[part] for part in _FILES},  # type: ignore[literal-required]
        "after": {part: new[part] for part in _FILES},  # type: ignore[literal-required]
        "groups": groups,
    }
    with Control.connect(directory) as control:
        words = [find.find(find.LAUNCHER), "--narrow", str(control.fileno())]
        # It is not to end on the way: the container would end with it.
        status, told, said = spawn.run_tool(words, input=dumps(request).encode(), given=control.fileno())
    if status != 0:
        raise UsageError(f"nothing was changed: {said.decode(errors='replace').strip().partition(': ')[2]}")
    answer = loads(told)
    said_of_it = [f"ended, as it took no more: process {line}" for line in answer["ended"]]
    if answer["not_later"]:
        said_of_it.append(
            f"file rules: not for programs started later ({answer['not_later']}): start the container again"
        )
    return said_of_it


def live_pid(directory: str) -> int:
    """The first process's, on the host."""
    with Control.connect(directory) as control:
        return int(control.show()["pid"])


def _policies(tuned: Profile | None) -> dict[str, str]:
    """What is set of CPU and memory beside the limits, by name; nothing that is not said."""
    if tuned is None:
        return {}
    from rvisor._record import items

    parts = {"cpu": items(tuned.cpu), "memory": items(tuned.memory)}
    found = {f"{part}.{name}": value for part, every in parts.items() for name, value in every}
    found["futex_hash"] = tuned.futex_hash
    without = ("cpu.quota", "memory.max", "cpu.origin", "memory.origin")
    return {name: repr(value) for name, value in found.items() if value not in (None, {}) and name not in without}


def _tune(tuned: Profile, identity: str, groups: list[str], pid: int, *, then: Callable[[], None]) -> None:
    """Set its CPU and memory policies, and do `then`: all or none."""
    from rvisor._record import replace
    from rvisor.policy import together
    from rvisor.policy.container import Container

    container = Container.of_groups(identity, groups) if groups else Container(identity, roots=[pid])
    left = replace(tuned, cpu=replace(tuned.cpu, quota=None), memory=replace(tuned.memory, max=None))
    together.apply(left, container, filtered=True, then=then)


def _pictures(shared: SharedSpec) -> dict[str, str]:
    return {view["name"]: view["value"] for view in shared["sysctl_views"] if not view["own"]}


def _own(shared: SharedSpec) -> dict[str, str]:
    return {view["name"]: view["value"] for view in shared["sysctl_views"] if view["own"]}


def _attach(own: list[str], programs: list[Program]) -> None:
    """Give a running container's group these programs, in the places of those it has."""
    from json import dumps

    from rvisor._sentry import find, spawn
    from rvisor.profile import host

    top = host.mount()
    group = next((path for path in own if top is not None and path.startswith(f"{top}/")), None)
    if group is None:
        raise UsageError("the container was started without programs, so there is no group for them")
    launcher = find.find(find.LAUNCHER)
    status, _, said = spawn.run_tool([launcher, "--programs", group], input=dumps(programs).encode())
    if status != 0:
        raise UsageError(f"nothing was changed: {said.decode(errors='replace').strip()}")


def unload(word: str, *, seconds: float = 10.0) -> None:
    """End the container, and its instance with it: what is in the host's kernel goes with the last process."""
    directory, _ = find(word)
    with Control.connect(directory) as control:
        control.signal(9)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            Control.connect(directory).close()
        except SandboxGone:
            return
        time.sleep(0.01)
    raise ControlError(f"{word} has not ended after {seconds:g} s", errno="EBUSY", status=125)


def log(word: str | None) -> list[str]:
    """One container's kernel log; or all records, each with its instance's name, those of ended containers too."""
    if word is not None:
        directory, _ = find(word)
        with Control.connect(directory) as control:
            return control.log()
    path = _log_path()
    try:
        with open(path or "/nonexistent", encoding="utf-8", errors="replace") as file:
            return file.readlines()
    except FileNotFoundError:
        return []


def open_log() -> int | None:
    """The operator's log, for a monitor to write to; None if there is no place for it."""
    path = _log_path()
    if path is None:
        return None
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(path, flags, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        # Those who write to the old one go on doing so.
        if os.fstat(fd).st_size > _LARGEST_LOG and os.path.exists(path):
            os.rename(path, f"{path}.old")
            os.close(fd)
            fd = os.open(path, flags, 0o600)
        else:
            fcntl.flock(fd, fcntl.LOCK_UN)
    except OSError:
        return None
    return fd


def _log_path() -> str | None:
    top = runtime.directory()
    return None if top is None else os.path.join(f"{top}-vkernel", "log")


def _rows(shared: SharedSpec) -> list[str]:
    rows = ["syslog"] if shared["kernel_log"] is not None else []
    rows += ["uname"] if shared["uname"] is not None else []
    rows += ["sysinfo"] if shared["sysinfo"] else []
    rows += ["capset", "clone", "unshare", "setns"] if shared["watch_escalation"] else []
    functions = {} if shared["plugins"] is None else shared["plugins"]["functions"]
    return rows + [f"{name_of_call(int(number))} ({function})" for number, function in functions.items()]


def _file(rule: Any) -> dict[str, object]:
    def letters(bits: int) -> str:
        return "".join(letter for letter, bit in zip("rwx", (4, 2, 1), strict=True) if bits & bit)

    allow = None if rule["allow"] is None else letters(rule["allow"])
    by = "mount" if rule["path"].startswith("/proc/") else "landlock"
    return {"path": rule["path"], "allow": allow, "deny": letters(rule["deny"]), "subtree": rule["subtree"], "by": by}


def _names(mask: int) -> list[str]:
    from rvisor.profile.vocabulary import CAPABILITIES

    return [name for number, name in enumerate(CAPABILITIES) if mask >> number & 1]


def _groups(state: dict[str, Any], identity: str) -> list[str]:
    return list(state.get("groups") or cgroup.of(identity))


def _also(state: dict[str, Any]) -> Table | None:
    """What the configuration of an OCI container says of system calls."""
    if not state.get("seccomp"):
        return None
    from rvisor.profile import seccomp

    found = seccomp.read(state["seccomp"], where="linux.seccomp").syscalls
    return None if found is None else found.table()


def _limits(groups: list[str], wanted: Parts) -> list[tuple[str, str]]:
    """Files of its control groups, and what is to be in them."""
    files = {name: os.path.join(group, name) for group in groups for name in _LIMITS if _there(group, name)}
    found: list[tuple[str, str]] = []
    for kind, value in (("memory", wanted.memory), ("cpu", wanted.millicpus)):
        if value is None:
            continue
        if kind == "memory":
            name = "memory.max" if "memory.max" in files else "memory.limit_in_bytes"
            text = str(value)
        else:
            name = "cpu.max" if "cpu.max" in files else "cpu.cfs_quota_us"
            text = f"{value * 100} 100000" if name == "cpu.max" else str(value * 100)
        if name not in files:
            raise UsageError(f"{kind}: the container was started without a limit, so it has no control group")
        found.append((files[name], text))
    return found


_LIMITS = ("memory.max", "memory.limit_in_bytes", "cpu.max", "cpu.cfs_quota_us")


def _there(group: str, name: str) -> bool:
    return os.path.exists(os.path.join(group, name))


class Locked:
    """Whoever changes what is in the directory does so `alone`; those who go by it do so side by side."""

    def __init__(self, directory: str, *, alone: bool) -> None:
        # Those who inherit the descriptor hold it too.
        self.fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH

    def __enter__(self) -> Locked:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(self.fd, self._kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise UsageError("another update, or a program that is being started, holds this up") from None
                time.sleep(0.01)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


_PATIENCE = 30.0


def _read(directory: str) -> dict[str, Any]:
    from rvisor._sentry.plainjson import loads

    try:
        with open(os.path.join(directory, _STATE), encoding="utf-8") as file:
            state: dict[str, Any] = loads(file.read())
    except (OSError, ValueError):
        raise SandboxGone("the container has ended") from None
    return state


def _write(directory: str, state: dict[str, Any]) -> None:
    """The old one or the new one is there, whatever happens."""
    from rvisor._sentry.plainjson import dumps

    new = os.path.join(directory, f"{_STATE}.new")
    with open(new, "w", encoding="utf-8") as file:
        file.write(dumps(state))
    os.replace(new, os.path.join(directory, _STATE))
