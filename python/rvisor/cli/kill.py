"""`rvisor kill`: a signal for a running sandbox."""

from __future__ import annotations

import signal

from rvisor._sentry import runtime
from rvisor._sentry.control import Control
from rvisor.cli.parser import Parser
from rvisor.errors import UsageError


def parser() -> Parser:
    """The options of `rvisor kill`."""
    made = Parser(
        prog="rvisor kill",
        description="End sandboxes, or send their first process another signal.",
        epilog="Examples:\n  rvisor kill web\n  rvisor kill -s TERM web\n  rvisor kill $(rvisor ps -q)\n",
    )
    made.add_argument("-s", "--signal", metavar="SIGNAL", default="KILL", help="name or number (default: KILL)")
    made.add_argument("-a", "--all", action="store_true", help="to every process, not only the first")
    made.add_argument("sandbox", metavar="ID", nargs="+", help="id, its beginning, or name")
    return made


def main(argv: list[str]) -> int:
    """Send it."""
    options = parser().parse_args(argv)
    sent = number(options.signal)
    for word in options.sandbox:
        directory, _ = runtime.find(word)
        with Control.connect(directory) as control:
            control.signal(sent, pid=None if options.all else 1)
    return 0


def number(text: str) -> int:
    """A signal's number, from `9`, `KILL` or `SIGKILL`."""
    if text.isdecimal():
        found = int(text)
    else:
        name = text.upper()
        found = getattr(signal, name if name.startswith("SIG") else f"SIG{name}", -1)
    if not isinstance(found, int) or not 1 <= found <= 64:
        raise UsageError(f"-s: {text!r} is no signal", hint="a name or number: TERM, SIGINT, 9")
    return int(found)
