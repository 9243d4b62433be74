"""`rvisor profile diff`: what two profiles say differently."""

from __future__ import annotations

from rvisor.cli.output import as_json
from rvisor.cli.parser import Parser
from rvisor.cli.profile import load


def parser() -> Parser:
    """The options of `rvisor profile diff`."""
    made = Parser(
        prog="rvisor profile diff",
        usage="rvisor profile diff [OPTIONS] PROFILE PROFILE",
        description="What two profiles say differently, call by call, with all they include. Status 1 if there is\n"
        "anything.",
        epilog="Examples:\n  rvisor profile diff default web.toml\n  rvisor profile diff --json old.toml new.toml\n",
    )
    made.add_argument("first", metavar="PROFILE", help="a file, or the name of a shipped one")
    made.add_argument("second", metavar="PROFILE", help="the other")
    made.add_argument("--json", action="store_true", help="print JSON: subject, first, second")
    return made


def main(argv: list[str]) -> int:
    """Compare."""
    from rvisor.profile import build

    options = parser().parse_args(argv)
    rows = build.diff(load(options.first), load(options.second))
    if options.json:
        print(as_json([{"subject": subject, "first": first, "second": second} for subject, first, second in rows]))
    elif rows:
        print(f"# {options.first} → {options.second}")
        for subject, first, second in rows:
            print(f"{subject}: {first} → {second}")
    return 1 if rows else 0
