"""What `runrsc --help` says; `docs/runrsc.md` is made of the same."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

REFUSED = "checkpoint, restore"
FLAGS = {
    "root": (
        "DIR",
        "where the containers' state is kept: /run/runrsc, or $XDG_RUNTIME_DIR/runrsc for an ordinary user",
    ),
    "log": ("FILE", "append warnings and errors to it"),
    "log-format": ("FORMAT", "of that file: text or json"),
    "debug": ("", "log more, such as where a mistake of runrsc's own is"),
    "systemd-cgroup": ("", "linux.cgroupsPath is SLICE:PREFIX:NAME; the path systemd would use is made"),
    "rootless": (
        "BOOL",
        "true, false, or auto: an ordinary user's, who may have no control groups; it is seen whether that is so",
    ),
    "kernel": ("KERNEL", "private, a kernel of the container's own, or shared: the host's"),
    "profile": ("NAME|FILE", "with --kernel shared: what is enforced beside config.json"),
    "criu": ("FILE", "taken and ignored"),
    "version": ("", "print the version, and that of the runtime specification"),
    "help": ("", "print a summary"),
    "bundle": ("DIR", "where config.json is; the current directory"),
    "console-socket": ("PATH", "a unix socket to send the terminal's master to"),
    "pidfd-socket": ("PATH", "a unix socket to send a descriptor of the process to"),
    "pid-file": ("FILE", "write the process's pid to it"),
    "no-pivot": ("", "taken and ignored: there is no root to fall back to"),
    "no-new-keyring": ("", "taken and ignored: there are no keyrings of the host's"),
    "preserve-fds": ("N", "refused unless 0: a guest holds no descriptor of the host's"),
    "detach": ("", "do not wait for its end"),
    "keep": ("", "do not delete it at its end"),
    "no-subreaper": ("", "taken and ignored"),
    "process": ("FILE", "the program as config.json's `process`; - is standard input"),
    "tty": ("", "give it a terminal of its own; needs --console-socket"),
    "cwd": ("DIR", "its directory"),
    "env": ("NAME=VALUE", "one more variable; may be repeated"),
    "user": ("UID[:GID]", "its ids"),
    "additional-gids": ("GID", "one more group; may be repeated"),
    "cap": ("CAP", "one more capability; may be repeated"),
    "no-new-privs": ("", "it cannot gain rights by execve"),
    "ignore-paused": ("", "do not refuse where the container is paused"),
    "cgroup": ("PATH", "refused: every program of a container is in its one control group"),
    "process-label": ("LABEL", "taken and ignored: it confines programs on the host's kernel"),
    "apparmor": ("PROFILE", "taken and ignored, likewise"),
    "all": ("", "every process, not only the first"),
    "force": ("", "end it first, and be content if there is none"),
    "format": ("FORMAT", "table or json"),
    "quiet": ("", "only the ids"),
    "resources": ("FILE", "limits as config.json's `linux.resources`; - is standard input"),
    "memory": ("BYTES", "memory, the kernel's own included"),
    "memory-reservation": ("BYTES", "what it is pushed back to when the host has little"),
    "memory-swap": ("BYTES", "memory and swap together; -1 is no limit"),
    "cpu-period": ("US", "the length of a period"),
    "cpu-quota": ("US", "processor time in each period; -1 is no limit"),
    "cpu-share": ("N", "weight against other groups"),
    "cpu-burst": ("US", "what may be saved up"),
    "cpuset-cpus": ("LIST", "processors it may run on"),
    "cpuset-mems": ("LIST", "memory nodes"),
    "pids-limit": ("N", "processes and threads; -1 is no limit"),
    "blkio-weight": ("N", "weight of its input and output"),
    "stats": ("", "once, then end"),
    "interval": ("TIME", "seconds between two; 5s"),
}
"""What stands for a flag's value, and what the flag is for. The same word means the same with every command."""


def names(known: Mapping[str, str]) -> dict[str, list[str]]:
    """Every flag, with its other names."""
    found: dict[str, list[str]] = {name: [] for name, kind in known.items() if not kind.startswith("=")}
    for name, kind in known.items():
        if kind.startswith("="):
            found[kind[1:]].append(name)
    return found


def lines(known: Mapping[str, str]) -> list[tuple[str, str]]:
    """For each flag how it is written, and what it is for."""
    found = []
    for name, others in names(known).items():
        value, text = FLAGS[name]
        every = [f"-{n}" if len(n) == 1 else f"--{n}" for n in sorted([name, *others], key=len)]
        found.append((", ".join(every) + (f" {value}" if known[name] == "v" else ""), text))
    return found


def of(command: str) -> str:
    """The page of one command."""
    from rvisor.oci.cli import COMMANDS

    form, known, what = COMMANDS[command]
    head = f"runrsc {command}{' [FLAGS]' if known else ''} {form}".rstrip()
    if command in REFUSED.split(", "):
        return f"{head}\n{what}"
    return "\n".join([head, what, *(f"  {flag:30} {text}" for flag, text in lines(known))])
