"""From a bundle to a sandbox that stands before its program's first instruction: `create`, and `run`."""

from __future__ import annotations

# Without the package `socket`, half of a command's imports.
import _socket as socket
import os

from rvisor._sentry import find, spawn
from rvisor._sentry.numbers import SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2
from rvisor.errors import LaunchError, RvisorError
from rvisor.oci import cgroups, config, hooks, pods, state
from rvisor.oci.errors import OciError, not_begun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor._sentry.control import Control
    from rvisor._sentry.messages import LaunchSpec
    from rvisor.oci.config import Config
    from rvisor.oci.log import Log
    from rvisor.oci.shared import Instance
    from rvisor.oci.state import Container


class Request:
    """The flags of `create` and `run`."""

    def __init__(self, *, root: str, name: str, bundle: str, log: Log) -> None:
        self.root = root
        self.id = name
        self.bundle = os.path.abspath(bundle or ".")
        self.log = log
        self.pid_file = ""
        self.console_socket = ""
        self.pidfd_socket = ""
        self.systemd_cgroup = False
        self.rootless = False
        self.shared = False
        """On the host's kernel, with this profile."""
        self.profile = ""
        self.streams = (0, 1, 2)
        """The program's, where it has no terminal."""


class _Hooks:
    """Stands where `--network user` has its helper: the operator's hooks connect the namespace."""

    servers = ()

    def __init__(self, container: Container, wanted: Config) -> None:
        self._container = container
        self._config = wanted

    def connect(self, pid: int) -> None:
        """The sandbox's namespaces are there, and nothing has run in them."""
        _found(self._container, pid)
        _run_early(self._container, self._config)

    def close(self) -> None:
        return


def _run_early(container: Container, wanted: Config) -> None:
    """The hooks of a container whose namespaces are there."""
    bundle = str(container.data["bundle"])
    # On the shared kernel the launcher runs those that run inside.
    stages = ("prestart", "createRuntime", *(() if wanted.shared else ("createContainer",)))
    stages = tuple(stage for stage in stages if wanted.hooks[stage])
    if stages:
        # Theirs may look for it.
        container.write()
    for stage in stages:
        within = container.pid if stage == "createContainer" else 0
        hooks.run(stage, wanted.hooks[stage], container.state("creating"), bundle=bundle, within=within)


def _later(wanted: Config) -> tuple[str, ...]:
    """The stages that come after create."""
    return ("poststart", "poststop") if wanted.shared else ("startContainer", "poststart", "poststop")


def _found(container: Container, pid: int) -> None:
    container.data.update(pid=pid, start_time=state.start_time(pid))


def create(request: Request) -> Container:
    """Make the container; what runs of it outlives this process. On failure nothing is left of it."""
    if request.profile and not request.shared:
        raise OciError("--profile: with --kernel=shared only; a private kernel takes what config.json says")
    wanted = config.read(request.bundle, shared=request.shared)
    for warning in wanted.warnings:
        request.log.warning(warning)
    if wanted.process["terminal"] and not request.console_socket:
        raise OciError("cannot allocate tty if runc will detach without setting console socket")
    if request.console_socket and not wanted.process["terminal"]:
        raise OciError("cannot use console socket if runc will not detach or allocate tty")
    container = state.new(request.root, request.id)
    try:
        _create(container, wanted, request)
    except BaseException:
        _undo(container, wanted, request)
        raise
    container.unlock()
    return container


def _undo(container: Container, wanted: Config, request: Request) -> None:
    try:
        told = container.state("stopped")
        container.destroy()
        hooks.run_late(wanted.hooks["poststop"], "poststop", told, request.bundle, request.log)
    except (OSError, RvisorError) as error:
        request.log.warning(f"cleaning up: {error}")
    if request.pid_file:
        try:
            os.unlink(request.pid_file)
        except OSError:
            return


def _create(container: Container, wanted: Config, request: Request) -> None:
    path = cgroups.normal_path(wanted.cgroups_path, container.id, systemd=request.systemd_cgroup)
    groups = cgroups.paths(path) + (cgroups.for_programs(path) if wanted.shared else [])
    container.write(
        bundle=request.bundle,
        rootfs=wanted.root,
        annotations=wanted.annotations,
        ids=wanted.ids,
        owner=str(os.geteuid()),
        hooks={stage: hooks.record(wanted.hooks[stage]) for stage in _later(wanted)},
        process=dict(wanted.process, args=[]),
        groups_to_make=groups,
    )
    try:
        cgroups.make(groups)
    except cgroups.NotAllowed:
        if not request.rootless:
            raise
        # As runc: an ordinary user's container has no groups of its own where it may make none, and no limits.
        groups = []
    # Written before anybody is in them.
    container.data["cgroups"] = groups
    cgroups.set_limits(groups, wanted.resources, shared=wanted.shared)
    instance = None
    if wanted.shared:
        from rvisor.oci import shared

        instance = shared.Instance(container, wanted, request)
    serving = pods.sandbox(wanted, request.root, container.id)
    if serving is not None:
        if wanted.ids != serving.data.get("ids"):
            raise OciError("config.json: linux.uidMappings: the containers of a pod have the same ids")
        container.data["sandbox"] = serving.id
        if wanted.resources:
            request.log.debug("limits of one container of a pod are not kept: its programs are in the pod's groups")
    listener: socket.socket | Control
    if instance is not None:
        listener = instance.listen()
    else:
        container.write()
        listener = _listen(container.directory) if serving is None else serving.control()
    slave = -1
    try:
        if wanted.process["terminal"] and instance is None:
            slave = terminal(request.console_socket, wanted.terminal_size)
        streams = request.streams if slave < 0 else (slave, slave, slave)
        running = _launch(container, wanted, groups, listener.fileno(), streams, instance)
    finally:
        listener.close()
        if slave >= 0:
            os.close(slave)
    try:
        running.wait_until_loaded()
        if not running.held:
            try:
                running.wait()
            except LaunchError as error:
                if instance is not None:
                    from rvisor.oci import shared

                    error = shared.in_runc_s_words(error, wanted.process)
                raise OciError(f"runrsc create failed: {not_begun(error, wanted.process)}") from None
            raise OciError("the sandbox ended before its program began")
        if not container.pid:
            _found(container, running.pid)
            _run_early(container, wanted)
        if request.pidfd_socket:
            send_pidfd(request.pidfd_socket, running.pid)
        if request.pid_file:
            replace(request.pid_file, str(running.pid))
        container.write(phase="created", first=running.first)
        running.hand_over()
    except BaseException:
        running.close()
        raise


def _launch(
    container: Container,
    wanted: Config,
    groups: list[str],
    control: int,
    streams: tuple[int, int, int],
    instance: Instance | None,
) -> spawn.Running:
    helper = _Hooks(container, wanted) if wanted.network == "user" else None
    spec: LaunchSpec = {
        "id": _plain(container.id),
        "sentry": find.find(find.SENTRY),
        "stub": find.find(find.STUB),
        "root": {
            "path": wanted.root,
            "overlay": "none",
            "read_only": wanted.root_read_only,
            "propagation": wanted.root_propagation,
        },
        "volumes": wanted.volumes,
        "masked": wanted.masked,
        "read_only": wanted.read_only,
        "process": wanted.process,
        "hostname": wanted.hostname or ("" if wanted.joins else "localhost"),
        "domainname": wanted.domainname,
        "network": wanted.network,
        "sysctls": wanted.sysctls,
        "network_fd": None,
        "network_rules": [],
        "files": [],
        "limits": cgroups.guest_limits(wanted.resources),
        "cgroups": groups,
        "platform": os.environ.get("RVISOR_PLATFORM", "slots"),
        "strace_fd": None,
        "log_fd": None,
        "events_fd": -1,
        "caller_fd": None,
        "detached": True,
        "control_fd": None if container.sandbox else control,
        "hold": True,
        "guarded_init": True,
        "join_fd": control if container.sandbox else None,
        "visible": True,
        "ids": wanted.ids,
    }
    if instance is not None:
        return instance.launch(spec, streams, helper)
    if wanted.devices:
        spec["devices"] = wanted.devices
    return spawn.start(spec, streams=streams, network=helper)


def _plain(name: str) -> str:
    """A name as the launcher has them; the container's own is in the paths."""
    plain = "".join(c if c.isascii() and (c.islower() or c.isdigit()) else "-" for c in name.lower())
    return plain[:64]


def _listen(directory: str) -> socket.socket:
    from rvisor._sentry.control import SOCKET

    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    old = os.umask(0o177)
    try:
        # A name of any length: those of sockets are short.
        listener.bind(f"/proc/self/fd/{fd}/{SOCKET}")
        listener.listen(64)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(old)
        os.close(fd)
    return listener


def terminal(console_socket: str, size: tuple[int, int] | None) -> int:
    """The slave of a new terminal whose master was sent over the socket; raw, as guests have their own discipline."""
    import fcntl
    import struct
    import termios
    import tty

    master, slave = os.openpty()
    try:
        tty.setraw(slave)
        os.set_blocking(slave, False)
        if size is not None:
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[0] & 0xFFFF, size[1] & 0xFFFF, 0, 0))
        _send_descriptor(console_socket, os.ttyname(slave), master)
    except OSError as error:
        os.close(slave)
        raise OciError(f"console socket {console_socket}: {error.strerror}") from None
    finally:
        os.close(master)
    return slave


def _send_descriptor(path: str, name: str, fd: int) -> None:
    from rvisor._sentry.control import send

    to = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        to.connect(path)
        send(to, name.encode(), [fd])
    finally:
        to.close()


def send_pidfd(path: str, pid: int) -> None:
    """Send a descriptor of the process over the socket."""
    fd = os.pidfd_open(pid)
    try:
        _send_descriptor(path, "pidfd", fd)
    except OSError as error:
        raise OciError(f"pidfd socket {path}: {error.strerror}") from None
    finally:
        os.close(fd)


def replace(path: str, text: str) -> None:
    """Write a file as a whole."""
    directory, name = os.path.split(os.path.abspath(path))
    new = os.path.join(directory, f".{name}")
    try:
        with open(new, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(new, path)
    except OSError as error:
        raise OciError(f"pid file {path}: {error.strerror}") from None


def wait(container: Container) -> int:
    """In the process that has created it: wait for its end, passing signals on. Its status as a shell has it."""
    pid = container.pid

    def forward(number: int, _frame: object) -> None:
        os.kill(pid, number)

    import signal

    for number in (SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2):
        signal.signal(number, forward)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return 128 - code if code < 0 else code
