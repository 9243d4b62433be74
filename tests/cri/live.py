"""Pods as a kubelet makes them: containerd's CRI plugin, told of the runtime by `rvisor install containerd`.

The client is `client/main.go`, built by `make test-cri`; RVISOR_CRI names it. Pods have the host's network: there are
no CNI plugins.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from framework.bundle import need
from framework.callers import image, runtime

_CONFIG = """version = 2
root = "{top}/root"
state = "{top}/state"
[grpc]
address = "{top}/sock"
[ttrpc]
address = "{top}/sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:latest"
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
"""


class Cri:
    """A containerd of its own, and calls of its CRI."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.client = os.environ.get("RVISOR_CRI", "")
        self.group = f"/rvisor-cri-{os.getpid()}"

    def try_(self, method: str, request: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.client, f"{self.top}/sock", method],
            input=json.dumps(request), capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip

    def __call__(self, method: str, **request: Any) -> dict[str, Any]:
        done = self.try_(method, request)
        assert done.returncode == 0, (method, done.stderr, (self.top / "log").read_text()[-2000:])
        return dict(json.loads(done.stdout))

    def pod(self, name: str) -> dict[str, Any]:
        options = {"network": 2, "pid": 1, "ipc": 0}
        return {
            "metadata": {"name": name, "uid": name, "namespace": "default", "attempt": 0},
            "log_directory": f"{self.top}/logs",
            "linux": {"cgroup_parent": self.group, "security_context": {"namespace_options": options}},
        }

    def container(self, sandbox: str, pod: dict[str, Any], name: str, *command: str) -> str:
        """Made and started."""
        config = {
            "metadata": {"name": name},
            "image": {"image": "localhost/bb:latest"},
            "command": command,
            "log_path": f"{name}.log",
            "linux": {
                "resources": {"memory_limit_in_bytes": 128 << 20},
                "security_context": {"namespace_options": {"network": 2, "pid": 1}},
            },
        }
        made = self("CreateContainer", pod_sandbox_id=sandbox, config=config, sandbox_config=pod)["container_id"]
        self("StartContainer", container_id=made)
        return str(made)

    def exec(self, container: str, *command: str) -> tuple[int, str]:
        done = self("ExecSync", container_id=container, cmd=command, timeout=30)
        return done.get("exit_code", 0), base64.b64decode(done.get("stdout") or "").decode()

    def status(self, container: str) -> dict[str, Any]:
        return dict(self("ContainerStatus", container_id=container)["status"])

    def kernels(self) -> list[str]:
        """The host processes of our groups that are sentries."""
        files = Path("/sys/fs/cgroup").glob(f"**{self.group}/**/cgroup.procs")
        pids = {pid for file in files for pid in file.read_text().split()}
        return [pid for pid in pids if "rvisor-sentry" in Path(f"/proc/{pid}/cmdline").read_text()]

    def logged(self, name: str) -> list[str]:
        return [line.split(" ", 3)[3] for line in (self.top / "logs" / f"{name}.log").read_text().splitlines()]


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture(scope="module")
def cri(tmp_path_factory: pytest.TempPathFactory, binaries: None) -> Iterator[Cri]:
    if os.geteuid() != 0 or shutil.which("containerd") is None:
        need("this needs root and containerd")
    # The shims' sockets have no room for long names.
    top = tmp_path_factory.mktemp("k")
    made = Cri(top)
    if not made.client:
        need("RVISOR_CRI is not set: make test-cri")
    (top / "logs").mkdir()
    config = top / "config.toml"
    config.write_text(_CONFIG.format(top=top))
    subprocess.run(
        [sys.executable, "-m", "rvisor", "install", "containerd", "--config", str(config), "--runtime", runtime(top)],
        check=True, timeout=30, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    with (top / "log").open("wb") as log:
        daemon = subprocess.Popen(["containerd", "-c", str(config)], stdout=log, stderr=log)
    try:
        until(lambda: made.try_("Version", {}).returncode == 0, 60)
        _images(top)
        yield made
    finally:
        daemon.terminate()
        daemon.wait(timeout=30)


def _images(top: Path) -> None:
    archive = top / "image.tar"
    subprocess.run(["tar", "-C", str(image(top)), "-cf", str(archive), "."], check=True, timeout=60)
    storage = ["--root", f"{top}/storage", "--runroot", f"{top}/run", "--storage-driver", "vfs"]
    for name, command in (("bb", '["sh"]'), ("pause", '["sleep", "100000"]')):
        change = ("--change", f"CMD {command}")
        subprocess.run(["podman", *storage, "import", "-q", *change, str(archive), name], check=True, timeout=60)
        saved = str(top / f"{name}.tar")
        save = ["podman", *storage, "save", "-q", "--format", "docker-archive", "-o", saved, f"localhost/{name}:latest"]
        subprocess.run(save, check=True, timeout=60)
        take = ["ctr", "--address", f"{top}/sock", "-n", "k8s.io", "image", "import", "--snapshotter", "native", saved]
        subprocess.run(take, check=True, timeout=60, stdout=subprocess.DEVNULL)


@pytest.fixture
def pod(request: pytest.FixtureRequest, cri: Cri) -> Iterator[tuple[str, dict[str, Any]]]:
    """A pod: its id and what it was made of."""
    config = cri.pod(request.node.name)
    made = cri("RunPodSandbox", config=config, runtime_handler="rvisor")["pod_sandbox_id"]
    yield made, config
    cri("StopPodSandbox", pod_sandbox_id=made)
    cri("RemovePodSandbox", pod_sandbox_id=made)


def test_pod(cri: Cri, pod: tuple[str, dict[str, Any]]) -> None:
    """Two containers in one: what they say, their ends, programs run in them, and what they share."""
    sandbox, config = pod
    assert cri("PodSandboxStatus", pod_sandbox_id=sandbox)["status"].get("state", 0) == 0
    script = "echo hello; hostname; trap 'exit 5' TERM; while :; do sleep 0.1; done"
    server = cri.container(sandbox, config, "server", "sh", "-c", script)
    client = cri.container(sandbox, config, "client", "sh", "-c", "echo other >&2; exit 7")
    until(lambda: cri.status(client).get("state") == 2)
    assert cri.status(client)["exit_code"] == 7
    assert cri.logged("client") == ["other"]
    until(lambda: len(cri.logged("server")) == 2)
    assert cri.logged("server")[0] == "hello"
    assert cri.exec(server, "sh", "-c", "echo in; exit 3") == (3, "in\n")
    assert cri.exec(server, "cat", "/sys/none")[0] == 1
    cri("StopContainer", container_id=server, timeout=10)
    until(lambda: cri.status(server).get("state") == 2)
    assert cri.status(server)["exit_code"] == 5
    for one in (server, client):
        cri("RemoveContainer", container_id=one)
    (cri.top / "logs" / "server.log").unlink()
    (cri.top / "logs" / "client.log").unlink()


def test_one_kernel(cri: Cri, pod: tuple[str, dict[str, Any]]) -> None:
    """A pod's containers have one kernel, a root each, and figures for the kubelet."""
    sandbox, config = pod
    one, two = (cri.container(sandbox, config, name, "sleep", "1000") for name in ("one", "two"))
    assert len(cri.kernels()) == 1
    assert cri.exec(one, "sh", "-c", "echo x > /root/x")[0] == 0
    assert cri.exec(two, "test", "-e", "/root/x")[0] == 1
    memory = cri("ContainerStats", container_id=one)["stats"]["memory"]
    assert int(memory["working_set_bytes"]["value"]) > 0


def test_what_cannot_be_is_told(cri: Cri) -> None:
    """A pod with the host's pids is refused by name, over the whole way back."""
    config = cri.pod("refused")
    config["linux"]["security_context"]["namespace_options"]["pid"] = 2
    done = cri.try_("RunPodSandbox", {"config": config, "runtime_handler": "rvisor"})
    assert done.returncode != 0
    assert "without pid it would be the host's" in done.stderr
