"""A container, as its policies see it: host threads, and the control groups they are in.

Nothing is ever written to a hierarchy's top group, which is the whole host's: a container without a group of its own
has no group settings.
"""

from __future__ import annotations

import os

from rvisor._sentry.cgroup import get as read
from rvisor._sentry.cgroup import put as write
from rvisor._sentry.find import parents
from rvisor.errors import UsageError
from rvisor.policy.errors import PolicyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_MOUNTS = "/proc/self/mountinfo"
_SHORTEST_WORD = 3


class Container:
    """`groups` are directories, one in each hierarchy. `roots` are host pids, for what is in no group of its own."""

    def __init__(self, name: str, *, groups: Sequence[str] = (), roots: Sequence[int] = ()) -> None:
        self.name = name
        self.groups = list(groups)
        self._roots = list(roots)
        self._seen: set[int] = set(roots)

    @classmethod
    def of_groups(cls, name: str, groups: Sequence[str]) -> Container:
        """`groups` as a launcher or a runtime's state names them."""
        tops = set(hierarchies())
        return cls(name, groups=[group for group in groups if os.path.normpath(group) not in tops])

    @classmethod
    def of_cgroup(cls, path: str) -> Container:
        """A group's directory, or its path below the hierarchies' tops; UsageError if there is none."""
        found = [group for group in _everywhere(path) if os.path.isdir(group)]
        if not found:
            raise UsageError(f"--cgroup: there is no control group {path!r} below a hierarchy's top")
        return cls(os.path.basename(found[0]), groups=found)

    @classmethod
    def of_pid(cls, pid: int) -> Container:
        """A process, and what it starts. It has no groups, as those it is in may be others' too."""
        if not os.path.isdir(f"/proc/{pid}"):
            raise UsageError(f"--pid: there is no process {pid}")
        return cls(f"pid {pid}", roots=[pid])

    @classmethod
    def find(cls, word: str) -> Container:
        """A running sandbox's name or id, or any container's id, as its control groups have it; or its beginning."""
        from rvisor._sentry import find, runtime

        command = 0
        for about in runtime.running():
            if word == about["name"] or (len(word) >= _SHORTEST_WORD and about["id"].startswith(word)):
                word, command = about["id"], about["pid"]
        found: dict[str, list[str]] = {}
        for top in hierarchies():
            for directory, names, _ in os.walk(top):
                if directory != top and os.path.ismount(directory):
                    names.clear()
                    continue
                for name in names:
                    plain = name.removesuffix(".scope").removesuffix(".slice")
                    ends = {plain, *(plain.removeprefix(f"{runtime_}-") for runtime_ in _RUNTIMES)}
                    fits = len(word) >= _SHORTEST_WORD and any(end.startswith(word) for end in ends)
                    if word in ends or fits:
                        found.setdefault(name, []).append(os.path.join(directory, name))
        exact = {name: groups for name, groups in found.items() if name in (word, f"rvisor-{word}")}
        found = exact or found
        if not found and (roots := find.started_by(command)):
            return cls(word, roots=roots)
        if len(found) != 1:
            why = "more than one control group is" if found else "no control group is"
            raise UsageError(
                f"no single container is called {word!r}: {why}",
                hint="--cgroup PATH or --pid PID name one without doubt",
            )
        name, groups = found.popitem()
        return cls(name, groups=groups)

    def file(self, name: str) -> str | None:
        """A file of its groups, whichever hierarchy has it."""
        for group in self.groups:
            path = os.path.join(group, name)
            if os.path.exists(path):
                return path
        return None

    def read(self, name: str) -> str | None:
        """What such a file says; None if there is none."""
        path = self.file(name)
        try:
            return None if path is None else read(path)
        except OSError:
            return None

    def write(self, name: str, value: str, *, what: str) -> None:
        """PolicyError if there is no such file, or the host refuses the value; `what` names the setting."""
        path = self.file(name)
        if path is None:
            why = f"its control groups have no {name}" if self.groups else "it has no control group of its own"
            raise PolicyError(f"{what}: {self.name}: {why}")
        try:
            write(path, value)
        except OSError as error:
            raise PolicyError(f"{what}: writing {value} to {path}: {error.strerror}") from None

    def tasks(self) -> list[int]:
        """Every thread's host id. Threads that are born while this looks may be missing: see `settle`."""
        for group in self.groups:
            found = [task for path in _below(group) for task in _numbers(path, ("cgroup.threads", "tasks"))]
            if found:
                return sorted(set(found))
        return sorted({task for pid in self._tree() for task in tasks_of(pid)})

    def processes(self) -> list[int]:
        """Every process's host id."""
        for group in self.groups:
            found = [pid for path in _below(group) for pid in _numbers(path, ("cgroup.procs",))]
            if found:
                return sorted(set(found))
        return sorted(self._tree())

    def alive(self) -> bool:
        """Whether anything runs in it."""
        return bool(self.processes())

    def _tree(self) -> set[int]:
        """The processes below its roots. Who was seen once belongs to it, even if its parent is gone by now."""
        if not self._roots:
            return set()
        above = dict(parents())
        self._seen &= above.keys()
        grown = True
        while grown:
            new = {pid for pid, parent in above.items() if parent in self._seen} - self._seen
            self._seen |= new
            grown = bool(new)
        return set(self._seen)


_RUNTIMES = ("rvisor", "docker", "runrsc", "libpod", "cri-containerd", "crio")
"""What stands before an id in the names of scopes and groups."""


def settle(container: Container, step: Callable[[int], bool], *, freeze: Callable[[bool], bool] | None = None) -> int:
    """Do `step` to every thread, until none is left that lacks it; returns how many threads there were.

    `step` says whether the thread had it already; ProcessLookupError: it is gone. A thread born between the listing
    and its parent's turn lacks it and is found by the next listing; its parent may have ended in between, so two
    listings in a row must find nothing to do. A container that forks faster than this looks is frozen for the last
    one.
    """
    quiet = 0
    for turn in range(_TURNS):
        frozen = turn == _TURNS - 1 and freeze is not None and freeze(True)
        try:
            tasks = container.tasks()
            changed = False
            for task in tasks:
                try:
                    changed |= not step(task)
                except ProcessLookupError:
                    continue
        finally:
            if frozen and freeze is not None:
                freeze(False)
        quiet = 0 if changed else quiet + 1
        if quiet == 2 or frozen:
            return len(tasks)
    raise PolicyError(f"{container.name} starts threads faster than they can be set, and it has no freezer")


_TURNS = 60


def freezer(container: Container) -> Callable[[bool], bool] | None:
    """Stops and releases the container; None where its groups cannot. Says whether it came to rest."""
    v2, v1 = container.file("cgroup.freeze"), container.file("freezer.state")
    path = v2 if v2 is not None and _holds(os.path.dirname(v2)) else v1
    if path is None:
        return None

    def freeze(stop: bool) -> bool:
        import time

        word = ("1" if stop else "0") if path == v2 else ("FROZEN" if stop else "THAWED")
        sign = ("cgroup.events", "frozen 1") if path == v2 else ("freezer.state", "FROZEN")
        write(path, word)
        end = time.monotonic() + 2.0
        while stop and sign[1] not in read(os.path.join(os.path.dirname(path), sign[0])).splitlines():
            if time.monotonic() > end:
                write(path, "0" if path == v2 else "THAWED")
                return False
            time.sleep(0.001)
        return True

    return freeze


def hierarchies() -> list[str]:
    """The top of every hierarchy of control groups; version 1's with controllers first."""
    found: dict[str, list[str]] = {"cgroup": [], "cgroup2": []}
    with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            head, _, tail = line.partition(" - ")
            kind = tail.split(" ", 1)[0]
            if kind in found and head.split()[4] not in found[kind]:
                found[kind].append(head.split()[4])
    return found["cgroup"] + found["cgroup2"]


def tasks_of(pid: int) -> list[int]:
    """A process's threads; none if it is gone."""
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def _everywhere(path: str) -> list[str]:
    """This group in each hierarchy, the tops left out."""
    tops = hierarchies()
    path = os.path.normpath(path)
    inside = [top for top in tops if path == top or path.startswith(top + "/")]
    relative = os.path.relpath(path, max(inside, key=len)) if inside else path.lstrip("/")
    if relative in ("", ".") or relative.startswith(".."):
        raise UsageError(f"--cgroup: {path!r} is the whole host's group, or none")
    return [os.path.join(top, relative) for top in tops]


def _below(group: str) -> Iterator[str]:
    for directory, _, _ in os.walk(group):
        yield directory


def _numbers(directory: str, names: Sequence[str]) -> list[int]:
    for name in names:
        try:
            return [int(word) for word in read(os.path.join(directory, name)).split()]
        except OSError:
            continue
    return []


def _holds(group: str) -> bool:
    return any(_numbers(path, ("cgroup.procs",)) for path in _below(group))
