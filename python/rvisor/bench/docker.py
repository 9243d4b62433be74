"""A Docker daemon of our own for the time of the measurements: private directories and socket, no network."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from rvisor.bench.native import compile_c, last_line
from rvisor.bench.peers import CACHE, executable
from rvisor.errors import RvisorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rvisor.bench.host import Place
    from rvisor.bench.peers import Peer

SOURCE = Path(__file__).with_name("true.c")
IMAGE = "rvisor-bench:true"
PROGRAM = "/true"
READY_SECONDS = 60.0
SECONDS = 120.0


def runtimes(place: Place) -> dict[str, dict[str, Any]]:
    """Docker's `runtimes` for every peer that has an OCI runtime; runc is Docker's own."""
    made = installed(place)
    if crun := executable("crun"):
        made["crun"] = {"path": crun}
    if runsc := executable("runsc"):
        for platform in ("systrap", "ptrace", "kvm"):
            made[f"gvisor-{platform}"] = {"path": runsc, "runtimeArgs": [f"--platform={platform}", "--ignore-cgroups"]}
    return made


def installed(place: Place, profile: str = "") -> dict[str, dict[str, Any]]:
    """Ours, as `rvisor install docker` writes them down; the shared kernel's with this profile."""
    path = os.path.join(place.path, f"installed-{os.path.basename(profile)}", "daemon.json")
    command = [sys.executable, "-m", "rvisor", "install", "docker", "--config", path, f"--profile={profile}"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=READY_SECONDS)
    if done.returncode != 0:
        raise RvisorError(f"rvisor install docker: {last_line(done.stderr)}")
    made: dict[str, dict[str, Any]] = json.loads(Path(path).read_text(encoding="utf-8"))["runtimes"]
    return made


def _found() -> dict[str, str]:
    """Docker's shim starts the runtime in another directory, with the daemon's environment."""
    named = os.environ.get("RVISOR_BIN_DIR")
    return {"RVISOR_BIN_DIR": os.path.abspath(named)} if named else {}


class Daemon:
    """dockerd, with one image that holds one static program. It ends with the place."""

    def __init__(self, place: Place, more: dict[str, dict[str, Any]] | None = None) -> None:
        """`more`: runtimes beside the usual ones."""
        search = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin:{CACHE}"
        docker, dockerd = executable("docker"), executable("dockerd")
        if docker is None or dockerd is None:
            raise RvisorError("there is no Docker here", hint="apt-get install docker.io")
        base = os.path.join(place.path, "docker")
        os.mkdir(base)
        self._client = [docker, "--host", f"unix://{base}/socket"]
        self._known = runtimes(place) | (more or {})
        settings = {
            "data-root": f"{base}/data",
            "exec-root": f"{base}/exec",
            "pidfile": f"{base}/pid",
            "hosts": [f"unix://{base}/socket"],
            "bridge": "none",
            "iptables": False,
            "ip6tables": False,
            "ip-forward": False,
            "ip-masq": False,
            "runtimes": self._known,
        }
        Path(base, "daemon.json").write_text(json.dumps(settings), encoding="utf-8")
        self._log = Path(base, "log")
        with self._log.open("wb") as log:
            # Outside the measurements' control group, which is emptied after each turn.
            self._process = subprocess.Popen(
                [dockerd, "--config-file", f"{base}/daemon.json"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PATH": search, **_found()},
            )
        place.cleanup.callback(self._end)
        self._wait()
        program = compile_c(SOURCE, base, static=True)
        tar = subprocess.run(
            ["tar", "-C", base, "-cf", "-", os.path.basename(program)], capture_output=True, check=True
        )
        self._docker("import", "-", IMAGE, given=tar.stdout)

    def _wait(self) -> None:
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(RvisorError):
                self._docker("version")
                return
            time.sleep(0.2)
        raise RvisorError(f"dockerd does not start: {last_line(self._log.read_bytes())}")

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _docker(self, *args: str, given: bytes = b"") -> bytes:
        done = subprocess.run(
            [*self._client, *args], input=given, capture_output=True, check=False, timeout=READY_SECONDS
        )
        if done.returncode != 0:
            raise RvisorError(f"docker {args[0]}: {last_line(done.stderr)}")
        return done.stdout

    def version(self) -> str:
        """The daemon's."""
        return self._docker("version", "--format", "{{.Server.Version}}").decode().strip()

    def command(self, *words: str) -> list[str]:
        """`docker WORDS`."""
        return [*self._client, *words]

    def commands(self, peer: Peer, count: int) -> list[list[str]]:
        """The commands that run the image's program in so many containers of this peer's runtime."""
        if peer.name != "runc" and peer.name not in self._known:
            raise RvisorError(f"{peer.name}: is no OCI runtime")
        run = [*self._client, "run", "--rm", "--network", "none", "--runtime", peer.name, IMAGE, PROGRAM]
        return [run] * count
