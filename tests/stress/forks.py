#!/usr/bin/env python3
"""fork, exec, exit and wait, over and over: the private kernel's memory must not grow.

    tests/stress/forks.py --seconds 270
    tests/stress/forks.py --count 1000000 --json

Every child leaves something behind that its end has to clear: descriptors, mappings, timers, threads, orphans. After
the warm-up (a quarter of the run) the sentry's resident memory may grow by no more than --growth.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "python")]

from framework import compile, host  # noqa: E402


def resident(pid: int) -> int:
    """Of a process, in KiB: its private pages, not what it shares with its stubs."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def sentry(box: subprocess.Popen[bytes]) -> int:
    """The sentry's pid on the host."""

    def found() -> list[int]:
        return [p.pid for p in host.below(box.pid) if p.what == "sentry"]

    host.until(found)
    return found()[0]


def watch(count: int, seconds: float, platform: str) -> tuple[list[dict[str, float]], str]:
    """Samples by time, and what the program said at its end."""
    guest = compile.static(HERE / "guests" / "forks.c")
    samples: list[dict[str, float]] = []
    told = ""
    with host.sandbox("run", "--platform", platform, "--", str(guest), str(count), str(seconds)) as box:
        pid = sentry(box)
        assert box.stdout is not None
        for raw in box.stdout:
            told = raw.decode().strip()
            if not told[:1].isdigit():
                break
            made, at = told.split()
            sample = {"seconds": float(at), "forks": int(made), "kib": resident(pid), "descriptors": descriptors(pid)}
            samples.append(sample)
        said = host.status(box)
    return samples, told or said.err


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0 no growth; 1 otherwise; 2 when the command line is wrong.",
    )
    made.add_argument("--count", type=int, default=1_000_000, metavar="N", help="children (default: 1000000)")
    made.add_argument("--seconds", type=float, default=1e6, metavar="N", help="stop after this time")
    made.add_argument("--growth", type=int, default=512, metavar="KIB", help="after warm-up, at most (default: 512)")
    made.add_argument("--platform", choices=["slots", "ptrace"], default="slots")
    made.add_argument("--json", action="store_true", help="all samples as JSON on standard output")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    begun = time.monotonic()
    samples, told = watch(options.count, options.seconds, options.platform)
    if told != "done" or len(samples) < 4:
        print(f"forks.py: the program did not end well: {told}", file=sys.stderr)
        return 1
    warm = samples[len(samples) // 4]
    growth = samples[-1]["kib"] - warm["kib"]
    if options.json:
        print(json.dumps({"seconds": time.monotonic() - begun, "growth_kib": growth, "samples": samples}))
    else:
        for sample in samples[:: max(1, len(samples) // 20)] + samples[-1:]:
            print("{seconds:7.1f} s {forks:9.0f} forks {kib:7.0f} KiB {descriptors:4.0f} descriptors".format(**sample))
        print(f"growth after warm-up: {growth:.0f} KiB")
    return 1 if growth > options.growth else 0


if __name__ == "__main__":
    sys.exit(main())
