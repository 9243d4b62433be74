"""`rvisor top`: the processes of a running sandbox."""

from __future__ import annotations

import time

from rvisor._sentry import runtime
from rvisor._sentry.control import Control
from rvisor.cli.output import as_json, table
from rvisor.cli.parser import Parser
from rvisor.cli.ps import age, command


def parser() -> Parser:
    """The options of `rvisor top`."""
    made = Parser(prog="rvisor top", description="Show what runs in a sandbox, by the sandbox's own pids.")
    made.add_argument("--json", action="store_true", help="print JSON, with the sandbox's figures")
    made.add_argument("sandbox", metavar="ID", help="id, its beginning, or name")
    return made


def main(argv: list[str]) -> int:
    """Print the processes."""
    options = parser().parse_args(argv)
    directory, about = runtime.find(options.sandbox)
    if about["kernel"] == "shared":
        from rvisor import vkernel

        processes = vkernel.processes(directory)
        stats: dict[str, object] = {name: sum(p[name] for p in processes) for name in ("threads", "memory", "cpu_ns")}
        stats["processes"] = len(processes)
    else:
        with Control.connect(directory) as control:
            processes = control.processes()
            stats = control.stats()
    if options.json:
        print(as_json({"processes": processes, "stats": stats}))
        return 0
    now = time.time()
    rows = [
        (
            str(p["pid"]),
            str(p["ppid"]),
            str(p["uid"]),
            p["state"],
            age(now - p["started_ns"] / 1e9),
            f"{p['cpu_ns'] / 1e9:.2f}",
            f"{p['memory'] >> 20}M",
            command(p["args"] or [f"[{p['name']}]"]),
        )
        for p in processes
    ]
    print(table(("pid", "ppid", "uid", "s", "age", "cpu", "size", "command"), rows, right=(0, 1, 2, 4, 5, 6)))
    return 0
