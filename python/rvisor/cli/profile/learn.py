"""`rvisor profile learn`: a program's own profile, by looking at it."""

from __future__ import annotations

import os
import sys

from rvisor.cli import report
from rvisor.cli.parser import Parser, split_command
from rvisor.cli.profile import notes
from rvisor.errors import RvisorError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from rvisor.profile.learn import Seen
    from rvisor.profile.model import Profile
    from rvisor.sandbox import Sandbox


def parser() -> Parser:
    """The options of `rvisor profile learn`."""
    made = Parser(
        prog="rvisor profile learn",
        usage="rvisor profile learn -o NAME.toml [OPTIONS] [--] CMD [ARG…]",
        description="Run a program, or its test suite, look at the system calls it makes, and write the least profile\n"
        "that lets it run again. Two files: NAME.seen.toml with what was seen, written anew each time\n"
        "(what was seen before is kept), and NAME.toml, which includes it, for what you add by hand: that\n"
        "is never changed.",
        epilog="Examples:\n  rvisor profile learn -o tests.toml -- python3 -m unittest\n"
        "  rvisor profile learn -o tests.toml -- python3 -m unittest discover slow    # adds to it\n"
        "  rvisor profile learn -o nginx.toml --native -- sh serve-and-fetch.sh\n"
        "  rvisor profile learn -o a.toml --trace calls.txt                # of `rvisor run --strace=calls.txt`\n"
        "\nExit status: the program's own, 125 when rVisor failed.\n",
    )
    add = made.add_argument
    add("-o", "--output", metavar="NAME.toml", required=True, help="the profile; what was seen goes to NAME.seen.toml")
    add("--native", action="store_true", help="run it on the host's kernel under strace(1), not on a private one")
    add("--trace", metavar="FILE", help="take the calls from a trace, and run nothing")
    add(
        "--only", metavar="PROGRAM", default="", help="only what this program does and starts: not the script around it"
    )
    add("--fresh", action="store_true", help="forget what was seen before")
    add("--kill", action="store_true", help="kill on every other call (default: EPERM)")
    add("--names", action="store_true", help="do not look at arguments (the kinds of ioctl, socket, prctl, fcntl …)")
    add("--no-check", action="store_true", help="do not run it again under what was learned")
    add("--rootfs", metavar="DIR", help="root directory of the sandbox (default: the host's root)")
    add("-v", "--volume", metavar="SRC:DST[:ro]", action="append", default=[], help="share a directory of the host")
    add("-e", "--env", metavar="K[=V]", action="append", default=[], help="set a variable")
    add("-w", "--workdir", metavar="DIR", help="working directory inside")
    add("-u", "--user", metavar="UID[:GID]", help="who the program is")
    add("--network", metavar="MODE", default="none", help="as for `rvisor run`")
    add("--timeout", metavar="SECONDS", help="end it after this time; what was seen until then counts")
    return made


def main(argv: list[str]) -> int:
    """Run, look, write, run again."""
    from rvisor.profile import learn
    from rvisor.profile.model import EPERM, Action

    options_part, command = split_command(made := parser(), argv)
    options = made.parse_args(options_part)
    if not command and not options.trace:
        raise UsageError("no command was given", hint="rvisor profile learn -o NAME.toml -- CMD [ARG…]")
    status = 0
    if options.trace:
        try:
            with open(options.trace, encoding="utf-8", errors="replace") as file:
                seen = learn.lines(file, only=options.only)
        except OSError as error:
            raise UsageError(f"--trace: {options.trace}: {error.strerror}") from None
    else:
        status, seen = (_native if options.native else _private)(options, command)
    if not seen.names:
        raise RvisorError("no system call was seen", hint="does the trace have lines such as `read(…) = …`?")
    profile, new = learn.save(
        seen,
        options.output,
        fresh=options.fresh,
        default=Action("kill") if options.kill else EPERM,
        kinds=not options.names,
        runs=f"Last: {' '.join(command)}" if command else "",
    )
    hand, machine = learn.paths(options.output)
    said = [f"{len(seen.names)} calls were seen, {len(new)} of them new: {machine}", f"what you add goes into {hand}"]
    if new:
        said.insert(1, "new: " + ", ".join(new))
    if not options.no_check and not (options.native or options.trace or options.only):
        said.append(_check(options, command, profile, status))
    notes(said)
    return status


def _check(options: argparse.Namespace, command: list[str], profile: Profile, status: int) -> str:
    again = _box(options, profile).run(command, timeout=_timeout(options), capture=True).status
    if again != status:
        report(f"under the profile it ended with status {again}, before with {status}: learn more of what it does")
    return f"under the profile it ended with status {again}, as before" if again == status else "not enough yet"


def _timeout(options: argparse.Namespace) -> float | None:
    from rvisor import _options

    return None if options.timeout is None else _options.seconds(options.timeout)


def _box(options: argparse.Namespace, profile: Profile | None) -> Sandbox:
    from rvisor import _options, sandbox

    return sandbox.Sandbox(
        rootfs=options.rootfs,
        volumes=options.volume,
        env=_options.variables(options.env),
        cwd=options.workdir or (os.getcwd() if options.rootfs is None else "/"),
        user=options.user,
        network=options.network,
        profile=profile,
    )


def _private(options: argparse.Namespace, command: list[str]) -> tuple[int, Seen]:
    import tempfile

    from rvisor.profile import learn

    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as trace:
        running = _box(options, None).start(command, stdin=0, strace_fd=trace.fileno())
        try:
            outcome = running.wait(timeout=_timeout(options))
        finally:
            running.close()
        if outcome.message:
            report(outcome.message)
        trace.seek(0)
        return outcome.status, learn.lines(trace, only=options.only)


def _native(options: argparse.Namespace, command: list[str]) -> tuple[int, Seen]:
    import subprocess
    import tempfile

    from rvisor.profile import learn

    for name in ("rootfs", "volume", "user"):
        if getattr(options, name):
            raise UsageError(f"--native: --{name} is for the private kernel", hint="say it in the command itself")
    with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace", prefix="rvisor-") as trace:
        argv = ["strace", "-f", "-qq", "-e", "raw=!execve", "-e", "signal=none", "-o", trace.name, "--", *command]
        sys.stdout.flush()
        try:
            done = subprocess.run(argv, check=False, timeout=_timeout(options), cwd=options.workdir)
            status = done.returncode if done.returncode >= 0 else 128 - done.returncode
        except FileNotFoundError:
            raise UsageError(
                "--native: strace is not installed", hint="apt install strace, or learn without --native"
            ) from None
        except subprocess.TimeoutExpired:
            status = 124
        return status, learn.lines(trace, only=options.only)
