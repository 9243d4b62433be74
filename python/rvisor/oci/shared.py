"""Containers on the host's kernel: what `--kernel=shared` adds to create and exec.

Each has an instance that `rvisor vkernel ls` lists: a directory beside those of `rvisor run`, with the control socket.
The container's own directory has a link to that.
"""

from __future__ import annotations

# Without the package `socket`, half of a command's imports.
import _socket as socket
import os
import time

from rvisor import vkernel
from rvisor._sentry import runtime, spawn
from rvisor._sentry.numbers import SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2
from rvisor.errors import LaunchError, ProfileError, RvisorError, UsageError
from rvisor.oci import cgroups, hooks, seccomp
from rvisor.oci.errors import OciError, not_begun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor._sentry.messages import Console, LaunchSpec, Process, SharedSpec
    from rvisor.oci.config import Config
    from rvisor.oci.create import Request
    from rvisor.oci.state import Container
    from rvisor.profile.model import Profile
    from rvisor.profile.plugins import Serving

ANNOTATION = "dev.rvisor.profile"
_MKNOD = 1 << 27
_HEX = frozenset("0123456789abcdef")
_KERNEL_LOG = "/proc/kmsg"


def profile_of(request: Request, annotations: dict[str, str]) -> str:
    """The one the operator names for all, or the caller for this container. They must not differ."""
    named = annotations.get(ANNOTATION, "")
    if named and request.profile and named != request.profile:
        raise OciError(f"annotation {ANNOTATION}: {named}: the runtime's --profile is another", hint=request.profile)
    return request.profile or named


def identity(name: str) -> str:
    """Of which an instance is named: the container's id where that is hexadecimal."""
    if len(name) >= 12 and _HEX.issuperset(name[:12]):
        return name
    try:
        # By itself: `hashlib` would load the cryptographic library first.
        from _blake2 import blake2b
    except ImportError:
        from hashlib import blake2b
    return blake2b(name.encode()).hexdigest()


class Instance:
    """One container that is about to be made."""

    def __init__(self, container: Container, wanted: Config, request: Request) -> None:
        self._container = container
        self._config = wanted
        self._request = request
        self._path = path = profile_of(request, wanted.annotations)
        table = seccomp.table(wanted.seccomp) if wanted.seccomp else None
        try:
            from rvisor.profile import shared

            self._parts = shared.parts(_load(path) if path else None, also=table, oci=True)
            _own_settings(self._parts.shared, wanted)
            if self._parts.tuned is not None:
                from rvisor.policy import together

                together.check(self._parts.tuned)
        except ProfileError as error:
            raise OciError(str(error), hint=error.hint) from None
        self._limit()
        self._confine()

    def _limit(self) -> None:
        """The profile's limits hold beside those of the configuration: the lower ones."""
        resources = self._config.resources
        memory, cpu = dict(resources.get("memory") or {}), dict(resources.get("cpu") or {})
        least = {}
        if (most := self._parts.memory) is not None and not 0 < (memory.get("limit") or 0) <= most:
            least["memory"] = {"limit": most}
        if (most := self._parts.millicpus) is not None:
            quota, period = cpu.get("quota") or 0, cpu.get("period") or 100_000
            if not 0 < quota * 1000 <= most * period:
                least["cpu"] = {"quota": most * period // 1000, "period": period}
        cgroups.set_limits(self._container.cgroups, least, shared=True)
        self.no_devices = not cgroups.set_devices(
            self._container.cgroups,
            resources,
            self._config.devices,
            own_log=self._parts.shared["kernel_log"] is not None,
        )

    def _confine(self) -> None:
        """The sets of capabilities end at the ceiling."""
        self._ceiling = self._parts.ceiling
        if self.no_devices:
            self._ceiling &= ~_MKNOD
        process = self._config.process
        below(process, self._ceiling)

    def listen(self) -> socket.socket:
        """List it; its control socket."""
        name = self._container.id
        process = self._config.process
        about: runtime.About = {
            "id": identity(name),
            "name": name,
            "created": time.time(),
            "pid": os.getpid(),
            "command": process["args"],
            "root": self._config.root,
            "hostname": self._config.hostname,
            "env": {},
            "cwd": process["cwd"],
            "user": None,
            "confinement": None,
            "kernel": "shared",
        }
        try:
            listed = runtime.register(about, must=True)
        except UsageError as error:
            raise OciError(str(error)) from None
        assert listed is not None
        capabilities = process["capabilities"]
        vkernel.register(
            listed.path,
            profile=self._path or None,
            parts=self._parts,
            groups=self._container.cgroups,
            seccomp=self._config.seccomp,
            capabilities=0 if capabilities is None else capabilities["bounding"],
        )
        self._container.write(kernel="shared", profile=self._path, vkernel=listed.path, process=dict(process, args=[]))
        os.symlink(os.path.join(listed.path, "control"), os.path.join(self._container.directory, "control"))
        return socket.socket(fileno=listed.socket)

    def launch(self, spec: LaunchSpec, streams: tuple[int, int, int], helper: spawn.Network | None) -> spawn.Running:
        """Start it, up to where it waits for its start."""
        wanted = self._config
        shared = self._parts.shared.copy()
        serving = self._serve()
        shared["user_namespace"] = "user" in wanted.namespaces
        shared["oci"] = {
            "namespaces": {kind: path for kind, path in wanted.namespaces.items() if kind != "user"},
            "devices": wanted.devices,
            "no_devices": self.no_devices,
            "state": _state(self._container),
            "create_container": hooks.record(wanted.hooks["createContainer"]),
            "start_container": hooks.record(wanted.hooks["startContainer"]),
        }
        spec["id"] = identity(self._container.id)[:12]
        spec["shared"] = shared
        spec["visible"] = False
        spec["hostname"] = wanted.hostname
        if shared["kernel_log"] is not None and _KERNEL_LOG not in spec["masked"]:
            spec["masked"] = [*spec["masked"], _KERNEL_LOG]
        spec["log_fd"] = log = vkernel.open_log()
        to = None
        try:
            if serving is not None:
                shared["plugin_fd"] = serving.fd
            if wanted.process["terminal"]:
                to, shared["console"] = _console(self._request.console_socket, wanted.terminal_size)
            running = _start(spec, streams, to, helper)
            running.beside = None if serving is None else serving.pid
            return running
        finally:
            if log is not None:
                os.close(log)
            if serving is not None:
                serving.close()

    def _serve(self) -> Serving | None:
        """Start the profile's plug-ins, which are the monitor's from the launch on."""
        if self._parts.served is None:
            return None
        from rvisor.profile import plugins

        try:
            return plugins.start(self._parts.served, quiet=True)
        except ProfileError as error:
            raise OciError(str(error), hint=error.hint) from None


def _own_settings(parts: SharedSpec, wanted: Config) -> None:
    """A setting with bounds is set and may be written: it must be the container's alone."""
    for view in parts["sysctl_views"]:
        kind = "network" if view["name"].startswith("net/") else "ipc"
        own = wanted.network != "host" if kind == "network" else wanted.namespaces.get(kind, "") is None
        if view["own"] and not own:
            name = view["name"].replace("/", ".")
            raise ProfileError(f"sysctl: bounds for {name}: the container has no {kind} namespace of its own")


def _load(path: str) -> Profile:
    from rvisor.profile import read

    return read.load(path)


def _state(container: Container) -> str:
    from rvisor._sentry.plainjson import dumps

    return dumps(container.state("creating"))


def _console(path: str, size: tuple[int, int] | None) -> tuple[socket.socket, Console]:
    to = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        to.connect(path)
    except OSError as error:
        to.close()
        raise OciError(f"console socket {path}: {error.strerror}") from None
    return to, {"fd": to.fileno(), "size": size}


def _start(
    spec: LaunchSpec,
    streams: tuple[int, int, int],
    to: socket.socket | None,
    helper: spawn.Network | None,
    held: int | None = None,
) -> spawn.Running:
    """With a terminal that is made inside, nothing of this process's own goes there."""
    null = -1
    try:
        if to is not None:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            streams = (null, null, null)
        return spawn.start(spec, streams=streams, network=helper, held=held)
    finally:
        if null >= 0:
            os.close(null)
        if to is not None:
            to.close()


def below(process: Process, ceiling: int) -> None:
    """No set has more than the ceiling."""
    sets = process["capabilities"]
    if sets is not None:
        for name in ("bounding", "effective", "inheritable", "permitted", "ambient"):
            sets[name] &= ceiling


def tune(container: Container) -> None:
    """Set the profile's CPU and memory policies, now that the program runs."""
    from rvisor.policy import container as policies
    from rvisor.policy import together
    from rvisor.profile import shared

    profile: Profile | None = shared.parts(_load(container.data["profile"]), oci=True).tuned
    if profile is not None:
        governed = policies.Container.of_groups(container.id, container.cgroups)
        together.apply(profile, governed, filtered=True)
        together.attend(profile, governed)


def in_runc_s_words(error: LaunchError, process: Process) -> LaunchError:
    """As the private kernel says it, which `not_begun` knows."""
    name, cwd, why = process["args"][0], process["cwd"], str(error)
    if error.status == 127:
        why = f"cannot run {name}: no such file or directory"
    elif why.startswith(f"{name}: "):
        why = f"cannot run {name}: {_plain(why.removeprefix(f'{name}: '))}"
    elif why.startswith(f"working directory {cwd}: "):
        why = f"cannot start in {cwd}: {_plain(why.removeprefix(f'working directory {cwd}: '))}"
    return LaunchError(why, status=error.status)


def _plain(why: str) -> str:
    """Without the number that the launcher's library puts behind."""
    return why.partition(" (os error")[0].lower()


def exec_(
    container: Container, process: Process, *, console_socket: str, size: tuple[int, int] | None, detached: bool
) -> spawn.Running:
    """Start one more program in the container: a child of this process, in the container's namespaces and groups."""
    recorded: Process = container.data["process"]
    sets = recorded["capabilities"]
    below(process, 0 if sets is None else sets["bounding"])
    instance = str(container.data["vkernel"])
    with vkernel.Locked(instance, alone=False) as lock, container.control() as control:
        rules = vkernel.rules(instance)
        to = None
        if process["terminal"]:
            to, rules["console"] = _console(console_socket, size)
        spec = vkernel.further(
            control,
            rules,
            process,
            identity=identity(container.id)[:12],
            groups=container.cgroups,
            detached=detached,
        )
        running = _start(spec, (0, 1, 2), to, None, held=lock.fd)
    try:
        running.wait_until_loaded()
        if not running.started:
            running.wait()
            raise OciError("exec failed: the program has ended before it began")
    except LaunchError as error:
        made = OciError(f"exec failed: {not_begun(in_runc_s_words(error, process), process)}")
        made.status = error.status if error.status in (126, 127) else 255
        raise made from None
    except BaseException:
        running.close()
        raise
    return running


def attend(running: spawn.Running) -> int:
    """Wait for the program's end, passing signals on; its status."""
    import signal

    for number in (SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2):
        signal.signal(number, lambda number, _frame: running.send_signal(number))
    try:
        return running.wait().status
    except RvisorError:
        return 128 + SIGKILL
