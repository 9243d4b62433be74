"""Programs for control groups: they answer as the rules plainly mean, and the host's limits hold."""

from __future__ import annotations

import ipaddress
import random
import struct

import pytest
from machine import STACK, run

from rvisor.errors import ProfileError
from rvisor.profile import groups, host, read
from rvisor.profile.model import DeviceRule, Devices, Network, NetworkRule, SysctlView

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
NETS = (
    "",
    "127.0.0.0/8",
    "127.0.0.2/32",
    "200.0.0.0/15",
    "0.0.0.0/0",
    "::/0",
    "::1/128",
    "fd00::/9",
    "2001:db8::7/128",
)
ADDRESSES = (
    *("127.0.0.1", "127.0.0.2", "200.0.3.4", "200.1.255.255", "255.255.255.255", "0.0.0.0", "::", "::1"),
    *("fd00::5", "fdff::", "2001:db8::7", "::ffff:200.1.2.3", "::ffff:127.0.0.2", "::ffff:0.0.0.0", "ff02::1"),
)


def plainly(network: Network, side: str, address: str, port: int, protocol: str) -> bool:
    """What the rules mean."""
    ip: Address = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        # Of all IPv4's it is asked as of all: more is denied, not less.
        ip = ip.ipv4_mapped if side != "bind" or int(ip.ipv4_mapped) else ipaddress.ip_address("::")
    anywhere = side == "bind" and int(ip) == 0
    if int(ip) == 0 and side == "out":
        ip = ipaddress.ip_address("127.0.0.1" if ip.version == 4 else "::1")
    for rule in network.rules:
        if rule.direction not in {"out": ("out", "both"), "in": ("in", "both"), "bind": ("bind",)}[side]:
            continue
        net = ipaddress.ip_network(rule.net) if rule.net else None
        fits = net is None or ip in net
        if anywhere and net is not None:
            # `::` is IPv4's addresses as well.
            fits = (ip.version == 6 or net.version == 4) and (not rule.allow or net.prefixlen == 0)
            if ip.version == 6 and ipaddress.ip_address(address).version == 6 and rule.allow:
                fits = net.prefixlen == 0
        if fits and rule.ports[0] <= port <= rule.ports[1] and rule.protocol in ("any", protocol):
            return rule.allow
    return True if side == "bind" else network.allow


def some(chance: random.Random) -> Network:
    rules = []
    for _ in range(chance.randrange(6)):
        first = chance.choice((0, 1, 80, 443, 65535))
        last = chance.choice((first, first, 65535))
        protocol = chance.choice(("any", "tcp", "udp"))
        direction = chance.choice(("both", "out", "in", "bind"))
        rules.append(NetworkRule(chance.random() < 0.5, chance.choice(NETS), (first, last), protocol, direction))
    return Network(chance.random() < 0.5, tuple(rules))


def context(address: str, port: int, protocol: str) -> bytes:
    """`struct bpf_sock_addr`."""
    ip = ipaddress.ip_address(address)
    four, six = (ip.packed, bytes(16)) if ip.version == 4 else (bytes(4), ip.packed)
    number = {"tcp": 6, "udp": 17}[protocol]
    return struct.pack("=I4s16sIIII", 2, four, six, int.from_bytes(struct.pack(">H", port), "little"), 2, 1, number)


def packet(address: str, port: int, protocol: str, flags: int = 2) -> bytes:
    """From the network header on, with options in IPv4's."""
    ip = ipaddress.ip_address(address)
    number = {"tcp": 6, "udp": 17, "icmp": 1, "hop": 0, "icmp6": 58}[protocol]
    data = struct.pack(">HHIIBB", port, 80, 0, 0, 0x50, flags) + bytes(8)
    if ip.version == 4:
        return bytes([0x46]) + bytes(8) + bytes([number, 0, 0]) + ip.packed + bytes(8) + data
    return bytes([0x60]) + bytes(5) + bytes([number, 64]) + ip.packed + bytes(16) + data


def ingress(code: list[int], text: bytes) -> int:
    def load(stack: bytearray, arguments: list[int]) -> int:
        _, offset, to, length, _ = arguments
        piece = text[offset : offset + length]
        stack[to - STACK : to - STACK + len(piece)] = piece
        return 0 if len(piece) == length else -14

    kind = b"\x08\x00" if text[0] >> 4 == 4 else b"\x86\xdd"
    return run(code, bytes(16) + kind + bytes(2), {26: load})


@pytest.mark.parametrize("seed", range(30))
def test_networks(seed: int) -> None:
    chance = random.Random(seed)
    network = some(chance)
    programs = {one["attach"]: one["code"] for one in groups.network(network)}
    for address in ADDRESSES:
        family = 4 if "." in address and ":" not in address else 6
        for port in (0, 1, 79, 80, 443, 65535):
            for protocol in ("tcp", "udp"):
                what = (network, address, port, protocol)
                given = context(address, port, protocol)
                for place, side in (("connect", "out"), ("sendmsg", "out"), ("bind", "bind")):
                    code = programs.get(f"{place}{family}")
                    expected = plainly(network, side, address, port, protocol)
                    assert (run(code, given) if code else 1) == expected, (place, what)
                if int(ipaddress.ip_address(address)) == 0 or address == "::ffff:0.0.0.0":
                    continue
                inward = plainly(network, "in", address, port, protocol)
                if protocol == "udp":
                    inward = inward or plainly(network, "out", address, port, protocol)
                assert ingress(programs["ingress"], packet(address, port, protocol)) == inward, what
    # What was begun from here goes on; what hides is not let in; what says that a peer is not there is.
    assert ingress(programs["ingress"], packet("200.1.2.3", 80, "tcp", flags=0x12)) == 1
    assert ingress(programs["ingress"], packet("fd00::5", 80, "hop")) == 0
    assert ingress(programs["ingress"], packet("fd00::5", 80, "icmp6")) == 1
    assert ingress(programs["ingress"], packet("127.0.0.1", 80, "tcp")[:30]) == 0


def test_sockets() -> None:
    code = next(one["code"] for one in groups.network(Network(False)) if one["attach"] == "socket")
    for kind, protocol, allowed in ((1, 6, 1), (2, 17, 1), (3, 1, 0), (2, 1, 0), (1, 262, 0), (5, 132, 0), (3, 255, 0)):
        assert run(code, struct.pack("=IIII", 0, 2, kind, protocol)) == allowed


def device(code: list[int], kind: str, major: int, minor: int, access: str) -> int:
    bits = sum({"m": 1, "r": 2, "w": 4}[letter] for letter in access)
    return run(code, struct.pack("=III", bits << 16 | {"b": 1, "c": 2}[kind], major, minor))


def test_devices() -> None:
    standard = groups.devices(None)[0]["code"]
    for kind, major, minor, access, allowed in (
        ("c", 1, 3, "rw", 1),
        ("c", 136, 77, "rwm", 1),
        ("c", 1, 11, "r", 0),
        ("b", 1, 3, "r", 0),
        ("b", 254, 0, "m", 1),
        ("b", 254, 0, "rm", 0),
    ):
        assert device(standard, kind, major, minor, access) == allowed, (kind, major, minor)
    rules = (
        DeviceRule(False, "c", 1, 8, "w"),
        DeviceRule(True, "c", 10, 200, "rw"),
        DeviceRule(True, "b", 8, access="r"),
    )
    more = groups.devices(Devices("standard", rules))[0]["code"]
    assert device(more, "c", 1, 8, "rw") == 0 and device(more, "c", 1, 8, "r") == 1
    assert device(more, "c", 10, 200, "rw") == 1 and device(more, "c", 10, 200, "m") == 1
    assert device(more, "b", 8, 17, "r") == 1 and device(more, "b", 8, 17, "rw") == 0
    assert device(groups.devices(Devices("deny"))[0]["code"], "c", 1, 3, "r") == 0
    assert device(groups.devices(Devices("allow", rules))[0]["code"], "b", 254, 0, "rw") == 1


VIEWS = [
    SysctlView("kernel.shmmax", "1", True, -5, 2000),
    SysctlView("net.ipv4.ip_default_ttl", "64", True, None, 255),
    SysctlView("kernel.pid_max", "1", True),
]


def write(code: list[int], name: str, value: str, position: int = 0) -> int:
    import re

    def put(text: bytes, stack: bytearray, to: int, room: int) -> int:
        piece = text[: room - 1]
        stack[to - STACK : to - STACK + room] = piece.ljust(room, b"\0")
        return len(piece) if len(piece) == len(text) else -7

    def get_name(stack: bytearray, a: list[int]) -> int:
        return put(name.encode(), stack, a[1], a[2])

    def get_value(stack: bytearray, a: list[int]) -> int:
        return put(value.encode(), stack, a[1], a[2])

    def strtol(stack: bytearray, a: list[int]) -> int:
        text = bytes(stack[a[0] - STACK : a[0] - STACK + a[1]]).split(b"\0")[0]
        found = re.match(rb"\s*(-?(?:0[xX][0-9a-fA-F]+|\d+))", text)
        if found is None:
            return -22
        number = int(found[1], 0)
        if not -(1 << 63) <= number < 1 << 63:
            return -34
        struct.pack_into("=q", stack, a[3] - STACK, number)
        return found.end()

    return run(code, struct.pack("=II", 1, position), {101: get_name, 103: get_value, 105: strtol})


def test_settings() -> None:
    assert groups.settings([VIEWS[2]]) == []
    code = groups.settings(VIEWS)[0]["code"]
    for value, allowed in (
        *(("1", 1), ("2000\n", 1), ("-5", 1), ("0x10", 1)),
        *(("2001", 0), ("-6", 0), ("", 0), ("x", 0), ("1 2", 0), ("1\n2", 0), ("9" * 20, 0), ("1" + " " * 40, 0)),
    ):
        assert write(code, "kernel/shmmax", value) == allowed, value
    assert write(code, "kernel/shmmax", "1", position=1) == 0
    assert write(code, "net/ipv4/ip_default_ttl", "256") == 0 and write(code, "net/ipv4/ip_default_ttl", "-9") == 1
    for other in ("kernel/shmmaxi", "kernel/shmma", "net/ipv4/ip_default_tt", "kernel/pid_max", "a" * 70):
        assert write(code, other, "999999") == 1, other
    assert run(code, struct.pack("=II", 0, 0)) == 1


def test_as_many_rules_as_are_allowed_fit() -> None:
    net = "2001:db8:0:8000::/49"
    rules = tuple(NetworkRule(True, net, (n, n + 1), "tcp") for n in range(1, groups.MOST_RULES + 1))
    groups.network(Network(False, rules))
    four = tuple(NetworkRule(True, "10.0.0.0/9", (n, n + 1), "tcp") for n in range(1, groups.MOST_RULES + 1))
    groups.network(Network(False, four))
    with pytest.raises(ProfileError, match="too many"):
        groups.network(Network(False, rules * 9))


def test_what_cannot_be_enforced(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(text: str) -> str:
        return "; ".join(what for what, _ in read.loads(text).unsupported("shared"))

    monkeypatch.setattr(host, "hindrance", lambda: None)
    peer = "[[network.rule]]\naction = 'deny'\nnet = '10.0.0.0/8'\n"
    assert refused(peer) == ""
    assert "icmp" in refused(peer + "protocol = 'icmp'\n")
    assert "NET_RAW" in refused("[capabilities]\nkeep = ['NET_RAW']\n" + peer)
    assert "pid_max" in refused("[sysctl]\n'kernel.pid_max' = {value = '1', writable = true, maximum = 5}\n")
    assert "more than 500" in refused("\n".join([peer] * 501))
    assert refused("[devices]\ndefault = 'deny'\n") == ""
    monkeypatch.setattr(host, "hindrance", lambda: "for this reason")
    for text in (peer, "[devices]\n", "[sysctl]\n'kernel.shmmax' = {value = '1', writable = true, maximum = 5}\n"):
        assert "for this reason" in refused(text), text


def test_mistakes_in_devices() -> None:
    for text, what in (
        ("device = 'x 1:3'", "2:1: .*write c 1:3"),
        ("device = 'c 1:9999999999'", "no device has such a number"),
        ("device = 'c 1:3'\naccess = 'x'", "3:1: .*some of r, w and m"),
        ("device = 'all'\naccess = '-'", "some of r, w and m"),
        ("", "device is missing"),
    ):
        with pytest.raises(ProfileError, match=what):
            read.loads(f"[[devices.rule]]\n{text}\naction = 'allow'\n")
