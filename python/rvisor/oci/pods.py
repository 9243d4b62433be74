"""Containers that share one kernel: those of a pod.

A container whose System V IPC or host name is to be another container's can only be served by that one's kernel. Which
it is, the path of the namespace says, or the annotations of Kubernetes. A container that shares no more than the
network has a kernel of its own, in the same network namespace.
"""

from __future__ import annotations

from rvisor.oci import state
from rvisor.oci.errors import NoSuchContainer, OciError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor.oci.config import Config
    from rvisor.oci.state import Container

_KEYS = (
    ("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"),
    ("io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID"),
)


def sandbox(wanted: Config, root: str, name: str) -> Container | None:
    """The container whose kernel is to serve it; None for one of its own. OciError: there is none that could."""
    if not wanted.joins:
        return None
    found = _annotated(wanted, root, name) or _by_path(wanted, root)
    kind, path = next(iter(wanted.joins.items()))
    if found is None:
        raise OciError(f"config.json: linux.namespaces: {kind}: {path} is of no container of this runtime's")
    if "ipc" not in wanted.joins:
        raise OciError("config.json: linux.namespaces: ipc: containers that share the host name share it as well")
    if wanted.network == "user":
        raise OciError("config.json: linux.namespaces: network: a container of a pod has the pod's")
    if found.sandbox:
        found = state.find(root, found.sandbox)
    if found.status() not in ("created", "running"):
        raise OciError(f"config.json: linux.namespaces: {kind}: the sandbox {found.id} is {found.status()}")
    return found


def _annotated(wanted: Config, root: str, name: str) -> Container | None:
    for kind, key in _KEYS:
        other = wanted.annotations.get(key, "")
        if wanted.annotations.get(kind) == "container" and other and other != name:
            try:
                return state.find(root, other)
            except NoSuchContainer:
                return None
    return None


def _by_path(wanted: Config, root: str) -> Container | None:
    for path in wanted.joins.values():
        words = path.split("/")
        if len(words) == 5 and words[1] == "proc" and words[3] == "ns" and words[2].isdecimal():
            for container in state.every(root):
                if container.pid == int(words[2]) and container.alive():
                    return container
    return None
