"""Death in any state, of the guest, of a stub, of the kernel, of the operator's command: nothing is left behind.

That nothing is left is checked after every test of this directory (conftest.py).
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from framework import host, inside

STATES = """
    blocked_read blocked_write blocked_futex blocked_nanosleep blocked_wait4 blocked_poll blocked_vfork
    vfork_child_dies executing computing calling stopped main_thread_gone exit_while_others_run
""".split()  # noqa: SIM905

BUSY = "echo ready; sleep 1000 & while :; do /bin/true; read -t 0.01 line; done"
"""A first process that forks, executes and waits without end."""


def test_as_a_child_it_ends_as_on_the_host(guest: Callable[[str], str]) -> None:
    want = inside.run([guest("death"), "child", *STATES], timeout=60)
    assert (want.status, len(want.out.splitlines())) == (0, len(STATES))
    got = inside.rvisor("run", "--timeout", "60", "--", guest("death"), "child", *STATES)
    assert (got.status, got.out, got.err) == (want.status, want.out, "")


def test_every_state_is_tried(guest: Callable[[str], str]) -> None:
    assert inside.run([guest("death")]).out.split() == STATES


@pytest.mark.parametrize("state", STATES)
def test_as_the_first_process_it_ends_the_sandbox(state: str, guest: Callable[[str], str]) -> None:
    done = inside.rvisor("run", "--timeout", "20", "--", guest("death"), state)
    assert (done.status, done.out, done.err) == (5 if state == "exit_while_others_run" else 137, "", "")


def kill(processes: list[host.Process]) -> None:
    for p in processes:
        with suppress(ProcessLookupError):
            os.kill(p.pid, signal.SIGKILL)


def parts(top: int) -> dict[str, list[host.Process]]:
    """Sentry, the stubs' init, the template, and the others (guests and warm stubs)."""
    found = host.below(top)
    [sentry] = [p for p in found if p.what == "sentry"]
    [init] = [p for p in found if p.what == "stub" and p.parent == sentry.pid]
    stubs = sorted((p for p in found if p.what == "stub" and p is not init), key=lambda p: (p.started, p.pid))
    return {"sentry": [sentry], "init": [init], "template": stubs[:1], "stubs": stubs[1:]}


@pytest.mark.parametrize(("which", "said"), [("sentry", "killed by SIGKILL"), ("init", ""), ("template", "")])
def test_the_host_kills_a_part(which: str, said: str) -> None:
    """Without these no sandbox goes on: one sentence, 125."""
    with host.sandbox("run", "--", "bash", "-c", BUSY, ready="ready") as box:
        kill(parts(box.pid)[which])
        done = host.status(box, 20)
    assert done.status == 125
    assert "the sandbox's kernel " in done.err
    assert said in done.err
    assert "Traceback" not in done.err


def test_the_host_kills_the_first_process() -> None:
    with host.sandbox("run", "--", "bash", "-c", "echo ready; sleep 1000; true", ready="ready") as box:
        assert host.until(lambda: len(parts(box.pid)["stubs"]) >= 3)
        kill(parts(box.pid)["stubs"])
        done = host.status(box, 20)
    assert (done.status, done.err) == (137, "")


def test_the_host_kills_the_warm_stubs() -> None:
    """Stubs that wait for a program: others take their place."""
    script = "trap 'echo $(echo still $(echo here)); exit 4' USR1; echo ready; while :; do :; done"
    with host.sandbox("run", "--", "bash", "-c", script, ready="ready") as box:
        # Which stub the first process got is known by its work alone: they become warm in any order.
        assert host.until(lambda: max(map(host.ticks, parts(box.pid)["stubs"]), default=0) >= 10)
        first = max(parts(box.pid)["stubs"], key=host.ticks)
        for _ in range(3):
            assert host.until(lambda: len(parts(box.pid)["stubs"]) >= 3)
            kill([p for p in parts(box.pid)["stubs"] if p.pid != first.pid])
            time.sleep(0.1)
        box.send_signal(signal.SIGUSR1)
        done = host.status(box, 20)
    assert (done.status, done.out, done.err) == (4, "still here\n", "")


@pytest.mark.parametrize("limits", [[], ["--memory", "256m", "--pids", "50", "--cpus", "1"]], ids=["plain", "limits"])
@pytest.mark.parametrize("moment", ["running", "starting"])
def test_the_command_is_killed(limits: list[str], moment: str) -> None:
    """However rvisor itself ends, its sandbox ends."""
    for tried in range(3 if moment == "running" else 12):
        if moment == "running":
            with host.sandbox("run", *limits, "--", "bash", "-c", BUSY, ready="ready") as box:
                found = host.below(box.pid)
                assert {p.what for p in found} >= {"sentry", "stub"}
                box.kill()
                assert host.until(lambda found=found: not any(p.alive() for p in found))
        else:
            with host.sandbox("run", *limits, "--", "sleep", "1000") as box:
                assert host.until(lambda box=box: host.below(box.pid), pause=0.001)
                time.sleep(tried * 0.002)
                box.kill()


@pytest.mark.parametrize("limits", [[], ["--memory", "256m", "--pids", "50"]], ids=["plain", "limits"])
def test_the_launcher_is_killed(limits: list[str]) -> None:
    hit = 0
    for tried in range(15):
        with host.sandbox("run", *limits, "--", "sleep", "0.2") as box:
            launcher: list[host.Process] = []

            def there(box: subprocess.Popen[bytes] = box, launcher: list[host.Process] = launcher) -> bool:
                launcher[:] = [p for p in map(host.look, host.children(box.pid)) if p is not None]
                return bool(launcher) or box.poll() is not None

            assert host.until(there, pause=0)
            time.sleep(tried * 0.0005)
            kill(launcher[:1])
            done = host.status(box, 20)
        assert "Traceback" not in done.err
        assert done.status in (0, 125), done
        assert (done.status == 125) == (done.err != ""), done
        hit += done.status == 125
    assert hit > 0, "the launcher was never caught at work"


def test_what_is_left_would_be_seen(tmp_path: object) -> None:
    """The check after each test can fail: a sandbox that runs, and a deserted control group, are seen."""
    before = host.state()
    with host.sandbox("run", "--memory", "256m", "--", "bash", "-c", BUSY, ready="ready"):
        left = host.left_since(before, seconds=0.2)
        assert any("(sentry)" in line for line in left)
        made = host.groups() - before.groups
        assert made
        assert not any(host.deserted(group) for group in made)
    if os.geteuid() == 0:
        group = next(iter(made)).with_name("rvisor-left-by-a-test")
        group.mkdir()
        try:
            assert f"control group {group}" in host.left_since(before, seconds=0.2)
        finally:
            group.rmdir()
