"""A Docker daemon of our own: its data, its sockets and its network are in one temporary place, and so end with it.

Everything runs in a network and a mount namespace that a sleeping process holds: bridges, rules of the packet filter
and mounts are gone when it is ended. Containers are below one control group, so that what is left of them can be seen.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from pathlib import Path

from framework.host import until
from framework.inside import ROOT, Done, run


def wait_for(condition: Callable[[], object], what: str | Callable[[], str], seconds: float = 10) -> None:
    """Wait until it holds; fails with `what` was waited for."""
    if not until(condition, seconds):
        raise AssertionError(what if isinstance(what, str) else what())


OURS = "rvisor-shared" if os.environ.get("RVISOR_DOCKER") == "shared" else "rvisor"
"""On which kernel."""
RUNTIMES = ("runc", OURS)
PROGRAMS = ("dockerd", "containerd", "docker", "runc", "nsenter", "unshare", "ip", "iptables")


def missing() -> list[str]:
    """What this machine lacks."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


def _removed(group: Path) -> bool:
    """A control group that nobody is in any more, with those below it."""
    for below in sorted((p for p in group.glob("**/*") if p.is_dir()), reverse=True):
        _removed(below)
    try:
        group.rmdir()
    except OSError:
        return not group.exists()
    return True


class Daemon:
    """dockerd and its containerd. `start` both, `stop` both; `restart` the daemon alone."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.group = f"rvisor-docker-{os.getpid()}"
        self.socket = f"unix://{top}/docker.sock"
        self.runtime = top / "runrsc"
        self.runtimes: dict[str, dict[str, object]] = {
            "rvisor": {"path": str(self.runtime)},
            "rvisor-shared": {"path": str(self.runtime), "runtimeArgs": ["--kernel=shared"]},
        }
        self._holder: subprocess.Popen[bytes] | None = None
        self._containerd: subprocess.Popen[bytes] | None = None
        self._dockerd: subprocess.Popen[bytes] | None = None
        self.default_runtime = "runc"
        self.stayed: list[str] = []
        """What was there after `stop` had asked it to end, and had to be killed."""

    def start(self) -> None:
        """Returns when it answers."""
        for name in ("data", "exec", "containerd", "run", "config"):
            (self.top / name).mkdir(parents=True)
        self.runtime.write_text(
            f"#!/bin/sh\nexport RVISOR_BIN_DIR={os.environ.get('RVISOR_BIN_DIR', '')}\n"
            f"export RVISOR_RUNTIME_DIR={self.top}/rvisor\n"
            f'exec {sys.executable} -I -S {ROOT}/python/rvisor/oci/__main__.py "$@"\n'
        )
        self.runtime.chmod(0o755)
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sleep", "100000"], stdin=subprocess.DEVNULL
        )
        own = os.readlink("/proc/self/ns/net")
        wait_for(lambda: os.readlink(f"/proc/{self._pid()}/ns/net") != own, "the namespaces")
        run(self.within("ip", "link", "set", "lo", "up"))
        self._containerd = self._spawn(
            "containerd",
            *("--root", f"{self.top}/containerd", "--state", f"{self.top}/run/containerd"),
            *("--address", f"{self.top}/containerd.sock", "--config", str(self._containerd_config())),
        )
        wait_for(lambda: (self.top / "containerd.sock").exists(), "containerd", 60)
        self._begin()

    def _pid(self) -> int:
        assert self._holder is not None
        return self._holder.pid

    def within(self, *command: str) -> list[str]:
        """The command, in the daemon's namespaces."""
        return ["nsenter", "-t", str(self._pid()), "-n", "-m", "--", *command]

    def _containerd_config(self) -> Path:
        path = self.top / "containerd.toml"
        path.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        return path

    def _spawn(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        env = dict(os.environ, PATH=f"{os.environ['PATH']}:/usr/sbin:/sbin", XDG_RUNTIME_DIR="")
        with (self.top / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                self.within(name, *arguments), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env
            )

    def _begin(self) -> None:
        settings = {
            "runtimes": self.runtimes,
            "default-runtime": self.default_runtime,
            "live-restore": True,
            "cgroup-parent": f"/{self.group}",
            "data-root": f"{self.top}/data",
            "exec-root": f"{self.top}/exec",
            "pidfile": f"{self.top}/docker.pid",
            "containerd": f"{self.top}/containerd.sock",
            "hosts": [self.socket],
            "shutdown-timeout": 5,
        }
        path = self.top / "daemon.json"
        path.write_text(json.dumps(settings))
        self._dockerd = self._spawn("dockerd", "--config-file", str(path))
        wait_for(lambda: self("version", "--format", "x").status == 0, "dockerd", 60)

    def _end(self, started: subprocess.Popen[bytes] | None) -> None:
        if started is None or started.poll() is not None:
            return
        started.terminate()
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()

    def restart(self, *, default_runtime: str = "runc", hard: bool = False) -> None:
        """End the daemon, `hard` by SIGKILL, and start it again; containers go on."""
        assert self._dockerd is not None
        if hard:
            self._dockerd.send_signal(signal.SIGKILL)
        self._end(self._dockerd)
        (self.top / "docker.pid").unlink(missing_ok=True)
        self.default_runtime = default_runtime
        self._begin()

    def stop(self) -> None:
        """End all of it, and remove its directories."""
        alive = self._dockerd is not None and self._dockerd.poll() is None
        if alive and (ids := self("ps", "-aq").out.split()):
            self("rm", "-f", "-v", *ids)
        self._end(self._dockerd)
        self._end(self._containerd)
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()
        until(lambda: not self.left(), 10)
        self.stayed = self.left()
        for line in self.stayed:
            if (pid := line.partition(" ")[0]).isdecimal():
                os.kill(int(pid), signal.SIGKILL)
        for pattern in (f"*/{self.group}", self.group):
            for group in Path("/sys/fs/cgroup").glob(pattern):
                until(lambda group=group: _removed(group), 5)  # type: ignore[misc]
        shutil.rmtree(self.top, ignore_errors=True)

    def left(self) -> list[str]:
        """Processes that name our directory, and control groups of containers."""
        found = [str(p) for p in Path("/sys/fs/cgroup").glob(f"**/{self.group}/*") if p.is_dir()]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                line = (process / "cmdline").read_bytes()
                if f"{self.top}/".encode() in line and int(process.name) != os.getpid():
                    found.append(f"{process.name} {line.decode(errors='replace')}")
            except OSError:
                continue
        return found

    def command(self, *arguments: str) -> list[str]:
        return ["docker", "--host", self.socket, "--config", f"{self.top}/config", *arguments]

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> Done:
        """`docker ARGUMENTS`."""
        return run(self.command(*arguments), stdin=stdin, timeout=timeout, env=dict(os.environ, DOCKER_BUILDKIT="0"))


class Docker:
    """The daemon with one runtime: containers are named after it, and are gone at the end of the test."""

    def __init__(self, daemon: Daemon, runtime: str) -> None:
        self.daemon = daemon
        self.runtime = runtime
        self.name = f"{runtime}-c"
        self.names: list[str] = []

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> Done:
        """`docker ARGUMENTS`; what differs from run to run is taken out of what it says."""
        done = self.daemon(*arguments, stdin=stdin, timeout=timeout)
        return Done(done.status, self._plain(done.out), self._plain(done.err))

    def _plain(self, text: str) -> str:
        text = text.replace(self.name, "NAME").replace("runrsc", "RUNTIME").replace(self.runtime, "RUNTIME")
        return re.sub(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b", "ID", text)

    def ok(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """`docker ARGUMENTS`, which must succeed: its output."""
        done = self.daemon(*arguments, stdin=stdin, timeout=timeout)
        assert done.status == 0, (self.runtime, arguments, done)
        return self._plain(done.out).rstrip("\n")

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> Done:
        """`docker run --rm ARGUMENTS` on this runtime."""
        return self("run", "--rm", "--runtime", self.runtime, *arguments, stdin=stdin, timeout=timeout)

    def up(self, *arguments: str, name: str = "") -> str:
        """`docker run -d ARGUMENTS`: the container's name."""
        name = f"{self.name}{name}"
        self.names.append(name)
        done = self.daemon("run", "-d", "--runtime", self.runtime, "--name", name, *arguments)
        assert done.status == 0, (self.runtime, arguments, done)
        return name

    def inspect(self, name: str, form: str) -> str:
        return self.ok("inspect", "--format", form, name)

    def until(self, name: str, form: str, wanted: str, seconds: float = 30) -> None:
        """Wait until what `inspect` says is this."""
        wait_for(lambda: self.inspect(name, form) == wanted, lambda: f"{form}: {self.inspect(name, form)}", seconds)

    def logs_until(self, name: str, wanted: str, seconds: float = 30) -> str:
        """Wait until this is in the container's output."""
        wait_for(lambda: wanted in self.daemon("logs", name).out, lambda: str(self.daemon("logs", name)), seconds)
        return self.daemon("logs", name).out

    def terminal(self, *arguments: str, rows: int = 24, columns: int = 80) -> Terminal:
        """`docker ARGUMENTS` at a terminal of its own."""
        return Terminal(self.daemon.command(*arguments), rows, columns)

    def close(self) -> None:
        if self.names:
            self.daemon("rm", "-f", "-v", *self.names)
            self.names.clear()


class Terminal:
    """A command at a pseudo-terminal that we hold the other end of."""

    def __init__(self, command: Sequence[str], rows: int, columns: int) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            self._size(0, rows, columns)
            os.execvp(command[0], list(command))
        os.set_blocking(self.fd, False)
        self.seen = ""

    def _size(self, fd: int, rows: int, columns: int) -> None:
        termios.tcsetwinsize(fd, (rows, columns))

    def resize(self, rows: int, columns: int) -> None:
        """As a window does it: the kernel tells the foreground by SIGWINCH."""
        self._size(self.fd, rows, columns)

    def resize_seen(self, rows: int, columns: int, text: str) -> None:
        """The same, and `text` comes of it. A client that has just begun may not listen yet: it is told again."""
        self.resize(rows, columns)
        for _ in range(10):
            with contextlib.suppress(AssertionError):
                self.expect(text, 2)
                return
            os.kill(self.pid, signal.SIGWINCH)
        self.expect(text)

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def _read(self) -> bool:
        try:
            self.seen += os.read(self.fd, 65536).decode(errors="replace")
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def expect(self, text: str, seconds: float = 30) -> str:
        """Read until this is seen: what came up to and with it, which is taken away."""

        def there() -> bool:
            self._read()
            return text in self.seen

        wait_for(there, lambda: f"waited for {text!r}, saw {self.seen!r}", seconds)
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def wait(self, seconds: float = 30) -> int:
        """The command's status at its end."""
        ended: list[int] = []

        def over() -> bool:
            self._read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                ended.append(os.waitstatus_to_exitcode(status))
            return bool(pid)

        try:
            wait_for(over, lambda: f"does not end; saw {self.seen!r}", seconds)
        finally:
            if not ended:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            self._read()
            os.close(self.fd)
        return ended[0]
