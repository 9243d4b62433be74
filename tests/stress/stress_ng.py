#!/usr/bin/env python3
"""Put the private kernel under stress with stress-ng, which is installed apart (Debian: apt install stress-ng).

    unshare -m tests/stress/stress_ng.py --native --results native.tsv --seconds 1
    tests/stress/stress_ng.py --baseline native.tsv --results inside.tsv

Each stressor has a sandbox of its own: two instances for five seconds. Looked at are the stressors that run natively.
A sandbox whose kernel ends (CRASH) or that does not end in time (HANG) is always a fault. Other failures are listed in
expected.toml, by cause; a listed stressor that passes fails the run, as an unlisted one that fails does. A run that was
stopped, by --budget too, goes on where it was when it is given the same --results.
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
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from ltp.run import Result, compare, expected, read, run  # noqa: E402

CLASSES = ("filesystem", "scheduler", "pipe", "interrupt", "vm", "network")
"""stress-ng 0.15 has the stressors of signals in the class interrupt."""

VERDICTS = ("PASS", "FAIL", "SKIP", "HANG", "CRASH")
"""SKIP: the stressor says that what it needs is not there. CRASH: rvisor itself failed."""

DANGEROUS = {"cpu-online", "cyclic", "memhotplug", "reboot", "softlockup", "swap", "watchdog"}
"""Left out natively, and so inside: they change the machine, or stop it."""

SKIPPED = re.compile(r"skipp(ed|ing) stressor|stressor will be skipped|not implemented|is not supported|CAP_\w+ rights")
CHATTER = re.compile(r"^stress-ng: (info|metrc|debug)")
MEMORY = "4g"
"""What a sandbox may have: some stressors take what they get."""


@dataclass(frozen=True)
class Options:
    native: bool
    seconds: int
    grace: float
    platform: str


def stressors(classes: Sequence[str]) -> list[str]:
    """The stressors of these classes, each once, as the installed stress-ng names them."""
    names: set[str] = set()
    for each in classes:
        done = subprocess.run(["stress-ng", "--class", f"{each}?"], capture_output=True, text=True, check=False)
        _, _, listed = (done.stdout + done.stderr).partition("stressors:")
        names.update(listed.split())
    return sorted(names - DANGEROUS)


def reason(output: str) -> str:
    """The first line that says what was wrong, without numbers that differ from run to run."""
    lines = [line for line in output.splitlines() if line.strip() and not CHATTER.match(line)]
    said = [re.sub(r"^stress-ng: (\w+): +\[\d+\] ", r"\1 ", line) for line in lines]
    best = [line for line in said if line.startswith(("fail", "error"))] or said
    return best[0][:200].replace("\t", " ") if best else ""


def classify(status: int | None, output: str, *, inside: bool) -> tuple[str, str]:
    """Verdict and reason, from the output and an exit status as a shell gives it (None: it was killed, being late)."""
    if status is None or (inside and status == 124):
        return "HANG", reason(output)
    if inside and status == 125:
        return "CRASH", output.strip().splitlines()[-1][:200] if output.strip() else "no message"
    if SKIPPED.search(output):
        return "SKIP", reason(output) or next(line for line in output.splitlines() if SKIPPED.search(line))[:200]
    if status == 0:
        return "PASS", ""
    return "FAIL", reason(output) or f"status {status}"


def one(name: str, options: Options) -> tuple[int | None, str]:
    """Run one stressor; its status and output."""
    limit = options.seconds + options.grace
    command = ["stress-ng", f"--{name}", "2", "--timeout", str(options.seconds), "--temp-path"]
    directory = tempfile.mkdtemp(prefix="rvisor-stress-", dir="/var/tmp")
    try:
        if options.native:
            return run([*command, directory], os.environ, directory, limit)
        # A stressor is never pid 1, whose signals are another matter.
        inside = ["sh", "-c", f"{' '.join(command)} /tmp; exit $?"]
        extra = ["--platform", options.platform, "--memory", MEMORY, "-w", "/tmp", "--timeout", str(limit)]
        argv = [sys.executable, "-m", "rvisor", "run", *extra, "--", *inside]
        return run(argv, {**os.environ, "PYTHONPATH": str(ROOT / "python")}, "/", limit + 30)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def measure(names: Sequence[str], options: Options, results: Path, budget: float) -> int:
    """Run what `results` has no line for, and write a line for each as it ends. How many are left."""
    done = read(results) if results.exists() else {}
    left = [name for name in names if name not in done]
    started = time.monotonic()
    with results.open("a") as out:
        for count, name in enumerate(left):
            begun = time.monotonic()
            if begun - started + options.seconds + options.grace > budget:
                return len(left) - count
            verdict, why = classify(*one(name, options), inside=not options.native)
            result = Result(name, verdict, time.monotonic() - begun, why)
            out.write(result.line())
            out.flush()
            if verdict != "PASS" or sys.stderr.isatty():
                print(f"[{count + 1}/{len(left)}] {name} {verdict} {result.seconds:.0f} s {why}", file=sys.stderr)
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0 as expected.toml says; 1 otherwise; 2 the command line is wrong; 3 some are left.",
    )
    made.add_argument("--class", dest="classes", action="append", metavar="NAME", help=f"default: {', '.join(CLASSES)}")
    made.add_argument("--only", metavar="PATTERN", help="stressors whose whole name matches this regular expression")
    made.add_argument("--native", action="store_true", help="on the host's kernel, without what changes it")
    made.add_argument("--baseline", type=Path, metavar="FILE", help="native results: run only what passes there")
    made.add_argument("--results", type=Path, metavar="FILE", help="name, verdict, seconds, reason; goes on from there")
    made.add_argument("--seconds", type=int, default=5, metavar="N", help="how long each stressor runs (default: 5)")
    made.add_argument("--grace", type=float, default=90, metavar="N", help="seconds more it may take (default: 90)")
    made.add_argument("--budget", type=float, default=1e9, metavar="N", help="stop before N seconds have passed")
    made.add_argument("--platform", choices=["slots", "ptrace"], default="slots")
    made.add_argument("--json", action="store_true", help="the outcome as JSON on standard output")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    if shutil.which("stress-ng") is None:
        print("stress_ng.py: stress-ng is not installed", file=sys.stderr)
        return 2
    options = Options(chosen.native, chosen.seconds, chosen.grace, chosen.platform)
    names = stressors(chosen.classes or CLASSES)
    known = {} if chosen.native else expected((HERE / "expected.toml").read_text())
    if chosen.only:
        names = [name for name in names if re.fullmatch(chosen.only, name)]
    if chosen.baseline:
        passing = {result.name for result in read(chosen.baseline).values() if result.verdict == "PASS"}
        names = [name for name in names if name in passing]
    with tempfile.TemporaryDirectory(prefix="rvisor-stress-") as scratch:
        results = chosen.results or Path(scratch) / "results"
        left = measure(names, options, results, chosen.budget)
        every = [result for name, result in read(results).items() if name in names]
    found = Counter(result.verdict for result in every)
    counts = {verdict: found[verdict] for verdict in VERDICTS}
    wrong = [] if chosen.native else compare(every, known)
    wrong += [f"{r.name}: {r.verdict}, which is never right" for r in every if r.verdict in ("HANG", "CRASH")]
    if chosen.json:
        details = [vars(result) for result in every if result.verdict != "PASS"]
        print(
            json.dumps(
                {"stressors": len(every), "left": left, "counts": counts, "unexpected": wrong, "not_passed": details}
            )
        )
    else:
        print(f"{len(every)} stressors: " + ", ".join(f"{number} {verdict}" for verdict, number in counts.items()))
        print("\n".join(wrong) if wrong else "as expected.toml says")
        if left:
            print(f"{left} are left; the same command goes on with them")
    return 1 if wrong and not chosen.native else 3 if left else 0


if __name__ == "__main__":
    sys.exit(main())
