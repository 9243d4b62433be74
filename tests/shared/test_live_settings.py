"""Settings of CPU and memory that `rvisor vkernel update` changes in a running container; and ends that come early."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from framework import inside
from framework.shared import run, running

pytestmark = pytest.mark.timeout(120)

SETTINGS = "[cpu]\nquota = {quota}\nweight = {weight}\n[memory]\nmax = '{max}'\nhigh = '{high}'\nthp = '{thp}'\n"


def write(tmp_path: Path, name: str, text: str) -> str:
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def test_weight_high_swapping_and_huge_pages(tmp_path: Path) -> None:
    """Each is what was said, in the groups and in every process; a bad one among them changes none."""
    from rvisor.policy.container import Container

    swaps = Path("/sys/fs/cgroup/memory/memory.swappiness").exists()

    def text(swappiness: int, **named: object) -> str:
        return SETTINGS.format(**named) + (f"swappiness = {swappiness}\n" if swaps else "")

    first = text(10, quota=1.0, weight=100, max="256m", high="200m", thp="never")
    with running("--name", "set", "--profile", write(tmp_path, "a", first), "--", "sh", "-c", "sleep 100 & wait"):

        def seen() -> list[object]:
            container = Container.find("set")
            thp = {
                line
                for task in container.tasks()
                for line in Path(f"/proc/{task}/status").read_text().splitlines()
                if line.startswith("THP_enabled")
            }
            groups = (
                ("cpu.weight", "cpu.shares"),
                ("memory.high", "memory.soft_limit_in_bytes"),
                ("memory.max", "memory.limit_in_bytes"),
                ("memory.swappiness",),
                ("cpu.max", "cpu.cfs_quota_us"),
            )
            found = [next((v for name in names if (v := container.read(name)) is not None), None) for names in groups]
            return [*found, *sorted(thp)]

        end = time.monotonic() + 20
        while "THP_enabled:\t0" not in seen() or len(seen()) != 6:
            assert time.monotonic() < end, seen()
            time.sleep(0.05)
        begun = seen()
        assert begun[0] in ("100", "1024") and begun[1:3] == [str(200 << 20), str(256 << 20)], begun
        second = text(60, quota=0.5, weight=300, max="192m", high="128m", thp="madvise")
        done = inside.rvisor("vkernel", "update", "set", write(tmp_path, "b", second))
        assert done.status == 0 and "cpu.weight" in done.out and "memory.thp" in done.out, done
        now = seen()
        assert now[0] in ("300", "3072") and now[1:3] == [str(128 << 20), str(192 << 20)], now
        assert now[3] in ("60", None) and now[4] in ("50000", "50000 100000") and now[5] != "THP_enabled:\t0", now
        bad = text(70, quota=0.5, weight=400, max="192m", high="300m", thp="never")
        refused = inside.rvisor("vkernel", "update", "set", write(tmp_path, "c", bad))
        assert refused.status != 0 and "above" in refused.err, refused
        assert seen() == now
        # What fails last undoes what was set before it.
        bad = second.replace("weight = 300", "weight = 500\ncores = '900'")
        refused = inside.rvisor("vkernel", "update", "set", write(tmp_path, "d", bad))
        assert refused.status != 0 and "cores" in refused.err, refused
        assert seen() == now


def test_a_weight_needs_a_group(tmp_path: Path) -> None:
    with running("--name", "bare", "--profile", write(tmp_path, "a", "[cpu]\nnice = 1\n"), "--", "sleep", "100"):
        more = write(tmp_path, "b", "[cpu]\nnice = 2\nweight = 300\n")
        done = inside.rvisor("vkernel", "update", "bare", more)
        assert done.status != 0 and "without a limit, so it has no control group" in done.err, done


def test_a_whole_tree_is_one_rule(tmp_path: Path) -> None:
    """Of the host's root, too: at once, for what comes later as well, and denial wins."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "old").write_text("old\n")
    rules = "[files]\ndefault = 'rx'\n[[files.rule]]\npaths = ['/**']\nallow = 'rwx'\n"
    rules += "[[files.rule]]\npaths = ['/d{1,2}/**']\ndeny = 'w'\n"
    began = time.monotonic()
    script = "echo new > /tmp/new && cat /tmp/new; echo x > /d1/new; echo x >> /d2/old; cat /d1/old"
    more = ("-v", f"{tmp_path}/data:/d1", "-v", f"{tmp_path}/data:/d2")
    done = run("--profile", write(tmp_path, "a", rules), *more, "--", "sh", "-c", script)
    assert done.out == "new\nold\n" and done.err.count("Permission denied") == 2, done
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_end_while_file_rules_are_looked_up(tmp_path: Path, number: int) -> None:
    """It comes at once, and nothing is left."""
    from rvisor import vkernel
    from rvisor._sentry import cgroup

    rules = "[[files.rule]]\npaths = ['/**/no/such/name']\ndeny = 'w'\n" * 40
    argv = [sys.executable, "-m", "rvisor", "run", "--kernel=shared", "--memory", "64m"]
    argv += ["--profile", write(tmp_path, "a", rules), "--", "sleep", "100"]
    env = {**os.environ, "PYTHONPATH": str(inside.ROOT / "python")}
    process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while not (found := _groups(process.pid)):
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.02)
        time.sleep(0.3)
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=20) == 128 + number
        assert time.monotonic() - began < 5
    finally:
        process.kill()
        process.wait()
    assert [group for name in found for group in cgroup.of(name)] == []
    assert vkernel.instances() == []


def _groups(pid: int) -> set[str]:
    """Names of the sandboxes whose groups a child of the process is in."""
    found = set()
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            text = Path(f"/proc/{child}/cgroup").read_text()
        except OSError:
            continue
        found.update(line.rpartition("/rvisor-")[2] for line in text.splitlines() if "/rvisor-" in line)
    return found
