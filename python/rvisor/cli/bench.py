"""`rvisor bench`: measurements against native, in one run."""

from __future__ import annotations

import sys

from rvisor.cli.output import as_json, table
from rvisor.cli.parser import Parser
from rvisor.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from rvisor.bench.apps import Pace
    from rvisor.bench.micro import Row
    from rvisor.bench.start import Figure


def parser() -> Parser:
    """The options of `rvisor bench`."""
    made = Parser(
        prog="rvisor bench",
        description="Measure, natively and inside by turns.\n"
        "micro: single system calls. hot: the call in a loop. cold: one call after a pause of computation.\n"
        "ratio: hot to native. start: start-up and memory. compute: arithmetic on every CPU.\n"
        "apps: servers, languages and tools; pace: the part of the native speed that is reached inside.",
        epilog="Examples:\n  rvisor bench micro\n  rvisor bench start --runs 20\n"
        "  rvisor bench apps --only nginx --only gcc --runs 3\n"
        "  rvisor bench micro --only stat --only 'pipe ping-pong' --runs 5\n"
        "  rvisor bench micro --json > figures.json\n",
    )
    made.add_argument("what", choices=["micro", "start", "compute", "apps"], help="what to measure")
    made.add_argument("--json", action="store_true", help="print JSON; micro: times in nanoseconds")
    made.add_argument("--runs", metavar="N", type=int, default=5, help="turns, natively and inside each (default: 5)")
    made.add_argument("--platform", choices=["slots", "ptrace"], default="slots", help="default: slots")
    made.add_argument(
        "--only", metavar="NAME", action="append", default=[], help="only this row or application; may be given again"
    )
    made.add_argument("--pause", metavar="US", type=int, default=200, help="microseconds before a cold call (200)")
    made.add_argument("--static", action="store_true", help="link the measuring program statically")
    made.add_argument("--scale", metavar="PERCENT", type=int, default=100, help="apps: how much each does (100)")
    made.add_argument("--dir", metavar="DIR", help="host directory for its files (default: the temporary directory)")
    return made


def main(argv: list[str]) -> int:
    """Measure and print."""
    options = parser().parse_args(argv)
    if options.runs < 1:
        raise UsageError("--runs must be at least 1")
    if options.what == "micro":
        return _micro(options)
    if options.what == "apps":
        return _apps(options)
    from rvisor.bench import start

    measure = start.measure if options.what == "start" else start.measure_compute
    figures = measure(runs=options.runs, platform=options.platform, say=_say)
    print(as_json([figure.as_dict() for figure in figures]) if options.json else _figures(figures))
    return 0


def _say(text: str) -> None:
    print(f"rvisor bench: {text}", file=sys.stderr)


def _micro(options: Namespace) -> int:
    from rvisor.bench import micro

    if options.pause < 0:
        raise UsageError("--pause must not be negative")
    known = [*micro.TARGETS, *(name + micro.ON_HOST for name in micro.ON_FILES)]
    for name in options.only:
        if name not in known:
            raise UsageError(f"--only: there is no row {name!r}", hint="rows: " + "; ".join(known))
    rows = micro.measure(
        runs=options.runs,
        platform=options.platform,
        only=options.only,
        pause_us=options.pause,
        static=options.static,
        directory=options.dir,
        say=_say,
    )
    if options.json:
        print(as_json([row.as_dict() for row in rows]))
    else:
        print(_table(rows))
    return 0 if all(row.ratio is not None for row in rows) else 1


def _apps(options: Namespace) -> int:
    from rvisor.bench import apps

    if not 1 <= options.scale <= 10_000:
        raise UsageError("--scale must be from 1 to 10000 per cent")
    paces, troubles = apps.measure(
        runs=options.runs,
        platform=options.platform,
        only=options.only,
        scale=options.scale,
        directory=options.dir,
        say=_say,
    )
    if options.json:
        print(as_json({"paces": [pace.as_dict() for pace in paces], "troubles": troubles}))
    else:
        print(_paces(paces))
        print("".join(f"\n{trouble}" for trouble in troubles))
    return 1 if troubles else 0


def _paces(paces: list[Pace]) -> str:
    cells = []
    for pace in paces:
        reached = {None: "", True: "reached", False: "missed"}[pace.reached]
        target = "-" if pace.target is None else f"{pace.target:.2f}"
        values = [f"{value:,.2f} {pace.unit}" for value in (pace.native, pace.inside)]
        cells.append([pace.app, pace.name, *values, f"{pace.pace:.2f}", target, reached])
    return table(["application", "", "native", "inside", "pace", "target", ""], cells, right=[2, 3, 4, 5])


def _figures(figures: list[Figure]) -> str:
    cells = []
    for figure in figures:
        sign = ">= " if figure.at_least else "<= "
        target = "-" if figure.target is None else f"{sign}{figure.target:g}"
        reached = {None: "", True: "reached", False: "missed"}[figure.reached]
        cells.append([figure.name, f"{figure.value:.1f} {figure.unit}", target, reached])
    return table(["figure", "median", "target", ""], cells, right=[1, 2])


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
