"""What of a profile this host allows at all. Apart from `groups`, of which most containers need nothing."""

from __future__ import annotations

import os

_SYS_ADMIN = 21
_asked: list[str | None] = []


def hindrance() -> str | None:
    """Why this host lets us attach no programs; None if there is nothing known against it."""
    if not _asked:
        _asked.append(_hindrance())
    return _asked[0]


def _hindrance() -> str | None:
    if os.geteuid() != 0:
        return "programs are attached to control groups by root only"
    with open("/proc/self/status", encoding="utf-8") as lines:
        held = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    with open("/proc/self/uid_map", encoding="utf-8") as file:
        outermost = file.read().split() == ["0", "0", "4294967295"]
    if not held >> _SYS_ADMIN & 1 or not outermost:
        return "this root may not attach programs to control groups"
    if mount() is None:
        return "no control groups of version 2 are mounted on this host"
    return None


def mount() -> str | None:
    """Where version 2's control groups are mounted."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            if right.startswith("cgroup2 "):
                return left.split()[4]
    return None
