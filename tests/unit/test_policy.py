"""CPU and memory policies: what is said, decided and set; live processes where that takes no time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rvisor.cli import main as rvisor
from rvisor.errors import UsageError
from rvisor.policy import calls, cpu, inject, load, memory, metrics, together, voting
from rvisor.policy.container import Container, settle
from rvisor.policy.controller import Controller
from rvisor.policy.errors import PolicyError
from rvisor.policy.policies import Adaptive, Headroom, Slices
from rvisor.profile.model import Cpu, Memory, Profile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def window(**said: object) -> metrics.CpuMetrics:
    plain: dict[str, object] = {
        "window_s": 1.0,
        "threads": 4,
        "policy": "normal",
        "cpus": 2.0,
        "cpu_percent": 0.0,
        "voluntary_per_s": 0.0,
        "involuntary_per_s": 0.0,
        "waiting_percent": 0.0,
        "throttled": None,
        "pressure_percent": None,
    }
    return metrics.CpuMetrics(**(plain | said))  # type: ignore[arg-type]


def memory_window(**said: object) -> metrics.MemoryMetrics:
    fields = metrics.MemoryMetrics.__annotations__
    plain = {name: (None if "None" in kind else 0) for name, kind in fields.items()}
    return metrics.MemoryMetrics(**(plain | said))  # type: ignore[arg-type]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


# What is said


@pytest.mark.parametrize(
    ("wanted", "word"),
    [
        (Cpu(policy="best"), "policy"),
        (Cpu(policy="fifo", priority=100), "priority"),
        (Cpu(policy="batch", priority=1), "priority"),
        (Cpu(policy="rr", nice=1), "nice"),
        (Cpu(nice=20), "nice"),
        (Cpu(slice=99_999), "slice"),
        (Cpu(weight=0), "weight"),
        (Cpu(quota=0.001), "quota"),
        (Cpu(cores=(4095,)), "cores"),
        (Cpu(cores=()), "cores"),
    ],
)
def test_cpu_settings_refused(wanted: Cpu, word: str) -> None:
    with pytest.raises(PolicyError, match=rf"cpu\.{word}"):
        cpu.check(wanted)


@pytest.mark.parametrize(
    ("wanted", "word"),
    [
        (Memory(max=-1), "max"),
        (Memory(max=1 << 20, high=2 << 20), "high"),
        (Memory(swappiness=201), "swappiness"),
        (Memory(overcommit="maybe"), "overcommit"),
        (Memory(overcommit="never", overcommit_ratio=10, overcommit_kbytes=10), "overcommit_ratio"),
        (Memory(thp="some"), "thp"),
    ],
)
def test_memory_settings_refused(wanted: Memory, word: str) -> None:
    with pytest.raises(PolicyError, match=word):
        memory.check(wanted)


def test_cores() -> None:
    assert cpu.cores("0-2,5") == (0, 1, 2, 5)
    assert cpu.ranges_of((5, 0, 1, 2)) == "0-2,5"
    for text in ("", "a", "3-1", "0,,1", "-1", "0-99999", "1-"):
        with pytest.raises(PolicyError, match="cores"):
            cpu.cores(text)


def test_weights_of_both_versions_meet_in_their_defaults() -> None:
    assert cpu.shares(100) == 1024
    assert cpu.shares(1) == 10
    assert cpu.shares(10_000) == 102_400


# The seed's rule


@pytest.mark.parametrize(
    ("percent", "switches", "chosen"),
    [
        (71, 1001, "normal"),
        (70, 1001, None),
        (71, 1000, None),
        (49, 499, "fifo"),
        (50, 499, None),
        (49, 500, None),
        (60, 700, None),
        (99, 10, None),
        (10, 9000, None),
    ],
)
def test_adaptive(percent: float, switches: float, chosen: str | None) -> None:
    rule = Adaptive(hold=1)
    said = rule.decide(window(cpu_percent=percent, voluntary_per_s=switches / 2, involuntary_per_s=switches / 2))
    assert said == (None if chosen is None else Cpu(policy=chosen))


def test_adaptive_waits_for_a_second_window() -> None:
    rule = Adaptive()
    busy = window(cpu_percent=90, voluntary_per_s=5000)
    calm, between = window(), window(cpu_percent=60, voluntary_per_s=700)
    assert rule.decide(busy) is None
    assert rule.decide(calm) is None
    assert rule.decide(calm) == Cpu(policy="fifo")
    assert rule.decide(between) is None
    assert rule.decide(busy) is None
    assert rule.decide(busy) == Cpu(policy="normal")


def test_slices() -> None:
    rule = Slices()
    assert rule.decide(window(voluntary_per_s=10)) is None
    assert rule.decide(window(waiting_percent=50, involuntary_per_s=100)) == Cpu(slice=10_000_000)
    assert rule.decide(window(waiting_percent=50, voluntary_per_s=100)) == Cpu(slice=700_000)


def test_headroom() -> None:
    rule = Headroom()
    assert rule.decide(memory_window()) is None
    assert rule.decide(memory_window(used=100 << 20)) == Memory(high=125 << 20)
    assert rule.decide(memory_window(used=100 << 20, high=120 << 20)) is None
    assert rule.decide(memory_window(used=100 << 20, high=120 << 20, pressure_percent=9.0)) == Memory(high=200 << 20)
    assert rule.decide(memory_window(used=100 << 20, max=110 << 20)) == Memory(high=110 << 20)


# A user's class


def user_policy(tmp_path: Path, body: str) -> str:
    path = tmp_path / "mine.py"
    path.write_text(
        "import os, time\nfrom rvisor.policy.policies import Cpu, CpuPolicy\n\nclass Mine(CpuPolicy):\n"
        "    def __init__(self, limit=50):\n        self.limit = limit\n\n"
        f"    def decide(self, metrics):\n        {body}\n"
    )
    return str(path)


def decided(spec: str, times: int = 1, **options: object) -> list[object]:
    decider = load.load("cpu", spec, options)
    answers: list[object] = []
    try:
        for _ in range(times):
            try:
                answers.append(decider.decide(window(cpu_percent=60)))
            except PolicyError as error:
                answers.append(str(error))
        answers.append(decider.given_up)
    finally:
        decider.close()
    return answers


def test_a_users_class_decides(tmp_path: Path) -> None:
    body = (
        "print('seen'); self.reason = 'mine'\n"
        "        return Cpu(policy='batch', cores=(0,)) if metrics.cpu_percent > self.limit else None"
    )
    spec = user_policy(tmp_path, body)
    assert decided(spec) == [(Cpu(policy="batch", cores=(0,)), "mine"), False]
    assert decided(spec + ":Mine", limit=70) == [(None, "mine"), False]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("raise ValueError('broken')", "ValueError: broken (mine.py, line 9)"),
        ("os._exit(3)", "ended with status 3"),
        ("raise SystemExit(4)", "ended with status 4"),
        ("return 'fifo'", "'fifo' is no setting"),
        ("return Cpu(nice='high')", "nice = 'high'"),
    ],
)
def test_a_users_class_fails(tmp_path: Path, body: str, word: str) -> None:
    answers = decided(user_policy(tmp_path, body), 3)
    assert all(word in str(answer) for answer in answers[:3])
    assert "asked no more" in str(answers[2])
    assert answers[3] is True


def test_a_users_class_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "DECISION_SECONDS", 0.2)
    assert "no decision within 0.2 s" in str(decided(user_policy(tmp_path, "time.sleep(60)"))[0])


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ("nothing", "there is no cpu policy"),
        ("/nowhere/mine.py", "No such file"),
        ("json:dumps", "not derived"),
        ("no_such_module:X", "No module"),
        ("rvisor.policy.policies:CpuPolicy", "abstract"),
    ],
)
def test_policies_that_are_none(spec: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        load.load("cpu", spec)


def test_options_of_built_in_policies() -> None:
    with pytest.raises(UsageError, match="colour"):
        load.load("cpu", "adaptive", {"colour": 1})
    with pytest.raises(UsageError, match="thresholds"):
        load.load("cpu", "adaptive", {"calm_percent": 90})


def test_a_failing_policy_leaves_the_container_as_it_is(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    container = Container.of_pid(sleeper.pid)
    decider = load.load("cpu", user_policy(tmp_path, "return Cpu(policy='batch', weight=5)"))
    try:
        event = Controller("cpu", container, decider).step()
    finally:
        decider.close()
    assert "no control group of its own" in event["error"]
    assert os.sched_getscheduler(sleeper.pid) == os.SCHED_OTHER


# Setting it


class Forking(Container):
    """Threads that are born while the container is looked at."""

    def __init__(self, rounds: list[list[int]]) -> None:
        super().__init__("forking")
        self._rounds = rounds

    def tasks(self) -> list[int]:
        return self._rounds.pop(0) if len(self._rounds) > 1 else self._rounds[0]


def test_threads_born_meanwhile_are_set_as_well() -> None:
    done: set[int] = set()

    def step(task: int) -> bool:
        if task == 9:
            raise ProcessLookupError
        had = task in done
        done.add(task)
        return had

    rounds = [[1], [1, 9], [1, 2], [1, 2, 3], [1, 2, 3, 4]]
    assert settle(Forking(rounds), step) == 4
    assert done == {1, 2, 3, 4}


def test_a_container_that_never_rests_is_frozen_for_it() -> None:
    frozen: list[bool] = []

    def freeze(stop: bool) -> bool:
        frozen.append(stop)
        return True

    assert settle(Forking([[1]]), lambda task: False, freeze=freeze) == 1
    assert frozen == [True, False]
    with pytest.raises(PolicyError, match="faster"):
        settle(Forking([[1]]), lambda task: False)


def test_classes_and_slices_are_set_and_inherited() -> None:
    code = "import subprocess, sys; input(); subprocess.run(['sleep', '60'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        try:
            container = Container.of_pid(process.pid)
            cpu.apply(Cpu(policy="batch", slice=5_000_000, cores=(0,)), container)
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
            end = time.monotonic() + 10
            while len(container.processes()) < 2 and time.monotonic() < end:
                time.sleep(0.01)
            shown = cpu.show(container)
            assert shown["classes"] == {"batch": 2}
            assert shown["slices_ns"] == {5_000_000: 2}
            assert shown["cores"] == [0]
            cpu.apply(Cpu(policy="normal", slice=0), container)
            assert cpu.show(container)["slices_ns"] == {cpu.base_slice_ns(): 2}
        finally:
            for pid in container.processes():
                os.kill(pid, 9)


def test_groups_of_version_2(tmp_path: Path) -> None:
    files = {"cpu.weight": "100", "cpu.max": "max 100000", "memory.max": "max", "memory.high": "max"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    container = Container.of_groups("made", [str(tmp_path)])
    cpu.apply(Cpu(weight=250, quota=1.5), container)
    memory.apply(Memory(max=64 << 20, high=0), container)
    got = {name: (tmp_path / name).read_text() for name in files}
    # Plain files keep what was behind the end of what is written.
    assert got["cpu.weight"] == "250"
    assert got["cpu.max"] == "150000 100000"
    assert got["memory.max"] == str(64 << 20)
    assert got["memory.high"] == "max"
    with pytest.raises(PolicyError, match=r"memory\.swappiness: made: its control groups have no"):
        memory.apply(Memory(swappiness=10), container)


def test_the_hosts_own_groups_are_never_written() -> None:
    from rvisor.policy.container import hierarchies

    assert Container.of_groups("host", hierarchies()).groups == []
    for path in ("/", "..", *hierarchies()):
        with pytest.raises(UsageError, match="whole host"):
            Container.of_cgroup(path)


def test_a_call_in_a_running_process(sleeper: subprocess.Popen[bytes]) -> None:
    try:
        memory.apply(Memory(thp="never", overcommit="never", overcommit_kbytes=1 << 20), Container.of_pid(sleeper.pid))
    except PolicyError as error:
        pytest.skip(f"processes cannot be traced here: {error}")
    shown = memory.show(Container.of_pid(sleeper.pid))
    assert shown["thp_disabled"] == 1
    assert shown["commit_limits"] == [1 << 30]
    with pytest.raises(OSError, match="Invalid argument"):
        inject.prctl(sleeper.pid, 9999)
    os.kill(sleeper.pid, 19)
    inject.prctl(sleeper.pid, 41, 0)
    end = time.monotonic() + 5
    while (state := Path(f"/proc/{sleeper.pid}/stat").read_text().rpartition(")")[2].split()[0]) != "T":
        assert time.monotonic() < end, state
        time.sleep(0.01)
    sleeper.kill()
    sleeper.wait()
    with pytest.raises(ProcessLookupError):
        inject.prctl(sleeper.pid, 9999)


def test_more_than_was_promised_is_refused() -> None:
    wanted = Memory(overcommit="never", overcommit_kbytes=200 << 10)
    (limit,) = memory.before_exec(wanted).rlimits
    code = (
        "import mmap, resource, sys; n = int(sys.argv[1]); resource.setrlimit(resource.RLIMIT_DATA, (n, n))\n"
        "mmap.mmap(-1, 100 << 20, flags=mmap.MAP_PRIVATE)\n"
        "try:\n    mmap.mmap(-1, 300 << 20, flags=mmap.MAP_PRIVATE)\nexcept OSError as error:\n    print(error.errno)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(limit[1])], capture_output=True, text=True, timeout=20)
    assert limit == ("DATA", 200 << 20)
    assert done.stdout == "12\n", done.stderr


def test_heuristic_overcommit_as_rules() -> None:
    assert memory.rules(Memory(overcommit="heuristic")) == ()
    assert memory.rules(Memory(overcommit="always", max=1 << 30)) == ()
    mapped, grown = memory.rules(Memory(overcommit="heuristic", max=1 << 30))

    def refused(length: int, prot: int, flags: int) -> bool:
        return all(condition.holds((0, length, prot, flags, 0, 0)) for condition in mapped.when)

    assert refused(2 << 30, 3, 0x22)
    assert not refused(1 << 30, 3, 0x22)
    assert not refused(2 << 30, 1, 0x22)
    assert not refused(2 << 30, 3, 0x4022)
    assert not refused(2 << 30, 3, 0x21)
    assert grown.names == ("mremap",)
    with pytest.raises(PolicyError, match="rules of the filter"):
        memory.apply(Memory(overcommit="heuristic", max=1 << 30), Container("none"))


# As a whole


def test_a_profile_is_put_on_as_a_whole_or_not_at_all(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    (tmp_path / "cpu.weight").write_text("100")
    (tmp_path / "cgroup.threads").write_text(str(sleeper.pid))
    (tmp_path / "cgroup.procs").write_text(str(sleeper.pid))
    container = Container.of_groups("made", [str(tmp_path)])
    both = Cpu(policy="batch", slice=5_000_000, weight=300)
    with pytest.raises(PolicyError, match="swappiness"):
        together.apply(Profile(name="p", cpu=both, memory=Memory(swappiness=3)), container)
    assert calls.sched_getattr(sleeper.pid).policy == os.SCHED_OTHER
    assert calls.sched_getattr(sleeper.pid).runtime_ns == cpu.base_slice_ns()
    assert (tmp_path / "cpu.weight").read_text() == "100"
    together.apply(Profile(name="p", cpu=both), container)
    assert calls.sched_getattr(sleeper.pid).policy == os.SCHED_BATCH
    assert (tmp_path / "cpu.weight").read_text() == "300"


def test_a_profiles_controller_ends_with_the_container(sleeper: subprocess.Popen[bytes]) -> None:
    with pytest.raises(UsageError, match="no cpu policy"):
        together.check(Profile(name="p", cpu=Cpu(controller="nobody")))
    profile = Profile(name="p", cpu=Cpu(controller="batch", options={"slice": 3_000_000}))
    together.check(profile)
    (attendant,) = together.attend(profile, Container.of_pid(sleeper.pid))
    end = time.monotonic() + 20
    while os.sched_getscheduler(sleeper.pid) != os.SCHED_BATCH:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert calls.sched_getattr(sleeper.pid).runtime_ns == 3_000_000
    sleeper.kill()
    sleeper.wait()
    assert attendant.wait(timeout=20) == 0


# Shared ranges


def test_a_vote_is_by_pages_and_their_owners() -> None:
    wants = {"a": True, "b": False}
    assert voting.vote(["a"] * 257 + ["b"] * 255, wants)
    assert not voting.vote(["a"] * 256 + ["b"] * 256, wants)
    assert not voting.vote([], wants)
    assert voting.vote(["a", None, None, "other", "other", "other"], wants)
    assert not voting.vote(["other"] * 512, wants)


def test_the_first_that_touches_owns() -> None:
    import mmap

    memory_group = Path("/sys/fs/cgroup/memory")
    if os.geteuid() != 0 or not memory_group.is_dir() or not Path("/proc/kpagecgroup").exists():
        pytest.skip("needs root and memory control groups of version 1")
    shared = mmap.mmap(-1, 2 * voting.RANGE)
    at = -(-_address(shared) // voting.RANGE) * voting.RANGE
    groups = [memory_group / f"rvisor-vote-{name}-{os.getpid()}" for name in "ab"]
    try:
        for group, (first, last) in zip(groups, [(0, 300), (200, 400)], strict=True):
            group.mkdir()
            start = at - _address(shared)
            child = os.fork()
            if child == 0:
                (group / "cgroup.procs").write_text(str(os.getpid()))
                for page in range(first, last):
                    shared[start + page * 4096] = 1
                os._exit(0)
            os.waitpid(child, 0)
        # A page that this process has not looked at is not in its tables.
        sum(shared[at - _address(shared) + page * 4096] for page in range(400))
        inodes = {group.stat().st_ino: group.name[12] for group in groups}
        found = voting.owners(os.getpid(), at, inodes)
        assert found[:300] == ["a"] * 300
        assert found[300:400] == ["b"] * 100
        assert found[400:] == [None] * 112
        assert voting.vote(found, {"a": True, "b": False})
    finally:
        shared.close()
        for group in groups:
            group.rmdir()


def _address(shared: object) -> int:
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(shared))  # type: ignore[arg-type]


# The commands


def test_watch_says_what_is_decided(sleeper: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sched", "watch", "--pid", str(sleeper.pid), "--policy", "batch", "--interval", "0.05", "--windows", "2"]
    assert rvisor([*words, "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(event["decision"], event["changed"], event["error"]) for event in events] == [
        ({"policy": "batch"}, True, ""),
        ({"policy": "batch"}, False, ""),
    ]
    assert calls.sched_getattr(sleeper.pid).policy == os.SCHED_BATCH
    assert rvisor([*words[:4], "--policy", "idle", "--interval", "0.05", "--windows", "1", "--dry-run"]) == 0
    assert "would set policy idle" in capsys.readouterr().out
    assert calls.sched_getattr(sleeper.pid).policy == os.SCHED_BATCH


def test_set_and_show(sleeper: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]) -> None:
    assert rvisor(["sched", "set", "--pid", str(sleeper.pid), "--slice", "3ms"]) == 0
    assert "slice     3 ms" in capsys.readouterr().out
    assert rvisor(["memory", "show", "--pid", str(sleeper.pid), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["processes"] == 1


@pytest.mark.parametrize(
    "words",
    [
        ["sched", "show"],
        ["sched", "show", "a", "b"],
        ["sched", "show", "no-such-container"],
        ["sched", "show", "--pid", "999999999"],
        ["sched", "set", "--pid", "1"],
        ["sched", "set", "--pid", "1", "--slice", "long"],
        ["sched", "watch", "--pid", "1", "--option", "a=b"],
        ["sched", "watch", "--pid", "1", "--interval", "0"],
        ["memory", "vote", "one"],
        ["memory", "show", "--pid", "1", "--huge", "x"],
    ],
)
def test_words_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert rvisor(words) == 2
    assert capsys.readouterr().err.startswith("rvisor: ")
