"""`rvisor install` on files of its own."""

from __future__ import annotations

import json
from pathlib import Path

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


def test_containerd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.toml"
    path.write_text("version = 2\n")
    assert call(path, "containerd", "--dry-run") == 0
    assert path.read_text() == "version = 2\n"
    assert '+  BinaryName = "/bin/true"' in capsys.readouterr().out
    for _ in range(2):
        assert call(path, "containerd") == 0
        assert path.read_text().count("BinaryName") == 1
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
