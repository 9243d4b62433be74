"""`rvisor profile`: make profiles, and understand them. One file per verb, loaded when it is asked for."""

from __future__ import annotations

import sys

from rvisor.cli.parser import Parser
from rvisor.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rvisor.profile.model import Profile

VERBS = {
    "new": "write a first profile, to be changed by hand",
    "build": "make one from Docker's seccomp JSON, an AppArmor profile, or a program's file",
    "learn": "run a program, and write the least profile that lets it run again",
    "merge": "one profile that allows what any of several does",
    "lint": "say what is wrong, and what is probably not meant",
    "explain": "what becomes of a call or a file, and why",
    "diff": "what two profiles say differently",
    "show": "a profile with all it includes: as TOML, JSON, Docker's JSON, or the filter",
}

EPILOG = """\
Verbs:
{verbs}

Start here:
  rvisor profile show                                the profiles that are shipped
  rvisor run --profile default -- ./server           one of them at work
  rvisor profile learn -o web.toml -- ./server -t    what does my program need?
  rvisor profile lint web.toml                       is that good?
  rvisor profile explain web.toml ptrace socket      what becomes of these, and why?
  rvisor profile build seccomp.json -o mine.toml     I have one of Docker's

`rvisor profile VERB --help` explains one verb. The language is in docs/design/profiles.md.
Exit status: 0; 1 when lint or diff found something; 2 when a profile or an option is wrong.
"""


def parser() -> Parser:
    """The verbs."""
    made = Parser(
        prog="rvisor profile",
        usage="rvisor profile VERB [OPTIONS]",
        description="Make profiles, and understand them. A profile is one TOML file that says what a container may do\n"
        "and how it is served: system calls, capabilities, files, kernel log, sysctls, CPU, memory,\n"
        "peers.",
        epilog=EPILOG.format(verbs="\n".join(f"  {name:<9}{text}" for name, text in VERBS.items())),
    )
    made.add_argument("verb", choices=list(VERBS), metavar="VERB", help="what to do: see below")
    return made


def main(argv: list[str]) -> int:
    """Do what the verb says."""
    if not argv or argv[0] not in VERBS:
        words = parser().parse_args(argv or ["--help"])
        raise UsageError(f"there is no verb {words.verb!r}", hint="`rvisor profile --help` lists them")
    from importlib import import_module

    status: int = import_module(f"rvisor.cli.profile.{argv[0]}").main(argv[1:])
    return status


def out(text: str, path: str | None, *, force: bool = False) -> None:
    """Print, or write a new file."""
    if path is None or path == "-":
        print(text, end="")
        return
    try:
        with open(path, "w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} is there already", hint="--force writes over it") from None
    except OSError as error:
        raise UsageError(f"-o: {path}: {error.strerror}") from None


def notes(said: Sequence[str]) -> None:
    """What is worth knowing, without being an error."""
    sys.stdout.flush()
    for note in said:
        print(f"note: {note}", file=sys.stderr)


def add_out(made: Parser) -> None:
    """Where the profile goes."""
    made.add_argument("-o", "--output", metavar="FILE", help="write it there (default: standard output)")
    made.add_argument("--force", action="store_true", help="also over a file that is there")


def of_several(verb: str, words: str, *, description: str, examples: str) -> Parser:
    """The options of a verb that is about several profiles; `words` as in its usage."""
    made = Parser(
        prog=f"rvisor profile {verb}",
        usage=f"rvisor profile {verb} [OPTIONS] {words}",
        description=description,
        epilog=f"Examples:\n{examples}",
    )
    made.add_argument("profile", nargs="+", metavar="PROFILE", help="files, or names of shipped ones")
    return made


def load(name: str) -> Profile:
    """A profile by its file or name."""
    from rvisor.profile import read

    return read.load(name)
