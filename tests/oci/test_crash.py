"""`runrsc` killed between any two steps, beside itself, or without room: a clear error or none, and nothing left behind.

By default some of the steps are tried, others each time; RVISOR_EVERY_STEP=1 tries them all.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from framework import host
from framework.bundle import ROOT, Runtime

KILLER = ROOT / "tests" / "framework" / "killer.py"
AT_ONCE = 2
"""How many steps of a command are tried where not all are."""


def namespaces(runrsc: Runtime) -> set[str]:
    """Network namespaces that a process in the container's control groups is in."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if runrsc.name in (entry / "cgroup").read_text():
                found.add(os.readlink(entry / "ns" / "net"))
        except OSError:
            continue
    return found


@pytest.fixture(autouse=True)
def nothing_left(runrsc: Runtime) -> Iterator[None]:
    """Processes, mounts, control groups, network namespaces and files are what they were."""
    before = host.state()
    yield
    for container in list(runrsc.root.glob("*")) if runrsc.root.is_dir() else []:
        runrsc("delete", "--force", container.name)
    # Other tests may be making files of their own meanwhile; ours are in the two directories.
    assert host.left_since(before, files_too=False) == []
    assert not runrsc.root.is_dir() or os.listdir(runrsc.root) == []
    assert host.until(lambda: not namespaces(runrsc))
    assert runrsc.left() == []


def killed(runrsc: Runtime, step: int, *args: str) -> subprocess.CompletedProcess[str]:
    """The command, dead before this step; its output goes nowhere that a sandbox could keep open."""
    env = dict(os.environ, PYTHONPATH=str(ROOT / "python"))
    said = runrsc.bundle / "said"
    with said.open("w") as file:
        done = subprocess.run(
            [sys.executable, str(KILLER), str(step), "--root", str(runrsc.root), *args],
            env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file, timeout=60, check=False,
        )  # fmt: skip
    return subprocess.CompletedProcess(done.args, done.returncode, "", said.read_text())


def some(steps: int) -> list[int]:
    every = list(range(1, steps + 1))
    if os.environ.get("RVISOR_EVERY_STEP") or steps <= AT_ONCE:
        return every
    return sorted(random.sample(every, AT_ONCE))


def coherent(runrsc: Runtime, allowed: tuple[str, ...]) -> str:
    """What state says, if anything: one of these."""
    done = runrsc("state", runrsc.name, status=None)
    if done.returncode:
        assert "container does not exist" in done.stderr
        return "none"
    status = str(json.loads(done.stdout)["status"])
    assert status in allowed, status
    return status


def counted(done: subprocess.CompletedProcess[str]) -> int:
    assert done.returncode == 0, done.stderr
    return int(done.stderr.splitlines()[-1])


@pytest.mark.timeout(0)
def test_create_killed_at_any_step(runrsc: Runtime) -> None:
    runrsc.config("sleep", "100")
    args = ("create", "--bundle", str(runrsc.bundle), "--pid-file", str(runrsc.bundle / "pid"), runrsc.name)
    steps = counted(killed(runrsc, 0, *args))
    runrsc("delete", "--force", runrsc.name)
    assert steps > 40
    for step in some(steps):
        assert killed(runrsc, step, *args).returncode == -9, step
        # Only who has handed the sandbox over leaves one that lives; all others end by themselves.
        if not host.until(lambda: coherent(runrsc, ("none", "stopped", "created")) in ("none", "stopped"), 1):
            assert step > steps - 8, f"the sandbox outlives step {step} of {steps}"
        elif host.until(lambda: len(runrsc.left()) <= 1 + len(groups(runrsc)), 5):
            runrsc.refused("start", runrsc.name, why="container")
        runrsc("delete", "--force", runrsc.name)
        assert runrsc.left() == [], step


def groups(runrsc: Runtime) -> list[str]:
    return [entry for entry in runrsc.left() if entry.startswith("/sys")]


@pytest.mark.timeout(0)
def test_start_killed_at_any_step(runrsc: Runtime) -> None:
    runrsc.config("sleep", "100")
    runrsc.create()
    steps = counted(killed(runrsc, 0, "start", runrsc.name))
    runrsc("delete", "--force", runrsc.name)
    for step in some(steps):
        runrsc.create()
        assert killed(runrsc, step, "start", runrsc.name).returncode == -9
        status = coherent(runrsc, ("created", "running"))
        if status == "created":
            runrsc("start", runrsc.name)
        assert runrsc.state()["status"] == "running"
        runrsc.refused("start", runrsc.name, why="cannot start an already running container")
        runrsc("delete", "--force", runrsc.name)
        assert runrsc.left() == [], step


@pytest.mark.timeout(0)
def test_delete_killed_at_any_step(runrsc: Runtime) -> None:
    runrsc.config("sleep", "100")
    counts = []
    for _ in range(3):
        runrsc.create()
        counts.append(counted(killed(runrsc, 0, "delete", "--force", runrsc.name)))
    for step in sorted({1, *some(max(counts))}):
        runrsc.create()
        # It looks until the sandbox is gone, now more often and now less, and at what is in a group only if that cannot be
        # removed: the later steps may not come.
        died = killed(runrsc, step, "delete", "--force", runrsc.name).returncode
        assert died == -9 or (died == 0 and step > min(counts) // 3), step
        coherent(runrsc, ("created", "stopped"))
        runrsc("delete", "--force", runrsc.name)
        assert runrsc.left() == [], step


@pytest.mark.timeout(0)
@pytest.mark.parametrize("detached", [False, True])
def test_exec_killed_at_any_step(runrsc: Runtime, detached: bool) -> None:
    """The container goes on; what was begun in it ends with it."""
    runrsc.config("sleep", "100")
    runrsc.create()
    runrsc("start", runrsc.name)
    more = ("--detach", "--pid-file", str(runrsc.bundle / "exec-pid")) if detached else ()
    args = ("exec", *more, runrsc.name, "true")
    steps = counted(killed(runrsc, 0, *args))
    for step in some(steps):
        assert killed(runrsc, step, *args).returncode == -9
        assert runrsc.state()["status"] == "running"
    runrsc("exec", runrsc.name, "true")
    runrsc("delete", "--force", runrsc.name)


DAMAGES = [("state.json", how) for how in ("empty", "half", "other", "gone")] + [
    ("sandbox.json", "half"), ("sandbox.json", "gone"), ("control", "empty"), ("control", "gone"),
]  # fmt: skip


@pytest.mark.parametrize("file, damage", DAMAGES)
def test_a_damaged_directory(runrsc: Runtime, file: str, damage: str) -> None:
    """Of a container that runs: what cannot be read is said, and delete --force still ends all of it."""
    runrsc.config("sleep", "100")
    runrsc.create()
    path = runrsc.root / runrsc.name / file
    content = b"" if file == "control" else path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(
            {"empty": b"", "half": content[: len(content) // 2], "other": b'{"pid": "x", "cgroups": 7}'}[damage]
        )
    for command, *more in (["state"], ["exec", "true"], ["kill", "TERM"]):
        done = runrsc(command, runrsc.name, *more, status=None)
        assert "mistake" not in done.stderr
        assert len(done.stderr.splitlines()) <= 1
    runrsc("list")
    runrsc("delete", "--force", runrsc.name)
    assert host.until(lambda: runrsc.left() == []), runrsc.left()


def test_two_creates_of_one_name(runrsc: Runtime) -> None:
    """Exactly one makes it, whoever that is, and what the others say is why."""
    runrsc.config("sleep", "100")
    done: list[subprocess.CompletedProcess[str]] = []

    def one() -> None:
        null = subprocess.DEVNULL
        path = runrsc.bundle / f"said-{threading.get_ident()}"
        with path.open("w") as said:
            run = runrsc("create", "--bundle", str(runrsc.bundle), runrsc.name, status=None, stdout=null, stderr=said)
        done.append(subprocess.CompletedProcess(run.args, run.returncode, "", path.read_text()))

    threads = [threading.Thread(target=one) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(d.returncode for d in done) == [0, 1, 1, 1, 1], [d.stderr for d in done]
    assert all(f"container with id exists: {runrsc.name}" in d.stderr for d in done if d.returncode)
    assert runrsc.state()["status"] == "created"
    runrsc("start", runrsc.name)


def test_two_starts_and_two_deletes(runrsc: Runtime) -> None:
    runrsc.config("sleep", "100")
    runrsc.create()

    def at_once(*args: str) -> list[int]:
        found: list[int] = []
        threads = [
            threading.Thread(target=lambda: found.append(runrsc(*args, status=None).returncode)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return sorted(found)

    assert at_once("start", runrsc.name) == [0, 1, 1, 1]
    assert at_once("delete", "--force", runrsc.name) == [0, 0, 0, 0]
    assert at_once("delete", runrsc.name) == [1, 1, 1, 1]


def test_delete_of_what_runs(runrsc: Runtime) -> None:
    runrsc.config("sleep", "100")
    runrsc.create()
    runrsc("start", runrsc.name)
    runrsc.refused("delete", runrsc.name, why="that is not stopped: running")
    assert runrsc.state()["status"] == "running"
    runrsc("delete", "--force", runrsc.name)


NAMES = [
    "", ".", "..", "a/b", "/a", "../x", "a b", "a\n", "\x1b[31m", "é", "a" * 256, "a*", "$(x)", "a\\b", "%s", "\udcff",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=[ascii(name)[:12] for name in NAMES])
def test_bad_names(runrsc: Runtime, name: str) -> None:
    runrsc.config("true")
    for command in (("create", "--bundle", str(runrsc.bundle)), ("state",)):
        done = runrsc(*command, "--", name, status=1)
        assert "container i" in done.stderr.lower()
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.strip().isprintable()


@pytest.mark.parametrize("name", ["a", "A", "0", "_", "-", "a.b", "a+b", "-a", "a" * 255])
def test_good_names(runrsc: Runtime, name: str) -> None:
    assert "does not exist" in runrsc("state", "--", name, status=1).stderr


def unwritable(runrsc: Runtime) -> None:
    runrsc.root.write_text("a file\n")


def gone(runrsc: Runtime) -> None:
    runrsc.root = Path("/proc/1/nowhere")


@pytest.mark.parametrize("make", [unwritable, gone])
def test_a_root_that_is_none(runrsc: Runtime, make: Callable[[Runtime], None]) -> None:
    runrsc.config("true")
    make(runrsc)
    runrsc.refused("create", "--bundle", str(runrsc.bundle), runrsc.name, why=str(runrsc.root))
    runrsc.refused("state", runrsc.name, why="container does not exist")


@pytest.mark.parametrize("room", ["inodes", "bytes"])
def test_no_room(runrsc: Runtime, room: str) -> None:
    """--root on a file system that is full."""
    runrsc.root.mkdir()
    size = "size=4k,nr_inodes=100" if room == "bytes" else "size=1m,nr_inodes=3"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "rvisor-full", str(runrsc.root)], check=True)
    try:
        if room == "bytes":
            (runrsc.root / "filler").write_bytes(b"x" * 4096)
        runrsc.config("true")
        runrsc.refused("create", "--bundle", str(runrsc.bundle), runrsc.name, why="No space left")
        assert [p.name for p in runrsc.root.iterdir()] == (["filler"] if room == "bytes" else [])
        (runrsc.root / "filler").unlink(missing_ok=True)
    finally:
        subprocess.run(["umount", str(runrsc.root)], check=True)


def test_full_while_it_lives(runrsc: Runtime) -> None:
    """Then start says so, and delete needs no room."""
    runrsc.root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "rvisor-full", str(runrsc.root)], check=True)
    try:
        runrsc.config("sleep", "100")
        runrsc.create()
        with (runrsc.root / "filler").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass
        runrsc.refused("start", runrsc.name, why="No space left")
        assert runrsc.state()["status"] == "created"
        runrsc("delete", "--force", runrsc.name)
        (runrsc.root / "filler").unlink()
        assert runrsc.left() == []
    finally:
        subprocess.run(["umount", str(runrsc.root)], check=True)


def test_hooks_that_hang(runrsc: Runtime) -> None:
    """Their whole group is ended, though the first of them ignores signals and its child keeps the pipe open."""
    script = "trap '' TERM INT; sleep 77 & sleep 78"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"], "timeout": 1}
    runrsc.config("true", change=lambda c: c.update(hooks={"prestart": [hook]}))
    began = time.monotonic()
    runrsc.refused("create", "--bundle", str(runrsc.bundle), runrsc.name, why="not done after 1 s: killed")
    assert time.monotonic() - began < 10
    assert runrsc.left() == []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert process.read_bytes() not in (b"sleep\x0077\0", b"sleep\x0078\0")
        except OSError:
            continue


def test_a_hook_that_does_not_read(runrsc: Runtime) -> None:
    """The state on its input may be longer than a pipe holds."""
    many = {f"annotation-{n}": "x" * 1000 for n in range(200)}
    hook = {"path": "/bin/true"}
    done = runrsc.run(
        "true", change=lambda c: c.update(hooks={"prestart": [hook], "poststop": [hook]}, annotations=many)
    )
    assert done.returncode == 0, done.stderr


def test_a_late_hook_that_fails_is_logged(runrsc: Runtime) -> None:
    hooks: dict[str, Any] = {"poststart": [{"path": "/bin/false"}], "poststop": [{"path": "/bin/false"}]}
    assert runrsc.run("true", change=lambda c: c.update(hooks=hooks)).returncode == 0
    said = [json.loads(line) for line in runrsc.log.read_text().splitlines()]
    assert [line["level"] for line in said] == ["warning", "warning"]


def test_closed_descriptors(runrsc: Runtime) -> None:
    """A caller may have closed the standard ones; nothing of the state may end up in another file."""
    runrsc.config("true")
    command = f'exec "$0" -m rvisor.oci --root {runrsc.root} run --bundle {runrsc.bundle} {runrsc.name} <&- >&- 2>&-'
    env = dict(os.environ, PYTHONPATH=str(ROOT / "python"))
    done = subprocess.run(["sh", "-c", command, sys.executable], env=env, timeout=60, check=False)
    assert done.returncode == 0


def test_output_that_cannot_be_written(runrsc: Runtime) -> None:
    with Path("/dev/full").open("w") as full:
        done = runrsc("features", status=None, stdout=full)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
