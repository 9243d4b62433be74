#!/usr/bin/env python3
"""Write docs/rvisor.md and docs/runrsc.md from the parsers. A test says when that has to be done again."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "python"))

MADE = "<!-- Made by tools/manual.py from the parsers: change those. -->"


def rvisor() -> str:
    """Every command of `rvisor`."""
    from rvisor.cli import COMMANDS

    out = [
        "# rvisor",
        "",
        MADE,
        "",
        "Run programs on a private Linux kernel of their own. `rvisor COMMAND [OPTIONS]`:",
        "",
    ]
    out += [f"- [`{name}`](#rvisor-{name}): {text}" for name, text in COMMANDS.items()]
    for name in COMMANDS:
        parser = import_module(f"rvisor.cli.{name}").parser()
        out += ["", f"## rvisor {name}", "", " ".join((parser.description or "").split()), ""]
        for action in parser._actions:
            if action.help == "==SUPPRESS==":
                continue
            value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
            value = " ".join(value) if isinstance(value, tuple) else str(value)
            if action.option_strings:
                written = ", ".join(action.option_strings) + (f" {value}" if action.nargs != 0 else "")
            else:
                written = value
            text = " ".join(((action.help or "") % dict(vars(action), prog=parser.prog)).split())
            out.append(f"- `{written}`" + (f": {text}" if text else ""))
        if parser.epilog:
            out += ["", "```", parser.epilog.rstrip(), "```"]
    return "\n".join(out) + "\n"


def runrsc() -> str:
    """Every command of `runrsc`."""
    from rvisor.oci import boxcli, help
    from rvisor.oci.cli import COMMANDS, GLOBAL

    def flags(known: dict[str, str]) -> list[str]:
        return [f"- `{written}`: {text}" for written, text in help.lines(known)]

    out = ["# runrsc", "", MADE, "", "The OCI runtime: what Docker, Podman and containerd call instead of runc."]
    out += [
        "What becomes of each part of config.json is in `design/oci.md`.",
        "",
        "An error is one line on standard error and, with `--log`, one in that file. The exit status is 1; that of",
        "`run` and `exec` is the program's, and 126 or 127 if it cannot be executed or is not there.",
        "",
    ]
    out += ["`runrsc [FLAGS] COMMAND [FLAGS] [ARGUMENTS]`", "", *flags(GLOBAL)]
    for name, (form, known, what) in COMMANDS.items():
        out += ["", f"## runrsc {name} {form}".rstrip(), "", f"{what[0].upper()}{what[1:]}."]
        if known and name not in help.REFUSED:
            out += ["", *flags(known)]
        if name == "box":
            out += ["", *(f"- `{verb} {form}`: {text}" for verb, (form, _, text) in boxcli.VERBS.items())]
            out += ["", "`box.md` explains them."]
    return "\n".join(out) + "\n"


PAGES = {"rvisor.md": rvisor, "runrsc.md": runrsc}


def main() -> None:
    for name, make in PAGES.items():
        (ROOT / "docs" / name).write_text(make())


if __name__ == "__main__":
    main()
