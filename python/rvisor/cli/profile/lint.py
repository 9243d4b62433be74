"""`rvisor profile lint`: what is wrong, and what is probably not meant."""

from __future__ import annotations

from rvisor.cli.output import as_json
from rvisor.cli.profile import load, of_several

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor.cli.parser import Parser


def parser() -> Parser:
    """The options of `rvisor profile lint`."""
    made = of_several(
        "lint",
        "PROFILE…",
        description="Say what is wrong with a profile (status 2), and what is probably not meant (status 1): rules\n"
        "that change nothing, conditions that can be passed by, calls that reach the host, kernels that\n"
        "cannot enforce it.",
        examples="  rvisor profile lint web.toml\n  rvisor profile lint --json *.toml\n",
    )
    made.add_argument("--kernel", choices=["private", "shared"], help="also what this kernel cannot enforce")
    made.add_argument("--json", action="store_true", help="print JSON: profile, level, place, text")
    return made


def main(argv: list[str]) -> int:
    """Look it over."""
    from rvisor.profile import build, read

    options = parser().parse_args(argv)
    rows = []
    for name in options.profile:
        profile = load(name)
        found = build.lint(profile)
        if options.kernel:
            found += [
                build.Finding("warning", read.place(origin), f"{what} is not there with --kernel={options.kernel}")
                for what, origin in profile.unsupported(options.kernel)
            ]
        rows += [{"profile": name, "level": one.level, "place": one.place, "text": one.text} for one in found]
    if options.json:
        print(as_json(rows))
    for row in [] if options.json else rows:
        print(f"{row['place'] or row['profile'] + ': '}{row['level']}: {row['text']}")
    return 1 if any(row["level"] == "warning" for row in rows) else 0
