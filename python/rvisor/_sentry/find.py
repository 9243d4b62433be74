"""Where the executables are."""

from __future__ import annotations

import os

from rvisor.errors import BinaryMissing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LAUNCHER = "rvisor-launch"
SENTRY = "rvisor-sentry"
STUB = "rvisor-stub"

_TARGET = "target/x86_64-unknown-linux-gnu/release"


def places() -> list[str]:
    """Directories searched, best first.

    `$RVISOR_BIN_DIR` alone when it is set; otherwise the package's own `bin`, then the release build of the source
    checkout this package lies in.
    """
    named = os.environ.get("RVISOR_BIN_DIR")
    if named:
        return [named]
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    checkout = os.path.dirname(os.path.dirname(package))
    return [os.path.join(package, "bin"), os.path.join(checkout, _TARGET)]


def find(name: str) -> str:
    """Absolute path of the executable `name`; raises BinaryMissing."""
    searched = places()
    for place in searched:
        path = os.path.join(os.path.abspath(place), name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    raise BinaryMissing(
        f"the executable {name} was not found in {' or '.join(searched)}",
        hint="build it with `make build`, or name its directory in RVISOR_BIN_DIR",
    )


def started_by(command: int) -> list[int]:
    """What a command that waits for its sandbox has started: the sandbox's kernel, or else all its children."""
    children = [pid for pid, parent in parents() if parent == command] if command else []
    return [pid for pid in children if f"({SENTRY})" in _stat(pid)] or children


def parents() -> Iterator[tuple[int, int]]:
    """Every process of the host, and its parent."""
    for name in os.listdir("/proc"):
        if name.isdecimal() and (fields := _stat(int(name)).rpartition(")")[2].split()):
            yield int(name), int(fields[1])


def _stat(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
