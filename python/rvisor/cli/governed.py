"""What `rvisor sched` and `rvisor memory` have in common: which container, and the watch."""

from __future__ import annotations

import sys
import time

from rvisor.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable
    from typing import Any

    from rvisor.cli.parser import Parser
    from rvisor.policy.container import Container


def common(made: Parser, *, more: tuple[str, ...] = ()) -> None:
    """The options both have."""
    made.add_argument("what", choices=["show", "set", "watch", *more])
    made.add_argument("container", metavar="CONTAINER", nargs="*", help="id, its beginning, or name")
    made.add_argument("--cgroup", metavar="PATH", help="a control group instead")
    made.add_argument("--pid", metavar="PID", type=int, help="a process and what it starts instead")
    made.add_argument("--json", action="store_true", help="print JSON; watch: an object a line")
    made.add_argument("--policy", metavar="NAME|FILE", help="watch: who decides")
    made.add_argument("--option", metavar="NAME=VALUE", action="append", default=[], help="watch: for the policy")
    made.add_argument("--interval", metavar="SECONDS", type=float, default=1.0, help="watch: a window's length (1)")
    made.add_argument("--windows", metavar="N", type=int, help="watch: end after so many")
    made.add_argument("--dry-run", action="store_true", help="watch, vote: decide, and change nothing")


def container(options: Namespace) -> Container:
    """The one that was named; UsageError."""
    from rvisor.policy.container import Container

    named = [*options.container, *(word for word in (options.cgroup, options.pid) if word is not None)]
    if len(named) != 1:
        raise UsageError("name one container, or --cgroup PATH, or --pid PID")
    if options.cgroup is not None:
        return Container.of_cgroup(options.cgroup)
    if options.pid is not None:
        return Container.of_pid(options.pid)
    return Container.find(options.container[0])


def watch(kind: str, options: Namespace, line: Callable[[dict[str, Any]], str]) -> int:
    """Tell of each window as it ends, until the container has ended; with a policy, carry out what it decides."""
    import json

    from rvisor.policy import load
    from rvisor.policy.controller import Controller

    if not 0.01 <= options.interval <= 3600 or (options.windows is not None and options.windows < 1):
        raise UsageError("--interval must be from 0.01 to 3600 seconds, --windows at least 1")
    chosen = container(options)
    decider: load.Decider = load.Watching()
    if options.policy is not None:
        decider = load.load(kind, options.policy, dict(map(_option, options.option)))
    elif options.option:
        raise UsageError("--option goes with --policy")
    try:
        controller = Controller(kind, chosen, decider, dry=options.dry_run)
        for event in controller.run(interval=options.interval, windows=options.windows):
            if options.json:
                print(json.dumps(event), flush=True)
                continue
            at = time.strftime("%H:%M:%S", time.localtime(event["at"]))
            print(f"{at}  {line(event['metrics'])}", flush=True)
            if event["error"]:
                print(f"          failed: {event['error']}", flush=True)
            elif event["changed"] and event["decision"]:
                settings = ", ".join(f"{name} {value}" for name, value in event["decision"].items())
                verb = "would set" if options.dry_run else "set"
                print(f"          {verb} {settings}: {event['reason']}", flush=True)
            elif event["reason"]:
                print(f"          keeps: {event['reason']}", flush=True)
            if decider.given_up:
                return 1
    finally:
        decider.close()
    if options.windows is None and not options.json:
        print(f"{chosen.name} has ended", file=sys.stderr)
    return 0


def _option(text: str) -> tuple[str, object]:
    import json

    name, equals, value = text.partition("=")
    if not name.isidentifier() or not equals:
        raise UsageError(f"--option: {text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def joined(counted: Iterable[tuple[object, int]]) -> str:
    """What there is, with how many have it where they differ."""
    pairs = list(counted)
    return ", ".join(str(what) if len(pairs) == 1 else f"{what} ({count})" for what, count in pairs)
