#!/usr/bin/env python3
"""Learn the shipped profiles of programs anew: each workload natively and on a private kernel. `learn.py [NAME…]`"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from workloads import WORKLOADS, Ways, missing

ROOT = Path(__file__).resolve().parent.parent.parent
RVISOR = [sys.executable, "-m", "rvisor"]


def main(names: list[str]) -> int:
    os.environ["PYTHONPATH"] = str(ROOT / "python")
    for name in names or WORKLOADS:
        absent = missing(name)
        if absent:
            print(f"{name}: not here: {', '.join(absent)}")
            continue
        traces: list[str] = []
        for native in (True, False):
            with tempfile.TemporaryDirectory(prefix=f"rvisor-{name}-") as work:
                here = traces_in(Path(work).resolve(), name, native=native)
                traces += [text for text in here if text]
        with tempfile.NamedTemporaryFile("w", suffix=".trace") as trace:
            trace.write("".join(traces))
            trace.flush()
            out = str(ROOT / "python" / "rvisor" / "profiles" / f"{name}.toml")
            subprocess.run(
                [*RVISOR, "profile", "learn", "--fresh", "--trace", trace.name, "-o", out], check=True, timeout=60
            )
    return 0


def traces_in(work: Path, name: str, *, native: bool) -> list[str]:
    """Run the workload once; its traces."""
    traces: list[Path] = []

    def prefix(directory: Path, user: int) -> list[str]:
        traces.append(work.parent / f"{work.name}.{len(traces)}.trace")
        traces[-1].touch()
        traces[-1].chmod(0o666)
        if native:
            drop = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
            return [*drop, "strace", "-f", "-qq", "-e", "raw=!execve", "-e", "signal=none", "-o", str(traces[-1]), "--"]
        who = ["-u", f"{user}:{user}"] if user else []
        where = ["-v", f"{directory}:{directory}", "--network", "host", f"--strace={traces[-1]}"]
        return [*RVISOR, "run", *who, *where, "--"]

    WORKLOADS[name](Ways(prefix, native=native, timeout=120), work)
    texts = [path.read_text(errors="replace") for path in traces]
    for path in traces:
        path.unlink()
    return texts


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
