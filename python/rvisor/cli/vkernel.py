"""`rvisor vkernel`: the instances of the shared kernel."""

from __future__ import annotations

import time

from rvisor.cli.output import as_json, table
from rvisor.cli.parser import Parser
from rvisor.errors import UsageError

EPILOG = """\
Actions:
  ls                  list the instances: one for each container that runs on the shared kernel
  show NAME           what holds in one, and by which mechanism
  update NAME FILE    give a running container a changed profile, all or nothing: limits, sysctl views, networks,
                      policies, what uname says; system calls and file rules can only be narrowed
  unload NAME         end the container, and its instance
  log [NAME]          one container's kernel log; without NAME all records, each with its instance's name

Examples:
  rvisor run --kernel shared --name web --profile web.toml -- ./server
  rvisor vkernel ls --json
  rvisor vkernel show web
  rvisor vkernel log vkernel_3fa9c0de1122
"""


def parser() -> Parser:
    """The options of `rvisor vkernel`."""
    made = Parser(
        prog="rvisor vkernel",
        usage="rvisor vkernel ACTION [NAME] [FILE] [--json]",
        description="Look after the instances of the shared kernel.",
        epilog=EPILOG,
    )
    made.add_argument("action", metavar="ACTION", choices=["ls", "show", "update", "unload", "log"], help="see below")
    made.add_argument("name", metavar="NAME", nargs="?", help="name of the instance, or of its container")
    made.add_argument("profile", metavar="FILE", nargs="?", help="the changed profile, for update")
    made.add_argument("--json", action="store_true", help="print JSON")
    return made


def main(argv: list[str]) -> int:
    """Do it."""
    from rvisor import vkernel

    options = parser().parse_args(argv)
    needs = {"show": 1, "unload": 1, "update": 2}.get(options.action, 0)
    given = sum(word is not None for word in (options.name, options.profile))
    most = 1 if options.action == "log" else needs
    if not needs <= given <= most:
        raise UsageError(f"{options.action}: wrong number of arguments", hint="`rvisor vkernel --help` explains")
    match options.action:
        case "ls":
            _list(json=options.json)
        case "show":
            shown = vkernel.show(options.name)
            print(as_json(shown) if options.json else _plain(shown))
        case "update":
            from rvisor.profile import read

            changed = vkernel.update(options.name, read.load(options.profile), path=options.profile)
            print("\n".join(changed) if changed else "nothing to change")
        case "unload":
            vkernel.unload(options.name)
        case _:
            lines = vkernel.log(options.name)
            print(as_json([line.rstrip("\n") for line in lines]) if options.json else "".join(lines), end="")
    return 0


def _list(*, json: bool) -> None:
    from rvisor import vkernel
    from rvisor.cli.ps import age, command

    found = vkernel.instances()
    if json:
        keys = ("id", "name", "created", "command", "pid")
        print(as_json([{"vkernel": vkernel.name_of(a["id"])} | {k: a[k] for k in keys} for a in found]))  # type: ignore[literal-required]
        return
    rows = [
        (vkernel.name_of(a["id"]), a["name"], age(time.time() - a["created"]), command(a["command"])) for a in found
    ]
    print(table(("vkernel", "container", "age", "command"), rows))


def _plain(shown: dict[str, object]) -> str:
    lines = []
    for key, value in shown.items():
        if isinstance(value, list):
            words = [
                ", ".join(f"{k} {v}" for k, v in one.items()) if isinstance(one, dict) else str(one) for one in value
            ]
            lines.append(f"{key}: " + ("; " if value and isinstance(value[0], dict) else " ").join(words))
        elif isinstance(value, dict):
            lines.append(f"{key}: " + ", ".join(f"{k} {v}" for k, v in value.items()))
        else:
            lines.append(f"{key}: {value}")
    return "\n".join(lines)
