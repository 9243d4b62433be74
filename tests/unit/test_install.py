"""`rvisor install` on files of its own."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from rvisor.cli import install
from rvisor.errors import UsageError


def call(path: Path, caller: str, *more: str) -> int:
    return install.main([caller, "--config", str(path), "--runtime", "/bin/true", *more])


@pytest.mark.parametrize("old", ["", '{"debug": true, "runtimes": {"other": {"path": "/x"}}}'])
def test_docker(tmp_path: Path, old: str) -> None:
    path = tmp_path / "daemon.json"
    if old:
        path.write_text(old)
    assert call(path, "docker") == 0
    assert json.loads(path.read_text())["runtimes"]["rvisor"] == {"path": "/bin/true"}
    assert (tmp_path / "daemon.json.rvisor-backup").exists() == bool(old)
    assert call(path, "docker", "--remove") == 0
    assert (json.loads(path.read_text()) if path.exists() else {}) == json.loads(old or "{}")


def test_docker_with_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --runtime the programs work as they stand: for arguments Docker would use a shell."""
    path = tmp_path / "daemon.json"
    assert install.main(["docker", "--config", str(path), "--dry-run"]) == 0
    assert os.listdir(tmp_path) == []
    assert install.main(["docker", "--config", str(path), "--profile", "agent"]) == 0
    entries = json.loads(path.read_text())["runtimes"]
    assert [[*entry] for entry in entries.values()] == [["path"], ["path"]]
    for name in ("rvisor", "rvisor-shared"):
        command = [entries[name]["path"], "--version"]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", env={}, timeout=60, check=True)
        assert done.stdout.startswith("runrsc version")
    assert "['--kernel=shared', '--profile=agent']" in Path(entries["rvisor-shared"]["path"]).read_text()
    capsys.readouterr()
    for again in ("nothing to change", "changed", "nothing to change"):
        assert install.main(["docker", "--config", str(path), "--profile", "agent"]) == 0
        assert again in capsys.readouterr().out
        if again == "nothing to change":
            Path(entries["rvisor"]["path"]).unlink(missing_ok=True)
    assert install.main(["docker", "--config", str(path), "--profile", "agent"]) == 0
    assert install.main(["docker", "--config", str(path), "--remove"]) == 0
    assert os.listdir(tmp_path) == ["daemon.json.rvisor-backup"]


def runtimes_of(path: Path, plugin: str) -> dict[str, Any]:
    return dict(tomllib.loads(path.read_text())["plugins"][plugin]["containerd"]["runtimes"])


@pytest.mark.parametrize(
    "old, plugin",
    [
        ("", "io.containerd.grpc.v1.cri"),
        ("version = 3\n", "io.containerd.cri.v1.runtime"),
        (
            'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\n  runtime_type = "x"',
            "io.containerd.grpc.v1.cri",
        ),
    ],
)
def test_containerd_forms(tmp_path: Path, old: str, plugin: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(old)
    assert call(path, "containerd") == 0
    assert set(runtimes_of(path, plugin)) == {"runc", "rvisor"}
    assert tomllib.loads(path.read_text())["version"] in (2, 3)
    assert call(path, "containerd", "--remove") == 0
    assert (path.read_text() if path.exists() else "").rstrip("\n") == old.rstrip("\n")


@pytest.mark.parametrize("old, why", [("[plugins]\n", "version is 1"), ("version = [\n", "not valid TOML")])
def test_containerd_files_that_are_left_alone(tmp_path: Path, old: str, why: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(old)
    with pytest.raises(UsageError, match=why):
        call(path, "containerd")
    assert path.read_text() == old


def test_containerd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.toml"
    path.write_text("version = 2\n")
    assert call(path, "containerd", "--dry-run") == 0
    assert path.read_text() == "version = 2\n"
    assert '+  BinaryName = "/bin/true"' in capsys.readouterr().out
    for _ in range(2):
        assert call(path, "containerd") == 0
        runtimes = runtimes_of(path, "io.containerd.grpc.v1.cri")
        # Without runc, its default, the plugin does not start.
        assert runtimes["runc"] == {"runtime_type": "io.containerd.runc.v2"}
        assert runtimes["rvisor"]["options"] == {"BinaryName": "/bin/true"}
    assert call(path, "containerd", "--remove") == 0
    assert path.read_text() == "version = 2\n"


def test_podman(tmp_path: Path) -> None:
    path = tmp_path / "conf.d" / "50-rvisor.conf"
    assert call(path, "podman") == 0
    assert path.read_text() == '[engine.runtimes]\nrvisor = ["/bin/true"]\n'
    assert call(path, "podman", "--remove") == 0
    assert not path.exists()


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    path.write_text("{")
    with pytest.raises(UsageError):
        call(path, "docker")
    with pytest.raises(UsageError):
        install.main(["docker", "--config", str(tmp_path / "new"), "--runtime", "/nothing"])
