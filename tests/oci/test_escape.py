"""Ways out of containers that have worked somewhere (the CVE is named), each tried through `runrsc` with every capability.

Nothing may reach the host: not its files, not its mounts, not its processes, not our own executables.
"""

from __future__ import annotations

import hashlib
import json
import os
import pty
import select
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framework import compile, host
from framework.bundle import ROOT, Runtime
from rvisor.oci.config import CAPABILITIES

GUEST = Path(__file__).resolve().parent / "guests" / "escape.c"


@pytest.fixture
def jail(runrsc: Runtime) -> Iterator[Runtime]:
    """A bundle with the program in it, beside a directory that must stay as it is."""
    shutil.copy2(compile.static(GUEST), runrsc.bundle / "rootfs" / "bin" / "escape")
    canary = runrsc.bundle / "canary"
    canary.mkdir()
    (canary / "secret").write_text("secret\n")
    (canary / "null").write_text("")
    before, mounts = tree(canary), host.mounts()
    yield runrsc
    assert tree(canary) == before
    assert [m for m in host.mounts() if m not in mounts and str(runrsc.bundle) in m] == []


def tree(top: Path) -> list[tuple[str, int, int, bytes]]:
    """Names, modes, owners, contents."""
    found = []
    for path in sorted([top, *top.rglob("*")]):
        s = path.lstat()
        found.append((str(path), s.st_mode, s.st_uid, path.read_bytes() if path.is_file() else b""))
    return found


def free(config: dict[str, Any]) -> None:
    """Every right there is, as `docker run --privileged` has it."""
    every = [f"CAP_{name}" for name in CAPABILITIES]
    config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), every)
    config["process"]["noNewPrivileges"] = False
    config["root"]["readonly"] = False
    config["linux"].update(maskedPaths=[], readonlyPaths=[])


def program(jail: Runtime, *args: str) -> list[str]:
    done = jail.run("/bin/escape", *args, change=free)
    assert done.returncode == 0, done
    return done.stdout.splitlines()


def digests() -> list[str]:
    from rvisor._sentry import find

    return [
        hashlib.sha256(Path(find.find(n)).read_bytes()).hexdigest() for n in (find.LAUNCHER, find.SENTRY, find.STUB)
    ]


def test_no_descriptor_of_the_callers(jail: Runtime) -> None:
    """CVE-2024-21626 began with one that runc had left open: natively openat(7, "../../etc/shadow") was the host's."""
    jail.config("/bin/escape", "descriptors", change=free)
    fds = [os.open(jail.bundle / "canary", os.O_RDONLY), os.open("/", os.O_PATH), *os.pipe()]
    try:
        done = jail("run", "--bundle", str(jail.bundle), jail.name, pass_fds=fds)
    finally:
        for fd in fds:
            os.close(fd)
    assert (done.stdout, done.stderr) == ("", "")


def test_the_kernel_holds_none_either(jail: Runtime) -> None:
    jail.config("sleep", "100")
    fd = os.open(jail.bundle / "canary", os.O_RDONLY)
    try:
        with (jail.bundle / "out").open("wb") as out:
            jail("create", "--bundle", str(jail.bundle), jail.name, stdout=out, stderr=out, pass_fds=[fd])
    finally:
        os.close(fd)
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if jail.name in (entry.parent.parent / "cgroup").read_text():
                assert "canary" not in os.readlink(entry)
        except OSError:
            continue


@pytest.mark.parametrize("way", ["config", "exec", "process"])
def test_a_directory_of_a_descriptor(jail: Runtime, way: str) -> None:
    """CVE-2024-21626: cwd /proc/self/fd/N was looked up while the runtime still had the host's directories open."""
    seen = ["sh", "-c", "pwd; ls ../../../../../../.. | cat"]
    jail.config("sleep", "100")
    if way != "config":
        jail.create()
        jail("start", jail.name)
    for number in (*range(3, 12), 100):
        where = f"/proc/self/fd/{number}"
        if way == "config":
            jail.config(*seen, change=lambda c, where=where: (free(c), c["process"].update(cwd=where)))  # type: ignore[misc]
            done = jail("run", "--bundle", str(jail.bundle), jail.name, status=None)
        elif way == "exec":
            done = jail("exec", "--cwd", where, jail.name, *seen, status=None)
        else:
            text = json.dumps({"args": seen, "cwd": where, "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}})
            (jail.bundle / "process").write_text(text)
            done = jail("exec", "--process", str(jail.bundle / "process"), jail.name, status=None)
        assert done.returncode != 0
        assert done.stdout == ""


def test_the_runtimes_own_executable(jail: Runtime) -> None:
    """CVE-2019-5736: natively /proc/self/exe of the process that enters was runc itself, and could be overwritten."""
    before = digests()
    (jail.bundle / "rootfs" / "bin" / "self").symlink_to("/proc/self/exe")
    for args in (["/proc/self/exe"], ["/bin/self"], ["/proc/self/fd/3"], ["/proc/1/exe"]):
        done = jail.run(*args, change=free)
        assert done.returncode != 0
        assert done.stdout == ""
    lines = program(jail, "executable")
    assert any(line.startswith("/proc/self/exe -> /bin/escape") for line in lines)
    assert all("-> /bin/" in line and line.endswith(("Text file busy", "Permission denied")) for line in lines), lines
    assert digests() == before


def links(jail: Runtime, name: str, to: str) -> None:
    path = jail.bundle / "rootfs" / name
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(to)


PLACES = ("proc", "dev", "sys", "tmp", "data", "a/b", "dev/shm", "dev/pts", "dev/null", "proc/self", "etc")
WAYS = ("absolute", "relative", "loop", "through proc")
EVERY = [(name, way) for name in PLACES for way in WAYS]
SOME = [(name, WAYS[i % len(WAYS)]) for i, name in enumerate(PLACES)]


@pytest.mark.parametrize("name, way", EVERY if os.environ.get("RVISOR_EVERY_STEP") else SOME)
def test_links_where_mounts_go(jail: Runtime, name: str, way: str) -> None:
    """CVE-2019-19921, 2025-31133, 2025-52565, 2025-52881, 2026-41579: the image's links made runc mount, or write, elsewhere."""
    canary = str(jail.bundle / "canary")
    to = {
        "absolute": canary,
        "relative": "../" * 40 + canary.lstrip("/"),
        "loop": Path(name).name,
        "through proc": f"/proc/1/root{canary}",
    }[way]
    links(jail, name, to)

    def mounts(config: dict[str, Any]) -> None:
        free(config)
        (jail.bundle / "volume").mkdir(exist_ok=True)
        config["mounts"] += [
            {"destination": "/data", "type": "bind", "source": str(jail.bundle / "volume"), "options": ["rbind", "rw"]},
            {"destination": "/a/b/c", "type": "tmpfs", "options": []},
            {"destination": "/etc/hosts", "type": "bind", "source": "/etc/hosts", "options": ["bind", "ro"]},
        ]
        config["linux"].update(
            maskedPaths=["/proc/kcore", "/dev/null", "/etc/hosts", "/tmp"], readonlyPaths=["/proc/sys", "/data", "/sys"]
        )

    script = f"cat {canary}/secret; echo evil > /data/x; echo evil > /etc/y; echo evil > /dev/z; rm -rf /a; cat /proc/self/comm"
    done = jail.run("sh", "-c", script, change=mounts)
    assert "secret" not in done.stdout
    assert "Traceback" not in done.stderr


def test_a_link_that_comes_and_goes(jail: Runtime) -> None:
    """CVE-2021-30465: between the check of a volume's target and its mount, another container makes it a link."""
    target, aside = jail.bundle / "rootfs" / "data", jail.bundle / "rootfs" / "aside"
    target.mkdir()
    aside.symlink_to(jail.bundle / "canary")
    stop = threading.Event()

    def swap() -> None:
        other = jail.bundle / "rootfs" / "other"
        while not stop.is_set():
            for one, two in ((target, other), (aside, target), (target, aside), (other, target)):
                try:
                    one.rename(two)
                except OSError:
                    continue

    def volume(config: dict[str, Any]) -> None:
        free(config)
        (jail.bundle / "volume").mkdir(exist_ok=True)
        config["mounts"].append({"destination": "/data", "type": "bind", "source": "volume", "options": ["rbind"]})

    jail.config("sh", "-c", "echo evil > /data/x; cat /data/secret", change=volume)
    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(6):
            done = jail("run", "--bundle", str(jail.bundle), jail.name, status=None)
            assert "secret\n" not in done.stdout
    finally:
        stop.set()
        swapper.join()


def test_who_enters_from_outside(jail: Runtime) -> None:
    """CVE-2018-15664, 2019-14271: `cp` as root of the host's followed the image's links. Who enters here has only what is inside."""
    canary = jail.bundle / "canary"
    links(jail, "out", str(canary))
    links(jail, "up", "../" * 40 + str(canary).lstrip("/"))
    jail.config("sleep", "100", change=free)
    jail.create()
    jail("start", jail.name)
    enter = ["nsenter", "--mount", "--target", str(jail.state()["pid"]), "/bin/busybox"]
    for path in ("/out/secret", "/up/secret", f"{canary}/secret", f"/proc/1/root{canary}/secret"):
        done = subprocess.run([*enter, "cat", path], capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stdout) == (1, ""), path
        assert "No such file" in done.stderr
    assert subprocess.run([*enter, "true"], timeout=30, check=False).returncode == 0


def test_an_abstract_socket_of_the_hosts(jail: Runtime) -> None:
    """CVE-2020-15257: with the host's network natively anybody reached containerd-shim's socket, which has no file."""
    name = f"rvisor-test-{os.getpid()}"

    def network(config: dict[str, Any]) -> None:
        free(config)
        config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "network"]

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(f"\0{name}")
        listener.listen(1)
        done = jail.run("/bin/escape", "abstract", name, change=network)
        assert set(done.stdout.splitlines()) == {"abstract: Connection refused"}, done
        assert select.select([listener], [], [], 0)[0] == []


def test_files_that_name_a_program(jail: Runtime) -> None:
    """CVE-2022-0492 (release_agent), core_pattern, modprobe, sysrq: natively root in the container runs a program outside."""
    paths = [
        Path("/proc/sys/kernel/core_pattern"),
        Path("/proc/sys/kernel/modprobe"),
        Path("/proc/sys/vm/panic_on_oom"),
    ]
    before = [p.read_text() for p in paths if p.exists()]
    agents = {p: p.read_text() for p in Path("/sys/fs/cgroup").glob("*/release_agent")}
    lines = program(jail, "helpers")
    assert not any(
        line.startswith(f"mount {kind}: done") for line in lines for kind in ("debugfs", "securityfs", "bpf")
    )
    assert [p.read_text() for p in paths if p.exists()] == before
    assert {p: p.read_text() for p in agents} == agents


@pytest.mark.parametrize("own", [False, True], ids=["the caller's terminal", "its own terminal"])
def test_input_pushed_into_a_terminal(jail: Runtime, own: bool) -> None:
    """TIOCSTI: natively what is pushed into a terminal shared with the caller is typed into the caller's shell."""
    master, slave = pty.openpty()
    try:
        if own:
            jail.config("/bin/escape", "push", change=lambda c: (free(c), c["process"].update(terminal=True)))  # type: ignore[arg-type]
            console = jail.create_with_terminal()
            jail("start", jail.name)
            jail.until("stopped")
            os.close(console)
        else:
            jail.config("/bin/escape", "push", change=free)
            done = jail("run", "--bundle", str(jail.bundle), jail.name, stdin=slave)
            assert "TIOCSTI: done" not in done.stdout
        assert select.select([slave], [], [], 0)[0] == []
    finally:
        os.close(master)
        os.close(slave)


def test_tracing_the_kernel(jail: Runtime) -> None:
    """Natively, with the host's pid namespace and CAP_SYS_PTRACE, every process is in reach; here there is only oneself."""
    assert program(jail, "trace") == ["reached 0"]


def test_the_environment_of_hooks(jail: Runtime) -> None:
    """CVE-2024-0132, 2025-23266: a hook that takes over the image's LD_PRELOAD, or the runtime's own environment."""
    out = jail.bundle / "env"

    def hooks(config: dict[str, Any]) -> None:
        config["process"]["env"] = ["LD_PRELOAD=/evil.so", "PATH=/bin"]
        script = f"env > {out}; pwd >> {out}"
        config["hooks"] = {
            stage: [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}]
            for stage in ("prestart", "poststop")
        }

    env = dict(os.environ, PYTHONPATH=str(ROOT / "python"), LD_LIBRARY_PATH="/evil")
    jail.config("true", change=hooks)
    command = [
        sys.executable,
        "-m",
        "rvisor.oci",
        "--root",
        str(jail.root),
        "run",
        "--bundle",
        str(jail.bundle),
        jail.name,
    ]
    subprocess.run(command, env=env, check=True, timeout=60, stdin=subprocess.DEVNULL)
    lines = out.read_text().splitlines()
    assert not [line for line in lines if "LD_" in line or "PYTHON" in line]
    assert lines[-1] == str(jail.bundle)


def test_a_name_that_is_a_path(jail: Runtime, tmp_path: Path) -> None:
    """Where the state is kept follows no link that lies there."""
    jail.config("true")
    jail.root.mkdir()
    (jail.root / "evil").symlink_to(jail.bundle / "canary")
    done = jail("create", "--bundle", str(jail.bundle), "evil", status=1)
    assert "container with id exists" in done.stderr
    jail("delete", "--force", "evil", status=None)
    (jail.root / "evil").unlink()
