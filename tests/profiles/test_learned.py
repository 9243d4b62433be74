"""Programs under the profiles that were learned from them: all works, and no call can be left out.

Every other call kills. By default a sample of the calls is taken away, one at a time; with RVISOR_PROFILES=all every
one (`make test-profiles`, minutes).
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from workloads import WORKLOADS, Ways, missing

from rvisor.profile import build, read

pytestmark = pytest.mark.usefixtures("binaries")

ALL = os.environ.get("RVISOR_PROFILES") == "all"
SAMPLE = {"python": ["socketpair"], "busybox": ["symlink"], "nginx": ["sendfile"]}
NATIVE: dict[str, set[str]] = {}
"""Calls that a program makes on the host's kernel only, of those that were seen."""


def calls(name: str) -> list[str]:
    """Those that were seen, without those a process could not begin or end without."""
    seen = build.allowed(read.load(f"{name}.seen"))
    return sorted(seen - set(build.ALWAYS) - NATIVE.get(name, set()))


def ways(tmp_path: Path, name: str, without: str | None) -> Ways:
    path = tmp_path / "profile.toml"
    text = f'include = ["{name}"]\n[syscalls]\ndefault = "kill"\n'
    if without is not None:
        text += f'[[syscalls.rule]]\nnames = ["{without}"]\naction = "kill"\n'
    path.write_text(text)

    def prefix(directory: Path, user: int) -> list[str]:
        who = ["-u", f"{user}:{user}"] if user else []
        where = ["-v", f"{directory}:{directory}", "--network", "host", "--profile", str(path)]
        return [sys.executable, "-m", "rvisor", "run", *who, *where, "--"]

    return Ways(prefix, timeout=15)


def run(tmp_path: Path, name: str, without: str | None = None) -> None:
    if missing(name):
        pytest.skip(f"not here: {', '.join(missing(name))}")
    way = ways(tmp_path, name, without)
    # Not below pytest's own directory, which is closed to others: a server that drops root is one of them.
    with tempfile.TemporaryDirectory(prefix="rvisor-profile-", ignore_cleanup_errors=True) as work:
        try:
            WORKLOADS[name](way, Path(work))
        finally:
            for process in way.started:
                if process.poll() is None:
                    process.kill()
                    process.wait()


@pytest.mark.parametrize("name", WORKLOADS)
def test_works(name: str, tmp_path: Path) -> None:
    run(tmp_path, name)


@pytest.mark.parametrize(
    "name, call", [(name, call) for name in WORKLOADS for call in (calls(name) if ALL else SAMPLE.get(name, []))]
)
def test_every_call_is_needed(name: str, call: str, tmp_path: Path) -> None:
    # Whatever the workload notices: a status, an answer that does not come, a client that fails.
    noticed = False
    try:
        run(tmp_path, name, without=call)
    except (AssertionError, OSError, ValueError, subprocess.SubprocessError, http.client.HTTPException):
        noticed = True
    assert noticed
