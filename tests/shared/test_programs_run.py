"""`rvisor run --kernel=shared`: what a user does with any kernel works with this one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from framework import inside
from framework.shared import run, running

pytestmark = pytest.mark.timeout(120)


def test_exit_codes() -> None:
    assert run("--", "sh", "-c", "exit 7").status == 7
    assert run("--", "sh", "-c", "sh -c 'kill -9 $$'; exit $?").status == 137
    missing = run("--", "no-such-program")
    assert (missing.status, "not found" in missing.err) == (127, True)
    denied = run("--", "/etc/passwd")
    assert (denied.status, "permission denied" in denied.err) == (126, True)


def test_timeout_kills() -> None:
    done = run("--timeout", "0.5", "--", "sleep", "100")
    assert done.status == 124 and "timed out" in done.err


def test_streams_and_names() -> None:
    done = run("-i", "--hostname", "box", "--", "sh", "-c", "cat; hostname; echo oops >&2; echo $$", stdin="hello\n")
    assert (done.status, done.out, done.err) == (0, "hello\nbox\n1\n", "oops\n")


def test_who_and_where() -> None:
    done = run("-u", "65534:65534", "-w", "/tmp", "-e", "A=b", "--", "sh", "-c", "id -u; id -g; pwd; echo $A; id -G")
    assert done.out.split() == ["65534", "65534", "/tmp", "b", "65534"]
    bare = run("-u", "65534", "--", "grep", "-E", "Cap(Eff|Prm|Inh|Amb)", "/proc/self/status")
    assert all(line.endswith("0" * 16) for line in bare.out.splitlines())


def test_changes_are_gone(tmp_path: Path) -> None:
    name = f"/rvisor-shared-{os.getpid()}"
    assert run("--", "sh", "-c", f"echo x > {name} && cat {name}").out == "x\n"
    assert not os.path.exists(name)


def test_volumes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_text("read me\n")
    (tmp_path / "out").mkdir()
    script = "cat /in/file; echo written > /out/new; echo no > /in/file"
    done = run("-v", f"{tmp_path}/in:/in:ro", "-v", f"{tmp_path}/out:/out", "--", "sh", "-c", script)
    assert done.out == "read me\n" and "Read-only" in done.err
    assert (tmp_path / "out" / "new").read_text() == "written\n"


def test_overlay_directory(tmp_path: Path) -> None:
    assert run("--overlay", str(tmp_path), "--", "sh", "-c", "echo kept > /kept").status == 0
    assert run("--overlay", str(tmp_path), "--", "cat", "/kept").out == "kept\n"


def test_nothing_of_the_host_is_there() -> None:
    script = "ls /proc | grep -c '^[0-9]'; ls /proc/self/fd | tr '\\n' ' '; echo; ip -o link 2>/dev/null | wc -l"
    done = run("--", "sh", "-c", script)
    lines = done.out.splitlines()
    # The shell, ls and grep; the descriptor of the directory that ls itself opens.
    assert int(lines[0]) <= 3 and lines[1].split() == ["0", "1", "2", "3"] and int(lines[2]) <= 1


def test_limits() -> None:
    done = run("--memory", "64m", "--", "python3", "-c", "x = bytearray(256 << 20)")
    assert done.status == 137 and "out of memory" in done.err
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done; wait"
    done = run("--pids", "8", "--", "sh", "-c", script)
    assert "fork" in done.err.lower()


def test_terminal() -> None:
    import pty

    pid, master = pty.fork()
    if pid == 0:
        env = {**os.environ, "PYTHONPATH": str(inside.ROOT / "python")}
        argv = ["python3", "-m", "rvisor", "run", "--kernel=shared", "-it", "--", "sh", "-c"]
        os.execvpe("python3", [*argv, "test -t 0 && tty; read x; echo got $x; exit 3"], env)
    time.sleep(1.5)
    os.write(master, b"typed\n")
    seen = b""
    while True:
        try:
            data = os.read(master, 4096)
        except OSError:
            break
        seen += data
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    assert b"got typed" in seen


def test_the_caller_s_end_is_the_container_s() -> None:
    """And that of its control groups."""
    mark = f"4242{os.getpid()}"

    def left() -> bool:
        groups = any(f"rvisor-{mark}" in names for _, names, _ in os.walk("/sys/fs/cgroup"))
        return groups or inside.run(["pgrep", "-f", f"sleep {mark}"]).status == 0

    def until(there: Callable[[], bool]) -> bool:
        end = time.monotonic() + 10
        while not there() and time.monotonic() < end:
            time.sleep(0.05)
        return there()

    with running("--name", mark, "--", "sleep", mark) as process:
        assert until(left)
        process.kill()
        process.wait()
        assert until(lambda: not left())


@pytest.mark.parametrize("option", [("--strace",), ("--debug-log", "/tmp/x")])
def test_what_it_has_not_is_refused(option: tuple[str, ...]) -> None:
    done = run(*option, "--", "true")
    assert done.status == 125 and option[0] in done.err


def test_the_launcher_cannot_be_overwritten() -> None:
    """An image whose program is /proc/self/exe would be handed the launcher: the copy is sealed, the file unchanged."""
    from rvisor._sentry import find

    launcher = Path(find.find(find.LAUNCHER))
    before = launcher.read_bytes()
    script = "ln -s /proc/self/exe /run-me; exec 3>>/proc/1/exe; echo $?"
    run("--", "sh", "-c", script)
    done = run("--", "/proc/self/exe")
    assert done.status != 0
    assert launcher.read_bytes() == before
