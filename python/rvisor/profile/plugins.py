"""Plug-in rows: which calls Python functions serve, and the process that has them (`rvisor._plugged`)."""

from __future__ import annotations

# Without the package `socket`, half of a command's imports.
import _socket as socket
import os
import sys

from rvisor._record import Record
from rvisor.errors import ProfileError
from rvisor.profile import filter
from rvisor.profile.model import ALLOW, Action, Case, Origin, Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor._sentry import messages
    from rvisor.profile.model import Profile

START_SECONDS = 20.0
HEAD = "=IiQ"
"""Of each message between the monitor and the process: kind, a number, the call's id."""
READY, NONE = 0, 3
_OWN_ROWS = 64
"""Instructions that the monitor's own rows take, at most."""


class Served(Record):
    """`table` says of each call with a plug-in when it is asked, in the place of `allow`; `origins`, by function, where
    that was said.
    """

    table: Table
    origins: dict[str, Origin]


class Serving:
    """The process: `fd` is the monitor's end of its socket; once that is closed it ends. It is this process's child."""

    def __init__(self, pid: int, end: socket.socket) -> None:
        self.pid = pid
        self.fd = end.fileno()
        self._end = end

    def close(self) -> None:
        """Leave it to whoever was given the socket."""
        self._end.close()


def served(profile: Profile) -> Served | None:
    """None: there is no plug-in."""
    rules = () if profile.syscalls is None else profile.syscalls.rules
    origins: dict[str, Origin] = {}
    for rule in rules:
        if rule.action.kind == "plugin":
            keys = (*rule.origin.keys, "plugin")
            origins.setdefault(rule.action.plugin, Origin(rule.origin.file, keys))
    table = profile.table()
    if not origins or table is None:
        return None

    def asked(action: Action) -> Action:
        return action if action.kind == "plugin" else ALLOW

    cases = {
        number: tuple(Case(case.when, asked(case.action)) for case in every)
        for number, every in table.cases.items()
        if any(case.action.kind == "plugin" for case in every)
    }
    return Served(Table(ALLOW, cases), origins)


def rows(served: Served) -> messages.Plugins:
    """What the launcher is told. ProfileError: they do not fit."""
    program = filter.compile_table(served.table)
    if len(program) > filter.LONGEST - _OWN_ROWS:
        raise ProfileError(f"the plug-ins' conditions need {len(program)} instructions, too many beside other rows")
    functions = {
        str(number): ", ".join(dict.fromkeys(case.action.plugin for case in cases if case.action.plugin))
        for number, cases in served.table.cases.items()
    }
    return {"filter": program, "functions": functions}


def start(served: Served, *, quiet: bool = False) -> Serving:
    """Start the process; it has loaded all functions then. With `quiet` what they print is nowhere to be seen.

    ProfileError says, with its place, which cannot be loaded and why.
    """
    import subprocess

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.pathsep.join(word for word in (package, os.environ.get("PYTHONPATH")) if word)
    out = subprocess.DEVNULL if quiet else 2
    # -P: not what happens to lie in the working directory.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "rvisor._plugged", str(theirs.fileno())],
        stdin=subprocess.PIPE,
        stdout=out,
        stderr=out,
        pass_fds=[theirs.fileno()],
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    theirs.close()
    try:
        assert process.stdin is not None
        try:
            process.stdin.write(_description(served))
            process.stdin.close()
        except BrokenPipeError:
            # It says why, or nothing.
            pass
        _until_ready(ours, served)
    except BaseException:
        ours.close()
        process.kill()
        process.wait()
        raise
    # Who waits for it does so by its number.
    process.returncode = 0
    return Serving(process.pid, ours)


def _description(served: Served) -> bytes:
    import json

    def case(one: Case) -> list[object]:
        return [[[c.argument, c.op, c.value, c.mask] for c in one.when], one.action.plugin]

    table = [[number, [case(one) for one in cases]] for number, cases in served.table.cases.items()]
    files = [origin.file for origin in served.origins.values()]
    paths = list(dict.fromkeys(os.path.dirname(os.path.abspath(file)) for file in files if file))
    return json.dumps({"table": table, "paths": paths}).encode()


def _until_ready(end: socket.socket, served: Served) -> None:
    """Its first message stays where it is if it is what the monitor waits for."""
    import struct

    from rvisor.profile.read import place

    end.settimeout(START_SECONDS)
    try:
        message = end.recv(1 << 16, socket.MSG_PEEK)
    except TimeoutError:
        named = ", ".join(served.origins)
        raise ProfileError(f"plug-ins {named}: not loaded within {START_SECONDS:g} s") from None
    finally:
        end.setblocking(True)
    head = struct.calcsize(HEAD)
    kind = struct.unpack(HEAD, message[:head])[0] if len(message) >= head else None
    if kind == READY:
        return
    if kind != NONE:
        raise ProfileError("the plug-ins' process has ended before it was ready")
    name, _, why = message[head:].decode(errors="replace").partition("\0")
    raise ProfileError(f"{place(served.origins.get(name, Origin()))}plug-in {name}: {why}")
