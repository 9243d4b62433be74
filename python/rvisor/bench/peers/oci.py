"""runc and crun, and the bundles that OCI runtimes take."""

from __future__ import annotations

import itertools
import json
import os

from rvisor.bench.peers import INSTALL, Job, Peer, executable, first_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_numbers = itertools.count(1)

_CAPABILITIES = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
]
"""Docker's default."""


def config(job: Job, *, root: str, cgroup: str | None) -> dict[str, Any]:
    """An OCI configuration: namespaces of its own, Docker's capabilities, a network with only a loopback."""
    mounts: list[dict[str, Any]] = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        },
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777"],
        },
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    ]
    shared = [(path, "rw") for path in job.volumes] + [(path, "ro") for path in job.read_only]
    mounts += [{"destination": path, "type": "bind", "source": path, "options": ["rbind", how]} for path, how in shared]
    linux: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
    }
    linux["namespaces"].append({"type": "network"} | ({"path": job.network} if job.network else {}))
    if cgroup is not None:
        linux["cgroupsPath"] = cgroup
    kinds = ("bounding", "effective", "permitted")
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": job.args,
            "env": [f"{name}={value}" for name, value in job.env.items()],
            "cwd": job.cwd,
            "capabilities": dict.fromkeys(kinds, _CAPABILITIES),
        },
        "root": {"path": root, "readonly": False},
        "hostname": "bench",
        "mounts": mounts,
        "linux": linux,
    }


def bundle(peer: Peer, job: Job, *, root: str, cgroup: bool) -> tuple[str, str]:
    """A container's name, and the directory of its configuration."""
    name = f"rvisor-bench-{os.getpid()}-{next(_numbers)}"
    path = os.path.join(peer.place.path, "bundles", name)
    os.makedirs(path)
    group = os.path.join(peer.place.group.path, name) if cgroup else None
    with open(os.path.join(path, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config(job, root=root, cgroup=group), file)
    return name, path


class Runc(Peer):
    """runc over the root below an overlay in memory, without a system call filter."""

    name = "runc"

    def absent(self) -> str:
        return self.trouble(self.argv(Job(["/bin/true"]))) if executable(self.name) else INSTALL

    def version(self) -> str:
        return first_line([executable(self.name) or self.name, "--version"])

    def argv(self, job: Job) -> list[str]:
        name, path = bundle(self, job, root=self.place.layered(), cgroup=True)
        state = os.path.join(self.place.path, self.name)
        return [executable(self.name) or self.name, "--root", state, "run", "--bundle", path, name]


class Crun(Runc):
    """crun, the same way."""

    name = "crun"
