"""A sandbox's control groups, after it has ended: was it out of memory? Then remove them.

The launcher makes them, in every version 1 hierarchy or in the one of version 2, and tells where.
"""

from __future__ import annotations

import os
import time

_MOUNT = "/sys/fs/cgroup"
_RETRY_SECONDS = 2.0


def get(path: str) -> str:
    """A small file of the host's, without white space at its end."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts).decode(errors="replace").strip()


def put(path: str, value: str) -> None:
    """One write, as the host's settings want it."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def out_of_memory_kills(groups: list[str]) -> int:
    """How many processes of these groups the kernel has killed because memory ran out."""
    kills = 0
    for group in groups:
        for name in ("memory.oom_control", "memory.events"):
            try:
                with open(os.path.join(group, name), encoding="utf-8") as lines:
                    for line in lines:
                        key, _, value = line.partition(" ")
                        if key == "oom_kill":
                            kills = max(kills, int(value))
            except OSError:
                continue
    return kills


def of(sandbox: str) -> list[str]:
    """The groups of a sandbox whose launcher was killed before it could tell."""
    return [os.path.join(top, f"rvisor-{sandbox}") for top, names, _ in os.walk(_MOUNT) if f"rvisor-{sandbox}" in names]


def gone(group: str) -> bool:
    """Remove it if nothing is in it, neither processes nor groups; false if something is."""
    try:
        os.rmdir(group)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True


def remove(groups: list[str]) -> list[str]:
    """Remove the groups, children first; returns those that could not be removed."""
    left = []
    end = time.monotonic() + _RETRY_SECONDS
    for group in groups:
        if gone(group):
            continue
        for path, _, _ in os.walk(group, topdown=False):
            pause = 0.001
            while not gone(path):
                if time.monotonic() > end:
                    left.append(path)
                    break
                time.sleep(pause)
                pause = min(pause * 2, 0.1)
    return left
