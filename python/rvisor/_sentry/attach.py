"""A process that was started over a control socket, and the descriptors that are served until it has ended."""

from __future__ import annotations

import math
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rvisor._sentry.control import Control, Exit

_LAST_OUTPUT_SECONDS = 5.0


class Attached:
    """Serves descriptors, as `spawn.Running` does, while process `pid` runs."""

    def __init__(self, control: Control, pid: int) -> None:
        self.control = control
        self.pid = pid
        self._watched: dict[int, tuple[int, Callable[[int], int]]] = {}

    def watch(self, fd: int, mask: int, ready: Callable[[int], int]) -> None:
        """Have `wait` call `ready(events)` when `fd` is ready; it returns the next mask, 0 to stop."""
        self._watched[fd] = (mask, ready)

    def unwatch(self, fd: int) -> None:
        self._watched.pop(fd, None)

    def wait(self, *, timeout: float | None = None, until_end_of: int | None = None) -> Exit | None:
        """Wait until the process has ended; None when it still runs after `timeout` seconds.

        Then what lies ready is handed out, and what `until_end_of` still brings, a terminal whose other side is closed
        behind the last output.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while (ended := self.control.wait(self.pid, timeout=0)) is None:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return None
            self._serve(left, also=self.control.fileno())
        patience = time.monotonic() + _LAST_OUTPUT_SECONDS
        while until_end_of in self._watched and time.monotonic() < patience:
            self._serve(patience - time.monotonic())
        while self._watched and self._serve(0):
            continue
        return ended

    def _serve(self, seconds: float | None, *, also: int | None = None) -> bool:
        poller = select.poll()
        for fd, (mask, _) in self._watched.items():
            poller.register(fd, mask)
        if also is not None:
            poller.register(also, select.POLLIN)
        found = poller.poll(None if seconds is None else max(0, math.ceil(seconds * 1000)))
        for fd, events in found:
            entry = self._watched.get(fd)
            if entry is None:
                continue
            mask = entry[1](events)
            if mask == 0:
                self.unwatch(fd)
            elif fd in self._watched:
                self._watched[fd] = (mask, self._watched[fd][1])
        return bool(found)
