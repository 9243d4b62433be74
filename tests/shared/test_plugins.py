"""Plug-in rows: system calls that Python functions outside of the container serve."""

from __future__ import annotations

import contextlib
import os
import signal
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework import inside
from framework.bundle import Runtime
from framework.compile import static
from framework.shared import monitors, run, running

pytestmark = pytest.mark.timeout(120)

FUNCTIONS = '''
import errno, os, struct, time

def square(call):
    return call.args[0] ** 2

def describe(call):
    """Reads a text, writes a structure."""
    text = call.string(call.args[0])
    call.write(call.args[1], struct.pack("<3s5s", b"is:", text.upper().encode()[:5]))
    return len(text)

def pid(call):
    return call.pid

def denied(call):
    raise OSError(errno.EOVERFLOW, "too much")

def raises(call):
    raise ValueError("what was not thought of")

def hangs(call):
    time.sleep(1000)

def ends(call):
    os._exit(7)

def nonsense(call):
    return {"no": "number"}

def negative(call):
    return -1

def far(call):
    return len(call.read(call.args[0], 1 << 20))

def rights(call):
    with open("/proc/self/status") as file:
        found = {line.partition(":")[0]: line.partition(":")[2].strip() for line in file}
    call.write(call.args[0], f"{found['CapPrm']} {found['CapBnd']} {found['NoNewPrivs']} {found['Seccomp']}".encode())
    try:
        os.mkdir("/sys/fs/cgroup/rvisor-not-made")
    except OSError:
        return 0
    return 1
'''
NAMES = (*("square", "describe", "pid", "denied", "raises", "hangs", "ends", "nonsense", "negative", "far", "rights"),)
FIRST = 400


@pytest.fixture(scope="session")
def plugged() -> Path:
    return static(Path(__file__).parent / "guests" / "plugged.c")


def rule(number: int | str, function: str, more: str = "") -> str:
    name = number if isinstance(number, str) else f"syscall_{number}"
    return f'[[syscalls.rule]]\nnames = ["{name}"]\naction = "plugin"\nplugin = "functions:{function}"\n{more}\n'


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """Every function, from call 400 on."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    path = tmp_path / "plugged.toml"
    rules = "".join(rule(FIRST + n, name) for n, name in enumerate(NAMES))
    path.write_text(f'[syscalls]\ndefault = "allow"\n{rules}')
    return path


@contextlib.contextmanager
def container(profile: Path, plugged: Path) -> Iterator[str]:
    """One that others are started in: that costs less than one for each call."""
    with running("--name", "plugged", "--profile", str(profile), "-v", f"{plugged}:/p:ro", "--", "sleep", "100"):
        yield "plugged"


def call(name: str, *words: str | int) -> str:
    number = FIRST + NAMES.index(name)
    done = inside.rvisor("exec", "plugged", "/p", str(number), *map(str, words))
    assert done.status == 0, done
    return done.out.strip()


def processes() -> set[int]:
    """Those of plug-ins that run now."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"rvisor._plugged" in (entry / "cmdline").read_bytes():
                found.add(int(entry.name))
    return found


def gone(before: set[int]) -> bool:
    end = time.monotonic() + 10
    while processes() - before and time.monotonic() < end:
        time.sleep(0.02)
    return not processes() - before


def test_functions_serve_calls(profile: Path, plugged: Path) -> None:
    before = processes()
    mounts = ("-v", f"{plugged}:/p:ro")
    assert run("--profile", str(profile), *mounts, "--", "/p", "400", "12").out == "144 - \n"
    assert run(*mounts, "--", "/p", "400", "12").out.startswith("-1 ENOSYS"), "without a profile there is no such call"
    with container(profile, plugged):
        # The container's program, and one that came in later.
        assert call("square", 3) == "9 -"
        assert call("describe", "hello, world", "@") == "12 - is:HELLO"
        assert call("describe", 8, "@") == "-1 EFAULT"
        assert call("describe", "x", 8) == "-1 EFAULT"
        assert int(call("pid").split()[0]) > 1
        assert call("denied") == "-1 EOVERFLOW"
        # Nothing is left of its rights, and no new ones come.
        assert call("rights", "@") == f"0 - {0:016x} {0:016x} 1 2"
        done = inside.rvisor("exec", "plugged", "/p", "threads", "400")
        assert done.out == "wrong 0\n", done
        (shown,) = [line for line in inside.rvisor("vkernel", "show", "plugged").out.splitlines() if "monitor" in line]
        assert "syscall_400 (functions:square)" in shown
    assert gone(before)


def test_what_goes_wrong_is_an_error_and_told(profile: Path, plugged: Path) -> None:
    with container(profile, plugged):
        for name in ("raises", "nonsense", "negative", "far"):
            assert call(name) == "-1 EIO", name
        began = time.monotonic()
        assert call("hangs") == "-1 EIO"
        assert 1.5 < time.monotonic() - began < 6
        # The next one waits for the process that is made then.
        assert call("square", 4) == "16 -"
        assert call("ends") == "-1 EIO"
        assert call("square", 5) == "25 -"
        # None of it is the container's to know.
        assert "plug-in" not in inside.rvisor("exec", "plugged", "dmesg").out
        said = inside.rvisor("vkernel", "log").out
    for line in (
        "plug-in functions:raises, call 404: ValueError: what was not thought of (functions.py, line ",
        "plug-in functions:hangs, call 405: no answer within 2 s: its process was ended",
        "plug-in functions:ends, call 406: its process has ended",
        "plug-in functions:nonsense, call 407: it returned \"{'no': 'number'}\", no number from 0 on",
        "plug-in functions:far, call 409: ValueError: 1048576 bytes at once",
    ):
        assert line in said, (line, said)


def test_callers_and_slow_functions(profile: Path, plugged: Path) -> None:
    """A caller is killed while its call is served; another row is answered meanwhile."""
    with container(profile, plugged):
        script = "/p 405 & child=$!; sleep 0.3; kill -9 $child; wait $child; echo $?; dmesg | grep -c started"
        began = time.monotonic()
        done = inside.rvisor("exec", "plugged", "sh", "-c", script)
        assert done.out.split()[-2:] == ["137", "1"] and time.monotonic() - began < 2, done
        assert call("square", 6) == "36 -"


def test_conditions(tmp_path: Path, plugged: Path) -> None:
    """By its arguments a call goes to one function, to another, to none; a call of Linux's own is served as well."""
    (tmp_path / "functions.py").write_text(FUNCTIONS + "def cube(call):\n    return call.args[0] ** 3\n")
    path = tmp_path / "p.toml"
    path.write_text(
        '[syscalls]\ndefault = "allow"\n'
        + rule(400, "cube", 'when = ["arg0 == 2"]')
        + rule(400, "square", 'when = ["arg0 < 10"]')
        + '[[syscalls.rule]]\nnames = ["getppid"]\naction = "errno"\nwhen = ["arg0 == 5"]\n'
        + rule("getppid", "square")
    )
    script = "for n in 2 3 10; do /p 400 $n; done; /p 110 5; /p 110 6"
    done = run("--profile", str(path), "-v", f"{plugged}:/p:ro", "--", "sh", "-c", script)
    assert done.out == "8 - \n9 - \n-1 ENOSYS \n-1 EPERM \n36 - \n", done


def test_the_example() -> None:
    """As its own text says; a row of it stands before the included default, which refuses such calls."""
    example = inside.ROOT / "docs/examples/plugin"
    script = (example / "calls.py").read_text().partition("python3 -c '")[2].partition("'\n")[0].partition("'")[0]
    done = run("--profile", str(example / "profile.toml"), "--", "python3", "-c", textwrap.dedent(script))
    assert done.out == "144\n9 b'/srv/shop'\n", done


@pytest.mark.parametrize("function, why", [
    ("functions:nowhere", "AttributeError: module 'functions' has no attribute 'nowhere'"),
    ("functions:FIRST", "TypeError: FIRST is no function"),
    ("no_such_module:square", "ModuleNotFoundError: No module named 'no_such_module'"),
    ("broken:square", "SyntaxError: "),
    ("leaves:square", "SystemExit: 5"),
])  # fmt: skip
def test_what_cannot_be_loaded(tmp_path: Path, function: str, why: str) -> None:
    (tmp_path / "functions.py").write_text("FIRST = 1\n")
    (tmp_path / "broken.py").write_text("def (\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(5)\n")
    before = processes()
    path = tmp_path / "p.toml"
    text = '[syscalls]\ndefault = "allow"\n[[syscalls.rule]]\nnames = ["syscall_400"]\naction = "plugin"\n'
    path.write_text(f'{text}plugin = "{function}"\n')
    done = run("--profile", str(path), "--", "true")
    assert done.status == 125 and f"{path}:6:1: plug-in {function}: {why}" in done.err, done
    assert gone(before)


@pytest.mark.parametrize("killed", ["monitor", "rvisor", "watcher", "functions"])
def test_nothing_is_left_over(profile: Path, plugged: Path, killed: str) -> None:
    """Whoever is killed."""
    before = processes()
    arguments = ("--profile", str(profile), "-v", f"{plugged}:/p:ro", "--name", "plugged", "--", "sleep", "100")
    with running(*arguments) as process:
        watcher, functions = sorted(processes() - before)
        (child,) = [int(pid) for pid in Path(f"/proc/{watcher}/task/{watcher}/children").read_text().split()]
        assert child == functions
        (monitor,) = monitors(process.pid)
        os.kill({"monitor": monitor, "rvisor": process.pid, "watcher": watcher, "functions": functions}[killed], 9)
        if killed == "functions":
            assert call("square", 7) == "49 -"
            assert functions not in processes()
            return
        if killed == "watcher":
            assert call("square", 7) == "-1 EIO"
        assert gone(before)


def test_the_runtime(runrsc: Runtime, profile: Path, plugged: Path) -> None:
    """It outlives `create`, serves the program and those that come in, and ends with the container."""
    before = processes()
    (runrsc.bundle / "rootfs/p").write_bytes(plugged.read_bytes())
    (runrsc.bundle / "rootfs/p").chmod(0o755)
    runrsc.common = ("--kernel=shared", f"--profile={profile}")
    runrsc.config("sh", "-c", "/p 400 5; exec sleep 100")
    runrsc.create()
    assert len(processes() - before) == 2
    runrsc("start", runrsc.name)
    end = time.monotonic() + 10
    while not runrsc.output() and time.monotonic() < end:
        time.sleep(0.02)
    assert runrsc.output() == "25 - \n"
    assert runrsc("exec", runrsc.name, "/p", "400", "6").stdout == "36 - \n"
    os.kill(runrsc.state()["pid"], signal.SIGKILL)
    runrsc.until("stopped")
    assert gone(before)
    runrsc("delete", runrsc.name)
    (profile.parent / "functions.py").write_text("")
    runrsc.config("true")
    done = runrsc("create", "--bundle", str(runrsc.bundle), runrsc.name, status=None)
    assert done.returncode == 1 and "plugged.toml:6:1: plug-in functions:square: AttributeError" in done.stderr, done
    assert gone(before)
