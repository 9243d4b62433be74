"""`runrsc --kernel=shared`: a container's life on the host's kernel, without a daemon."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from framework import inside
from framework.bundle import Runtime

pytestmark = pytest.mark.timeout(120)
_SETS = ("bounding", "effective", "permitted")

PROFILE = """
[syscalls]
default = "allow"
[[syscalls.rule]]
names = ["uname"]
action = "errno"
[capabilities]
keep = ["KILL", "SETUID"]
[memory]
max = "64m"
"""


def vkernels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(inside.rvisor("vkernel", "ls", "--json").out)
    return found


def test_life(runrsc: Runtime) -> None:
    runrsc.config("sh", "-c", "echo began; trap 'exit 3' TERM; while :; do sleep 0.05; done")
    runrsc.create()
    assert runrsc.state()["status"] == "created" and runrsc.output() == ""
    (one,) = vkernels()
    assert one["name"] == runrsc.name and len(one["vkernel"]) == 20
    # In every group, version 2's too, with nothing of the launcher's.
    groups = json.loads((runrsc.root / runrsc.name / "state.json").read_text())["cgroups"]
    assert len(groups) == len(list(Path("/sys/fs/cgroup").glob(f"*{runrsc.group}"))) > 0
    for group in groups:
        assert (Path(group) / "cgroup.procs").read_text() == f"{runrsc.state()['pid']}\n", group
    # Before it has begun there is already somewhere to go.
    assert runrsc("exec", runrsc.name, "id", "-u").stdout == "0\n"
    runrsc("start", runrsc.name)
    runrsc.refused("start", runrsc.name, why="cannot start an already running container")
    pid = runrsc.state()["pid"]
    assert os.readlink(f"/proc/{pid}/exe").endswith("/bin/busybox")
    assert int(runrsc("exec", runrsc.name, "sh", "-c", "ls -d /proc/[0-9]* | wc -l").stdout) <= 6
    runrsc("pause", runrsc.name)
    assert runrsc.state()["status"] == "paused"
    runrsc("resume", runrsc.name)
    assert pid in json.loads(runrsc("ps", "--format", "json", runrsc.name).stdout)
    shown = runrsc("ps", runrsc.name).stdout
    assert "sleep" in shown or "began" in shown
    runrsc("update", "--memory", str(32 << 20), runrsc.name)
    stats = json.loads(runrsc("events", "--stats", runrsc.name).stdout)
    assert stats["data"]["memory"]["usage"]["limit"] == 32 << 20
    runrsc("kill", runrsc.name, "TERM")
    runrsc.until("stopped")
    assert runrsc.output() == "began\n"
    runrsc("delete", runrsc.name)
    assert vkernels() == []


def test_run_and_its_status(runrsc: Runtime) -> None:
    assert runrsc.run("sh", "-c", "exit 7").returncode == 7
    assert runrsc.run("sh", "-c", "kill -9 $$").returncode in (0, 137)
    missing = runrsc.run("no-such-program")
    assert missing.returncode != 0 and "executable file not found in $PATH" in missing.stderr
    denied = runrsc.run("/etc")
    assert denied.returncode != 0 and "permission denied" in denied.stderr
    nowhere = runrsc.run("true", change=lambda c: c["process"].update(cwd="/nowhere"))
    assert "chdir to cwd" in nowhere.stderr, nowhere


def test_what_config_json_says_holds(runrsc: Runtime) -> None:
    script = """
hostname; id -u; id -G; grep -E 'Cap(Eff|Bnd)|NoNewPrivs' /proc/self/status; ls /proc/self/fd | wc -l
touch /x 2>/dev/null || echo read-only; cat /proc/kcore | wc -c
(echo 1 > /proc/sys/kernel/panic) 2>/dev/null || echo kept
cat /proc/self/cgroup | grep -v ':/$'; ls /dev | tr '\\n' ' '; echo; echo $HOME
"""

    def change(config: dict[str, Any]) -> None:
        config["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5]}

    lines = runrsc.run("sh", "-c", script, change=change).stdout.splitlines()
    assert lines[:3] == ["runrsc", "1000", "1000 5"], lines
    assert lines[3:6] == ["CapEff:\t0000000020000420", "CapBnd:\t0000000020000420", "NoNewPrivs:\t1"], lines
    assert lines[6:10] == ["4", "read-only", "0", "kept"], lines
    names = "fd full kmsg mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    assert lines[10:] == [f"{names} ", "/"], lines


def test_without_no_new_privs(runrsc: Runtime) -> None:
    """Filters come last, whatever they allow; CAP_SYS_ADMIN, which they need then, is gone with exec."""

    def change(config: dict[str, Any]) -> None:
        config["process"]["noNewPrivileges"] = False
        names = [
            "execve",
            "read",
            "write",
            "open",
            "openat",
            "close",
            "exit_group",
            "brk",
            "mmap",
            "munmap",
            "sendfile",
        ]
        names += [
            "arch_prctl",
            "set_tid_address",
            "mprotect",
            "fstat",
            "newfstatat",
            "ioctl",
            "getuid",
            "prctl",
            "fcntl",
        ]
        names += ["rt_sigaction", "rt_sigprocmask", "stat", "lstat", "getpid", "readlink", "poll", "set_robust_list"]
        names += ["rseq", "prlimit64", "getrandom", "uname", "getppid", "geteuid", "setgroups", "exit", "readlinkat"]
        rule = {"names": names, "action": "SCMP_ACT_ALLOW"}
        config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}

    done = runrsc.run("grep", "-E", "CapEff|NoNewPrivs|Seccomp:", "/proc/self/status", change=change)
    expected = ["CapEff:\t0000000020000420", "NoNewPrivs:\t0", "Seccomp:\t2"]
    assert done.stdout.splitlines() == expected, done


def test_a_profile(runrsc: Runtime, tmp_path: Path) -> None:
    """By the runtime's argument and by annotation; with the configuration's own filter the stricter answer counts."""
    path = tmp_path / "profile.toml"
    path.write_text(PROFILE)

    def change(config: dict[str, Any]) -> None:
        config["annotations"] = {"dev.rvisor.profile": str(path)}
        bounding = ["CAP_CHOWN", "CAP_KILL"]
        config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), bounding)
        rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}
        config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}

    script = "uname; mkdir /tmp/x; grep CapBnd /proc/self/status"
    done = runrsc.run("sh", "-c", script, change=change)
    # Busybox prints what it was not told.
    assert done.stdout.startswith("\nCapBnd"), done
    assert "Operation not supported" in done.stderr or "Not supported" in done.stderr, done
    assert "CapBnd:\t0000000000000020" in done.stdout
    runrsc.config("true", change=change)
    runrsc.common = ("--kernel=shared", "--profile=default")
    runrsc.refused("create", "--bundle", str(runrsc.bundle), runrsc.name, why="the runtime's --profile is another")
    runrsc.common = ("--kernel=shared", f"--profile={path}")
    runrsc.config("sleep", "100")
    runrsc.create()
    runrsc("start", runrsc.name)
    (one,) = vkernels()
    shown = json.loads(inside.rvisor("vkernel", "show", one["vkernel"], "--json").out)
    assert shown["profile"] == str(path) and "CHOWN" not in shown["capabilities"]
    # What comes in later is behind the same.
    assert runrsc("exec", runrsc.name, "busybox", "uname").stdout.strip() == ""
    limits = list(Path("/sys/fs/cgroup").glob(f"memory/{runrsc.group}/memory.limit_in_bytes"))
    assert all(int(limit.read_text()) == 64 << 20 for limit in limits)
    assert inside.rvisor("vkernel", "unload", one["vkernel"]).status == 0
    runrsc.until("stopped")


def test_file_rules_hold_for_exec(runrsc: Runtime, tmp_path: Path) -> None:
    path = tmp_path / "profile.toml"
    path.write_text('[[files.rule]]\npaths = ["/etc/secret"]\nallow = ""\n')
    (runrsc.bundle / "rootfs/etc/secret").write_text("SECRET\n")
    runrsc.common = ("--kernel=shared", f"--profile={path}")
    runrsc.config("sleep", "100")
    runrsc.create()
    runrsc("start", runrsc.name)
    done = runrsc("exec", runrsc.name, "sh", "-c", "cat /etc/secret; cat /etc/passwd | wc -l; dmesg | tail -1")
    assert "SECRET" not in done.stdout and "denied" in done.stderr, done
    assert "vkernel" in done.stdout, "the monitor answers syslog(2) of programs that come in later"
    runrsc("kill", runrsc.name, "KILL")


def test_exec_and_its_status(runrsc: Runtime) -> None:
    runrsc.config("sleep", "100")
    runrsc.create()
    runrsc("start", runrsc.name)
    assert runrsc("exec", runrsc.name, "sh", "-c", "exit 9", status=9)
    more = ("--user", "7:8", "--cwd", "/tmp", "--env", "A=b")
    assert runrsc("exec", *more, runrsc.name, "sh", "-c", "id -u; pwd; echo $A").stdout == "7\n/tmp\nb\n"
    assert "not found" in runrsc("exec", runrsc.name, "nothing", status=127).stderr
    pid_file = runrsc.bundle / "pid"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    runrsc("exec", "--detach", "--pid-file", str(pid_file), runrsc.name, "sleep", "50", **quiet)
    pid = int(pid_file.read_text())
    assert os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink(f"/proc/{runrsc.state()['pid']}/ns/mnt")
    assert os.readlink(f"/proc/{pid}/root") == "/"
    runrsc("kill", "--all", runrsc.name, "KILL")
    runrsc.until("stopped")


def test_a_terminal_of_its_own(runrsc: Runtime) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"].update(terminal=True, consoleSize={"height": 11, "width": 44})

    runrsc.config("sh", "-c", "tty; stty size; test -c /dev/console && read x && echo got $x", change=change)
    master = runrsc.create_with_terminal()
    runrsc("start", runrsc.name)
    os.write(master, b"typed\n")
    seen = b""
    end = time.monotonic() + 20
    while b"got typed" not in seen and time.monotonic() < end:
        seen += os.read(master, 4096)
    os.close(master)
    assert b"/dev/pts/0" in seen and b"11 44" in seen, seen


def test_hooks(runrsc: Runtime, tmp_path: Path) -> None:
    """All six stages, in their order; createContainer in the container's namespaces and startContainer inside."""
    said = tmp_path / "said"
    for name in ("outside", "inside"):
        where = said if name == "outside" else Path("/said")
        script = runrsc.bundle / name
        script.write_text(f'#!/bin/sh\nread x\necho "$1" "$x" $(hostname) >> {where}\n')
        script.chmod(0o755)
    (runrsc.bundle / "inside").rename(runrsc.bundle / "rootfs/bin/hook")

    def change(config: dict[str, Any]) -> None:
        stages = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
        own = {"path": str(runrsc.bundle / "outside"), "env": ["PATH=/usr/bin:/bin"]}
        config["hooks"] = {stage: [{**own, "args": ["hook", stage]}] for stage in stages}
        within = {"path": "/bin/hook", "args": ["hook", "startContainer"], "env": ["PATH=/bin"]}
        config["hooks"]["startContainer"] = [within]
        config["root"]["readonly"] = False

    assert runrsc.run("sh", "-c", "cat /said", change=change).stdout.startswith("startContainer {")
    lines = said.read_text().splitlines()
    words = [line.split()[0] for line in lines]
    assert words == ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
    assert all(json.loads(line.partition(" ")[2].rpartition(" ")[0])["pid"] > 1 for line in lines[:3])
    failing = runrsc.bundle / "outside"
    failing.write_text("#!/bin/sh\necho because >&2\nexit 4\n")
    done = runrsc.run("true", change=change)
    assert done.returncode != 0 and "because" in done.stderr


def test_devices(runrsc: Runtime) -> None:
    """A node may be made where the capability is there; opened is only what the configuration allows."""

    def change(config: dict[str, Any]) -> None:
        config["process"]["capabilities"] = {name: ["CAP_MKNOD"] for name in _SETS}
        config["root"]["readonly"] = False
        config["linux"]["devices"] = [{"path": "/dev/other", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600}]

    script = "mknod /kmsg c 1 11 && cat /kmsg; mknod /mem c 1 1 && cat /mem; dd if=/dev/other bs=3 count=1 | wc -c"
    done = runrsc.run("sh", "-c", script, change=change)
    assert done.stderr.count("Operation not permitted") >= 2 and done.stdout.splitlines()[-1] == "3", done


@pytest.mark.parametrize("change", [
    {"linux": {"namespaces": [{"type": "pid"}]}},
    {"process": {"apparmorProfile": "docker-default"}},
    {"mounts": [{"destination": "/x", "type": "ext4", "source": "/dev/vda"}]},
    {"mounts": [{"destination": "/x", "type": "bind", "source": "/tmp", "options": ["bind", "no-such"]}]},
    {"linux": {"devices": [{"path": "/dev/x", "type": "z"}]}},
    {"annotations": {"dev.rvisor.profile": "/nowhere.toml"}},
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(runrsc: Runtime, change: dict[str, Any]) -> None:
    def apply(config: dict[str, Any]) -> None:
        for section, value in change.items():
            if isinstance(value, dict):
                config.setdefault(section, {}).update(value)
            else:
                config[section] = value

    runrsc.config("true", change=apply)
    done = runrsc("create", "--bundle", str(runrsc.bundle), runrsc.name, status=None)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done
    assert not list(runrsc.root.glob("*")) and vkernels() == []


def test_a_create_that_is_killed_leaves_nothing(runrsc: Runtime) -> None:
    """The monitor sees its caller's end before the container was said to stay, and ends it."""
    (runrsc.bundle / "hook").write_text("#!/bin/sh\nkill -9 $PPID\n")
    (runrsc.bundle / "hook").chmod(0o755)

    def change(config: dict[str, Any]) -> None:
        config["hooks"] = {"createRuntime": [{"path": str(runrsc.bundle / "hook")}]}

    runrsc.config("sleep", "100", change=change)
    with subprocess.Popen(["true"]):
        done = runrsc("create", "--bundle", str(runrsc.bundle), runrsc.name, status=None)
    assert done.returncode == -9
    runrsc("delete", "--force", runrsc.name)
    end = time.monotonic() + 10
    while runrsc.left() and time.monotonic() < end:
        time.sleep(0.05)
    assert runrsc.left() == [] and vkernels() == []
