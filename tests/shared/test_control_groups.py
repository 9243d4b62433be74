"""Rules that programs attached to the container's control group enforce, on the host's kernel."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from framework import inside
from framework.bundle import Runtime
from framework.shared import run, running

pytestmark = pytest.mark.timeout(120)

TRY = """
import os, socket, stat, sys
def tried(what, call, *arguments):
    try:
        call(*arguments)
        print(what, "ok")
    except OSError as error:
        print(what, error.strerror)
"""


def write(tmp_path: Path, text: str, name: str = "p.toml") -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def python(tmp_path: Path, profile: str, script: str, *more: str) -> list[str]:
    done = run("--profile", write(tmp_path, profile), *more, "--", "python3", "-c", TRY + script)
    assert done.status == 0, done
    return done.out.splitlines()


def test_peers(tmp_path: Path) -> None:
    """Allowed and denied: connections and datagrams, in both families, and what stands for another address."""
    profile = """
[network]
default = "deny"
rule = [
    { action = "allow", net = "127.0.0.2", ports = "8000-8100", direction = "out" },
    { action = "allow", net = "::1", ports = "53", protocol = "udp", direction = "out" },
]
"""
    script = """
for host, port in (("127.0.0.2", 8000), ("127.0.0.2", 8101), ("127.0.0.1", 8000), ("0.0.0.0", 8000)):
    tried(host, socket.socket().connect, (host, port))
for host in ("::ffff:127.0.0.2", "::ffff:127.0.0.1", "::1", "::"):
    tried(host, socket.socket(socket.AF_INET6).connect, (host, 8000))
u4, u6 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
tried("u4", u4.sendto, b"x", ("127.0.0.2", 8100))
tried("u4", u4.sendto, b"x", ("127.0.0.1", 8100))
tried("u6", u6.sendto, b"x", ("::1", 53))
tried("u6", u6.sendto, b"x", ("::1", 54))
tried("fast", socket.socket().sendto, b"x", socket.MSG_FASTOPEN, ("127.0.0.1", 8000))
"""
    no, gone = "Operation not permitted", "Connection refused"
    assert python(tmp_path, profile, script) == [
        *(f"127.0.0.2 {gone}", f"127.0.0.2 {no}", f"127.0.0.1 {no}", f"0.0.0.0 {no}"),
        *(f"::ffff:127.0.0.2 {gone}", f"::ffff:127.0.0.1 {no}", f"::1 {no}", f":: {no}"),
        *("u4 ok", f"u4 {no}", "u6 ok", f"u6 {no}", f"fast {no}"),
    ]


def test_sockets_that_no_rule_sees(tmp_path: Path) -> None:
    script = """
for kind, number in ((socket.SOCK_RAW, 1), (socket.SOCK_DGRAM, 1), (socket.SOCK_STREAM, 262), (socket.SOCK_STREAM, 6)):
    tried(number, socket.socket, socket.AF_INET, kind, number)
tried("packet", socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0)
tried("unix", socket.socket, socket.AF_UNIX)
"""
    no = "Operation not permitted"
    expected = [f"1 {no}", f"1 {no}", f"262 {no}", "6 ok", f"packet {no}", "unix ok"]
    assert python(tmp_path, "[network]\ndefault = 'deny'\n", script) == expected


def test_own_addresses(tmp_path: Path) -> None:
    profile = '[[network.rule]]\naction = "deny"\nnet = "127.0.0.1"\nports = "9000"\ndirection = "bind"\n'
    script = """
for host, port in (("127.0.0.1", 9000), ("127.0.0.1", 9001), ("0.0.0.0", 9000), ("127.0.0.2", 9000)):
    tried(f"{host}:{port}", socket.socket().bind, (host, port))
tried("::", socket.socket(socket.AF_INET6).bind, ("::", 9000))
"""
    no = "Operation not permitted"
    assert python(tmp_path, profile, script) == [
        *(f"127.0.0.1:9000 {no}", "127.0.0.1:9001 ok", f"0.0.0.0:9000 {no}", "127.0.0.2:9000 ok", f":: {no}")
    ]


def test_who_may_come_in(tmp_path: Path) -> None:
    rule = '[network]\ndefault = "deny"\nrule = [{ action = "allow", net = "127.0.0.3", direction = "in" }]\n'
    script = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)\n"
    script += "while True: print(s.accept()[1][0], flush=True)"
    more = ("--network", "host", "--profile", write(tmp_path, rule))
    with running(*more, "--", "python3", "-c", script) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        for source, comes in (("127.0.0.2", False), ("127.0.0.3", True)):
            with socket.socket() as client:
                client.bind((source, 0))
                client.settimeout(20 if comes else 0.3)
                try:
                    client.connect(("127.0.0.1", port))
                    assert comes
                except TimeoutError:
                    assert not comes
        assert process.stdout.readline() == b"127.0.0.3\n"


def test_a_thread_that_rewrites_the_address(tmp_path: Path, attack: Path) -> None:
    rule = '[[network.rule]]\naction = "deny"\nnet = "127.0.0.1"\ndirection = "out"\n'
    more = ("--profile", write(tmp_path, rule), "-v", f"{attack}:/attack:ro")
    done = run(*more, "--", "/attack", "connect")
    assert (done.status, done.out) == (0, "both 1, leaked 0 times\n"), done


def test_net_rules() -> None:
    more = ("--net-rule", "allow:127.0.0.2", "--net-rule", "deny:0.0.0.0/0")
    script = "for host in ('127.0.0.1', '127.0.0.2'): tried(host, socket.socket().connect, (host, 1))"
    done = run(*more, "--", "python3", "-c", TRY + script)
    assert done.out == "127.0.0.1 Operation not permitted\n127.0.0.2 Connection refused\n"


MAKE = """
def opened(kind, major, minor):
    os.mknod("/made", kind | 0o666, os.makedev(major, minor))
    try:
        os.close(os.open("/made", os.O_RDONLY))
    finally:
        os.unlink("/made")
for kind, major, minor in ((stat.S_IFCHR, 1, 5), (stat.S_IFCHR, 1, 11), (stat.S_IFCHR, 10, 237), (stat.S_IFBLK, 7, 0)):
    tried(f"{major}:{minor}", opened, kind, major, minor)
tried("null", open, "/dev/null")
"""


def test_devices(tmp_path: Path) -> None:
    """Whoever may make a node of any device may open those of the standard list only, or what the profile says."""
    no = "Operation not permitted"
    usual = ["1:5 ok", f"1:11 {no}", f"10:237 {no}", f"7:0 {no}", "null ok"]
    assert python(tmp_path, "", MAKE) == usual
    wider = '[[devices.rule]]\naction = "allow"\ndevice = "c 10:237"\naccess = "rw"\n'
    assert python(tmp_path, wider, MAKE) == [*usual[:2], "10:237 ok", *usual[3:]]
    assert python(tmp_path, '[devices]\ndefault = "deny"\n', MAKE)[-1] == f"null {no}"


def test_bounds_of_settings(tmp_path: Path) -> None:
    """The container's own setting: the host's kernel acts by it, and what is written stays within bounds."""
    profile = """
[sysctl]
"kernel.shmmax" = { value = "1000", writable = true, minimum = 10, maximum = 2000 }
"net.ipv4.ip_default_ttl" = { value = "60", writable = true, maximum = 90 }
"""
    script = """
def put(name, text):
    fd = os.open("/proc/sys/" + name, os.O_WRONLY)
    os.write(fd, text.encode())
for text in ("10", "2000\\n", "2001", "9", "1 2", "x"):
    tried(repr(text), put, "kernel/shmmax", text)
tried("ttl", put, "net/ipv4/ip_default_ttl", "91")
tried("ttl", put, "net/ipv4/ip_default_ttl", "90")
tried("other", put, "kernel/shmall", "1")
print(open("/proc/sys/kernel/shmmax").read().strip(), open("/proc/sys/net/ipv4/ip_default_ttl").read().strip())
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.shmget(0, 3000, 0o1600) < 0, libc.shmget(0, 1500, 0o1600) >= 0)
"""
    no = "Operation not permitted"
    before = Path("/proc/sys/kernel/shmmax").read_text()
    assert python(tmp_path, profile, script) == [
        *("'10' ok", "'2000\\n' ok", f"'2001' {no}", f"'9' {no}", f"'1 2' {no}", f"'x' {no}"),
        *(f"ttl {no}", "ttl ok", "other Read-only file system", "2000 90", "True True"),
    ]
    assert Path("/proc/sys/kernel/shmmax").read_text() == before


def test_a_running_container(tmp_path: Path) -> None:
    """`vkernel update` replaces programs, or changes nothing."""
    first = write(tmp_path, '[[network.rule]]\naction = "deny"\nnet = "127.0.0.1"\ndirection = "out"\n')
    script = (
        TRY + "while sys.stdin.readline(): tried('.1', socket.socket().connect, ('127.0.0.1', 1)), sys.stdout.flush()"
    )
    with running("--name", "live", "--profile", first, "-i", "--", "python3", "-c", script, stdin=True) as process:
        assert process.stdin is not None and process.stdout is not None

        def answer() -> str:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
            return process.stdout.readline().decode().strip()

        assert answer() == ".1 Operation not permitted"
        second = write(tmp_path, '[[network.rule]]\naction = "deny"\nnet = "127.0.0.2"\ndirection = "out"\n', "q.toml")
        assert inside.rvisor("vkernel", "update", "live", second).out == "programs\n"
        assert answer() == ".1 Connection refused"
        assert "connect4" in json.loads(inside.rvisor("vkernel", "show", "live", "--json").out)["programs"]
        third = write(tmp_path, "[syscalls]\ndefault = 'errno'\n", "r.toml")
        assert inside.rvisor("vkernel", "update", "live", third).status != 0
        assert inside.rvisor("vkernel", "update", "live", first).status == 0
        assert answer() == ".1 Operation not permitted"
    groups = [path for path, names, _ in os.walk("/sys/fs/cgroup") for name in names if name.startswith("rvisor-live")]
    assert groups == []


OF_RUNRSC = """
[network]
default = "deny"
rule = [{ action = "allow", net = "127.0.0.2", direction = "both" }]
[devices]
rule = [{ action = "deny", device = "c 1:5", access = "r" }]
[sysctl]
"kernel.shmmax" = { value = "1000", writable = true, minimum = 10, maximum = 2000 }
"""


@pytest.mark.parametrize("by", ["annotation", "option"])
def test_under_runrsc(runrsc: Runtime, tmp_path: Path, by: str) -> None:
    """Peers, devices and bounds, for the program and one that comes in later; an update; nothing is left."""
    path = write(tmp_path, OF_RUNRSC)

    def change(config: dict[str, Any]) -> None:
        sets = ("bounding", "effective", "permitted")
        config["process"]["capabilities"] = {name: ["CAP_NET_RAW", "CAP_MKNOD", "CAP_KILL"] for name in sets}
        if by == "annotation":
            config["annotations"] = {"dev.rvisor.profile": path}

    if by == "option":
        runrsc.common += ("--profile", path)
    script = """
for to in 127.0.0.1 127.0.0.2; do nc -w 1 $to 9 </dev/null 2>&1; done
dd if=/dev/zero bs=1 count=1 2>&1 >/dev/null | head -n 1
for n in 1500 3000; do (echo $n > /proc/sys/kernel/shmmax) 2>/dev/null && echo $n; done
cat /proc/sys/kernel/shmmax; grep CapBnd /proc/self/status
"""
    no = "Operation not permitted"
    runrsc.config("sh", "-c", f"{script}sleep 99", change=change)
    runrsc.create()
    runrsc("start", runrsc.name)
    later = runrsc("exec", runrsc.name, "sh", "-c", script).stdout.splitlines()
    for lines in (later, runrsc.output().splitlines()):
        assert no in lines[0] and "refused" in lines[1] and no in lines[2], lines
        # Without NET_RAW, by which packets go past the rules.
        assert lines[3:] == ["1500", "1500", "CapBnd:\t0000000008000020"], lines
    wider = OF_RUNRSC.replace('default = "deny"', 'default = "allow"').replace("2000", "4000")
    assert inside.rvisor("vkernel", "update", runrsc.name, write(tmp_path, wider, "w.toml")).out == "programs\n"
    lines = runrsc("exec", runrsc.name, "sh", "-c", script).stdout.splitlines()
    assert "refused" in lines[0] and lines[3:5] == ["1500", "3000"], lines
    runrsc("delete", "--force", runrsc.name)
    assert [top for top, names, _ in os.walk("/sys/fs/cgroup") if runrsc.group.strip("/") in names] == []


def test_what_is_not_the_container_s_under_runrsc(runrsc: Runtime, tmp_path: Path) -> None:
    """Bounds are for what the container has for itself."""

    def change(config: dict[str, Any]) -> None:
        config["annotations"] = {"dev.rvisor.profile": write(tmp_path, OF_RUNRSC)}
        config["linux"]["namespaces"] = [one for one in config["linux"]["namespaces"] if one["type"] != "ipc"]

    before = Path("/proc/sys/kernel/shmmax").read_text()
    done = runrsc.run("true", change=change)
    assert done.returncode != 0 and "kernel.shmmax" in done.stderr and "ipc" in done.stderr, done
    assert Path("/proc/sys/kernel/shmmax").read_text() == before
