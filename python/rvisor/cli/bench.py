"""`rvisor bench`: measurements against native and against what a user would pick instead, in one run."""

from __future__ import annotations

import re
import signal
import sys

from rvisor.cli.output import as_json, table
from rvisor.cli.parser import Parser
from rvisor.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from rvisor.bench.apps import Pace
    from rvisor.bench.micro import Row
    from rvisor.bench.side import Results
    from rvisor.bench.start import Figure


ALONE = ("micro", "start", "compute", "apps", "sched", "futex", "shared", "life")
TOGETHER = ("micro", "start", "memory", "apps", "seed", "surface", "all", "report")
QUICK = {"runs": 1, "warm_up": 0, "scale": 3}
ALL_SCALE = 20
"""Per cent: all of it at full scale takes hours with every peer."""


def parser() -> Parser:
    """The options of `rvisor bench`."""
    made = Parser(
        prog="rvisor bench",
        description="Measure, natively and inside by turns.\n"
        "micro: single system calls. hot: the call in a loop. cold: one call after a pause of computation.\n"
        "ratio: hot to native. start: start-up and memory. compute: arithmetic on every CPU.\n"
        "apps: servers, languages and tools; pace: the part of the native speed that is reached inside.\n"
        "sched: hackbench under each scheduling class; futex: the host's table and own ones (both on the host).\n"
        "shared: calls, files, nginx, pwgen and docker run on the shared kernel, beside runc under one Docker daemon.\n"
        "life: create, state, start and delete of a container, runrsc beside runc, crun and gVisor.\n"
        "With --against, peers take their turns beside; memory, seed (the first rVisor's benchmark), surface\n"
        "(host calls within reach) and all of these are measured that way only; report writes the report of a JSON\n"
        "file without measuring.",
        epilog="Examples:\n  rvisor bench micro\n  rvisor bench start --runs 20\n"
        "  rvisor bench apps --only nginx --only gcc --runs 3\n"
        "  rvisor bench micro --only stat --only 'pipe ping-pong' --runs 5\n"
        "  rvisor bench micro --json > figures.json\n"
        "  rvisor bench all --against runc,gvisor-systrap,bwrap --json figures.json --report report\n"
        "  rvisor bench all --against runc,gvisor-systrap,bwrap --json figures.json --resume\n"
        "  rvisor bench all --against all --runs 3 --budget 25 --json figures.json\n"
        "  rvisor bench report --json figures.json --report report --into docs/performance.md\n"
        "Peers: native, runc, crun, bwrap, gvisor-systrap, gvisor-ptrace, gvisor-kvm; tools/peers installs them.\n",
    )
    made.add_argument(
        "what", choices=[*ALONE, *(kind for kind in TOGETHER if kind not in ALONE)], help="what to measure"
    )
    made.add_argument(
        "--json",
        metavar="FILE",
        nargs="?",
        const="-",
        help="print JSON, or keep it in FILE, which with --against is written after each turn",
    )
    made.add_argument(
        "--against", metavar="PEER,…", help="measure these peers by turns beside native and rVisor; all: every one"
    )
    made.add_argument("--report", metavar="DIR", help="write a report there, as HTML and as Markdown")
    made.add_argument("--into", metavar="FILE", help="write the report between the marks of a Markdown file, too")
    made.add_argument("--budget", metavar="MINUTES", type=float, help="begin nothing that would end later than that")
    made.add_argument(
        "--quick", action="store_true", help="one turn of everything, as little as possible: does it work?"
    )
    made.add_argument(
        "--gentle",
        action="store_true",
        help="start: leave out Docker, and emptying the host's cache, which disturbs others",
    )
    made.add_argument("--resume", action="store_true", help="go on with an interrupted --json FILE")
    made.add_argument("--warm-up", metavar="N", type=int, help="turns before those that count (default: 1)")
    made.add_argument("--rootfs", metavar="DIR", help="root of the sandboxes beside each other (default: the host's)")
    made.add_argument("--runs", metavar="N", type=int, help="turns, natively and inside each (default: 5)")
    made.add_argument("--platform", choices=["slots", "ptrace"], default="slots", help="default: slots")
    made.add_argument(
        "--only", metavar="NAME", action="append", default=[], help="only this row or application; may be given again"
    )
    made.add_argument("--pause", metavar="US", type=int, default=200, help="microseconds before a cold call (200)")
    made.add_argument("--static", action="store_true", help="link the measuring program statically")
    made.add_argument(
        "--scale", metavar="PERCENT", type=int, help=f"how much applications and the seed do (100; all: {ALL_SCALE})"
    )
    made.add_argument("--dir", metavar="DIR", help="host directory for its files (default: the temporary directory)")
    return made


def main(argv: list[str]) -> int:
    """Measure and print."""
    options = parser().parse_args(argv)
    usual = {"runs": 5, "warm_up": 1, "scale": ALL_SCALE if options.what == "all" else 100}
    for name, value in (QUICK if options.quick else usual).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.runs < 1:
        raise UsageError("--runs must be at least 1")
    if options.against is not None or options.what not in ALONE:
        return _side_by_side(options)
    if options.report or options.into or options.resume or options.rootfs or options.budget is not None:
        raise UsageError("--report, --into, --resume, --rootfs and --budget go with --against")
    if options.what == "micro":
        return _micro(options)
    if options.what == "apps":
        return _apps(options)
    if options.what in ("sched", "futex", "shared", "life"):
        return _policies(options)
    from rvisor.bench import start

    measure = start.measure if options.what == "start" else start.measure_compute
    figures = measure(runs=options.runs, platform=options.platform, say=_say)
    _print(options, [figure.as_dict() for figure in figures], lambda: _figures(figures))
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
    _print(options, [row.as_dict() for row in rows], lambda: _table(rows))
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
    _print(
        options,
        {"paces": [pace.as_dict() for pace in paces], "troubles": troubles},
        lambda: "\n".join([_paces(paces), *troubles]),
    )
    return 1 if troubles else 0


def _policies(options: Namespace) -> int:
    from rvisor.bench import futex, life, sched, shared

    troubles: list[str] = []
    if options.what == "sched":
        for name in options.only:
            if not re.fullmatch(r"[1-9]\d{0,2}x[1-9]\d{0,4}", name):
                raise UsageError(f"--only: {name!r} is not GROUPSxMESSAGES", hint="such as " + ", ".join(sched.CELLS))
        cells, troubles = sched.measure(runs=options.runs, only=options.only, say=_say)
        (head, rows), value = sched.table(cells), [cell.as_dict() for cell in cells]
    elif options.what == "shared":
        for name in options.only:
            if name not in shared.WORK:
                raise UsageError(f"--only: {name!r} is not measured", hint="there are: " + ", ".join(shared.WORK))
        figures = shared.measure(runs=options.runs, only=options.only, say=_say)
        (head, rows), value = shared.table(figures), [figure.as_dict() for figure in figures]
    elif options.what == "life":
        ways, troubles = life.measure(runs=options.runs, say=_say)
        (head, rows), value = life.table(ways), [way.as_dict() for way in ways]
    else:
        tables = futex.measure(runs=options.runs, say=_say)
        (head, rows), value = futex.table(tables), [row.as_dict() for row in tables]
    text = "\n".join([table(head, rows, right=range(1, len(head))), *troubles])
    _print(options, value, lambda: text)
    return 1 if troubles else 0


def _print(options: Namespace, value: object, text: Callable[[], str]) -> None:
    if options.json is None:
        print(text())
    elif options.json == "-":
        print(as_json(value))
    else:
        with open(options.json, "w", encoding="utf-8") as file:
            file.write(as_json(value) + "\n")
        print(text())


def _side_by_side(options: Namespace) -> int:
    from rvisor.bench import peers, side, trials
    from rvisor.bench.host import Place
    from rvisor.bench.peers.plain import Rvisor

    if options.what not in TOGETHER:
        raise UsageError(f"{options.what} is not measured side by side")
    if options.warm_up < 0 or options.pause < 0 or not 1 <= options.scale <= 10_000:
        raise UsageError("--warm-up and --pause must not be negative, --scale from 1 to 10000 per cent")
    if options.budget is not None and options.budget <= 0:
        raise UsageError("--budget must be more than 0 minutes")
    file = None if options.json in (None, "-") else options.json
    if file is None and (options.resume or options.what == "report"):
        raise UsageError(f"{'--resume' if options.resume else 'report'} needs --json FILE")
    results = side.Results(file, resume=options.resume or options.what == "report")
    if options.what == "report":
        return _report(options, results)
    kinds = list(trials.KINDS) if options.what == "all" else [options.what]
    settings = {"runs": options.runs, "warm_up": options.warm_up, "scale": options.scale, "pause_us": options.pause}
    results.settings_are(settings)
    # They are met again, or are gone.
    results.troubles.clear()
    Rvisor.platform = options.platform
    wanted = list(peers.known()) if options.against == "all" else (options.against or "").split(",")
    with Place(root=options.rootfs, directory=options.dir) as place:
        here, absent = peers.chosen([name for name in wanted if name], place)
        for line in absent:
            _say(line)
            results.trouble(line)
        results.versions.update({peer.name: peer.version() for peer in here})
        work = trials.Settings(
            only=options.only,
            scale=options.scale,
            pause_us=options.pause,
            static=options.static,
            gentle=options.gentle,
        )
        chosen, troubles = trials.of(kinds, place, work, counts=results.counts)
        for line in troubles:
            results.trouble(line)
        measuring = side.Measure(
            chosen,
            here,
            results,
            runs=options.runs,
            warm_up=options.warm_up,
            say=_say,
            budget=None if options.budget is None else options.budget * 60,
            cpu_seconds=place.group.cpu_seconds,
        )
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            measuring.run()
        except KeyboardInterrupt:
            results.trouble("interrupted: not all turns were measured")
    return _report(options, results)


def _report(options: Namespace, results: Results) -> int:
    from rvisor.bench import report

    if options.report:
        report.write(options.report, results)
        _say(f"the report is {options.report}/index.html")
    if options.into:
        report.write_into(options.into, results)
    print(as_json(results.as_dict()) if options.json == "-" else report.text(results))
    return 0


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
