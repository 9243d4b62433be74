"""Sandboxes that run, by name: a directory each, with the control socket and what there is to say about the sandbox.

The socket's listening end is the sandbox's kernel's alone. So who cannot be connected to is dead, and is cleaned up by
whoever notices.
"""

from __future__ import annotations

import os
import time

from rvisor.errors import LaunchError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from rvisor._sentry.messages import Confinement

    class About(TypedDict):
        id: str
        name: str
        created: float
        pid: int
        command: list[str]
        root: str
        hostname: str
        env: dict[str, str]
        cwd: str
        user: str | None
        confinement: Confinement | None
        kernel: str


_ABOUT = "sandbox.json"
VKERNEL = "vkernel.json"
"""What else is known of a container on the shared kernel."""
_SOCKET = "control"
_UNFINISHED = ".new-"
_UNFINISHED_SECONDS = 60
_WAITING = 128


def directory() -> str | None:
    """Where the sandboxes of this user are; None when there is no such place."""
    named = os.environ.get("RVISOR_RUNTIME_DIR")
    if named:
        return os.path.abspath(named)
    if os.geteuid() == 0:
        return "/run/rvisor"
    user = os.environ.get("XDG_RUNTIME_DIR", "")
    return os.path.join(user, "rvisor") if user.startswith("/") else None


class Registered:
    """A sandbox that is about to run. `socket` is the listening end of its control socket, for the sandbox alone."""

    def __init__(self, path: str, listening: int) -> None:
        self.path = path
        self.socket = listening

    def started(self) -> None:
        """The sandbox has its socket: from here on it is alive as long as that is."""
        if self.socket >= 0:
            os.close(self.socket)
            self.socket = -1

    def remove(self) -> None:
        """It has ended."""
        self.started()
        _remove(self.path)
        try:
            os.rmdir(os.path.dirname(self.path))
        except OSError:
            return


def register(about: About, *, must: bool) -> Registered | None:
    """List a sandbox; None when there is no place for that, unless it `must` be. UsageError: the name is taken."""
    top = directory()
    if top is None:
        if not must:
            return None
        raise LaunchError("a named sandbox needs a runtime directory", hint="set XDG_RUNTIME_DIR")
    path = os.path.join(top, about["name"])
    new = os.path.join(top, _UNFINISHED + about["id"])
    listening = -1
    try:
        # Another sandbox's end may take the directory away again.
        for _ in range(10):
            try:
                os.makedirs(top, 0o700, exist_ok=True)
                os.mkdir(new, 0o700)
                break
            except FileNotFoundError:
                continue
        listening = _listen(new)
        _write(os.path.join(new, _ABOUT), about)
        _place(new, path, about["name"])
    except OSError as error:
        if listening >= 0:
            os.close(listening)
        _remove(new)
        if not must:
            return None
        raise LaunchError(f"the sandbox cannot be listed in {top}: {error.strerror}") from None
    except UsageError:
        os.close(listening)
        _remove(new)
        raise
    return Registered(path, listening)


def running() -> list[About]:
    """Every sandbox that runs, oldest first. What is left of dead ones is removed."""
    top = directory()
    found: list[About] = []
    try:
        names = os.listdir(top) if top is not None else []
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"the sandboxes in {top} cannot be listed: {error.strerror}") from None
    for name in names:
        path = os.path.join(top or "", name)
        if name.startswith(_UNFINISHED):
            _forget_unfinished(path)
        elif not _alive(path):
            _remove(path)
        elif (about := _read(path)) is not None:
            found.append(about)
    return sorted(found, key=lambda about: about["created"])


def find(word: str) -> tuple[str, About]:
    """The running sandbox of this name, id, or beginning of an id: its directory, and what is known of it."""
    every = running()
    exact = [about for about in every if word in (about["name"], about["id"])]
    fitting = exact or [about for about in every if word and about["id"].startswith(word)]
    if len(fitting) != 1:
        what = "more than one running sandbox begins with" if fitting else "there is no running sandbox"
        raise UsageError(f"{what} {word!r}", hint="`rvisor ps` lists them")
    return os.path.join(directory() or "", fitting[0]["name"]), fitting[0]


def check_name(name: str) -> str:
    """A name for a sandbox; raises UsageError."""
    plain = name.replace("-", "").replace("_", "").replace(".", "")
    if not plain.isalnum() or not name.isascii() or not name[0].isalnum() or len(name) > 64:
        raise UsageError(f"--name: {name!r} is not a name", hint="letters, digits, '-', '_' and '.', at most 64")
    return name


def _listen(path: str) -> int:
    # Half the price of `socket`, and every start pays it.
    import _socket

    made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    # A name of any length: those of sockets are short.
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
    try:
        made.bind(f"/proc/self/fd/{fd}/{_SOCKET}")
        os.chmod(os.path.join(path, _SOCKET), 0o600)
        made.listen(_WAITING)
    finally:
        os.close(fd)
    return made.detach()


def _place(new: str, path: str, name: str) -> None:
    for _ in range(10):
        try:
            os.rename(new, path)
            return
        except OSError:
            if not os.path.isdir(path):
                raise
        if _alive(path):
            raise UsageError(f"--name: a sandbox {name!r} runs already", hint=f"`rvisor kill {name}` ends it")
        _remove(path)
    raise UsageError(f"--name: {name!r} is in use")


def _alive(path: str) -> bool:
    """Whether its kernel still listens."""
    import _socket

    made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
        try:
            made.setblocking(False)
            made.connect(f"/proc/self/fd/{fd}/{_SOCKET}")
        finally:
            os.close(fd)
    except BlockingIOError:
        # More wait for it already than it lets wait.
        return True
    except PermissionError:
        return True
    except OSError:
        return False
    finally:
        made.close()
    return True


def _write(path: str, about: About) -> None:
    from rvisor._sentry.plainjson import dumps

    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(dumps(about))


def _read(path: str) -> About | None:
    from rvisor._sentry.plainjson import loads

    try:
        with open(os.path.join(path, _ABOUT), encoding="utf-8", errors="surrogateescape") as file:
            about: About = loads(file.read(1 << 20))
        return about
    except (OSError, ValueError):
        return None


def _remove(path: str) -> None:
    for name in (_ABOUT, _SOCKET, VKERNEL, f"{VKERNEL}.new"):
        try:
            os.unlink(os.path.join(path, name))
        except OSError:
            continue
    try:
        os.rmdir(path)
    except OSError:
        return


def _forget_unfinished(path: str) -> None:
    try:
        if time.time() - os.stat(path).st_mtime > _UNFINISHED_SECONDS:
            _remove(path)
    except OSError:
        return
