"""The boxes' control socket: three verbs, as the device file of the kernel module that this replaces had them.

    CREATE(path) -> id      a box whose root is that directory
    ADD_SELF(id)            the caller goes on as a program in the box
    REMOVE(id)              ends all that runs in it

One message is one JSON object over a SOCK_SEQPACKET socket: `{"verb": "CREATE", "path": "/srv/alpine"}`, answered by
`{"ok": 1}` or `{"error": "…", "errno": "ENOENT"}`. The answer to ADD_SELF brings a connection to the box's kernel.

A process of the host cannot move into another kernel. So ADD_SELF means what the original did to the process in the
end: its program is replaced by one from inside the box, which has its standard descriptors; the caller waits for it,
passes signals on and ends as it does. In C: connect, send, receive the descriptor, and speak the protocol of
`docs/design/control.md` over it.
"""

from __future__ import annotations

import os
import socket

from rvisor.oci.errors import OciError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any, NoReturn

    from rvisor._sentry.control import Control
    from rvisor.oci.box import Boxes

_LARGEST = 1 << 16
_WAITING = 64


def default_path(root: str) -> str:
    return f"{root}-boxes.sock"


class Device:
    """The client's side. Every call raises OciError when it is refused."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise OciError(f"{path}: {error.strerror}: `runrsc box serve` makes it") from None

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def create(self, path: str) -> int:
        """CREATE: the new box's id."""
        return int(self._ask({"verb": "CREATE", "path": path})[0])

    def remove(self, box: int) -> None:
        """REMOVE."""
        self._ask({"verb": "REMOVE", "id": box})

    def add_self(self, box: int, path: str, args: Sequence[str] = (), env: Sequence[str] = ()) -> NoReturn:
        """ADD_SELF: go on as the program at `path` inside. Returns only as OciError, if it cannot be executed."""
        from rvisor.oci.box import program
        from rvisor.oci.execute import attend

        control = self.kernel(box)
        pid = start(control, program([path, *args], env))
        os._exit(attend(control, pid, lambda: self.kernel(box)))

    def kernel(self, box: int) -> Control:
        """A connection to the box's kernel."""
        from rvisor._sentry.control import Control

        _, fds = self._ask({"verb": "ADD_SELF", "id": box})
        if len(fds) != 1:
            raise OciError("the answer brought no connection")
        return Control(socket.socket(fileno=fds[0]))

    def _ask(self, request: dict[str, object]) -> tuple[Any, list[int]]:
        from json import dumps, loads

        self._socket.send(dumps(request).encode())
        data, fds, _, _ = socket.recv_fds(self._socket, _LARGEST, 1)
        if not data:
            raise OciError("the control socket's server has ended")
        answer = loads(data)
        if "error" in answer:
            raise OciError(answer["error"])
        return answer["ok"], fds


def start(control: Control, process: Any) -> int:
    """Start it with this process's own standard descriptors; its pid inside."""
    from rvisor.errors import ControlError
    from rvisor.oci.execute import refused

    try:
        return control.exec(process, descriptors=(0, 1, 2))
    except ControlError as error:
        raise refused(error, process) from None


def listen(path: str) -> socket.socket:
    """Make the socket, for this user alone; what is left of a server that has died is replaced."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    old = os.umask(0o177)
    try:
        try:
            with Device(path):
                raise OciError(f"{path}: somebody serves it already")
        except OciError as error:
            if "already" in str(error):
                raise
        if os.path.lexists(path):
            os.unlink(path)
        made.bind(path)
        made.listen(_WAITING)
    except OSError as error:
        made.close()
        raise OciError(f"{path}: {error.strerror}") from None
    finally:
        os.umask(old)
    return made


def serve(boxes: Boxes, listener: socket.socket) -> None:
    """Answer until a signal ends it. The boxes stay."""
    import threading

    while True:
        try:
            connection, _ = listener.accept()
        except InterruptedError:
            continue
        threading.Thread(target=_converse, args=(boxes, connection), daemon=True).start()


def _converse(boxes: Boxes, connection: socket.socket) -> None:
    from json import dumps

    with connection:
        while True:
            try:
                data = connection.recv(_LARGEST)
            except OSError:
                return
            if not data:
                return
            fds: list[int] = []
            answer = _answer(boxes, data, fds)
            try:
                socket.send_fds(connection, [dumps(answer).encode()], fds)
            except OSError:
                return
            finally:
                for fd in fds:
                    os.close(fd)


def _answer(boxes: Boxes, data: bytes, fds: list[int]) -> dict[str, object]:
    from json import loads

    from rvisor.errors import RvisorError

    try:
        request = loads(data)
        verb = request["verb"]
        if verb == "CREATE":
            return {"ok": boxes.create(_typed(request["path"], str))}
        if verb not in ("ADD_SELF", "REMOVE"):
            return {"error": f"there is no verb {verb!r:.40}", "errno": "ENOTTY"}
        number = _typed(request["id"], int)
        if number not in boxes.every():
            return {"error": f"there is no box {number}", "errno": "ENOENT"}
        if verb == "REMOVE":
            boxes.remove(number)
        else:
            with boxes.control(number) as control:
                fds.append(os.dup(control.fileno()))
        return {"ok": number}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {"error": "not a request", "errno": "EINVAL"}
    except (RvisorError, OSError) as error:
        return {"error": str(error), "errno": "EIO"}


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError
    return value
