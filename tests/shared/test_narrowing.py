"""`rvisor vkernel update` with a narrower filter, or narrower file rules, for a container that runs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framework import inside
from framework.bundle import Runtime
from framework.compile import static
from framework.shared import running

pytestmark = pytest.mark.timeout(120)

OPEN = "[syscalls]\ndefault = 'allow'\n"
NO_MKDIR = OPEN + "[[syscalls.rule]]\nnames = ['mkdir', 'mkdirat']\naction = 'errno'\n"


def write(tmp_path: Path, name: str, text: str) -> str:
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


@pytest.fixture(scope="session")
def waiting() -> Path:
    return static(Path(__file__).parent / "guests" / "waiting.c")


@pytest.fixture(scope="session")
def forking() -> Path:
    return static(Path(__file__).parent / "guests" / "forking.c")


@contextlib.contextmanager
def talking(name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with running("-i", "--name", name, *arguments, stdin=True) as process:
        yield process


def lines(process: subprocess.Popen[bytes], count: int) -> list[str]:
    assert process.stdout is not None
    return sorted(process.stdout.readline().decode().rstrip("\n") for _ in range(count))


def tell(process: subprocess.Popen[bytes], text: bytes = b"go\n") -> None:
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.flush()


NAMES = (
    *("read", "nanosleep", "futex", "futex-for", "poll", "pselect", "epoll", "semop", "sigwait"),
    *("child", "computing", "main", "new"),
)


def test_every_thread_and_process(tmp_path: Path, waiting: Path) -> None:
    """What they wait for comes, whole and at its time; each is behind the new filter and the new file rules."""
    (tmp_path / "secret").write_text("SECRET\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "waiting").write_bytes(waiting.read_bytes())
    (tmp_path / "bin" / "waiting").chmod(0o755)
    more = ("-v", f"{tmp_path}/secret:/secret", "-v", f"{tmp_path}/bin:/b", "--profile", write(tmp_path, "a", OPEN))
    with talking("many", *more, "--", "/b/waiting", "/secret") as process:
        assert process.stdout is not None and process.stdout.readline() == b"waiting\n"
        new = NO_MKDIR + "[[files.rule]]\npaths = ['/secret']\nallow = ''\n"
        done = inside.rvisor("vkernel", "update", "many", write(tmp_path, "b", new))
        assert (done.status, done.out) == (0, "file_rules\nfilter\n"), done
        later = inside.rvisor(
            "exec", "many", "sh", "-c", "mkdir /tmp/narrowing-x; cat /secret; grep Seccomp_f /proc/self/status"
        )
        assert "Operation not permitted" in later.err and "Permission denied" in later.err, later
        tell(process)
        assert lines(process, len(NAMES)) == sorted(f"{name} right 1 13" for name in NAMES)
        assert process.wait(timeout=20) == 0


def test_again_and_again(tmp_path: Path, waiting: Path) -> None:
    """Updates of one container, each narrower; none disturbs what waits."""
    calls = ["mkdir", "mkdirat", "rmdir", "link"]
    (tmp_path / "waiting").write_bytes(waiting.read_bytes())
    (tmp_path / "waiting").chmod(0o755)
    more = ("-v", f"{tmp_path}:/b", "--profile", write(tmp_path, "a", OPEN))
    with talking("again", *more, "--", "/b/waiting") as process:
        assert process.stdout is not None and process.stdout.readline() == b"waiting\n"
        for number in range(1, len(calls) + 1):
            text = OPEN + f"[[syscalls.rule]]\nnames = {calls[:number]}\naction = 'errno'\n"
            done = inside.rvisor("vkernel", "update", "again", write(tmp_path, "b", text))
            assert (done.status, done.out) == (0, "filter\n"), done
        assert inside.rvisor("vkernel", "update", "again", write(tmp_path, "b", text)).out == "nothing to change\n"
        tell(process)
        assert lines(process, len(NAMES)) == sorted(f"{name} right 1 0" for name in NAMES)


def test_what_is_wider_is_refused_by_name(tmp_path: Path) -> None:
    for name in ("open", "shut"):
        (tmp_path / name).write_text("text\n")
    rules = "[[files.rule]]\npaths = ['/d/shut']\nallow = 'r'\n"
    more = ("-v", f"{tmp_path}:/d", "--profile", write(tmp_path, "a", NO_MKDIR + rules))
    with running("--name", "wide", *more, "--", "sleep", "100"):
        for text, said in (
            (OPEN + rules, "mkdir: errno EPERM now, would be allow: a running filter can only be narrowed"),
            (NO_MKDIR, "/d/shut: r-- now, would be rwx"),
            (NO_MKDIR + rules.replace("'r'", "'rw'"), "/d/shut: r-- now, would be rw-"),
            (NO_MKDIR + rules + "[[files.rule]]\npaths = ['/d/none']\nallow = ''\n", "/d/none"),
            (NO_MKDIR + rules + "[[files.rule]]\npaths = ['/proc/version']\nallow = ''\n", "/proc"),
        ):
            done = inside.rvisor("vkernel", "update", "wide", write(tmp_path, "b", text))
            assert done.status != 0 and said in done.err and "nothing was changed" in done.err, done
        # What is for a directory and what is in it, by each name of a file.
        os.link(tmp_path / "open", tmp_path / "other")
        text = NO_MKDIR + rules.replace("'r'", "''") + "[[files.rule]]\npaths = ['/d/open']\ndeny = 'w'\n"
        done = inside.rvisor("vkernel", "update", "wide", write(tmp_path, "b", text))
        assert (done.status, done.out) == (0, "file_rules\n"), done
        script = "cat /d/shut; echo x >> /d/open; echo x >> /d/other; cat /d/open; echo x >> /d/a && echo kept"
        later = inside.rvisor("exec", "wide", "sh", "-c", script)
        assert later.err.count("Permission denied") == 3 and later.out == "text\nkept\n", later


def test_settings_and_a_refusal(tmp_path: Path) -> None:
    """All or nothing: what came before the refused part is as it was, for later programs too."""
    view = "[sysctl]\n'vm.overcommit_ratio' = '{}'\n[cpu]\nnice = {}\n"
    more = ("--profile", write(tmp_path, "a", OPEN + view.format(31, 3)))
    with running("--name", "whole", *more, "--", "sh", "-c", "strace -o /dev/null sleep 100") as process:
        end = time.monotonic() + 20
        while "strace" not in inside.rvisor("top", "whole").out or "sleep" not in inside.rvisor("top", "whole").out:
            assert time.monotonic() < end
            time.sleep(0.1)
        done = inside.rvisor("vkernel", "update", "whole", write(tmp_path, "b", NO_MKDIR + view.format(77, 7)))
        assert done.status != 0 and "(sleep) cannot be stopped: another process traces it" in done.err, done
        script = "cat /proc/sys/vm/overcommit_ratio; nice; mkdir /tmp/narrowing-x && echo made"
        later = inside.rvisor("exec", "whole", "sh", "-c", script)
        assert later.out.split() == ["31", "0", "made"], later
        assert os.getpriority(os.PRIO_PROCESS, _pid("whole")) == 3
        assert process.poll() is None


def _pid(name: str) -> int:
    from rvisor import vkernel

    return vkernel.live_pid(vkernel.find(name)[0])


@pytest.mark.parametrize("kind", ["bomb", "chain", "vfork", "threads"])
def test_none_escapes(tmp_path: Path, forking: Path, kind: str) -> None:
    """While they are made as fast as can be: a tree, a chain of which each ends, children of vfork, threads."""
    (tmp_path / "forking").write_bytes(forking.read_bytes())
    (tmp_path / "forking").chmod(0o755)
    more = ("-v", f"{tmp_path}:/b", "--pids", "100", "--profile", write(tmp_path, "a", OPEN))
    with running("--name", "bomb", *more, "--", "/b/forking", kind):
        time.sleep(0.2)
        done = inside.rvisor("vkernel", "update", "bomb", write(tmp_path, "b", NO_MKDIR))
        assert (done.status, done.out) == (0, "filter\n"), done
        # Each says by a file's name that it could still make a directory.
        (tmp_path / "from-now").write_text("")
        end = time.monotonic() + 20
        while not list(tmp_path.glob("alive*")):
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(0.3)
        assert not (tmp_path / "made").exists()


def test_who_has_put_too_much_on_itself(tmp_path: Path, forking: Path) -> None:
    """A process whose filters are as many as Linux takes cannot take another: it is ended, and that is said."""
    (tmp_path / "forking").write_bytes(forking.read_bytes())
    (tmp_path / "forking").chmod(0o755)
    more = ("-v", f"{tmp_path}:/b", "--profile", write(tmp_path, "a", OPEN))
    with running("--name", "full", *more, "--", "sh", "-c", "/b/forking full; echo ended $?; sleep 100") as process:
        end = time.monotonic() + 20
        while not (tmp_path / "alive-full").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        done = inside.rvisor("vkernel", "update", "full", write(tmp_path, "b", NO_MKDIR))
        assert done.status == 0 and "ended, as it took no more: process" in done.out and "ENOMEM" in done.out, done
        assert process.stdout is not None and process.stdout.readline() == b"ended 137\n"
        assert inside.rvisor("exec", "full", "mkdir", "/tmp/narrowing-x").status != 0


def test_a_container_of_runrsc(tmp_path: Path, runrsc: Runtime) -> None:
    """From its start on, with what exec brings in later; while it may gain rights by exec Linux does not let it."""
    first, second = write(tmp_path, "a", OPEN), write(tmp_path, "b", NO_MKDIR)
    runrsc.common = ("--kernel=shared", f"--profile={first}")
    runrsc.config("sh", "-c", "sleep 100 & wait")
    runrsc.create()
    early = inside.rvisor("vkernel", "update", runrsc.name, second)
    assert early.status != 0 and "has not begun" in early.err, early
    runrsc("start", runrsc.name)
    assert inside.rvisor("vkernel", "update", runrsc.name, second).out == "filter\n"
    done = runrsc("exec", runrsc.name, "mkdir", "/tmp/new", status=None)
    assert done.returncode != 0 and "not permitted" in done.stderr, done
    runrsc("delete", "--force", runrsc.name)

    def gains(config: dict[str, Any]) -> None:
        config["process"]["noNewPrivileges"] = False

    runrsc.config("sleep", "100", change=gains)
    runrsc.create()
    runrsc("start", runrsc.name)
    done = inside.rvisor("vkernel", "update", runrsc.name, second)
    assert done.status != 0 and "(sleep) may gain rights by exec" in done.err, done
    # It goes on, and nothing holds it.
    assert "TracerPid:\t0\n" in Path(f"/proc/{_pid(runrsc.name)}/status").read_text()
    assert runrsc("exec", runrsc.name, "mkdir", "/dev/shm/new").returncode == 0
