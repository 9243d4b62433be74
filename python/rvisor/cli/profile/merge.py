"""`rvisor profile merge`: several as one."""

from __future__ import annotations

from rvisor.cli.profile import add_out, load, of_several, out
from rvisor.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor.cli.parser import Parser


def parser() -> Parser:
    """The options of `rvisor profile merge`."""
    made = of_several(
        "merge",
        "PROFILE PROFILE…",
        description="One profile that allows what any of several does, for a container with all of their programs.\n"
        "Where they say different things of which neither holds both (limits, policies), it says so. To\n"
        "narrow a profile instead, include it and say less.",
        examples="  rvisor profile merge nginx python -o app.toml\n",
    )
    made.add_argument("--name", metavar="NAME", help="name of the result (default: all of theirs)")
    add_out(made)
    return made


def main(argv: list[str]) -> int:
    """Merge."""
    from rvisor.profile import build, write

    options = parser().parse_args(argv)
    if len(options.profile) < 2:
        raise UsageError("there is nothing to merge it with", hint="name two profiles or more")
    every = [load(name) for name in options.profile]
    made = build.merge(every, name=options.name or "-".join(profile.name for profile in every))
    out(write.toml(made, head=f"Merged: {', '.join(options.profile)}."), options.output, force=options.force)
    return 0
