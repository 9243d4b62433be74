"""`rvisor version`."""

from __future__ import annotations

import os

import rvisor
from rvisor._sentry import find
from rvisor.cli.output import as_json
from rvisor.cli.parser import Parser
from rvisor.errors import BinaryMissing


def parser() -> Parser:
    """The options of `rvisor version`."""
    made = Parser(prog="rvisor version", description="Say which rVisor this is, and where its executables are.")
    made.add_argument("--json", action="store_true", help="print JSON")
    return made


def main(argv: list[str]) -> int:
    """Print the version."""
    options = parser().parse_args(argv)
    places: dict[str, str | None] = {}
    for name in (find.LAUNCHER, find.SENTRY, find.STUB):
        try:
            places[name] = find.find(name)
        except BinaryMissing:
            places[name] = None
    uname = os.uname()
    if options.json:
        print(
            as_json(
                {
                    "version": rvisor.__version__,
                    "host": f"{uname.release} {uname.machine}",
                    "binaries": places,
                }
            )
        )
    else:
        print(f"rvisor {rvisor.__version__} on Linux {uname.release} {uname.machine}")
        for name, path in places.items():
            print(f"  {name:<14}{path or 'not built: make build'}")
    return 0
