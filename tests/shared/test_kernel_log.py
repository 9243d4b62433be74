"""A container's kernel log, by every way there is to it: syslog(2), /dev/kmsg, /proc/kmsg, dmesg(1)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from framework import inside
from framework.bundle import Runtime
from framework.shared import run, running
from rvisor import vkernel

pytestmark = pytest.mark.timeout(120)

CONNECTIONS = Path("/sys/fs/fuse/connections")
HEAD = """
import ctypes, errno, os, select, signal, threading, time
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(65536)
def syslog(action, length=65536):
    got = libc.syscall(103, action, buffer, length)
    return -ctypes.get_errno() if got < 0 else buffer.raw[:got].decode() if action in (2, 3, 4) else got
def said(call, *arguments):
    try:
        return call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
def say(text):
    with open("/dev/kmsg", "w") as file:
        file.write(text)
"""


def python(script: str, *more: str) -> list[str]:
    done = run(*more, "--", "python3", "-c", HEAD + script)
    assert done.status == 0, done
    return done.out.splitlines()


def fuse() -> set[str]:
    return {one.name for one in CONNECTIONS.iterdir()} if CONNECTIONS.exists() else set()


def test_all_ways_lead_to_the_containers_own() -> None:
    script = """
say("<6>of mine")
for text in (syslog(3), os.popen("dmesg").read(), os.popen("busybox dmesg").read()):
    print(len(text.splitlines()), "of mine" in text)
proc = os.open("/proc/kmsg", os.O_RDONLY | os.O_NONBLOCK)
print(len(os.read(proc, 9999).splitlines()), said(os.read, proc, 9999))
device = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
print(*(os.read(device, 9999).decode().partition(",")[0] for _ in range(2)), said(os.read, device, 9999))
"""
    lines = ["2 True"] * 3 if inside.run(["which", "busybox"]).status == 0 else ["2 True", "2 True", "0 False"]
    assert python(script) == [*lines, "2 EAGAIN", "5 14 EAGAIN"]


def test_the_actions_of_syslog() -> None:
    """2 reads on, 3 shows, 4 shows and clears, 9 and 10 tell sizes. /proc/kmsg reads where 2 does."""
    script = """
say("one"), say("two")
print(syslog(10), syslog(9) == len(syslog(3)))
first = syslog(2, 60)
print(len(first), syslog(9) == len(syslog(3)) - 60)
rest = os.read(os.open("/proc/kmsg", os.O_RDONLY), 9999).decode()
print(first + rest == syslog(3), syslog(9))
print("two" in syslog(4), repr(syslog(3)))
say("three")
print(syslog(3).count("\\n"), "three" in syslog(2))
print(os.popen("dmesg").read().strip()[-5:])
print(syslog(2, -1), syslog(11))
"""
    expected = ["262144 True", "60 True", "True 0", "True ''", "1 True", "three", "-22 -22"]
    assert python(script) == expected


def test_the_device_s_own_manners(tmp_path: Path) -> None:
    """One record a read, seeks, what is too long or too small, what was overwritten, poll."""
    (tmp_path / "p.toml").write_text("[kernel_log]\nsize = 4096\n")
    script = """
say("<3>one"), say("two\\\\\\u00e9")
d = os.open("/dev/kmsg", os.O_RDWR | os.O_NONBLOCK)
read = lambda: said(os.read, d, 9999)
print(said(os.read, d, 5))
print(read().partition(b",")[0], read()[:4], read().partition(b";")[2], read())
os.lseek(d, 0, os.SEEK_SET); print(read().split(b",")[1])
os.lseek(d, 0, os.SEEK_END); print(read())
os.write(d, b"<30>three\\n"); print(read().split(b",")[0])
syslog(5); os.lseek(d, 0, os.SEEK_DATA); print(read())
print(said(os.write, d, b"x" * 1025), os.fstat(d).st_size, said(os.fchmod, d, 0o777))
poller = select.poll(); poller.register(d, select.POLLIN); print(poller.poll(10))
timer = threading.Timer(0.2, say, ("four",)); timer.start()
print([event for _, event in poller.poll(10_000)], b"four" in read())
for i in range(200): say("filling " * 5)
print(read(), b"filling" in read())
proc = os.open("/proc/kmsg", os.O_RDWR); print(said(os.write, proc, b"x"))
"""
    assert python(script, "--profile", str(tmp_path / "p.toml")) == [
        *("EINVAL", r"b'5' b'11,1' b'two\\x5c\\xc3\\xa9\n' EAGAIN", "b'0'", "EAGAIN", "b'30'", "EAGAIN"),
        *("EINVAL 0 EPERM", "[]", "[1] True", "EPIPE True", "EINVAL"),
    ]


def test_who_waits_is_woken_or_ended() -> None:
    """A read waits for the next record, ends with a signal, and holds up nobody's end."""
    script = """
device = os.open("/dev/kmsg", os.O_RDONLY)
os.read(device, 9999)
proc = os.open("/proc/kmsg", os.O_RDONLY)
os.read(proc, 9999)
for fd in (device, proc):
    threading.Timer(0.2, say, ("woken",)).start()
    print("woken" in os.read(fd, 9999).decode())
    while said(os.read, os.open("/proc/kmsg", os.O_RDONLY | os.O_NONBLOCK), 9999) != "EAGAIN": pass
class Rang(Exception): pass
def ring(*_): raise Rang
signal.signal(signal.SIGALRM, ring)
os.lseek(device, 0, os.SEEK_END)
for fd in (device, proc):
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        os.read(fd, 9999)
    except Rang:
        print("rang")
for fd in (device, proc):
    child = os.fork()
    if child == 0:
        os.read(fd, 9999)
    time.sleep(0.2)
    os.kill(child, signal.SIGKILL)
    print(os.waitpid(child, 0)[1])
if os.fork() == 0:
    os.read(device, 9999)
"""
    assert python(script) == ["True", "True", "rang", "rang", "9", "9"]


def test_two_containers_and_the_operator() -> None:
    before = fuse()
    script = (
        f"{HEAD}\nsay('from ' + os.uname().nodename)\nos.read(os.open('/proc/kmsg', os.O_RDONLY), 1)\ntime.sleep(99)"
    )
    many = [("--name", name, "--hostname", name, "--", "python3", "-c", script) for name in ("left", "right")]
    with running(*many[0]), running(*many[1]):
        until(lambda: all(f"from {name}" in "".join(vkernel.log(name)) for name in ("left", "right")))
        assert "right" not in "".join(vkernel.log("left")) and "left" not in "".join(vkernel.log("right"))
        names = {about["name"]: vkernel.name_of(about["id"]) for about in vkernel.instances()}
        lines = vkernel.log(None)
        for name in ("left", "right"):
            assert any(line.startswith(names[name]) and f"from {name}" in line for line in lines)
        assert len(fuse() - before) in (0, 4)
    until(lambda: fuse() == before)
    assert not any("from left" in line for line in python("print(syslog(3))"))
    with open("/proc/mounts", encoding="utf-8") as mounts:
        assert "kmsg fuse" not in mounts.read()


def until(condition: Any) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("users", [False, True])
def test_under_runrsc(runrsc: Runtime, users: bool) -> None:
    """The same files, for the program and for one that comes in later; a node of the host's device opens nothing."""

    def change(config: dict[str, Any]) -> None:
        config["root"]["readonly"] = False
        sets = ("bounding", "effective", "permitted")
        config["process"]["capabilities"] = {name: ["CAP_MKNOD", "CAP_DAC_OVERRIDE"] for name in sets}
        config["linux"].setdefault("resources", {})["devices"] = [{"allow": True, "access": "rwm"}]
        if users:
            config["linux"]["namespaces"].append({"type": "user"})
            for name in ("uidMappings", "gidMappings"):
                config["linux"][name] = [{"containerID": 0, "hostID": 0, "size": 65536}]

    before = fuse()
    runrsc.config("sh", "-c", "echo mine > /dev/kmsg; dmesg; sleep 99", change=change)
    runrsc.create()
    runrsc("start", runrsc.name)
    until(lambda: "mine" in runrsc.output())
    assert len(runrsc.output().splitlines()) == 2
    inner = runrsc("exec", runrsc.name, "sh", "-c", "head -n 2 /dev/kmsg; head -n 2 /proc/kmsg").stdout
    assert inner.count("mine") == 2 and len(inner.splitlines()) == 4, inner
    node = "mknod /tmp/log c 1 11 && cat /tmp/log || mknod /log c 1 11 && cat /log"
    refused = runrsc("exec", runrsc.name, "sh", "-c", node, status=None)
    assert refused.stdout == "" and refused.returncode != 0
    runrsc("delete", "--force", runrsc.name)
    until(lambda: fuse() == before)
