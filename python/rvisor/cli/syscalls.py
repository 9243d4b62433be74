"""`rvisor syscalls`: the table of system calls, as the sentry's own rows say."""

from __future__ import annotations

import json

from rvisor._sentry import find, spawn
from rvisor.cli.output import as_json, table
from rvisor.cli.parser import Parser
from rvisor.errors import LaunchError


def parser() -> Parser:
    """The options of `rvisor syscalls`."""
    made = Parser(
        prog="rvisor syscalls",
        description="List the system calls of the private kernel: full, partial (with what is missing), or refused.\n"
        "A call that is not listed answers ENOSYS and is logged once.",
        epilog="Examples:\n  rvisor syscalls\n  rvisor syscalls partial\n"
        "  rvisor syscalls --json | python3 -m json.tool\n",
    )
    made.add_argument("support", nargs="?", metavar="LEVEL", help="only this level of support: full, partial, …")
    made.add_argument("--json", action="store_true", help="print JSON: nr, name, support, caveat")
    return made


def main(argv: list[str]) -> int:
    """Print the table."""
    options = parser().parse_args(argv)
    status, out, err = spawn.run_tool([find.find(find.SENTRY), "--syscalls"])
    if status != 0:
        raise LaunchError(f"{find.SENTRY} --syscalls failed: {err.decode(errors='replace').strip()}")
    try:
        rows = json.loads(out)
    except ValueError:
        raise LaunchError(f"{find.SENTRY} --syscalls did not print JSON") from None
    if options.support:
        rows = [row for row in rows if row["support"] == options.support]
    if options.json:
        print(as_json(rows))
        return 0
    cells = [[str(row["nr"]), row["name"], row["support"], row["caveat"] or ""] for row in rows]
    print(table(["nr", "name", "support", "caveat"], cells, right=[0]))
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["support"]] = counts.get(row["support"], 0) + 1
    print(f"\n{len(rows)} calls: " + ", ".join(f"{count} {level}" for level, count in sorted(counts.items())))
    return 0
