"""`rvisor ps`: the sandboxes that run."""

from __future__ import annotations

import time

from rvisor._sentry import runtime
from rvisor.cli.output import as_json, table
from rvisor.cli.parser import Parser

_LONGEST_COMMAND = 50


def parser() -> Parser:
    """The options of `rvisor ps`."""
    made = Parser(prog="rvisor ps", description="List the sandboxes that run, oldest first.")
    made.add_argument("--json", action="store_true", help="print JSON")
    made.add_argument("-q", "--quiet", action="store_true", help="print ids only")
    return made


def main(argv: list[str]) -> int:
    """Print the list."""
    options = parser().parse_args(argv)
    found = runtime.running()
    if options.json:
        shown = ("id", "name", "created", "command", "root", "pid")
        print(as_json([{key: about[key] for key in shown} for about in found]))  # type: ignore[literal-required]
    elif options.quiet:
        for about in found:
            print(about["id"])
    else:
        rows = [
            (about["id"], about["name"], age(time.time() - about["created"]), command(about["command"]))
            for about in found
        ]
        print(table(("id", "name", "age", "command"), rows))
    return 0


def age(seconds: float) -> str:
    """Roughly how long: `5s`, `12m`, `3h`, `9d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def command(words: list[str]) -> str:
    """One line for a terminal, of bounded length."""
    line = " ".join(words)
    plain = "".join(letter if letter.isprintable() else "?" for letter in line)
    return plain if len(plain) <= _LONGEST_COMMAND else plain[: _LONGEST_COMMAND - 1] + "…"
