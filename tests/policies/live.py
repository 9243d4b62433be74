"""Policies on a container at work: `make test-policies`; root, control groups, hackbench (rt-tests). Two minutes.

What is switched is a real load; nothing of it may be lost, and after a switch no thread may be without it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rvisor._sentry.cgroup import get as read
from rvisor._sentry.cgroup import put as write
from rvisor.policy import cpu, load, memory, voting
from rvisor.policy.container import Container, hierarchies
from rvisor.policy.controller import Controller
from rvisor.policy.errors import PolicyError
from rvisor.profile.model import Cpu, Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SWITCHES = (
    Cpu(policy="fifo"),
    Cpu(policy="batch"),
    Cpu(policy="normal", slice=3_000_000),
    Cpu(policy="rr", priority=5),
    Cpu(policy="idle"),
    Cpu(policy="normal", slice=0, weight=50, quota=1.5),
    Cpu(quota=0, cores=(0,)),
    Cpu(cores=tuple(range(os.cpu_count() or 1)), weight=100),
)


class Group:
    """Control groups of a test's own in every hierarchy, and what is started in them."""

    def __init__(self, name: str) -> None:
        self.paths = [os.path.join(top, f"rvisor-policy-{name}-{os.getpid()}") for top in hierarchies()]
        for path in self.paths:
            os.makedirs(path, exist_ok=True)
            for file in ("cpuset.mems", "cpuset.cpus"):
                if os.path.exists(os.path.join(path, file)):
                    write(os.path.join(path, file), read(os.path.join(os.path.dirname(path), file)))
        self.container = Container.of_groups(name, self.paths)
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *command: str) -> subprocess.Popen[str]:
        def enter() -> None:
            for path in self.paths:
                write(os.path.join(path, "cgroup.procs"), str(os.getpid()))

        process = subprocess.Popen(
            command, preexec_fn=enter, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.started.append(process)
        return process

    def close(self) -> None:
        end = time.monotonic() + 20
        while (left := self.container.processes()) and time.monotonic() < end:
            for pid in left:
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    continue
            time.sleep(0.05)
        for process in self.started:
            process.communicate(timeout=20)
        for path in self.paths:
            os.rmdir(path)


@pytest.fixture
def group() -> Iterator[Callable[[str], Group]]:
    if os.geteuid() != 0:
        pytest.fail("needs root")
    made: list[Group] = []

    def make(name: str) -> Group:
        made.append(Group(name))
        return made[-1]

    yield make
    for one in made:
        one.close()


def hackbench(one: Group, *words: str) -> subprocess.Popen[str]:
    if shutil.which("hackbench") is None:
        pytest.fail("hackbench is missing: install rt-tests")
    return one.start("hackbench", *words)


@pytest.mark.parametrize("words", [("-P",), ("-T",)], ids=["processes", "threads"])
def test_switching_loses_no_task(group: Callable[[str], Group], words: tuple[str, ...]) -> None:
    one = group("switch")
    process = hackbench(one, *words, "-g", "5", "-f", "10", "-l", "8000")
    switches = 0
    while process.poll() is None:
        wanted = SWITCHES[switches % len(SWITCHES)]
        try:
            cpu.apply(wanted, one.container)
        except PolicyError as error:
            # It has ended meanwhile.
            assert not one.container.alive(), error
            break
        if wanted.policy is not None and process.poll() is None:
            classes = cpu.show(one.container)["classes"]
            detail = f" {wanted.priority or 1}" if wanted.policy in cpu.REAL_TIME else ""
            assert set(classes) <= {wanted.policy + detail}
        switches += 1
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "Time:" in said
    assert switches >= len(SWITCHES)
    print(f"\n{switches} switches, {said.strip().splitlines()[-1]}")


def test_a_storm_of_forks_leaves_nobody_behind(group: Callable[[str], Group]) -> None:
    one = group("storm")
    storm = "for k in 1 2 3; do while :; do /bin/true & /bin/true; done & done; wait"
    one.start("/bin/sh", "-c", storm)
    time.sleep(0.5)
    for wanted in [Cpu(policy="batch"), Cpu(policy="normal"), Cpu(policy="idle"), Cpu(policy="fifo")] * 5:
        began = time.monotonic()
        cpu.apply(wanted, one.container)
        took = time.monotonic() - began
        for _ in range(5):
            assert {name.split()[0] for name in cpu.show(one.container)["classes"]} == {wanted.policy}
        assert took < 5.0


def test_the_adaptive_rule_on_real_loads(group: Callable[[str], Group]) -> None:
    busy, calm = group("busy"), group("calm")
    hackbench(busy, "-g", "5", "-f", "10", "-l", "1000000")
    calm.start("sleep", "60")
    chosen = {}
    for one in (busy, calm):
        cpu.apply(Cpu(policy="batch"), one.container)
        # Others may use the machine: what is busy there is less.
        options = {"busy_percent": 5, "calm_percent": 4, "busy_switches": 300, "calm_switches": 200}
        decider = load.load("cpu", "adaptive", options)
        for event in Controller("cpu", one.container, decider).run(interval=0.5, windows=20):
            assert event["error"] == ""
            print(one.container.name, event["reason"], event["decision"])
            if event["decision"] is not None:
                chosen[one.container.name] = event["decision"]
                break
    assert chosen == {"busy": {"policy": "normal"}, "calm": {"policy": "fifo"}}
    assert set(cpu.show(busy.container)["classes"]) == {"normal"}
    assert set(cpu.show(calm.container)["classes"]) == {"fifo 1"}


def test_first_in_first_out_inside_and_fair_outside(group: Callable[[str], Group]) -> None:
    """Two that compute in one container, on one CPU: in turn, not at once. The budget leaves the other its share."""
    one, other = group("fifo"), group("fair")
    code = "import time, sys; n = 0\nwhile n < 12000000: n += 1\nprint(sys.argv[1], time.monotonic())"
    beside = other.start(sys.executable, "-c", "while True: pass")
    cpu.apply(Cpu(cores=(0,)), one.container)
    cpu.apply(Cpu(cores=(0,)), other.container)
    pair = [one.start(sys.executable, "-c", code, name) for name in "ab"]
    cpu.apply(Cpu(policy="fifo"), one.container)
    began = time.monotonic()
    ends = [float(process.communicate(timeout=100)[0].split()[1]) for process in pair]
    took = max(ends) - began
    print(f"\nin turn: the first after {(min(ends) - began) / took:.0%} of the time of both")
    assert (min(ends) - began) / took < 0.7
    shares = {}
    for who in (one, other):
        shares[who.container.name] = int(read(str(who.container.file("cpuacct.usage")))) / 1e9 / took
    print(", ".join(f"{name} {share:.0%}" for name, share in shares.items()))
    assert shares["fifo"] < 0.5
    assert shares["fair"] > 0.1
    beside.kill()


def test_limits_and_swappiness(group: Callable[[str], Group]) -> None:
    one = group("limits")
    one.start("sleep", "60")
    memory.apply(Memory(max=256 << 20, high=128 << 20), one.container)
    shown = memory.show(one.container)
    assert (shown["max"], shown["high"]) == (256 << 20, 128 << 20)
    memory.apply(Memory(high=0), one.container)
    assert memory.show(one.container)["high"] is None
    if one.container.file("memory.swappiness") is not None:
        memory.apply(Memory(swappiness=7), one.container)
        assert memory.show(one.container)["swappiness"] == 7


def test_a_vote_collapses_what_the_majority_owns(group: Callable[[str], Group]) -> None:
    """Three hundred of 512 pages are the first one's."""
    first, second = group("first"), group("second")
    path = Path("/dev/shm", f"rvisor-vote-{os.getpid()}")
    code = (
        "import ctypes, sys, time; path, low, high = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])\n"
        "f = open(path, 'r+b'); call = ctypes.CDLL(None).mmap; call.restype = ctypes.c_void_p\n"
        "call.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]\n"
        "at = call(0x600000000000, 4 << 20, 3, 0x100001, f.fileno(), 0)\n"
        "for page in [*range(low, high), *range(512 + low, 512 + high)]:\n    ctypes.memset(at + page * 4096, 1, 1)\n"
        "print('ready', flush=True); time.sleep(60)\n"
    )
    try:
        path.write_bytes(b"")
        os.truncate(path, 4 << 20)
        pair = []
        for one, low, high in ((first, 0, 300), (second, 300, 512)):
            process = one.start(sys.executable, "-c", code, str(path), str(low), str(high))
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            pair.append(process)
        containers = [first.container, second.container]
        against = voting.ballot(containers, {"first": False, "second": True})
        assert against and not any(outcome.huge or outcome.collapsed for outcome in against)
        outcomes = voting.ballot(containers, {"first": True, "second": False})
        print("\n", outcomes)
        assert [outcome.votes for outcome in outcomes] == [{"first": 300, "second": 212}] * 2
        assert all(outcome.huge for outcome in outcomes)
        assert all(outcome.collapsed for outcome in outcomes), [outcome.error for outcome in outcomes]
    finally:
        path.unlink()
