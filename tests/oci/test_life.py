"""Every command on a bundle of its own: what it does, and how it refuses."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from framework.bundle import GROUPS, ROOT, Runtime

PR_SET_CHILD_SUBREAPER = 36


def test_run_has_the_status(runrsc: Runtime) -> None:
    done = runrsc.run("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert runrsc.left() == []


def test_life(runrsc: Runtime) -> None:
    runrsc.config("sh", "-c", "echo began; sleep 100")
    runrsc.create("", "--pid-file", str(runrsc.bundle / "pid"))
    created = runrsc.state()
    assert created["status"] == "created"
    assert created["pid"] == int((runrsc.bundle / "pid").read_text())
    assert created["bundle"] == str(runrsc.bundle)
    time.sleep(0.2)
    assert runrsc.output() == ""
    for group in GROUPS.glob(f"*{runrsc.group}"):
        assert str(created["pid"]) in (group / "cgroup.procs").read_text().split()
    runrsc("start", runrsc.name)
    runrsc.until("running")
    assert created["pid"] in json.loads(runrsc("ps", "--format", "json", runrsc.name).stdout)
    assert [row["id"] for row in json.loads(runrsc("list", "--format", "json").stdout)] == [runrsc.name]
    runrsc.refused("start", runrsc.name, why="cannot start an already running container")
    runrsc.refused("delete", runrsc.name, why="that is not stopped: running")
    runrsc.refused("create", "--bundle", str(runrsc.bundle), runrsc.name, why="container with id exists")
    stats = json.loads(runrsc("events", "--stats", runrsc.name).stdout)
    assert stats["data"]["memory"]["usage"]["usage"] > 0
    assert stats["data"]["pids"]["current"] > 0
    runrsc("kill", runrsc.name, "KILL")
    runrsc.until("stopped")
    assert runrsc.output() == "began\n"
    runrsc.refused("kill", runrsc.name, "TERM", why="container not running")
    runrsc("kill", "--all", runrsc.name, "KILL")
    runrsc.refused("start", runrsc.name, why="cannot start a container that has stopped")
    runrsc("delete", runrsc.name)
    assert runrsc.left() == []
    runrsc.refused("state", runrsc.name, why="container does not exist")
    runrsc.refused("delete", runrsc.name, why="container does not exist")
    runrsc("delete", "--force", runrsc.name)


def test_signals_reach_the_program(runrsc: Runtime) -> None:
    runrsc.config("sh", "-c", 'trap "echo got; exit 3" TERM; echo ready; while true; do sleep 0.05; done')
    runrsc.create()
    runrsc("start", runrsc.name)
    end = time.monotonic() + 20
    while runrsc.output() == "" and time.monotonic() < end:
        time.sleep(0.02)
    runrsc("kill", runrsc.name, "15")
    runrsc.until("stopped")
    assert runrsc.output() == "ready\ngot\n"


def test_the_pid_is_a_child_with_the_programs_status(runrsc: Runtime) -> None:
    """As containerd's shim and conmon do it: a subreaper that waits for the pid in the file."""
    runrsc.config("sh", "-c", "exit 9")
    script = f"""
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl({PR_SET_CHILD_SUBREAPER}, 1)
base = [sys.executable, "-m", "rvisor.oci", "--root", {str(runrsc.root)!r}]
subprocess.run([*base, "create", "--bundle", {str(runrsc.bundle)!r}, "--pid-file", "pid", {runrsc.name!r}], check=True)
subprocess.run([*base, "start", {runrsc.name!r}], check=True)
print(os.waitstatus_to_exitcode(os.waitpid(int(open("pid").read()), 0)[1]))
"""
    env = dict(os.environ, PYTHONPATH=str(ROOT / "python"))
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=env,
        cwd=runrsc.bundle,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "9\n", done.stderr


def test_programs_end_before_the_container(runrsc: Runtime) -> None:
    """Whoever waits for both sees them in this order, as with a pid namespace; containerd loses an exec that ends later."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        runrsc.config("sh", "-c", "trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done")
        runrsc.create()
        runrsc("start", runrsc.name)
        pid, programs = runrsc.state()["pid"], []
        for number in range(3):
            path, null = runrsc.bundle / f"pid-{number}", subprocess.DEVNULL
            flags = ("--detach", "--pid-file", str(path))
            runrsc("exec", *flags, runrsc.name, "sleep", "100", stdout=null, stderr=null)
            programs.append(int(path.read_text()))
        runrsc("kill", runrsc.name, "USR1")
        assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT) is not None
        ended = [os.waitpid(program, os.WNOHANG) for program in programs]
        assert [os.waitstatus_to_exitcode(status) for _, status in ended] == [137] * 3
        assert [program for program, _ in ended] == programs
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def test_pause(runrsc: Runtime) -> None:
    runrsc.config("sh", "-c", "while true; do echo x; sleep 0.02; done")
    runrsc.create()
    runrsc("start", runrsc.name)
    runrsc.refused("resume", runrsc.name, why="container not paused")
    runrsc("pause", runrsc.name)
    assert runrsc.state()["status"] == "paused"
    length = len(runrsc.output())
    time.sleep(0.3)
    assert len(runrsc.output()) == length
    runrsc.refused("pause", runrsc.name, why="paused")
    runrsc("resume", runrsc.name)
    assert runrsc.state()["status"] == "running"
    runrsc("pause", runrsc.name)
    runrsc("delete", "--force", runrsc.name)
    assert runrsc.left() == []


def test_update(runrsc: Runtime) -> None:
    """The host's limits and the kernel's own: at once, and those of a paused one when it goes on."""

    def limits(config: dict[str, Any]) -> None:
        config["linux"]["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 20}}

    runrsc.config("sleep", "100", change=limits)
    runrsc.create()
    runrsc("update", "--memory", str(96 << 20), "--pids-limit", "30", runrsc.name)
    values = [p.read_text().strip() for p in GROUPS.glob(f"*{runrsc.group}/memory.limit_in_bytes")]
    values += [p.read_text().strip() for p in GROUPS.glob(f"*{runrsc.group}/pids.max")]
    assert values == [str(96 << 20), "62"]
    seen = "grep MemTotal /proc/meminfo; cat /sys/fs/cgroup/pids.max"
    assert runrsc("exec", runrsc.name, "sh", "-c", seen).stdout.split()[1::2] == [str(96 << 10), "30"]
    runrsc("pause", runrsc.name)
    runrsc("update", "--pids-limit", "2000", runrsc.name)
    runrsc("resume", runrsc.name)
    assert runrsc("exec", runrsc.name, "cat", "/sys/fs/cgroup/pids.max").stdout == "1968\n"
    assert [p.read_text() for p in GROUPS.glob(f"*{runrsc.group}/pids.max")] == ["2000\n"]
    stats = json.loads(runrsc("events", "--stats", runrsc.name).stdout)
    assert stats["data"]["pids"]["limit"] == 2000
    asked = {"resources": {}, "memory": {"limit": 80 << 20}}
    runrsc("update", "--resources", "-", runrsc.name, stdin=None, input=json.dumps(asked))
    runrsc.refused("update", "--memory", "1", runrsc.name, why="too small")


def test_console(runrsc: Runtime) -> None:
    def terminal(config: dict[str, Any]) -> None:
        config["process"].update(terminal=True, consoleSize={"height": 33, "width": 99})

    runrsc.config("sh", "-c", "tty; stty size; read x; echo got $x", change=terminal)
    runrsc.refused("create", "--bundle", str(runrsc.bundle), runrsc.name, why="console socket")
    master = runrsc.create_with_terminal()
    runrsc("start", runrsc.name)
    os.write(master, b"word\n")
    seen = b""
    try:
        while piece := os.read(master, 1000):
            seen += piece
    except OSError:
        pass
    os.close(master)
    # The echo may come between them.
    assert b"/dev/pts/0\r\n" in seen
    assert b"33 99\r\n" in seen
    assert b"got word\r\n" in seen


@pytest.mark.parametrize("detached", [False, True])
def test_exec(runrsc: Runtime, detached: bool) -> None:
    runrsc.config("sleep", "100")
    runrsc.create()
    runrsc("start", runrsc.name)
    if not detached:
        done = runrsc(
            "exec",
            "--env",
            "A=b",
            "--cwd",
            "/tmp",
            "--user",
            "5:6",
            runrsc.name,
            "sh",
            "-c",
            "echo $A; pwd; id -u; exit 4",
            status=4,
        )
        assert done.stdout == "b\n/tmp\n5\n"
        runrsc("exec", runrsc.name, "nothing-there", status=127)
        return
    process = {
        "args": ["sh", "-c", "echo here; exit 6"],
        "cwd": "/",
        "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0},
    }
    (runrsc.bundle / "process").write_text(json.dumps(process))
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        with (runrsc.bundle / "exec-out").open("wb") as out:
            runrsc(
                "exec",
                "--process",
                str(runrsc.bundle / "process"),
                "--detach",
                "--pid-file",
                str(runrsc.bundle / "pid"),
                runrsc.name,
                stdout=out,
                stderr=out,
            )
        pid = int((runrsc.bundle / "pid").read_text())
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 6
    finally:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0)
    assert (runrsc.bundle / "exec-out").read_text() == "here\n"


@pytest.mark.parametrize(
    "program, status, why",
    [("nothing-there", 1, "executable file not found in $PATH"), ("/etc", 1, "permission denied")],
)
def test_a_program_that_cannot_run(runrsc: Runtime, program: str, status: int, why: str) -> None:
    runrsc.config(program)
    runrsc.refused(
        "create", "--bundle", str(runrsc.bundle), "--pid-file", str(runrsc.bundle / "pid"), runrsc.name, why=why
    )
    assert runrsc.left() == []
    assert not (runrsc.bundle / "pid").exists()


@pytest.mark.parametrize(
    "text, why",
    [
        (None, "no such file or directory"),
        ("{", "not valid JSON"),
        ("[]", "not an object"),
        ('{"ociVersion": "2.0"}', "ociVersion"),
        ('{"ociVersion": "1.0.2"}', "root.path"),
        ('{"ociVersion": "1.0.2", "root": {"path": "nowhere"}}', "is not a directory"),
        ('{"ociVersion": "1.0.2", "root": {"path": 7}}', "root.path: not a string"),
    ],
)
def test_bad_bundles(runrsc: Runtime, text: str | None, why: str) -> None:
    if text is not None:
        (runrsc.bundle / "config.json").write_text(text)
    runrsc.refused("create", "--bundle", str(runrsc.bundle), runrsc.name, why=why)
    assert runrsc.left() == []


def test_bad_calls(runrsc: Runtime) -> None:
    for args, why in [
        (("state",), "container id"),
        (("state", "../x"), "invalid container ID"),
        (("create", "--what", "x"), "no flag"),
        (("nonsense",), "no command"),
        (("checkpoint", "x"), "cannot be checkpointed"),
        (("create", "--preserve-fds", "1", "x"), "descriptors"),
        (("kill", "x", "KILL"), "container does not exist"),
    ]:
        runrsc.refused(*args, why=why)


def test_create_that_is_killed_leaves_nothing_running(runrsc: Runtime) -> None:
    """Killed inside a hook: what was made goes with `delete --force`, and no process is left by itself."""

    def hook(config: dict[str, Any]) -> None:
        config["hooks"] = {"prestart": [{"path": "/bin/sleep", "args": ["sleep", "30"]}]}

    runrsc.config("sleep", "100", change=hook)
    env = dict(os.environ, PYTHONPATH=str(ROOT / "python"))
    base = [sys.executable, "-m", "rvisor.oci", "--root", str(runrsc.root)]
    creating = subprocess.Popen([*base, "create", "--bundle", str(runrsc.bundle), runrsc.name], env=env)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        done = runrsc("state", runrsc.name, status=None)
        if done.returncode == 0 and json.loads(done.stdout)["pid"]:
            break
        time.sleep(0.05)
    creating.send_signal(signal.SIGKILL)
    creating.wait(timeout=10)
    runrsc.until("stopped")
    runrsc("delete", "--force", runrsc.name)
    assert runrsc.left() == []


def test_state_is_quick(runrsc: Runtime) -> None:
    """The interpreter's own start is not ours."""

    def median(args: list[str]) -> float:
        times = []
        for _ in range(7):
            began = time.monotonic()
            subprocess.run(args, env=env, stdout=subprocess.DEVNULL, check=True, timeout=20)
            times.append(time.monotonic() - began)
        return min(times)

    runrsc.config("sleep", "100")
    runrsc.create()
    env = dict(os.environ, PYTHONPATH=str(ROOT / "python"))
    base = [sys.executable, "-S"]
    state = [*base, "-m", "rvisor.oci", "--root", str(runrsc.root), "state", runrsc.name]
    assert median(state) - median([*base, "-c", "pass"]) < 0.060 * max(1.0, os.getloadavg()[0])


def test_a_group_that_others_are_just_making(runrsc: Runtime) -> None:
    """Two creates make Docker's group at the same time: one finds a cpuset that has no CPUs yet."""
    cpuset = next((path for path in GROUPS.glob("*cpuset*") if (path / "cpuset.cpus").exists()), None)
    if cpuset is None:
        pytest.skip("version 1 only")
    top = f"{runrsc.name}-top"
    (cpuset / top).mkdir()
    try:
        assert (cpuset / top / "cpuset.cpus").read_text() == "\n"
        done = runrsc.run("echo", "yes", change=lambda c: c["linux"].update(cgroupsPath=f"/{top}/x"))
        assert done.stdout == "yes\n", done
    finally:
        runrsc("delete", "--force", runrsc.name, status=None)
        for path in GROUPS.glob(f"*/{top}"):
            path.rmdir()


def test_fifty_at_once(runrsc: Runtime) -> None:
    """Created and started beside each other, however busy the machine is: all of them run."""
    if os.environ.get("RVISOR_LONG") is None:
        pytest.skip("RVISOR_LONG=1 runs it")
    # Groups of their own, by their names.
    runrsc.config("sleep", "1000", change=lambda c: c["linux"].pop("cgroupsPath"))
    names = [f"{runrsc.name}-{number}" for number in range(50)]

    def start(name: str) -> None:
        runrsc.create(name, output=runrsc.bundle / name, timeout=280)
        runrsc("start", name, timeout=280)

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(start, names))
    listed = json.loads(runrsc("list", "--format", "json", timeout=100).stdout)
    assert sorted(entry["id"] for entry in listed if entry["status"] == "running") == sorted(names)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: runrsc("delete", "--force", name, timeout=100), names))
    assert runrsc.left() == []
