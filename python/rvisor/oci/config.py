"""A bundle's config.json, turned into what the launcher is told.

What cannot be meant is refused by its name in the specification; only what the specification itself says to ignore
(unknown properties) is. What a private kernel has of its own, whatever is asked, is in `docs/design/oci.md`.
"""

from __future__ import annotations

import os

from rvisor._sentry import messages
from rvisor.oci import on_host
from rvisor.oci.errors import OciError
from rvisor.profile.vocabulary import CAPABILITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rvisor._sentry.messages import Capabilities, Device, IdRange, IdRanges, Process, Rlimit, Volume

_LARGEST = 64 << 20
_LARGEST_ID = (1 << 32) - 2
_MOUNTS = 10000

RLIMITS = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
]
"""By number."""
HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
"""The stages, in their order."""
_SERVED = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2))
"""The private kernel's devices by their numbers: null, zero, full, random, urandom, tty, ptmx."""
_TERMINALS = ("/dev/tty", "/dev/console", "/dev/ptmx")
"""Which terminal these are is for the sandbox to say."""
_LOOP = {"b": 7, "c": 10, "u": 10}
"""Major numbers of loop devices and of /dev/loop-control, by their kinds."""
HARMLESS = [
    "defaults",
    "rw",
    "suid",
    "dev",
    "exec",
    "async",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "silent",
    "loud",
    "mand",
    "nomand",
    "noiversion",
    "iversion",
    "bind",
    "rbind",
    "rec",
    "sync",
    "dirsync",
    "nosymfollow",
]
"""Mount options that are kept whatever they are: all, or nothing that a guest could tell."""
_OF_FILE_SYSTEMS = ("size", "mode", "nr_inodes", "uid", "gid")
PROPAGATION = {
    f"{recursive}{kind}": kind for kind in ("private", "shared", "slave", "unbindable") for recursive in ("", "r")
}
"""Among the sandbox's own mounts: those of the host's that come later are never seen, and none goes out."""
MOUNT_OPTIONS = (
    *PROPAGATION,
    "ro",
    "rro",
    "noexec",
    "nosuid",
    "nodev",
    "size",
    "mode",
    "nr_inodes",
    "tmpcopyup",
    *HARMLESS,
)


class Hook:
    """A program of the operator's: `timeout` in seconds, None for none."""

    __slots__ = ("args", "env", "path", "timeout")

    def __init__(self, path: str, args: list[str], env: list[str], timeout: int | None) -> None:
        self.path = path
        self.args = args
        self.env = env
        self.timeout = timeout


class Config:
    """What config.json says, checked."""

    def __init__(self) -> None:
        self.root = ""
        self.root_read_only = False
        self.root_propagation = "private"
        self.process: Process
        self.terminal_size: tuple[int, int] | None = None
        self.hostname = ""
        self.joins: dict[str, str] = {}
        self.domainname: str | None = None
        self.volumes: list[Volume] = []
        self.masked: list[str] = []
        self.read_only: list[str] = []
        self.network: str | dict[str, str] = "user"
        self.sysctls: dict[str, str] = {}
        self.cgroups_path = ""
        self.resources: dict[str, Any] = {}
        self.hooks: dict[str, list[Hook]] = {}
        self.ids: IdRanges | None = None
        self.annotations: dict[str, str] = {}
        self.warnings: list[str] = []
        self.shared = False
        """It is to run on the host's kernel. `namespaces` and `seccomp` are said of such containers only."""
        self.namespaces: dict[str, str | None] = {}
        self.devices: list[Device] = []
        self.seccomp: dict[str, Any] = {}


def get(data: dict[str, Any], where: str, kind: type, default: Any = None) -> Any:
    """The property at the end of the dotted name `where`, which must be of this kind; null is as if it were absent."""
    value = data.get(where.rpartition(".")[2])
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        names = {dict: "an object", list: "a list", str: "a string", int: "a number", bool: "true or false"}
        raise OciError(f"config.json: {where}: not {names[kind]}: {value!r:.60}")
    return value


def texts(data: dict[str, Any], where: str) -> list[str]:
    """A list of strings."""
    found = get(data, where, list, [])
    for text in found:
        if not isinstance(text, str) or "\0" in text:
            raise OciError(f"config.json: {where}: not a list of strings: {text!r:.60}")
    return list(found)


def parts(data: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """A list of objects."""
    found = get(data, where, list, [])
    if not all(isinstance(item, dict) for item in found):
        raise OciError(f"config.json: {where}: not a list of objects")
    return list(found)


def read_json(path: str) -> dict[str, Any]:
    """A file that is one JSON object."""
    from rvisor._sentry.plainjson import loads

    name = os.path.basename(path)
    try:
        with open(path, "rb") as file:
            text = file.read(_LARGEST + 1)
    except OSError as error:
        raise OciError(f"open {path}: {(error.strerror or '').lower()}") from None
    if len(text) > _LARGEST:
        raise OciError(f"{name}: larger than {_LARGEST >> 20} MiB")
    try:
        data = loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise OciError(f"{name}: not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise OciError(f"{name}: not an object")
    _sound(data, name)
    return data


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _sound(data: dict[str, Any], name: str) -> None:
    """No text in it with a NUL or half a character, no number of more than 64 bits: nothing takes those."""
    left: list[tuple[str, Any]] = [("", data)]
    while left:
        where, value = left.pop()
        if isinstance(value, dict):
            left += ((f"{where}.{key}", key) for key in value if not key.isascii() or "\0" in key)
            left += ((f"{where}.{key}", inner) for key, inner in value.items())
        elif isinstance(value, list):
            left += ((where, inner) for inner in value)
        elif isinstance(value, str):
            try:
                found = "\0" in value or (not value.isascii() and not value.encode())
            except UnicodeEncodeError:
                found = True
            if found:
                raise OciError(f"{name}: {where[1:]}: not a text: {value!r:.60}")
        elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
            raise OciError(f"{name}: {where[1:]}: not a number of 64 bits")


def read(bundle: str, *, shared: bool = False) -> Config:
    """The bundle's configuration, for a private kernel or the host's; raises OciError."""
    data = read_json(os.path.join(bundle, "config.json"))
    version = get(data, "ociVersion", str, "")
    if version.partition(".")[0] != "1":
        raise OciError(f"config.json: ociVersion: {version!r} is not a version 1 of the runtime specification")
    for name in ("windows", "solaris", "vm", "zos"):
        if data.get(name):
            raise OciError(f"config.json: {name}: this is a runtime for Linux")
    config = Config()
    config.shared = shared
    linux = get(data, "linux", dict, {})
    _root(config, data, bundle)
    config.annotations = _annotations(data)
    config.hostname = get(data, "hostname", str, "")
    if len(config.hostname.encode()) > 64:
        raise OciError("config.json: hostname: longer than 64 bytes")
    config.domainname = get(data, "domainname", str)
    if len((config.domainname or "").encode()) > 64:
        raise OciError("config.json: domainname: longer than 64 bytes")
    (on_host.namespaces if shared else _namespaces)(config, linux)
    if get(data, "process", dict) is None:
        raise OciError("config.json: process: there is none")
    config.process = process(config, data["process"])
    mounts = parts(data, "mounts")
    if len(mounts) > _MOUNTS:
        raise OciError(f"config.json: mounts: more than {_MOUNTS}")
    (on_host.mounts if shared else _mounts)(config, mounts, bundle)
    config.masked = _inside(linux, "linux.maskedPaths")
    config.read_only = _inside(linux, "linux.readonlyPaths")
    _linux(config, linux)
    _hooks(config, get(data, "hooks", dict, {}))
    profile = get(linux, "linux.seccomp", dict)
    if profile is not None and shared:
        config.seccomp = profile
    elif profile is not None:
        from rvisor.oci import seccomp

        config.process["seccomp"] = seccomp.program(profile)
    return config


def _root(config: Config, data: dict[str, Any], bundle: str) -> None:
    root = get(data, "root", dict)
    path = get(root, "root.path", str, "") if root else ""
    if not root or not path:
        raise OciError("config.json: root.path: there is none")
    config.root = os.path.normpath(os.path.join(bundle, path))
    if not os.path.isdir(config.root):
        raise OciError(f"config.json: root.path: {config.root} is not a directory")
    config.root_read_only = get(root, "root.readonly", bool, False)


def _annotations(data: dict[str, Any]) -> dict[str, str]:
    found = get(data, "annotations", dict, {})
    if not all(isinstance(value, str) for value in found.values()):
        raise OciError("config.json: annotations: not all are strings")
    return dict(found)


def process(config: Config, data: dict[str, Any]) -> Process:
    """The first process, or a further one of `exec`."""
    args = texts(data, "process.args")
    if not args or (len(args) == 1 and not args[0]):
        raise OciError("config.json: process.args: there is no command")
    cwd = get(data, "process.cwd", str, "")
    if not cwd.startswith("/"):
        raise OciError(f"config.json: process.cwd: {cwd!r} is not an absolute path")
    user = get(data, "process.user", dict, {})
    groups = get(user, "process.user.additionalGids", list, [])
    if user.get("username"):
        raise OciError("config.json: process.user.username: this is for Windows; write uid and gid")
    size = get(data, "process.consoleSize", dict, {})
    if size:
        config.terminal_size = (
            _between(size, "process.consoleSize.height", 0, 0xFFFF) or 0,
            _between(size, "process.consoleSize.width", 0, 0xFFFF) or 0,
        )
    for name in ("selinuxLabel", "apparmorProfile"):
        if config.shared and get(data, f"process.{name}", str, ""):
            raise OciError(f"config.json: process.{name}: not supported; profiles have rules on files of their own")
        if get(data, f"process.{name}", str, ""):
            config.warnings.append(f"process.{name} is for programs on the host's kernel; there is none here")
    for name in ("scheduler", "ioPriority", "execCPUAffinity"):
        if data.get(name):
            raise OciError(f"config.json: process.{name}: not supported")
    made = messages.process(
        args,
        env={},
        cwd=os.path.normpath(cwd),
        uid=_id(user, "process.user.uid"),
        gid=_id(user, "process.user.gid"),
        groups=[_id({"additionalGids": group}, "process.user.additionalGids") for group in groups],
        terminal=get(data, "process.terminal", bool, False),
    )
    made["env"] = texts(data, "process.env")
    made["home"] = True
    made["umask"] = _between(user, "process.user.umask", 0, 0o777)
    made["no_new_privs"] = get(data, "process.noNewPrivileges", bool, False)
    made["oom_score_adj"] = _between(data, "process.oomScoreAdj", -1000, 1000)
    made["rlimits"] = _rlimits(parts(data, "process.rlimits"))
    made["capabilities"] = _capabilities(config, get(data, "process.capabilities", dict, {}))
    return made


def _id(data: dict[str, Any], where: str) -> int:
    value: int = get(data, where, int, 0)
    if not 0 <= value <= _LARGEST_ID:
        raise OciError(f"config.json: {where}: {value} is no id")
    return value


def _between(data: dict[str, Any], where: str, least: int, most: int) -> int | None:
    value: int | None = get(data, where, int)
    if value is not None and not least <= value <= most:
        raise OciError(f"config.json: {where}: {value} is not from {least} to {most}")
    return value


def _rlimits(limits: list[dict[str, Any]]) -> list[Rlimit]:
    found: list[Rlimit] = []
    for limit in limits:
        name = get(limit, "process.rlimits.type", str, "")
        if name.removeprefix("RLIMIT_") not in RLIMITS or not name.startswith("RLIMIT_"):
            raise OciError(f"config.json: process.rlimits.type: {name!r} is not known")
        which = RLIMITS.index(name.removeprefix("RLIMIT_"))
        if any(other["which"] == which for other in found):
            raise OciError(f"config.json: process.rlimits: {name} is there twice")
        soft, hard = get(limit, "process.rlimits.soft", int, 0), get(limit, "process.rlimits.hard", int, 0)
        if not 0 <= soft <= hard < 1 << 64:
            raise OciError(f"config.json: process.rlimits: {name}: {soft} and {hard} are no limits")
        found.append({"which": which, "soft": soft, "hard": hard})
    return found


def _capabilities(config: Config, sets: dict[str, Any]) -> Capabilities:
    """Without any there are none, as runc has it. One that is not known is warned of, as the specification says."""
    masks = {}
    for name in ("bounding", "effective", "inheritable", "permitted", "ambient"):
        mask = 0
        for capability in texts(sets, f"process.capabilities.{name}"):
            short = capability.removeprefix("CAP_")
            if short not in CAPABILITIES:
                config.warnings.append(f"process.capabilities.{name}: {capability!r} is not known")
                continue
            mask |= 1 << CAPABILITIES.index(short)
        masks[name] = mask
    # The kernel would refuse more.
    masks["effective"] &= masks["permitted"]
    masks["ambient"] &= masks["permitted"] & masks["inheritable"]
    return {
        "bounding": masks["bounding"],
        "effective": masks["effective"],
        "inheritable": masks["inheritable"],
        "permitted": masks["permitted"],
        "ambient": masks["ambient"],
    }


def namespaces(linux: dict[str, Any]) -> dict[str, str]:
    """Each kind that is named, with the path of the one to be joined, or nothing."""
    found: dict[str, str] = {}
    for namespace in parts(linux, "linux.namespaces"):
        kind = get(namespace, "linux.namespaces.type", str, "")
        if kind in found:
            raise OciError(f"config.json: linux.namespaces: {kind} is there twice")
        if kind not in ("pid", "network", "mount", "ipc", "uts", "user", "cgroup"):
            raise OciError(f"config.json: linux.namespaces: {kind!r} is not supported")
        found[kind] = get(namespace, "linux.namespaces.path", str, "")
    return found


def _namespaces(config: Config, linux: dict[str, Any]) -> None:
    found = namespaces(linux)
    for kind in ("pid", "mount", "ipc"):
        if kind not in found:
            raise OciError(f"config.json: linux.namespaces: without {kind} it would be the host's, which is not there")
    # Whether it is another container's is for those to say who know them.
    config.joins = {kind: found[kind] for kind in ("ipc", "uts") if found.get(kind)}
    for kind in ("pid", "mount", "user", "cgroup"):
        if found.get(kind):
            raise OciError(f"config.json: linux.namespaces: {kind}: a private kernel cannot join {found[kind]}")
    if "uts" in config.joins:
        config.hostname = ""
    if "uts" not in found:
        if config.hostname:
            raise OciError("config.json: hostname: needs a uts namespace")
        config.hostname = os.uname().nodename[:64]
    if "network" not in found:
        config.network = "host"
    elif found["network"]:
        # A pod on the host's network names it by a process: what is set for containers must not be set there.
        config.network = "host" if _is_own("net", found["network"]) else {"ns": found["network"]}


def _is_own(kind: str, path: str) -> bool:
    """Is this the namespace that we are in ourselves? One that is not there is for the launcher to refuse."""
    try:
        return os.path.samefile(path, f"/proc/self/ns/{kind}")
    except OSError:
        return False


def _own_ipc(config: Config) -> bool:
    """Has it an IPC namespace of its own? In a sandbox of its own it has."""
    return on_host.has_own_ipc(config.namespaces) if config.shared else not config.joins


def _linux(config: Config, linux: dict[str, Any]) -> None:
    config.ids = _ids(linux)
    if config.shared and config.ids is not None:
        raise OciError("config.json: linux.uidMappings: ids other than the host's are not supported")
    everything = _every_device(get(linux, "linux.resources", dict, {}))
    for data in parts(linux, "linux.devices"):
        _device(config, device(data), everything=everything)
    config.cgroups_path = get(linux, "linux.cgroupsPath", str, "")
    config.resources = get(linux, "linux.resources", dict, {})
    for name, value in get(linux, "linux.sysctl", dict, {}).items():
        path = name.replace(".", "/") if "/" not in name else name
        if path == "kernel/domainname" and isinstance(value, str):
            config.domainname = value
            continue
        if isinstance(value, str) and on_host.is_ipc_setting(path) and _own_ipc(config):
            config.sysctls[path] = value
            continue
        if not path.startswith("net/") or not isinstance(value, str):
            raise OciError(
                f"config.json: linux.sysctl: {name}: only those of the network and of its own IPC can be set"
            )
        if config.network == "host":
            raise OciError(f"config.json: linux.sysctl: {name}: the network is the host's")
        config.sysctls[path] = value
    propagation = get(linux, "linux.rootfsPropagation", str, "")
    if propagation and propagation not in PROPAGATION:
        raise OciError(f"config.json: linux.rootfsPropagation: {propagation!r} is not known")
    config.root_propagation = PROPAGATION.get(propagation, "private")
    if get(get(linux, "linux.personality", dict, {}), "linux.personality.domain", str, "LINUX") != "LINUX":
        raise OciError("config.json: linux.personality.domain: only LINUX is supported")
    for name in ("intelRdt", "timeOffsets", "netDevices", "memoryPolicy"):
        if linux.get(name):
            raise OciError(f"config.json: linux.{name}: not supported")
    if config.shared and get(linux, "linux.mountLabel", str, ""):
        raise OciError("config.json: linux.mountLabel: not supported")
    if get(linux, "linux.mountLabel", str, ""):
        config.warnings.append("linux.mountLabel is for programs on the host's kernel; there is none here")


def _ids(linux: dict[str, Any]) -> IdRanges | None:
    """Which ids of the host's the container's are; None where each is its own."""

    def ranges(where: str) -> list[IdRange]:
        return [
            {
                "inside": _id(part, f"{where}.containerID"),
                "outside": _id(part, f"{where}.hostID"),
                "count": _id(part, f"{where}.size"),
            }
            for part in parts(linux, where)
        ]

    uids, gids = ranges("linux.uidMappings"), ranges("linux.gidMappings")
    if all(part["inside"] == part["outside"] for part in uids + gids):
        return None
    if all(get(part, "linux.namespaces.type", str) != "user" for part in parts(linux, "linux.namespaces")):
        raise OciError("config.json: linux.uidMappings, linux.gidMappings: need a user namespace")
    for name, part in (("uidMappings", uids), ("gidMappings", gids)):
        if not any(line["inside"] == 0 for line in part):
            raise OciError(f"config.json: linux.{name}: the container's 0 is not in it")
    return {"uids": uids, "gids": gids}


def device(data: dict[str, Any]) -> Device:
    """One of `linux.devices`."""
    path = get(data, "linux.devices.path", str, "")
    kind = get(data, "linux.devices.type", str, "")
    if not path.startswith("/"):
        raise OciError(f"config.json: linux.devices.path: {path!r} is not an absolute path")
    if kind not in ("c", "u", "b", "p"):
        raise OciError(f"config.json: linux.devices: {path}: {kind!r} is no kind of device")
    numbers = {name: get(data, f"linux.devices.{name}", int, 0) for name in ("major", "minor", "uid", "gid")}
    if not all(0 <= number < 1 << 32 for number in numbers.values()):
        raise OciError(f"config.json: linux.devices: {path}: a number is out of range")
    return {
        "path": "/" + os.path.normpath(path).lstrip("/"),
        "kind": kind,
        "mode": get(data, "linux.devices.fileMode", int, 0o666) & 0o7777,
        "major": numbers["major"],
        "minor": numbers["minor"],
        "uid": numbers["uid"],
        "gid": numbers["gid"],
    }


def _device(config: Config, node: Device, *, everything: bool) -> None:
    """On a private kernel: what it serves, and what nobody does: opening that is ENXIO, as with runc."""
    path = node["path"]
    served = node["kind"] in "cu" and (node["major"], node["minor"]) in _SERVED
    if config.shared:
        config.devices.append(node)
    elif path in _TERMINALS:
        return
    elif served or (not everything and (node["kind"] == "p" or not _of_host(node))):
        config.devices.append(node)
    elif everything and _LOOP.get(node["kind"]) == node["major"] and _is_loop(path):
        # Whoever may administer finds the sandbox's own there.
        return
    elif everything:
        config.warnings.append(f"linux.devices: {path}: left out: a private kernel cannot serve this device")
    else:
        raise OciError(f"config.json: linux.devices: {path}: a private kernel cannot serve this device")


def _is_loop(path: str) -> bool:
    which = path.removeprefix("/dev/loop")
    return which != path and (which == "-control" or which.isdigit())


def _of_host(node: Device) -> bool:
    """Is there such a device on the host? Then somebody wants to use it."""
    block = node["kind"] == "b"
    if os.path.exists(f"/sys/dev/{'block' if block else 'char'}/{node['major']}:{node['minor']}"):
        return True
    return device_numbers(node["path"], block=block) == (node["major"], node["minor"])


def device_numbers(path: str, *, block: bool = False) -> tuple[int, int] | None:
    """What device it is a node of; None if it is none of this kind."""
    try:
        about = os.stat(path)
    except OSError:
        return None
    kind = 0o060000 if block else 0o020000
    return (os.major(about.st_rdev), os.minor(about.st_rdev)) if about.st_mode & 0o170000 == kind else None


def _every_device(resources: dict[str, Any]) -> bool:
    """`docker run --privileged`: whatever the host has is to be there, so that nobody has asked for one by name."""
    rules = parts(resources, "linux.resources.devices")
    return any(
        r.get("allow") is True
        and r.get("access") == "rwm"
        and r.get("type") in (None, "", "a")
        and r.get("major") in (None, -1)
        and r.get("minor") in (None, -1)
        for r in rules
    )


def _inside(linux: dict[str, Any], where: str) -> list[str]:
    found = []
    for path in texts(linux, where):
        if not path.startswith("/"):
            raise OciError(f"config.json: {where}: {path!r} is not an absolute path")
        found.append(os.path.normpath(path))
    return found


def _mounts(config: Config, mounts: list[dict[str, Any]], bundle: str) -> None:
    empty: list[str] = []
    for mount in mounts:
        target = get(mount, "mounts.destination", str, "")
        if not target:
            raise OciError("config.json: mounts.destination: there is none")
        target = "/" + os.path.normpath(target).lstrip("/")
        options = texts(mount, "mounts.options")
        kind = get(mount, "mounts.type", str, "")
        if kind in ("bind", "none", "") and ("bind" in options or "rbind" in options or kind == "bind"):
            kind = "bind"
        if mount.get("uidMappings") or mount.get("gidMappings"):
            raise OciError(f"config.json: mounts: {target}: ids are not mapped")
        if _own(target, kind, empty):
            continue
        if kind in ("cgroup", "cgroup2", "sysfs"):
            empty.append(target)
            volume = messages.volume(None, target, read_only=True)
            volume["mode"] = 0o555
            config.volumes.append(volume)
        elif kind == "bind" and (node := _bound_device(mount, target, bundle)) is not None:
            config.devices.append(node)
        elif kind in ("bind", "tmpfs"):
            config.volumes.append(_mount(config, mount, target, kind, options, bundle))
        else:
            raise OciError(f"config.json: mounts: {target}: the type {kind!r} is not supported")


def _own(target: str, kind: str, empty: list[str]) -> bool:
    """Is it one of those that the private kernel mounts itself, or below one that is empty?"""
    own = {"/proc": "proc", "/dev": "tmpfs", "/dev/pts": "devpts", "/dev/mqueue": "mqueue", "/sys": "sysfs"}
    if own.get(target) == kind:
        return True
    if target == "/sys/fs/cgroup" and kind in ("cgroup", "cgroup2"):
        return True
    return kind in ("cgroup", "cgroup2") and any(target.startswith(f"{top}/") for top in empty)


def _bound_device(mount: dict[str, Any], target: str, bundle: str) -> Device | None:
    """A device of the host's that the private kernel has too, as in `-v /dev/null:/etc/file`."""
    source = os.path.join(bundle, get(mount, "mounts.source", str, ""))
    numbers = device_numbers(source)
    if numbers not in _SERVED:
        return None
    mode = os.stat(source).st_mode & 0o777
    major, minor = numbers
    return {"path": target, "kind": "c", "mode": mode, "major": major, "minor": minor, "uid": 0, "gid": 0}


def _mount(config: Config, mount: dict[str, Any], target: str, kind: str, options: list[str], bundle: str) -> Volume:
    if target == "/":
        raise OciError("config.json: mounts: / is the root")
    volume = messages.volume(None, target, read_only=False)
    if kind == "bind":
        source = os.path.normpath(os.path.join(bundle, get(mount, "mounts.source", str, "")))
        if not os.path.exists(source):
            raise OciError(f"config.json: mounts: {target}: the source {source}: no such file or directory")
        if not (os.path.isdir(source) or os.path.isfile(source)):
            raise OciError(
                f"config.json: mounts: {target}: the source {source} is neither a directory nor a regular file"
            )
        volume["source"] = volume["name"] = source
    else:
        volume["mode"] = 0o1777
        volume["name"] = get(mount, "mounts.source", str, "") or "tmpfs"
    for option in options:
        name, _, value = option.partition("=")
        if name in ("ro", "rro"):
            volume["read_only"] = True
        elif name == "rw":
            volume["read_only"] = False
        elif name in ("noexec", "nosuid", "nodev"):
            volume[{"noexec": "no_exec", "nosuid": "no_suid", "nodev": "no_dev"}[name]] = True  # type: ignore[literal-required]
        elif name in ("exec", "suid", "dev"):
            volume[f"no_{name}"] = False  # type: ignore[literal-required]
        elif kind == "tmpfs" and name == "size":
            volume["size"] = _size(target, value)
        elif kind == "tmpfs" and name == "mode":
            try:
                volume["mode"] = int(value, 8) & 0o7777
            except ValueError:
                raise OciError(f"config.json: mounts: {target}: mode={value} is no mode") from None
        elif kind == "tmpfs" and (name == "nr_inodes" or (name in ("uid", "gid") and value == "0")):
            continue
        elif kind == "tmpfs" and name == "tmpcopyup":
            _copy_up(config, target, volume)
        elif option in PROPAGATION:
            volume["propagation"] = PROPAGATION[option]
            if kind == "bind" and PROPAGATION[option] in ("shared", "slave"):
                config.warnings.append(f"mounts: {target}: {option}: mounts made on the host later do not come inside")
        elif kind == "bind" and name in _OF_FILE_SYSTEMS:
            # As Linux: a bind mount makes no file system that it could be said of.
            config.warnings.append(f"mounts: {target}: {option}: a bind mount has no such option")
        elif option not in HARMLESS:
            raise OciError(f"config.json: mounts: {target}: the option {option!r} is not supported")
    return volume


def _copy_up(config: Config, target: str, volume: Volume) -> None:
    """What lies in the root below such a mount is seen in it, until it is changed."""
    top = os.path.realpath(config.root)
    path = os.path.realpath(os.path.join(top, target.lstrip("/")))
    if path.startswith(top + "/") and os.path.isdir(path) and os.listdir(path):
        volume["source"], volume["copy_up"], volume["mode"] = path, True, None


def _size(target: str, text: str) -> int:
    units = {"k": 10, "m": 20, "g": 30}
    shift = units.get(text[-1:].lower(), 0)
    try:
        if text.endswith("%"):
            pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
            return pages * page * int(text[:-1]) // 100
        return int(text[:-1] if shift else text) << shift
    except ValueError:
        raise OciError(f"config.json: mounts: {target}: size={text} is no size") from None


def _hooks(config: Config, hooks: dict[str, Any]) -> None:
    for stage in HOOKS:
        found = []
        for hook in parts(hooks, f"hooks.{stage}"):
            path = get(hook, f"hooks.{stage}.path", str, "")
            if not path.startswith("/"):
                raise OciError(f"config.json: hooks.{stage}.path: {path!r} is not an absolute path")
            timeout = get(hook, f"hooks.{stage}.timeout", int)
            if timeout is not None and timeout <= 0:
                raise OciError(f"config.json: hooks.{stage}.timeout: must be more than 0")
            env = texts(hook, f"hooks.{stage}.env")
            found.append(Hook(path, texts(hook, f"hooks.{stage}.args") or [path], env, timeout))
        config.hooks[stage] = found
