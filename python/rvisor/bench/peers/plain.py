"""No sandbox, rVisor itself, and bubblewrap."""

from __future__ import annotations

import os
import sys

from rvisor.bench.peers import INSTALL, Job, Peer, executable, first_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Native(Peer):
    """The command on the host."""

    name = "native"
    sandbox = False

    def absent(self) -> str:
        return ""

    def version(self) -> str:
        return os.uname().release

    def argv(self, job: Job) -> list[str]:
        return job.args

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
        for path in job.volumes:
            argv += ["-v", f"{path}:{path}"]
        for path in job.read_only:
            argv += ["-v", f"{path}:{path}:ro"]
        for name, value in job.env.items():
            argv += ["-e", f"{name}={value}"]
        return [*argv, "--", *job.args]


class Bubblewrap(Peer):
    """bubblewrap with all namespaces and no system call filter."""

    name = "bwrap"

    def absent(self) -> str:
        return "" if executable("bwrap") else INSTALL

    def version(self) -> str:
        return first_line([executable("bwrap") or "bwrap", "--version"])

    def argv(self, job: Job) -> list[str]:
        argv = [executable("bwrap") or "bwrap", "--unshare-all", "--die-with-parent", "--cap-add", "ALL"]
        argv += ["--bind", self.place.layered(), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/dev/shm"]
        for path in job.volumes:
            argv += ["--bind", path, path]
        for path in job.read_only:
            argv += ["--ro-bind", path, path]
        argv += ["--chdir", job.cwd, "--clearenv"]
        for name, value in job.env.items():
            argv += ["--setenv", name, value]
        return [*argv, "--", *job.args]
