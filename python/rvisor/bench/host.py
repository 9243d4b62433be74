"""The host around a measurement: a control group for each, a root that may be written to, and what machine it is."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from rvisor.bench.native import last_line
from rvisor.errors import RvisorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_GROUPS = Path("/sys/fs/cgroup")
_CLONE_NEWNS = 0x20000
_EMPTY_SECONDS = 5.0
"""So long may what a sandbox leaves behind take to end by itself."""


class Group:
    """A control group that holds one sandbox after the other: their CPU time, and their processes.

    Version 1's cpuacct or version 2; either counts the groups below and those that are gone.
    """

    def __init__(self) -> None:
        unified = (_GROUPS / "cgroup.controllers").exists()
        hierarchy = _GROUPS if unified else _GROUPS / "cpuacct"
        self.path = os.path.join(_own_path("" if unified else "cpuacct"), f"rvisor-bench-{os.getpid()}")
        """Its path from the hierarchy's root; below it a peer may make groups of its own."""
        self._usage = "cpu.stat" if unified else "cpuacct.usage"
        self._dir = hierarchy / self.path.lstrip("/")
        try:
            self._dir.mkdir()
        except OSError as error:
            raise RvisorError(
                f"making the control group {self._dir}: {error.strerror}",
                hint="measuring CPU time needs root or a delegated control group",
            ) from None

    def enter(self) -> None:
        """Move the calling process in; for a child before it executes."""
        (self._dir / "cgroup.procs").write_text("0")

    def cpu_seconds(self) -> float:
        """CPU time of all who were ever in it."""
        text = (self._dir / self._usage).read_text()
        if self._usage == "cpuacct.usage":
            return int(text) / 1e9
        return int(text.split()[1]) / 1e6

    def processes(self) -> list[int]:
        """Who is in it and below."""
        found = []
        for file in self._dir.rglob("cgroup.procs"):
            try:
                found += [int(pid) for pid in file.read_text().split()]
            except OSError:
                continue
        return found

    def clear(self) -> None:
        """Wait until it is empty; end who does not go."""
        end = time.monotonic() + _EMPTY_SECONDS
        while left := self.processes():
            if time.monotonic() > end:
                for pid in left:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        continue
            time.sleep(0.005)

    def remove(self) -> None:
        """Take it away, in every hierarchy in which a peer has made it."""
        self.clear()
        for place in [_GROUPS, *_GROUPS.iterdir()]:
            made = place / self.path.lstrip("/")
            if made.is_dir():
                for path, _, _ in os.walk(made, topdown=False):
                    os.rmdir(path)


def _own_path(controller: str) -> str:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    return "/"


class Ran:
    """How a command went: its wall time, and the CPU time of all its sandbox's processes, in seconds."""

    __slots__ = ("cpu", "status", "stderr", "stdout", "wall")

    def __init__(self, *, status: int, stdout: bytes, stderr: bytes, wall: float, cpu: float) -> None:
        self.status = status
        self.stdout = stdout
        self.stderr = stderr
        self.wall = wall
        self.cpu = cpu


class Network:
    """A network namespace, its path and the address that the host reaches it at."""

    __slots__ = ("address", "path")

    def __init__(self, *, path: str, address: str) -> None:
        self.path = path
        self.address = address


class Place:
    """What all measurements of one command share; leave it, and nothing is left of it.

    From now on this process has a mount namespace of its own: whatever is mounted for a peer, or by it, ends with it.
    """

    def __init__(self, *, root: str | None = None, directory: str | None = None) -> None:
        self.root = root
        """Of the sandboxes; None is the host's own."""
        self._held = tempfile.TemporaryDirectory(prefix="rvisor-bench-", dir=directory)
        self.path = self._held.name
        os.chmod(self.path, 0o755)
        self.work = os.path.join(self.path, "work")
        """Shared with every sandbox, under the same name."""
        os.mkdir(self.work)
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
            raise RvisorError(f"a mount namespace: {os.strerror(ctypes.get_errno())}", hint="be root")
        _mount("--make-rprivate", "/")
        self.group = Group()
        self.cleanup = contextlib.ExitStack()
        """What a trial has started for all its turns, and is to end with this place."""
        self._layered: str | None = None
        self._networks = itertools.count(1)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        self.cleanup.close()
        self.group.remove()
        mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in reversed([path for path in mounted if path.startswith(self.path + "/")]):
            subprocess.run(["umount", "--lazy", mount], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        self._held.cleanup()

    def layered(self) -> str:
        """The root below a layer in memory, for those who have no such layer of their own."""
        if self._layered is None:
            memory = os.path.join(self.path, "layer")
            upper, inner, merged = (os.path.join(memory, name) for name in ("upper", "inner", "root"))
            os.mkdir(memory)
            _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", memory)
            for path in (upper, inner, merged):
                os.mkdir(path)
            options = f"lowerdir={self.root or '/'},upperdir={upper},workdir={inner}"
            _mount("-t", "overlay", "-o", options, "overlay", merged)
            self._layered = merged
        return self._layered

    @contextlib.contextmanager
    def network(self) -> Iterator[Network]:
        """A network namespace of its own, joined to this one by a pair of interfaces."""
        number = next(self._networks)
        name = f"rvisor-{os.getpid()}-{number}"
        ours, theirs = f"rvb{number}o", f"rvb{number}t"
        # Of the addresses kept for measuring (RFC 2544), which no network routes.
        gate, address = f"198.18.{number % 250}.1", f"198.18.{number % 250}.2"
        _ip("netns", "add", name)
        try:
            _ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
            _ip("address", "add", f"{gate}/24", "dev", ours)
            _ip("link", "set", ours, "up")
            _ip("-n", name, "address", "add", f"{address}/24", "dev", theirs)
            _ip("-n", name, "link", "set", theirs, "up")
            _ip("-n", name, "link", "set", "lo", "up")
            yield Network(path=f"/run/netns/{name}", address=address)
        finally:
            subprocess.run(["ip", "link", "delete", ours], capture_output=True, check=False)
            _ip("netns", "delete", name)

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdout: int = subprocess.DEVNULL,
        stderr: int = subprocess.DEVNULL,
        stdin: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Start a command in the group."""
        return subprocess.Popen(
            argv,
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            preexec_fn=self.group.enter,
        )

    def run(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None, timeout: float
    ) -> Ran:
        """Run a command in the group to its end; after `timeout` seconds everything in the group is killed."""
        before = self.group.cpu_seconds()
        with (
            tempfile.TemporaryFile(dir=self.path) as out,
            tempfile.TemporaryFile(dir=self.path) as err,
        ):
            begun = time.perf_counter()
            process = self.start(argv, env=env, cwd=cwd, stdout=out.fileno(), stderr=err.fileno())
            try:
                status = process.wait(timeout=timeout)
            except BaseException as error:
                process.kill()
                for pid in self.group.processes():
                    os.kill(pid, signal.SIGKILL)
                process.wait()
                self.group.clear()
                if isinstance(error, subprocess.TimeoutExpired):
                    raise RvisorError(f"did not end within {timeout:g} s") from None
                raise
            wall = time.perf_counter() - begun
            self.group.clear()
            out.seek(0)
            err.seek(0)
            cpu = self.group.cpu_seconds() - before
            return Ran(status=status, stdout=out.read(), stderr=err.read(), wall=wall, cpu=cpu)


def _mount(*args: str) -> None:
    done = subprocess.run(["mount", *args], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        raise RvisorError(f"mount {' '.join(args)}: {last_line(done.stderr)}")


def _ip(*args: str) -> None:
    try:
        done = subprocess.run(["ip", *args], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except FileNotFoundError:
        raise RvisorError("there is no ip command", hint="install iproute2") from None
    if done.returncode != 0:
        raise RvisorError(f"ip {' '.join(args)}: {last_line(done.stderr)}")


class Held:
    """A process's memory in MiB: its proportional share of all it has, and what it alone has."""

    __slots__ = ("private", "share")

    def __init__(self, pid: int) -> None:
        found = {"Pss": 0, "Private_Clean": 0, "Private_Dirty": 0}
        # A process that has ended meanwhile holds nothing.
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, _, rest = line.partition(":")
                if name in found:
                    found[name] = int(rest.split()[0])
        self.share = found["Pss"] / 1024
        self.private = (found["Private_Clean"] + found["Private_Dirty"]) / 1024


def environment() -> dict[str, str]:
    """The machine and its settings that change figures."""
    found = {
        "time": time.strftime("%Y-%m-%d %H:%M %Z"),
        "kernel": f"{os.uname().sysname} {os.uname().release} {os.uname().version}",
        "machine": os.uname().machine,
        "CPUs": str(os.cpu_count()),
        "CPU": _line("/proc/cpuinfo", "model name"),
        "memory": _line("/proc/meminfo", "MemTotal"),
        "virtual": "yes" if "hypervisor" in _line("/proc/cpuinfo", "flags").split() else "no",
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "none",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "file system": _file_system(tempfile.gettempdir()),
    }
    weak = Path("/sys/devices/system/cpu/vulnerabilities")
    if weak.is_dir():
        told = {entry.name: _text(str(entry)) for entry in sorted(weak.iterdir())}
        found["mitigations"] = "; ".join(f"{name}: {text}" for name, text in told.items() if text != "Not affected")
    return found


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _line(path: str, key: str) -> str:
    for line in _text(path).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "unknown"


def _file_system(path: str) -> str:
    stat = shutil.which("stat")
    if stat is None:
        return "unknown"
    done = subprocess.run([stat, "-f", "-c", "%T", path], capture_output=True, check=False)
    return done.stdout.decode().strip()
