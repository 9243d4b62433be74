"""The other commands."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import rvisor as package
from framework.inside import ROOT, rvisor


def test_help_of_every_command() -> None:
    from rvisor.cli import COMMANDS

    top = rvisor("--help")
    assert top.status == 0
    for command in COMMANDS:
        assert command in top.out
        done = rvisor(command, "--help")
        assert done.status == 0
        assert done.out.startswith(f"usage: rvisor {command}")
    assert rvisor().status == 2
    assert "no command 'fly'" in rvisor("fly").err


def test_version() -> None:
    assert package.__version__ in rvisor("version").out
    assert json.loads(rvisor("version", "--json").out)["version"] == package.__version__
    workspace = (ROOT / "Cargo.toml").read_text()
    assert f'version = "{package.__version__}"' in workspace


def test_doctor() -> None:
    done = rvisor("doctor")
    assert done.status == 0
    assert "pass  fake" in done.out
    assert all(check["ok"] for check in json.loads(rvisor("doctor", "--json").out))
    assert "stub: 1 host calls; every other: kill" in rvisor("doctor", "--surface").out


def test_doctor_without_binaries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RVISOR_BIN_DIR", "/nowhere")
    done = rvisor("doctor")
    assert done.status == 1
    assert "FAIL" in done.out
    assert "what to do: build it" in done.out


def test_doctor_answer_forms() -> None:
    from rvisor.cli.doctor import parse_checks
    from rvisor.errors import LaunchError

    lines = b'{"name": "a", "ok": true}\n{"name": "b", "ok": false, "fix": "do"}\n'
    assert [check["name"] for check in parse_checks((0, lines, b""))] == ["a", "b"]
    for bad in (b"", b"hello", b"[1]", b'{"name": 1}'):
        with pytest.raises(LaunchError):
            parse_checks((1, bad, b"broken"))


def test_syscalls() -> None:
    assert "ioctl" in rvisor("syscalls").out
    assert "2 calls: 1 full, 1 partial" in rvisor("syscalls").out
    assert [row["name"] for row in json.loads(rvisor("syscalls", "partial", "--json").out)] == ["ioctl"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    done = rvisor("completion", shell)
    assert done.status == 0
    for word in ("rootfs", "doctor", "ptrace"):
        assert word in done.out


def test_bash_completion_works() -> None:
    script = (
        rvisor("completion", "bash").out
        + 'COMP_WORDS=(rvisor run --me); COMP_CWORD=2; _rvisor; echo "${COMPREPLY[@]}"\n'
        + 'COMP_WORDS=(rvisor run --platform ""); COMP_CWORD=3; _rvisor; echo "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["--memory", "slots ptrace"]


def test_bench_micro() -> None:
    done = rvisor("bench", "micro", "--runs", "1", "--only", "getppid", "--only", "stat", "--pause", "1", "--json")
    assert done.status == 0, done.err
    rows = json.loads(done.out)
    assert [row["name"] for row in rows] == ["getppid", "stat", "stat, host"]
    assert all(row["native_ns"] > 0 and row["cold_ns"] > 0 and row["ratio"] > 0 for row in rows)
    assert "natively" in done.err
    assert rvisor("bench", "micro", "--only", "nothing").status == 2


def test_bench_start_and_compute() -> None:
    done = rvisor("bench", "start", "--runs", "1", "--json")
    assert done.status == 0, done.err
    assert len(json.loads(done.out)) == 6
    done = rvisor("bench", "compute", "--runs", "1")
    assert done.status == 0, done.err
    assert "pace on" in done.out


def test_start_loads_little() -> None:
    """Modules that cost many milliseconds stay out of the way of `rvisor run`."""
    code = (
        "import sys, os\nfrom rvisor.cli import main\n"
        "status = main(['run', '--', 'true'])\n"
        "heavy = {'subprocess', 'typing', 'dataclasses', 'inspect', 'asyncio', 'threading', 'logging', 'tempfile',"
        " 'pathlib', 'ctypes', 'socket', 'urllib', 'importlib.metadata'}\n"
        "print(status, sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT / 'python')!r})\n{code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "0 []\n", done.stderr
