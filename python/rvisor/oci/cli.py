"""The command line of `runrsc`: global flags, and which command is meant. What a command needs is imported by it."""

from __future__ import annotations

import os
import sys

from rvisor.errors import RvisorError
from rvisor.oci.errors import OciError
from rvisor.oci.flags import Flags, parse
from rvisor.oci.log import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GLOBAL = {
    "root": "v",
    "log": "v",
    "log-format": "v",
    "debug": "s",
    "systemd-cgroup": "s",
    "rootless": "v",
    "criu": "v",
    "kernel": "v",
    "profile": "v",
    "version": "s",
    "v": "=version",
    "help": "s",
    "h": "=help",
}

_CREATE = {
    "bundle": "v",
    "b": "=bundle",
    "console-socket": "v",
    "pidfd-socket": "v",
    "pid-file": "v",
    "no-pivot": "s",
    "no-new-keyring": "s",
    "preserve-fds": "v",
}
_CRIU = dict.fromkeys(
    ("image-path", "work-path", "parent-path", "manage-cgroups-mode", "empty-ns", "page-server", "status-fd", "lsm-profile",
     "lsm-mount-context", "bundle", "pid-file", "console-socket", "preserve-fds"), "v"
) | dict.fromkeys(
    ("leave-running", "tcp-established", "tcp-skip-in-flight", "tcp-close", "ext-unix-sk", "shell-job", "lazy-pages", "file-locks",
     "pre-dump", "auto-dedup", "detach", "no-pivot", "no-subreaper", "link-remap"), "s"
) | {"b": "=bundle", "d": "=detach"}  # fmt: skip

COMMANDS: dict[str, tuple[str, dict[str, str], str]] = {
    "create": ("ID", _CREATE, "make a container; its program waits for start"),
    "start": ("ID", {}, "let the program of a created container begin"),
    "run": ("ID", _CREATE | {"detach": "s", "d": "=detach", "keep": "s", "no-subreaper": "s"}, "create, start, wait, delete"),
    "exec": (
        "ID [CMD [ARG…]]",
        {
            "process": "v", "p": "=process", "console-socket": "v", "pidfd-socket": "v", "pid-file": "v", "detach": "s",
            "d": "=detach", "tty": "s", "t": "=tty", "cwd": "v", "env": "v", "e": "=env", "user": "v", "u": "=user",
            "additional-gids": "v", "g": "=additional-gids", "cap": "v", "c": "=cap", "no-new-privs": "s", "preserve-fds": "v",
            "ignore-paused": "s", "cgroup": "v", "process-label": "v", "apparmor": "v", "no-subreaper": "s",
        },
        "run one more program in a container",
    ),
    "state": ("ID", {}, "what a container does, as JSON"),
    "kill": ("ID [SIGNAL]", {"all": "s", "a": "=all"}, "send a signal to the first process, or with --all to every one"),
    "delete": ("ID", {"force": "s", "f": "=force"}, "remove a stopped container"),
    "list": ("", {"format": "v", "f": "=format", "quiet": "s", "q": "=quiet"}, "all containers"),
    "ps": ("ID [PS-OPTION…]", {"format": "v", "f": "=format"}, "the host processes of a container"),
    "pause": ("ID", {}, "stop everything in a container"),
    "resume": ("ID", {}, "let it go on"),
    "update": (
        "ID",
        {
            "resources": "v", "r": "=resources", "memory": "v", "memory-reservation": "v", "memory-swap": "v", "cpu-period": "v",
            "cpu-quota": "v", "cpu-share": "v", "cpu-shares": "=cpu-share", "cpu-burst": "v", "cpuset-cpus": "v",
            "cpuset-mems": "v", "pids-limit": "v", "blkio-weight": "v",
        },
        "change the limits of a container",
    ),
    "events": ("ID", {"stats": "s", "interval": "v"}, "what a container uses, as JSON"),
    "spec": ("", {"bundle": "v", "b": "=bundle", "rootless": "s"}, "write a config.json to begin with"),
    "features": ("", {}, "what this runtime can, as JSON"),
    "box": ("VERB…", {}, "directories with a kernel of their own, and programs in them: runrsc box --help"),
    "checkpoint": ("ID", _CRIU, "refused: there is none"),
    "restore": ("ID", _CRIU, "refused: there is none"),
}  # fmt: skip

_ANYWHERE = (
    "kill",
    "delete",
    "state",
    "list",
    "pause",
    "resume",
    "events",
    "update",
    "create",
    "start",
    "spec",
    "features",
)


class Command:
    """One call of `runrsc`."""

    def __init__(self, name: str, common: Flags, flags: Flags, log: Log) -> None:
        from rvisor.oci import state

        self.name = name
        self.flags = flags
        self.common = common
        self.log = log
        self.root = os.path.abspath(common.text("root") or state.default_root())

    @property
    def id(self) -> str:
        """The container that is meant; checked when it is looked for."""
        if not self.flags.words or not self.flags.words[0]:
            raise OciError(f"{self.name}: container id cannot be empty")
        return self.flags.words[0]

    def words(self, least: int, most: int) -> list[str]:
        """The arguments; raises OciError if there are too few or too many."""
        if not least <= len(self.flags.words) <= most:
            raise OciError(
                f'"{self.name}" takes {COMMANDS[self.name][0] or "no arguments"}: a container id cannot be left out'
            )
        return self.flags.words


def main(args: Sequence[str]) -> int:
    """Run one command; its exit status."""
    log = Log()
    try:
        common = parse(args, GLOBAL, command="runrsc")
        form = common.text("log-format", "text")
        log = Log(common.text("log"), json=form == "json", debug=common.on("debug"))
        if common.text("kernel", "private") not in ("private", "shared"):
            raise OciError(f"--kernel: {common.text('kernel')!r} is neither private nor shared")
        if form not in ("text", "json"):
            raise OciError(f"--log-format: {form!r} is neither text nor json")
        return _run(common, log)
    except RvisorError as error:
        log.error(f"{error}: {error.hint}" if error.hint else str(error))
        return error.status if isinstance(error, OciError) else 1
    except BrokenPipeError:
        return 1
    except OSError as error:
        log.error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        # A mistake of ours is still one line to the caller; where it is, the log of --debug says.
        import traceback

        log.debug(traceback.format_exc())
        log.error(f"a mistake in runrsc, please report it with --debug's log: {type(error).__name__}: {error}")
        return 1


def _run(common: Flags, log: Log) -> int:
    if common.on("version"):
        from rvisor import __version__
        from rvisor.oci.state import VERSION

        print(f"runrsc version {__version__}\nspec: {VERSION}")
        return 0
    if common.on("help") or not common.words or common.words[0] in ("help", "h"):
        print(usage())
        return 0
    name, *rest = common.words
    if name not in COMMANDS:
        raise OciError(f"there is no command {name!r}: runrsc --help lists them")
    if name == "box":
        from rvisor.oci import boxcli, state

        return boxcli.main(rest, os.path.abspath(common.text("root") or state.default_root()))
    if rest[:1] in (["--help"], ["-h"]):
        from rvisor.oci import help

        print(help.of(name))
        return 0
    flags = parse(rest, COMMANDS[name][1], command=name, mixed=name in _ANYWHERE)
    command = Command(name, common, flags, log)
    if name in ("create", "run", "exec") and flags.text("preserve-fds", "0") != "0":
        raise OciError("--preserve-fds: a container cannot be given descriptors of the host's")
    if name in ("checkpoint", "restore"):
        raise OciError(f"{name}: a container cannot be checkpointed or restored")
    function: Callable[[Command], int]
    if name in ("create", "run", "start"):
        from rvisor.oci import lifecycle

        function = getattr(lifecycle, name)
    elif name == "exec":
        from rvisor.oci import execute

        function = execute.exec_
    elif name in ("features", "spec"):
        from rvisor.oci import about

        function = getattr(about, name)
    else:
        from rvisor.oci import commands

        function = getattr(commands, f"{name}_" if name == "list" else name)
    return function(command)


def usage() -> str:
    lines = [
        "runrsc [--root DIR] [--log FILE] [--log-format text|json] [--debug] [--systemd-cgroup]",
        "       [--kernel private|shared] [--profile NAME|FILE] COMMAND",
        "",
    ]
    lines += [f"  {f'{name} {form}':32} {what}" for name, (form, _, what) in COMMANDS.items()]
    return "\n".join(lines)


def emit(value: object, *, indent: int | None = None) -> None:
    """Print JSON: `indent` is for people, where standard output is a terminal."""
    if indent is not None and sys.stdout.isatty():
        from json import dumps as indented

        sys.stdout.write(indented(value, indent=indent) + "\n")
        return
    from rvisor._sentry.plainjson import dumps

    sys.stdout.write(dumps(value) + "\n")
