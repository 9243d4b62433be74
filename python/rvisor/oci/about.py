"""features and spec: what the runtime says of itself, and a configuration to begin with."""

from __future__ import annotations

import os

from rvisor.oci import config, seccomp
from rvisor.oci.cli import emit
from rvisor.oci.errors import OciError
from rvisor.profile.vocabulary import CAPABILITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor.oci.cli import Command


def features(command: Command) -> int:
    """As the specification's features.md has it."""
    from rvisor import __version__
    from rvisor.oci import cgroups

    command.words(0, 0)
    emit(
        {
            "ociVersionMin": "1.0.0",
            "ociVersionMax": "1.2.0",
            "hooks": list(config.HOOKS),
            "mountOptions": sorted(config.MOUNT_OPTIONS),
            "linux": {
                "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
                "capabilities": [f"CAP_{name}" for name in CAPABILITIES],
                "cgroup": {
                    "v1": not cgroups.unified(),
                    "v2": cgroups.unified(),
                    "systemd": False,
                    "systemdUser": False,
                    "rdma": False,
                },
                "seccomp": {
                    "enabled": True,
                    "actions": list(seccomp.ACTIONS),
                    "operators": list(seccomp.OPERATORS),
                    "archs": ["SCMP_ARCH_X86_64"],
                },
                "apparmor": {"enabled": False},
                "selinux": {"enabled": False},
                "intelRdt": {"enabled": False},
                "mountExtensions": {"idmap": {"enabled": False}},
            },
            "annotations": {"dev.rvisor.version": __version__, "dev.rvisor.checkpoint": "false"},
        },
        indent=2,
    )
    return 0


_CAPS = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


def spec(command: Command) -> int:
    """Write a config.json with which `run` works once there is a root."""
    from json import dumps

    command.words(0, 0)
    path = os.path.join(command.flags.text("bundle") or ".", "config.json")
    text = dumps(default(), indent="\t") + "\n"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise OciError(f"File {path} exists. Remove it first") from None
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
    return 0


def default() -> dict[str, object]:
    """A shell in `rootfs`, which it cannot write to."""

    def mount(target: str, kind: str, *options: str, source: str = "") -> dict[str, object]:
        return {"destination": target, "type": kind, "source": source or kind, "options": list(options)}

    safe = ("nosuid", "noexec", "nodev")
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted", "ambient", "inheritable"), _CAPS),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "runrsc",
        "mounts": [
            mount("/proc", "proc"),
            mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
            mount("/dev/shm", "tmpfs", *safe, "mode=1777", "size=65536k", source="shm"),
            mount("/dev/mqueue", "mqueue", *safe),
            mount("/sys", "sysfs", *safe, "ro"),
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }
