"""A program of the operator's. Not by `subprocess`, which takes longer to import than most programs to run."""

from __future__ import annotations

import os

from rvisor._sentry.numbers import SIGKILL, SIGPIPE, SIGXFSZ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn


def start(
    path: str, args: Sequence[str], *, env: dict[str, str], cwd: str, descriptors: tuple[int, int, int], within: int = 0
) -> int:
    """Its pid, in a session of its own; raises OSError if it cannot be executed.

    `within`: in network, host name and IPC namespaces of the process with this pid, and in its own mount namespace.
    """
    enter = _entering(within) if within else None
    failed, failing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(failed)
        _become(path, args, env, cwd, descriptors, enter, failing)
    os.close(failing)
    why = os.read(failed, 16)
    os.close(failed)
    if why:
        os.waitpid(pid, 0)
        raise OSError(int(why), os.strerror(int(why)))
    return pid


def _become(
    path: str,
    args: Sequence[str],
    env: dict[str, str],
    cwd: str,
    descriptors: tuple[int, int, int],
    enter: Callable[[], None] | None,
    failing: int,
) -> NoReturn:
    import _signal  # type: ignore[import-not-found]

    try:
        os.setsid()
        if enter is not None:
            enter()
        os.chdir(cwd)
        for number, fd in enumerate(descriptors):
            os.dup2(fd, number)
        # Python ignores these two; a child must not inherit that.
        for number in (SIGPIPE, SIGXFSZ):
            _signal.signal(number, _signal.SIG_DFL)
        os.execve(path, list(args), env)
    except OSError as error:
        os.write(failing, str(error.errno).encode())
    finally:
        os._exit(127)


def _entering(pid: int) -> Callable[[], None]:
    """What a new process does to be in the namespaces of this one; what can fail is looked up before."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    own_mounts, private = 0x20000, 0x4000 | 1 << 18
    # Who is not root enters them as the root of the sandbox's users.
    kinds = (*(("user",) if os.geteuid() != 0 else ()), "net", "uts", "ipc")
    opened = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in kinds]

    def enter() -> None:
        done = [libc.setns(fd, 0) for fd in opened]
        done += [libc.unshare(own_mounts), libc.mount(None, b"/", None, private, None)]
        if any(done):
            raise OSError(ctypes.get_errno(), "entering the sandbox's namespaces")

    return enter


def wait(pid: int, *, seconds: int | None) -> int | None:
    """Its status; None if it had to be killed, with all it had started."""
    if seconds is not None:
        import select

        ended = os.pidfd_open(pid)
        poller = select.poll()
        poller.register(ended, select.POLLIN)
        in_time = poller.poll(seconds * 1000)
        os.close(ended)
        if not in_time:
            os.killpg(pid, SIGKILL)
            os.waitpid(pid, 0)
            return None
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
