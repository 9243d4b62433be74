"""The network of `--network user`: pasta or slirp4netns connects the sandbox's namespace to the host's sockets.

Also what programs inside read about the network: /etc/resolv.conf, /etc/hosts, /etc/hostname.
"""

from __future__ import annotations

import os

from rvisor.errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    from rvisor._sentry.messages import TextFile

HELPERS = ("pasta", "slirp4netns")
"""In the order they are looked for. Debian's packages are passt and slirp4netns."""
INSTALL = "install one of the Debian packages passt (pasta, faster) and slirp4netns"
_SECONDS = 20.0
# Runs the helper until its input, a pipe of ours, ends: by `close`, or because this process is no more. Only the helper
# keeps the error output, so that its end shows.
_KEEPER = 'd=$1; shift; "$@" </dev/null & exec 2>/dev/null; read -r _; kill -9 $!; wait; rm -rf "$d"'
# Where pasta answers name queries with the host's own resolver, if that is not reachable by an address of its own.
_PASTA_DNS = "169.254.1.1"
_SLIRP_DNS = "10.0.2.3"
_SLIRP_GUEST = "10.0.2.100"


def find() -> tuple[str, str] | None:
    """Which helper there is: its name and its path."""
    import shutil

    path = os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin:/usr/sbin"
    for name in HELPERS:
        if found := shutil.which(name, path=path):
            return name, found
    return None


class Port:
    """A port of the host passed on to one inside: `kind` is tcp or udp, `address` empty for all of the host's."""

    __slots__ = ("address", "guest", "host", "kind")

    def __init__(self, *, kind: str, address: str, host: int, guest: int) -> None:
        self.kind = kind
        self.address = address
        self.host = host
        self.guest = guest


class Helper:
    """Connects one sandbox: `connect` when its namespace is there, `close` when it has ended. Ends with us."""

    def __init__(self, ports: Sequence[Port]) -> None:
        found = find()
        if found is None:
            raise LaunchError("--network user: there is neither pasta nor slirp4netns", hint=INSTALL)
        self.name, self._path = found
        self._ports = list(ports)
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: str | None = None
        self._kept: list[int] = []
        self._said = b""
        servers = _servers()
        self._forward_dns = self.name == "pasta" and not servers
        if self.name == "slirp4netns":
            self.servers = [_SLIRP_DNS]
        else:
            self.servers = servers or [_PASTA_DNS]

    def connect(self, pid: int) -> None:
        """Connect the network namespace of process `pid`; returns when it works. Raises LaunchError."""
        import tempfile

        self._directory = tempfile.mkdtemp(prefix="rvisor-network-")
        try:
            if self.name == "pasta":
                self._pasta(pid)
            else:
                self._slirp(pid)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the helper."""
        import shutil

        process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()
        while self._kept:
            os.close(self._kept.pop())
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def _pasta(self, pid: int) -> None:
        import time

        assert self._directory is not None
        ready = os.path.join(self._directory, "pid")
        # --no-map-gw: the gateway's address must not lead to the host's loopback interface.
        argv = [self._path, "--foreground", "--quiet", "--config-net", "--no-map-gw", "--pid", ready]
        if os.geteuid() == 0:
            # It would become nobody, who may not enter the sandbox's namespaces.
            argv += ["--runas", "0:0"]
        for kind, option in (("tcp", "-t"), ("udp", "-u")):
            given = [p for p in self._ports if p.kind == kind]
            for port in given:
                address = f"{port.address}/" if port.address else ""
                argv += [option, f"{address}{port.host}:{port.guest}"]
            if not given:
                argv += [option, "none"]
        argv += ["-T", "none", "-U", "none"]
        if self._forward_dns:
            argv += ["--dns-forward", _PASTA_DNS]
        self._start([*argv, str(pid)])
        deadline = time.monotonic() + _SECONDS
        while not (os.path.exists(ready) and os.path.getsize(ready)):
            if self._ended(0.005) or time.monotonic() > deadline:
                raise self._failed()

    def _start(self, argv: list[str], fds: Sequence[int] = ()) -> None:
        import subprocess

        assert self._directory is not None
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER, "sh", self._directory, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=fds,
            start_new_session=True,
        )

    def _ended(self, seconds: float) -> bool:
        """Whether the helper has, at the end of `seconds` at most; what it says is kept."""
        import select

        assert self._process is not None and self._process.stderr is not None
        fd = self._process.stderr.fileno()
        if not select.select([fd], [], [], seconds)[0]:
            return False
        data = os.read(fd, 4096)
        self._said += data
        return not data

    def _slirp(self, pid: int) -> None:
        import select

        assert self._directory is not None
        api = os.path.join(self._directory, "api")
        ready, tells = os.pipe()
        self._kept.append(ready)
        try:
            argv = [self._path, "--configure", "--mtu=65520", "--disable-host-loopback", f"--ready-fd={tells}"]
            argv += [f"--api-socket={api}", f"--userns-path=/proc/{pid}/ns/user", str(pid), "tap0"]
            self._start(argv, [tells])
        finally:
            os.close(tells)
        if not select.select([ready], [], [], _SECONDS)[0] or not os.read(ready, 1):
            raise self._failed()
        for port in self._ports:
            self._publish(api, port)

    def _publish(self, api: str, port: Port) -> None:
        import json
        import socket

        arguments = {
            "proto": port.kind,
            "host_addr": port.address or "0.0.0.0",
            "host_port": port.host,
            "guest_addr": _SLIRP_GUEST,
            "guest_port": port.guest,
        }
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(_SECONDS)
            s.connect(api)
            s.sendall(json.dumps({"execute": "add_hostfwd", "arguments": arguments}).encode())
            s.shutdown(socket.SHUT_WR)
            answer = b""
            while data := s.recv(4096):
                answer += data
        if "error" in json.loads(answer):
            raise LaunchError(
                f"-p: port {port.host} of the host cannot be published: {answer.decode(errors='replace')}"
            )

    def _failed(self) -> LaunchError:
        self.close()
        said = self._said.decode(errors="replace").strip()
        lines = [line for line in said.splitlines() if line]
        return LaunchError(
            f"--network user: {self.name} could not connect the sandbox" + (f": {lines[-1]}" if lines else ""),
            hint="a published port may be taken, or below 1024 without root",
        )


def files(network: str | dict[str, str], hostname: str, servers: Sequence[str]) -> list[TextFile]:
    """What is laid over the root's own files, as `docker run` does. `servers`: the name servers of `user`."""
    texts = {"/etc/hostname": f"{hostname}\n", "/etc/hosts": _hosts(hostname), "/etc/resolv.conf": ""}
    if network == "host":
        texts["/etc/resolv.conf"] = _text("/etc/resolv.conf")
        texts["/etc/hosts"] = _text("/etc/hosts") + f"127.0.1.1\t{hostname}\n"
    elif network == "user":
        texts["/etc/resolv.conf"] = _resolv_conf(servers)
    elif isinstance(network, dict):
        name = os.path.basename(network["ns"])
        texts["/etc/resolv.conf"] = _text(f"/etc/netns/{name}/resolv.conf") or _resolv_conf(_servers())
    return [{"target": target, "text": text} for target, text in texts.items()]


def _hosts(hostname: str) -> str:
    return f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{hostname}\n"


def _resolv_conf(servers: Sequence[str]) -> str:
    others = [line for line in _text("/etc/resolv.conf").splitlines() if line.startswith(("search ", "options "))]
    return "".join(f"{line}\n" for line in [*(f"nameserver {server}" for server in servers), *others])


def _servers() -> list[str]:
    """The host's name servers that are not on its own loopback interface, where nobody else reaches them."""
    found: list[str] = []
    for path in ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"):
        for line in _text(path).splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver" and not words[1].startswith(("127.", "::1")):
                found.append(words[1])
        if found:
            break
    return found


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""
