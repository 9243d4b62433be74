#!/usr/bin/env python3
"""Many sandboxes at once, each at real work: all must do what a native run does, and leave nothing behind.

    tests/stress/together.py
    tests/stress/together.py --boxes 20 --app python --scale 50

The applications are those of `rvisor bench apps`; each sandbox has its directories, kernel and network.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "python")]

from framework import host  # noqa: E402
from rvisor.bench import apps  # noqa: E402
from rvisor.errors import RvisorError  # noqa: E402


def together(app: apps.App, *, boxes: int, scale: int, platform: str) -> tuple[list[str], dict[str, float]]:
    """What was wrong, one line each, and how long it took: alone on the host, and all the sandboxes."""
    before = host.state()
    with ExitStack() as held:
        works = [held.enter_context(apps.Work(app, scale=scale)) for _ in range(boxes)]
        begun = time.monotonic()
        wanted = works[0].natively().checks
        natively = time.monotonic() - begun

        def one(work: apps.Work) -> str:
            try:
                got = work.inside(platform=platform).checks
            except RvisorError as error:
                return str(error)
            return "" if got == wanted else f"{got}, not {wanted}"

        begun = time.monotonic()
        with ThreadPoolExecutor(boxes) as pool:
            wrong = [f"sandbox {n}: {said}" for n, said in enumerate(pool.map(one, works)) if said]
        inside = time.monotonic() - begun
    wrong += host.left_since(before, files_too=False)
    return wrong, {"native_seconds": natively, "inside_seconds": inside}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0 all the same; 1 otherwise; 2 when the command line is wrong.",
    )
    made.add_argument("--boxes", type=int, default=10, metavar="N", help="sandboxes at once (default: 10)")
    made.add_argument("--app", default="gcc", metavar="NAME", help="what they do (default: gcc)")
    made.add_argument("--scale", type=int, default=100, metavar="N", help="how much of it, in per cent (default: 100)")
    made.add_argument("--platform", choices=["slots", "ptrace"], default="slots")
    made.add_argument("--json", action="store_true", help="the outcome as JSON on standard output")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    found = [app for app in apps.apps() if app.name == options.app]
    if not found or found[0].absent():
        print(f"together.py: {options.app}: no such application here", file=sys.stderr)
        return 2
    wrong, took = together(found[0], boxes=options.boxes, scale=options.scale, platform=options.platform)
    if options.json:
        print(json.dumps({"boxes": options.boxes, "app": options.app, "wrong": wrong, **took}))
    else:
        print("\n".join(wrong) if wrong else f"{options.boxes} sandboxes did as the host does")
        print("{native_seconds:.1f} s once on the host, {inside_seconds:.1f} s all the sandboxes".format(**took))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
