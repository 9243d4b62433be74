#!/usr/bin/env python3
"""opencontainers/runtime-tools' validation, side by side: each of its test programs with each runtime.

    tests/runtime_tools/run.py DIRECTORY [--runtime NAME=PATH]… [--only WORD] [--json FILE]

DIRECTORY holds the built suite; where there is none it is fetched by Go's module proxy (v0.9.0, with the versions in
go.mod beside this file, as the release has no go.mod of its own) and built. Nothing of it is part of this project.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODULE = "github.com/opencontainers/runtime-tools@v0.9.0"
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SECONDS = 90
"""A test program that has not ended by then is ended, and has failed."""


def build(top: Path) -> None:
    """Fetch the suite and build its programs."""
    scratch = Path(tempfile.mkdtemp(prefix="runtime-tools-"))
    try:
        (scratch / "go.mod").write_text("module scratch\n")
        done = subprocess.run(
            ["go", "mod", "download", "-json", MODULE], cwd=scratch, capture_output=True, text=True, check=True
        )
        shutil.copytree(json.loads(done.stdout)["Dir"], top, dirs_exist_ok=True)
    finally:
        shutil.rmtree(scratch)
    for path in [top, *top.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)
    shutil.copy(HERE / "go.mod", top / "go.mod")
    env = dict(os.environ, GOFLAGS="-mod=mod", CGO_ENABLED="0")
    subprocess.run(["go", "build", "-o", "runtimetest", "./cmd/runtimetest"], cwd=top, env=env, check=True)
    for name in programs(top):
        subprocess.run(
            ["go", "build", "-o", f"validation/{name}/{name}.t", f"./validation/{name}"], cwd=top, env=env, check=True
        )


def programs(top: Path) -> list[str]:
    return sorted(p.name for p in (top / "validation").iterdir() if p.is_dir() and p.name != "util")


def ours(directory: str) -> str:
    """A command for the runtime of this checkout."""
    path = Path(directory) / "runrsc"
    path.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}/python" exec "{sys.executable}" -m rvisor.oci "$@"\n')
    path.chmod(0o755)
    return str(path)


def crun_here(directory: str, program: str) -> str:
    """crun, which refuses hosts with both versions of control groups: it is shown version 1 alone."""
    path = Path(directory) / "crun"
    seen = 'umount /sys/fs/cgroup/unified && exec "$0" "$@"'
    path.write_text(f'#!/bin/sh\nexec unshare --mount sh -c \'{seen}\' "{program}" "$@"\n')
    path.chmod(0o755)
    return str(path)


def once(top: Path, name: str, runtime: str) -> tuple[dict[str, int], str]:
    """Run one program: how many assertions passed, failed, were skipped; and all it has said."""
    env = dict(os.environ, RUNTIME=runtime)
    command = [f"validation/{name}/{name}.t"]
    with tempfile.TemporaryFile("w+") as out:
        started = subprocess.Popen(
            command, cwd=top, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
        try:
            status = started.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, 9)
            status = started.wait()
        out.seek(0)
        text = out.read()
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for line in text.splitlines():
        found = re.match(r"(not )?ok\b", line)
        if not found:
            continue
        if re.search(r"#\s*(skip|todo)\b", line, re.IGNORECASE):
            counts["skipped"] += 1
        else:
            counts["failed" if found[1] else "passed"] += 1
    # A plan of none is TAP's way to skip everything.
    if status != 0 or not (sum(counts.values()) or "1..0" in text):
        counts["failed"] += 1
        text += f"\n(ended with status {status})\n"
    return counts, text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--runtime", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--only", default="", help="only programs whose name has this in it")
    parser.add_argument("--json", type=Path, help="write what every program said to this file")
    options = parser.parse_args()
    top = options.directory.resolve()
    if not (top / "validation").is_dir() or not list(top.glob("validation/*/*.t")):
        build(top)
    with tempfile.TemporaryDirectory(prefix="rvisor-program-") as scratch:
        runtimes = dict(entry.split("=", 1) for entry in options.runtime)
        if not runtimes:
            runtimes = {name: path for name in ("runc", "crun") if (path := shutil.which(name))}
            if "crun" in runtimes and os.path.ismount("/sys/fs/cgroup/unified"):
                runtimes["crun"] = crun_here(scratch, runtimes["crun"])
            runtimes["runrsc"] = ours(scratch)
        elif "runrsc" in runtimes and not runtimes["runrsc"]:
            runtimes["runrsc"] = ours(scratch)
        said: dict[str, dict[str, tuple[dict[str, int], str]]] = {}
        print(f"{'program':34}" + "".join(f"{name:>24}" for name in runtimes), flush=True)
        for name in (n for n in programs(top) if options.only in n):
            row = {}
            began = time.monotonic()
            for runtime, path in runtimes.items():
                row[runtime] = once(top, name, path)
            said[name] = row
            cells = [f"{c['passed']} ok, {c['failed']} not, {c['skipped']} skip" for c, _ in row.values()]
            print(f"{name:34}" + "".join(f"{c:>24}" for c in cells) + f"  {time.monotonic() - began:.0f} s", flush=True)
    for runtime in runtimes:
        rows = [row[runtime][0] for row in said.values()]
        clean = sum(1 for c in rows if not c["failed"])
        total = {key: sum(c[key] for c in rows) for key in ("passed", "failed", "skipped")}
        print(f"{runtime}: {clean} of {len(rows)} programs without a failure; assertions: {total}")
    if options.json:
        options.json.write_text(json.dumps(said, indent=1))
    if "runc" in runtimes and "runrsc" in runtimes:
        worse = [n for n, row in said.items() if row["runrsc"][0]["failed"] and not row["runc"][0]["failed"]]
        print("runc alone passes:", ", ".join(worse) or "none")
    return 0


if __name__ == "__main__":
    sys.exit(main())
