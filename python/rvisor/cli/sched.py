"""`rvisor sched`: a running container's CPU policy."""

from __future__ import annotations

from rvisor.cli.governed import common, container, joined, watch
from rvisor.cli.output import as_json
from rvisor.cli.parser import Parser
from rvisor.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def parser() -> Parser:
    """The options of `rvisor sched`."""
    made = Parser(
        prog="rvisor sched",
        usage="rvisor sched {show,set,watch} [CONTAINER | --cgroup PATH | --pid PID] [OPTION…]",
        description="How a running container is scheduled: show it, set it, or have a policy decide while you watch.\n"
        "Works on sandboxes, on containers of runrsc, Docker and others, and on any process.",
        epilog="Examples:\n  rvisor sched show web\n  rvisor sched set web --class batch --weight 50 --cores 0-1\n"
        "  rvisor sched set web --slice 3ms --quota 1.5\n  rvisor sched watch web --policy adaptive\n"
        "  rvisor sched watch --pid 4711 --policy ./mine.py:Mine --option limit=80 --json\n"
        "Policies: adaptive, slices, normal, batch, idle, fifo, rr; FILE.py[:Class]; module:Class; an entry point of\n"
        "rvisor.cpu_policies. Without --policy, watch only measures.\n",
    )
    common(made)
    made.add_argument("--class", dest="class_", metavar="CLASS", help="set: normal, batch, idle, fifo or rr")
    made.add_argument("--priority", metavar="N", type=int, help="set: 1 to 99, of fifo and rr")
    made.add_argument("--nice", metavar="N", type=int, help="set: -20 to 19")
    made.add_argument("--slice", metavar="TIME", help="set: 0.1ms to 100ms of normal and batch; 0 is the host's own")
    made.add_argument("--weight", metavar="N", type=int, help="set: against other containers, 1 to 10000 (100)")
    made.add_argument("--quota", metavar="CPUS", type=float, help="set: so many CPUs at most; 0 takes it away")
    made.add_argument("--cores", metavar="LIST", help="set: only these, such as 0-1,3")
    made.add_argument(
        "--realtime-us", metavar="US", type=int, help="set: what fifo and rr may use of a second (400000)"
    )
    return made


def main(argv: list[str]) -> int:
    """Show, set or watch."""
    options = parser().parse_args(argv)
    if options.what == "watch":
        return watch("cpu", options, _line)
    from rvisor.policy import cpu

    chosen = container(options)
    if options.what == "set":
        from rvisor.profile.model import Cpu

        wanted = Cpu(
            policy=options.class_,
            priority=options.priority,
            nice=options.nice,
            slice=None if options.slice is None else nanoseconds(options.slice),
            weight=options.weight,
            quota=options.quota,
            cores=None if options.cores is None else cpu.cores(options.cores, where="--cores"),
        )
        if wanted == Cpu():
            raise UsageError("nothing is to be set", hint="`rvisor sched --help` explains")
        cpu.apply(wanted, chosen, realtime_us=options.realtime_us or cpu.REAL_TIME_US)
    shown = cpu.show(chosen)
    print(as_json(shown) if options.json else _shown(shown))
    return 0


def nanoseconds(text: str) -> int:
    """`3ms`, `700us`, `2000000ns`, `0`; UsageError."""
    for unit, size in (("ns", 1), ("us", 1_000), ("ms", 1_000_000)):
        if text.endswith(unit):
            try:
                return round(float(text.removesuffix(unit)) * size)
            except (ValueError, OverflowError):
                break
    if text == "0":
        return 0
    raise UsageError(f"--slice: {text!r} is not a time such as 3ms, 700us or 0")


def _shown(shown: dict[str, Any]) -> str:
    from rvisor.policy.cpu import ranges_of

    slices = joined((f"{value / 1e6:g} ms", count) for value, count in shown["slices_ns"].items())
    lines = {
        "threads": shown["threads"],
        "class": joined(shown["classes"].items()),
        "slice": slices or "-",
        "cores": ranges_of(shown["cores"]) or "-",
        "weight": shown["weight"] or "-",
        "quota": f"{shown['quota']:g} CPUs" if shown["quota"] else "-",
        "real time": f"{shown['realtime_us']} us/s" if shown["realtime_us"] else "-",
    }
    return "\n".join(f"{name:<10}{value}" for name, value in lines.items())


def _line(metrics: dict[str, Any]) -> str:
    pressure = metrics["pressure_percent"]
    waiting = metrics["waiting_percent"]
    return (
        f"{metrics['policy']:<7}{metrics['cpu_percent']:4.0f} % of {metrics['cpus']:g} CPUs  "
        f"{metrics['voluntary_per_s']:6.0f} + {metrics['involuntary_per_s']:.0f} switches/s  "
        f"{metrics['threads']} threads"
        + ("" if waiting is None else f"  waiting {waiting:.0f} %")
        + ("" if pressure is None else f"  pressure {pressure:.0f} %")
        + (f"  throttled {metrics['throttled']}" if metrics["throttled"] else "")
    )
