"""Run programs in a sandbox.

    with Sandbox() as box:
        result = box.run(["echo", "hi"], capture=True)
        assert result.stdout == b"hi\\n"

Every `run` starts a sandbox of its own: a kernel, and in it the program.
"""

from __future__ import annotations

import os
import select
import signal

from rvisor import _options
from rvisor._sentry import find, messages, spawn
from rvisor.errors import GuestFailed, LaunchError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from rvisor._sentry.attach import Attached
    from rvisor._sentry.control import Control
    from rvisor._sentry.messages import Confinement, LaunchSpec, NetworkRule, Volume
    from rvisor.profile.model import Profile
    from rvisor.profile.plugins import Serving
    from rvisor.profile.shared import Parts

MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
"""What the host's own /proc and /sys show of the host: hidden on the shared kernel, as `docker run` does."""
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_TWO_LISTS = "--net-rule: the profile has rules for peers already; only one list can be the first"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Result:
    """How a program ended.

    `status` is its exit status, or 128 + `signal` when a signal killed it; 124 when the time was over. `stdout` and
    `stderr` are empty unless they were captured. `started_ns` is the time from the launcher's first instruction to the
    program's, 0 if it never came to that. `message` is what rVisor has to say about the end, usually nothing.
    """

    __slots__ = ("message", "out_of_memory", "signal", "started_ns", "status", "stderr", "stdout", "timed_out")

    def __init__(self, outcome: spawn.Outcome, *, stdout: bytes, stderr: bytes) -> None:
        self.status = outcome.status
        self.signal = outcome.signal
        self.started_ns = outcome.started_ns
        self.timed_out = outcome.timed_out
        self.out_of_memory = outcome.out_of_memory
        self.message = outcome.message
        self.stdout = stdout
        self.stderr = stderr

    def __repr__(self) -> str:
        return f"Result(status={self.status}, stdout={self.stdout!r}, stderr={self.stderr!r})"


class Sandbox:
    """What a sandbox is made of; `run` runs a program in one.

    `rootfs` None is the host's own root, read-only below a layer in memory: nothing the program does changes the host.
    `overlay` is `memory`, `none` (write to `rootfs` itself) or a directory that keeps the changes. `volumes` are
    `SRC:DST[:ro]`. `user` is `UID[:GID]`, numbers or names of the container's own. `memory` is bytes or `512m`.
    `network` is `none`, `host`, `user` or `ns:PATH`; `publish` are `[IP:]HOST:GUEST[/udp]` for `user`; `network_rules`
    are `allow:NET[:PORTS]` and `deny:NET[:PORTS]`, of which the first that fits decides. `profile` is the name of one
    that is shipped, a file, or one that was read; of its limits and these the lower ones hold. `cap_add` and `cap_drop`
    change the capabilities that root has on a private kernel, Docker's by default; ALL is every one. They are those of
    the sandbox's own kernel: none is one on the host. `kernel` is `private`, one of its own, or `shared`, the host's.
    Raises UsageError when one of them is wrong, ProfileError for a profile that is wrong or cannot be enforced.
    """

    def __init__(
        self,
        *,
        rootfs: str | os.PathLike[str] | None = None,
        overlay: str = "memory",
        volumes: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        hostname: str = "rvisor",
        memory: str | int | None = None,
        cpus: str | float | None = None,
        pids: str | int | None = None,
        network: str = "none",
        publish: Sequence[str] = (),
        network_rules: Sequence[str] = (),
        platform: str = "slots",
        profile: str | os.PathLike[str] | Profile | None = None,
        cap_add: Sequence[str] = (),
        cap_drop: Sequence[str] = (),
        kernel: str = "private",
    ) -> None:
        if rootfs is None and overlay == "none":
            raise UsageError(
                "--overlay none would let the program write to the host's own root",
                hint="name a directory with --rootfs, or share one with -v",
            )
        if platform not in ("slots", "ptrace"):
            raise UsageError(f"--platform: {platform!r} is neither slots nor ptrace")
        self.root = "/" if rootfs is None else _options.root(os.fspath(rootfs))
        """The directory on the host that is the root inside."""
        self._overlay = _options.overlay(overlay)
        self._volumes: list[Volume] = []
        for text in volumes:
            source, target, read_only = _options.volume(text)
            self._volumes.append(messages.volume(source, target, read_only=read_only))
        self._env = dict(env or {})
        self._user = _options.user(user, self.root)
        if cwd is not None:
            self._cwd = _options.directory_inside(cwd)
        else:
            self._cwd = os.getcwd() if rootfs is None else "/"
        self._hostname = _options.hostname(hostname)
        self._memory = None if memory is None else _options.memory(memory)
        self._millicpus = None if cpus is None else _options.millicpus(cpus)
        self._pids = None if pids is None else _options.pids(pids)
        self._network = _options.network(network)
        self._ports = [_options.port(text) for text in publish]
        if self._ports and self._network != "user":
            raise UsageError("-p: ports are published with --network user only")
        self._rules: list[NetworkRule] = []
        for text in network_rules:
            allow, net, ports = _options.network_rule(text)
            self._rules.append({"allow": allow, "net": net, "ports": ports})
        self._platform = platform
        self.confinement: Confinement | None = None
        """What a profile puts on every process."""
        self.shared: Parts | None = None
        """What the shared kernel enforces, if that is the kernel."""
        self._tuned: Profile | None = None
        if kernel == "shared":
            self._share(profile)
        elif profile is not None:
            self._obey(profile)
        self._have(cap_add, cap_drop)
        self._running: list[spawn.Running] = []

    def _obey(self, profile: str | os.PathLike[str] | Profile) -> None:
        from rvisor.profile import private, read
        from rvisor.profile.model import Profile

        found = private.parts(profile if isinstance(profile, Profile) else read.load(profile))
        self.confinement = found.confinement
        self._limit(found.memory, found.millicpus)
        self._tune(found.tuned)
        if found.network_rules and self._rules:
            raise UsageError(_TWO_LISTS)
        self._rules = self._rules or found.network_rules

    def _have(self, add: Sequence[str], drop: Sequence[str]) -> None:
        if not add and not drop:
            return
        from rvisor.profile import private

        capabilities = private.capabilities(add, drop)
        if self.shared is not None:
            raise UsageError(
                "--cap-add, --cap-drop, --privileged: with --kernel=shared they would be the host's",
                hint='a profile says which a program has: `capabilities = ["CHOWN"]`',
            )
        if self.confinement is None:
            self.confinement = {"seccomp": [], "ceiling": None, "rlimits": []}
        if self.confinement["ceiling"] is not None:
            raise UsageError("--cap-add, --cap-drop, --privileged: the profile says which capabilities there are")
        self.confinement["ceiling"] = capabilities

    def _share(self, profile: str | os.PathLike[str] | Profile | None) -> None:
        from rvisor.profile import read, shared
        from rvisor.profile.model import Profile

        if profile is None:
            wanted = Profile(name="")
        else:
            wanted = profile if isinstance(profile, Profile) else read.load(profile)
        if self._rules:
            from rvisor._record import replace
            from rvisor.profile.model import Network, NetworkRule

            if wanted.network is not None:
                raise UsageError(_TWO_LISTS)
            rules = tuple(NetworkRule(rule["allow"], rule["net"], rule["ports"]) for rule in self._rules)
            wanted = replace(wanted, network=Network(True, rules))
        found = shared.parts(wanted)
        self.shared = found
        self.confinement = {"seccomp": [], "ceiling": found.ceiling, "rlimits": found.rlimits}
        self._limit(found.memory, found.millicpus)
        self._tune(found.tuned)

    def _tune(self, profile: Profile | None) -> None:
        """PolicyError, UsageError: what can be known of its policies before there is a container."""
        if profile is not None:
            from rvisor.policy import together

            together.check(profile)
        self._tuned = profile

    def _limit(self, memory: int | None, millicpus: int | None) -> None:
        self._memory = min((n for n in (self._memory, memory) if n is not None), default=None)
        self._millicpus = min((n for n in (self._millicpus, millicpus) if n is not None), default=None)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End whatever still runs."""
        while self._running:
            self._running.pop().close()

    def run(
        self,
        args: Sequence[str],
        *,
        capture: bool = False,
        input: bytes | None = None,
        timeout: float | None = None,
        check: bool = False,
    ) -> Result:
        """Run a program to its end.

        `capture` collects its output instead of passing it on. `input` is its standard input, empty unless given.
        After `timeout` seconds it is killed and its status is 124. Raises LaunchError when it cannot be started,
        SentryDied when the sandbox's kernel fails, GuestFailed for a status other than 0 with `check`.
        """
        if timeout is not None:
            timeout = _options.seconds(timeout)
        with _Streams(capture=capture, input=input) as streams:
            running = self.start(args, stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr)
            self._running.append(running)
            try:
                streams.given()
                streams.serve(running)
                outcome = running.wait(timeout=timeout)
            finally:
                if running in self._running:
                    self._running.remove(running)
                running.close()
            return _checked(Result(outcome, stdout=bytes(streams.out), stderr=bytes(streams.err)), args, check)

    def exec(
        self,
        running: spawn.Running,
        args: Sequence[str],
        *,
        capture: bool = False,
        input: bytes | None = None,
        timeout: float | None = None,
        check: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
    ) -> Result:
        """Run one more program, to its end, in what `start` with `control` has started; otherwise as `run`.

        `env` is added to the sandbox's own. Raises ControlError when the program cannot be started (its status is 127
        when it is not there, 126 when it cannot be executed), SandboxGone when the sandbox ends before it has.
        """
        if isinstance(args, str) or not args:
            raise UsageError("no command was given")
        if running.control is None:
            raise UsageError("this sandbox cannot be spoken to", hint="start it with control=True")
        from rvisor._sentry.attach import Attached

        who = self._user if user is None else _options.user(user, self.root)
        variables = self._variables(who) | dict(env or {})
        where = self._cwd if cwd is None else _options.directory_inside(cwd)
        process = messages.process(args, env=variables, cwd=where, uid=who.uid, gid=who.gid, groups=who.groups)
        messages.confine(process, self.confinement)
        if timeout is not None:
            timeout = _options.seconds(timeout)
        with _Streams(capture=capture, input=b"" if input is None else input) as streams:
            given = (streams.stdin or 0, streams.stdout, streams.stderr)
            attached = Attached(running.control, running.control.exec(process, descriptors=given))
            streams.given()
            streams.serve(attached)
            ended = attached.wait(timeout=timeout)
            outcome = spawn.Outcome(status=124)
            if ended is None:
                running.control.signal(signal.SIGKILL, pid=attached.pid)
                attached.wait()
                outcome.timed_out = True
            else:
                outcome.status, outcome.signal = ended.status, ended.signal
            return _checked(Result(outcome, stdout=bytes(streams.out), stderr=bytes(streams.err)), args, check)

    def start(
        self,
        args: Sequence[str],
        *,
        stdin: int | None = None,
        stdout: int = 1,
        stderr: int = 2,
        terminal: bool = False,
        strace_fd: int | None = None,
        log_fd: int | None = None,
        sandbox_id: str | None = None,
        control_fd: int | None = None,
        control: bool = False,
        hold: bool = False,
    ) -> spawn.Running:
        """Start a program on the given descriptors and return at once; the caller waits. Most callers want `run`.

        `control` makes the sandbox one that can be spoken to, by the `control` of what is returned; `control_fd` is the
        socket for it instead. With `hold` the program is loaded, and begins with `control.start()`.
        """
        if isinstance(args, str) or not args:
            raise UsageError("no command was given", hint="rvisor run -- CMD [ARG…]")
        from rvisor._sentry import network

        user = self._user
        ports = [network.Port(kind=kind, address=ip, host=host, guest=guest) for kind, ip, host, guest in self._ports]
        helper = network.Helper(ports) if self._network == "user" else None
        env = self._variables(user)
        if terminal:
            env.setdefault("TERM", os.environ.get("TERM", "xterm"))
        spec: LaunchSpec = {
            "id": sandbox_id or new_id(),
            "sentry": "" if self.shared else find.find(find.SENTRY),
            "stub": "" if self.shared else find.find(find.STUB),
            "root": {"path": self.root, "overlay": self._overlay, "read_only": False},
            "volumes": self._volumes,
            "masked": [],
            "read_only": [],
            "process": messages.process(
                args,
                env=env,
                cwd=self._cwd,
                uid=user.uid,
                gid=user.gid,
                groups=user.groups,
                terminal=terminal,
            ),
            "hostname": self._hostname,
            "domainname": None,
            "network": self._network,
            "sysctls": {},
            "network_fd": None,
            "network_rules": self._rules,
            "files": network.files(self._network, self._hostname, helper.servers if helper else ()),
            "limits": {"memory": self._memory, "millicpus": self._millicpus, "pids": self._pids},
            "cgroups": None,
            "platform": self._platform,
            "strace_fd": strace_fd,
            "log_fd": log_fd,
            "events_fd": -1,
            "caller_fd": None,
            "detached": False,
            "control_fd": control_fd,
            "join_fd": None,
            "visible": False,
            "ids": None,
            "hold": hold,
            "guarded_init": False,
        }
        messages.confine(spec["process"], self.confinement)
        if self.shared is not None:
            rules = spec["shared"] = self.shared.shared.copy()
            spec["masked"], spec["read_only"] = list(MASKED), list(READ_ONLY)
            spec["process"]["no_new_privs"] = True
        ours: Control | None = None
        theirs: socket | None = None
        serving: Serving | None = None
        try:
            if self.shared is not None and self.shared.served is not None:
                from rvisor.profile import plugins

                serving = plugins.start(self.shared.served)
                rules["plugin_fd"] = serving.fd
            if control:
                from rvisor._sentry.control import Control

                ours, theirs = Control.pair()
                spec["control_fd"] = theirs.fileno()
            running = spawn.start(spec, streams=(stdin, stdout, stderr), network=helper)
        except OSError as error:
            raise LaunchError(f"the sandbox could not be started: {error.strerror}") from error
        finally:
            if theirs is not None:
                theirs.close()
            if serving is not None:
                serving.close()
        running.control = ours
        running.beside = None if serving is None else serving.pid
        if self._tuned is not None:
            from rvisor.policy import together

            try:
                together.tune(running, self._tuned, private=self.shared is None)
            except BaseException:
                # Enforced whole or not at all.
                running.close()
                raise
        return running

    def _variables(self, user: _options.User) -> dict[str, str]:
        return {"PATH": DEFAULT_PATH, "HOME": user.home, "HOSTNAME": self._hostname} | self._env


def new_id() -> str:
    """A name no other sandbox has."""
    return os.urandom(6).hex()


def _file_with(data: bytes) -> int:
    fd = os.memfd_create("rvisor-stdin")
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _checked(result: Result, args: Sequence[str], check: bool) -> Result:
    if check and result.status != 0:
        raise GuestFailed(f"{args[0]} ended with status {result.status}", status=result.status)
    return result


class _Streams:
    """The three standard descriptors of a program, and what is collected from two of them."""

    def __init__(self, *, capture: bool, input: bytes | None) -> None:
        self.out = bytearray()
        self.err = bytearray()
        self.stdin: int | None = None
        self.stdout, self.stderr = 1, 2
        self._ours: list[int] = []
        self._theirs: list[int] = []
        try:
            if input is not None:
                self.stdin = _file_with(input)
                self._theirs.append(self.stdin)
            if capture:
                self.stdout, self.stderr = self._pipe(), self._pipe()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> _Streams:
        return self

    def __exit__(self, *_: object) -> None:
        self.given()
        while self._ours:
            os.close(self._ours.pop())

    def given(self) -> None:
        """The program has its ends: ours of them are closed."""
        while self._theirs:
            os.close(self._theirs.pop())

    def serve(self, by: spawn.Running | Attached) -> None:
        """Have what is collected collected."""
        for fd, buffer in zip(self._ours, (self.out, self.err), strict=False):
            by.watch(fd, select.POLLIN, _collector(fd, buffer))

    def _pipe(self) -> int:
        read, write = os.pipe()
        self._ours.append(read)
        self._theirs.append(write)
        return write


class _collector:
    """Reads a pipe into a buffer until it ends."""

    def __init__(self, fd: int, buffer: bytearray) -> None:
        self._fd = fd
        self._buffer = buffer

    def __call__(self, _events: int) -> int:
        data = os.read(self._fd, 1 << 18)
        self._buffer += data
        return select.POLLIN if data else 0
