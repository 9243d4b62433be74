"""`rvisor memory`: a running container's memory policy."""

from __future__ import annotations

from rvisor.cli.governed import common, container, watch
from rvisor.cli.output import as_json
from rvisor.cli.parser import Parser
from rvisor.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any


def parser() -> Parser:
    """The options of `rvisor memory`."""
    made = Parser(
        prog="rvisor memory",
        usage="rvisor memory {show,set,watch,vote} [CONTAINER… | --cgroup PATH | --pid PID] [OPTION…]",
        description="A running container's memory: show it, set it, or have a policy decide while you watch.\n"
        "vote: huge pages for what these containers share, by a majority of each range's pages.",
        epilog="Examples:\n  rvisor memory show web\n  rvisor memory set web --max 512m --high 400m --thp never\n"
        "  rvisor memory set web --overcommit never --overcommit-kbytes 262144\n"
        "  rvisor memory watch web --policy headroom\n  rvisor memory vote db web --huge db --json\n"
        "Policies: headroom; FILE.py[:Class]; module:Class; an entry point of rvisor.memory_policies.\n",
    )
    common(made, more=("vote",))
    made.add_argument("--max", metavar="SIZE", help="set: the limit; 0 takes it away")
    made.add_argument("--high", metavar="SIZE", help="set: where reclaim begins; 0 takes it away")
    made.add_argument("--swappiness", metavar="N", type=int, help="set: 0 to 200")
    made.add_argument("--thp", choices=["always", "madvise", "never"], help="set: who gets huge pages")
    made.add_argument(
        "--overcommit", choices=["heuristic", "always", "never"], help="set: whether more may be promised than there is"
    )
    made.add_argument("--overcommit-ratio", metavar="N", type=int, help="set: with never, per cent of the limit (50)")
    made.add_argument("--overcommit-kbytes", metavar="N", type=int, help="set: with never, so many kilobytes")
    made.add_argument("--futex-slots", metavar="N", type=int, help="set: own futex table; 0 is the host's, for good")
    made.add_argument(
        "--huge", metavar="CONTAINER", action="append", default=[], help="vote: this one wants huge pages"
    )
    return made


def main(argv: list[str]) -> int:
    """Show, set, watch or vote."""
    options = parser().parse_args(argv)
    if options.what == "vote":
        return _vote(options)
    if options.huge:
        raise UsageError("--huge goes with vote")
    if options.what == "watch":
        return watch("memory", options, _line)
    from rvisor.policy import memory

    chosen = container(options)
    if options.what == "set":
        from rvisor.profile.model import Memory

        wanted = Memory(
            max=_size(options.max),
            high=_size(options.high),
            swappiness=options.swappiness,
            overcommit=options.overcommit,
            overcommit_ratio=options.overcommit_ratio,
            overcommit_kbytes=options.overcommit_kbytes,
            thp=options.thp,
        )
        if wanted == Memory() and options.futex_slots is None:
            raise UsageError("nothing is to be set", hint="`rvisor memory --help` explains")
        memory.apply(wanted, chosen, futex_slots=options.futex_slots)
    shown = memory.show(chosen)
    print(as_json(shown) if options.json else _shown(shown))
    return 0


def _size(text: str | None) -> int | None:
    from rvisor import _options

    if text is None or text == "0":
        return None if text is None else 0
    return _options.memory(text)


def _vote(options: Namespace) -> int:
    from rvisor.policy import voting
    from rvisor.policy.container import Container

    if len(options.container) < 2 or options.cgroup or options.pid:
        raise UsageError("a vote is between containers: name two at least")
    containers = [Container.find(word) for word in options.container]
    names = dict(zip(options.container, (found.name for found in containers), strict=True))
    for word in options.huge:
        if word not in names:
            raise UsageError(f"--huge: {word!r} is none of those that vote")
    wants = {name: word in options.huge for word, name in names.items()}
    outcomes = voting.ballot(containers, wants, dry=options.dry_run)
    if options.json:
        print(as_json([outcome._asdict() for outcome in outcomes]))
        return 0
    for outcome in outcomes:
        votes = ", ".join(f"{name} {count}" for name, count in outcome.votes.items())
        end = "collapsed" if outcome.collapsed else outcome.error or ("for" if outcome.huge else "against")
        print(f"{outcome.address:#x} of process {outcome.pid}: {votes or 'no pages'}: {end}")
    if not outcomes:
        print("they share no range of 2 MiB")
    return 0


def _mib(size: int | None) -> str:
    return "-" if size is None else f"{size / (1 << 20):.1f} MiB"


def _shown(shown: dict[str, Any]) -> str:
    lines = {
        "processes": shown["processes"],
        "used": _mib(shown["used"]),
        "max": _mib(shown["max"]),
        "high": _mib(shown["high"]),
        "swappiness": "-" if shown["swappiness"] is None else shown["swappiness"],
        "promised": _mib(shown["committed"]),
        "at most": ", ".join(_mib(limit) for limit in shown["commit_limits"]) or "-",
        "huge pages": _mib(shown["huge"]) + (f", not for {shown['thp_disabled']}" if shown["thp_disabled"] else ""),
    }
    return "\n".join(f"{name:<12}{value}" for name, value in lines.items())


def _line(metrics: dict[str, Any]) -> str:
    pressure = metrics["pressure_percent"]
    return (
        f"used {_mib(metrics['used'])}  promised {_mib(metrics['committed'])}  high {_mib(metrics['high'])}  "
        f"{metrics['major_faults_per_s']:.0f} major faults/s"
        + ("" if pressure is None else f"  pressure {pressure:.0f} %")
    )
