"""What a user would pick instead: each peer runs one command over a root, with directories shared with it."""

from __future__ import annotations

import os
import shutil
import subprocess
from abc import ABC, abstractmethod

from rvisor.bench.native import last_line
from rvisor.errors import RvisorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rvisor.bench.host import Place, Ran

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "rvisor", "peers")
"""Where `tools/peers` puts what Debian does not have."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

TRY_SECONDS = 20.0
"""Who has not run /bin/true by then does not work here."""

INSTALL = "tools/peers installs it"


class Job:
    """A command, and what it is to see: `volumes` of the host under their own names, writable or not.

    `network` is the path of a network namespace; without one there is only a loopback.
    """

    __slots__ = ("args", "cwd", "env", "network", "read_only", "volumes")

    def __init__(
        self,
        args: Sequence[str],
        *,
        volumes: Sequence[str] = (),
        read_only: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        network: str | None = None,
    ) -> None:
        self.args = list(args)
        self.volumes = list(volumes)
        self.read_only = list(read_only)
        self.env = {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", **(env or {})}
        self.cwd = cwd
        self.network = network


class Peer(ABC):
    """One way to run a command. Its `name` is the one that `--against` takes."""

    name: str
    sandbox = True
    """Whether the command has a root of its own."""

    def __init__(self, place: Place) -> None:
        self.place = place

    @abstractmethod
    def absent(self) -> str:
        """Why this peer cannot be measured here; empty if it can."""

    @abstractmethod
    def version(self) -> str:
        """Which one it is."""

    @abstractmethod
    def argv(self, job: Job) -> list[str]:
        """The command that runs `job` in a sandbox of its own, its descriptors and exit status passed on."""

    def env(self, job: Job) -> Mapping[str, str] | None:
        """The environment of `argv` itself; None is the caller's."""
        del job
        return None

    def trouble(self, argv: Sequence[str]) -> str:
        """Why it does not even run this command, which does nothing; empty if it does."""
        shown = f"`{os.path.basename(argv[0])}` with /bin/true"
        try:
            tried = self.place.run(argv, timeout=TRY_SECONDS)
        except RvisorError as error:
            return f"{shown} {error}"
        return "" if tried.status == 0 else f"{shown} fails: {last_line(tried.stderr or tried.stdout)}"

    def run(self, job: Job, *, timeout: float) -> Ran:
        """Run `job` to its end; RvisorError unless its status is 0."""
        cwd = None if self.sandbox else job.cwd
        ran = self.place.run(self.argv(job), env=self.env(job), cwd=cwd, timeout=timeout)
        if ran.status != 0:
            raise RvisorError(f"{self.name}: status {ran.status}: {last_line(ran.stderr or ran.stdout)}")
        return ran


def executable(name: str) -> str | None:
    """Where a peer's command is: in the cache of `tools/peers`, or where commands are."""
    return shutil.which(name, path=CACHE) or shutil.which(name, path=os.environ.get("PATH", PATH) + ":" + PATH)


def first_line(argv: Sequence[str]) -> str:
    """What a command says first, for versions."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    return lines[0] if lines and done.returncode == 0 else ""


def known() -> dict[str, type[Peer]]:
    """Every peer by name, in the order of the tables."""
    from rvisor.bench.peers import gvisor, oci, plain

    classes: list[type[Peer]] = [
        plain.Native,
        plain.Rvisor,
        oci.Runc,
        oci.Crun,
        plain.Bubblewrap,
        gvisor.Systrap,
        gvisor.Ptrace,
        gvisor.Kvm,
    ]
    return {peer.name: peer for peer in classes}


def chosen(names: Sequence[str], place: Place) -> tuple[list[Peer], list[str]]:
    """Native, rVisor and the peers named, as far as they are here; and a line for each that is not."""
    there = known()
    here: list[Peer] = []
    absent: list[str] = []
    for name in dict.fromkeys(["native", "rvisor", *names]):
        if name not in there:
            raise RvisorError(f"--against: there is no peer {name!r}", hint="there are: " + ", ".join(there))
        peer = there[name](place)
        if why := peer.absent():
            absent.append(f"{name}: absent: {why}")
        else:
            here.append(peer)
    return here, absent
