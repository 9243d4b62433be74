"""Profiles from files: what they say, and how mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from rvisor.errors import ProfileError
from rvisor.profile import conditions, read
from rvisor.profile.model import ALLOW, INT, WORD, Action, Condition, FileRule, NetworkRule, SysctlView

WHOLE = """\
name = "whole"
description = "all there is"
futex_hash = 256

[syscalls]
default = "errno"
errno = "ENOSYS"

[[syscalls.rule]]
names = ["read", "write"]
action = "allow"
reason = "input and output"

[[syscalls.rule]]
names = ["socket"]
action = "allow"
when = ["arg0:32 in {AF_UNIX, AF_INET}", "arg1:32 & 0xf != SOCK_RAW"]

[capabilities]
keep = ["CAP_CHOWN", "net_bind_service"]

[files]
[[files.rule]]
paths = ["/usr/share/doc/apt/copyright", "/etc//x/"]
allow = "r-x"
[[files.rule]]
paths = ["/sys/fs/cgroup/cpu"]
deny = "rwx"
subtree = true

[kernel_log]
size = "64k"

[sysctl]
"vm.overcommit_memory" = 2
"kernel.sched_wakeup_granularity_ns" = { value = "3000000", writable = true, minimum = 0, maximum = 1000000000 }

[cpu]
policy = "batch"
slice = "3ms"
cores = "0-1,3"
quota = 1.5

[memory]
max = "512m"
overcommit = { mode = "never", ratio = 80 }

[network]
default = "deny"
rule = [{ action = "allow", net = "10.0.0.0/8", ports = "80-443", protocol = "tcp" }]
"""


def test_whole() -> None:
    made = read.loads(WHOLE)
    assert made.name == "whole"
    assert made.syscalls is not None
    assert made.syscalls.default == Action("errno", 38)
    plain, unix, inet = made.syscalls.rules
    assert (plain.names, plain.action, plain.reason) == (("read", "write"), ALLOW, "input and output")
    assert unix.when == (Condition(0, "==", 1, INT), Condition(1, "!=", 3, 15))
    assert inet.when[0] == Condition(0, "==", 2, INT)
    assert made.capabilities == {"CHOWN", "NET_BIND_SERVICE"}
    assert made.capability_mask() == 1 | 1 << 10
    apt, x, cgroup = made.files.rules
    assert (apt.path, apt.allow, apt.deny) == ("/usr/share/doc/apt/copyright", "rx", "")
    assert x.path == "/etc/x"
    assert (cgroup.allow, cgroup.deny, cgroup.subtree) == (None, "rwx", True)
    assert made.kernel_log is not None and made.kernel_log.size == 65536
    assert [(view.name, view.value, view.writable) for view in made.sysctl] == [
        ("vm.overcommit_memory", "2", False),
        ("kernel.sched_wakeup_granularity_ns", "3000000", True),
    ]
    assert (made.cpu.policy, made.cpu.slice, made.cpu.cores, made.cpu.quota) == ("batch", 3_000_000, (0, 1, 3), 1.5)
    assert (made.memory.max, made.memory.overcommit, made.memory.overcommit_ratio) == (512 << 20, "never", 80)
    assert made.network is not None and not made.network.allow
    rule = made.network.rules[0]
    assert (rule.allow, rule.net, rule.ports, rule.protocol) == (True, "10.0.0.0/8", (80, 443), "tcp")
    assert made.futex_hash == 256
    names = [what for what, _ in made.unsupported("private")]
    assert "files: the rule on /etc/x" in names
    assert "futex_hash" in names


WRONG = [
    ("syscals = 1", "1:1: there is no key 'syscals'; did you mean 'syscalls'?"),
    ("name = 1", "1:1: name: must be text, not 1"),
    ("a = ", "1:5: invalid value"),
    ('[syscalls]\ndefault = "errno"\n[[syscalls.rule]]\nnames = ["read"]', "3:1: syscalls.rule: action is missing"),
    ('[syscalls]\ndefault = "alow"', "2:1: syscalls.default: 'alow' is none of"),
    ('[syscalls]\ndefault = "alow"', "did you mean 'allow'?"),
    ("[syscalls]", "1:1: syscalls: default is missing"),
    ('[syscalls]\ndefault = "errno"\nerrno = "EPREM"', "3:1: errno: 'EPREM' is no error"),
    ('[syscalls]\ndefault = "allow"\nerrno = "EPERM"', "3:1: errno: the action is allow, not errno"),
    ('[capabilities]\nkeep = ["CHWON"]', "2:9: there is no capability 'CHWON'; did you mean CHOWN?"),
    ('[capabilities]\nkeep = ["KILL"]\ndrop = ["KILL"]', "3:9: contradiction: KILL is in keep as well"),
    ('[[files.rule]]\npaths = ["etc"]\nallow = "r"', "2:10: 'etc' is no absolute path"),
    ('[[files.rule]]\npaths = ["/a/../b"]\nallow = "r"', "2:10: '/a/../b' is no absolute path"),
    ('[[files.rule]]\npaths = ["/a"]\nallow = "rz"', "3:1: 'rz': access is written with r, w and x"),
    ('[[files.rule]]\npaths = ["/a"]\nallow = "rw"\ndeny = "w"', "4:1: contradiction: the same letter"),
    ('[[files.rule]]\npaths = ["/a"]', "1:1: files.rule: neither allow nor deny"),
    ('[memory]\nmax = "64m"\nhigh = "1g"', "3:1: contradiction: memory.high is above memory.max"),
    ('[memory]\nmax = "12 parsecs"', "2:1: memory.max: '12 parsecs' is no size"),
    ("[memory]\nmax = 5", "2:1: memory.max: 5 is not between"),
    ('[cpu]\npolicy = "fifo"\nnice = 3', "3:1: cpu.nice: the policy is fifo"),
    ('[cpu]\ncores = "3-1"', "2:1: cpu.cores: '3-1' is no list of CPUs"),
    ('[sysctl]\nkernel.hostname = "x"', '2:1: sysctl: write the whole name in quotes: "kernel.hostname"'),
    ('[sysctl]\n"vm.x" = { value = "5", maximum = 3 }', "2:12: sysctl: vm.x: the value is out of its own bounds"),
    ('[network]\nrule = [{ action = "deny", net = "10.0.0.1/8" }]', "2:28: network.rule.net: 10.0.0.1/8 has host bits"),
    ("futex_hash = 100", "1:1: futex_hash: 100 is no power of two"),
    ("include = ['defualt']", "1:12: there is no profile 'defualt'"),
    ("include = ['./none.toml']", "1:12: ./none.toml: there is no such file"),
    ("x = " + "[" * 2000 + "]" * 2000, "nested too deeply"),
]


@pytest.mark.parametrize("text, said", WRONG)
def test_mistakes_are_told_with_their_place(text: str, said: str) -> None:
    with pytest.raises(ProfileError) as caught:
        read.loads(text, name="p.toml")
    assert str(caught.value).startswith("p.toml:")
    assert said in str(caught.value)


RULES = [
    ('names = ["opennat"]', "4:10: there is no system call 'opennat'; did you mean openat?"),
    ('names = ["socketcall"]', "4:10: socketcall is a call of other architectures"),
    ("names = []", "4:1: syscalls.rule.names: no call is named"),
    ('names = ["read"]\nwhen = ["arg6 == 1"]', "5:9: 'arg6 == 1': a system call has arguments 0 to 5"),
    ('names = ["read"]\nwhen = ["arg0 = 1"]', "5:9: 'arg0 = 1' is no condition"),
    ('names = ["read"]\nwhen = ["arg0 & 1 == 2"]', "never holds"),
    ('names = ["read"]\nwhen = ["arg0 >= 0"]', "always holds"),
    ('names = ["read"]\nwhen = ["arg0 == AF_UNX"]', "did you mean AF_UNIX?"),
    ('names = ["read"]\nwhen = ["arg0:32 == 0x100000000"]', "is more than 32 bits"),
    ('names = ["read"]\nplugin = "x:y"', "plugin: the action is allow"),
    (
        'names = ["read"]\n[[syscalls.rule]]\nnames = ["read"]\naction = "kill"',
        "6:1: contradiction: read is to kill here, and to allow in rule 1",
    ),
]


@pytest.mark.parametrize("rule, said", RULES)
def test_mistakes_in_rules(rule: str, said: str) -> None:
    first, *more = rule.split("\n[[")
    text = f'[syscalls]\ndefault = "errno"\n[[syscalls.rule]]\n{first}\naction = "allow"\n'
    text += "".join(f"[[{one}" for one in more)
    with pytest.raises(ProfileError) as caught:
        read.loads(text, name="p.toml")
    assert said in str(caught.value)


def test_all_mistakes_at_once() -> None:
    with pytest.raises(ProfileError) as caught:
        read.loads("name = 1\ndescription = 2\nwhatever = 3\n", name="p.toml")
    assert [line.partition(" ")[0] for line in str(caught.value).splitlines()] == [
        "p.toml:1:1:",
        "p.toml:2:1:",
        "p.toml:3:1:",
    ]
    with pytest.raises(ProfileError, match="… and 80 more"):
        read.loads("".join(f"k{n} = 1\n" for n in range(100)))


def test_includes(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(
        """
        [syscalls]
        default = "errno"
        rule = [
            { names = ["read", "write", "clone"], action = "allow" },
            { names = ["clone"], action = "kill", when = ["arg0 & CLONE_NEWUSER != 0"] },
        ]
        [capabilities]
        keep = ["CHOWN", "KILL"]
        [[files.rule]]
        paths = ["/a"]
        deny = "w"
        [cpu]
        policy = "fifo"
        priority = 3
        weight = 200
        """
    )
    (tmp_path / "own.toml").write_text(
        """
        include = ["./base.toml", "./base.toml"]
        syscalls.default = "kill"
        syscalls.rule = [{ names = ["clone"], action = "log" }]
        capabilities = { drop = ["KILL"], add = ["SETUID"] }
        files.rule = [{ paths = ["/a"], deny = "r" }]
        cpu.policy = "normal"
        """
    )
    made = read.load(tmp_path / "own.toml")
    assert made.name == "own"
    assert made.syscalls is not None
    assert made.syscalls.default == Action("kill")
    assert [(rule.names, rule.action.kind) for rule in made.syscalls.rules] == [
        (("clone",), "log"),
        (("read", "write"), "allow"),
    ]
    assert made.capabilities == {"CHOWN", "SETUID"}
    assert [rule.deny for rule in made.files.rules] == ["r", "w"]
    assert (made.cpu.policy, made.cpu.priority, made.cpu.weight) == ("normal", None, 200)
    assert [Path(file).name for file in made.files_read] == ["own.toml", "base.toml"]


def test_rings_of_includes(tmp_path: Path) -> None:
    for one, other in (("a", "b"), ("b", "c"), ("c", "b")):
        (tmp_path / f"{one}.toml").write_text(f'include = ["./{other}.toml"]')
    with pytest.raises(ProfileError, match=r"include each other: .*b.toml includes .*c.toml includes .*b.toml"):
        read.load(tmp_path / "a.toml")
    for number in range(20):
        (tmp_path / f"d{number}.toml").write_text(f'include = ["./d{number + 1}.toml"]')
    with pytest.raises(ProfileError, match="more than 16 deep"):
        read.load(tmp_path / "d0.toml")


def test_files_that_are_none(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "a"\ndescription = "\xe4"\n')
    for name, said in (("pipe", "not a regular file"), ("latin", "latin.toml:2: not UTF-8"), ("none", "No such file")):
        with pytest.raises(ProfileError, match=said):
            read.load(tmp_path / f"{name}.toml")
    with pytest.raises(ProfileError, match="not a regular file"):
        read.load("/proc/self")
    with pytest.raises(ProfileError, match="there is no profile"):
        read.load("defautl")


def test_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('\n[[files.rule]]\npaths = ["/x"]\ndeny = "w"\n')
    with pytest.raises(ProfileError) as caught:
        read.load(tmp_path / "p.toml", kernel="private")
    assert str(caught.value).endswith("p.toml:3:10: files: the rule on /x is not there with --kernel=private")
    read.load(tmp_path / "p.toml", kernel="shared")


def test_conditions_as_text() -> None:
    assert conditions.parse("arg1 == -1") == ((Condition(1, "==", WORD),),)
    assert conditions.parse("arg1:32 == -1") == ((Condition(1, "==", INT, INT),),)
    assert conditions.parse(" arg0 & CLONE_NEWNS|CLONE_NEWUSER == 0 ") == ((Condition(0, "==", 0, 0x10020000),),)
    assert conditions.parse("arg2 not in {1, 0x2}") == ((Condition(2, "!=", 1), Condition(2, "!=", 2)),)
    for text in ("arg0:32 >= 0x10", "arg5 & 0xff00000000 != 0x100000000", "arg0 < 5"):
        again = conditions.parse(str(conditions.parse(text)[0][0]))
        assert again == conditions.parse(text)


def test_access_to_files() -> None:
    files = read.loads(WHOLE).files
    one, other = FileRule("/a", allow="r"), FileRule("/a", allow="x")
    assert files.access([]) == "rwx"
    assert files.access([one]) == "r"
    assert files.access([one, other]) == "rx"
    assert files.access([one, other, FileRule("/a", deny="r")]) == "x"
    assert files.access([FileRule("/a", deny="w")]) == "rx"
    assert FileRule("/a/*.so").pattern and not FileRule("/a").pattern
    assert NetworkRule(True).direction == "both" and not SysctlView("a.b", "1").writable
