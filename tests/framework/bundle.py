"""A bundle with one static program, and `runrsc` on a state directory of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
GROUPS = Path("/sys/fs/cgroup")
NAMES = (
    *("sh", "cat", "echo", "ls", "id", "true", "sleep", "touch", "mount", "hostname", "env"),
    *("pwd", "kill", "dd", "stty", "tty", "mkdir", "grep", "ps"),
)


def need(what: str) -> None:
    if os.environ.get("RVISOR_REQUIRE"):
        pytest.fail(what)
    pytest.skip(what)


class Runtime:
    """One state directory and one bundle."""

    def __init__(self, top: Path, *common: str) -> None:
        self.common = common
        """Flags of every command."""
        self.root = top / "state"
        self.bundle = top / "bundle"
        self.log = top / "log"
        self.name = f"rvisor-test-{os.getpid()}-{top.name}"[:60]
        self.group = f"/{self.name}"
        (self.bundle / "rootfs" / "bin").mkdir(parents=True)
        for name in ("tmp", "etc", "proc", "dev", "sys"):
            (self.bundle / "rootfs" / name).mkdir()
        busybox = shutil.which("busybox")
        if busybox is None:
            need("busybox-static is not installed")
        shutil.copy2(str(busybox), self.bundle / "rootfs" / "bin" / "busybox")
        for name in NAMES:
            (self.bundle / "rootfs" / "bin" / name).symlink_to("busybox")

    def __call__(self, *args: str, status: int | None = 0, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run `runrsc`; its status must be this one, unless None."""
        command = [sys.executable, "-m", "rvisor.oci", "--root", str(self.root), "--log", str(self.log), *self.common]
        env = dict(os.environ, PYTHONPATH=str(ROOT / "python"))
        if "input" not in more:
            more.setdefault("stdin", subprocess.DEVNULL)
        more.setdefault("stdout", subprocess.PIPE)
        more.setdefault("stderr", subprocess.PIPE)
        more.setdefault("timeout", 60)
        done = subprocess.run([*command, "--log-format", "json", *args], env=env, text=True, check=False, **more)
        if status is not None:
            assert done.returncode == status, (args, done.returncode, done.stdout, done.stderr)
        return done

    def refused(self, *args: str, why: str) -> None:
        """Fails with these words, which the log has too."""
        done = self(*args, status=None)
        assert done.returncode != 0
        assert why in done.stderr, done.stderr
        last = json.loads(self.log.read_text().splitlines()[-1])
        assert last["level"] == "error"
        assert why in last["msg"]

    def config(self, *args: str, change: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Write config.json for this command."""
        path = self.bundle / "config.json"
        path.unlink(missing_ok=True)
        self("spec", "--bundle", str(self.bundle))
        config = json.loads(path.read_text())
        config["process"]["args"] = list(args)
        config["linux"]["cgroupsPath"] = self.group
        if change is not None:
            change(config)
        path.write_text(json.dumps(config))

    def create(self, name: str = "", *more: str, output: Path | None = None, timeout: float = 60) -> None:
        """`create`, with the program's output in a file."""
        where = output or self.bundle / "out"
        with where.open("wb") as file:
            self(
                "create",
                "--bundle",
                str(self.bundle),
                *more,
                name or self.name,
                stdout=file,
                stderr=file,
                timeout=timeout,
            )

    def create_with_terminal(self) -> int:
        """`create`; the master of its terminal, which comes over a console socket."""
        path = str(self.bundle / "console")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(1)
            self.create("", "--console-socket", path)
            connection, _ = listener.accept()
            with connection:
                return int(socket.recv_fds(connection, 100, 1)[1][0])

    def run(
        self, *args: str, change: Callable[[dict[str, Any]], None] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`run` to the end, whatever its status."""
        self.config(*args, change=change)
        return self("run", "--bundle", str(self.bundle), self.name, status=None)

    def state(self, name: str = "") -> dict[str, Any]:
        return dict(json.loads(self("state", name or self.name).stdout))

    def until(self, status: str, name: str = "") -> None:
        """Wait until the container has this status."""
        end = time.monotonic() + 20
        while self.state(name)["status"] != status:
            assert time.monotonic() < end, self.state(name)
            time.sleep(0.02)

    def output(self) -> str:
        return (self.bundle / "out").read_text()

    def left(self) -> list[str]:
        """State, groups and processes that are there."""
        found = [str(p) for p in self.root.glob("*")] if self.root.exists() else []
        found += [str(p) for p in GROUPS.glob(f"*{self.group}")]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if "rvisor-" in os.readlink(process / "exe") and self.name in (process / "cgroup").read_text():
                    found.append(str(process))
            except OSError:
                continue
        return found
