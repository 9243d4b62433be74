"""`rvisor bench`: measurements against native, in one run."""

from __future__ import annotations

import sys

from rvisor.cli.output import as_json, table
from rvisor.cli.parser import Parser
from rvisor.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor.bench.micro import Row


def parser() -> Parser:
    """The options of `rvisor bench`."""
    made = Parser(
        prog="rvisor bench",
        description="Measure single system calls, natively and inside by turns.\n"
        "hot: the call in a loop. cold: one call after a pause of computation. ratio: hot to native.",
        epilog="Examples:\n  rvisor bench micro\n  rvisor bench micro --only stat --only 'pipe ping-pong' --runs 5\n"
        "  rvisor bench micro --json > figures.json\n",
    )
    made.add_argument("what", choices=["micro"], help="micro: system calls one by one")
    made.add_argument("--json", action="store_true", help="print JSON, times in nanoseconds")
    made.add_argument("--runs", metavar="N", type=int, default=5, help="turns, natively and inside each (default: 5)")
    made.add_argument("--platform", choices=["slots", "ptrace"], default="slots", help="default: slots")
    made.add_argument("--only", metavar="NAME", action="append", default=[], help="only this row; may be given again")
    made.add_argument("--pause", metavar="US", type=int, default=200, help="microseconds before a cold call (200)")
    made.add_argument("--static", action="store_true", help="link the measuring program statically")
    made.add_argument("--dir", metavar="DIR", help="host directory for its files (default: the temporary directory)")
    return made


def main(argv: list[str]) -> int:
    """Measure and print."""
    options = parser().parse_args(argv)
    from rvisor.bench import micro

    if options.runs < 1:
        raise UsageError("--runs must be at least 1")
    if options.pause < 0:
        raise UsageError("--pause must not be negative")
    for name in options.only:
        if name not in micro.TARGETS:
            raise UsageError(f"--only: there is no row {name!r}", hint="rows: " + ", ".join(micro.TARGETS))
    rows = micro.measure(
        runs=options.runs,
        platform=options.platform,
        only=options.only,
        pause_us=options.pause,
        static=options.static,
        directory=options.dir,
        say=lambda text: print(f"rvisor bench: {text}", file=sys.stderr),
    )
    if options.json:
        print(as_json([row.as_dict() for row in rows]))
    else:
        print(_table(rows))
    return 0 if all(row.ratio is not None for row in rows) else 1


def _table(rows: list[Row]) -> str:
    def time(value: float | None) -> str:
        return "failed" if value is None else f"{value:,.0f}"

    cells = []
    for row in rows:
        reached = {None: "", True: "reached", False: "missed"}[row.reached]
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        target = "-" if row.target is None else f"{row.target:.1f}"
        cells.append([row.name, time(row.native), time(row.hot), time(row.cold), ratio, target, reached])
    head = ["call (ns)", "native", "rvisor hot", "rvisor cold", "ratio", "target", ""]
    text = table(head, cells, right=[1, 2, 3, 4, 5])
    with_target = [row for row in rows if row.target is not None]
    return f"{text}\n\n{sum(row.reached is True for row in with_target)} of {len(with_target)} targets reached"
