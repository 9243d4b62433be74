"""What is of the shared kernel alone, under Docker: `docker run --runtime=rvisor-shared`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from framework import inside
from framework.dockerd import OURS, Daemon, Docker, wait_for

pytestmark = pytest.mark.skipif(OURS != "rvisor-shared", reason="of the shared kernel")


@pytest.fixture
def vkernel(daemon: Daemon, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """`rvisor vkernel`, of this daemon's containers."""
    monkeypatch.setenv("RVISOR_RUNTIME_DIR", f"{daemon.top}/rvisor")
    return lambda *words: inside.rvisor("vkernel", *words)


def test_instances(docker: Docker, vkernel) -> None:  # type: ignore[no-untyped-def]
    """Twenty at once, each with an instance named after its container."""
    names = [docker.up("busybox", "sleep", "1000", name=f"-{number}") for number in range(20)]
    ids = {docker.daemon("inspect", "--format", "{{.Id}}", name).out.strip() for name in names}
    listed = json.loads(vkernel("ls", "--json").out)
    assert {one["vkernel"] for one in listed} == {f"vkernel_{identity[:12]}" for identity in ids}
    first = next(iter(ids))[:12]
    shown = json.loads(vkernel("show", f"vkernel_{first}", "--json").out)
    assert shown["monitor"] and shown["filter"]["instructions"] > 20 and "SYS_ADMIN" not in shown["capabilities"]
    assert vkernel("unload", f"vkernel_{first}").status == 0
    docker.close()
    wait_for(lambda: json.loads(vkernel("ls", "--json").out) == [], "instances stay")


def test_kernel_logs(docker: Docker, vkernel) -> None:  # type: ignore[no-untyped-def]
    """Two containers' dmesg, each with its own lines only; the operator has both. Docker's default refuses syslog(2)."""
    logs = {}
    for name in ("-a", "-b"):
        container = docker.up("--security-opt", "seccomp=unconfined", "busybox", "sleep", "1000", name=name)
        identity = docker.daemon("inspect", "--format", "{{.Id}}", container).out.strip()[:12]
        logs[identity] = docker.daemon("exec", container, "dmesg").out
    (a, in_a), (b, in_b) = logs.items()
    assert a in in_a and b not in in_a and b in in_b and a not in in_b
    assert all(f"vkernel_{one}" in vkernel("log").out for one in logs)


def test_escalation_is_refused(docker: Docker, vkernel) -> None:  # type: ignore[no-untyped-def]
    """A user namespace, also with the configuration's filter switched off; and it is told."""
    container = docker.up("--security-opt", "seccomp=unconfined", "debian", "sleep", "1000")
    done = docker.daemon("exec", container, "unshare", "-Ur", "id", "-u")
    assert done.status != 0 and "Operation not permitted" in done.err
    assert "refused more capabilities by a user namespace" in docker.daemon("exec", container, "dmesg").out
    everything = docker.daemon("exec", "--privileged", container, "grep", "CapEff", "/proc/self/status").out
    assert everything.split()[1] == "00000000a80425fb", "the ceiling is that of the start"


def test_pid_namespace(docker: Docker) -> None:
    """Nobody gets out of it, or sees others in it."""
    done = docker.run("debian", "sh", "-c", "ls -d /proc/[0-9]* | wc -l; nsenter -t 1 -p -m true; unshare -p -f true")
    assert int(done.out.split()[0]) <= 4 and done.err.count("Operation not permitted") + done.err.count("denied") >= 2


def test_a_profile_by_the_runtime_s_arguments(daemon: Daemon, docker: Docker, tmp_path: Path) -> None:
    """uname is allowed in A and denied in B."""
    denying = daemon.top / "no-uname.toml"
    denying.write_text('[syscalls]\ndefault = "allow"\n[[syscalls.rule]]\nnames = ["uname"]\naction = "errno"\n')
    daemon.runtimes["rvisor-no-uname"] = {
        "path": str(daemon.runtime),
        "runtimeArgs": ["--kernel=shared", f"--profile={denying}"],
    }
    daemon.restart()
    assert docker.run("busybox", "uname", "-s").out == "Linux\n"
    denied = daemon("run", "--rm", "--runtime", "rvisor-no-uname", "busybox", "uname", "-s")
    # Busybox does not look whether it was told.
    assert denied.out.strip() == "", denied


def test_privileged(docker: Docker) -> None:
    """The devices of the host, as with runc; what the host's kernel would give away is the operator's to know."""
    done = docker.run("--privileged", "busybox", "sh", "-c", "grep CapEff /proc/self/status; ls /dev | wc -l")
    words = done.out.split()
    assert int(words[1], 16) & 1 << 21 and int(words[2]) > 20, done
    plain = docker.run("busybox", "sh", "-c", "mknod /dev/x b 254 0 && cat /dev/x")
    assert "Operation not permitted" in plain.err


def test_a_socket_and_a_device_of_the_host(daemon: Daemon, docker: Docker) -> None:
    """What a private kernel cannot serve."""
    path = daemon.socket.removeprefix("unix://")
    assert docker.run("-v", f"{path}:/s", "busybox", "test", "-S", "/s").status == 0
    device = "/dev/loop-control" if os.path.exists("/dev/loop-control") else "/dev/tty0"
    seen = docker.run("--device", device, "busybox", "sh", "-c", f"test -c {device} && echo there")
    assert seen.out == "there\n", seen
