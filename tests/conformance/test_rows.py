"""Every row of the table is made by the guest programs, with a success and with an error, as `--strace` tells."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from framework import inside
from framework.guests import PRIVILEGED, PROGRAMS, SECONDS, compiled

LINE = re.compile(r"\[\d+\] (\w+)\(.*\) = (-1 E)?")

NO_ERROR = {
    "alarm", "brk", "exit", "exit_group", "fork", "getegid", "geteuid", "getgid", "getpgrp", "getpid", "getppid",
    "gettid", "getuid", "munlockall", "rt_sigreturn", "sched_yield", "set_tid_address", "setfsgid", "setfsuid",
    "sync", "umask", "vfork",
}  # fmt: skip
"""Calls that have no error, or only want of memory or of processes."""

ELSEWHERE = {
    "restart_syscall": "made by the kernel itself, when a stopped sleep goes on",
    "sethostname": "its success would rename the host that is the oracle",
    "setdomainname": "as sethostname",
    "clock_settime": "its success would set the host's clock",
    "personality": "only READ_IMPLIES_EXEC is refused, and natively it is not",
    "io_cancel": "what is submitted is done before it could be cancelled",
    "pause": "it only ever ends with EINTR",
    "rt_sigsuspend": "as pause",
    **dict.fromkeys(
        ("getcpu", "getresgid", "getresuid", "gettimeofday", "pipe", "sysinfo", "time", "times", "uname"),
        "its only error is EFAULT, tried in raw.c; the stub finds it when it copies the result, after the trace",
    ),
    "eventfd": "its only errors are want of descriptors, tried with eventfd2",
}
"""Rows for which one of the two is not tried here, and why."""


@pytest.mark.usefixtures("binaries")
def test_every_row_is_tried(tmp_path: Path) -> None:
    done, failed = set(), set()
    for program in PROGRAMS:
        trace = tmp_path / f"{program}.strace"
        options = ["--strace=" + str(trace), "-w", "/var/tmp", "--timeout", str(SECONDS)]
        options += ["--privileged"] if program in PRIVILEGED else []
        ran = inside.rvisor("run", *options, "--", str(compiled(program)), timeout=SECONDS + 30)
        assert ran.status == 0, ran.err
        for line in trace.read_text(errors="replace").splitlines():
            if found := LINE.match(line):
                (failed if found[2] else done).add(found[1])
    listed = inside.rvisor("syscalls", "--json")
    rows = json.loads(listed.out)
    rows = rows["syscalls"] if isinstance(rows, dict) else rows
    names = {row["name"] for row in rows}
    refused = {row["name"] for row in rows if row["support"] == "refused"}
    assert len(names) > 200
    missing = [f"{name}: no success" for name in sorted(names - done - refused - ELSEWHERE.keys())]
    missing += [f"{name}: no error" for name in sorted(names - failed - NO_ERROR - ELSEWHERE.keys())]
    assert not missing, "\n".join(missing)
    stale = sorted((NO_ERROR | ELSEWHERE.keys()) - names)
    assert not stale, f"not in the table: {stale}"
