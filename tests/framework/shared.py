"""Containers on the shared kernel, as the `rvisor` command of this checkout starts them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from framework import inside


def run(*arguments: str, timeout: float = 60, stdin: str | None = None) -> inside.Done:
    return inside.rvisor("run", "--kernel=shared", *arguments, timeout=timeout, stdin=stdin)


@contextlib.contextmanager
def running(*arguments: str, wait: bool = True, stdin: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """A container in the background, from the moment on that its program runs."""
    env = {**os.environ, "PYTHONPATH": str(inside.ROOT / "python")}
    before = len(begun()) if wait else 0
    argv = [sys.executable, "-m", "rvisor", "run", "--kernel=shared", *arguments]
    process = subprocess.Popen(
        argv, env=env, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    try:
        end = time.monotonic() + 20
        while wait and len(begun()) <= before and process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=20)


def begun() -> list[str]:
    """Ids of the containers whose program runs."""
    from rvisor import vkernel
    from rvisor.errors import RvisorError

    found = []
    for about in vkernel.instances():
        with contextlib.suppress(RvisorError):
            if any("started" in line for line in vkernel.log(about["id"])):
                found.append(about["id"])
    return found


def monitors(parent: int) -> list[int]:
    """The launchers that are this process's children."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in children if "rvisor-launch" in os.readlink(f"/proc/{pid}/exe")]
