"""What runs through the daemon as a whole: build, compose, a restart with live containers; and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import time

import pytest

from framework.bundle import need
from framework.dockerd import OURS, RUNTIMES, Daemon, Docker, wait_for
from framework.inside import run

private = pytest.mark.skipif(OURS != "rvisor", reason="of the private kernel")

DOCKERFILE = """\
FROM debian
RUN id -u && echo built > /made && test -w /
RUN printf '#include <stdio.h>\\nint main(void) { puts("compiled"); }\\n' > /a.c && gcc -o /a /a.c && rm /a.c
WORKDIR /deep/down
USER 1000
RUN test "$(id -u)" = 1000 && ! touch /x 2>/dev/null && pwd > /tmp/where
USER root
COPY file .
RUN ["/bin/sh", "-c", "cat file >> /made; ln -s /made link; chown 33:44 file; setcap -h >/dev/null 2>&1; true"]
CMD ["/a"]
"""


@pytest.fixture(params=RUNTIMES)
def default(request: pytest.FixtureRequest, daemon: Daemon):  # type: ignore[no-untyped-def]
    """The daemon with this runtime as its default."""
    daemon.restart(default_runtime=request.param)
    yield request.param
    daemon.restart()


def test_build(default: str, daemon: Daemon) -> None:
    context = daemon.top / "build"
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "file").write_text("copied\n")
    done = daemon("build", "--no-cache", "-t", "built", str(context), timeout=300)
    assert done.status == 0, done
    assert daemon("run", "--rm", "built").out == "compiled\n"
    seen = daemon("run", "--rm", "built", "sh", "-c", "cat /made /tmp/where link; stat -c '%u %g' file")
    assert seen.out == "built\ncopied\n/deep/down\nbuilt\ncopied\n33 44\n"
    (context / "Dockerfile").write_text("FROM busybox\nRUN exit 3\n")
    failed = daemon("build", str(context))
    assert failed.status == 3 or "non-zero code: 3" in failed.err


COMPOSE = """\
version: "2.4"
services:
  server:
    image: busybox
    command: sh -c "mkdir /w; echo page > /w/p; exec httpd -f -p 80 -h /w"
    healthcheck:
      test: wget -q -O /dev/null http://127.0.0.1/p
      interval: 1s
      retries: 30
  client:
    image: busybox
    command: sh -c "wget -q -O - http://server/p; echo $$WORD; cat /shared/x"
    environment:
      WORD: word
    volumes:
      - shared:/shared
    depends_on:
      server:
        condition: service_healthy
      writer:
        condition: service_started
  writer:
    image: busybox
    command: sh -c "echo x > /shared/x; sleep 1000"
    volumes:
      - shared:/shared
volumes:
  shared: {}
"""


def test_compose(default: str, daemon: Daemon) -> None:
    program = shutil.which("docker-compose")
    if program is None:
        need("docker-compose is not installed")
    directory = daemon.top / f"compose-{default}"
    directory.mkdir()
    (directory / "docker-compose.yml").write_text(COMPOSE)
    env = dict(os.environ, DOCKER_HOST=daemon.socket)

    def compose(*arguments: str):  # type: ignore[no-untyped-def]
        return run([str(program), "--no-ansi", *arguments], cwd=directory, env=env, timeout=200)

    try:
        assert (done := compose("up", "-d")).status == 0, done
        wait_for(lambda: "word" in compose("logs", "client").out, lambda: str(compose("logs")), 30)
        said = compose("logs", "client").out
        assert all(word in said for word in ("page", "word", "x")), said
        assert "Up" in compose("ps").out
        assert compose("exec", "-T", "server", "cat", "/w/p").out == "page\n"
        assert compose("restart", "-t", "1", "server").status == 0
    finally:
        assert (done := compose("down", "-v", "-t", "1")).status == 0, done


@pytest.mark.parametrize("hard", [False, True], ids=["asked", "killed"])
def test_live_restore(docker: Docker, hard: bool) -> None:
    name = docker.up("-p", "127.0.0.1:8081:80", "busybox", "sh", "-c", "while true; do date +%s; sleep 0.2; done")
    other = docker.up("busybox", "sh", "-c", "sleep 6; exit 5", name="2")
    pid = docker.inspect(name, "{{.State.Pid}}")
    docker.daemon.restart(hard=hard)
    assert docker.inspect(name, "{{.State.Status}} {{.State.Pid}}") == f"running {pid}"
    assert docker("exec", name, "echo", "still").out == "still\n"
    before = len(docker("logs", name).out)
    wait_for(lambda: len(docker("logs", name).out) > before, "nothing is logged any more")
    assert docker("pause", name).status == docker("unpause", name).status == 0
    assert docker("wait", other).out == "5\n"
    assert docker("stop", "-t", "1", name).status == 0
    assert docker.inspect(name, "{{.State.Status}} {{.State.ExitCode}}") == "exited 137"


REFUSED = {
    "pid-host": ("--pid host", "without pid it would be the host's"),
    "ipc-host": ("--ipc host", "without ipc it would be the host's"),
    "device": ("--device /dev/fuse", "/dev/fuse: a private kernel cannot serve this device"),
    "memory": ("-m 6m", "is too small"),
}


@private
@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(docker: Docker, case: str) -> None:
    flags, why = REFUSED[case]
    if "--device" in flags and not os.path.exists("/dev/fuse"):
        pytest.skip("no such device")
    done = docker.run(*flags.split(), "busybox", "true")
    assert done.status == 125
    assert why in done.err


@private
def test_privileged(docker: Docker) -> None:
    """Every capability, over the private kernel alone; none of the host's devices."""
    script = "grep CapEff /proc/self/status; mount -t tmpfs none /tmp && echo mounted; ls /dev/vda"
    done = docker.run("--privileged", "busybox", "sh", "-c", script)
    assert done.out == "CapEff:\t0000003fffffffff\nmounted\n", done


@private
def test_top(docker: Docker) -> None:
    """The host's processes; the guest's programs are named by `runrsc ps`."""
    name = docker.up("busybox", "sleep", "1000")
    rows = docker.ok("top", name, "-o", "pid,comm").splitlines()
    assert any("sentry" in row for row in rows)


def test_many_at_once(docker: Docker) -> None:
    names = [docker.up("busybox", "sh", "-c", f"echo {number}; sleep 1000", name=f"-{number}") for number in range(20)]
    for number, name in enumerate(names):
        docker.logs_until(name, f"{number}\n")
    listed = docker.ok("ps", "--format", "{{.Names}} {{.Status}}", "--filter", f"name={docker.name}")
    assert len([line for line in listed.splitlines() if " Up " in line]) == 20


def test_start_up_is_told(daemon: Daemon, record_property) -> None:  # type: ignore[no-untyped-def]
    """`docker run true` on both runtimes: a figure, not a limit."""
    figures: dict[str, float] = {}
    for runtime in RUNTIMES:
        times = []
        for _ in range(7):
            began = time.monotonic()
            assert Docker(daemon, runtime).run("busybox", "true").status == 0
            times.append(time.monotonic() - began)
        figures[runtime] = round(statistics.median(times) * 1000)
    record_property("milliseconds", json.dumps(figures))
    print(f"\ndocker run --rm busybox true, median ms: {figures}")
