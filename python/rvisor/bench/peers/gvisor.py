"""gVisor, on each of its platforms."""

from __future__ import annotations

import os

from rvisor.bench.peers import INSTALL, Job, Peer, executable, first_line
from rvisor.bench.peers.oci import bundle


class Systrap(Peer):
    """runsc with its own layer in memory over the root, its own network stack with only a loopback.

    The root is a layer already: in the host's own, its gofer would make the places where directories are mounted.
    """

    name = "gvisor-systrap"
    platform = "systrap"

    def absent(self) -> str:
        runsc = executable("runsc")
        if runsc is None:
            return INSTALL
        argv = [runsc, f"--platform={self.platform}", "--network=none", "--ignore-cgroups", "do", "/bin/true"]
        return self.trouble(argv)

    def version(self) -> str:
        return first_line([executable("runsc") or "runsc", "--version"]).removeprefix("runsc version ")

    def argv(self, job: Job) -> list[str]:
        name, path = bundle(self, job, root=self.place.layered(), cgroup=False)
        argv = [executable("runsc") or "runsc", f"--root={os.path.join(self.place.path, self.name)}"]
        argv += [
            f"--platform={self.platform}",
            f"--network={'sandbox' if job.network else 'none'}",
            "--overlay2=root:memory",
            "--ignore-cgroups",
        ]
        return [*argv, "run", f"--bundle={path}", name]


class Ptrace(Systrap):
    """The platform that works everywhere."""

    name = "gvisor-ptrace"
    platform = "ptrace"


class Kvm(Systrap):
    """The platform on hardware virtualisation."""

    name = "gvisor-kvm"
    platform = "kvm"

    def absent(self) -> str:
        if not os.path.exists("/dev/kvm"):
            return "there is no /dev/kvm"
        return super().absent()
