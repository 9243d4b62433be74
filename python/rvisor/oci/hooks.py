"""The operator's programs that run at the turns of a container's life.

Those of createContainer run in the sandbox's network, host name and IPC namespaces and in a mount namespace of their
own, where the host's files are: there is no other that a program of the host's could run in. Those of startContainer
are programs of the container's, and are served by its kernel as any other.
"""

from __future__ import annotations

import os

from rvisor._sentry import program
from rvisor._sentry.numbers import SIGKILL
from rvisor._sentry.plainjson import dumps
from rvisor.oci.errors import OciError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rvisor._sentry import messages
    from rvisor._sentry.messages import Process
    from rvisor.oci.config import Hook
    from rvisor.oci.log import Log
    from rvisor.oci.state import Container

_SAID = 4096


class _Streams:
    """A hook's three standard descriptors: the state to be read, nothing, and what it says of its failure."""

    def __init__(self, state: dict[str, object]) -> None:
        self.told, self.said = os.memfd_create("state"), os.memfd_create("said")
        self.null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.pwrite(self.told, dumps(state).encode(), 0)

    def __enter__(self) -> tuple[int, int, int]:
        return self.told, self.null, self.said

    def __exit__(self, *_: object) -> None:
        for fd in (self.told, self.said, self.null):
            os.close(fd)

    def check(self, name: str, status: int) -> None:
        """Raises OciError for a status that is none of success."""
        if status != 0:
            said = os.pread(self.said, _SAID, max(0, os.fstat(self.said).st_size - _SAID))
            text = said.decode(errors="replace").strip()
            raise OciError(f"{name}: ended with status {status}: {text}")


def run(stage: str, hooks: Iterable[Hook], state: dict[str, object], *, bundle: str, within: int = 0) -> None:
    """Run them one after another with the state on their standard input; raises OciError at the first that fails.

    `within`: in namespaces of the process with this pid.
    """
    for number, hook in enumerate(hooks):
        name = f"hook {stage} #{number} ({hook.path})"
        streams = _Streams(state)
        with streams as fds:
            env = dict(entry.partition("=")[::2] for entry in hook.env)
            try:
                pid = program.start(hook.path, hook.args, env=env, cwd=bundle, descriptors=fds, within=within)
            except OSError as error:
                raise OciError(f"{name}: {(error.strerror or '').lower()}") from None
            status = program.wait(pid, seconds=hook.timeout)
            if status is None:
                raise OciError(f"{name}: not done after {hook.timeout} s: killed")
            streams.check(name, status)


def run_late(hooks: Iterable[Hook], stage: str, state: dict[str, object], bundle: str, log: Log) -> None:
    """Hooks whose failure cannot undo anything: it is logged, and the next one runs."""
    for hook in hooks:
        try:
            run(stage, [hook], state, bundle=bundle)
        except (OSError, OciError) as error:
            log.warning(str(error))


def run_inside(hooks: Iterable[Hook], container: Container, process: Process) -> None:
    """Those of startContainer: each a program of the container's, with the first process's rights. Raises OciError."""
    from rvisor.errors import ControlError, SandboxGone

    for number, hook in enumerate(hooks):
        name = f"hook startContainer #{number} ({hook.path})"
        wanted = process.copy()
        wanted["args"], wanted["env"] = [hook.path, *hook.args[1:]], hook.env
        wanted["cwd"], wanted["terminal"] = "/", False
        streams = _Streams(container.state("created"))
        try:
            with streams as fds, container.control() as control:
                pid = control.exec(wanted, descriptors=fds, bound=True, container=container.first)
                ended = control.wait(pid, timeout=hook.timeout)
                if ended is None:
                    control.signal(SIGKILL, pid=pid)
                    raise OciError(f"{name}: not done after {hook.timeout} s: killed")
                streams.check(name, ended.status)
        except ControlError as error:
            raise OciError(f"{name}: {error}") from None
        except SandboxGone:
            raise OciError(f"{name}: the sandbox has ended") from None


def record(hooks: Iterable[Hook]) -> list[messages.Hook]:
    """As written down, for the stages that come later; or for the launcher, which runs those of inside."""
    return [{"path": h.path, "args": h.args, "env": h.env, "timeout": h.timeout} for h in hooks]


def recorded(container: Container, stage: str) -> list[Hook]:
    """Those that were written down."""
    from rvisor.oci.config import Hook

    return [Hook(h["path"], h["args"], h["env"], h["timeout"]) for h in container.data["hooks"][stage]]
