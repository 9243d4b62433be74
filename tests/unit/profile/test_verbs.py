"""`rvisor profile`, as people use it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from framework.inside import rvisor
from rvisor.cli.profile import VERBS
from rvisor.profile import read, write


def profile(*arguments: str, status: int = 0, cwd: Path | None = None) -> str:
    done = rvisor("profile", *arguments, cwd=cwd)
    assert done.status == status, done.err
    return done.out if status != 2 else done.err


def test_help() -> None:
    assert "learn -o" in profile("--help")
    for verb in VERBS:
        text = profile(verb, "--help")
        assert text.startswith(f"usage: rvisor profile {verb}") and "Examples:" in text
    assert "invalid choice: 'lern'" in profile("lern", status=2)


def test_completion_knows_the_verbs() -> None:
    script = (
        rvisor("completion", "bash").out
        + 'COMP_WORDS=(rvisor profile le); COMP_CWORD=2; _rvisor; echo "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["learn"]


def test_new_lint_explain(tmp_path: Path) -> None:
    profile("new", "-o", "web.toml", "--from", "web-server", cwd=tmp_path)
    assert "is there already" in profile("new", "-o", "web.toml", status=2, cwd=tmp_path)
    path = tmp_path / "web.toml"
    with path.open("a") as file:
        file.write('[[syscalls.rule]]\nnames = ["bpf"]\naction = "allow"\n[[syscalls.rule]]\nnames = ["ioctl"]\n')
        file.write('action = "allow"\nwhen = ["arg1 != TIOCSTI"]\nreason = "r"\n')
    said = profile("lint", "web.toml", status=1, cwd=tmp_path)
    assert "warning: bpf is allowed: programs in the host's kernel" in said
    assert "warning: argument 1 of ioctl is an int" in said
    rows = json.loads(profile("lint", "--json", "web.toml", status=1, cwd=tmp_path))
    assert {row["level"] for row in rows} == {"warning", "note"}
    path.write_text(path.read_text() + "[[syscalls.rule]]\nnames = 1\n")
    assert "names: must be a list of texts, not 1" in profile("lint", "web.toml", status=2, cwd=tmp_path)
    said = profile("explain", "default", "socket", "clone3", "CAP_NET_ADMIN", "/etc/shadow", "uname")
    assert "socket: allow if arg0:32 in {1, 2, 0xa, 0x10, 0x11}" in said
    assert "clone3: errno ENOSYS" in said and "CAP_NET_ADMIN: refused" in said and "/etc/shadow: rwx" in said
    assert "default.toml:" in said
    assert "did you mean socket?" in profile("explain", "default", "sockett", status=2)
    assert json.loads(profile("explain", "default", "uname", "--json"))[0]["answer"] == "allow"


def test_diff_and_merge(tmp_path: Path) -> None:
    assert profile("diff", "default", "default") == ""
    said = profile("diff", "default", "agent", status=1)
    assert "ptrace: allow → errno EPERM" in said
    assert json.loads(profile("diff", "--json", "default", "agent", status=1))[0]["subject"] == "shmget"
    (tmp_path / "a.toml").write_text(
        '[syscalls]\ndefault = "errno"\nrule = [{ names = ["read", "ioctl"], action = "allow" }]'
    )
    (tmp_path / "b.toml").write_text(
        '[syscalls]\ndefault = "errno"\nrule = [{ names = ["write"], action = "allow" },'
        '{ names = ["ioctl"], action = "allow", when = ["arg1 == 1"] }, { names = ["read"], action = "kill" }]'
    )
    made = read.loads(profile("merge", "./a.toml", "./b.toml", cwd=tmp_path))
    table = made.table()
    assert table is not None
    assert [table.decide(number, (0,) * 6).kind for number in (0, 1, 16, 2)] == ["allow", "allow", "allow", "errno"]
    assert "do not agree" in profile("merge", "./a.toml", "./c.toml", status=2, cwd=_other(tmp_path))


def _other(path: Path) -> Path:
    (path / "c.toml").write_text('[syscalls]\ndefault = "errno"\n[cpu]\nweight = 3\n')
    return path


def test_build(tmp_path: Path) -> None:
    data = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read", "vm86"], "action": "SCMP_ACT_ALLOW"}]}
    (tmp_path / "s.json").write_text(json.dumps(data))
    done = rvisor("profile", "build", "s.json", cwd=tmp_path)
    assert 'names = ["read"]' in done.out and "unknown names, left out: vm86" in done.err
    assert profile("build", "--kind", "seccomp", "s.json", "-o", "s.toml", cwd=tmp_path) == ""
    assert json.loads(profile("show", "--seccomp", "./s.toml", cwd=tmp_path))["syscalls"][0]["names"] == ["read"]
    (tmp_path / "bad.json").write_text('{"defaultAction": }')
    assert "bad.json:1:19: Expecting value" in profile("build", "bad.json", status=2, cwd=tmp_path)
    (tmp_path / "list.json").write_text("[]")
    assert "list.json: not an object" in profile("build", "list.json", status=2, cwd=tmp_path)
    (tmp_path / "act.json").write_text('{"defaultAction": "SCMP_ACT_NO"}')
    assert "act.json:1:2: defaultAction: 'SCMP_ACT_NO'" in profile("build", "act.json", status=2, cwd=tmp_path)
    assert "no capability 'NO'" in profile("build", "--cap", "CAP_NO", "s.json", status=2, cwd=tmp_path)
    assert "denies already" in profile("build", "--allow-list", "s.json", status=2, cwd=tmp_path)
    assert "read" in profile("build", "/bin/true")


def test_learn_from_a_trace(tmp_path: Path) -> None:
    (tmp_path / "t").write_text('[1] socket(family=2, type=1, protocol=0) = 3\n[1] read(fd=3, buf="x", count=1) = 1\n')
    profile("learn", "--trace", "t", "-o", "mine.toml", cwd=tmp_path)
    hand = tmp_path / "mine.toml"
    hand.write_text(hand.read_text() + '[syscalls]\nrule = [{ names = ["uname"], action = "kill" }]\n')
    (tmp_path / "t").write_text(
        "77 socket(0xa, 0x1, 0) = 0x3\n77 chdir(0x7f) = 0\n+++ exited +++\n77 <... read resumed>) = 1\n"
    )
    done = rvisor("profile", "learn", "--trace", "t", "-o", "mine.toml", cwd=tmp_path)
    assert "new: chdir" in done.err
    names = profile("show", "--calls", "./mine.toml", cwd=tmp_path).split()
    assert {"socket", "read", "chdir", "execve"} <= set(names) and "uname" not in names
    assert "socket: allow if arg0:32 in {2, 0xa}" in profile("explain", "./mine.toml", "socket", cwd=tmp_path)
    assert "uname: kill" in profile("explain", "./mine.toml", "uname", cwd=tmp_path)
    profile("learn", "--trace", "t", "--fresh", "-o", "mine.toml", cwd=tmp_path)
    assert "read" not in profile("show", "--calls", "./mine.toml", cwd=tmp_path).split()
    (tmp_path / "t").write_text("nothing\n")
    assert "no system call was seen" in profile("learn", "--trace", "t", "-o", "x.toml", status=2, cwd=tmp_path)


def test_show() -> None:
    assert {"default", "zcore57"} <= {row["name"] for row in json.loads(profile("show", "--json"))}
    schema = json.loads(profile("show", "--schema"))
    assert schema["properties"]["syscalls"]["properties"]["rule"]["items"]["required"] == ["names", "action"]
    assert "ret 0x50001" in profile("show", "--filter", "default")
    assert json.loads(profile("show", "--json", "default"))["name"] == "default"


@pytest.mark.parametrize("name", read.shipped())
def test_what_is_written_is_what_was_read(name: str) -> None:
    made = read.load(name)
    again = read.loads(write.toml(made))
    assert again.table() == made.table()
    for part in ("capabilities", "cpu", "memory", "network", "kernel_log", "description", "name"):
        assert getattr(again, part) == getattr(made, part)
