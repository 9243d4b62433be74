"""The parts of a profile on CPU and memory, on both kernels."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework import inside

pytestmark = [pytest.mark.timeout(120), pytest.mark.parametrize("kernel", ["private", "shared"])]

PROMISES = """
import mmap, resource, subprocess, sys
def mapped(size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS):
    try:
        mmap.mmap(-1, size, flags=flags).close()
        return "ok"
    except OSError as error:
        return error.strerror
print(mapped(int(sys.argv[1]) << 20), mapped(int(sys.argv[2]) << 20), flush=True)
try:
    resource.setrlimit(resource.RLIMIT_DATA, (1 << 40, 1 << 40))
    print("lifted")
except (OSError, ValueError):
    print("kept")
"""


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "p.toml"
    path.write_text(text)
    return str(path)


def run(kernel: str, *arguments: str) -> inside.Done:
    return inside.rvisor("run", f"--kernel={kernel}", *arguments, timeout=60)


@contextlib.contextmanager
def threads(kernel: str, profile: str) -> Iterator[list[int]]:
    """Host ids of the threads of a container whose policies are set."""
    from rvisor._sentry import runtime
    from rvisor.policy.container import Container

    argv = [sys.executable, "-m", "rvisor", "run", f"--kernel={kernel}", "--name", "tuned", "--profile", profile]
    env = {**os.environ, "PYTHONPATH": str(inside.ROOT / "python")}
    process = subprocess.Popen([*argv, "--", "sleep", "100"], env=env, stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 30
        while not any(about["name"] == "tuned" for about in runtime.running()):
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.05)
        while True:
            found = Container.find("tuned").tasks()
            # What is set last.
            if found and all("THP_enabled:\t0\n" in Path(f"/proc/{task}/status").read_text() for task in found):
                break
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.05)
        yield found
    finally:
        process.kill()
        process.wait(timeout=20)


def test_settings_of_threads_and_groups(tmp_path: Path, kernel: str) -> None:
    text = "[cpu]\npolicy = 'batch'\ncores = '0'\nweight = 300\n[memory]\nthp = 'never'\nswappiness = 7\n"
    from rvisor.policy.container import Container

    with threads(kernel, write(tmp_path, text)) as found:
        assert all(os.sched_getscheduler(task) == os.SCHED_BATCH for task in found)
        assert all(os.sched_getaffinity(task) == {0} for task in found)
        container = Container.find("tuned")
        assert container.read("cpu.weight") == "300" or container.read("cpu.shares") == "3072"
        assert container.read("memory.swappiness") in ("7", None)


def test_never_more_than_is_promised(tmp_path: Path, kernel: str) -> None:
    """From the first instruction on, in every process, and nothing inside lifts it."""
    profile = write(tmp_path, "[memory]\novercommit = { mode = 'never', kbytes = 204800 }\n")
    done = run(kernel, "--profile", profile, "--", "python3", "-c", PROMISES, "100", "300")
    if kernel == "private":
        assert done.status == 125 and "overcommit 'never'" in done.err
        return
    assert done.out == "ok Cannot allocate memory\nkept\n", done


def test_one_mapping_larger_than_all_memory(tmp_path: Path, kernel: str) -> None:
    profile = write(tmp_path, "[memory]\nmax = '256m'\novercommit = { mode = 'heuristic' }\n")
    done = run(kernel, "--profile", profile, "--", "python3", "-c", PROMISES, "255", "257")
    assert done.out.startswith("ok Cannot allocate memory\n"), done


def test_what_the_host_refuses_ends_the_start(tmp_path: Path, kernel: str) -> None:
    for text, what in (("[cpu]\ncores = '900'\n", "900"), ("[memory]\nmax = '64m'\nhigh = '65m'\n", "above")):
        done = run(kernel, "--profile", write(tmp_path, text), "--", "true")
        assert done.status != 0 and what in done.err, done
    if kernel == "private":
        return
    text = "[memory]\novercommit = { mode = 'never', kbytes = 204800 }\n[capabilities]\nkeep = ['SYS_RESOURCE']\n"
    done = run(kernel, "--profile", write(tmp_path, text), "--", "true")
    assert done.status == 125 and "SYS_RESOURCE" in done.err, done
