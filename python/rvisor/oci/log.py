"""Where errors go: the file of `--log`, which callers read, and standard error."""

from __future__ import annotations

import os
import sys
import time

_LONGEST = 1000


def one_line(message: str) -> str:
    """What callers take for one message: no line breaks, nothing a terminal would obey, not endless."""
    if not message.isprintable():
        message = " ".join(message.split())
        message = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)
    half = _LONGEST // 2
    return message if len(message) <= _LONGEST else f"{message[:half]} … {message[-half:]}"


class Log:
    """`--log`, `--log-format` and `--debug`."""

    def __init__(self, path: str = "", *, json: bool = False, debug: bool = False) -> None:
        self.path = path
        self.json = json
        self.debug_wanted = debug

    def error(self, message: str) -> None:
        """A line in the log, and one on standard error, which people and some callers read."""
        message = one_line(message)
        self._write("error", message)
        try:
            print(f"runrsc: {message}", file=sys.stderr)
        except OSError:
            return

    def warning(self, message: str) -> None:
        self._write("warning", one_line(message))

    def debug(self, message: str) -> None:
        if self.debug_wanted:
            self._write("debug", message)

    def _write(self, level: str, message: str) -> None:
        if not self.path:
            return
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.json:
            from rvisor._sentry.plainjson import dumps

            line = dumps({"level": level, "msg": message, "time": stamp})
        else:
            line = f'time="{stamp}" level={level} msg={message!r}'
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError:
            return
        try:
            os.write(fd, line.encode(errors="replace") + b"\n")
        except OSError:
            return
        finally:
            os.close(fd)
