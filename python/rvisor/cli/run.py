"""`rvisor run`: a program in a sandbox.

Signals: the launcher starts in a session of its own, so the terminal's Ctrl-C reaches only this process, which passes
it on; exactly one arrives inside. With `-t` the terminal is raw, and Ctrl-C is a byte for the sandbox's own terminal,
whose foreground group gets the signal; only the window's size is told by one from here.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from rvisor import sandbox
from rvisor._sentry import runtime
from rvisor.cli import report
from rvisor.cli.parser import Parser, split_command
from rvisor.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor._sentry.spawn import Outcome, Running
    from rvisor._sentry.terminal import Terminal

FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
)

EPILOG = """\
Examples:
  rvisor run -- echo hello
  echo 6 7 | rvisor run -i -- awk '{print $1 * $2}'
  rvisor run -it --rootfs ./debian -- bash
  rvisor run -v ./src:/src:ro -v ./out:/out -w /src -- make DESTDIR=/out
  rvisor run -u nobody -e LANG=C.UTF-8 -- python3 -c 'import os; print(os.getuid())'
  rvisor run --memory 256m --cpus 0.5 --pids 64 --timeout 10 -- ./untrusted
  rvisor run --strace=calls.txt -- ls
  rvisor run --profile default -- ./server
  rvisor run --privileged -- sh -c 'mount -t tmpfs none /mnt && df /mnt'
  rvisor run --kernel shared --profile default -- ./server
  rvisor run --network user -p 127.0.0.1:8080:80 -- python3 -m http.server 80
  rvisor run --network user --net-rule allow:10.0.0.5:443 --net-rule deny:0.0.0.0/0 --net-rule deny:::/0 -- ./client

Exit status: the command's own; 128 + N when signal N killed it; 124 when the time was over; 125 when rVisor itself
failed; 126 when the command cannot be executed; 127 when it is not there.
"""


def parser() -> Parser:
    """The options of `rvisor run`."""
    made = Parser(
        prog="rvisor run",
        usage="rvisor run [OPTIONS] [--] CMD [ARG…]",
        description="Run a program on a private kernel. Without --rootfs it sees the host's files, read-only below a\n"
        "layer in memory: whatever it changes is gone afterwards, and the host never sees it.",
        epilog=EPILOG,
    )
    add = made.add_argument
    add("--rootfs", metavar="DIR", help="root directory of the sandbox (default: the host's root)")
    add(
        "--overlay",
        metavar="WHERE",
        default="memory",
        help="where changes to the root go: memory (default, gone afterwards), none (into --rootfs itself), or a DIR",
    )
    add(
        "-v",
        "--volume",
        metavar="SRC:DST[:ro]",
        action="append",
        default=[],
        help="share a directory or file of the host; may be given again",
    )
    add(
        "-e",
        "--env",
        metavar="K[=V]",
        action="append",
        default=[],
        help="set a variable, or pass on the caller's; may be given again",
    )
    add(
        "-w",
        "--workdir",
        metavar="DIR",
        help="working directory inside (default: the caller's; / with --rootfs)",
    )
    add(
        "-u",
        "--user",
        metavar="UID[:GID]",
        help="who the program is, by number or by the sandbox's own names",
    )
    add("--name", metavar="NAME", help="name of the sandbox for rvisor ps, exec, top and kill (default: its id)")
    add("--hostname", metavar="NAME", default="rvisor", help="host name inside (default: rvisor)")
    add("--memory", metavar="SIZE", help="limit of memory: 512m, 2g")
    add("--cpus", metavar="N", help="limit of CPU time: 1, 0.5")
    add("--pids", metavar="N", help="limit of processes and threads")
    add("--timeout", metavar="SECONDS", help="kill the sandbox after this time; the exit status is then 124")
    add(
        "--network",
        metavar="MODE",
        default="none",
        help="none (default): the sandbox's own loopback and nothing else; user: outward connections by pasta or "
        "slirp4netns, without root; ns:PATH: a network namespace made by others; host: the host's own network, and all "
        "that listens on its loopback interface: only for programs you trust",
    )
    add(
        "-p",
        "--publish",
        metavar="[IP:]HOST:GUEST[/udp]",
        action="append",
        default=[],
        help="with --network user: pass a port of the host on to one inside; may be given again",
    )
    add(
        "--net-rule",
        metavar="allow|deny:NET[:PORTS]",
        action="append",
        default=[],
        help="which peers may be reached, and may connect: the first rule that fits decides; may be given again",
    )
    add(
        "--profile",
        metavar="NAME|FILE",
        help="what the program may do, from a profile's file or the name of a shipped one; `rvisor profile` makes them",
    )
    add(
        "--cap-add",
        metavar="NAME",
        action="append",
        default=[],
        help="a capability that root has inside, beside Docker's fourteen; ALL is every one; may be given again",
    )
    add(
        "--cap-drop",
        metavar="NAME",
        action="append",
        default=[],
        help="a capability that nobody has inside; may be given again",
    )
    add(
        "--privileged",
        action="store_true",
        help="as --cap-add ALL: root may mount, change settings and make namespaces on the sandbox's own kernel; on "
        "the host it has no more rights than before",
    )
    add("-i", "--interactive", action="store_true", help="pass on standard input (else it is /dev/null)")
    add("-t", "--tty", action="store_true", help="give the program a terminal")
    add(
        "--kernel",
        choices=["private", "shared"],
        default="private",
        help="private: a kernel of its own; shared: the host's, in namespaces and behind the profile, at native speed: "
        "for programs that are trusted",
    )
    add(
        "--platform",
        choices=["slots", "ptrace"],
        default="slots",
        help="how calls reach the kernel: slots (fast), ptrace (slow, for comparison)",
    )
    add(
        "--strace",
        metavar="FILE",
        nargs="?",
        const="",
        help="write each system call to FILE, or to standard error",
    )
    add("--debug-log", metavar="DIR", help="write the kernel's log to DIR/ID.log")
    return made


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    options_part, command = split_command(made := parser(), argv)
    options = made.parse_args(options_part)
    if not command:
        raise UsageError("no command was given", hint="rvisor run -- CMD [ARG…]; `rvisor run --help` explains")
    if options.tty and options.interactive and not os.isatty(0):
        raise UsageError(
            "the input device is not a TTY: -i and -t together need a terminal as standard input",
            hint="leave -t out when the input is a pipe or file",
        )
    from rvisor import _options

    variables = _options.variables(options.env)
    cwd = options.workdir or (os.getcwd() if options.rootfs is None else "/")
    name = None if options.name is None else runtime.check_name(options.name)
    box = sandbox.Sandbox(
        rootfs=options.rootfs,
        overlay=options.overlay,
        volumes=options.volume,
        env=variables,
        cwd=cwd,
        user=options.user,
        hostname=options.hostname,
        memory=options.memory,
        cpus=options.cpus,
        pids=options.pids,
        network=options.network,
        publish=options.publish,
        network_rules=options.net_rule,
        platform=options.platform,
        profile=options.profile,
        cap_add=[*options.cap_add, *(["ALL"] if options.privileged else [])],
        cap_drop=options.cap_drop,
        kernel=options.kernel,
    )
    shared = options.kernel == "shared"
    if shared and (options.strace is not None or options.debug_log is not None):
        raise UsageError("--strace, --debug-log: there is no kernel to write them with --kernel=shared")
    timeout = None if options.timeout is None else _options.seconds(options.timeout)
    strace = _strace(options.strace)
    sandbox_id = sandbox.new_id()
    log, log_path = _debug_log(options.debug_log, sandbox_id)
    about: runtime.About = {
        "id": sandbox_id,
        "name": name or sandbox_id,
        "created": time.time(),
        "pid": os.getpid(),
        "command": command,
        "root": box.root,
        "hostname": options.hostname,
        "env": variables,
        "cwd": cwd,
        "user": options.user,
        "confinement": box.confinement,
        "kernel": options.kernel,
    }
    listed = runtime.register(about, must=name is not None)
    if box.shared is not None:
        from rvisor import vkernel

        log = vkernel.open_log()
        if listed is not None:
            vkernel.register(listed.path, profile=options.profile, parts=box.shared)
    terminal = terminal_of(shared=shared) if options.tty else None
    stdin = 0 if options.interactive else None
    stdout, stderr = 1, 2
    if terminal is not None:
        stdin = stdout = stderr = terminal.slave

    forward = Forward(terminal)
    try:
        running = box.start(
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            terminal=terminal is not None,
            strace_fd=strace,
            log_fd=log,
            sandbox_id=sandbox_id,
            control_fd=listed.socket if listed is not None else None,
        )
        if listed is not None:
            listed.started()
        forward.to(running)
        outcome = wait(running, terminal, interactive=options.interactive, timeout=timeout)
    finally:
        forward.stop()
        if listed is not None:
            listed.remove()
        if terminal is not None:
            terminal.restore()
    if outcome.message:
        report(
            outcome.message,
            hint=f"the kernel's log is {log_path}" if log_path and outcome.status == 125 else "",
        )
    return outcome.status


def wait(running: Running, terminal: Terminal | None, *, interactive: bool, timeout: float | None) -> Outcome:
    """Until it has ended, joining its terminal to the caller's."""
    try:
        if terminal is None:
            return running.wait(timeout=timeout)
        terminal.attach(running, interactive=interactive)
        return running.wait(timeout=timeout, at_end=lambda: terminal.program_ended(running))
    finally:
        running.close()


class Forward:
    """Catches signals from the start, and passes them on once there is a sandbox to take them."""

    def __init__(self, terminal: Terminal | None) -> None:
        self._terminal = terminal
        self._running: Running | None = None
        self._early: list[int] = []
        self._old = {number: signal.signal(number, self._caught) for number in FORWARDED}
        self._old[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._suspend)

    def to(self, running: Running) -> None:
        self._running = running
        while self._early:
            running.send_signal(self._early.pop(0))

    def stop(self) -> None:
        for number, old in self._old.items():
            signal.signal(number, old)

    def _caught(self, number: int, _frame: object) -> None:
        if number == signal.SIGWINCH and self._terminal is not None:
            self._terminal.resize()
        if self._running is None:
            self._early.append(number)
        else:
            self._running.send_signal(number)

    def _suspend(self, _number: int, _frame: object) -> None:
        # Ctrl-Z without -t: the sandbox's kernel stops with us, and goes on with us.
        if self._running is not None:
            self._running.send_signal(signal.SIGSTOP)
        if self._terminal is not None:
            self._terminal.cooked()
        os.kill(os.getpid(), signal.SIGSTOP)
        if self._terminal is not None:
            self._terminal.raw()
        if self._running is not None:
            self._running.send_signal(signal.SIGCONT)


def terminal_of(*, shared: bool) -> Terminal:
    """The caller's terminal, joined to one for the program."""
    from rvisor._sentry.terminal import Terminal

    return Terminal(shared=shared)


def _strace(target: str | None) -> int | None:
    if target is None:
        return None
    return 2 if target == "" else _create(target, option="--strace")


def _debug_log(directory: str | None, name: str) -> tuple[int | None, str]:
    if directory is None:
        return None, ""
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--debug-log: {directory}: {error.strerror}") from None
    path = os.path.join(directory, f"{name}.log")
    fd = _create(path, option="--debug-log")
    print(f"rvisor: the kernel's log is {path}", file=sys.stderr)
    return fd, path


def _create(path: str, *, option: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UsageError(f"{option}: {path}: {error.strerror}") from None
