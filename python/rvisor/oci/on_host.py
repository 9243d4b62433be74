"""What config.json means for a container on the host's kernel, where that is not what a private kernel makes of it."""

from __future__ import annotations

import os

from rvisor._sentry import messages
from rvisor.oci.errors import OciError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rvisor._sentry.messages import Volume
    from rvisor.oci.config import Config

_FILE_SYSTEMS = ("proc", "sysfs", "tmpfs", "devpts", "mqueue")
_IPC_SETTINGS = ("kernel/shm", "kernel/msg", "kernel/sem", "fs/mqueue/")


def namespaces(config: Config, linux: dict[str, Any]) -> None:
    """Those to be made, and those to be joined; what is not named is the host's."""
    from rvisor.oci.config import namespaces as named

    found = named(linux)
    if found.get("mount") != "":
        raise OciError("config.json: linux.namespaces: a container has its own mount namespace")
    for kind in ("user", "cgroup"):
        if found.get(kind):
            raise OciError(f"config.json: linux.namespaces: {kind}: {found[kind]} cannot be joined")
    if config.hostname and found.get("uts") != "":
        raise OciError("config.json: hostname: needs a uts namespace")
    config.namespaces = {kind: path or None for kind, path in found.items() if kind in ("pid", "ipc", "uts", "user")}
    if "network" not in found:
        config.network = "host"
    elif found["network"]:
        config.network = {"ns": found["network"]}


def is_ipc_setting(path: str) -> bool:
    """Does it belong to an IPC namespace?"""
    return path.startswith(_IPC_SETTINGS)


def has_own_ipc(own: dict[str, str | None]) -> bool:
    return own.get("ipc", "") is None


def mounts(config: Config, wanted: list[dict[str, Any]], bundle: str) -> None:
    """All that is mounted, in order."""
    from rvisor.oci.config import get, texts

    for mount in wanted:
        target = get(mount, "mounts.destination", str, "")
        if not target:
            raise OciError("config.json: mounts.destination: there is none")
        target = "/" + os.path.normpath(target).lstrip("/")
        options = texts(mount, "mounts.options")
        kind = get(mount, "mounts.type", str, "")
        if target == "/":
            raise OciError("config.json: mounts: / is the root")
        if mount.get("uidMappings") or mount.get("gidMappings"):
            raise OciError(f"config.json: mounts: {target}: ids are not mapped")
        volume = messages.volume(None, target, read_only=False)
        rest = _flags(config, volume, options)
        if kind == "bind" or "bind" in options or "rbind" in options:
            source = os.path.normpath(os.path.join(bundle, get(mount, "mounts.source", str, "")))
            if not os.path.exists(source):
                raise OciError(f"config.json: mounts: {target}: the source {source}: no such file or directory")
            if rest:
                raise OciError(f"config.json: mounts: {target}: the option {rest[0]!r} is not supported")
            volume["source"] = source
        elif kind in ("cgroup", "cgroup2"):
            volume["file_system"] = {"kind": "cgroup", "options": []}
        elif kind in _FILE_SYSTEMS:
            pairs = [option.partition("=") for option in rest]
            volume["file_system"] = {"kind": kind, "options": [(key, value) for key, _, value in pairs]}
        else:
            raise OciError(f"config.json: mounts: {target}: the type {kind!r} is not supported")
        config.volumes.append(volume)


def _flags(config: Config, volume: Volume, options: list[str]) -> list[str]:
    """Take over what is of the mount; what is left is of the file system."""
    from rvisor.oci.config import HARMLESS, PROPAGATION

    rest = []
    for option in options:
        if option in ("ro", "rro", "rw"):
            volume["read_only"] = option != "rw"
        elif option in ("noexec", "nosuid", "nodev", "exec", "suid", "dev"):
            volume[f"no_{option.removeprefix('no')}"] = option.startswith("no")  # type: ignore[literal-required]
        elif option == "tmpcopyup":
            top = os.path.join(config.root, volume["target"].lstrip("/"))
            if os.path.isdir(top) and os.listdir(top):
                raise OciError(f"config.json: mounts: {volume['target']}: tmpcopyup over files is not supported")
        elif option in PROPAGATION:
            if PROPAGATION[option] in ("shared", "slave"):
                target = volume["target"]
                config.warnings.append(f"mounts: {target}: {option}: mounts made on the host later do not come inside")
        elif option not in HARMLESS:
            rest.append(option)
    return rest
