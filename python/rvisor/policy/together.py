"""What a profile says of CPU and memory, put on a container as a whole: all of it, or what was there before.

A profile's controllers run in processes of their own, which end with the container: its starter need not stay.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

from rvisor._sentry.cgroup import get, put
from rvisor.errors import RvisorError
from rvisor.policy import calls, cpu, load, memory
from rvisor.policy.container import settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rvisor._sentry.spawn import Running
    from rvisor.policy.container import Container
    from rvisor.profile.model import Profile

_FILES = (
    *("cpu.shares", "cpu.weight", "cpu.cfs_quota_us", "cpu.max", "cpuset.cpus", "memory.soft_limit_in_bytes"),
    *("memory.high", "memory.limit_in_bytes", "memory.max", "memory.swappiness"),
)


def tune(running: Running, profile: Profile, *, private: bool) -> None:
    """Set the policies in a container that has begun, whose launcher has seen to limits and promises. PolicyError: what
    the host refuses.
    """
    from rvisor._record import replace
    from rvisor._sentry import cgroup
    from rvisor.policy.container import Container

    running.wait_until_loaded()
    if not running.started:
        return
    groups = cgroup.of(running.id)
    container = Container.of_groups(running.id, groups) if groups else Container(running.id, roots=[running.pid])
    # Limits given beside the profile may be lower.
    left = replace(profile, cpu=replace(profile.cpu, quota=None), memory=replace(profile.memory, max=None))
    if private:
        # Its kernel keeps them itself.
        bare = replace(left.memory, overcommit=None, overcommit_ratio=None, overcommit_kbytes=None)
        left = replace(left, memory=bare)
    apply(left, container, filtered=True)
    attend(profile, container)


def apply(
    profile: Profile, container: Container, *, filtered: bool = False, then: Callable[[], None] | None = None
) -> None:
    """Set it. PolicyError: what the host refuses; then nothing has changed, but for a futex table once given up.

    `filtered`: the container's filter has `memory.rules` in it. `then` is done last, and belongs to it.
    """
    check(profile)
    before = _Before(container)
    try:
        cpu.apply(profile.cpu, container)
        memory.apply(profile.memory, container, futex_slots=profile.futex_hash, filtered=filtered)
        if then is not None:
            then()
    except (OSError, RvisorError):
        before.restore()
        raise


def check(profile: Profile) -> None:
    """PolicyError, UsageError: what can be known to be wrong before there is a container."""
    cpu.check(profile.cpu)
    memory.before_exec(profile.memory)
    for kind, part in (("cpu", profile.cpu), ("memory", profile.memory)):
        if part.controller is not None:
            load.load(kind, part.controller, part.options).close()


def attend(profile: Profile, container: Container) -> list[subprocess.Popen[bytes]]:
    """Start the profile's controllers; each ends soon after the container."""
    found = []
    for command, part in (("sched", profile.cpu), ("memory", profile.memory)):
        if part.controller is None:
            continue
        where = ["--cgroup", container.groups[0]] if container.groups else ["--pid", str(container.processes()[0])]
        options = [word for name, value in part.options.items() for word in ("--option", f"{name}={_json(value)}")]
        package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        quiet = subprocess.DEVNULL
        words = [sys.executable, "-m", "rvisor", command, "watch", *where, "--policy", part.controller, *options]
        found.append(
            subprocess.Popen(
                words,
                stdin=quiet,
                stdout=quiet,
                stderr=quiet,
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": path},
            )
        )
    return found


def _json(value: object) -> str:
    import json

    return json.dumps(value)


class _Before:
    """What there was."""

    def __init__(self, container: Container) -> None:
        self._container = container
        paths = [path for name in _FILES if (path := container.file(name)) is not None]
        self._files = {path: get(path) for path in paths}
        self._threads: dict[int, tuple[calls.Attr, frozenset[int]]] = {}
        for task in container.tasks():
            try:
                self._threads[task] = (calls.sched_getattr(task), frozenset(os.sched_getaffinity(task)))
            except OSError:
                continue
        self._processes = {pid: memory.own(pid) for pid in container.processes()}

    def restore(self) -> None:
        """As far as the host lets it: what fails here was not changed, or is gone."""
        for path, text in self._files.items():
            try:
                put(path, text)
            except OSError:
                continue
        if self._threads:
            usual = Counter(self._threads.values()).most_common(1)[0][0]
            settle(self._container, lambda task: self._reset(task, *self._threads.get(task, usual)))
        for pid, own in self._processes.items():
            memory.restore(pid, own)

    def _reset(self, task: int, attr: calls.Attr, cores: frozenset[int]) -> bool:
        try:
            if calls.sched_getattr(task) == attr and os.sched_getaffinity(task) == cores:
                return True
            os.sched_setaffinity(task, cores)
            calls.sched_setattr(task, attr)
        except ProcessLookupError:
            raise
        except OSError:
            return True
        return False
