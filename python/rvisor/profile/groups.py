"""Programs for a container's control group: networks, devices, and what may be written to its settings.

The host's kernel runs them where it decides, on its own copy of the arguments: nothing inside can race with them. They
hold for all in the group and are gone with it. Addresses are in network order, numbers in the processor's.
"""

from __future__ import annotations

import struct

from rvisor.profile.ebpf import BYTE, DOUBLE, FP, HALF, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, Assembler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rvisor._sentry.messages import Program
    from rvisor.profile.model import Devices, Network, NetworkRule, SysctlView

MOST_RULES = 500
"""Of networks, for one profile."""

_TCP, _UDP = 6, 17
_PROTOCOLS = {"tcp": _TCP, "udp": _UDP}
_ICMPV6 = 58
_STREAM, _DATAGRAM = 1, 2
_SYN, _SYN_ACK = 0x02, 0x12
_LOAD_BYTES, _GET_NAME, _GET_NEW_VALUE, _STRTOL = 26, 101, 103, 105
_PORT, _PROTOCOL = R3, R4
_ADDRESS = (R5, R6, R7, R8)
"""Of IPv4 only the first."""
_MAPPED = 0xFFFF0000
"""The third word of an IPv4 address in IPv6's form."""
_LOOPBACK4, _LOOPBACK6 = 0x0100007F, 0x01000000


# Networks


def network(rules: Network) -> list[Program]:
    """At connect, at a datagram sent to an address, at bind, and when a packet comes in that begins something."""
    made = []
    sides = {name: _fitting(rules.rules, name) for name in ("out", "in", "bind")}
    for family in (4, 6):
        for name, side, default, port in (
            ("connect", "out", rules.allow, 24),
            ("sendmsg", "out", rules.allow, 24),
            ("bind", "bind", True, 24),
        ):
            if side == "bind" and not sides["bind"]:
                continue
            made.append(
                _program(f"{name}{family}", _address(family, sides[side], default, bind=name == "bind", port=port))
            )
    made.append(_program("ingress", _ingress(sides["in"], sides["out"], rules.allow)))
    made.append(_program("socket", _socket()))
    return made


def _fitting(rules: Sequence[NetworkRule], side: str) -> list[NetworkRule]:
    fits = {"out": ("out", "both"), "in": ("in", "both"), "bind": ("bind",)}[side]
    return [rule for rule in rules if rule.direction in fits]


def _address(family: int, rules: Sequence[NetworkRule], default: bool, *, bind: bool, port: int) -> Assembler:
    """`struct bpf_sock_addr`."""
    a = Assembler()
    a.load(_PORT, R1, port)
    a.big_endian(_PORT, 16)
    a.load(_PROTOCOL, R1, 36)
    if family == 4:
        a.load(R5, R1, 4)
    else:
        for number, register in enumerate(_ADDRESS):
            a.load(register, R1, 8 + 4 * number)
    unspecified = a.label() if bind else None
    _decide(a, family, rules, default, unspecified)
    if unspecified is not None:
        a.here(unspecified)
        _everywhere(a, family, rules, default)
    return a


def _decide(
    a: Assembler,
    family: int,
    rules: Sequence[NetworkRule],
    default: bool,
    unspecified: int | None = None,
    otherwise: int | None = None,
) -> None:
    """By the address in its registers. `unspecified`: where to go on for the one that means all; else it is the
    loopback's. `otherwise`: where to go on instead of refusing.
    """
    if family == 4:
        _loopback(a, 4, unspecified)
        _body(a, 4, rules, default, otherwise)
        return
    six, four = a.label(), a.label()
    a.when(R5, "!=", 0, six)
    a.when(R6, "!=", 0, six)
    a.when(R7, "==", _MAPPED, four)
    _loopback(a, 6, unspecified)
    a.here(six)
    _body(a, 6, rules, default, otherwise)
    a.here(four)
    a.move(R5, R8)
    _loopback(a, 4, unspecified)
    _body(a, 4, rules, default, otherwise)


def _loopback(a: Assembler, family: int, unspecified: int | None) -> None:
    """To connect to no address is to connect to oneself."""
    done = a.label()
    for register in (R5,) if family == 4 else (R7, R8):
        a.when(register, "!=", 0, done)
    if unspecified is not None:
        a.jump(unspecified)
    elif family == 4:
        a.put(R5, _LOOPBACK4)
    else:
        a.put(R8, _LOOPBACK6)
    a.here(done)


def _body(a: Assembler, family: int, rules: Sequence[NetworkRule], default: bool, otherwise: int | None = None) -> None:
    for rule in rules:
        words = _words(rule, family)
        if words is None:
            continue
        following = a.label()
        for register, (value, mask) in zip(_ADDRESS, words, strict=False):
            if mask == 0xFFFFFFFF:
                a.when(register, "!=", value, following)
            elif mask:
                a.move(R2, register)
                a.alu("and", R2, mask)
                a.when(R2, "!=", value, following)
        _rest(a, rule, following)
        _verdict(a, rule.allow, otherwise)
        a.here(following)
    _verdict(a, default, otherwise)


def _everywhere(a: Assembler, family: int, rules: Sequence[NetworkRule], default: bool) -> None:
    """To bind to no address is to bind to all: what denies one of them denies this."""
    for rule in rules:
        if rule.allow and rule.net and not rule.net.endswith("/0"):
            continue
        if family == 4 and ":" in rule.net:
            continue
        following = a.label()
        _rest(a, rule, following)
        a.end(int(rule.allow))
        a.here(following)
    a.end(int(default))


def _rest(a: Assembler, rule: NetworkRule, following: int) -> None:
    if rule.protocol != "any":
        a.when(_PROTOCOL, "!=", _PROTOCOLS[rule.protocol], following)
    first, last = rule.ports
    if first == last:
        a.when(_PORT, "!=", first, following)
        return
    if first > 0:
        a.when(_PORT, "<", first, following)
    if last < 0xFFFF:
        a.when(_PORT, ">", last, following)


def _verdict(a: Assembler, allow: bool, otherwise: int | None) -> None:
    if not allow and otherwise is not None:
        a.jump(otherwise)
    else:
        a.end(int(allow))


def _words(rule: NetworkRule, family: int) -> list[tuple[int, int]] | None:
    """Value and mask of each 32 bits, as the processor loads them; None: the rule is of the other family."""
    import ipaddress

    if not rule.net:
        return []
    net = ipaddress.ip_network(rule.net)
    if net.version != family:
        return None
    values, masks = net.network_address.packed, net.netmask.packed
    count = len(values) // 4
    return list(zip(struct.unpack(f"={count}I", values), struct.unpack(f"={count}I", masks), strict=True))


def _ingress(inward: Sequence[NetworkRule], outward: Sequence[NetworkRule], default: bool) -> Assembler:
    """`struct __sk_buff`, from the network header on. Of TCP what begins a connection; of UDP all, but that a peer who
    may be asked may answer. Others have no socket here.
    """
    a = Assembler()
    a.move(R9, R1)
    six, drop = a.label(), a.label()
    a.load(R2, R1, 16)
    a.when(R2, "==", struct.unpack("=H", b"\x86\xdd")[0], six)
    a.when(R2, "!=", struct.unpack("=H", b"\x08\x00")[0], drop)
    for family in (4, 6):
        if family == 6:
            a.here(six)
        header = 20 if family == 4 else 40
        _take(a, -40, header, drop)
        udp, tcp, decide = a.label(), a.label(), a.label()
        a.load(_PROTOCOL, FP, -40 + (9 if family == 4 else 6), BYTE)
        if family == 4:
            a.load(R2, FP, -40, BYTE)
            a.alu("and", R2, 0xF)
            a.alu("shl", R2, 2)
        a.when(_PROTOCOL, "==", _TCP, tcp)
        a.when(_PROTOCOL, "==", _UDP, udp)
        if family == 6:
            # What stands between the headers could hide the beginning of a connection.
            a.when(_PROTOCOL, "!=", _ICMPV6, drop)
        a.end(1)
        for label, length in ((tcp, 14), (udp, 2)):
            a.here(label)
            # Kept from the call, which clobbers it.
            a.move(R8, _PROTOCOL)
            _take(a, -56, length, drop, at=None if family == 6 else R2)
            a.move(_PROTOCOL, R8)
            if label == tcp:
                a.load(R2, FP, -56 + 13, BYTE)
                a.alu("and", R2, _SYN_ACK)
                begins = a.label()
                a.when(R2, "==", _SYN, begins)
                a.end(1)
                a.here(begins)
            a.load(_PORT, FP, -56, HALF)
            a.big_endian(_PORT, 16)
            _peer(a, family)
            if label == tcp:
                _decide(a, family, inward, default)
            else:
                _decide(a, family, inward, default, otherwise=decide)
                a.here(decide)
                _peer(a, family)
                _decide(a, family, outward, default)
    a.here(drop)
    a.end(0)
    return a


def _peer(a: Assembler, family: int) -> None:
    for number, register in enumerate(_ADDRESS[: 1 if family == 4 else 4]):
        a.load(register, FP, -40 + (12 if family == 4 else 8) + 4 * number)


def _take(a: Assembler, to: int, length: int, drop: int, at: int | None = 0) -> None:
    """Bytes of the packet onto the stack: from its beginning, after IPv6's header, or from where a register says."""
    a.move(R1, R9)
    if at is None:
        a.put(R2, 40)
    elif at == 0:
        a.put(R2, 0)
    a.move(R3, FP)
    a.add(R3, to)
    a.put(R4, length)
    a.call(_LOAD_BYTES)
    a.when(R0, "!=", 0, drop)


def _socket() -> Assembler:
    """`struct bpf_sock`: TCP and UDP. Where others send to is asked nowhere."""
    a = Assembler()
    a.load(R2, R1, 8)
    a.load(R3, R1, 12)
    for kind, protocol in ((_STREAM, _TCP), (_DATAGRAM, _UDP)):
        other = a.label()
        a.when(R2, "!=", kind, other)
        a.when(R3, "!=", protocol, other)
        a.end(1)
        a.here(other)
    a.end(0)
    return a


# Devices

_KINDS = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
STANDARD = (
    *(("c", 1, minor, "rwm") for minor in (3, 5, 7, 8, 9)),
    *(("c", 5, minor, "rwm") for minor in (0, 1, 2)),
    ("c", 136, None, "rwm"),
    *((kind, None, None, "m") for kind in "bc"),
)
"""What containers have as Docker starts them: null, zero, full, random, urandom, tty, console, ptmx, terminals; and
nodes of any device may be made, not opened."""

KERNEL_LOG = (1, 11)
"""The device that shows the host's kernel log."""


def devices(rules: Devices | None, *, own_log: bool = False) -> list[Program]:
    """When a device is opened or a node of it made. Without rules the standard ones. With a kernel log of its own the
    container never gets at the host's.
    """
    a = Assembler()
    a.load(R2, R1, 0)
    a.load(R3, R1, 4)
    a.load(R4, R1, 8)
    a.move(R5, R2)
    a.alu("and", R5, 0xFFFF)
    a.alu("shr", R2, 16)
    if own_log:
        _device(a, "c", *KERNEL_LOG, "rw", False)
    # The nodes every container has are made whatever is said of opening them.
    for kind, major, minor, _ in STANDARD[:6]:
        _device(a, kind, major, minor, "m", True)
    for rule in rules.rules if rules is not None else ():
        _device(a, rule.kind, rule.major, rule.minor, rule.access, rule.allow)
    if rules is None or rules.default == "standard":
        for kind, major, minor, access in STANDARD:
            _device(a, kind, major, minor, access, True)
    a.end(int(rules is not None and rules.default == "allow"))
    return [_program("device", a)]


def _device(a: Assembler, kind: str, major: int | None, minor: int | None, access: str, allow: bool) -> None:
    following = a.label()
    if kind != "a":
        a.when(R5, "!=", _KINDS[kind], following)
    if major is not None:
        a.when(R3, "!=", major, following)
    if minor is not None:
        a.when(R4, "!=", minor, following)
    bits = sum(_ACCESS[letter] for letter in access)
    a.move(R0, R2)
    # Allowed if all that is asked for is in the rule; denied if any of it is.
    a.alu("and", R0, ~bits if allow else bits)
    a.when(R0, "!=" if allow else "==", 0, following)
    a.end(int(allow))
    a.here(following)


# Settings

NAME_ROOM = 64
"""A setting's name is shorter."""
_VALUE_ROOM = 32


def bounded(view: SysctlView) -> bool:
    """It is the container's own setting, in its namespaces, and not a picture of the host's."""
    return view.writable and (view.minimum is not None or view.maximum is not None)


def own(name: str) -> bool:
    """Whether the setting (by its name with dots) belongs to a namespace that every container has for itself."""
    return name.startswith(("net.", "fs.mqueue.")) or name in _IPC


_IPC = {
    *("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.msg_next_id"),
    *("kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_next_id", "kernel.sem_next_id"),
    "kernel.shm_rmid_forced",
}


def settings(views: Iterable[SysctlView]) -> list[Program]:
    """What is written to those with bounds is one number within them."""
    own = [view for view in views if bounded(view)]
    if not own:
        return []
    a = Assembler()
    refuse, allow = a.label(), a.label()
    a.move(R6, R1)
    a.load(R2, R1, 0)
    a.when(R2, "==", 0, allow)
    for offset in range(0, NAME_ROOM, 4):
        a.store(FP, -NAME_ROOM + offset, 0)
    a.move(R1, R6)
    a.move(R2, FP)
    a.add(R2, -NAME_ROOM)
    a.put(R3, NAME_ROOM)
    a.put(R4, 0)
    a.call(_GET_NAME)
    # A name that is longer is none of ours.
    a.when(R0, "s<", 0, allow)
    for view in own:
        following = a.label()
        name = view.name.replace(".", "/").encode().ljust(NAME_ROOM, b"\0")
        for place in range(0, NAME_ROOM, 8):
            # The rest is zero if this one ends in it.
            if place and name[place - 1] == 0:
                break
            a.load(R2, FP, -NAME_ROOM + place, DOUBLE)
            a.double(R3, int.from_bytes(name[place : place + 8], "little"))
            a.when_double(R2, "!=", R3, following)
        _bounds(a, view, refuse, allow)
        a.here(following)
    a.here(allow)
    a.end(1)
    a.here(refuse)
    a.end(0)
    return [_program("sysctl", a)]


def _bounds(a: Assembler, view: SysctlView, refuse: int, allow: int) -> None:
    value = -NAME_ROOM - _VALUE_ROOM
    result = value - 8
    # Whole values only: a part could be the rest of another.
    a.load(R2, R6, 4)
    a.when(R2, "!=", 0, refuse)
    for offset in range(0, _VALUE_ROOM, 4):
        a.store(FP, value + offset, 0)
    a.move(R1, R6)
    a.move(R2, FP)
    a.add(R2, value)
    a.put(R3, _VALUE_ROOM)
    a.call(_GET_NEW_VALUE)
    a.when(R0, "s<", 0, refuse)
    a.move(R1, FP)
    a.add(R1, value)
    a.put(R2, _VALUE_ROOM)
    a.put(R3, 0)
    a.move(R4, FP)
    a.add(R4, result)
    a.call(_STRTOL)
    a.when(R0, "s<", 1, refuse)
    a.when(R0, ">", _VALUE_ROOM - 1, refuse)
    # After the number: a line's end, or nothing.
    ends = a.label()
    # For the host's check: all 64 bits are bounded.
    a.alu("and", R0, _VALUE_ROOM - 1)
    a.move(R1, FP)
    a.sum(R1, R0)
    a.load(R2, R1, value, BYTE)
    a.when(R2, "==", 0, ends)
    a.when(R2, "!=", ord("\n"), refuse)
    a.when(R0, ">=", _VALUE_ROOM - 1, refuse)
    a.load(R2, R1, value + 1, BYTE)
    a.when(R2, "!=", 0, refuse)
    a.here(ends)
    a.load(R2, FP, result, DOUBLE)
    for bound, op in ((view.minimum, "s<"), (view.maximum, "s>")):
        if bound is not None:
            a.double(R3, bound)
            a.when_double(R2, op, R3, refuse)
    a.jump(allow)


def _program(name: str, made: Assembler) -> Program:
    return {"attach": name, "code": made.code()}
