"""`rvisor run` and the SDK, against the fake launcher."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from framework.inside import ROOT, rvisor
from rvisor import BinaryMissing, GuestFailed, LaunchError, Sandbox, SentryDied, UsageError
from rvisor._sentry import find


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "python")}


def test_output_and_status() -> None:
    done = rvisor("run", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.status, done.out, done.err) == (7, "out\n", "err\n")


def test_killed_by_signal() -> None:
    assert rvisor("run", "sh", "-c", "kill -TERM $$").status == 128 + 15


def test_stdin_only_with_i() -> None:
    assert rvisor("run", "cat", stdin="hi").out == ""
    assert rvisor("run", "-i", "cat", stdin="hi").out == "hi"


def test_not_found_and_not_executable() -> None:
    done = rvisor("run", "no-such-command")
    assert done.status == 127
    assert done.err.startswith("rvisor: no-such-command")
    assert rvisor("run", "/etc/passwd").status == 126


def test_timeout() -> None:
    start = time.monotonic()
    done = rvisor("run", "--timeout", "0.3", "sleep", "30")
    assert done.status == 124
    assert done.err == "rvisor: timed out after 0.3 s: killed\n"
    assert time.monotonic() - start < 25


def test_environment() -> None:
    done = rvisor("run", "-e", "A=1", "-e", "PATH=/bin:/usr/bin", "--hostname", "box", "env")
    lines = set(done.out.splitlines())
    assert {"A=1", "HOSTNAME=box", "PATH=/bin:/usr/bin"} <= lines
    assert any(line.startswith("HOME=/") for line in lines)
    assert not any(line.startswith("PYTHONPATH") for line in lines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_arrive_once(number: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "count.py"
    script.write_text(
        "import signal, sys, time\n"
        "seen = []\n"
        f"signal.signal({int(number)}, lambda n, f: seen.append(n))\n"
        "print('ready', flush=True)\n"
        "end = time.time() + 10\n"
        "while not seen and time.time() < end: time.sleep(0.01)\n"
        "time.sleep(0.2)\n"
        "print(len(seen))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "rvisor", "run", "--", sys.executable, str(script)],
        stdout=subprocess.PIPE,
        env=environment(),
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        # To the whole group, as the terminal does it.
        os.killpg(process.pid, number)
        assert process.stdout.read() == b"1\n"
    assert process.returncode == 0


def test_terminal() -> None:
    pid, master = pty.fork()
    if pid == 0:
        # The raw pty that a sandbox's kernel gets is nobody's to wait for; this stands in for that kernel.
        script = "import os; os.set_blocking(0, True); print(os.ttyname(0), flush=True); "
        script += "os.write(1, os.read(0, 99)); os.read(0, 1)"
        command = [sys.executable, "-m", "rvisor", "run", "-it", "--", sys.executable, "-c", script]
        os.execve(sys.executable, command, environment())
    seen = b""
    while b"/dev/pts/" not in seen:
        seen += os.read(master, 100)
    os.write(master, b"hello\n")
    while b"hello" not in seen:
        seen += os.read(master, 100)
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + 15


def test_terminal_needs_a_terminal() -> None:
    done = rvisor("run", "-it", "true", stdin="")
    assert done.status == 125
    assert "need a terminal" in done.err
    assert rvisor("run", "-t", "sh", "-c", "test -t 1 && echo tty").out.strip() == "tty"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["run"], "no command was given"),
        (["run", "--bogus", "ls"], "--bogus"),
        (["run", "--memory", "much", "ls"], "--memory"),
        (["run", "-v", "/nowhere:/x", "ls"], "No such file"),
        (["run", "--rootfs", "/nowhere", "ls"], "--rootfs"),
        (["run", "--kernel", "none", "ls"], "--kernel"),
        (["run", "--network", "bridge", "ls"], "--network"),
        (["run", "--strace=/nowhere/x", "ls"], "--strace"),
        (["run", "-w", "rel", "ls"], "-w"),
        (["run", "echo", "\udcff"], "UTF-8"),
    ],
)
def test_bad_input_is_one_clear_sentence(arguments: list[str], text: str) -> None:
    done = rvisor(*arguments)
    assert done.status == 125
    assert text in done.err
    assert done.err.startswith("rvisor: ")
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) <= 2


def test_many_arguments() -> None:
    result = Sandbox().run(["/bin/true", *["x"] * 100_000])
    assert result.status == 0


def test_closed_standard_descriptors() -> None:
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m rvisor run -- sh -c 'exit 5' <&- >&- 2>&-"],
        env=environment(),
        check=False,
    )
    assert done.returncode == 5


def test_broken_pipe() -> None:
    line = f"{sys.executable} -m rvisor syscalls | true"
    done = subprocess.run(["sh", "-c", line], env=environment(), capture_output=True, check=False)
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("launcher-fails", "the launcher ended with status 3"),
        ("sentry-dies", "was killed by SIGKILL before its program did"),
        ("nonsense", "sent a message that is none"),
    ],
)
def test_faults(mode: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RVISOR_FAKE", mode)
    done = rvisor("run", "true")
    assert done.status == 125
    assert text in done.err
    assert "Traceback" not in done.err


def test_the_launchers_own_message_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RVISOR_FAKE", "launcher-says")
    done = rvisor("run", "true")
    assert (done.status, done.err) == (125, "rvisor-launch: no luck\n")
    with pytest.raises(LaunchError, match="no luck"):
        Sandbox().run(["true"], capture=True)


def test_missing_and_broken_binaries(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fake / find.LAUNCHER).write_text("#!/nowhere\n")
    assert "cannot execute the launcher" in rvisor("run", "true").err
    monkeypatch.setenv("RVISOR_BIN_DIR", "/nowhere")
    done = rvisor("run", "true")
    assert done.status == 125
    assert "make build" in done.err
    with pytest.raises(BinaryMissing):
        Sandbox().run(["true"])


def test_strace_and_log_files(tmp_path: Path) -> None:
    done = rvisor("run", f"--strace={tmp_path}/calls", "--debug-log", f"{tmp_path}/logs", "true")
    assert done.status == 0
    assert (tmp_path / "calls").is_file()
    assert len(list((tmp_path / "logs").iterdir())) == 1


class TestSandbox:
    def test_capture(self) -> None:
        with Sandbox() as box:
            result = box.run(["sh", "-c", "cat; echo err >&2; exit 3"], capture=True, input=b"in")
        assert (result.status, result.stdout, result.stderr) == (3, b"in", b"err\n")

    def test_large_output(self) -> None:
        result = Sandbox().run(["sh", "-c", "head -c 3000000 /dev/zero; head -c 2000000 /dev/zero >&2"], capture=True)
        assert (len(result.stdout), len(result.stderr)) == (3_000_000, 2_000_000)

    def test_check(self) -> None:
        with pytest.raises(GuestFailed, match="status 9"):
            Sandbox().run(["sh", "-c", "exit 9"], check=True)

    def test_errors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(LaunchError):
            Sandbox().run(["no-such-command"])
        with pytest.raises(UsageError):
            Sandbox().run([])
        monkeypatch.setenv("RVISOR_FAKE", "sentry-dies")
        with pytest.raises(SentryDied):
            Sandbox().run(["true"])

    def test_leaks_no_descriptor_and_no_child(self) -> None:
        box = Sandbox()
        box.run(["true"], capture=True)
        before = sorted(os.listdir("/proc/self/fd"))
        for _ in range(3):
            box.run(["true"], capture=True, input=b"x")
            box.run(["sleep", "9"], timeout=0.1)
        assert sorted(os.listdir("/proc/self/fd")) == before
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)

    def test_timeout(self) -> None:
        result = Sandbox().run(["sleep", "30"], timeout=0.2, capture=True)
        assert (result.status, result.timed_out) == (124, True)
