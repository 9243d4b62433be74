"""`--network`: each mode, with real programs, as root and as an ordinary user."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework import host, inside

pytestmark = pytest.mark.usefixtures("binaries")

SERVE = """
import http.server, threading, urllib.request
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://localhost:{server.server_port}/etc/hostname"
print(urllib.request.urlopen(url, timeout=10).read().decode().strip())
"""
ANSWER = """
import socket
s = socket.create_server(("0.0.0.0", 80))
print("ready", flush=True)
c, _ = s.accept()
c.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nfrom inside")
c.shutdown(socket.SHUT_WR)
c.recv(4096)
"""


def python() -> str:
    return "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable


def run(*options: str, code: str) -> inside.Done:
    return inside.rvisor("run", *options, "--timeout", "40", "--", python(), "-c", code, cwd="/", timeout=60)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def test_http_over_loopback(platform: str) -> None:
    done = run("--platform", platform, "--hostname", "web", code=SERVE)
    assert (done.status, done.out) == (0, "web\n"), done.err


def test_none_reaches_nothing() -> None:
    code = "import socket; print(socket.if_nameindex()); socket.create_connection(('192.0.2.1', 80), 5)"
    done = run(code=code)
    assert done.out == "[(1, 'lo')]\n"
    assert "Network is unreachable" in done.err


@pytest.mark.skipif(not shutil.which("ip"), reason="no iproute2")
def test_ip() -> None:
    done = inside.rvisor("run", "--", "sh", "-c", "ip -br addr; ip link set lo down", cwd="/")
    assert done.out.split() == ["lo", "UNKNOWN", "127.0.0.1/8", "::1/128"]
    assert "Operation not permitted" in done.err


def test_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        done = run("--network", "host", code=f"import socket; socket.create_connection(('127.0.0.1', {port}), 10)")
        assert done.status == 0, done.err
        s.settimeout(5)
        s.accept()[0].close()


def test_rules() -> None:
    code = (
        "import socket\n"
        "s = socket.create_server(('127.0.0.1', 0)); p = s.getsockname()[1]\n"
        "try: socket.create_connection(('127.0.0.1', p), 5)\n"
        "except PermissionError: print('refused')\n"
    )
    assert run("--net-rule", "deny:127.0.0.0/8", code=code).out == "refused\n"
    assert run("--net-rule", "allow:127.0.0.1", "--net-rule", "deny:127.0.0.0/8", code=code).out == ""


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network namespace with a name, connected to the host's by a veth pair."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("needs root and iproute2")
    name = f"rvt{os.getpid()}"
    ip = ["ip", "netns", "exec", name, "ip"]
    commands = [
        ["ip", "netns", "add", name],
        ["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name],
        ["ip", "addr", "add", "10.213.7.1/30", "dev", name],
        ["ip", "link", "set", name, "up"],
        [*ip, "addr", "add", "10.213.7.2/30", "dev", "eth0"],
        [*ip, "link", "set", "eth0", "up"],
        [*ip, "link", "set", "lo", "up"],
    ]
    try:
        for command in commands:
            done = inside.run(command)
            if done.status != 0:
                pytest.skip(f"{' '.join(command)}: {done.err}")
        yield name
    finally:
        inside.run(["ip", "netns", "del", name])
        inside.run(["ip", "link", "del", name])


def test_namespace(namespace: str) -> None:
    where = f"ns:/run/netns/{namespace}"
    with host.sandbox("run", "--network", where, "--", python(), "-c", ANSWER, ready="ready", cwd="/"):
        assert urllib.request.urlopen("http://10.213.7.2/", timeout=10).read() == b"from inside"
    done = run("--network", where, code="import socket; print([n for _, n in socket.if_nameindex()])")
    assert done.out == "['lo', 'eth0']\n", done.err


def test_namespace_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("--network", f"ns:{tmp_path}/file", code="")
    assert done.status == 125
    assert "entering the network namespace" in done.err
    done = inside.rvisor("run", "--network", "bridge", "--", "true")
    assert (done.status, "none of none, host, user" in done.err) == (125, True)


@pytest.fixture
def helper() -> None:
    from rvisor._sentry import network

    if network.find() is None:
        pytest.skip("neither pasta nor slirp4netns")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun is not for this user")


def helpers() -> set[str]:
    done = subprocess.run(["pgrep", "-x", "pasta|passt.avx2|slirp4netns"], capture_output=True, text=True, check=False)
    return set(done.stdout.split())


@pytest.mark.usefixtures("helper")
def test_user_publishes() -> None:
    port, before = free_port(), helpers()
    options = ("--network", "user", "-p", f"127.0.0.1:{port}:80")
    with host.sandbox("run", *options, "--", python(), "-c", ANSWER, ready="ready", cwd="/") as box:
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10).read() == b"from inside"
        assert host.status(box).status == 0
    assert host.until(lambda: helpers() <= before)


@pytest.mark.usefixtures("helper")
def test_user_helper_ends_with_a_killed_command() -> None:
    before = helpers()
    with host.sandbox("run", "--network", "user", "--", "sh", "-c", "echo ready; sleep 60", ready="ready") as box:
        assert helpers() - before
        box.kill()
    assert host.until(lambda: helpers() <= before)


@pytest.mark.usefixtures("helper")
def test_user_port_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        done = inside.rvisor("run", "--network", "user", "-p", f"127.0.0.1:{port}:80", "--", "true", timeout=60)
    assert done.status == 125
    assert "could not connect the sandbox" in done.err
