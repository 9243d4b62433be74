"""What users of containerd do with `ctr`, through the shim io.containerd.runc.v2. runc is the oracle."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Containerd

SAME: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "status": ((), ["sh", "-c", "exit 7"]),
    "output": ((), ["sh", "-c", "echo out; pwd; id -u; echo $PATH"]),
    "environment": (("--env", "A=b"), ["sh", "-c", "echo $A"]),
    "directory": (("--cwd", "/tmp"), ["pwd"]),
    "read-only root": (("--read-only",), ["touch", "/x"]),
    "user": (("--user", "1000:1000"), ["id"]),
    "capabilities": (("--cap-add", "CAP_SYS_ADMIN"), ["grep", "Cap", "/proc/self/status"]),
    "seccomp": (("--seccomp",), ["grep", "Seccomp:", "/proc/self/status"]),
    "missing program": ((), ["nonesuch"]),
}


@pytest.mark.parametrize("case", SAME)
def test_as_runc(ctr: Containerd, case: str) -> None:
    runc = shutil.which("runc")
    assert runc is not None
    flags, args = SAME[case]
    said = []
    for by in (runc, ctr.runtime):
        binary = ("--runtime", "io.containerd.runc.v2", "--runc-binary", by)
        done = ctr("run", "--rm", *binary, *flags, ctr.image, "same", *args, status=None)
        said.append((done.returncode, done.stdout))
    assert said[0] == said[1]


@pytest.fixture
def task(ctr: Containerd) -> Iterator[str]:
    ctr.run("task", "sh", "-c", 'trap "exit 3" TERM; while :; do sleep 0.1; done', flags=("-d",))
    yield "task"
    ctr("task", "kill", "-s", "KILL", "task", status=None)
    ctr("task", "rm", "--force", "task", status=None)
    ctr("container", "rm", "task", status=None)


def until(ctr: Containerd, name: str, word: str) -> None:
    end = time.monotonic() + 15
    while word not in next(line for line in ctr("task", "ls").stdout.splitlines() if line.startswith(name)):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_exec(ctr: Containerd, task: str) -> None:
    assert ctr("task", "exec", "--exec-id", "e1", task, "echo", "in").stdout == "in\n"
    assert ctr("task", "exec", "--exec-id", "e2", task, "sh", "-c", "exit 9", status=9)
    assert "nonesuch" in ctr("task", "exec", "--exec-id", "e3", task, "nonesuch", status=1).stderr


def test_pause_metrics_kill(ctr: Containerd, task: str) -> None:
    until(ctr, task, "RUNNING")
    ctr("task", "pause", task)
    until(ctr, task, "PAUSED")
    ctr("task", "resume", task)
    until(ctr, task, "RUNNING")
    metrics = ctr("task", "metrics", task).stdout
    assert "memory.usage_in_bytes" in metrics or "memory" in metrics
    assert len(ctr("task", "ps", task).stdout.splitlines()) > 1
    ctr("task", "kill", task)
    until(ctr, task, "STOPPED")
    assert "exit code 3" in ctr("task", "rm", task).stderr
    assert task not in ctr("task", "ls").stdout
