"""Every field of a good configuration replaced by what it must not be: a sentence that names it, or it is harmless.

Here in one process, as thousands are tried (a third each time; RVISOR_EVERY_STEP=1 for all); a few of them go through
the real command.
"""

from __future__ import annotations

import copy
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framework.bundle import Runtime
from rvisor.oci import cgroups, config
from rvisor.oci.errors import OciError
from rvisor.oci.log import one_line

BAD: dict[str, Any] = {
    "null": None,
    "true": True,
    "negative": -1,
    "zero": 0,
    "huge": 1 << 70,
    "fraction": 1.5,
    "infinite": float("inf"),
    "empty": "",
    "text": "nonsense",
    "nul": "a\0b",
    "unicode": "/\u202e\u0000é\U0001f600",
    "surrogate": "/x\ud800y",
    "long": "/" + "x" * 70000,
    "dots": "../../../../etc",
    "newline": "/a\nb",
    "list": [],
    "texts": ["a", "b"],
    "mixed": [1, None, {"a": []}],
    "nested": [[[[]]]],
    "object": {},
    "strange": {"": None, "path": 7, "type": {}},
}
HOOK = {"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 3}
DEVICE = {"major": 8, "minor": 0, "rate": 1000, "weight": 10}


def good(bundle: Path) -> dict[str, Any]:
    """As many properties as there are."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": True,
            "consoleSize": {"height": 25, "width": 80},
            "user": {"uid": 0, "gid": 0, "umask": 18, "additionalGids": [5, 6]},
            "args": ["sh"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {
                name: ["CAP_KILL"] for name in ("bounding", "effective", "inheritable", "permitted", "ambient")
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "apparmorProfile": "x",
            "oomScoreAdj": 100,
            "selinuxLabel": "x",
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "h",
        "domainname": "d",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
            {"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "mode=755", "ro"]},
            {"destination": "/b", "type": "bind", "source": str(bundle), "options": ["rbind", "ro"]},
        ],
        "hooks": {stage: [dict(HOOK)] for stage in config.HOOKS},
        "annotations": {"a": "b"},
        "linux": {
            "uidMappings": [{"containerID": 0, "hostID": 0, "size": 10}],
            "gidMappings": [{"containerID": 0, "hostID": 0, "size": 10}],
            "devices": [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0}],
            "cgroupsPath": "/x/y",
            "resources": {
                "devices": [{"allow": False, "access": "rwm"}],
                "memory": {
                    "limit": 1 << 30, "reservation": 1 << 29, "swap": 1 << 30, "kernel": -1, "kernelTCP": -1,
                    "swappiness": 5, "disableOOMKiller": False, "useHierarchy": True,
                },
                "cpu": {
                    "shares": 100, "quota": 10000, "burst": 0, "period": 100000, "realtimeRuntime": 0,
                    "realtimePeriod": 0, "cpus": "0", "mems": "0", "idle": 0,
                },
                "pids": {"limit": 100},
                "blockIO": {
                    "weight": 10, "leafWeight": 10, "weightDevice": [dict(DEVICE)],
                    "throttleReadBpsDevice": [dict(DEVICE)], "throttleWriteIOPSDevice": [dict(DEVICE)],
                },
                "hugepageLimits": [{"pageSize": "2MB", "limit": 4096}],
                "network": {"classID": 7, "priorities": [{"name": "lo", "priority": 3}]},
                "unified": {"memory.high": "1000"},
            },
            "namespaces": [
                {"type": "pid"}, {"type": "network", "path": "/run/netns/other"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "mount"}, {"type": "cgroup"},
            ],
            "sysctl": {"net.ipv4.ip_forward": "1"},
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "defaultErrnoRet": 1,
                "architectures": ["SCMP_ARCH_X86_64"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "syscalls": [
                    {
                        "names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 3,
                        "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_EQ"}],
                    }
                ],
            },
            "rootfsPropagation": "rprivate",
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
            "mountLabel": "x",
            "personality": {},
            "intelRdt": {},
        },
    }  # fmt: skip


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in it."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield (*way, key)
        yield from places(inner, (*way, key))


def replaced(whole: dict[str, Any], way: tuple[Any, ...], bad: Any) -> dict[str, Any]:
    changed = copy.deepcopy(whole)
    at: Any = changed
    for key in way[:-1]:
        at = at[key]
    at[way[-1]] = bad
    return changed


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "rootfs").mkdir()
    return tmp_path


def read(bundle: Path, data: dict[str, Any]) -> str:
    """What is said against it; empty if it is accepted. Anything else that is raised is a mistake of ours."""
    (bundle / "config.json").write_text(json.dumps(data))
    try:
        wanted = config.read(str(bundle))
        cgroups.normal_path(wanted.cgroups_path, "name", systemd=False)
        found = cgroups.settings(wanted.resources, where="linux.resources")
        assert all(isinstance(part, str) and "\0" not in part for setting in found for part in setting)
    except OciError as error:
        said = one_line(str(error))
        assert said.isprintable()
        assert 10 < len(said) < 1100
        return said
    return ""


def test_the_good_one_is_good(bundle: Path) -> None:
    said = read(bundle, good(bundle))
    assert said in ("", "linux.resources.unified: there is no such limit in this version of control groups")


def test_every_field_with_every_wrong_value(bundle: Path) -> None:
    whole = good(bundle)
    whole["linux"]["resources"].pop("unified" if not cgroups.unified() else "network")
    assert read(bundle, whole) == ""
    wrong = []
    tried = 0
    part = random.randrange(3)
    for way in places(whole):
        for name, bad in BAD.items():
            tried += 1
            if tried % 3 != part and not os.environ.get("RVISOR_EVERY_STEP"):
                continue
            try:
                read(bundle, replaced(whole, way, bad))
            except Exception as error:
                wrong.append(f"{'.'.join(map(str, way))} = {name}: {type(error).__name__}: {error}"[:200])
                continue
    assert wrong == [], f"in part {part}"
    assert tried > 2000


def test_two_wrong_fields(bundle: Path) -> None:
    whole = good(bundle)
    ways = list(places(whole))
    chance = random.Random(7)
    for _ in range(500):
        one = replaced(whole, chance.choice(ways), chance.choice(list(BAD.values())))
        ways_now = list(places(one))
        read(bundle, replaced(one, chance.choice(ways_now), chance.choice(list(BAD.values()))))


MUST_FAIL = [
    ("process.args", "text"), ("process.args", "nul"), ("process.args", "mixed"), ("process.cwd", "nul"), ("process.cwd", "text"),
    ("process.env", "object"), ("process.user.uid", "negative"), ("process.user.uid", "huge"), ("process.user.umask", "huge"),
    ("process.user.additionalGids", "texts"), ("process.terminal", "text"), ("process.oomScoreAdj", "huge"),
    ("process.consoleSize.height", "negative"), ("process.rlimits", "texts"), ("root.path", "nul"), ("root.path", "long"),
    ("root.readonly", "zero"), ("hostname", "nul"), ("hostname", "long"), ("domainname", "nul"),
    ("domainname", "long"), ("mounts", "object"), ("hooks", "list"), ("hooks.prestart", "texts"), ("annotations", "texts"),
    ("linux", "list"), ("linux.cgroupsPath", "dots"), ("linux.cgroupsPath", "nul"),
    ("linux.resources", "texts"), ("linux.resources.memory", "texts"), ("linux.resources.memory.limit", "text"),
    ("linux.resources.memory.limit", "fraction"), ("linux.resources.cpu.cpus", "zero"), ("linux.resources.cpu.cpus", "newline"),
    ("linux.resources.pids.limit", "huge"), ("linux.namespaces", "texts"), ("linux.sysctl", "texts"),
    ("linux.seccomp.syscalls", "texts"), ("linux.maskedPaths", "text"), ("linux.maskedPaths", "nul"), ("ociVersion", "text"),
    ("ociVersion", "null"), ("process", "null"), ("root", "null"), ("linux.devices", "texts"), ("linux.uidMappings", "texts"),
    ("process.capabilities", "texts"), ("process.noNewPrivileges", "text"), ("linux.rootfsPropagation", "dots"),
]  # fmt: skip


@pytest.mark.parametrize("where, what", MUST_FAIL, ids=[f"{where}-{what}" for where, what in MUST_FAIL])
def test_what_must_be_refused_names_the_field(bundle: Path, where: str, what: str) -> None:
    whole = good(bundle)
    whole["linux"]["resources"].pop("unified" if not cgroups.unified() else "network")
    said = read(bundle, replaced(whole, tuple(where.split(".")), BAD[what]))
    assert where.rpartition(".")[2] in said or where in said, said


def test_cut_off_anywhere(bundle: Path) -> None:
    text = json.dumps(good(bundle)).encode()
    path = bundle / "config.json"
    for length in range(0, len(text), 7):
        path.write_bytes(text[:length])
        with pytest.raises(OciError, match=r"config\.json"):
            config.read(str(bundle))


@pytest.mark.parametrize(
    "text",
    [b"", b"\0", b"\xff\xfe", b"nul", b"[" * 100000, b'{"a":' * 100000, b"1", b'"x"', b"NaN", b"{}{}", b"\xef\xbb\xbf{}"],
    ids=lambda text: repr(text[:6]),
)  # fmt: skip
def test_no_json(bundle: Path, text: bytes) -> None:
    (bundle / "config.json").write_bytes(text)
    with pytest.raises(OciError, match=r"config\.json"):
        config.read(str(bundle))


def test_it_is_no_file(bundle: Path) -> None:
    (bundle / "config.json").mkdir()
    with pytest.raises(OciError, match="is a directory"):
        config.read(str(bundle))
    (bundle / "config.json").rmdir()
    (bundle / "config.json").symlink_to("config.json")
    with pytest.raises(OciError, match="symbolic links"):
        config.read(str(bundle))


def test_the_same_key_twice_and_unknown_ones(bundle: Path) -> None:
    text = json.dumps(good(bundle) | {"linux": {**good(bundle)["linux"], "resources": {}}, "x-unknown": [1]})
    (bundle / "config.json").write_text('{"ociVersion": "9.9.9", ' + text[1:])
    config.read(str(bundle))


def test_through_the_command(runrsc: Runtime) -> None:
    """One line each, no traceback, the log has it, nothing is left."""
    runrsc.config("true")
    path = runrsc.bundle / "config.json"
    whole = json.loads(path.read_text())
    for where, what in MUST_FAIL[:: len(MUST_FAIL) // 8]:
        way = tuple(where.split("."))
        try:
            changed = replaced(whole, way, BAD[what])
        except KeyError:
            continue
        path.write_text(json.dumps(changed))
        runrsc.refused("create", "--bundle", str(runrsc.bundle), runrsc.name, why=way[-1])
        assert runrsc.left() == []


def test_ten_thousand_mounts(runrsc: Runtime) -> None:
    """All are made, in bounded time; one more is refused (test_config.py)."""
    (runrsc.bundle / "rootfs" / "m").mkdir()

    def many(data: dict[str, Any]) -> None:
        data["root"]["readonly"] = False
        data["mounts"] += [
            {"destination": f"/m/{i}", "type": "tmpfs", "options": ["size=4k"]}
            for i in range(10000 - len(data["mounts"]))
        ]

    began = time.monotonic()
    done = runrsc.run("sh", "-c", "grep -c tmpfs /proc/mounts", change=many)
    assert done.returncode == 0, done.stderr[-1000:]
    assert int(done.stdout) > 9900
    assert time.monotonic() - began < 30
