"""The control socket of a running sandbox, from the operator's side: `docs/design/control.md`.

with Control.connect(directory) as control:
    pid = control.exec(messages.process(["ls"], env={}), descriptors=(0, 1, 2))
    print(control.wait(pid).status)
"""

from __future__ import annotations

# Without the package `socket`, half of a command's imports.
import _socket as socket
import errno
import os
import sys
import time

from rvisor._sentry import messages
from rvisor.errors import ControlError, SandboxGone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any

    from rvisor._sentry.messages import Process, Uname

SOCKET = "control"
"""The socket's name in the sandbox's directory."""

_LARGEST_MESSAGE = 1 << 18


class Exit:
    """How a process ended: `status` is its exit status, or 128 + `signal`."""

    __slots__ = ("signal", "status")

    def __init__(self, *, status: int, signal: int | None) -> None:
        self.status = status
        self.signal = signal


class Event:
    """A process started from outside began (`exit` is None) or ended."""

    __slots__ = ("exit", "pid")

    def __init__(self, pid: int, exit: Exit | None) -> None:
        self.pid = pid
        self.exit = exit


def send(to: socket.socket, text: bytes, descriptors: Sequence[int]) -> None:
    """One message, with descriptors."""
    numbers = b"".join(fd.to_bytes(4, sys.byteorder) for fd in descriptors)
    to.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)] if numbers else [])


class Control:
    """One connection. Every call raises ControlError when it is refused, SandboxGone when the sandbox has ended."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._next = 0
        self._events: list[Event] = []
        self._exits: dict[int, Exit] = {}

    @classmethod
    def connect(cls, directory: str) -> Control:
        """Connect to the sandbox that has its socket in this directory."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            # A name of any length: those of sockets are short.
            fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
            try:
                made.connect(f"/proc/self/fd/{fd}/{SOCKET}")
            finally:
                os.close(fd)
        except OSError as error:
            made.close()
            raise SandboxGone(f"the sandbox cannot be reached: {error.strerror}") from None
        return cls(made)

    @classmethod
    def pair(cls) -> tuple[Control, socket.socket]:
        """A connection, and its other end for a sandbox that is to be started."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    def __enter__(self) -> Control:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection. Processes that were started over it stay."""
        self._socket.close()

    def fileno(self) -> int:
        """The descriptor, for poll: when it is readable, call `event`."""
        return self._socket.fileno()

    def start(self, *, pid: int = 1) -> None:
        """Let the first process begin, which was held; or that of a further container."""
        self._call({"start": {"pid": pid}})

    def exec(self, process: Process, *, descriptors: Sequence[int], bound: bool = False, container: int = 1) -> int:
        """Start one more process in the container with this first process; its pid inside.

        `descriptors` are its standard ones; with `terminal` in `process` the raw terminal that its own is joined to.
        `bound`: it is killed when this connection ends, as it does with this process.
        A ControlError's status is 127 when the program is not there, 126 when it cannot be executed.
        """
        call: dict[str, object] = {"exec": {"process": process, "bound": bound, "container": container}}
        answer = self._call(call, descriptors)
        return int(answer["exec"]["pid"])

    def signal(self, number: int, *, pid: int | None = None, container: int | None = None) -> None:
        """Send a signal to a process, or to all of them; or to all of one container."""
        to = {"container": container} if container is not None else {"pid": pid}
        self._call({"signal": {**to, "number": number}})

    def processes(self) -> list[dict[str, Any]]:
        """Every process: pid, ppid, uid, state, threads, name, args, started_ns, cpu_ns, memory."""
        request = self._send({"processes": {}}, ())
        found: list[dict[str, Any]] = []
        while True:
            piece = self._answer(request)["processes"]
            found += piece["processes"]
            if not piece["more"]:
                return found

    def resize(self, pid: int, *, rows: int, columns: int) -> None:
        """Give the terminal that the process was started at another size."""
        self._call({"resize": {"pid": pid, "rows": rows, "columns": columns}})

    def limits(self, changes: dict[str, int], *, wait: bool = True) -> None:
        """Change the limits it keeps and shows, by name; 0 for none. Without `wait`: when it comes to it."""
        request = self._send({"limits": changes}, ())
        if wait:
            self._answer(request)

    def stats(self) -> dict[str, Any]:
        """processes, threads, files, calls, sentry_memory, allocations, uptime_ns; `held`: those not started."""
        stats: dict[str, Any] = self._call({"stats": {}})["stats"]
        return stats

    def show(self) -> dict[str, Any]:
        """On the shared kernel: pid, and what holds of uname and sysctl."""
        shown: dict[str, Any] = self._call({"show": {}})["show"]
        return shown

    def log(self) -> list[str]:
        """On the shared kernel: the lines of the container's kernel log."""
        return [str(line) for line in self._call({"log": {}})["log"]["lines"]]

    def update(self, *, uname: Uname | None, sysctl: dict[str, str]) -> None:
        """On the shared kernel: change these, or raise ControlError and change nothing."""
        self._call({"update": {"uname": uname, "sysctl": sysctl}})

    def subscribe(self) -> None:
        """From now on `event` tells of every process started from outside, the first one too."""
        self._call({"events": {}})

    def event(self, *, timeout: float | None = None) -> Event | None:
        """The next event; None when `timeout` seconds have brought none."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self._events:
            left = None if end is None else max(0.0, end - time.monotonic())
            try:
                self._take(self._receive(left))
            except TimeoutError:
                return None
        event = self._events.pop(0)
        if event.exit is not None:
            self._exits.pop(event.pid, None)
        return event

    def wait(self, pid: int, *, timeout: float | None = None) -> Exit | None:
        """How a process that was started over this connection ended; None: it still runs after `timeout` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while pid not in self._exits:
            left = None if end is None else max(0.0, end - time.monotonic())
            try:
                self._take(self._receive(left))
            except TimeoutError:
                return None
        self._events = [e for e in self._events if e.pid != pid or e.exit is None]
        return self._exits.pop(pid)

    def _call(self, call: dict[str, object], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        return self._answer(self._send(call, descriptors))

    def _send(self, call: dict[str, object], descriptors: Sequence[int]) -> int:
        self._next += 1
        text = messages.encode({"id": self._next, "call": call})
        self._socket.settimeout(None)
        try:
            send(self._socket, text, descriptors)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise ControlError("the request is too long", errno="EMSGSIZE", status=125) from None
            if error.errno in (errno.EPIPE, errno.ECONNRESET):
                raise SandboxGone("the sandbox has ended") from None
            raise
        return self._next

    def _answer(self, request: int) -> dict[str, Any]:
        while True:
            message = self._receive(None)
            for kind in ("reply", "error"):
                body = message.get(kind)
                if body is None:
                    continue
                if body["id"] not in (request, None):
                    raise ValueError(f"an answer to another request: {message!r}")
                if kind == "error":
                    raise ControlError(body["message"], errno=body["errno"], status=body["status"])
                answer: dict[str, Any] = body["answer"]
                return answer
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        if "started" in message:
            self._events.append(Event(message["started"]["pid"], None))
        elif "exited" in message:
            body = message["exited"]
            ended = Exit(status=body["status"], signal=body["signal"])
            self._exits[body["pid"]] = ended
            self._events.append(Event(body["pid"], ended))
        else:
            raise ValueError(f"not an event: {message!r}")

    def _receive(self, timeout: float | None) -> dict[str, Any]:
        from rvisor._sentry.plainjson import loads

        self._socket.settimeout(timeout)
        try:
            data = self._socket.recv(_LARGEST_MESSAGE)
        except BlockingIOError:
            raise TimeoutError from None
        except ConnectionError:
            data = b""
        if not data:
            raise SandboxGone("the sandbox has ended")
        message: dict[str, Any] = loads(data)
        return message
