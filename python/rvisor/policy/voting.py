"""Huge pages for ranges that several containers share: each present page votes as its owner's container wants.

A page's owner is the memory control group it is charged to: the first that touched it. The host tells it
(/proc/kpagecgroup), and collapses a range on demand (MADV_COLLAPSE), so a majority can be carried out from outside.
What it cannot: a range that the host's page faults or khugepaged made huge is not split again, and pages of no group
we know do not vote.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections import Counter
from typing import NamedTuple

from rvisor.policy import calls
from rvisor.policy.errors import PolicyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rvisor.policy.container import Container

PAGE = 4096
PAGES = 512
RANGE = PAGE * PAGES
_MADV_COLLAPSE = 25
_PRESENT = 1 << 63
_FRAME = (1 << 55) - 1


class Outcome(NamedTuple):
    """A range, who owns how many of its pages, and what came of it."""

    pid: int
    address: int
    votes: dict[str, int]
    """Pages by container; `other`: of none that votes."""
    huge: bool
    """What the majority wants."""
    collapsed: bool
    error: str


def vote(owners: Sequence[str | None], wants: Mapping[str, bool]) -> bool:
    """Whether more of the pages whose owner has a will are for a huge page than against it; a tie is against."""
    cast = Counter(wants[owner] for owner in owners if owner is not None and owner in wants)
    return cast[True] > cast[False]


def owners(pid: int, address: int, groups: Mapping[int, str]) -> list[str | None]:
    """The owner of each page of the range; None: it is absent. `groups`: containers by their group's inode."""
    found: list[str | None] = []
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        pagemap.seek(address // PAGE * 8)
        entries = struct.unpack(f"<{PAGES}Q", pagemap.read(8 * PAGES))
    with open("/proc/kpagecgroup", "rb", buffering=0) as charged:
        for entry in entries:
            frame = entry & _FRAME
            if not entry & _PRESENT or not frame:
                found.append(None)
                continue
            charged.seek(frame * 8)
            (inode,) = struct.unpack("<Q", charged.read(8))
            found.append(groups.get(inode, "other"))
    return found


def ranges(pid: int) -> Iterator[tuple[int, tuple[str, str, int]]]:
    """The ranges of a process's shared mappings that may be huge, with what is mapped: device, inode, offset."""
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            bounds, rights, offset, device, inode = line.split()[:5]
            if rights[3] != "s":
                continue
            first, last = (int(word, 16) for word in bounds.split("-"))
            if (first - int(offset, 16)) % RANGE:
                # The file's huge pages do not lie on the address's.
                continue
            at = -(-first // RANGE) * RANGE
            while at + RANGE <= last:
                yield at, (device, inode, int(offset, 16) + at - first)
                at += RANGE


def ballot(containers: Sequence[Container], wants: Mapping[str, bool], *, dry: bool = False) -> list[Outcome]:
    """Vote on every range that they share, and collapse those whose majority wants it; `dry`: only say.

    PolicyError: this host does not tell who owns a page (needs root, and memory control groups).
    """
    groups = {}
    for container in containers:
        file = container.file("memory.stat")
        if file is None:
            raise PolicyError(f"{container.name} has no memory control group: its pages have no owner")
        groups[os.stat(os.path.dirname(file)).st_ino] = container.name
    users: dict[tuple[str, str, int], list[tuple[str, int, int]]] = {}
    for container in containers:
        for pid in container.processes():
            try:
                for address, what in ranges(pid):
                    users.setdefault(what, []).append((container.name, pid, address))
            except OSError:
                continue
    outcomes = []
    for who in users.values():
        if len({name for name, _, _ in who}) < 2:
            continue
        pages = _merged(who, groups)
        _, pid, address = who[0]
        huge = vote(pages, wants)
        failed = _collapse(pid, address) if huge and not dry else ""
        votes = dict(Counter(page for page in pages if page is not None))
        outcomes.append(Outcome(pid, address, votes, huge, huge and not dry and not failed, failed))
    return outcomes


def _merged(who: list[tuple[str, int, int]], groups: Mapping[int, str]) -> list[str | None]:
    """A process has in its tables what it has touched itself: all of them together have what is present."""
    pages: list[str | None] = [None] * PAGES
    for _, pid, address in who:
        try:
            seen = owners(pid, address, groups)
        except PermissionError as error:
            raise PolicyError(f"who owns a page is not told: {error}") from None
        except (OSError, struct.error):
            continue
        pages = [old if new is None else new for old, new in zip(pages, seen, strict=True)]
    return pages


def _collapse(pid: int, address: int) -> str:
    """What went wrong, or nothing."""

    class Vector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

    try:
        fd = os.pidfd_open(pid)
    except OSError as error:
        return str(error.strerror)
    try:
        vector = Vector(address, RANGE)
        calls.call("process_madvise", fd, ctypes.byref(vector), 1, _MADV_COLLAPSE, 0)
    except OSError as error:
        return str(error.strerror)
    finally:
        os.close(fd)
    return ""
