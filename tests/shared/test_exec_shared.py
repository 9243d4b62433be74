"""`rvisor exec`, `top` and `ps` of a container that runs on the host's kernel."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from framework import inside
from framework.shared import running

pytestmark = pytest.mark.timeout(120)

RULES = """
[syscalls]
default = "allow"
[[syscalls.rule]]
names = ["mkdir"]
action = "errno"
[capabilities]
keep = ["KILL", "CHOWN"]
[[files.rule]]
paths = ["/secret"]
allow = ""
"""


def test_one_more_program(tmp_path: Path) -> None:
    """In its namespaces and groups, behind its filter, its ceiling and its file rules; its status is its own."""
    (tmp_path / "p.toml").write_text(RULES)
    (tmp_path / "secret").write_text("SECRET\n")
    more = ("--profile", str(tmp_path / "p.toml"), "-v", f"{tmp_path}/secret:/secret", "--memory", "64m")
    with running("--name", "one", "--hostname", "inner", *more, "--", "sleep", "100"):
        script = "hostname; grep -E 'CapBnd|NoNewPrivs|^Seccomp:' /proc/self/status; cat /secret; mkdir /tmp/new; dmesg"
        done = inside.rvisor("exec", "one", "sh", "-c", f"{script} | head -n 1; exit 7")
        lines = done.out.splitlines()
        assert done.status == 7 and lines[0] == "inner", done
        assert lines[1:4] == ["CapBnd:\t0000000000000021", "NoNewPrivs:\t1", "Seccomp:\t2"], lines
        assert "vkernel" in lines[4], lines
        assert "SECRET" not in done.out and "secret: Permission denied" in done.err
        assert "Operation not permitted" in done.err
        groups = inside.rvisor("exec", "one", "cat", "/proc/self/cgroup").out.splitlines()
        assert "memory:/" in "".join(groups) or "0::/" in "".join(groups)
        assert inside.rvisor("exec", "-i", "one", "cat", stdin="given\n").out == "given\n"
        who = inside.rvisor(
            "exec", "-u", "65534:65534", "-e", "A=b", "-w", "/tmp", "one", "sh", "-c", "id -u; pwd; echo $A"
        )
        assert who.out == "65534\n/tmp\nb\n", who
        assert inside.rvisor("exec", "one", "no-such-program").status == 127
        assert inside.rvisor("exec", "one", "/etc").status == 126
        assert inside.rvisor("exec", "one", "sh", "-c", "kill -9 $$").status == 137
        assert inside.rvisor("exec", "none-such", "true").status == 125


def test_what_runs_in_it() -> None:
    """By the container's own pids, with what came in later; it ends with the container."""
    with running("--name", "seen", "--", "sh", "-c", "sleep 101; true") as process:
        assert inside.rvisor("exec", "-d", "seen", "sleep", "102").status == 0
        top = json.loads(inside.rvisor("top", "--json", "seen").out)
        found = {" ".join(one["args"]): one for one in top["processes"]}
        assert {"sleep 101", "sleep 102"} <= set(found), found
        assert found["sleep 101"]["ppid"] == 1 and found["sleep 102"]["ppid"] == 0
        assert found["sh -c sleep 101; true"]["pid"] == 1 and top["stats"]["processes"] == 3
        assert abs(time.time() - found["sleep 102"]["started_ns"] / 1e9) < 60
        assert "sleep 102" in inside.rvisor("top", "seen").out and "seen" in inside.rvisor("ps").out
        assert inside.rvisor("kill", "seen").status == 0
        assert process.wait(timeout=20) == 137
        end = time.monotonic() + 10
        later = found["sleep 102"]["host_pid"]
        while os.path.exists(f"/proc/{later}") and time.monotonic() < end:
            time.sleep(0.02)
        assert not os.path.exists(f"/proc/{later}")
    assert inside.rvisor("top", "seen").status == 2


def test_a_terminal() -> None:
    """One of the caller's own: its size is told, and what is typed comes through."""
    import pty

    script = "test -t 0 && stty size; read x; echo got $x"
    argv = [sys.executable, "-m", "rvisor", "exec", "-it", "tty", "sh", "-c", script]
    with running("--name", "tty", "--", "sleep", "100"):
        pid, master = pty.fork()
        if pid == 0:
            os.execve(argv[0], argv, {**os.environ, "PYTHONPATH": str(inside.ROOT / "python")})
        os.write(master, b"word\n")
        said = b""
        try:
            while True:
                said += os.read(master, 1000)
        except OSError:
            os.close(master)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, said
        assert b"24 80" in said and b"got word" in said, said
