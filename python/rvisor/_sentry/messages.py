"""The messages between this side and the launcher: the Python face of `crates/wire`.

Names and shapes are those of `wire::LaunchSpec` and `wire::Event`; a test compares the two.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NotRequired, TypedDict

    class Root(TypedDict):
        path: str
        overlay: str | dict[str, str]
        read_only: bool
        propagation: NotRequired[str]

    class Volume(TypedDict):
        source: str | None
        target: str
        copy_up: bool
        read_only: bool
        no_exec: bool
        no_suid: bool
        no_dev: bool
        name: NotRequired[str]
        propagation: NotRequired[str]
        size: int | None
        mode: int | None
        file_system: NotRequired[FileSystem]

    class FileSystem(TypedDict):
        kind: str
        options: list[tuple[str, str]]

    class Capabilities(TypedDict):
        bounding: int
        effective: int
        inheritable: int
        permitted: int
        ambient: int

    class Rlimit(TypedDict):
        which: int
        soft: int
        hard: int

    class Process(TypedDict):
        args: list[str]
        env: list[str]
        cwd: str
        uid: int
        gid: int
        groups: list[int]
        terminal: bool
        capabilities: Capabilities | None
        rlimits: list[Rlimit]
        no_new_privs: bool
        umask: int | None
        oom_score_adj: int | None
        seccomp: list[tuple[int, int, int, int]]
        home: bool

    class Confinement(TypedDict):
        seccomp: list[tuple[int, int, int, int]]
        ceiling: int | None
        rlimits: list[Rlimit]

    class Limits(TypedDict):
        memory: int | None
        millicpus: int | None
        pids: int | None

    class NetworkRule(TypedDict):
        allow: bool
        net: str
        ports: tuple[int, int]

    class TextFile(TypedDict):
        target: str
        text: str

    class FileRule(TypedDict):
        path: str
        allow: int | None
        deny: int
        subtree: bool

    class SysctlView(TypedDict):
        name: str
        value: str
        writable: bool
        own: bool

    class Program(TypedDict):
        attach: str
        code: list[int]

    class Uname(TypedDict):
        release: str | None
        version: str | None

    class Device(TypedDict):
        path: str
        kind: str
        major: int
        minor: int
        mode: int
        uid: int
        gid: int

    class Hook(TypedDict):
        path: str
        args: list[str]
        env: list[str]
        timeout: int | None

    class Oci(TypedDict):
        namespaces: dict[str, str | None]
        devices: list[Device]
        no_devices: bool
        state: str
        create_container: list[Hook]
        start_container: list[Hook]

    class Console(TypedDict):
        fd: int
        size: tuple[int, int] | None

    class Plugins(TypedDict):
        filter: list[tuple[int, int, int, int]]
        functions: dict[str, str]

    class SharedSpec(TypedDict):
        user_namespace: bool
        filter: list[tuple[int, int, int, int]]
        default_access: int
        file_rules: list[FileRule]
        sysctl_views: list[SysctlView]
        programs: list[Program]
        kernel_log: int | None
        uname: Uname | None
        sysinfo: bool
        plugins: Plugins | None
        plugin_fd: NotRequired[int]
        watch_escalation: bool
        oci: NotRequired[Oci]
        console: NotRequired[Console | None]
        enter: NotRequired[bool]

    class IdRange(TypedDict):
        inside: int
        outside: int
        count: int

    class IdRanges(TypedDict):
        uids: list[IdRange]
        gids: list[IdRange]

    class _Shared(TypedDict, total=False):
        shared: SharedSpec | None

    class LaunchSpec(_Shared):
        id: str
        sentry: str
        stub: str
        root: Root
        volumes: list[Volume]
        masked: list[str]
        read_only: list[str]
        process: Process
        hostname: str
        domainname: str | None
        network: str | dict[str, str]
        sysctls: dict[str, str]
        network_fd: int | None
        network_rules: list[NetworkRule]
        files: list[TextFile]
        limits: Limits
        cgroups: list[str] | None
        platform: str
        strace_fd: int | None
        log_fd: int | None
        events_fd: int
        caller_fd: int | None
        detached: bool
        control_fd: int | None
        hold: bool
        guarded_init: bool
        join_fd: int | None
        visible: bool
        ids: IdRanges | None
        devices: NotRequired[list[Device]]

    class Request(TypedDict):
        id: int
        call: dict[str, object]


EVENTS = {
    "launched": ("pid", "cgroups"),
    "network": (),
    "held": ("pid",),
    "started": ("ns",),
    "failed": ("status", "message"),
    "exited": ("status", "signal"),
}
"""Each event's name and fields."""


def process(
    args: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str = "/",
    uid: int = 0,
    gid: int = 0,
    groups: Sequence[int] = (),
    terminal: bool = False,
) -> Process:
    """A process to be started, with nothing special about it."""
    return {
        "args": list(args),
        "env": [f"{name}={value}" for name, value in env.items()],
        "cwd": cwd,
        "uid": uid,
        "gid": gid,
        "groups": list(groups),
        "terminal": terminal,
        "capabilities": None,
        "rlimits": [],
        "no_new_privs": False,
        "umask": None,
        "oom_score_adj": None,
        "seccomp": [],
        "home": False,
    }


def confine(process: Process, by: Confinement | None) -> None:
    """Put a profile's filter and its ceiling of capabilities on a process: root has all below the ceiling."""
    if by is None:
        return
    process["seccomp"] = by["seccomp"]
    process["rlimits"] = [*process["rlimits"], *by["rlimits"]]
    if by["ceiling"] is not None:
        own = by["ceiling"] if process["uid"] == 0 else 0
        process["capabilities"] = {
            "bounding": by["ceiling"],
            "effective": own,
            "inheritable": 0,
            "permitted": own,
            "ambient": 0,
        }


def volume(source: str | None, target: str, *, read_only: bool) -> Volume:
    """Something of the host's mounted inside, or with no source a file system in memory."""
    return {
        "source": source,
        "target": target,
        "read_only": read_only,
        "no_exec": False,
        "no_suid": False,
        "no_dev": False,
        "copy_up": False,
        "size": None,
        "mode": None,
    }


def encode(spec: LaunchSpec | Request) -> bytes:
    """The specification as JSON; raises UsageError for text that is not valid UTF-8."""
    from rvisor._sentry.plainjson import dumps

    try:
        return dumps(spec, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        from rvisor.errors import UsageError

        around = error.object[max(0, error.start - 20) : error.end + 10]
        raise UsageError(f"arguments, variables and paths must be valid UTF-8: {around!r}") from None


def decode(line: bytes) -> dict[str, object]:
    """One event line; raises ValueError when it is none of EVENTS."""
    from rvisor._sentry.plainjson import loads

    event = loads(line)
    if not isinstance(event, dict) or event.get("event") not in EVENTS:
        raise ValueError(f"not an event: {line[:200]!r}")
    return event
