"""Start a sandbox, watch it, end it.

The launcher makes the sentry this process's own child and ends. It runs in a session of its own: the terminal then
signals only this process, which passes each signal on exactly once, and the sentry may still read the terminal
without being stopped as a background job.
"""

from __future__ import annotations

import errno
import math
import os
import select
import time

from rvisor._sentry import cgroup, find, messages
from rvisor._sentry.numbers import SIGHUP, SIGINT, SIGKILL, SIGPIPE, SIGQUIT, SIGTERM, SIGXFSZ
from rvisor.errors import LaunchError, RvisorError, SentryDied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from rvisor._sentry.control import Control

    class Network(Protocol):
        """Connects a sandbox's network namespace."""

        def connect(self, pid: int) -> None: ...

        def close(self) -> None: ...


class Outcome:
    """How a sandbox ended: `status` as a shell reports it, and a line for the operator if there is more to say."""

    __slots__ = ("message", "out_of_memory", "signal", "started_ns", "status", "timed_out")

    def __init__(self, *, status: int, signal: int | None = None) -> None:
        self.status = status
        self.signal = signal
        self.started_ns = 0
        self.out_of_memory = False
        self.timed_out = False
        self.message = ""


class Running:
    """A sandbox that was started. Get one from `start`, and always call `wait` or `close`."""

    def __init__(
        self,
        *,
        sandbox: str,
        launcher: int,
        events: int,
        alive: int,
        memory: int | None,
        network: tuple[Network, int | None] | None = None,
        shared: bool = False,
    ) -> None:
        self.id = sandbox
        self.pid = 0
        self.held = False
        """The program is loaded and waits for the control socket's `start`."""
        self.first = 1
        """Its pid inside."""
        self.started = False
        """The program's first instruction has been reached."""
        self.control: Control | None = None
        """The control socket, if it is this process's alone; closed at the sandbox's end."""
        self.beside: int | None = None
        """A child of this process that ends when the launcher has."""
        self._launcher = launcher
        # On the shared kernel what the launcher makes is the program itself: its end is seen here, and told by nobody.
        self._shared = shared
        self._events = events
        self._alive = alive
        self._memory = memory
        self._network = network
        self._unconnected: RvisorError | None = None
        self._buffer = b""
        self._cgroups: list[str] = []
        self._pending: list[int] = []
        self._watched: dict[int, tuple[int, Callable[[int], int]]] = {}
        self._started_ns = 0
        self._failed: tuple[int, str] | None = None
        self._exited: tuple[int, int | None] | None = None
        self._timed_out = False
        self._nonsense = False
        self._ended = False
        self._last = False
        """No events come any more; in the place of their pipe is the program's process."""

    def send_signal(self, number: int) -> None:
        """Pass a signal to the sandbox; kept until there is somebody to receive it."""
        if self._ended:
            return
        if self.pid == 0:
            self._pending.append(number)
            return
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return

    def kill(self) -> None:
        """End the sandbox at once, with everything in it."""
        if self._ended:
            return
        targets = [self.pid] if self.pid else [self._launcher, -self._launcher]
        for target in targets:
            try:
                os.kill(target, SIGKILL)
            except ProcessLookupError:
                continue

    def watch(self, fd: int, mask: int, ready: Callable[[int], int]) -> None:
        """Have `wait` call `ready(events)` when `fd` is ready; it returns the next mask, 0 to stop.

        When the sandbox has ended, `wait` still hands out what lies ready, then returns.
        """
        self._watched[fd] = (mask, ready)

    def unwatch(self, fd: int) -> None:
        self._watched.pop(fd, None)

    def wait(self, *, timeout: float | None = None, at_end: Callable[[], None] | None = None) -> Outcome:
        """Wait until the sandbox has ended; after `timeout` seconds kill it.

        `at_end` is called when the program has ended and only its output is left to be read.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self.watch(self._events, select.POLLIN, self._read_events)
        ended = False
        while self._watched:
            if not ended and self._events not in self._watched:
                ended = True
                if at_end is not None:
                    at_end()
                continue
            left = None
            if ended:
                # All that could write is dead: what is not there now will never come.
                left = 0.0
            elif deadline is not None and not self._timed_out:
                left = max(0.0, deadline - time.monotonic())
                if left == 0.0:
                    self._timed_out = True
                    self.kill()
                    continue
            if not self._serve(left) and ended:
                break
        return self._finish(timeout)

    def wait_until_loaded(self) -> None:
        """Wait until the program is loaded, or has ended; whether it was found, `wait` tells."""
        self.watch(self._events, select.POLLIN, self._read_events)
        while self._events in self._watched and not (self.held or self.started or self._failed):
            self._serve(None)

    def hand_over(self) -> None:
        """Let it outlive this process; nothing is waited for any more, and nothing removed. With `detached` only."""
        try:
            os.write(self._alive, b"1")
        except BrokenPipeError:
            # Of a program that has come into a container nobody stays.
            pass
        os.close(self._alive)
        os.close(self._events)
        self._ended = True
        if not self._shared:
            _reap(self._launcher)

    def _serve(self, seconds: float | None) -> bool:
        """Wait for at most `seconds`, serve what is ready; false if nothing was."""
        poller = select.poll()
        for fd, (mask, _) in self._watched.items():
            poller.register(fd, mask)
        found = poller.poll(None if seconds is None else math.ceil(seconds * 1000))
        for fd, events in found:
            entry = self._watched.get(fd)
            if entry is None:
                continue
            mask = entry[1](events)
            if mask == 0:
                self.unwatch(fd)
            else:
                self._watched[fd] = (mask, entry[1])
        return bool(found)

    def close(self) -> None:
        """Kill what still runs, and clean up."""
        if not self._ended:
            self._watched.clear()
            self.kill()
            try:
                self.wait()
            except RvisorError:
                return

    def _read_events(self, _events: int) -> int:
        if self._last:
            return 0
        data = os.read(self._events, 65536)
        if not data:
            if not (self._shared and self.started):
                return 0
            # Whoever came into a container has no monitor that tells of the end: the process itself is what is left.
            process = os.pidfd_open(self.pid)
            os.dup2(process, self._events, inheritable=False)
            os.close(process)
            self._last = True
            return select.POLLIN
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        try:
            for line in lines:
                if line:
                    self._event(line)
        except (ValueError, KeyError):
            self._nonsense = True
            self.kill()
        return select.POLLIN

    def _event(self, line: bytes) -> None:
        event = messages.decode(line)
        match event["event"]:
            case "launched":
                self.pid = _integer(event["pid"])
                groups = event.get("cgroups", [])
                if not isinstance(groups, list):
                    raise ValueError("cgroups is not a list")
                self._cgroups = [str(group) for group in groups]
                pending, self._pending = self._pending, []
                for number in pending:
                    self.send_signal(number)
            case "network":
                self._connect()
            case "held":
                self.held = True
                self.first = _integer(event.get("pid") or 1)
            case "started":
                self.started = True
                self._started_ns = _integer(event["ns"])
            case "failed":
                self._failed = (_integer(event["status"]), str(event["message"]))
            case "exited":
                killed_by = event.get("signal")
                self._exited = (_integer(event["status"]), None if killed_by is None else _integer(killed_by))

    def _connect(self) -> None:
        """The launcher waits: a byte lets it go on, the end of the pipe makes it give up."""
        if self._network is None:
            raise ValueError("no network was asked for")
        helper, go = self._network
        if go is None:
            raise ValueError("the network is connected already")
        try:
            helper.connect(self.pid)
            os.write(go, b"1")
        except RvisorError as error:
            self._unconnected = error
        finally:
            os.close(go)
            self._network = (helper, None)

    def _finish(self, timeout: float | None) -> Outcome:
        self._ended = True
        os.close(self._events)
        if self.control is not None:
            self.control.close()
        if self._network is not None:
            self._network[0].close()
            if self._network[1] is not None:
                os.close(self._network[1])
        sentry = _reap(self.pid) if self.pid else None
        kills = cgroup.out_of_memory_kills(self._cgroups)
        left = cgroup.remove(self._cgroups)
        # A launcher that stayed in case we die is no longer needed.
        os.close(self._alive)
        launcher = _reap(self._launcher)
        if self.beside is not None:
            _reap(self.beside)
        if self.pid == 0:
            # Killed before it could tell the sentry's pid; the sentry is still in the launcher's process group.
            while _reap(-self._launcher) is not None:
                continue
            left = cgroup.remove(cgroup.of(self.id))

        if self._shared and self.started and sentry is not None:
            self._exited = (sentry, None) if sentry >= 0 else (128 - sentry, -sentry)
        outcome = Outcome(status=125)
        outcome.started_ns = self._started_ns
        if self._timed_out and (self._exited is None or self._exited[1] == SIGKILL):
            outcome.status = 124
            outcome.timed_out = True
            outcome.message = f"timed out after {timeout:g} s: killed"
        elif self._unconnected is not None:
            raise self._unconnected
        elif self._nonsense:
            raise SentryDied("the sandbox's kernel sent a message that is none and was killed")
        elif kills and (self._exited is None or self._exited[1] == SIGKILL):
            outcome.status = 128 + SIGKILL
            outcome.signal = SIGKILL
        elif self._failed is not None:
            status, message = self._failed
            failure = LaunchError(message, status=status)
            failure.said = launcher not in (0, None)
            raise failure
        elif self._exited is not None:
            outcome.status, outcome.signal = self._exited
        elif sentry is None:
            raise LaunchError(
                f"the launcher {_describe(launcher)} before the sandbox was made",
                hint="`rvisor doctor` tells what the host lacks",
            )
        else:
            raise SentryDied(
                f"the sandbox's kernel {_describe(sentry)} before its program did",
                hint="run again with --debug-log DIR and report what it says",
            )
        if kills:
            outcome.out_of_memory = True
            limit = f" of {_size(self._memory)}" if self._memory else ""
            outcome.message = f"out of memory: the limit{limit} was reached, {kills} killed by the kernel"
        if left and not outcome.message:
            outcome.message = f"could not remove the control group {left[0]}"
        return outcome


def start(
    spec: messages.LaunchSpec,
    *,
    streams: tuple[int | None, int, int],
    network: Network | None = None,
    held: int | None = None,
) -> Running:
    """Start the launcher with `spec`, whose descriptors are filled in here. Of `streams`, None is /dev/null.

    `network` connects the sandbox when its namespace is there. `held`: a descriptor kept open until the program begins.
    """
    launcher = find.find(find.LAUNCHER)
    memory = spec["limits"]["memory"]
    read_end, write_end = os.pipe()
    # The launcher sees this end when we do, however that happens.
    watched, alive = os.pipe()
    waits, go = os.pipe() if network is not None else (None, None)
    try:
        spec["events_fd"] = write_end
        spec["caller_fd"] = watched
        spec["network_fd"] = waits
        text = messages.encode(spec)
        spec_fd = os.memfd_create("rvisor-spec")
        try:
            _write_all(spec_fd, text)
            os.lseek(spec_fd, 0, os.SEEK_SET)
            shared = spec.get("shared")
            console = None if shared is None else shared.get("console")
            at = None if console is None else console["fd"]
            plugin = None if shared is None else shared.get("plugin_fd")
            named = (spec["strace_fd"], spec["log_fd"], spec["control_fd"], spec["join_fd"], at, plugin)
            given = (spec_fd, write_end, watched, waits, held, *named)
            kept = [fd for fd in given if fd is not None]
            stdin, stdout, stderr = streams
            pid = _spawn(launcher, f"/proc/self/fd/{spec_fd}", kept, stdin=stdin, stdout=stdout, stderr=stderr)
        finally:
            os.close(spec_fd)
    except BaseException:
        os.close(read_end)
        os.close(alive)
        if go is not None:
            os.close(go)
        raise
    finally:
        os.close(write_end)
        os.close(watched)
        if waits is not None:
            os.close(waits)
    connect = (network, go) if network is not None and go is not None else None
    return Running(
        sandbox=spec["id"],
        launcher=pid,
        events=read_end,
        alive=alive,
        memory=memory,
        network=connect,
        shared=spec.get("shared") is not None,
    )


def stay_behind() -> int:
    """fork(2): a second process that goes on from here, for which this returns 0."""
    return os.fork()


def run_tool(argv: list[str], *, input: bytes = b"", given: int | None = None) -> tuple[int, bytes, bytes]:
    """Run one of the executables for what it prints: exit status, output, error output.

    With a descriptor that it is `given`, signals that would end it, or us before it has ended, wait.
    """
    import signal
    import subprocess

    whole = given is not None
    kept = signal.pthread_sigmask(signal.SIG_BLOCK, (SIGINT, SIGTERM, SIGHUP, SIGQUIT) if whole else ())
    passed = () if given is None else (given,)
    try:
        done = subprocess.run(
            argv, input=input, capture_output=True, check=False, pass_fds=passed, start_new_session=whole
        )
    except OSError as error:
        raise LaunchError(f"cannot execute {argv[0]}: {os.strerror(error.errno or errno.EINVAL)}") from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, kept)
    return done.returncode, done.stdout, done.stderr


def _spawn(launcher: str, argument: str, kept: list[int], *, stdin: int | None, stdout: int, stderr: int) -> int:
    # The three standard descriptors may be given in any order (`stdout` may be 0), so they are first moved out of
    # each other's way. A dup2 onto itself only clears close-on-exec.
    moved = [os.dup(fd) for fd in (stdout, stderr)] + ([] if stdin is None else [os.dup(stdin)])
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_DUP2, moved[0], 1),
        (os.POSIX_SPAWN_DUP2, moved[1], 2),
    ]
    if stdin is None:
        actions.append((os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0))
    else:
        actions.append((os.POSIX_SPAWN_DUP2, moved[2], 0))
    actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in kept if fd > 2]
    try:
        # Python ignores SIGPIPE and SIGXFSZ; a child must not inherit that.
        return os.posix_spawn(
            launcher,
            [launcher, argument],
            {name: value for name, value in os.environ.items() if name.startswith(("RVISOR_", "RUST_"))},
            file_actions=actions,
            setsid=True,
            setsigmask=[],
            setsigdef=[SIGPIPE, SIGXFSZ, SIGINT, SIGQUIT],
        )
    except OSError as error:
        raise LaunchError(
            f"cannot execute the launcher {launcher}: {error.strerror}",
            hint="build it again with `make build`",
        ) from None
    finally:
        for fd in moved:
            os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _reap(pid: int) -> int | None:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return None


def _describe(code: int | None) -> str:
    if code is None:
        return "ended"
    if code < 0:
        import signal

        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with status {code}"


def _size(size: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise ValueError(f"not a number: {value!r}")
    return value
