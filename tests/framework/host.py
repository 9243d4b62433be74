"""What a sandbox is on the host, and what it may have left there: processes, mounts, control groups, files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from framework import inside

GROUPS = Path("/sys/fs/cgroup")
TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm", "/run")
TESTS = ("rvisor-guest-", "rvisor-program-", "rvisor-bench-")
"""What other tests, which may run meanwhile, call their own directories."""


def executables() -> dict[tuple[int, int], str]:
    """Our three executables by device and inode: how a process is known whatever it calls itself."""
    from rvisor._sentry import find

    found = {}
    for name in (find.LAUNCHER, find.SENTRY, find.STUB):
        stat = os.stat(find.find(name))
        found[stat.st_dev, stat.st_ino] = name.removeprefix("rvisor-")
    return found


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    started: int
    what: str

    def alive(self) -> bool:
        again = look(self.pid)
        return again is not None and again.started == self.started


def look(pid: int, known: dict[tuple[int, int], str] | None = None) -> Process | None:
    """One process, unless it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] in "ZX":
            return None
        what = ""
        if known is not None:
            stat = os.stat(f"/proc/{pid}/exe")
            what = known.get((stat.st_dev, stat.st_ino), "")
        return Process(pid, int(fields[1]), int(fields[19]), what)
    except (OSError, IndexError):
        return None


def ticks(process: Process) -> int:
    """The CPU time it has used, in hundredths of a second; nothing once it is gone."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def ours() -> list[Process]:
    """Every process on the host that runs one of our executables."""
    known = executables()
    seen = (look(int(name), known) for name in os.listdir("/proc") if name.isdecimal())
    return [p for p in seen if p is not None and p.what]


def below(top: int) -> list[Process]:
    """The processes of the sandbox that `rvisor` process `top` started."""
    every = ours()
    family = {top}
    grown = True
    while grown:
        more = {p.pid for p in every if p.parent in family} - family
        grown = bool(more)
        family |= more
    return [p for p in every if p.pid in family]


def children(pid: int) -> list[int]:
    """Whom it has started, found without a look at everybody."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def groups() -> set[Path]:
    """Control groups of sandboxes, wherever they are."""
    found = set()
    for top, names, _ in os.walk(GROUPS):
        found |= {Path(top) / name for name in names if name.startswith("rvisor-")}
    return found


def deserted(group: Path) -> bool:
    """It is there, and nobody is in it. Groups of other people's sandboxes come and go, but are not deserted."""
    try:
        return not (group / "cgroup.procs").read_text().split()
    except OSError:
        return False


def mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


def files() -> set[str]:
    """What has our name in the directories for temporary files."""
    return {
        f"{top}/{name}"
        for top in TEMPORARY
        for name in os.listdir(top)
        if name.startswith("rvisor") and name != "rvisor" and not name.startswith(TESTS)
    }


@dataclass(frozen=True)
class State:
    processes: frozenset[Process]
    mounts: tuple[str, ...]
    groups: frozenset[Path]
    files: frozenset[str]


def state() -> State:
    return State(frozenset(ours()), tuple(mounts()), frozenset(groups()), frozenset(files()))


def until(condition: Callable[[], object], seconds: float = 10, pause: float = 0.02) -> bool:
    """Whether it came true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True


def left_since(before: State, *, seconds: float = 5, files_too: bool = True) -> list[str]:
    """What sandboxes that have ended since left behind; they get a moment for it to go away."""

    def left() -> list[str]:
        now = ours()
        # What belongs to a sandbox that was there before comes and goes.
        others = {p.pid for p in before.processes}
        for _ in range(3):
            others |= {p.pid for p in now if p.parent in others}
        said = [f"process {p.pid} ({p.what})" for p in now if p.pid not in others]
        said += [f"mount {m}" for m in mounts() if m not in before.mounts]
        said += [f"control group {g}" for g in groups() - before.groups if deserted(g)]
        return said + [f"file {f}" for f in files() - before.files if files_too]

    until(lambda: not left(), seconds)
    return left()


def start(*arguments: str, stdin: int | None = None, **more: object) -> subprocess.Popen[bytes]:
    """`rvisor` with these arguments, running, with pipes for its output."""
    env = {**os.environ, "PYTHONPATH": str(inside.ROOT / "python")}
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-m", "rvisor", *arguments],
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        **more,
    )


@contextmanager
def sandbox(*arguments: str, ready: str = "", **more: object) -> Iterator[subprocess.Popen[bytes]]:
    """As `start`, ended with the block. `ready`: the first line of its output, waited for."""
    process = start(*arguments, **more)  # type: ignore[arg-type]
    try:
        if ready:
            assert process.stdout is not None
            line = process.stdout.readline().decode()
            assert line.strip() == ready, (line, process.communicate(timeout=30)[1])
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)


def status(process: subprocess.Popen[bytes], seconds: float = 60) -> inside.Done:
    """Wait for its end."""
    out, err = process.communicate(timeout=seconds)
    code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    return inside.Done(code, out.decode(errors="replace"), err.decode(errors="replace"))
