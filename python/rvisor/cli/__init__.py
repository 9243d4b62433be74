"""The `rvisor` command: one file per command, loaded when it is asked for; each only parses, calls and prints."""

from __future__ import annotations

import os
import sys

from rvisor.errors import RvisorError

COMMANDS = {
    "run": "run a program in a sandbox",
    "ps": "list the sandboxes that run",
    "exec": "run one more program in a running sandbox",
    "top": "show what runs in a sandbox",
    "kill": "end a sandbox, or send it a signal",
    "sched": "show, set or watch how a container is scheduled",
    "memory": "show, set or watch a container's memory",
    "doctor": "check what rVisor needs from this host",
    "vkernel": "look after the instances of the shared kernel",
    "syscalls": "list the system calls and how far each is supported",
    "bench": "measure system calls, natively and inside",
    "profile": "make profiles of what a container may do, and understand them",
    "install": "make runrsc known to docker, podman or containerd",
    "version": "say which rVisor this is",
    "completion": "print a completion script for bash, zsh or fish",
}

HELP = """\
rvisor: run programs on a private Linux kernel of their own

Usage: rvisor COMMAND [OPTIONS]

Commands:
{commands}

Start here:
  rvisor doctor                                  does this host have what it takes?
  rvisor run -- echo hello                       a program on its own kernel; the host's files, never changed
  rvisor run -it -- bash                         a shell to look around in
  rvisor run -v "$PWD:/work" -w /work -- make    share one directory, writable
  rvisor run --rootfs ./debian -- /bin/sh -c 'id; uname -a'
  rvisor run --name web -- ./server              then: rvisor exec -it web sh; rvisor kill web
  rvisor run --memory 512m --timeout 10 -- python3 untrusted.py

`rvisor COMMAND --help` explains one command.
"""


def main(argv: list[str]) -> int:
    """Run one command; returns its exit status. Errors are a sentence on standard error, never a traceback."""
    from rvisor._sentry.standard import open_descriptors

    open_descriptors()
    name = argv[0] if argv else ""
    if name in ("", "-h", "--help", "help"):
        commands = "\n".join(f"  {command:<12}{text}" for command, text in COMMANDS.items())
        print(HELP.format(commands=commands), end="")
        return 0 if name else 2
    if name in ("-V", "--version"):
        name = "version"
    if name not in COMMANDS:
        print(f"rvisor: there is no command {name!r}\n  `rvisor --help` lists them", file=sys.stderr)
        return 2
    from importlib import import_module

    command = import_module(f"rvisor.cli.{name}")
    try:
        status: int = command.main(argv[1:])
        sys.stdout.flush()
        return status
    except RvisorError as error:
        if not getattr(error, "said", False):
            report(str(error), hint=error.hint)
        return error.status if name in ("run", "exec") else 2
    except BrokenPipeError:
        # Nobody reads any more; Python must not complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except KeyboardInterrupt:
        return 130


def report(message: str, *, hint: str = "") -> None:
    """Say what went wrong, and what to do."""
    sys.stdout.flush()
    print(f"rvisor: {message}" + (f"\n  {hint}" if hint else ""), file=sys.stderr)
