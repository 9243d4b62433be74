"""Control groups of version 2: the hierarchy itself, mounted without controllers, and their files in a made-up one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from framework.bundle import GROUPS, ROOT, Runtime, need
from rvisor.oci import cgroups
from rvisor.oci.errors import OciError

_MOUNTED = (
    "mount --make-rprivate / && umount -R /sys/fs/cgroup 2>/dev/null; "
    "mount -t cgroup2 none /sys/fs/cgroup && test -e /sys/fs/cgroup/cgroup.controllers && exec "
)


def unified(runrsc: Runtime, script: str) -> subprocess.CompletedProcess[str]:
    """A script with $R for `runrsc --root …`, where /sys/fs/cgroup is of version 2."""
    runtime = f"{sys.executable} -m rvisor.oci --root {runrsc.root}"
    env = dict(os.environ, PYTHONPATH=str(ROOT / "python"), R=runtime, B=str(runrsc.bundle), N=runrsc.name)
    command = ["unshare", "--mount", "sh", "-c", _MOUNTED + 'sh -c "$0"', script]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, check=False)


def test_a_life(runrsc: Runtime) -> None:
    """Made, paused, seen, gone, in the kernel's own hierarchy."""
    if os.geteuid() != 0:
        need("root is needed")
    if unified(runrsc, "true").returncode != 0:
        pytest.skip("cgroup2 cannot be mounted here")
    runrsc.config("sleep", "1000", change=lambda c: c["linux"].update(cgroupsPath=f"/top/{runrsc.name}"))
    done = unified(
        runrsc,
        """
        set -e
        G=/sys/fs/cgroup/top/$N
        $R create -b $B $N </dev/null >/dev/null 2>&1
        grep -c . $G/cgroup.procs | sed 's/^[1-9][0-9]*$/some/'
        $R start $N
        $R pause $N; cat $G/cgroup.freeze; $R state $N | grep -o paused
        $R resume $N; cat $G/cgroup.freeze
        $R exec $N echo inside
        $R ps --format json $N | grep -c '[0-9]'
        $R events --stats $N | grep -o '"type": *"stats"' | tr -d ' '
        $R delete --force $N
        ls -d $G 2>&1 | grep -o 'No such' ; rmdir /sys/fs/cgroup/top
        """,
    )
    assert done.stdout.split("\n") == [
        "some", "1", "paused", "0", "inside", "1", '"type":"stats"', "No such", "",
    ], done  # fmt: skip


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids hugetlb\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    monkeypatch.setattr(cgroups, "_MOUNT", str(tmp_path))
    monkeypatch.setattr(cgroups, "own", lambda: {"": "/mine"})
    return tmp_path


FILES = {
    "memory.max": ({"memory": {"limit": 64 << 20}}, str(64 << 20)),
    "memory.low": ({"memory": {"reservation": 32 << 20}}, str(32 << 20)),
    "memory.swap.max": ({"memory": {"limit": 64 << 20, "swap": 96 << 20}}, str(32 << 20)),
    "cpu.max": ({"cpu": {"quota": 50000, "period": 100000}}, "50000 100000"),
    "cpu.weight": ({"cpu": {"shares": 1024}}, "39"),
    "cpuset.cpus": ({"cpu": {"cpus": "0"}}, "0"),
    "pids.max": ({"pids": {"limit": 10}}, str(10 + cgroups.OWN_TASKS)),
    "io.weight": ({"blockIO": {"weight": 1000}}, "10000"),
    "io.max": ({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 7}]}}, "8:0 rbps=7"),
    "hugetlb.2MB.max": ({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}, "1"),
    "memory.high": ({"unified": {"memory.high": "123"}}, "123"),
}


def test_systemd_s_path(runrsc: Runtime) -> None:
    """As a kubelet with the systemd driver asks for it."""
    runrsc.config(
        "sleep", "100", change=lambda c: c["linux"].update(cgroupsPath=f"rvisor-test.slice:cri:{runrsc.name}")
    )
    runrsc("--systemd-cgroup", "create", "--bundle", str(runrsc.bundle), runrsc.name, stdout=None, stderr=None)
    try:
        groups = Path(f"/proc/{runrsc.state()['pid']}/cgroup").read_text()
        assert f"/rvisor.slice/rvisor-test.slice/cri-{runrsc.name}.scope" in groups
    finally:
        runrsc("delete", "--force", runrsc.name)
        for path in GROUPS.glob("*/rvisor.slice"):
            (path / "rvisor-test.slice").rmdir()
            path.rmdir()


@pytest.mark.parametrize("limit, most", [(1, 33), (511, 543), (520, 544), (544, 544), (1000, 1000)])
def test_limit_of_processes(limit: int, most: int) -> None:
    """A small one is for the guest alone; in a larger one are the sandbox's own tasks."""
    assert cgroups.host_pids(limit) == most
    assert cgroups.guest_limits({"pids": {"limit": limit}})["pids"] == most - cgroups.OWN_TASKS


@pytest.mark.parametrize("name", FILES)
def test_limits(made_up: Path, name: str) -> None:
    resources, value = FILES[name]
    group = made_up / "a"
    group.mkdir()
    for file in FILES:
        (group / file).touch()
    assert cgroups.paths("/a") == [str(group)]
    cgroups.set_limits([str(group)], resources)
    assert (group / name).read_text() == value


NONE: list[tuple[dict[str, Any], str]] = [
    ({"memory": {"swappiness": 0}}, "memory.swappiness"),
    ({"memory": {"disableOOMKiller": True}}, "disableOOMKiller"),
    ({"network": {"classID": 1}}, "network.classID"),
    ({"pids": {"limit": 5}}, "does not offer the cgroup file pids.max"),
]


@pytest.mark.parametrize("resources, why", NONE, ids=[why for _, why in NONE])
def test_what_version_2_has_not(made_up: Path, resources: dict[str, Any], why: str) -> None:
    (made_up / "a").mkdir()
    with pytest.raises(OciError, match=why):
        cgroups.set_limits([str(made_up / "a")], resources)


def test_places(made_up: Path) -> None:
    """Relative paths are below the caller's group, systemd's names where systemd would have them."""
    (made_up / "mine").mkdir()
    assert cgroups.paths("rel/x") == [str(made_up / "mine" / "rel" / "x")]
    path = cgroups.normal_path("user-1000.slice:cri:abc", "n", systemd=True)
    assert path == "/user.slice/user-1000.slice/cri-abc.scope"
    assert cgroups.normal_path("", "n", systemd=True) == "/system.slice/runrsc-n.scope"
    for name, expected in (("-", "/cri-x.scope"), ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice/cri-x.scope")):
        assert cgroups.normal_path(f"{name}:cri:x", "n", systemd=True) == expected
    with pytest.raises(OciError, match="slice:prefix:name"):
        cgroups.normal_path("/plain", "n", systemd=True)


def test_systemd_group(runrsc: Runtime) -> None:
    """`--systemd-cgroup`, as the kubelet and Podman ask: the group that systemd would make is made, used and removed."""
    if os.geteuid() != 0:
        need("root is needed")
    group = f"rvisor-{os.getpid()}.slice:test:{runrsc.name}"
    runrsc.config("sleep", "1000", change=lambda c: c["linux"].update(cgroupsPath=group))
    with (runrsc.bundle / "out").open("wb") as file:
        create = ("--systemd-cgroup", "create", "--bundle", str(runrsc.bundle), runrsc.name)
        runrsc(*create, stdout=file, stderr=file)
    pid = runrsc.state()["pid"]
    scope = f"/rvisor.slice/rvisor-{os.getpid()}.slice/test-{runrsc.name}.scope"
    try:
        assert scope in Path(f"/proc/{pid}/cgroup").read_text()
    finally:
        runrsc("--systemd-cgroup", "delete", "--force", runrsc.name)
        for top in Path("/sys/fs/cgroup").glob("*/rvisor.slice"):
            assert list(top.glob("*/*.scope")) == []
            for below in (*top.iterdir(), top):
                if below.is_dir():
                    below.rmdir()
    assert json.loads(runrsc("list", "--format", "json").stdout) == []
