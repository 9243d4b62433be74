"""What `linux.resources` may be made of: names, types, and texts that end up in a control group's file."""

from __future__ import annotations

from rvisor.oci.errors import OciError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CPUS = r"[0-9,\- ]*"
_PAGE = r"[0-9]+[KMG]B"
_INTERFACE = r"[^\s/]{1,15}"
_FILE = r"[a-z0-9_]+(\.[a-zA-Z0-9_]+)+"
_DEVICE: dict[str, object] = {"major": int, "minor": int}
_THROTTLES = [f"throttle{way}{unit}Device" for way in ("Read", "Write") for unit in ("Bps", "IOPS")]
_SHAPE: dict[str, object] = {
    "memory": dict.fromkeys(("limit", "reservation", "swap", "kernel", "kernelTCP", "swappiness"), int)
    | dict.fromkeys(("disableOOMKiller", "useHierarchy", "checkBeforeUpdate"), bool),
    "cpu": dict.fromkeys(("shares", "quota", "burst", "period", "realtimeRuntime", "realtimePeriod", "idle"), int)
    | {"cpus": _CPUS, "mems": _CPUS},
    "pids": {"limit": int},
    "blockIO": {"weight": int, "leafWeight": int, "weightDevice": [_DEVICE | {"weight": int}, {"leafWeight": int}]}
    | {name: [_DEVICE | {"rate": int}, {}] for name in _THROTTLES},
    "hugepageLimits": [{"pageSize": _PAGE, "limit": int}, {}],
    "network": {"classID": int, "priorities": [{"name": _INTERFACE, "priority": int}, {}]},
    "devices": [{"allow": bool}, {"type": str, "major": int, "minor": int, "access": str}],
    "rdma": dict,
    "unified": dict,
}
"""A list is of objects that must have the first names and may have the second. A text is an expression for a text."""


def _fits(expression: str, text: str) -> bool:
    # Imported where there is such a text, as few have one and the import takes longer than all the rest.
    from re import fullmatch

    return fullmatch(expression, text) is not None


def check(resources: dict[str, Any], where: str) -> None:
    """Raises OciError for what has not the specification's shape. Unknown names are left alone, as it says."""
    _check(resources, _SHAPE, where)
    for name, value in (resources.get("unified") or {}).items():
        if not _fits(_FILE, name) or not isinstance(value, str):
            raise OciError(f"{where}.unified: {name!r} is no file of a control group, or its value no text")


def _check(value: Any, shape: Any, where: str) -> None:
    if isinstance(shape, list):
        if not isinstance(value, list):
            raise OciError(f"{where}: not a list: {value!r:.60}")
        for entry in value:
            _check(entry, shape[0] | shape[1], where)
            for name in shape[0]:
                if entry.get(name) is None:
                    raise OciError(f"{where}: an entry without {name}")
    elif isinstance(shape, dict):
        if not isinstance(value, dict):
            raise OciError(f"{where}: not an object: {value!r:.60}")
        for name, inner in shape.items():
            if value.get(name) is not None:
                _check(value[name], inner, f"{where}.{name}")
    elif isinstance(shape, str):
        if not isinstance(value, str) or not _fits(shape, value):
            raise OciError(f"{where}: {value!r:.60} is not allowed")
    elif not isinstance(value, shape) or (shape is int and isinstance(value, bool)):
        names = {int: "a number", bool: "true or false", str: "a string", dict: "an object"}
        raise OciError(f"{where}: not {names[shape]}: {value!r:.60}")
