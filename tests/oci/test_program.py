"""The programs of a container as their callers and they themselves find them: signals, homes, names, words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from framework.bundle import Runtime
from framework.host import until

_NOWHERE = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def _passwd(runrsc: Runtime, text: str) -> None:
    (runrsc.bundle / "rootfs" / "etc" / "passwd").write_text(text)


def _as(uid: int, **more: Any) -> Any:
    def change(config: dict[str, Any]) -> None:
        config["process"]["user"] = {"uid": uid, "gid": uid, **more}

    return change


def test_pid_1_is_sent_only_what_it_handles(runrsc: Runtime) -> None:
    """As in a pid namespace of Linux's: from inside nothing ends it, from outside SIGKILL alone."""
    runrsc.config("sh", "-c", "kill -9 $$; kill -STOP $$; kill -TERM $$; echo on; while true; do sleep 0.05; done")
    runrsc.create()
    runrsc("start", runrsc.name)
    assert until(lambda: runrsc.output() == "on\n")
    runrsc("kill", runrsc.name, "TERM")
    runrsc("kill", runrsc.name, "USR1")
    runrsc("kill", "--all", runrsc.name, "HUP")
    runrsc("exec", runrsc.name, "sh", "-c", "kill -9 1; kill -HUP 1")
    assert runrsc.state()["status"] == "running"
    runrsc("kill", runrsc.name, "KILL")
    runrsc.until("stopped")


def test_what_is_executed_ends_with_its_proxy(runrsc: Runtime, tmp_path: Path) -> None:
    """`docker exec` is ended by a SIGKILL to the pid in its pid file."""
    runrsc.config("sleep", "100")
    runrsc.create()
    runrsc("start", runrsc.name)
    pid_file = tmp_path / "proxy"
    runrsc("exec", "--detach", "--pid-file", str(pid_file), runrsc.name, "sleep", "77", **_NOWHERE)
    assert "sleep 77" in runrsc("ps", runrsc.name).stdout
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    assert until(lambda: "sleep 77" not in runrsc("ps", runrsc.name).stdout)
    assert runrsc.state()["status"] == "running"


def test_ps_names_the_guests_programs(runrsc: Runtime) -> None:
    runrsc.config("sh", "-c", "sleep 55 & exec sleep 66")
    runrsc.create()
    runrsc("start", runrsc.name)
    assert until(lambda: "sleep 66" in runrsc("ps", runrsc.name).stdout)
    head, *rows = (line.split() for line in runrsc("ps", runrsc.name, "-ef").stdout.splitlines())
    assert head == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert [(row[0], row[2], *row[7:]) for row in rows] == [("0", "0", "sleep", "66"), ("0", "1", "sleep", "55")]
    # Who looks on the host is told the host's processes.
    assert json.loads(runrsc("ps", "--format", "json", runrsc.name).stdout)


@pytest.mark.parametrize(
    ("passwd", "uid", "home"),
    [
        ("root:x:0:0::/root:/bin/sh\nu:x:1000:1000::/var/u:/bin/sh\n", 1000, "/var/u"),
        ("root:x:0:0::/root:/bin/sh\n", 0, "/root"),
        ("root:x:0:0::/root:/bin/sh\n", 77, "/"),
        ("\n::::\nx:y\nu:x:zz:1::/no\nu:x:7:7:::\n" + "x" * 100000, 7, "/"),
    ],
)
def test_home_is_what_passwd_says(runrsc: Runtime, passwd: str, uid: int, home: str) -> None:
    _passwd(runrsc, passwd)
    assert runrsc.run("sh", "-c", "echo $HOME", change=_as(uid)).stdout == f"{home}\n"


def test_home_that_is_given_stays(runrsc: Runtime) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"]["env"].append("HOME=/given")

    _passwd(runrsc, "root:x:0:0::/root:/bin/sh\n")
    assert runrsc.run("sh", "-c", "echo $HOME", change=change).stdout == "/given\n"


def test_passwd_that_is_no_file(runrsc: Runtime) -> None:
    os.mkfifo(runrsc.bundle / "rootfs" / "etc" / "passwd")
    assert runrsc.run("sh", "-c", "echo $HOME").stdout == "/\n"


def test_groups_are_in_order(runrsc: Runtime) -> None:
    change = _as(0, additionalGids=[2000, 77])
    assert "groups=77,2000" in runrsc.run("sh", "-c", "id", change=change).stdout


def test_a_device_is_not_made_on_the_host(runrsc: Runtime) -> None:
    """Even with CAP_MKNOD; it is an error like others, and no end of the sandbox's kernel."""

    def change(config: dict[str, Any]) -> None:
        for names in config["process"]["capabilities"].values():
            names.append("CAP_MKNOD")
        config["root"]["readonly"] = False

    for kind in ("c", "b"):
        done = runrsc.run("busybox", "sh", "-c", f"busybox mknod /tmp/x {kind} 1 3; echo $?", change=change)
        assert (done.returncode, done.stdout) == (0, "1\n")
        assert "not permitted" in done.stderr


NODES = [
    {"path": "/dev/mine/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o644, "uid": 7, "gid": 8},
    {"path": "/dev/null", "type": "c", "major": 1, "minor": 3},
    {"path": "/nowhere/fifo", "type": "p"},
    {"path": "/dev/nobodys", "type": "b", "major": 8, "minor": 1666},
    {"path": "/dev/tty", "type": "c", "major": 5, "minor": 0},
]


def test_devices(runrsc: Runtime) -> None:
    """Those that the private kernel has, under any name; what nobody serves cannot be opened, as with runc."""

    def change(config: dict[str, Any]) -> None:
        config["linux"]["devices"] = NODES
        bound = {"destination": "/etc/passwd", "type": "bind", "source": "/dev/null", "options": ["bind", "ro"]}
        config["mounts"].append(bound)
        config["root"]["readonly"] = False

    done = runrsc.run(
        "sh", "-c",
        "stat -c '%F %a %u %g' /dev/mine/zero /nowhere/fifo /dev/nobodys; head -c 3 /dev/mine/zero | wc -c; cat /etc/passwd; "
        "echo x >/etc/passwd; echo y >/dev/null; (echo z >/nowhere/fifo & cat /nowhere/fifo); cat /dev/nobodys",
        change=change,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "character special file 644 7 8", "fifo 666 0 0", "block special file 666 0 0", "3", "z",
    ]  # fmt: skip
    assert "No such device or address" in done.stderr
    assert (runrsc.bundle / "rootfs" / "etc" / "passwd").is_file()


def test_where_a_volume_is_from(runrsc: Runtime) -> None:
    """Programs find their container's name in it, as with runc."""
    (runrsc.bundle / "data" / "deep").mkdir(parents=True)

    def change(config: dict[str, Any]) -> None:
        mount = {"destination": "/mnt", "type": "bind", "source": "data", "options": ["bind"]}
        config["mounts"].append(mount)

    done = runrsc.run("grep", " /mnt ", "/proc/self/mountinfo", change=change)
    assert done.stdout.split()[3:5] == [str(runrsc.bundle / "data"), "/mnt"]


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("nothere", 127, 'exec: "nothere": executable file not found in $PATH'),
        ("/no/there", 127, 'exec: "/no/there": stat /no/there: no such file or directory'),
        ("/etc", 126, 'exec: "/etc": permission denied'),
    ],
)
def test_words_of_a_program_that_cannot_begin(runrsc: Runtime, name: str, status: int, words: str) -> None:
    """Docker and Podman read them."""
    runrsc.config(name)
    runrsc.refused("create", "--bundle", str(runrsc.bundle), runrsc.name, why=f"container process: {words}")
    runrsc.config("sleep", "100")
    runrsc.create()
    done = runrsc("exec", runrsc.name, name, status=status)
    assert f"exec failed: unable to start container process: {words}" in done.stderr
    done = runrsc("exec", "--cwd", "/nowhere", runrsc.name, "true", status=126)
    assert 'chdir to cwd ("/nowhere") set in config.json failed: no such file or directory' in done.stderr


def test_privileged_has_what_there_is(runrsc: Runtime) -> None:
    """Docker names every device of the host's: those that the private kernel has not are left out."""

    def change(config: dict[str, Any]) -> None:
        config["linux"]["devices"] = [{"path": "/dev/vda", "type": "b", "major": 254, "minor": 0}]
        config["linux"]["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}

    assert runrsc.run("ls", "/dev/vda", change=change).returncode == 1
    assert "/dev/vda: left out" in runrsc.log.read_text()


def test_privileged_has_loop_devices_of_its_own(runrsc: Runtime) -> None:
    """As Docker names them; they are the sandbox's, whatever the host has."""

    def change(config: dict[str, Any]) -> None:
        for names in config["process"]["capabilities"].values():
            names.append("CAP_SYS_ADMIN")
        nodes = [("/dev/loop-control", "c", 10, 237), ("/dev/loop0", "b", 7, 0), ("/dev/vda", "b", 254, 0)]
        keys = ("path", "type", "major", "minor")
        config["linux"]["devices"] = [dict(zip(keys, node, strict=True)) for node in nodes]
        config["linux"]["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}

    show = "stat -c '%F %a' /dev/loop-control /dev/loop0; wc -c </dev/loop0; ls /sys/block"
    done = runrsc.run("sh", "-c", show, change=change)
    assert done.stdout.splitlines()[:3] == ["character special file 660", "block special file 660", "0"]
    assert done.stdout.split()[-8:] == [f"loop{number}" for number in range(8)]
    assert runrsc.log.read_text().count("left out") == 1


def test_domain_name(runrsc: Runtime) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["sysctl"] = {"kernel.domainname": "far.away"}

    assert runrsc.run("cat", "/proc/sys/kernel/domainname", change=change).stdout == "far.away\n"
