"""config.json: what a program sees of it, and what is refused by name."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from framework.bundle import Runtime, need

Config = dict[str, Any]


def _capabilities(config: Config) -> None:
    config["process"]["capabilities"] = {name: ["CAP_CHOWN"] for name in ("bounding", "effective", "permitted")}


def _user(config: Config) -> None:
    config["process"].update(
        user={"uid": 12, "gid": 34, "additionalGids": [56], "umask": 0o77}, cwd="/tmp", env=["PATH=/bin", "A=b"]
    )


def _limit(config: Config) -> None:
    config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}]


def _names(config: Config) -> None:
    config.update(hostname="hh", domainname="dd")


def _tmpfs(config: Config) -> None:
    config["mounts"].append({"destination": "/tmp/t", "type": "tmpfs", "options": ["size=1m", "mode=700", "noexec"]})
    config["root"]["readonly"] = False


def _seccomp(config: Config) -> None:
    config["root"]["readonly"] = False
    rules = [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30},
        {
            "names": ["kill"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 3,
            "args": [{"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}],
        },
    ]
    config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}


SEEN: list[tuple[str, Callable[[Config], None], str]] = [
    ("grep CapEff /proc/self/status", _capabilities, "CapEff:\t0000000000000001\n"),
    ("id -u; id -g; id -G; umask; pwd; echo $A", _user, "12\n34\n34 56\n0077\n/tmp\nb\n"),
    ("ulimit -n; ulimit -Hn", _limit, "77\n88\n"),
    ("hostname; cat /proc/sys/kernel/domainname", _names, "hh\ndd\n"),
    ("echo x > /x || echo no", lambda c: None, "no\n"),
    ("echo x > /x && cat /x", lambda c: c["root"].update(readonly=False), "x\n"),
    (
        "ls -ld /tmp/t | cut -c1-10; dd if=/dev/zero of=/tmp/t/x bs=65536 count=40 2>/dev/null || echo full",
        _tmpfs,
        "drwx------\nfull\n",
    ),
    (
        "mkdir /q 2>/dev/null || echo no; kill -9 1 2>/dev/null || echo no; kill -0 1 && echo yes",
        _seccomp,
        "no\nno\nyes\n",
    ),
    (
        "cd /proc/sys/fs/mqueue; echo 20 >msg_max || echo no; cat msg_max",
        lambda c: c["linux"].update(readonlyPaths=["/proc/sys"]),
        "no\n10\n",
    ),
    (
        "cat /etc/secret /proc/meminfo | wc -c",
        lambda c: c["linux"].update(maskedPaths=["/etc/secret", "/proc/meminfo", "/proc/nothing"]),
        "0\n",
    ),
    (
        "ls /tmp/m | wc -l",
        lambda c: c["linux"].update(maskedPaths=["/bin"]) or c["process"].update(args=["/bin/true"]),
        "",
    ),
    (
        "echo x > /tmp/f || echo no",
        lambda c: (c["root"].update(readonly=False), c["linux"].update(readonlyPaths=["/tmp"])),
        "no\n",
    ),
    ("grep NoNewPrivs /proc/self/status", lambda c: None, "NoNewPrivs:\t1\n"),
    (
        "cd /proc/sys/net/ipv4; cat ip_forward ip_unprivileged_port_start tcp_mtu_probing ip_default_ttl",
        lambda c: c["linux"].update(
            sysctl={
                "net.ipv4.ip_forward": "1",
                "net.ipv4.ip_unprivileged_port_start": "80",
                "net.ipv4.tcp_mtu_probing": "2",
            }
        ),
        "1\n80\n2\n64\n",
    ),
    (
        "cd /proc/sys; cat kernel/shmmax kernel/sem fs/mqueue/queues_max kernel/shmmni; echo 1 >kernel/shmmax || echo no",
        lambda c: c["linux"].update(
            sysctl={"kernel.shmmax": "65536", "kernel.sem": "250 32000 32 128", "fs.mqueue.queues_max": "7"}
        ),
        "65536\n250\t32000\t32\t128\n7\n4096\nno\n",
    ),
    (
        "grep -c shared: /proc/self/mountinfo; grep ' /t ' /proc/self/mountinfo | cut -d' ' -f 7-",
        lambda c: (
            c["linux"].update(rootfsPropagation="rshared"),
            c["mounts"].append({"destination": "/t", "type": "tmpfs", "source": "mine", "options": ["rshared"]}),
        ),
        "2\nshared:2 - tmpfs mine rw\n",
    ),
    ("ls /sys/fs/cgroup | grep -c memory.max", lambda c: None, "1\n"),
    ("cat /proc/self/oom_score_adj", lambda c: c["process"].update(oomScoreAdj=333), "333\n"),
]


@pytest.mark.parametrize("script, change, expected", SEEN, ids=[s[0].partition(";")[0][:30] for s in SEEN])
def test_seen(runrsc: Runtime, script: str, change: Callable[[Config], None], expected: str) -> None:
    (runrsc.bundle / "rootfs" / "bin" / "wc").symlink_to("busybox")
    (runrsc.bundle / "rootfs" / "bin" / "cut").symlink_to("busybox")
    (runrsc.bundle / "rootfs" / "tmp").chmod(0o1777)
    (runrsc.bundle / "rootfs" / "etc" / "secret").write_text("secret\n")
    done = runrsc.run("sh", "-c", f"exec 2>/dev/null; {script}", change=change)
    assert done.stdout == expected, done.stderr


def test_a_capability_that_is_not_known_is_warned_of(runrsc: Runtime) -> None:
    assert (
        runrsc.run("true", change=lambda c: c["process"].update(capabilities={"bounding": ["CAP_X"]})).returncode == 0
    )
    last = json.loads(runrsc.log.read_text().splitlines()[-1])
    assert (last["level"], "CAP_X" in last["msg"]) == ("warning", True)


def test_binds(runrsc: Runtime) -> None:
    (runrsc.bundle / "data").mkdir()
    (runrsc.bundle / "data" / "f").write_text("data\n")

    def binds(config: Config) -> None:
        config["root"]["readonly"] = True
        for target, options in (("/rw", ["rbind", "rw"]), ("/ro", ["bind", "ro"])):
            config["mounts"].append({"destination": target, "type": "bind", "source": "data", "options": options})
        config["mounts"].append({"destination": "/etc/one", "type": "bind", "source": "data/f", "options": ["bind"]})

    done = runrsc.run("sh", "-c", "cat /rw/f /etc/one; echo new > /rw/g; echo x > /ro/h || echo no", change=binds)
    assert done.stdout == "data\ndata\nno\n", done.stderr
    assert (runrsc.bundle / "data" / "g").read_text() == "new\n"


def test_hooks(runrsc: Runtime) -> None:
    out = runrsc.bundle / "hooks"

    early = ("prestart", "createRuntime", "createContainer")
    late = ("poststart", "poststop")

    def hooks(config: Config) -> None:
        script = f'echo "$STAGE $(readlink /proc/self/ns/net) $(cat)" >> {out}'
        config["hooks"] = {
            stage: [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": [f"STAGE={stage}", "PATH=/bin:/usr/bin"]}]
            for stage in (*early, *late)
        }

    assert runrsc.run("true", change=hooks).returncode == 0
    seen = [line.split(" ", 2) for line in out.read_text().splitlines()]
    assert [stage for stage, _, _ in seen] == [*early, *late]
    states = [json.loads(text) for _, _, text in seen]
    assert [state["status"] for state in states] == ["creating", "creating", "creating", "running", "stopped"]
    assert states[0]["pid"] > 0
    assert states[0]["bundle"] == str(runrsc.bundle)
    own = os.readlink("/proc/self/ns/net")
    assert [space == own for _, space, _ in seen] == [True, True, False, True, True]


def test_start_container_hook(runrsc: Runtime) -> None:
    """It is a program of the container's, with the rights and the files that the first process has, and comes before it."""

    def hooks(config: Config) -> None:
        script = 'cat > /tmp/state; echo "$A $(id -u) $(pwd)" > /tmp/hook'
        config["root"]["readonly"] = False
        config["process"]["user"] = {"uid": 7, "gid": 7}
        hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["A=b", "PATH=/bin"], "timeout": 20}
        config["hooks"] = {"startContainer": [hook]}

    (runrsc.bundle / "rootfs" / "tmp").chmod(0o777)
    done = runrsc.run("cat", "/tmp/hook", "/tmp/state", change=hooks)
    said, _, told = done.stdout.partition("\n")
    assert said == "b 7 /", done
    assert json.loads(told)["status"] == "created"


@pytest.mark.parametrize(
    "hook, why",
    [
        ({"path": "/bin/sh", "args": ["sh", "-c", "echo because >&2; exit 3"]}, "ended with status 3: because"),
        ({"path": "/bin/sleep", "args": ["sleep", "50"], "timeout": 1}, "killed"),
        ({"path": "/nothing"}, "no such file"),
    ],
)
def test_start_container_hooks_that_fail(runrsc: Runtime, hook: Config, why: str) -> None:
    """The container is stopped, and is there to be deleted."""
    runrsc.config("true", change=lambda c: c.update(hooks={"startContainer": [hook]}))
    runrsc.create()
    runrsc.refused("start", runrsc.name, why=why)
    assert runrsc.state()["status"] == "stopped"
    runrsc("delete", runrsc.name)
    assert runrsc.left() == []


def test_ids_of_the_hosts(runrsc: Runtime) -> None:
    """The container's root is an ordinary user of the host's, who may write only what is his."""
    if os.geteuid() != 0:
        need("root is needed")
    for path in (runrsc.bundle, *runrsc.bundle.parents):
        if path.stat().st_uid == 0 and str(path).startswith(tempfile.gettempdir() + "/"):
            path.chmod(path.stat().st_mode | 0o011)
    data = runrsc.bundle / "data"
    data.mkdir()
    os.chown(data, 100000, 200000)
    (runrsc.bundle / "hosts").write_text("the host's\n")

    def ids(config: Config) -> None:
        config["linux"]["namespaces"].append({"type": "user"})
        for name, outside in (("uidMappings", 100000), ("gidMappings", 200000)):
            config["linux"][name] = [{"containerID": 0, "hostID": outside, "size": 65536}]
        for name in ("data", "hosts"):
            mount = {"destination": f"/{name}", "type": "bind", "source": name, "options": ["bind"]}
            config["mounts"].append(mount)
        _capabilities(config)

    for name in ("data", "hosts"):
        place = runrsc.bundle / "rootfs" / name
        place.mkdir() if name == "data" else place.touch()
    script = "id -u; ls -ldn /data /hosts; touch /data/x; mkdir /data/y; chown 5:6 /data/y; echo z > /hosts || echo no"
    script += "; cat /proc/self/uid_map /proc/self/gid_map"
    done = runrsc.run("sh", "-c", script, change=ids)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["0"], done
    assert rows[1][2:4] == ["0", "0"]
    assert rows[2][2:4] == ["65534", "65534"]
    assert rows[3:] == [["no"], ["0", "100000", "65536"], ["0", "200000", "65536"]]
    owners = [((data / name).stat().st_uid, (data / name).stat().st_gid) for name in "xy"]
    assert owners == [(100000, 200000), (100005, 200006)]
    assert (runrsc.bundle / "hosts").read_text() == "the host's\n"


@pytest.mark.parametrize(
    "hook, why",
    [
        ({"path": "/bin/false"}, "status 1"),
        ({"path": "/bin/sleep", "args": ["sleep", "50"], "timeout": 1}, "killed"),
        ({"path": "/nothing"}, "no such file"),
    ],
)
def test_hooks_that_fail(runrsc: Runtime, hook: Config, why: str) -> None:
    runrsc.config("true", change=lambda c: c.update(hooks={"createRuntime": [hook]}))
    runrsc.refused("create", "--bundle", str(runrsc.bundle), runrsc.name, why=why)
    assert runrsc.left() == []


def test_the_hosts_network_by_its_path(runrsc: Runtime) -> None:
    """As CRI names it: nothing of the host's is set, as for the host's network without a path."""
    names = [Path("/proc/sys/net/ipv4") / name for name in ("ip_unprivileged_port_start", "ping_group_range")]
    before = [name.read_text() for name in names]

    def path(config: Config) -> None:
        for namespace in config["linux"]["namespaces"]:
            if namespace["type"] == "network":
                namespace["path"] = f"/proc/{os.getpid()}/ns/net"

    assert runrsc.run("true", change=path).returncode == 0
    assert [name.read_text() for name in names] == before


def mapped(config: Config, inside: int, outside: int, size: int) -> None:
    config["linux"]["namespaces"].append({"type": "user"})
    for name in ("uidMappings", "gidMappings"):
        config["linux"][name] = [{"containerID": inside, "hostID": outside, "size": size}]


REFUSED: list[tuple[Callable[[Config], object], str]] = [
    (lambda c: c["linux"].update(devices=[{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]), "/dev/fuse"),
    (lambda c: c["linux"].update(namespaces=[{"type": "mount"}, {"type": "ipc"}]), "without pid"),
    (lambda c: c["linux"]["namespaces"][0].update(path="/proc/1/ns/pid"), "cannot join"),
    (lambda c: c["linux"].update(sysctl={"kernel.panic": "1"}), "linux.sysctl: kernel.panic"),
    (lambda c: c["linux"].update(sysctl={"kernel.shmmni": "32769"}), "sysctl kernel/shmmni"),
    (lambda c: c["linux"].update(intelRdt={"closID": "x"}), "linux.intelRdt"),
    (lambda c: c["linux"].update(uidMappings=[{"containerID": 0, "hostID": 1000, "size": 1}]), "need a user namespace"),
    (lambda c: mapped(c, 1, 1000, 9), "linux.uidMappings: the container's 0"),
    (lambda c: mapped(c, 0, 1000, 0), "a range is empty"),
    (lambda c: mapped(c, 0, 4294967000, 65536), "beyond the last id"),
    (lambda c: mapped(c, 0, 1000, 1), "more than one is needed"),
    (lambda c: c["linux"].update(rootfsPropagation="sharing"), "linux.rootfsPropagation"),
    (lambda c: c["linux"].update(resources={"memory": {"limit": 4096}}), "too small"),
    (lambda c: c["linux"].update(resources={"rdma": {"x": {}}}), "linux.resources.rdma"),
    (lambda c: c["linux"].update(seccomp={"defaultAction": "SCMP_ACT_NOTIFY"}), "SCMP_ACT_NOTIFY"),
    (lambda c: c["process"].update(args=[]), "process.args"),
    (lambda c: c["process"].update(cwd="tmp"), "process.cwd"),
    (lambda c: c["process"].update(rlimits=[{"type": "RLIMIT_X", "soft": 1, "hard": 1}]), "RLIMIT_X"),
    (lambda c: c["process"].update(user={"uid": -1}), "process.user.uid"),
    (lambda c: c["mounts"].append({"destination": "/x", "type": "ext4", "source": "/dev/sda"}), "ext4"),
    (lambda c: c["mounts"].append({"destination": "/x", "type": "bind", "source": "/no", "options": ["bind"]}), "/no"),
    (lambda c: c["mounts"].append({"destination": "/x", "type": "tmpfs", "options": ["idmap"]}), "idmap"),
    (lambda c: c.update(mounts=[{"destination": f"/m{i}", "type": "tmpfs"} for i in range(10001)]), "more than 10000"),
]


@pytest.mark.parametrize("change, why", REFUSED, ids=[why.replace("/", "") for _, why in REFUSED])
def test_refused(runrsc: Runtime, change: Callable[[Config], object], why: str) -> None:
    runrsc.config("true", change=lambda c: void(change(c)))
    runrsc.refused("create", "--bundle", str(runrsc.bundle), runrsc.name, why=why)
    assert runrsc.left() == []


def void(_: object) -> None:
    return
