"""What Podman's users do. Where runc can be asked, it is, and the answers must be the same."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework.bundle import ROOT
from framework.callers import UNUSED_PORT, Podman

SAME = {
    "status": ["bb", "sh", "-c", "exit 7"],
    "missing program": ["bb", "nonesuch"],
    "not executable": ["bb", "/etc/passwd"],
    "user": ["--user", "1000:1000", "bb", "id"],
    "groups": ["--group-add", "5", "bb", "id", "-G"],
    "no capabilities": ["--cap-drop", "all", "bb", "grep", "Cap", "/proc/self/status"],
    "one capability": ["--cap-drop", "all", "--cap-add", "chown", "bb", "grep", "Cap", "/proc/self/status"],
    "host name": ["--hostname", "other", "bb", "hostname"],
    "umask": ["--umask", "0077", "bb", "sh", "-c", "umask"],
    "environment": ["-e", "A=b c", "bb", "sh", "-c", "echo $A $HOME $container"],
    "directory": ["--workdir", "/tmp", "bb", "pwd"],
    "read-only root": ["--read-only", "bb", "sh", "-c", "touch /x; touch /tmp/x && echo tmp"],
    "tmpfs": ["--tmpfs", "/t:size=1m,mode=700", "bb", "sh", "-c", "stat -c %a /t; df /t | tail -1"],
    "limits of files": ["--ulimit", "nofile=64:64", "bb", "sh", "-c", "ulimit -n"],
    "no new privileges": ["--security-opt", "no-new-privileges", "bb", "grep", "NoNewPrivs", "/proc/self/status"],
    "seccomp": ["bb", "grep", "Seccomp:", "/proc/self/status"],
    "no seccomp": ["--security-opt", "seccomp=unconfined", "bb", "grep", "Seccomp:", "/proc/self/status"],
    "masked": ["--security-opt", "mask=/proc/cpuinfo", "bb", "cat", "/proc/cpuinfo"],
    "oom": ["--oom-score-adj", "100", "bb", "cat", "/proc/self/oom_score_adj"],
    "hosts": ["--add-host", "other:1.2.3.4", "bb", "grep", "other", "/etc/hosts"],
    "no network": ["--network", "none", "bb", "ip", "-o", "addr", "show", "up"],
    "address": ["--ip", "10.88.77.7", "bb", "ip", "-o", "-4", "addr", "show", "eth0"],
    "init": ["--init", "bb", "sh", "-c", "test $$ != 1 && echo child"],
}


@pytest.mark.parametrize("case", SAME)
def test_as_runc(podman: Podman, case: str) -> None:
    runc = shutil.which("runc")
    assert runc is not None
    if case == "init" and not Path("/usr/libexec/podman/catatonit").exists():
        pytest.skip("catatonit is not installed")
    theirs = podman("run", "--rm", *SAME[case], by=runc, status=None)
    ours = podman("run", "--rm", *SAME[case], status=None, timeout=30)
    assert (ours.returncode, ours.stdout.split()) == (theirs.returncode, theirs.stdout.split()), ours.stderr


@pytest.fixture
def running(podman: Podman) -> Iterator[str]:
    """A container that answers SIGTERM and SIGUSR1."""
    loop = 'echo started; trap "echo term; exit 3" TERM; trap "echo usr1" USR1; while :; do sleep 0.1; done'
    podman("run", "-d", "--name", "running", "bb", "sh", "-c", loop)
    yield "running"
    podman("rm", "--force", "--time", "0", "running", status=None)


def until(holds: object, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.1)


def test_signals_and_logs(podman: Podman, running: str) -> None:
    until(lambda: "started" in podman.said("logs", running))
    podman("kill", "-s", "USR1", running)
    until(lambda: "usr1" in podman.said("logs", running))
    podman("stop", running)
    assert podman.said("wait", running) == "3"
    assert podman.said("logs", running).split() == ["started", "usr1", "term"]
    podman("start", running)
    assert podman.said("inspect", "--format", "{{.State.Status}}", running) == "running"
    podman("kill", running)
    assert podman.said("wait", running) == "137"


def test_exec(podman: Podman, running: str) -> None:
    assert podman("exec", running, "sh", "-c", "exit 9", status=9)
    assert podman("exec", running, "nonesuch", status=127)
    assert podman.said(
        "exec", "-e", "A=b", "-w", "/tmp", "-u", "1000", running, "sh", "-c", "id -u; pwd; echo $A"
    ).split() == [
        "1000",
        "/tmp",
        "b",
    ]
    podman("exec", "-d", running, "sh", "-c", "echo later > /tmp/later")
    until(lambda: podman("exec", running, "cat", "/tmp/later", status=None).stdout == "later\n")
    assert podman("exec", "-i", running, "cat", stdin="through\n").stdout == "through\n"


def test_copy(podman: Podman, running: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("in\n")
    podman("cp", str(tmp_path / "in"), f"{running}:/tmp/in")
    assert podman.said("exec", running, "cat", "/tmp/in") == "in"
    podman("exec", running, "sh", "-c", "mkdir /tmp/d; echo out > /tmp/d/out")
    podman("cp", f"{running}:/tmp/d", str(tmp_path / "d"))
    assert (tmp_path / "d" / "out").read_text() == "out\n"
    assert not Path("/tmp/d/out").exists()


def test_pause_and_stats(podman: Podman, running: str) -> None:
    podman("pause", running)
    assert podman.said("inspect", "--format", "{{.State.Status}}", running) == "paused"
    podman("unpause", running)
    assert podman.said("inspect", "--format", "{{.State.Status}}", running) == "running"
    stats = podman.said("stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", running).split()
    assert int(stats[0]) > 1
    assert not stats[1].startswith("0B")


def test_terminal(podman: Podman) -> None:
    """Through a pty, as a person has one."""
    top = podman.top
    command = ["podman", "--root", f"{top}/storage", "--runroot", f"{top}/run", "--tmpdir", f"{top}/tmp"]
    command += ["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--network-config-dir", f"{top}/net"]
    command += [
        "--runtime",
        podman.runtime,
        "run",
        "--rm",
        "-it",
        "--ulimit",
        "nofile=64:64",
        "--network",
        "none",
        "bb",
    ]
    master, slave = pty.openpty()
    child = subprocess.Popen([*command, "sh"], stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    os.write(master, b"tty; echo $((40+2)); exit 5\n")
    got = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:
            break
        got += piece
    os.close(master)
    assert child.wait(timeout=30) == 5
    assert b"/dev/pts/0" in got and b"42" in got


def test_volumes(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("given\n")
    volume = f"{tmp_path}:/v"
    assert podman.said("run", "--rm", "-v", volume, "bb", "sh", "-c", "cat /v/given; echo w > /v/written") == "given"
    assert (tmp_path / "written").read_text() == "w\n"
    assert "Read-only" in podman("run", "--rm", "-v", f"{volume}:ro", "bb", "touch", "/v/x", status=1).stderr
    podman("run", "--rm", "-v", "named:/n", "bb", "sh", "-c", "echo kept > /n/n")
    assert podman.said("run", "--rm", "-v", "named:/n", "bb", "cat", "/n/n") == "kept"


def test_published_port(podman: Podman) -> None:
    serve = "echo page > /tmp/index.html; exec httpd -f -p 80 -h /tmp"
    podman("run", "-d", "--name", "web", "-p", f"{UNUSED_PORT}:80", "bb", "sh", "-c", serve)
    try:
        until(lambda: _page() == b"page\n")
    finally:
        podman("rm", "--force", "--time", "0", "web")


def _page() -> bytes:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{UNUSED_PORT}/index.html", timeout=5) as answer:
            return bytes(answer.read())
    except OSError:
        return b""


def test_health_check(podman: Podman) -> None:
    podman("run", "-d", "--name", "sick", "--health-cmd", "test -e /tmp/well", "bb", "sleep", "60")
    try:
        podman("healthcheck", "run", "sick", status=1)
        podman("exec", "sick", "touch", "/tmp/well")
        podman("healthcheck", "run", "sick")
    finally:
        podman("rm", "--force", "--time", "0", "sick")


def test_build(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "Containerfile").write_text(
        "FROM bb\nRUN echo built > /built && mkdir /x\nRUN --mount=type=cache,target=/c touch /c/f\n"
        'USER 1000\nCMD ["cat", "/built"]\n'
    )
    podman("build", "-t", "localhost/made", str(tmp_path), timeout=120)
    assert podman.said("run", "--rm", "localhost/made") == "built"


def test_pod(podman: Podman) -> None:
    """The containers of a pod share one kernel: loopback, System V IPC, the host name; not files, not processes."""
    podman("pod", "create", "--name", "pod", "-p", f"{UNUSED_PORT}:80")
    try:
        serve = "echo page > /tmp/index.html; httpd -p 80 -h /tmp; exec sleep 600"
        podman("run", "-d", "--pod", "pod", "--name", "one", "bb", "sh", "-c", serve)
        podman("run", "-d", "--pod", "pod", "--name", "two", "bb", "sleep", "600")
        until(lambda: _page() == b"page\n")
        fetch = ["wget", "-qO-", "http://127.0.0.1/index.html"]
        assert podman.said("run", "--rm", "--pod", "pod", "bb", *fetch) == "page"
        assert podman.said("exec", "two", *fetch) == "page"
        assert podman.said("exec", "one", "hostname") == podman.said("exec", "two", "hostname") == "pod"
        podman("exec", "two", "test", "-e", "/tmp/index.html", status=1)
        assert "httpd" not in podman.said("exec", "two", "ps")
        assert "httpd" in podman.said("exec", "one", "ps")
        sentries = {podman.said("inspect", "--format", "{{.State.Pid}}", name) for name in ("one", "two")}
        assert len(sentries) == 2
        assert podman("run", "--rm", "--pod", "pod", "bb", "sh", "-c", "exit 6", status=6)
        podman("kill", "two")
        assert podman.said("wait", "two") == "137"
        podman("rm", "two")
        assert _page() == b"page\n"
        podman("start", "one", status=0)
        podman("pod", "stop", "--time", "1", "pod")
        podman("pod", "start", "pod")
        until(lambda: _page() == b"page\n")
    finally:
        podman("pod", "rm", "--force", "--time", "0", "pod")


@pytest.fixture
def user(podman: Podman) -> Iterator[str]:
    """An ordinary user with ids of its own to give away, for as long as the test is."""
    if shutil.which("newuidmap") is None:
        pytest.skip("newuidmap (uidmap) is not installed")
    name = "rvisor-test-user"
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/sh", name], check=True, timeout=30)
    yield name
    subprocess.run(["userdel", "--remove", name], check=False, timeout=30, capture_output=True)


@pytest.fixture
def tun() -> Iterator[None]:
    """The host's /dev/net/tun, for everybody, as distributions have it."""
    path = Path("/dev/net/tun")
    if not path.exists() or shutil.which("slirp4netns") is None:
        pytest.skip("/dev/net/tun and slirp4netns are needed")
    before = path.stat().st_mode & 0o777
    path.chmod(0o666)
    yield
    path.chmod(before)


LIFE = """
L="--ulimit nofile=64:64 --ulimit nproc=64:64 --network none"
p run --rm $L bb sh -c 'id -u; touch /x; chown 5:6 /x; stat -c %u:%g /x; exit 7' || echo $?
p run -d $L --name one bb sleep 600 > /dev/null
p exec one echo in
p kill one > /dev/null
p wait one
p rm -f one > /dev/null
"""
NETWORK = f"""
L="--ulimit nofile=64:64 --ulimit nproc=64:64 --network slirp4netns"
L="$L -p 127.0.0.1:{UNUSED_PORT}:8000"
p run -d $L --name one bb sh -c 'echo page > /tmp/p; exec httpd -f -p 8000 -h /tmp' > /dev/null
p exec one ip -o -4 addr show tap0 | grep -o 'inet [0-9.]*'
for n in 1 2 3 4 5 6 7 8 9; do busybox wget -q -O - http://127.0.0.1:{UNUSED_PORT}/p && break; sleep 1; done
p rm -f -t 0 one > /dev/null
"""


def test_rootless(podman: Podman, user: str) -> None:
    """Ids of the user's own range, no control groups, no rights on the host."""
    assert _as_user(podman, user, LIFE) == ["0", "5:6", "7", "in", "137"]


def test_rootless_network(podman: Podman, user: str, tun: None) -> None:
    """By slirp4netns, with a port that is published on the host."""
    assert _as_user(podman, user, NETWORK) == ["inet", "10.0.2.100", "page"]


def _as_user(podman: Podman, user: str, commands: str) -> list[str]:
    """The words that Podman's commands say, as an ordinary user with this runtime."""
    top = Path(f"/tmp/{user}")
    top.mkdir(mode=0o700)
    try:
        shutil.copy(podman.top / "image.tar", top)
        # The interpreter of a virtual environment may be in somebody's home.
        (top / "runrsc").write_text(Path(podman.runtime).read_text().replace(sys.executable, "/usr/bin/python3"))
        (top / "runrsc").chmod(0o755)
        for directory in (ROOT / "python", Path(os.environ.get("RVISOR_BIN_DIR", "/"))):
            reachable = subprocess.run(["su", user, "-c", f"ls {directory}"], capture_output=True, check=False)
            if reachable.returncode != 0:
                pytest.skip(f"{directory} is not for everybody to see")
        (top / "run").mkdir()
        script = f"""set -e
cd {top}; export XDG_RUNTIME_DIR={top}/run
p() {{ podman --cgroup-manager cgroupfs --storage-driver vfs --runtime {top}/runrsc "$@"; }}
p import -q image.tar bb > /dev/null
{commands}
p rmi -f bb > /dev/null
"""
        (top / "script").write_text(script)
        subprocess.run(["chown", "-R", f"{user}:", str(top)], check=True, timeout=30)
        done = subprocess.run(
            ["su", user, "-c", f"sh {top}/script"], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout.split()
    finally:
        subprocess.run(["su", user, "-c", "podman system migrate"], capture_output=True, check=False, timeout=30)
        subprocess.run(["rm", "-rf", str(top)], check=False, timeout=60)
