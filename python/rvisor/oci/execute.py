"""exec: one more program in a container, over its kernel's control socket.

With `--detach` a small process stays whose pid is in the pid file: it passes on signals and the terminal's size, and
ends with the program's status, so that callers can wait for it as if it were the program.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios

from rvisor._sentry.numbers import (
    SIGALRM,
    SIGCONT,
    SIGHUP,
    SIGINT,
    SIGKILL,
    SIGQUIT,
    SIGTERM,
    SIGUSR1,
    SIGUSR2,
    SIGWINCH,
)
from rvisor.errors import ControlError, RvisorError, SandboxGone
from rvisor.oci import config, state
from rvisor.oci import create as creating
from rvisor.oci.errors import OciError, not_begun
from rvisor.profile.vocabulary import CAPABILITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from rvisor._sentry.control import Control
    from rvisor._sentry.messages import Process
    from rvisor.oci.cli import Command
    from rvisor.oci.state import Container

_PASSED = (
    SIGHUP,
    SIGINT,
    SIGQUIT,
    SIGTERM,
    SIGUSR1,
    SIGUSR2,
    SIGALRM,
    SIGCONT,
)
_GONE = 128 + SIGKILL


def exec_(command: Command) -> int:
    """The status is the program's, or 0 with `--detach`."""
    flags = command.flags
    container = state.find(command.root, command.id)
    status = container.status()
    if status == "paused" and not flags.on("ignore-paused"):
        raise OciError("cannot exec in a paused container")
    if status not in ("created", "running", "paused"):
        raise OciError(
            f"cannot exec a container that has {status}" if status == "stopped" else f"cannot exec: {status}"
        )
    wanted = config.Config()
    process = _process(command, container, wanted)
    socket = flags.text("console-socket")
    if process["terminal"] != bool(socket):
        raise OciError("exec: a terminal needs --console-socket, and a console socket a terminal")
    if container.shared:
        return _on_host(command, container, process, wanted)
    slave = -1
    try:
        control = container.control()
        if process["terminal"]:
            slave = creating.terminal(socket, wanted.terminal_size)
        streams = (slave,) if slave >= 0 else (0, 1, 2)
        pid = control.exec(process, descriptors=streams, bound=True, container=container.first)
    except SandboxGone:
        raise OciError("cannot exec a container that has stopped") from None
    except ControlError as error:
        raise refused(error, process) from None
    if flags.on("detach"):
        return _detach(command, container, control, pid, slave)
    return attend(control, pid, container.control, slave)


def _on_host(command: Command, container: Container, process: Process, wanted: config.Config) -> int:
    from rvisor.oci import shared

    detached = command.flags.on("detach")
    socket = command.flags.text("console-socket")
    running = shared.exec_(container, process, console_socket=socket, size=wanted.terminal_size, detached=detached)
    try:
        _tell(command, running.pid)
    except BaseException:
        running.close()
        raise
    if detached:
        running.hand_over()
        return 0
    return shared.attend(running)


def _tell(command: Command, pid: int) -> None:
    """Write down whom to wait for."""
    if path := command.flags.text("pidfd-socket"):
        creating.send_pidfd(path, pid)
    if path := command.flags.text("pid-file"):
        creating.replace(path, str(pid))


def refused(error: ControlError, process: Process) -> OciError:
    """With the status that a caller expects."""
    made = OciError(f"exec failed: {not_begun(error, process)}")
    made.status = error.status if error.status in (126, 127) else 255
    return made


def _process(command: Command, container: Container, wanted: config.Config) -> Process:
    flags = command.flags
    recorded: Process = container.data["process"]
    source = flags.text("process")
    if source:
        process = config.process(wanted, config.read_json("/dev/stdin" if source == "-" else source))
    else:
        args = flags.words[1:]
        if not args:
            raise OciError("exec: process args cannot be empty")
        process = recorded.copy()
        process["args"] = args
        process["terminal"] = False
        process["env"] = [*process["env"], *flags.every("env")]
        if any("=" not in entry for entry in flags.every("env")):
            raise OciError("exec: --env needs NAME=VALUE")
    # What the container may not call, no program in it may.
    process["seccomp"] = recorded["seccomp"]
    if flags.given("tty"):
        process["terminal"] = flags.on("tty")
    if cwd := flags.text("cwd"):
        process["cwd"] = cwd
    if not process["cwd"].startswith("/"):
        raise OciError(f"exec: {process['cwd']!r} is not an absolute path")
    if user := flags.text("user"):
        process["uid"], process["gid"] = _user(user, process["gid"])
    for group in flags.every("additional-gids"):
        process["groups"] = [*process["groups"], _number(group)]
    if flags.given("no-new-privs"):
        process["no_new_privs"] = flags.on("no-new-privs")
    if extra := flags.every("cap"):
        _add_capabilities(process, extra)
    if flags.text("cgroup"):
        raise OciError("exec: --cgroup: every program of a container is in its one control group")
    return process


def _user(text: str, gid: int) -> tuple[int, int]:
    user, _, group = text.partition(":")
    return _number(user), _number(group) if group else gid


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) >= (1 << 32) - 1:
        raise OciError(f"exec: {text!r} is no id")
    return int(text)


def _add_capabilities(process: Process, names: list[str]) -> None:
    mask = 0
    for name in names:
        short = name.upper().removeprefix("CAP_")
        if short not in CAPABILITIES:
            raise OciError(f"exec: --cap: {name!r} is not known")
        mask |= 1 << CAPABILITIES.index(short)
    sets = process["capabilities"]
    if sets is not None:
        sets["bounding"] |= mask
        sets["permitted"] |= mask
        sets["effective"] |= mask


def _detach(command: Command, container: Container, control: Control, pid: int, slave: int) -> int:
    from rvisor._sentry import spawn

    proxy = spawn.stay_behind()
    if proxy == 0:
        _stay(container, control, pid, slave)
    try:
        _tell(command, proxy)
    except BaseException:
        os.kill(proxy, SIGKILL)
        control.signal(SIGKILL, pid=pid)
        raise
    return 0


def _stay(container: Container, control: Control, pid: int, slave: int) -> NoReturn:
    status = _GONE
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        os.chdir("/")
        if slave >= 0:
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        kept = sorted({0, 1, 2, control.fileno(), *([slave] if slave >= 0 else [])})
        for low, high in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
            os.closerange(low + 1, high)
        status = attend(control, pid, container.control, slave)
    finally:
        os._exit(status)


def _follow(control: Control, pid: int, slave: int) -> None:
    """Give the program's terminal the size of the caller's. Signals may come in between: the last size counts."""
    told = b""
    while (size := fcntl.ioctl(slave, termios.TIOCGWINSZ, b"\0" * 8)) != told:
        rows, columns = struct.unpack("HHHH", size)[:2]
        control.resize(pid, rows=rows, columns=columns)
        told = size


def attend(control: Control, pid: int, another: Callable[[], Control], slave: int = -1) -> int:
    """Wait for the program's end, passing signals on and the size of the terminal, if it has one; its status."""

    def tell(number: int, _frame: object) -> None:
        # Another connection: this one may be in the middle of a message.
        try:
            with another() as other:
                if number != SIGWINCH:
                    other.signal(number, pid=pid)
                elif slave >= 0:
                    _follow(other, pid, slave)
        except (OSError, RvisorError):
            return

    import signal

    for number in (*_PASSED, SIGWINCH):
        signal.signal(number, tell)
    # Whoever resized it before this had nobody to tell.
    if slave >= 0:
        tell(SIGWINCH, None)
    try:
        ended = control.wait(pid)
    except SandboxGone:
        return _GONE
    return _GONE if ended is None else ended.status
