"""create, start, run."""

from __future__ import annotations

import os

from rvisor.errors import ControlError, RvisorError, SandboxGone
from rvisor.oci import state
from rvisor.oci.errors import OciError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor.oci.cli import Command
    from rvisor.oci.create import Request
    from rvisor.oci.state import Container


def _request(command: Command) -> Request:
    from rvisor.oci import create as creating

    command.words(1, 1)
    flags = command.flags
    request = creating.Request(root=command.root, name=command.id, bundle=flags.text("bundle"), log=command.log)
    request.pid_file = flags.text("pid-file")
    request.console_socket = flags.text("console-socket")
    request.pidfd_socket = flags.text("pidfd-socket")
    request.systemd_cgroup = command.common.on("systemd-cgroup")
    request.shared = command.common.text("kernel") == "shared"
    request.profile = command.common.text("profile")
    request.rootless = state.rootless(command.common.text("rootless", "auto"))
    state.check_id(command.id)
    return request


def create(command: Command) -> int:
    from rvisor.oci import create as creating

    creating.create(_request(command))
    return 0


def start(command: Command) -> int:
    command.words(1, 1)
    container = state.find(command.root, command.id, lock=True)
    _begin(container, command)
    return 0


def _begin(container: Container, command: Command) -> None:
    status = container.status()
    if status == "stopped":
        raise OciError("cannot start a container that has stopped")
    if status != "created":
        raise OciError(
            f"cannot start an already {status} container"
            if status != "creating"
            else "cannot start a container that is being created"
        )
    if container.hooked("startContainer"):
        from rvisor.oci import hooks

        try:
            hooks.run_inside(hooks.recorded(container, "startContainer"), container, container.data["process"])
        except OciError:
            # As the specification has it: the container is stopped, and whoever made it deletes it.
            container.end()
            raise
    container.write(phase="starting", starter=os.getpid(), starter_start=state.start_time(os.getpid()))
    try:
        with container.control() as control:
            control.start(pid=container.first)
    except SandboxGone:
        raise OciError("cannot start a container that has stopped") from None
    except ControlError as error:
        raise OciError(f"cannot start the container: {error}") from None
    if container.shared and container.data.get("profile"):
        from rvisor.oci import shared

        shared.tune(container)
    container.write(phase="running")
    late(container, "poststart", container.state("running"), command)


def late(container: Container, stage: str, told: dict[str, object], command: Command) -> None:
    """The hooks of a stage that were written down."""
    if container.hooked(stage):
        from rvisor.oci import hooks

        wanted = hooks.recorded(container, stage)
        hooks.run_late(wanted, stage, told, str(container.data.get("bundle", "/")), command.log)


def run(command: Command) -> int:
    from rvisor.oci import create as creating

    request = _request(command)
    detached = command.flags.on("detach")
    container = creating.create(request)
    status = 1
    try:
        container.lock()
        _begin(container, command)
        container.unlock()
        if detached:
            return 0
        status = creating.wait(container)
    except BaseException:
        detached = False
        raise
    finally:
        if not detached and not command.flags.on("keep"):
            try:
                told = container.state("stopped")
                container.destroy()
                late(container, "poststop", told, command)
            except RvisorError as error:
                command.log.warning(str(error))
    return status
