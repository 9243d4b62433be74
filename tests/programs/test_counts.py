"""Counts that no machine changes: what a guest's call on the hot path asks of the host, and of the sentry's heap."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import struct
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framework import busy
from rvisor import Sandbox
from rvisor.bench import load
from rvisor.bench.native import compile_c

pytestmark = [pytest.mark.usefixtures("binaries"), pytest.mark.timeout(120)]

TRIES = 5
SECONDS = 0.2
WARM = 0.1
"""Of the calls, the part that may be something else's: the start and the end of the program that makes them."""

HOT = 0.1
"""Host calls for each guest call, on a machine with a CPU to spare: none but those of getting hot."""
COLD = 8.0
"""The same where the kernel is rung for each call: a wake-up, a notification taken and answered, what comes between."""
ALLOCATIONS = {"getppid": 0, "pread 4 KiB": 0, "stat": 2}
"""On the sentry's heap, for each call."""


@pytest.fixture(scope="module")
def program() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="rvisor-counts-") as work:
        os.chmod(work, 0o755)
        yield compile_c(load.SOURCE, work)


@contextlib.contextmanager
def host_calls(pid: int) -> Iterator[Any]:
    """Counts the host calls of a process's main thread (perf_event_open(2)); gives what reads the count."""
    events = Path("/sys/kernel/tracing/events/raw_syscalls/sys_enter/id")
    if not events.exists():
        # Mounted by whoever needs it first; it stays as perf(1) leaves it.
        ctypes.CDLL(None).mount(b"tracefs", b"/sys/kernel/tracing", b"tracefs", 0, None)
    tracepoint, size, open_event, close_on_exec = 2, 64, 298, 8
    attributes = struct.pack("=IIQ", tracepoint, size, int(events.read_text())).ljust(size, b"\0")
    fd = ctypes.CDLL(None, use_errno=True).syscall(open_event, attributes, pid, -1, -1, close_on_exec)
    assert fd >= 0, f"perf_event_open: {os.strerror(ctypes.get_errno())}"
    try:
        yield lambda: struct.unpack("Q", os.read(fd, 8))[0]
    finally:
        os.close(fd)


def counted(program: str, call: str) -> tuple[int, int, int]:
    """One thread makes the call for a while: how many calls, host calls of the sentry, allocations."""
    here = os.path.dirname(program)
    ours, theirs = os.pipe(), os.pipe()
    with Sandbox(volumes=[f"{here}:{here}:ro"], cwd="/tmp") as box, open(ours[0]) as said:
        args = ["/bin/sh", "-c", '"$@"; read line', "sh", program, "/tmp", str(SECONDS), "1", call]
        running = box.start(args, stdin=theirs[0], stdout=ours[1], control=True)
        try:
            assert running.control is not None
            running.wait_until_loaded()
            assert said.readline() == "ready\n"
            with host_calls(running.pid) as calls:
                stats, before = running.control.stats(), calls()
                os.write(theirs[1], b"\n")
                line = json.loads(said.readline())
                asked = calls() - before
                allocated = running.control.stats()["allocations"] - stats["allocations"]
            assert line["name"] == call
            return line["calls"], asked, allocated
        finally:
            running.close()
            for fd in (ours[1], *theirs):
                os.close(fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="counting another process's calls needs root")
@pytest.mark.parametrize("call", ALLOCATIONS)
def test_a_hot_call_asks_nothing_of_the_host_and_the_heap(program: str, call: str) -> None:
    hosts: list[float] = []
    heaps: list[float] = []
    others: list[float] = []
    for _ in range(TRIES):
        with busy.Others() as used:
            calls, asked, allocated = counted(program, call)
        assert calls > 100
        hosts.append(asked / calls)
        heaps.append(allocated / calls)
        others.append(used.cpus)
        print(f"{call}: {calls} calls, {asked} host calls, {allocated} allocations, others used {used.cpus:.2f} CPUs")
        if hosts[-1] < HOT and heaps[-1] < ALLOCATIONS[call] + WARM:
            return
        time.sleep(0.2)
    assert min(heaps) < ALLOCATIONS[call] + WARM, heaps
    assert min(hosts) < COLD, hosts
    if min(hosts) >= HOT:
        # With no CPU to spare nobody looks for calls; then the doorbell's own cost is what is held.
        assert min(others) > busy.OTHERS, f"others used {min(others):.2f} CPUs, and {min(hosts):.2f} host calls a call"
        warnings.warn(f"{call}: the machine is busy, only the cold path was counted: {min(hosts):.2f}", stacklevel=1)
