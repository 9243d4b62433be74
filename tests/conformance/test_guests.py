"""Every guest program natively, then inside on each platform, compared line by line.

The real kernel is the oracle: natively no case may fail. A case that differs inside is a fault, or a gap listed in
gaps.toml with its reason; a listed gap that passes fails the run, so the list stays true.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import tomllib
from pathlib import Path

import pytest

from framework import inside
from framework.guests import PRIVILEGED, PROGRAMS, SECONDS, compiled

HERE = Path(__file__).resolve().parent
ON_HOST_DIRECTORY = ("file_io", "file_meta", "file_names", "memory", "readlink", "unix_sockets")
"""Programs that also run on a bind-mounted host directory, apart from the root's layer in memory."""

GAPS = tomllib.loads((HERE / "gaps.toml").read_text())


def gaps(program: str, platform: str, where: str) -> dict[str, str]:
    """Cases known to differ, and why."""
    listed = {}
    for gap in GAPS.get(program, []):
        if platform in gap.get("platforms", [platform]) and where in gap.get("where", [where]):
            listed[gap["case"]] = gap["reason"]
    return listed


def parse(output: str) -> dict[str, str]:
    """Case name to its whole line."""
    lines = {}
    for line in output.splitlines():
        word, _, rest = line.partition(" ")
        if word in ("ok", "FAIL", "skip"):
            lines[rest.partition(":")[0]] = line
    return lines


def empty_directory() -> Path:
    """Open to every user, as the programs change who they are."""
    path = Path(tempfile.mkdtemp(prefix="rvisor-guest-", dir="/var/tmp"))
    path.chmod(0o755)
    return path


@functools.cache
def natively(program: str) -> dict[str, str]:
    """What the host's kernel says."""
    directory = empty_directory()
    try:
        done = inside.run([str(compiled(program))], cwd=directory, timeout=SECONDS)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    assert done.status == 0, done.err
    return parse(done.out)


@pytest.mark.parametrize("program", PROGRAMS)
def test_natively(program: str) -> None:
    lines = natively(program)
    assert lines
    assert [line for line in lines.values() if line.startswith("FAIL")] == []


def compare(program: str, platform: str, where: str, oracle: dict[str, str], out: inside.Done) -> None:
    lines = parse(out.out)
    known = gaps(program, platform, where)
    wrong = []
    for case, want in oracle.items():
        got = lines.get(case, f"nothing from {case}")
        if want.startswith("skip"):
            continue
        if got == want and case in known:
            wrong.append(f"{case}: passes, though gaps.toml lists it: take it out")
        elif got != want and case not in known:
            wrong.append(got)
    unknown = known.keys() - oracle.keys()
    wrong += [f"{case}: gaps.toml lists a case that does not exist" for case in unknown]
    if out.status != 0:
        wrong.append(f"the program ended with status {out.status}: {out.err[-500:]}")
    assert not wrong, f"{len(wrong)} of {len(oracle)} cases:\n" + "\n".join(wrong)


def variants() -> list[tuple[str, str]]:
    plain = [(program, "root") for program in PROGRAMS]
    return plain + [(program, "bind") for program in PROGRAMS if program in ON_HOST_DIRECTORY]


@pytest.mark.usefixtures("binaries")
@pytest.mark.parametrize(("program", "where"), variants())
def test_inside(program: str, where: str, platform: str) -> None:
    oracle = natively(program)
    directory = empty_directory()
    options = ["--platform", platform, "-w", str(directory), "--timeout", str(SECONDS)]
    if program in PRIVILEGED:
        options += ["--privileged"]
    if where == "bind":
        options += ["-v", f"{directory}:{directory}"]
    try:
        done = inside.rvisor("run", *options, "--", str(compiled(program)), timeout=SECONDS + 30)
        left = os.listdir(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    compare(program, platform, where, oracle, done)
    if where == "root":
        assert left == [], "the sandbox wrote to the host"
