"""seccomp profiles of Docker's, in and out."""

from __future__ import annotations

import errno
import json
import random
from typing import Any

import pytest

from rvisor.errors import ProfileError
from rvisor.profile import positions, read, seccomp
from rvisor.profile.model import ALLOW, INT, WORD, Action, Condition
from rvisor.profile.vocabulary import NAMES, NUMBERS

CLONE = 2114060288


def rule(*names: str, action: str = "ALLOW", **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": f"SCMP_ACT_{action}"} | more


def args(*conditions: tuple[int, str, int] | tuple[int, str, int, int]) -> list[dict[str, Any]]:
    made = []
    for index, op, value, *two in conditions:
        made.append({"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": two[0] if two else 0})
    return made


def profile(*rules: dict[str, Any], default: str = "ERRNO", **more: Any) -> dict[str, Any]:
    return {"defaultAction": f"SCMP_ACT_{default}", "syscalls": list(rules)} | more


def allowed(data: dict[str, Any], **whom: Any) -> set[str]:
    table = seccomp.read(data, whom=seccomp.For(**whom)).syscalls.table()
    return {NAMES[number] for number in table.cases if table.decide(number, (0,) * 6) == ALLOW}


def test_conditions_of_the_profile() -> None:
    data = profile(
        rule("read"),
        rule("ptrace", includes={"minKernel": "4.8"}),
        rule("modify_ldt", includes={"arches": ["amd64", "x32", "x86"]}),
        rule("sync_file_range2", "swapcontext", "write", includes={"arches": ["ppc64le"]}),
        rule("mount", includes={"caps": ["CAP_SYS_ADMIN"]}),
        rule("clone", args=args((0, "MASKED_EQ", CLONE, 0)), excludes={"caps": ["CAP_SYS_ADMIN"], "arches": ["s390"]}),
        rule("clone", excludes={"arches": ["amd64"]}),
        rule("bpf", includes={"caps": ["CAP_BPF", "CAP_SYS_ADMIN"]}),
        rule("open", excludes={"minKernel": "5.0"}),
    )
    assert allowed(data) == {"read", "ptrace", "modify_ldt", "clone"}
    assert allowed(data, linux=(4, 7)) == {"read", "modify_ldt", "clone", "open"}
    assert allowed(data, capabilities=["SYS_ADMIN"]) == {"read", "ptrace", "modify_ldt", "mount"}
    assert allowed(data, capabilities=["CAP_SYS_ADMIN", "CAP_BPF"]) == {"read", "ptrace", "modify_ldt", "mount", "bpf"}


def test_default_profile_of_the_seed_becomes_its_sets() -> None:
    """Two calls are looked at by their arguments, as the seed's own builder found them."""
    data = profile(
        rule("read", "clone3_is_none"),
        rule("clone", args=args((0, "MASKED_EQ", CLONE, 0))),
        *(rule("personality", args=args((0, "EQ", value))) for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)),
    )
    found = seccomp.read(data)
    assert found.notes == ("unknown names, left out: clone3_is_none",)
    table = found.syscalls.table()
    assert table.decide(NUMBERS["clone"], (0x3D0F00, 0, 0, 0, 0, 0)) == ALLOW
    assert table.decide(NUMBERS["clone"], (0x20000000, 0, 0, 0, 0, 0)) == Action("errno", errno.EPERM)
    assert [
        p for p in (0, 1, 8, 0x20000, 0xFFFFFFFF, WORD) if table.decide(NUMBERS["personality"], (p, *[0] * 5)) == ALLOW
    ] == [*(0, 8, 0x20000, 0xFFFFFFFF)]


def test_six_operators_and_alternatives() -> None:
    for op, holds in (("NE", (1, 3)), ("LT", (1,)), ("LE", (1, 2)), ("EQ", (2,)), ("GE", (2, 3)), ("GT", (3,))):
        table = seccomp.read(profile(rule("read", args=args((2, op, 2))))).syscalls.table()
        assert [n for n in (1, 2, 3) if table.decide(0, (0, 0, n, 0, 0, 0)) == ALLOW] == list(holds)
    both = seccomp.read(profile(rule("read", args=args((0, "EQ", 1), (1, "EQ", 2))))).syscalls
    assert len(both.rules) == 1
    either = seccomp.read(profile(rule("read", args=args((0, "EQ", 1), (0, "EQ", 2))))).syscalls
    assert len(either.rules) == 2


def test_actions() -> None:
    data = profile(
        rule("read", action="ERRNO", errnoRet=38),
        rule("write", action="KILL"),
        rule("open", action="KILL_PROCESS"),
        rule("close", action="TRAP"),
        rule("stat", action="TRACE", errnoRet=7),
        rule("fstat", action="LOG"),
        rule("lstat", action="NOTIFY"),
        default="ALLOW",
    )
    table = seccomp.read(data).syscalls.table()
    assert [str(table.decide(number, (0,) * 6)) for number in range(7)] == [
        *("errno ENOSYS", "kill-thread", "kill", "trap", "trace 7", "log", "notify"),
    ]


WRONG = [
    ({}, "defaultAction: None is not supported"),
    (profile(default="WHAT"), "defaultAction: 'SCMP_ACT_WHAT' is not supported"),
    (profile(rule("read", action="ERRNO", errnoRet=99999)), r"syscalls\[0\].errnoRet: 99999 is no errno"),
    (profile(rule()), r"syscalls\[0\]: no call is named"),
    (
        profile(rule("read", args=args((6, "EQ", 0)))),
        r"syscalls\[0\].args\[0\].index: a system call has arguments 0 to 5",
    ),
    (profile(rule("read", args=args((0, "XX", 0)))), r"args\[0\].op: 'SCMP_CMP_XX' is not known"),
    (profile(rule("read", args=args((0, "EQ", -1)))), r"args\[0\].value: not 64 bits"),
    (profile(rule("read", includes={"minKernel": "x"})), r"includes.minKernel: 'x' is no version"),
    (profile(rule("read", includes={"moon": 1})), r"includes: 'moon' is not known"),
    (profile(architectures=["SCMP_ARCH_ARM"]), "architectures: SCMP_ARCH_X86_64 is not among them"),
    (profile() | {"syscalls": [1]}, r"syscalls\[0\]: 1 is not of the type dict"),
    (profile() | {"syscalls": {}}, r"syscalls: \{\} is not of the type list"),
]


@pytest.mark.parametrize("data, said", WRONG)
def test_what_cannot_be_meant(data: dict[str, Any], said: str) -> None:
    with pytest.raises(ProfileError, match=said):
        seccomp.read(data)


def test_places_in_json() -> None:
    text = """
 {"defaultAction": "SCMP_ACT_ERRNO",
  "a\\"b": [1, {"x": "]}"}],
  "syscalls" : [
    {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
    {"names": ["write"],
     "action": "SCMP_ACT_ALLOW",
     "args": [{"index": 0, "op": "SCMP_CMP_EQ"}, { "index" : 6}] }
  ]}
"""
    with pytest.raises(seccomp.Unfit) as caught:
        seccomp.read(json.loads(text))
    assert caught.value.keys == ("syscalls", 1, "args", 1, "index")
    for keys, place in (
        (caught.value.keys, (8, 52)),
        (("syscalls", 1, "args", 1, "op"), (8, 50)),
        (("syscalls", 0), (5, 5)),
        (("syscalls", 5), (4, 3)),
        (('a"b', 1, "x"), (3, 16)),
        (("defaultAction", "deeper"), (2, 3)),
        (("nowhere",), (2, 2)),
        ((0,), (2, 2)),
    ):
        assert positions.find_in_json(text, keys) == place, keys
    for empty in ("{}", "[]", " 1"):
        assert positions.find_in_json(empty, ("x", 0))[0] == 1


def test_deny_list_becomes_an_allow_list() -> None:
    data = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"name": "mount", "action": "SCMP_ACT_ERRNO"},
            rule("uname", action="KILL"),
            rule("socket", action="ERRNO", args=args((0, "EQ", 40))),
        ],
    }
    made = seccomp.allow_list(seccomp.read(data).syscalls).table()
    old = seccomp.read(data).syscalls.table()
    assert made.default == Action("errno", errno.EPERM)
    for number in NAMES:
        for first in (0, 40):
            arguments = (first, 0, 0, 0, 0, 0)
            assert made.decide(number, arguments) == old.decide(number, arguments)
    assert made.decide(500, (0,) * 6) != old.decide(500, (0,) * 6)
    with pytest.raises(ProfileError, match="denies already"):
        seccomp.allow_list(seccomp.read(profile()).syscalls)


@pytest.mark.parametrize("name", ["default", "web-server", "zcore57"])
def test_out_and_in_again(name: str) -> None:
    syscalls = read.load(name).syscalls
    assert syscalls is not None
    kept = [r for r in syscalls.rules if len({c.argument for c in r.when}) == len(r.when)]
    from rvisor._record import replace

    syscalls = replace(syscalls, rules=tuple(kept))
    table, again = syscalls.table(), seccomp.read(seccomp.write(syscalls)).syscalls.table()
    chance = random.Random(1)
    for number in NAMES:
        for _ in range(10):
            arguments = tuple(chance.choice([0, 1, 2, 8, 40, CLONE, INT, 1 << 32, 0x5412, WORD]) for _ in range(6))
            assert again.decide(number, arguments) == table.decide(number, arguments), NAMES[number]


def test_what_has_no_words_there() -> None:
    one = Condition(0, "!=", 1, INT)
    for text, said in (
        ('{ names = ["read"], action = "plugin", plugin = "a:b" }', "the action plugin has no word"),
        ('{ names = ["read"], action = "allow", when = ["arg0:32 < 3"] }', "has no words there"),
        ('{ names = ["read"], action = "allow", when = ["arg0 > 3", "arg0 < 9"] }', "would be alternatives"),
        (
            '{ names = ["read"], action = "log", when = ["arg0 > 3"] }, { names = ["read"], action = "allow" }',
            "no order",
        ),
    ):
        syscalls = read.loads(f'[syscalls]\ndefault = "errno"\nrule = [{text}]').syscalls
        assert syscalls is not None
        with pytest.raises(ProfileError, match=said):
            seccomp.write(syscalls)
    assert one.holds((2, 0, 0, 0, 0, 0))
