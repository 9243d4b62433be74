"""`rvisor run --profile` on the private kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from framework.inside import Done, rvisor

pytestmark = pytest.mark.usefixtures("binaries")

TEXT = """\
[syscalls]
default = "allow"
rule = [
    { names = ["mkdir", "mkdirat"], action = "errno", errno = "EROFS" },
    { names = ["uname"], action = "kill" },
    { names = ["kill"], action = "errno", errno = "ESRCH", when = ["arg1:32 == 9"] },
]
[capabilities]
keep = ["CHOWN"]
[memory]
max = "64m"
[network]
default = "deny"
"""


@pytest.fixture
def under(tmp_path: Path, platform: str) -> object:
    path = tmp_path / "p.toml"
    path.write_text(TEXT)

    def run(*command: str) -> Done:
        return rvisor("run", "--platform", platform, "--profile", str(path), "--", *command)

    return run


def test_calls_and_capabilities(under: object) -> None:
    assert callable(under)
    done = under("sh", "-c", "mkdir /tmp/q; uname; echo $?; kill -9 $$; kill -0 $$ && grep Cap /proc/self/status")
    lines = done.out.splitlines()
    assert lines[0] == "159", done.err
    assert "Read-only file system" in done.err
    assert "No such process" in done.err
    assert [line.split()[1].lstrip("0") for line in lines[1:]] == ["", "1", "1", "1", ""]
    # Nobody gets more: not from a user namespace, not by becoming root again.
    done = under(
        "sh", "-c", "unshare -U true; unshare -Ur true; setpriv --reuid 1 grep CapEff /proc/self/status; echo x"
    )
    assert "x\n" in done.out and done.err.count("Operation not permitted") >= 2, done.err


def test_limits_and_peers(under: object) -> None:
    assert callable(under)
    done = under("python3", "-c", "bytearray(200 << 20)")
    assert done.status == 137 and "limit of 64 MiB was reached" in done.err
    code = "import socket\ntry: socket.create_connection(('127.0.0.1', 1))\nexcept OSError as e: print(e.errno)"
    assert under("python3", "-c", code).out == "1\n"


FILTER = """
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
allow = ctypes.create_string_buffer(struct.pack("<HBBI", 6, 0, 0, 0x7FFF0000))
head = struct.pack("<HxxxxxxQ", 1, ctypes.addressof(allow))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, head, 0, 0) == 0, os.strerror(ctypes.get_errno())
try:
    os.mkdir("/tmp/q")
except OSError as e:
    print(e.errno)
"""


def test_a_filter_of_the_guests_own_allows_nothing_more(under: object) -> None:
    assert callable(under)
    assert under("python3", "-c", FILTER).out == "30\n"


def test_further_programs_are_under_it_too(tmp_path: Path) -> None:
    from rvisor import Sandbox

    (tmp_path / "p.toml").write_text(TEXT)
    box = Sandbox(profile=tmp_path / "p.toml")
    running = box.start(["sleep", "10"], control=True)
    running.wait_until_loaded()
    try:
        done = box.exec(running, ["sh", "-c", "mkdir /tmp/q; grep CapBnd /proc/self/status"], capture=True)
    finally:
        running.close()
    assert b"Read-only file system" in done.stderr
    assert done.stdout.split()[1].lstrip(b"0") == b"1"


def test_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text('[[files.rule]]\npaths = ["/etc/shadow"]\ndeny = "rw"\n')
    done = rvisor("run", "--profile", str(path), "--", "true")
    assert done.status == 125
    assert f"{path}:2:10: files: the rule on /etc/shadow is not there with --kernel=private" in done.err
    done = rvisor("run", "--profile", "defautl", "--", "true")
    assert "there is no profile 'defautl'; did you mean default?" in done.err


@pytest.mark.parametrize("name", ["default", "build", "agent"])
def test_shipped_ones_let_programs_work(name: str, rootfs: Path) -> None:
    code = 'import threading, socket, subprocess; subprocess.run("true"); threading.Thread(target=print).start()'
    script = f"ls / >/dev/null; (sleep 0.1 & wait); python3 -c '{code}'"
    done = rvisor("run", "--rootfs", str(rootfs), "--profile", name, "--", "sh", "-ec", script)
    assert done.status == 0, done.err
