"""The same `docker` commands on runc, which is the oracle, and on runrsc: what is seen must be the same."""

from __future__ import annotations

import json
import os
import shlex
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from framework.dockerd import OURS, Docker
from framework.inside import Done

Seen = list[object]
"""What a case observed."""


@pytest.fixture
def both(runc: Docker, docker: Docker) -> Callable[[Callable[[Docker], Seen]], None]:
    """Runs a case on runc, then on runrsc, and compares."""

    def compare(case: Callable[[Docker], Seen]) -> None:
        wanted = case(runc)
        assert case(docker) == wanted

    return compare


Both = Callable[[Callable[[Docker], Seen]], None]

RUN = {
    "status": "busybox sh -c 'echo out; echo err >&2; exit 7'",
    "pid-1-kills-itself": "busybox sh -c 'kill -9 $$; kill -TERM $$; echo on'",
    "not-there": "busybox nothere",
    "path-not-there": "--entrypoint /none single",
    "not-executable": "busybox /etc/passwd",
    "directory": "busybox /etc",
    "workdir-made": "-w /a/b/c busybox pwd",
    "workdir-a-file": "-w /etc/passwd busybox pwd",
    "single": "--hostname h single a b",
    "single-fails": "--hostname h single fail",
    "entrypoint": "--entrypoint sh busybox -c 'echo e'",
    "env": "--hostname h -e A=1 -e B -e PATH=/bin busybox env",
    "user": "-u user busybox sh -c 'id; echo $HOME; touch /x'",
    "user-number": "-u 1234 busybox sh -c 'id; echo $HOME'",
    "user-and-group": "-u user:extra busybox id",
    "user-unknown": "-u nobodyx busybox id",
    "group-add": "--group-add 77 --group-add 2000 busybox id -G",
    "group-add-name": "--group-add extra -u user busybox id",
    "capabilities": "busybox grep Cap /proc/self/status",
    "cap-drop-all": "--cap-drop ALL busybox grep Cap /proc/self/status",
    "cap-add": "--cap-drop ALL --cap-add NET_ADMIN busybox grep Cap /proc/self/status",
    "cap-add-user": "-u user --cap-add CHOWN busybox grep Cap /proc/self/status",
    "cap-drop-chown": "--cap-drop CHOWN busybox chown 5 /tmp",
    "cap-add-sys-admin": "--cap-add SYS_ADMIN busybox sh -c 'mount -t tmpfs none /tmp; echo $?'",
    "no-mount": "busybox mount -t tmpfs none /tmp",
    "no-new-privileges": "--security-opt no-new-privileges busybox grep NoNew /proc/self/status",
    "seccomp-default": "busybox sh -c 'grep Seccomp: /proc/self/status; unshare -U true; unshare -m true'",
    "seccomp-unconfined": "--security-opt seccomp=unconfined busybox sh -c 'grep Seccomp: /proc/self/status'",
    "seccomp-file": "--security-opt seccomp={top}/no-mkdir.json busybox mkdir /x",
    "bind": "-v {top}/context/etc:/mnt busybox cat /mnt/passwd",
    "bind-file": "-v {top}/context/etc/passwd:/mnt busybox cat /mnt",
    "bind-read-only": "-v {top}/context/etc:/mnt:ro busybox touch /mnt/x",
    "bind-not-there": "--mount type=bind,source=/nowhere,target=/x busybox true",
    "volume-anonymous": "-v /data busybox sh -c 'touch /data/x; ls /data'",
    "read-only": "--read-only busybox touch /x",
    "read-only-writable-parts": "--read-only --tmpfs /tmp busybox sh -c 'echo a >/dev/shm/x; echo b >/tmp/x; cat /*/x'",
    "tmpfs": "--tmpfs /q:size=1m,mode=700,noexec busybox sh -c 'dd if=/dev/zero of=/q/x bs=1k count=2000; stat -c %a /q'",
    "tmpfs-covers": "--tmpfs /etc:size=1m busybox ls /etc/passwd",
    "memory": "-m 64m busybox echo x",
    "memory-options": "-m 64m --memory-reservation 32m --oom-kill-disable --memory-swappiness 0 busybox echo x",
    "cpu-options": "--cpus 0.5 --cpu-shares 100 --cpuset-cpus 0 busybox echo x",
    "cpuset": "--cpuset-cpus 0 busybox nproc",
    "pids-limit": "--pids-limit 4 busybox sh -c 'for i in 1 2 3 4 5 6; do sleep 1 & done; wait'",
    "devices": "busybox sh -c 'cd /dev; ls -d console fd full null ptmx pts random shm stderr stdin stdout tty urandom zero'",
    "device-under-another-name": "--device /dev/zero:/dev/nought:r busybox sh -c 'stat -c %F /dev/nought; head -c 4 /dev/nought | wc -c'",
    "device-bound": "-v /dev/null:/etc/group busybox cat /etc/group",
    "device-zero": "--device /dev/zero busybox sh -c 'head -c 4 /dev/zero | wc -c'",
    "hostname": "--hostname foo.bar busybox sh -c 'hostname; cat /etc/hostname; grep -c foo.bar /etc/hosts'",
    "domainname": "--domainname dom busybox cat /proc/sys/kernel/domainname",
    "dns": "--dns 1.2.3.4 --dns-search ex.org --dns-option ndots:2 busybox cat /etc/resolv.conf",
    "add-host": "--add-host a.b:1.2.3.4 busybox grep -F a.b /etc/hosts",
    "ulimit": "--ulimit nofile=100:200 --ulimit core=0 busybox sh -c 'ulimit -n; ulimit -Hn; ulimit -c'",
    "shm-size": "--shm-size 1m busybox dd if=/dev/zero of=/dev/shm/x bs=1k count=2000",
    "uts-host": "--uts host busybox hostname",
    "ipc-private": "--ipc private busybox true",
    "oom-score-adj": "--oom-score-adj 200 busybox cat /proc/self/oom_score_adj",
    "init-status": "--init busybox sh -c 'exit 4'",
    "network-none": "--network none busybox ip -o addr show lo",
    "network-bridge": "busybox sh -c 'ip route | cut -d\" \" -f1-3; ifconfig eth0 | grep -o MTU:[0-9]*'",
    "ping": "busybox sh -c 'ping -c 2 -w 9 $(ip route | grep default | cut -d\" \" -f3) | grep received'",
    "network-host": "--network host busybox sh -c 'ip -o link | grep -c docker0'",
    "debian": "debian sh -c 'cat /etc/debian_version; dpkg -l bash | tail -1; perl -e \"print 6*7\"'",
    "python": "debian python3 -c 'import os, sys; print(os.getpid(), sys.version_info >= (3, 11))'",
    "compile": "debian sh -c 'echo \"int main(){{return 5;}}\" >/tmp/a.c && cc -o /tmp/a /tmp/a.c && /tmp/a'",
}  # fmt: skip
"""`docker run --rm …` to its end."""


OF_THE_SHARED_KERNEL = {"seccomp-unconfined": "the monitor's rows are a filter, with or without the configuration's"}
"""Cases that differ there, and why."""


@pytest.mark.parametrize("case", RUN)
def test_run(both: Both, case: str) -> None:
    if OURS == "rvisor-shared" and case in OF_THE_SHARED_KERNEL:
        pytest.skip(OF_THE_SHARED_KERNEL[case])

    def run(docker: Docker) -> Seen:
        top = docker.daemon.top
        rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
        profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
        (top / "no-mkdir.json").write_text(json.dumps(profile))
        return [docker.run(*shlex.split(RUN[case].format(top=top)))]

    both(run)


EXEC = {
    "status": "@ sh -c 'id; pwd; exit 5'",
    "user": "-u user @ sh -c 'id; echo $HOME'",
    "user-number": "-u 1234:5678 @ id",
    "user-unknown": "-u nobodyx @ id",
    "group": "-u 0:2000 @ id",
    "workdir": "-w /tmp @ pwd",
    "workdir-not-there": "-w /nowhere @ pwd",
    "env": "-e A=b -e C @ sh -c 'echo $A $HOME $C'",
    "not-there": "@ nothere",
    "path-not-there": "@ /no/there",
    "not-executable": "@ /etc/passwd",
    "directory": "@ /etc",
    "killed": "@ sh -c 'kill -9 $$'",
    "kills-pid-1": "@ sh -c 'kill -9 1; kill -TERM 1; sleep 0.2; echo on'",
    "detached-not-there": "-d @ nothere",
}


@pytest.mark.parametrize("case", EXEC)
def test_exec(both: Both, case: str) -> None:
    def run(docker: Docker) -> Seen:
        name = docker.up("busybox", "sleep", "1000")
        return [docker("exec", *(name if word == "@" else word for word in shlex.split(EXEC[case])))]

    both(run)


def test_exec_streams(both: Both) -> None:
    def run(docker: Docker) -> Seen:
        name = docker.up("busybox", "sleep", "1000")
        detached = docker("exec", "-d", name, "sh", "-c", "echo x >/tmp/f").status
        time.sleep(0.5)
        long = "y" * 300_000
        back = docker("exec", "-i", name, "cat", stdin=long)
        return [detached, docker("exec", name, "cat", "/tmp/f"), back.out == long, back.err]

    both(run)


def test_logs_and_wait(both: Both) -> None:
    def run(docker: Docker) -> Seen:
        name = docker.up("busybox", "sh", "-c", "echo a; sleep 0.5; echo b >&2; sleep 0.3; exit 9")
        seen: Seen = [docker("wait", name), docker("logs", name), docker("logs", "--tail", "1", name)]
        seen.append(docker.inspect(name, "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}"))
        seen += [docker("start", name), docker("wait", name), docker("logs", name)]
        return seen

    both(run)


STOPS = {
    "handled": ("trap 'echo t; exit 4' TERM; echo up; while true; do sleep 0.1; done", ["stop"]),
    "not-handled": ("echo up; exec sleep 1000", ["stop", "-t", "1"]),
    "usr1-not-handled": ("echo up; exec sleep 1000", ["kill", "-s", "USR1"]),
    "usr1": ("trap 'echo u; exit 6' USR1; echo up; while true; do sleep 0.1; done", ["kill", "-s", "USR1"]),
    "int": ("trap 'exit 9' INT; echo up; while true; do sleep 0.1; done", ["kill", "-s", "SIGINT"]),
    "kill": ("echo up; exec sleep 1000", ["kill"]),
    "kill-unknown": ("echo up; exec sleep 1000", ["kill", "-s", "FOO"]),
    "rm": ("echo up; exec sleep 1000", ["rm"]),
    "rm-force": ("echo up; exec sleep 1000", ["rm", "-f"]),
}


@pytest.mark.parametrize("case", STOPS)
def test_stop(both: Both, case: str) -> None:
    script, command = STOPS[case]

    def run(docker: Docker) -> Seen:
        name = docker.up("busybox", "sh", "-c", script)
        docker.logs_until(name, "up")
        done = docker(*command, name)
        time.sleep(1)
        state = docker("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", name)
        return [done, state.out, docker("logs", name).out, docker("exec", name, "true").status]

    both(run)


def test_copy(both: Both) -> None:
    def run(docker: Docker) -> Seen:
        name = docker.up("busybox", "sleep", "1000")
        there, back = docker.daemon.top / "there", docker.daemon.top / f"back-{docker.runtime}"
        there.mkdir(exist_ok=True)
        (there / "a").write_text("hello")
        if not (there / "b").is_symlink():
            (there / "b").symlink_to("a")
        seen: Seen = [docker("cp", str(there), f"{name}:/in").status]
        seen.append(docker("exec", name, "sh", "-c", "cat /in/a /in/b; readlink /in/b; echo more >>/in/a"))
        seen.append(docker("cp", f"{name}:/in", str(back)).status)
        seen += [(back / "a").read_text(), os.readlink(back / "b"), docker("cp", f"{name}:/nowhere", str(back)).status]
        with tarfile.open(fileobj=_tar(docker, name, docker.daemon.top)) as packed:
            seen.append([member.name for member in packed])
        seen.append(sorted(docker("diff", name).out.split("\n")))
        return seen

    def _tar(docker: Docker, name: str, top: Path):  # type: ignore[no-untyped-def]
        import io
        import subprocess

        command = docker.daemon.command("cp", f"{name}:/etc/passwd", "-")
        return io.BytesIO(subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60).stdout)

    both(run)


def test_pause(both: Both) -> None:
    def run(docker: Docker) -> Seen:
        name = docker.up("busybox", "sh", "-c", "while true; do echo x; sleep 0.1; done")
        seen: Seen = [docker("pause", name), docker.inspect(name, "{{.State.Status}}")]
        length = len(docker("logs", name).out)
        time.sleep(0.5)
        seen += [len(docker("logs", name).out) == length, docker("pause", name), docker("exec", name, "true")]
        seen += [docker("unpause", name), docker("exec", name, "echo", "y"), docker("pause", name)]
        return [*seen, docker("rm", "-f", name)]

    both(run)


def test_update(both: Both) -> None:
    def run(docker: Docker) -> Seen:
        name = docker.up("-m", "64m", "busybox", "sleep", "1000")
        limits = ("-m", "128m", "--memory-swap", "256m", "--cpus", "0.5", "--pids-limit", "50", "--cpu-shares", "512")
        seen: Seen = [docker("update", *limits, name), docker("exec", name, "echo", "y")]
        seen.append(docker.inspect(name, "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}"))
        groups = Path("/sys/fs/cgroup/memory") / docker.daemon.group
        # The other runtime's container is there too.
        seen.append({(g / "memory.limit_in_bytes").read_text() for g in groups.iterdir() if g.is_dir()})
        return [*seen, docker("update", "-m", "1m", name)]

    both(run)


def test_health(both: Both) -> None:
    def run(docker: Docker) -> Seen:
        every = ("--health-interval", "0.3s", "--health-retries", "2")
        name = docker.up("--health-cmd", "test -e /tmp/ok", *every, "busybox", "sleep", "1000")
        docker.until(name, "{{.State.Health.Status}}", "unhealthy")
        docker.ok("exec", name, "touch", "/tmp/ok")
        docker.until(name, "{{.State.Health.Status}}", "healthy")
        slow = docker.up(
            "--health-cmd", "sleep 100", "--health-timeout", "1s", *every, "busybox", "sleep", "1000", name="2"
        )
        docker.until(slow, "{{.State.Health.Status}}", "unhealthy")
        return [docker("exec", slow, "true")]

    both(run)


def test_restart_policies(both: Both) -> None:
    def run(docker: Docker) -> Seen:
        failing = docker.up("--restart", "on-failure:2", "busybox", "false")
        docker.until(failing, "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}", "2 exited 1")
        fine = docker.up("--restart", "on-failure", "busybox", "true", name="2")
        docker.until(fine, "{{.RestartCount}} {{.State.Status}}", "0 exited")
        always = docker.up("--restart", "always", "busybox", "sleep", "0.5", name="3")
        docker.until(always, "{{gt .RestartCount 0}}", "true")
        seen: Seen = [docker("stop", "-t", "1", always).status, docker.inspect(always, "{{.State.Status}}")]
        seen += [docker("restart", "-t", "1", always).status, docker.inspect(always, "{{.State.Status}}")]
        return seen

    both(run)


def test_volume_that_two_share(both: Both) -> None:
    def run(docker: Docker) -> Seen:
        volume = f"{docker.name}-v"
        one = docker.run("-v", f"{volume}:/data", "busybox", "sh", "-c", "echo v >/data/v; stat -c '%a %u' /data")
        two = docker.run("-v", f"{volume}:/data:ro", "busybox", "sh", "-c", "cat /data/v; touch /data/w")
        filled = docker.run("-v", f"{volume}2:/etc", "busybox", "ls", "/etc/passwd")
        return [one, two, filled, docker("volume", "rm", volume, f"{volume}2")]

    both(run)


@pytest.mark.parametrize("script", ["x=a; while true; do x=$x$x; done", "(x=a; while true; do x=$x$x; done); echo $?"])
def test_out_of_memory(both: Both, script: str) -> None:
    def run(docker: Docker) -> Seen:
        name = docker.up("-m", "32m", "--memory-swap", "32m", "busybox", "sh", "-c", script)
        seen: Seen = [docker("wait", name), docker.inspect(name, "{{.State.OOMKilled}} {{.State.ExitCode}}")]
        return [*seen, docker("logs", name).out]

    both(run)


def test_events_and_stats(both: Both) -> None:
    def run(docker: Docker) -> Seen:
        since = str(time.time())
        name = docker.up("busybox", "sleep", "1000")
        stats = docker(
            "stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}", name
        ).out.split()
        assert stats[0] == "NAME"
        assert stats[2] != "0B"
        assert int(stats[-1]) > 0
        docker.ok("exec", name, "true")
        docker.ok("kill", name)
        docker.ok("wait", name)
        docker.ok("rm", name)
        time.sleep(0.5)
        said = docker.ok("events", "--since", since, "--until", str(time.time()), "--filter", "type=container")
        return [[line.split()[2].rstrip(":") for line in said.splitlines() if "image=busybox" in line]]

    both(run)


def test_ports(both: Both) -> None:
    """A server behind a published port, and one reached by its name on a network of its own."""

    def run(docker: Docker) -> Seen:
        network = f"{docker.name}-net"
        docker.ok("network", "create", network)
        page = "mkdir /w; echo page >/w/p; httpd -f -p 80 -h /w"
        server = docker.up("--network", network, "-p", "127.0.0.1:8080:80", "busybox", "sh", "-c", page)
        seen: Seen = []
        try:
            fetch = f"for i in 1 2 3 4 5 6 7 8 9; do wget -q -O - http://{server}/p && break; sleep 0.3; done"
            seen.append(docker.run("--network", network, "busybox", "sh", "-c", fetch).out)
            seen.append(_fetch(docker))
            docker.ok("rm", "-f", server)
        finally:
            docker("rm", "-f", server)
            docker("network", "rm", network)
        return seen

    def _fetch(docker: Docker) -> str:
        from framework.inside import run as plain

        done: Done = plain(docker.daemon.within("curl", "-s", "-m", "10", "http://127.0.0.1:8080/p"))
        return done.out

    both(run)


def test_shared_network(both: Both) -> None:
    def run(docker: Docker) -> Seen:
        name = docker.up("busybox", "sh", "-c", "mkdir /w; echo page >/w/p; httpd -f -p 80 -h /w")
        shared = f"container:{name}"
        script = "for i in 1 2 3 4 5; do wget -q -O - http://127.0.0.1/p && break; sleep 0.3; done"
        return [docker.run("--network", shared, "busybox", "sh", "-c", script)]

    both(run)
