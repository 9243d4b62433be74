"""`rvisor profile new`: a first profile."""

from __future__ import annotations

from rvisor.cli.parser import Parser
from rvisor.cli.profile import add_out, load, out

_TEXT = """\
# A profile of rVisor's: what a container may do, for both kernels. docs/design/profiles.md is the reference;
# `rvisor profile lint` says what is wrong with it, `rvisor profile explain` what it means.
name = {name}
description = "say here what it is for"

# What is said below replaces what these say: {others}, or paths.
include = [{base}]

# Calls: the first rule that fits decides, those with `when` before those without.
# [[syscalls.rule]]
# names = ["ptrace"]
# action = "errno"            # or allow, kill, log, trap, notify, plugin
# errno = "EPERM"
# when = ["arg0:32 == 0"]     # conditions that must all hold; leave it out for every call
# reason = "why"

# What root inside has at most; nothing inside ever gets more.
# [capabilities]
# drop = ["NET_RAW"]

# Files, with --kernel=shared.
# [[files.rule]]
# paths = ["/etc/ssl/private"]
# allow = "r--"
# subtree = true
# reason = "keys are read, never written"

# [memory]
# max = "512m"

# [network]
# default = "deny"
# [[network.rule]]
# action = "allow"
# net = "10.0.0.0/8"
# ports = "443"
"""


def parser() -> Parser:
    """The options of `rvisor profile new`."""
    made = Parser(
        prog="rvisor profile new",
        description="Write a first profile, to be changed by hand: it stands on a shipped one and shows what can be\n"
        "said.",
        epilog="Examples:\n  rvisor profile new -o web.toml --from web-server\n  rvisor profile new | less\n",
    )
    made.add_argument(
        "--from", metavar="PROFILE", dest="base", default="default", help="what it stands on (default: default)"
    )
    add_out(made)
    return made


def main(argv: list[str]) -> int:
    """Write it."""
    from os.path import basename

    from rvisor.profile import read, write

    options = parser().parse_args(argv)
    load(options.base)
    name = basename(options.output or "mine.toml").removesuffix(".toml")
    text = _TEXT.format(name=write.text(name), base=write.text(options.base), others=", ".join(read.shipped()))
    out(text, options.output, force=options.force)
    return 0
