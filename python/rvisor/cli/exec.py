"""`rvisor exec`: one more program in a running sandbox.

It is a process like those of `docker exec`: no child of the sandbox's first one, and gone with it. With `-t` it has a
terminal of the sandbox's own, joined to the caller's.
"""

from __future__ import annotations

import os
import select
import signal

from rvisor._sentry import messages, runtime
from rvisor._sentry.attach import Attached
from rvisor._sentry.control import Control
from rvisor.cli.parser import Parser, split_command
from rvisor.errors import ControlError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from rvisor._sentry.control import Exit
    from rvisor._sentry.messages import Process
    from rvisor._sentry.runtime import About
    from rvisor._sentry.terminal import Terminal

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)

EPILOG = """\
Examples:
  rvisor exec web ps
  rvisor exec -it web sh
  rvisor exec -u nobody -w /tmp -e LANG=C web id
  tar c src | rvisor exec -i web tar x -C /work

User, directory and variables are those the sandbox was started with, unless given. Exit status: the command's own;
128 + N when signal N killed it; 125 when rVisor itself failed; 126 when the command cannot be executed; 127 when it is
not there.
"""


def parser() -> Parser:
    """The options of `rvisor exec`."""
    made = Parser(
        prog="rvisor exec",
        usage="rvisor exec [OPTIONS] ID [--] CMD [ARG…]",
        description="Run one more program in a sandbox that runs.",
        epilog=EPILOG,
    )
    add = made.add_argument
    add("-i", "--interactive", action="store_true", help="pass on standard input (else it is /dev/null)")
    add("-t", "--tty", action="store_true", help="give the program a terminal")
    add("-d", "--detach", action="store_true", help="do not wait for its end; its streams are /dev/null")
    add(
        "-e",
        "--env",
        metavar="K[=V]",
        action="append",
        default=[],
        help="set a variable, or pass on the caller's; may be given again",
    )
    add("-w", "--workdir", metavar="DIR", help="working directory inside")
    add("-u", "--user", metavar="UID[:GID]", help="who the program is, by number or by the sandbox's own names")
    return made


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    options_part, words = split_command(made := parser(), argv)
    options = made.parse_args(options_part)
    if not words:
        raise UsageError("no sandbox was named", hint="rvisor exec ID CMD [ARG…]; `rvisor ps` lists them")
    command = words[2:] if words[1:2] == ["--"] else words[1:]
    if not command:
        raise UsageError("no command was given", hint="rvisor exec ID CMD [ARG…]")
    if options.tty and options.detach:
        raise UsageError("-t and -d: a program with a terminal is waited for")
    if options.tty and options.interactive and not os.isatty(0):
        raise UsageError(
            "the input device is not a TTY: -i and -t together need a terminal as standard input",
            hint="leave -t out when the input is a pipe or file",
        )
    from rvisor import _options
    from rvisor.sandbox import DEFAULT_PATH

    directory, about = runtime.find(words[0])
    user = _options.user(options.user or about["user"], about["root"])
    env = {"PATH": DEFAULT_PATH, "HOME": user.home, "HOSTNAME": about["hostname"]}
    if options.tty:
        env["TERM"] = os.environ.get("TERM", "xterm")
    env |= about["env"] | _options.variables(options.env)
    process = messages.process(
        command,
        env=env,
        cwd=about["cwd"] if options.workdir is None else _options.directory_inside(options.workdir),
        uid=user.uid,
        gid=user.gid,
        groups=user.groups,
        terminal=options.tty,
    )
    if about["kernel"] == "shared":
        return _on_host(directory, about, process, options)
    messages.confine(process, about.get("confinement"))
    with Control.connect(directory) as control:
        if options.tty:
            return _at_terminal(control, process, interactive=options.interactive)
        null = os.open(os.devnull, os.O_RDWR)
        given = [null] * 3 if options.detach else [0 if options.interactive else null, 1, 2]
        if options.detach:
            control.exec(process, descriptors=given)
            return 0
        with _Signals(None) as signals:
            attached = Attached(control, control.exec(process, descriptors=given))
            signals.to(attached)
            return _status(attached.wait())


def _on_host(directory: str, about: About, process: Process, options: Namespace) -> int:
    """On the shared kernel: a child of this process."""
    from rvisor import vkernel
    from rvisor.cli import report, run

    terminal = run.terminal_of(shared=True) if options.tty else None
    null = os.open(os.devnull, os.O_RDWR)
    streams = (null, null, null) if options.detach else (0 if options.interactive else null, 1, 2)
    if terminal is not None:
        streams = (terminal.slave,) * 3
    forward = run.Forward(terminal)
    try:
        running = vkernel.execute(directory, about, process, streams=streams, detached=options.detach)
        if options.detach:
            running.hand_over()
            return 0
        forward.to(running)
        outcome = run.wait(running, terminal, interactive=options.interactive, timeout=None)
    finally:
        forward.stop()
        if terminal is not None:
            terminal.restore()
    if outcome.message:
        report(outcome.message)
    return outcome.status


def _at_terminal(control: Control, process: Process, *, interactive: bool) -> int:
    from rvisor._sentry.terminal import Terminal

    terminal = Terminal()
    try:
        with _Signals(terminal) as signals:
            attached = Attached(control, control.exec(process, descriptors=[terminal.slave]))
            signals.to(attached)
            terminal.attach(attached, interactive=interactive)
            return _status(attached.wait(until_end_of=terminal.master))
    finally:
        terminal.restore()


def _status(ended: Exit | None) -> int:
    return 125 if ended is None else ended.status


class _Signals:
    """Catches signals from the start, and passes them on from the loop: a call in the middle of another would take its
    answer.
    """

    def __init__(self, terminal: Terminal | None) -> None:
        self._attached: Attached | None = None
        self._terminal = terminal
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def __enter__(self) -> _Signals:
        numbers = [*_FORWARDED, *([signal.SIGWINCH] if self._terminal is not None else [])]
        self._old = {number: signal.signal(number, lambda _number, _frame: None) for number in numbers}
        self._old_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def to(self, attached: Attached) -> None:
        """There is a process to take them."""
        self._attached = attached
        attached.watch(self._read, select.POLLIN, lambda _events: self._pass_on(attached))
        self._resize(attached)

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._old_fd)
        for number, old in self._old.items():
            signal.signal(number, old)
        if self._attached is not None:
            self._attached.unwatch(self._read)
        os.close(self._read)
        os.close(self._write)

    def _pass_on(self, attached: Attached) -> int:
        for number in os.read(self._read, 100):
            if number == signal.SIGWINCH:
                self._resize(attached)
            elif number in _FORWARDED:
                try:
                    attached.control.signal(number, pid=attached.pid)
                except ControlError:
                    # It has ended just now.
                    continue
        return select.POLLIN

    def _resize(self, attached: Attached) -> None:
        if self._terminal is None:
            return
        rows, columns = self._terminal.resize()
        try:
            attached.control.resize(attached.pid, rows=rows, columns=columns)
        except ControlError:
            return
