"""No sandbox, rVisor itself, and bubblewrap."""

from __future__ import annotations

import os
import sys

from rvisor.bench.peers import INSTALL, Job, Peer, executable, first_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def _joined(job: Job) -> list[str]:
    """Has a command start in the job's network namespace, for those who join none by themselves."""
    return [] if job.network is None else ["nsenter", f"--net={job.network}"]


class Native(Peer):
    """The command on the host."""

    name = "native"
    sandbox = False

    def absent(self) -> str:
        return ""

    def version(self) -> str:
        return os.uname().release

    def argv(self, job: Job) -> list[str]:
        return [*_joined(job), *job.args]

    def env(self, job: Job) -> Mapping[str, str]:
        # rustc and go keep their own things below the user's home.
        return {**job.env, "HOME": os.environ.get("HOME", "/root")}


class Rvisor(Peer):
    """The `rvisor run` of this package."""

    name = "rvisor"
    platform = "slots"

    def absent(self) -> str:
        return ""

    def version(self) -> str:
        return first_line([sys.executable, "-m", "rvisor", "version"])

    def argv(self, job: Job) -> list[str]:
        argv = [sys.executable, "-m", "rvisor", "run", "-i", "--platform", self.platform, "-w", job.cwd]
        if self.place.root is not None:
            argv += ["--rootfs", self.place.root]
        if job.network is not None:
            argv += ["--network", f"ns:{job.network}"]
        for path in job.volumes:
            argv += ["-v", f"{path}:{path}"]
        for path in job.read_only:
            argv += ["-v", f"{path}:{path}:ro"]
        for name, value in job.env.items():
            argv += ["-e", f"{name}={value}"]
        return [*argv, "--", *job.args]


class Bubblewrap(Peer):
    """bubblewrap with all namespaces but the user's, and no system call filter."""

    name = "bwrap"

    def absent(self) -> str:
        return self.trouble(self.argv(Job(["/bin/true"]))) if executable("bwrap") else INSTALL

    def version(self) -> str:
        return first_line([executable("bwrap") or "bwrap", "--version"])

    def argv(self, job: Job) -> list[str]:
        # No user namespace of its own: in it there would be one user only.
        spaces = ["pid", "ipc", "uts", "cgroup", *([] if job.network else ["net"])]
        argv = [*_joined(job), executable("bwrap") or "bwrap", *(f"--unshare-{space}" for space in spaces)]
        argv += ["--die-with-parent", "--cap-add", "ALL"]
        argv += ["--bind", self.place.layered(), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/dev/shm"]
        for path in job.volumes:
            argv += ["--bind", path, path]
        for path in job.read_only:
            argv += ["--ro-bind", path, path]
        argv += ["--chdir", job.cwd, "--clearenv"]
        for name, value in job.env.items():
            argv += ["--setenv", name, value]
        return [*argv, "--", *job.args]
