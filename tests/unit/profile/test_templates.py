"""The profiles that are shipped."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from rvisor.profile import filter, read
from rvisor.profile.model import Profile, Table
from rvisor.profile.vocabulary import DOCKER_CAPABILITIES, HIGHEST, NUMBERS

DOCKER = (Path(__file__).parent / "docker_default.txt").read_text()
SHIPPED = read.shipped()
LEFT_OUT = set(
    """
    cachestat epoll_ctl_old epoll_wait_old fanotify_mark futex_requeue futex_wait futex_wake get_thread_area getxattrat
    listmount listxattrat lsm_get_self_attr lsm_list_modules lsm_set_self_attr map_shadow_stack memfd_secret modify_ldt
    mseal remap_file_pages removexattrat set_thread_area setxattrat statmount uretprobe vmsplice
    """.split()
)
"""What Docker's profile allows and ours does not: calls for 32-bit programs, and those hardly any makes."""


def table(name: str) -> tuple[Profile, Table]:
    profile = read.load(name)
    made = profile.table()
    assert made is not None
    return profile, made


def docker() -> set[str]:
    lines = (line.partition("#")[0] for line in DOCKER.splitlines())
    return {name for line in lines for name in line.split()}


@pytest.mark.parametrize("name", SHIPPED)
def test_is_whole(name: str) -> None:
    profile, made = table(name)
    assert profile.description
    assert profile.syscalls is not None
    assert [rule.names for rule in profile.syscalls.rules if not rule.reason] == []
    assert len(filter.compile_table(made)) < 400
    assert profile.unsupported("shared") == []
    assert profile.unsupported("private") == []


def test_default_is_at_least_as_strict_as_dockers() -> None:
    profile, made = table("default")
    assert profile.capabilities is not None and profile.capabilities <= DOCKER_CAPABILITIES
    theirs = docker()
    assert len(theirs) > 300
    allowed = {
        name for name, number in NUMBERS.items() if any(c.action.kind == "allow" for c in made.cases.get(number, ()))
    }
    assert allowed - theirs == set()
    assert theirs - allowed == LEFT_OUT
    assert made.default.kind == "errno"


def test_default_looks_at_arguments_as_docker_does() -> None:
    _, made = table("default")

    def allows(name: str, *arguments: int) -> bool:
        return made.decide(NUMBERS[name], (*arguments, *[0] * (6 - len(arguments)))).kind == "allow"

    # Docker: clone without new namespaces, five personalities, any family of sockets but AF_VSOCK (and AF_ALG).
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert not allows("clone", flag | 17)
    assert allows("clone", 0x3D0F00)
    assert [p for p in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF, 0x40000, 0x400000) if allows("personality", p)] == [
        *(0, 8, 0x20000, 0x20008, 0xFFFFFFFF),
    ]
    families = [family for family in range(50) if allows("socket", family)]
    assert families == [1, 2, 10, 16, 17]
    # The kernel sees 32 bits of these: what is above them changes nothing.
    assert not allows("socket", 40 | 1 << 32) and allows("socket", 1 | 1 << 32)
    assert not allows("ioctl", 0, 0x5412 | 7 << 32)
    assert made.decide(NUMBERS["clone3"], (0,) * 6).number == 38


def test_57_calls() -> None:
    _, made = table("zcore57")
    program = filter.compile_table(made)
    allowed = {number for number in range(HIGHEST + 1) if made.decide(number, (0,) * 6).kind == "allow"}
    assert len(allowed) == 57
    assert {NUMBERS[name] for name in ("mmap", "mprotect", "munmap", "brk", "clone", "copy_file_range")} <= allowed
    assert program


def test_inner_templates_allow_less() -> None:
    _, default = table("default")
    numbers = range(HIGHEST + 1)
    values = [(family, kind, 0, 0, 0, 0) for family, kind in itertools.product((0, 1, 2, 10, 16, 17, 40), (1, 2, 3))]
    for name in ("web-server", "build", "agent"):
        _, made = table(name)
        wider = [
            (number, arguments)
            for number in numbers
            for arguments in values
            if made.decide(number, arguments).kind == "allow" and default.decide(number, arguments).kind != "allow"
        ]
        assert wider == []
