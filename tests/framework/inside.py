"""Run one command natively and inside."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "tests"

PLATFORMS = os.environ.get("RVISOR_PLATFORMS", "slots,ptrace").split(",")


@dataclass(frozen=True)
class Done:
    """What a command left: status as a shell reports it, output, error output."""

    status: int
    out: str
    err: str


def run(
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    timeout: float = 120,
) -> Done:
    """Run a command on the host."""
    done = subprocess.run(
        argv,
        input=stdin.encode() if stdin is not None else None,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        env=None if env is None else dict(env),
        cwd=cwd,
        timeout=timeout,
        check=False,
    )
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return Done(status, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def rvisor(*arguments: str, stdin: str | None = None, cwd: Path | str | None = None, timeout: float = 120) -> Done:
    """Run the `rvisor` command of this checkout."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    return run([sys.executable, "-m", "rvisor", *arguments], stdin=stdin, env=env, cwd=cwd, timeout=timeout)
