"""What a container's start makes of the interpreter: modules loaded, and not loaded. Time would be the machine's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from framework.bundle import ROOT, Runtime

PROGRAM = ROOT / "python" / "rvisor" / "oci" / "__main__.py"
HEAVY = {
    *("ast", "asyncio", "collections", "contextlib", "copy", "ctypes", "dataclasses", "enum", "functools", "hashlib"),
    *("inspect", "json", "logging", "pathlib", "re", "shutil", "signal", "socket", "struct", "subprocess", "tempfile"),
    *("threading", "tokenize", "tomllib", "typing"),
}
"""Each takes from one to twenty milliseconds, and there is another way."""
MOST = {"create": 40, "state": 14, "start": 20, "delete": 20}
"""Modules of ours; those of the private kernel are fewer."""


def loaded(runtime: Runtime, *args: str) -> set[str]:
    """Names of what one command has imported."""
    said = runtime.bundle.parent / "said"
    command = [sys.executable, "-I", "-S", "-X", "importtime", str(PROGRAM), "--root", str(runtime.root)]
    # A container keeps its output: a pipe would not end.
    with said.open("w") as file:
        done = subprocess.run(
            [*command, *runtime.common, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
            check=False,
            timeout=60,
        )
    text = said.read_text()
    assert done.returncode == 0, text
    return {line.rpartition("|")[2].strip() for line in text.splitlines() if line.startswith("import time:")}


@pytest.mark.parametrize("kernel", ["private", "shared"])
def test_little_is_loaded(runrsc: Runtime, kernel: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RVISOR_RUNTIME_DIR", str(tmp_path / "run"))
    runrsc.common = (f"--kernel={kernel}",)

    def filtered(config: dict[str, object]) -> None:
        rules = [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}]
        config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}  # type: ignore[index]

    runrsc.config("true", change=filtered)
    found = {
        "create": loaded(runrsc, "create", "--bundle", str(runrsc.bundle), runrsc.name),
        "state": loaded(runrsc, "state", runrsc.name),
        "start": loaded(runrsc, "start", runrsc.name),
    }
    runrsc.until("stopped")
    found["delete"] = loaded(runrsc, "delete", runrsc.name)
    for command, names in found.items():
        assert not names & HEAVY, command
        ours = {name for name in names if name.partition(".")[0] == "rvisor"}
        assert 5 < len(ours) <= MOST[command], (command, len(ours), sorted(ours))
    assert os.listdir(runrsc.root) == []
