"""`rvisor profile build`: profiles from what others have written."""

from __future__ import annotations

import os

from rvisor.cli.parser import Parser
from rvisor.cli.profile import add_out, notes, out
from rvisor.errors import ProfileError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor.profile.model import Profile

KINDS = ("seccomp", "apparmor", "elf")


def parser() -> Parser:
    """The options of `rvisor profile build`."""
    made = Parser(
        prog="rvisor profile build",
        usage="rvisor profile build [OPTIONS] INPUT…",
        description="Make a profile from Docker's or the runtime specification's seccomp JSON, from AppArmor\n"
        "profiles, or from programs' files (the calls that can be found in them without running them).\n"
        "Several inputs of one kind are one profile that allows what any of them does.",
        epilog="Examples:\n  rvisor profile build seccomp.json -o mine.toml\n"
        "  rvisor profile build seccomp.json --cap SYS_ADMIN --cap CHOWN   # conditions in it are decided for these\n"
        "  rvisor profile build --allow-list old-deny-list.json\n"
        "  rvisor profile build /etc/apparmor.d/docker-default\n"
        "  rvisor profile build --kind elf /usr/sbin/nginx\n",
    )
    add = made.add_argument
    add("input", nargs="+", metavar="INPUT", help="files")
    add("--kind", choices=KINDS, help="what they are (default: by their first bytes)")
    add("--cap", metavar="NAME", action="append", default=[], help="a capability the container has (default: Docker's)")
    add("--linux", metavar="VERSION", default="6.18", help="for minKernel in it (default: 6.18)")
    add("--allow-list", action="store_true", help="turn a list of what is denied into one of what is allowed")
    add("--name", metavar="NAME", help="name of the profile (default: the input's)")
    add_out(made)
    return made


def main(argv: list[str]) -> int:
    """Read, put together, write."""
    from rvisor._record import replace
    from rvisor.profile import build, read, seccomp, write

    options = parser().parse_args(argv)
    every: list[Profile] = []
    said: list[str] = []
    for path in options.input:
        kind = options.kind or _kind(path)
        profile, more = {"seccomp": _seccomp, "apparmor": _apparmor, "elf": _elf}[kind](path, options)
        every.append(profile)
        said += more
    name = options.name or every[0].name
    made = replace(every[0], name=name) if len(every) == 1 else build.merge(every, name=name)
    if options.allow_list:
        if made.syscalls is None:
            raise UsageError("--allow-list: nothing is said of system calls")
        made = replace(made, syscalls=seccomp.allow_list(made.syscalls))
    text = write.toml(made, head=f"From {', '.join(os.path.basename(path) for path in options.input)}.")
    read.loads(text, name=options.output or "the profile that was made")
    out(text, options.output, force=options.force)
    notes(said)
    return 0


def _kind(path: str) -> str:
    if not os.path.isfile(path) and os.path.exists(path):
        raise UsageError(f"{path}: not a regular file")
    try:
        with open(path, "rb") as file:
            first = file.read(4096)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if first.startswith(b"\x7fELF"):
        return "elf"
    return "seccomp" if path.endswith(".json") or first.lstrip().startswith(b"{") else "apparmor"


def _seccomp(path: str, options: object) -> tuple[Profile, list[str]]:
    import json
    import re

    from rvisor.profile import positions, read, seccomp
    from rvisor.profile.model import Profile
    from rvisor.profile.vocabulary import CAPABILITIES, DOCKER_CAPABILITIES

    version = re.fullmatch(r"(\d+)\.(\d+).*", getattr(options, "linux", ""))
    if not version:
        raise UsageError("--linux: write a version: 6.1")
    caps = [name.upper().removeprefix("CAP_") for name in getattr(options, "cap", [])]
    for name in set(caps) - set(CAPABILITIES):
        raise UsageError(f"--cap: there is no capability {name!r}", hint="they are named as in capabilities(7): CHOWN")
    whom = seccomp.For(caps or DOCKER_CAPABILITIES, (int(version[1]), int(version[2])))
    text = read.text_of(path)
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ProfileError(f"{path}:{error.lineno}:{error.colno}: {error.msg}") from None
    except (ValueError, RecursionError):
        raise ProfileError(f"{path}: not JSON") from None
    if not isinstance(data, dict):
        raise ProfileError(f"{path}: not an object")
    try:
        found = seccomp.read(data, whom=whom)
    except seccomp.Unfit as error:
        line, column = positions.find_in_json(text, error.keys)
        raise ProfileError(f"{path}:{line}:{column}: {error}") from None
    name = os.path.basename(path).removesuffix(".json")
    profile = Profile(name=name, description=f"from {os.path.basename(path)}", syscalls=found.syscalls)
    return profile, [f"{path}: {note}" for note in found.notes]


def _apparmor(path: str, _options: object) -> tuple[Profile, list[str]]:
    from rvisor.profile import apparmor

    found = apparmor.read(path)
    return found.profile, [f"{path}: {note}" for note in found.notes]


def _elf(path: str, _options: object) -> tuple[Profile, list[str]]:
    from rvisor.profile import build, elf
    from rvisor.profile.model import Profile

    found = elf.calls(path)
    name = os.path.basename(path)
    syscalls = build.of_calls(found.names)
    return Profile(name=name, description=f"what is written in {name}", syscalls=syscalls), found.notes
