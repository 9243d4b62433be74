"""Several containers served by one kernel."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from framework.bundle import Runtime


@pytest.fixture
def pod(runrsc: Runtime) -> Runtime:
    """The sandbox: a container that runs, and whose program ends only when it is killed."""
    runrsc.config("sh", "-c", "hostname; sleep 600", change=lambda c: c.update(hostname="pod"))
    runrsc.create()
    runrsc("start", runrsc.name)
    return runrsc


def member(pod: Runtime, name: str, *args: str, more: dict[str, Any] | None = None) -> str:
    """Create one more container in it, with the same root directory; its name."""
    pid = pod.state()["pid"]

    def change(config: dict[str, Any]) -> None:
        config["linux"]["cgroupsPath"] = f"{pod.group}-{name}"
        config["linux"]["namespaces"] = [
            {"type": "pid"},
            {"type": "mount"},
            {"type": "network", "path": f"/proc/{pid}/ns/net"},
            {"type": "ipc", "path": f"/proc/{pid}/ns/ipc"},
            {"type": "uts", "path": f"/proc/{pid}/ns/uts"},
        ]
        config.pop("hostname", None)
        config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
        config.update(more or {})

    pod.config(*args, change=change)
    pod.create(name, output=pod.bundle / name)
    return name


def ended(pod: Runtime, name: str) -> str:
    pod.until("stopped", name)
    return (pod.bundle / name).read_text()


def test_what_is_shared_and_what_is_not(pod: Runtime) -> None:
    script = "hostname; ls /proc | grep -c '^[0-9]'; ps | grep -c 'sleep 60[0]'; echo x > /tmp/x; kill -0 1; echo $?"
    one = member(pod, "one", "sh", "-c", script)
    assert pod.state(one)["status"] == "created"
    assert pod.state(one)["pid"] != pod.state()["pid"]
    pod("start", one)
    name, processes, sleepers, killed = [line for line in ended(pod, one).splitlines() if not line.startswith("sh:")]
    assert name == "pod"
    assert int(processes) <= 4
    assert sleepers == "0"
    assert killed == "1"
    assert pod.state()["status"] == "running"
    pod("delete", one)


def test_life(pod: Runtime) -> None:
    one = member(pod, "one", "sh", "-c", 'trap "exit 3" TERM; echo up; while :; do sleep 0.05; done')
    two = member(pod, "two", "sleep", "600")
    for name in (one, two):
        pod("start", name)
    assert "up" in pod("exec", one, "sh", "-c", "while ! ps | grep -q trap; do sleep 0.05; done; echo up").stdout
    assert pod("exec", two, "sh", "-c", "touch /tmp/f; exit 5", status=None).returncode == 5
    assert pod("exec", one, "ls", "/tmp").stdout == ""
    pod.refused("pause", one, why="cannot be paused alone")
    pod("kill", one, "TERM")
    pod.until("stopped", one)
    assert pod.state(two)["status"] == "running"
    os.kill(pod.state(two)["pid"], 9)
    pod.until("stopped", two)
    # Nothing of it is left in the sandbox either.
    end = time.monotonic() + 10
    while pod("exec", pod.name, "sh", "-c", "true", status=None).returncode != 0:
        assert time.monotonic() < end
    pod("delete", one)
    pod("delete", two)
    assert pod.state()["status"] == "running"


def test_the_end_of_the_sandbox(pod: Runtime) -> None:
    one = member(pod, "one", "sleep", "600")
    pod("start", one)
    pod("kill", pod.name, "KILL")
    pod.until("stopped", one)
    pod("delete", one)


def test_what_cannot_be_joined(pod: Runtime, tmp_path: Path) -> None:
    def config(path: str, kind: str = "ipc") -> None:
        def change(config: dict[str, Any]) -> None:
            config["linux"]["cgroupsPath"] = f"{pod.group}-no"
            config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != kind]
            config["linux"]["namespaces"].append({"type": kind, "path": path})

        pod.config("true", change=change)

    config("/proc/1/ns/ipc")
    pod.refused("create", "--bundle", str(pod.bundle), "no", why="no container of this runtime")
    config(f"/proc/{pod.state()['pid']}/ns/ipc")
    pod.refused("create", "--bundle", str(pod.bundle), "no", why="has the pod's")
    config(f"/proc/{pod.state()['pid']}/ns/pid", "pid")
    pod.refused("create", "--bundle", str(pod.bundle), "no", why="cannot join")


def test_a_program_that_is_not_there(pod: Runtime) -> None:
    with pytest.raises(AssertionError):
        member(pod, "one", "nonesuch")
    assert "nonesuch" in (pod.bundle / "one").read_text()
    assert pod.state()["status"] == "running"


def test_entered_from_outside(runrsc: Runtime, tmp_path: Path) -> None:
    """Who enters the mount namespace finds the root and the volumes; the kernel's own root stays empty."""
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "f").write_text("volume\n")
    mount = {"destination": "/v", "type": "bind", "source": str(tmp_path / "v"), "options": ["bind"]}
    runrsc.config("sleep", "600", change=lambda c: c["mounts"].append(mount))
    runrsc.create()
    pid = runrsc.state()["pid"]
    pids = [pid, *_children(pid)]
    import subprocess

    done = subprocess.run(
        ["nsenter", f"--mount=/proc/{pid}/ns/mnt", "/bin/busybox", "sh", "-c", "ls / /v; cat /v/f"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "volume\n" in done.stdout, done.stderr
    assert "bin" in done.stdout.split()
    for process in pids:
        assert os.listdir(f"/proc/{process}/root/") == [], process


def _children(pid: int) -> list[int]:
    found = [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [c for child in found for c in _children(child)]
