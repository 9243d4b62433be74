"""The containers that there are: one directory each below `--root`.

    ROOT/ID/            made by mkdir, which decides who creates; locked (flock) by whoever changes the container
        state.json      replaced as a whole
        sandbox.json    what has to be ended and removed, should the other be damaged
        control         the sandbox's control socket

What a container does is not written down but asked of the host: a process is what its pid and its start time say.
"""

from __future__ import annotations

import fcntl
import os
import time

from rvisor._sentry.numbers import SIGKILL
from rvisor.errors import RvisorError
from rvisor.oci.errors import NoSuchContainer, OciError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from rvisor._sentry.control import Control

STATE = "state.json"
_SANDBOX = "sandbox.json"
_NEEDED = ("pid", "start_time", "cgroups", "groups_to_make", "vkernel")
VERSION = "1.0.2"
_LARGEST_ID = 255
_LARGEST_STATE = 16 << 20


_KINDS: dict[str, type] = {
    "pid": int, "start_time": int, "cgroups": list, "groups_to_make": list, "phase": str, "bundle": str, "hooks": dict,
    "process": dict, "creator": int, "first": int, "sandbox": str,
    "kernel": str, "profile": str, "vkernel": str,
}  # fmt: skip
"""What has to be of this kind, if it is there."""


def rootless(flag: str = "auto") -> bool:
    """Is this an ordinary user, or the root of a user namespace only? `flag`: what `--rootless` says."""
    if flag not in ("auto", ""):
        if flag not in ("true", "false"):
            raise OciError(f"--rootless: {flag!r} is neither true, false nor auto")
        return flag == "true"
    if os.geteuid() != 0:
        return True
    with open("/proc/self/uid_map", encoding="utf-8") as ids:
        return ids.read().split() != ["0", "0", "4294967295"]


def default_root() -> str:
    """Where root's containers are, and where other users'."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if rootless() and runtime.startswith("/"):
        return os.path.join(runtime, "runrsc")
    return "/run/runrsc"


def check_id(name: str) -> str:
    """A name that can be a directory's."""
    plain = all(c.isascii() and (c.isalnum() or c in "_+-.") for c in name)
    if not name or not plain or name in (".", "..") or len(name) > _LARGEST_ID:
        raise OciError(f"invalid container ID format: {name!r}")
    return name


def start_time(pid: int) -> int:
    """When the process began, in the host's ticks; 0 if it is no more, or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        return 0 if fields[0] in "ZX" else int(fields[19])
    except (OSError, IndexError, ValueError):
        return 0


class Container:
    """One container, as its directory says. `lock` first, to change it."""

    def __init__(self, root: str, name: str) -> None:
        self.id = name
        self.directory = os.path.join(root, name)
        self.data: dict[str, Any] = {}
        self._needed: dict[str, Any] = {}
        """What the second file has of it, as far as that is known."""
        self._lock = -1

    @property
    def pid(self) -> int:
        return int(self.data.get("pid", 0))

    @property
    def cgroups(self) -> list[str]:
        return list(self.data.get("cgroups", []))

    @property
    def first(self) -> int:
        """Its first process, as its kernel numbers them."""
        return int(self.data.get("first", 1))

    @property
    def sandbox(self) -> str:
        """The container whose kernel serves it, if that is not its own."""
        return str(self.data.get("sandbox", ""))

    @property
    def shared(self) -> bool:
        """Does it run on the host's kernel?"""
        return self.data.get("kernel") == "shared"

    def read(self, *, damaged: bool = False) -> None:
        """Raises NoSuchContainer. A directory without a state is one that is being made, or was left by a crash.

        With `damaged` a state that cannot be read is no error: then only what is to be removed is known.
        """
        if os.path.islink(self.directory):
            raise NoSuchContainer
        try:
            self.data = self._load(STATE)
            self._needed = {name: self.data[name] for name in _NEEDED if name in self.data}
            return
        except FileNotFoundError:
            if not os.path.isdir(self.directory):
                raise NoSuchContainer from None
        except NotADirectoryError:
            raise NoSuchContainer from None
        except (ValueError, OSError):
            if not damaged:
                raise OciError(f"the state of container {self.id} cannot be read: delete it with --force") from None
        try:
            self.data = self._load(_SANDBOX)
        except (ValueError, OSError):
            self.data = {}

    def _load(self, name: str) -> dict[str, Any]:
        from rvisor._sentry.plainjson import loads

        with open(os.path.join(self.directory, name), encoding="utf-8") as file:
            data = loads(file.read(_LARGEST_STATE))
        if not isinstance(data, dict) or not all(
            isinstance(data.get(key, kind()), kind) for key, kind in _KINDS.items()
        ):
            raise ValueError("not a state")
        return data

    def write(self, **changes: object) -> None:
        """Write down these changes, and those made in `data`, at once and as a whole. Raises OciError where there is no
        room for it.
        """
        self.data.update(changes)
        needed = {name: self.data[name] for name in _NEEDED if name in self.data}
        try:
            self._save(STATE, self.data)
            if needed != self._needed:
                self._save(_SANDBOX, needed)
                self._needed = needed
        except OSError as error:
            raise OciError(f"writing the state of container {self.id}: {error.strerror}") from None

    def _save(self, name: str, data: dict[str, Any]) -> None:
        from rvisor._sentry.plainjson import dumps

        path = os.path.join(self.directory, name)
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(dumps(data))
        os.rename(f"{path}.new", path)

    def lock(self) -> None:
        """Be the only one who changes it. The lock ends with the process."""
        while True:
            try:
                fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                raise NoSuchContainer from None
            fcntl.flock(fd, fcntl.LOCK_EX)
            # Whoever had it before may have removed the directory.
            try:
                now = os.stat(self.directory)
            except FileNotFoundError:
                now = None
            locked = os.fstat(fd)
            if now is not None and (now.st_dev, now.st_ino) == (locked.st_dev, locked.st_ino):
                self._lock = fd
                return
            os.close(fd)

    def unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def alive(self) -> bool:
        """Does its first process exist, and is it no zombie?"""
        began = self.data.get("start_time", 0)
        return self.pid > 0 and began != 0 and start_time(self.pid) == began

    def status(self) -> str:
        """creating, created, running, paused or stopped."""
        if not self.alive():
            creator = int(self.data.get("creator", 0))
            if self.data.get("phase") == "creating" and self.pid == 0 and creator:
                return "creating" if start_time(creator) == self.data.get("creator_start") else "stopped"
            return "stopped"
        if self.data.get("paused"):
            from rvisor.oci import cgroups

            if cgroups.frozen(self.cgroups):
                return "paused"
        phase = str(self.data.get("phase", "creating"))
        if phase == "starting":
            return self._begun()
        return phase

    def _begun(self) -> str:
        """Somebody has called `start`. If he was killed over it, only the kernel knows how far he came."""
        if start_time(int(self.data.get("starter", 0))) == self.data.get("starter_start"):
            return "created"
        try:
            with self.control() as control:
                return "created" if self.first in control.stats()["held"] else "running"
        except RvisorError:
            return "stopped"

    def hooked(self, stage: str) -> bool:
        """Were hooks of this stage written down?"""
        return bool((self.data.get("hooks") or {}).get(stage))

    def state(self, status: str | None = None) -> dict[str, object]:
        """What the runtime specification calls the state of a container."""
        status = status or self.status()
        state: dict[str, object] = {
            "ociVersion": VERSION,
            "id": self.id,
            "status": status,
            "pid": 0 if status == "stopped" else self.pid,
            "bundle": self.data.get("bundle", ""),
            "rootfs": self.data.get("rootfs", ""),
            "created": self.data.get("created", ""),
            "owner": self.data.get("owner", ""),
        }
        if annotations := self.data.get("annotations"):
            state["annotations"] = annotations
        return state

    def control(self) -> Control:
        """A connection to the sandbox's kernel; raises SandboxGone."""
        from rvisor._sentry.control import Control

        directory = self.directory
        if self.sandbox:
            directory = os.path.join(os.path.dirname(directory), self.sandbox)
        return Control.connect(directory)

    def end(self) -> None:
        """End what runs of it."""
        if self.alive():
            os.kill(self.pid, SIGKILL)
            if self.data.get("paused"):
                from rvisor.oci import cgroups

                cgroups.freeze(self.cgroups, False)
            wait_until(lambda: not self.alive(), 10.0)

    def destroy(self) -> None:
        """End what runs of it, and remove its control groups and its directory."""
        from rvisor._sentry import cgroup

        self.end()
        # Those that were only about to be made may be others': they go if nobody is in them.
        if left := [group for group in self.cgroups or self.data.get("groups_to_make", []) if not cgroup.gone(group)]:
            from rvisor.oci import cgroups

            if self.cgroups:
                cgroups.kill_all(left)
            if left := cgroup.remove(left if self.cgroups else [g for g in left if cgroups.empty(g)]):
                raise OciError(f"could not remove the control group {left[0]}")
        if instance := str(self.data.get("vkernel", "")):
            from rvisor._sentry import runtime

            runtime.Registered(instance, -1).remove()
        self.remove()

    def remove(self) -> None:
        """Remove the directory. Its state goes first: what is left by a crash is then nothing's."""
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return
        for name in sorted(names, key=lambda n: n != STATE):
            try:
                os.unlink(os.path.join(self.directory, name))
            except FileNotFoundError:
                continue
        try:
            os.rmdir(self.directory)
        except FileNotFoundError:
            return


def new(root: str, name: str) -> Container:
    """A container that there was not, locked. Raises OciError if there is one of this name."""
    check_id(name)
    try:
        os.makedirs(root, mode=0o711, exist_ok=True)
    except OSError as error:
        raise OciError(f"making --root {root}: {error.strerror}") from None
    try:
        os.mkdir(os.path.join(root, name), 0o711)
    except FileExistsError:
        raise OciError(f"container with id exists: {name}") from None
    except OSError as error:
        raise OciError(f"making {os.path.join(root, name)}: {error.strerror}") from None
    container = Container(root, name)
    try:
        container.lock()
        container.write(
            phase="creating",
            creator=os.getpid(),
            creator_start=start_time(os.getpid()),
            created=time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() % 10**9:09d}Z",
        )
    except BaseException:
        container.remove()
        raise
    return container


def find(root: str, name: str, *, lock: bool = False, damaged: bool = False) -> Container:
    """The container of this name; raises NoSuchContainer."""
    container = Container(root, check_id(name))
    if lock:
        container.lock()
    container.read(damaged=damaged)
    return container


def every(root: str) -> Iterator[Container]:
    """All containers, by name."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return
    for name in names:
        try:
            yield find(root, name)
        except OciError:
            continue


def wait_until(holds: Any, seconds: float) -> bool:
    """Look again and again, for at most so long."""
    end = time.monotonic() + seconds
    pause = 0.001
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    return True
