"""What the runtime says of itself is what it does; the commands that only ask or change limits, at their edges."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from framework.bundle import GROUPS, Runtime
from rvisor.oci import config, seccomp
from rvisor.oci.about import default
from rvisor.oci.errors import OciError


@pytest.fixture
def features(runrsc: Runtime) -> dict[str, Any]:
    return dict(json.loads(runrsc("features").stdout))


def accepted(bundle: Path, change: dict[str, Any] | None = None, **linux: Any) -> bool:
    data = copy.deepcopy(default()) | (change or {})
    data["linux"].update(linux)  # type: ignore[attr-defined]
    (bundle / "config.json").write_text(json.dumps(data))
    try:
        config.read(str(bundle))
    except OciError:
        return False
    return True


def test_features_are_what_is_supported(runrsc: Runtime, features: dict[str, Any]) -> None:
    bundle, linux = runrsc.bundle, features["linux"]
    for stage in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"):
        assert accepted(bundle, {"hooks": {stage: [{"path": "/bin/true"}]}}) == (stage in features["hooks"]), stage
    assert features["mountOptions"]
    for option in (*features["mountOptions"], "idmap", "ridmap", "nonsense"):
        written = {"size": "size=1m", "mode": "mode=700", "nr_inodes": "nr_inodes=9"}.get(option, option)
        options = ["bind", "ro"] if option.endswith("bind") and "un" not in option else [written]
        mount = {"destination": "/x", "type": "tmpfs", "options": options}
        assert accepted(bundle, {"mounts": [mount]}) == (option in features["mountOptions"]), option
    needed = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]
    for kind in ("pid", "mount", "ipc", "uts", "cgroup", "network", "user", "time"):
        spaces = [*(n for n in needed if n["type"] != kind), {"type": kind}]
        assert accepted(bundle, namespaces=spaces) == (kind in linux["namespaces"]), kind
    assert set(linux["capabilities"]) == {f"CAP_{name}" for name in config.CAPABILITIES}
    for action in (*linux["seccomp"]["actions"], "SCMP_ACT_NOTIFY"):
        try:
            seccomp.program({"defaultAction": action})
            assert action in linux["seccomp"]["actions"]
        except OciError:
            assert action not in linux["seccomp"]["actions"]
    for op in linux["seccomp"]["operators"]:
        rule = {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": op}]}
        seccomp.program({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]})
    assert not any(linux[name]["enabled"] for name in ("apparmor", "selinux", "intelRdt"))
    assert not linux["mountExtensions"]["idmap"]["enabled"]
    assert features["ociVersionMin"] <= default()["ociVersion"] <= features["ociVersionMax"]  # type: ignore[operator]


def test_spec_is_a_configuration_that_runs(runrsc: Runtime) -> None:
    path = runrsc.bundle / "config.json"
    runrsc("spec", "--bundle", str(runrsc.bundle))
    config.read(str(runrsc.bundle))
    runrsc.refused("spec", "--bundle", str(runrsc.bundle), why="exists. Remove it first")
    path.unlink()
    runrsc("spec", "--rootless", cwd=runrsc.bundle)
    data = json.loads(path.read_text())
    data["process"]["args"] = ["echo", "hello"]
    path.write_text(json.dumps(data))
    assert runrsc("run", runrsc.name, cwd=runrsc.bundle).stdout == "hello\n"
    runrsc.refused("spec", "--bundle", "/nowhere", why="/nowhere")


def test_version(runrsc: Runtime) -> None:
    from rvisor import __version__

    for flag in ("--version", "-v"):
        said = runrsc(flag).stdout
        assert re.fullmatch(rf"runrsc version {re.escape(__version__)}\nspec: 1\.\d+\.\d+\n", said)


def test_list(runrsc: Runtime) -> None:
    assert runrsc("list").stdout == "ID   PID   STATUS   BUNDLE   CREATED   OWNER\n"
    assert json.loads(runrsc("list", "--format", "json").stdout) == []
    assert runrsc("list", "--quiet").stdout == ""
    runrsc.refused("list", "--format", "xml", why="invalid format")
    runrsc.refused("list", "too", "many", why="list")
    runrsc.config("sleep", "100")
    runrsc.create()
    (runrsc.root / "stray-file").write_text("")
    (runrsc.root / "half").mkdir()
    (runrsc.root / "half" / "state.json").write_text('{"pid": ')
    assert runrsc("list", "-q").stdout == f"{runrsc.name}\n"
    (runrsc.root / "stray-file").unlink()
    runrsc("delete", "--force", "half")


def test_events(runrsc: Runtime) -> None:
    runrsc.refused("events", runrsc.name, why="does not exist")
    runrsc.config("sleep", "100")
    runrsc.create()
    assert json.loads(runrsc("events", "--stats", runrsc.name).stdout)["data"]["pids"]["current"] > 0
    for interval in ("0s", "-1s", "x", ""):
        runrsc.refused("events", "--interval", interval, runrsc.name, why="--interval")
    runrsc("kill", runrsc.name, "KILL")
    runrsc.until("stopped")
    runrsc.refused("events", "--stats", runrsc.name, why="container not running")
    runrsc.refused("ps", runrsc.name, why="container not running")


def limit(runrsc: Runtime, *names: str) -> str:
    for name in names:
        for path in (*GROUPS.glob(f"*{runrsc.group}/{name}"), GROUPS / runrsc.group[1:] / name):
            if path.exists():
                return path.read_text().strip()
    raise AssertionError(names)


def test_update(runrsc: Runtime) -> None:
    memory = ("memory.limit_in_bytes", "memory.max")
    runrsc.config("sleep", "100")
    runrsc.create()
    for args, why in [
        (("--memory", "x"), "'x' is not a number"),
        (("--memory", ""), "is not a number"),
        (("--memory", "1000"), "too small"),
        (("--cpuset-cpus", "0;1"), "not allowed"),
        (("--cpuset-cpus", "4000"), "cpuset"),
        (("--blkio-weight", "9" * 30), "weight"),
        (("--what", "1"), "no flag"),
        (("--resources", "/nowhere"), "no such file"),
        (("--resources", "/dev/null"), "not valid JSON"),
    ]:
        runrsc.refused("update", *args, runrsc.name, why=why)
    runrsc("update", "--memory", str(128 << 20), runrsc.name)
    assert limit(runrsc, *memory) == str(128 << 20)
    runrsc("update", "--resources", "-", runrsc.name, input='{"memory": {"limit": 268435456}}')
    assert limit(runrsc, *memory) == str(256 << 20)
    runrsc("update", runrsc.name)
    runrsc("kill", runrsc.name, "KILL")
    runrsc.until("stopped")
    runrsc.refused("update", "--memory", str(1 << 30), runrsc.name, why="container not running")
