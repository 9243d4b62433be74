"""`rvisor profile show`: a profile with all that it includes."""

from __future__ import annotations

from rvisor.cli.output import as_json, table
from rvisor.cli.parser import Parser
from rvisor.cli.profile import load
from rvisor.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor.profile.model import Profile

_NAMES = {0x20: "ld", 0x54: "and", 0x05: "ja", 0x15: "jeq", 0x25: "jgt", 0x35: "jge", 0x06: "ret"}


def parser() -> Parser:
    """The options of `rvisor profile show`."""
    made = Parser(
        prog="rvisor profile show",
        usage="rvisor profile show [OPTIONS] [PROFILE]",
        description="A profile with all that it includes. Without one: the profiles that are shipped.",
        epilog="Examples:\n  rvisor profile show\n  rvisor profile show default\n"
        "  rvisor profile show --seccomp web.toml > seccomp.json    # docker run --security-opt seccomp=seccomp.json\n"
        "  rvisor profile show --schema > profile.schema.json       # for editors\n",
    )
    add = made.add_argument
    add("profile", nargs="?", metavar="PROFILE", help="a file, or the name of a shipped one")
    add("--json", action="store_true", help="print JSON")
    add("--seccomp", action="store_true", help="print the rules on system calls as Docker's seccomp JSON")
    add("--calls", action="store_true", help="print the names of the calls that are let through")
    add("--filter", action="store_true", help="print the compiled filter, an instruction a line")
    add("--schema", action="store_true", help="print the JSON schema of profiles")
    return made


def main(argv: list[str]) -> int:
    """Show."""
    from rvisor.profile import build, fields, read, seccomp, write

    options = parser().parse_args(argv)
    if options.schema:
        print(as_json(fields.schema()))
        return 0
    if options.profile is None:
        return _list(json=options.json, names=read.shipped())
    profile = load(options.profile)
    if options.json:
        print(as_json(write.plain(profile)))
    elif options.seccomp:
        if profile.syscalls is None:
            raise UsageError("--seccomp: nothing is said of system calls")
        print(as_json(seccomp.write(profile.syscalls)))
    elif options.calls:
        print("\n".join(sorted(build.allowed(profile))))
    elif options.filter:
        _filter(profile)
    else:
        print(write.toml(profile), end="")
    return 0


def _list(*, json: bool, names: dict[str, str]) -> int:
    from rvisor.profile import build

    every = [(name, load(name)) for name in names if not name.endswith(".seen")]
    rows = [
        {"name": name, "calls": len(build.allowed(profile)), "description": profile.description}
        for name, profile in every
    ]
    if json:
        print(as_json(rows))
    else:
        cells = [[str(row["name"]), str(row["calls"]), str(row["description"])] for row in rows]
        print(table(["name", "calls", "what it is for"], cells, right=[1]))
    return 0


def _filter(profile: Profile) -> None:
    from rvisor.profile import filter

    made = profile.table()
    for at, (code, jt, jf, k) in enumerate([] if made is None else filter.compile_table(made)):
        name = _NAMES[code]
        to = f"  {at + 1 + jt} {at + 1 + jf}" if name.startswith("j") and name != "ja" else ""
        print(f"{at:4}  {name:<4}{k:#x}{to}")
