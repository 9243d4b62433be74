"""What people write, turned into values: sizes, volumes, users, variables. Every refusal is a UsageError."""

from __future__ import annotations

import os

from rvisor.errors import UsageError

_UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SMALLEST_MEMORY = 16 << 20
_LARGEST_PIDS = 1 << 22
_LARGEST_ID = (1 << 32) - 2


def memory(text: str | int) -> int:
    """Bytes from `512m`, `2g`, `1.5g` or a plain number."""
    try:
        if isinstance(text, int):
            size = text
        else:
            word = text.strip().lower()
            for ending in ("ib", "b"):
                if len(word) > len(ending) and word.endswith(ending) and word[-len(ending) - 1] in "kmgt":
                    word = word[: -len(ending)]
            unit = _UNITS.get(word[-1:], 0)
            size = int(float(word[:-1]) * unit) if unit else int(word)
    except (ValueError, OverflowError):
        raise UsageError(f"--memory: {text!r} is not a size", hint="write a number with k, m or g: 512m, 2g") from None
    if size < _SMALLEST_MEMORY:
        raise UsageError(f"--memory: {text} is too small", hint="a sandbox needs at least 16m, its kernel included")
    if size >= 1 << 63:
        raise UsageError(f"--memory: {text} is too large")
    return size


def millicpus(value: str | float) -> int:
    """Thousandths of a CPU from `1.5`."""
    try:
        count = int(float(value) * 1000 + 0.5)
    except (ValueError, OverflowError):
        raise UsageError(f"--cpus: {value!r} is not a number", hint="write how many CPUs: 1, 0.5") from None
    if not 10 <= count <= 10_000_000:
        raise UsageError(f"--cpus: {value} is out of range", hint="between 0.01 and 10000")
    return count


def pids(value: str | int) -> int:
    """A number of processes and threads."""
    count = _number("--pids", value)
    if not 1 <= count <= _LARGEST_PIDS:
        raise UsageError(f"--pids: {value} is out of range", hint=f"at least 1, at most {_LARGEST_PIDS}")
    return count


def seconds(value: str | float) -> float:
    """A positive time."""
    try:
        time = float(value)
    except ValueError:
        raise UsageError(f"--timeout: {value!r} is not a number of seconds") from None
    if not 0 < time < 1e9:
        raise UsageError(f"--timeout: {value} is out of range", hint="write seconds: 30, 0.5")
    return time


def volume(text: str) -> tuple[str, str, bool]:
    """`SRC:DST[:ro]` as source, target, read-only."""
    parts = text.split(":")
    mode = parts.pop() if len(parts) == 3 else "rw"
    if len(parts) != 2 or mode not in ("ro", "rw") or not all(parts):
        raise UsageError(f"-v: {text!r} is not SRC:DST[:ro]", hint="for example -v ./data:/data:ro")
    source, target = os.path.abspath(parts[0]), parts[1]
    try:
        is_plain = os.path.isdir(source) or os.path.isfile(source)
        os.stat(source)
    except OSError as error:
        raise UsageError(f"-v: the source {source}: {error.strerror}") from None
    if not is_plain:
        raise UsageError(f"-v: the source {source} is neither a directory nor a regular file")
    if not target.startswith("/") or os.path.normpath(target).lstrip("/") == "":
        raise UsageError(f"-v: the target {target!r} must be an absolute path inside, other than /")
    return source, "/" + os.path.normpath(target).lstrip("/"), mode == "ro"


def overlay(text: str) -> str | dict[str, str]:
    """`memory`, `none`, or a directory."""
    if text in ("memory", "none"):
        return text
    path = os.path.abspath(text)
    if not os.path.isdir(path):
        raise UsageError(
            f"--overlay: {text!r} is not a directory", hint="write memory, none, or the path of a directory"
        )
    return {"dir": path}


def root(path: str) -> str:
    """An existing directory, absolute."""
    absolute = os.path.abspath(path)
    try:
        os.stat(absolute)
    except OSError as error:
        raise UsageError(f"--rootfs: {path}: {error.strerror}") from None
    if not os.path.isdir(absolute):
        raise UsageError(f"--rootfs: {path} is not a directory")
    return absolute


def network(text: str) -> str | dict[str, str]:
    """`none`, `host`, `user` or `ns:PATH`."""
    if text in ("none", "host", "user"):
        return text
    kind, colon, path = text.partition(":")
    if kind != "ns" or not colon or not path:
        raise UsageError(f"--network: {text!r} is none of none, host, user and ns:PATH")
    path = os.path.abspath(path)
    try:
        os.stat(path)
    except OSError as error:
        raise UsageError(
            f"--network: {path}: {error.strerror}", hint="name it as `ip netns` does: ns:/run/netns/NAME"
        ) from None
    return {"ns": path}


def port(text: str) -> tuple[str, str, int, int]:
    """`[IP:]HOST:GUEST[/udp]` as tcp or udp, address (empty: all), the host's port, the guest's."""
    spec, slash, kind = text.partition("/")
    rest, colon, guest = spec.rpartition(":")
    address, _, host = rest.rpartition(":")
    if not colon or (slash and kind not in ("tcp", "udp")):
        raise UsageError(f"-p: {text!r} is not [IP:]HOST:GUEST[/udp]", hint="for example -p 127.0.0.1:8080:80")
    address = address.removeprefix("[").removesuffix("]")
    if address:
        _address("-p", address)
    numbers = [_port("-p", word) for word in (host, guest)]
    return kind or "tcp", address, numbers[0], numbers[1]


def network_rule(text: str) -> tuple[bool, str, tuple[int, int]]:
    """`allow:NET[:PORTS]` or `deny:NET[:PORTS]`; PORTS are one or FIRST-LAST. Whether to allow, net, ports."""
    import ipaddress

    verdict, _, rest = text.partition(":")
    if verdict not in ("allow", "deny") or not rest:
        raise UsageError(f"--net-rule: {text!r} is not allow:NET[:PORTS] or deny:NET[:PORTS]")
    for name, ports in ((rest, ""), rest.rpartition(":")[::2]):
        try:
            net = ipaddress.ip_network(name.removeprefix("[").removesuffix("]"), strict=False)
        except ValueError:
            continue
        first, dash, last = ports.partition("-")
        low, high = (_port("--net-rule", first), _port("--net-rule", last if dash else first)) if ports else (0, 65535)
        return verdict == "allow", str(net), (low, high)
    raise UsageError(f"--net-rule: {rest!r} begins with no network", hint="for example deny:10.0.0.0/8:1-1023")


def _address(option: str, text: str) -> None:
    import ipaddress

    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise UsageError(f"{option}: {text!r} is not an address") from None


def _port(option: str, text: str) -> int:
    number = _number(option, text)
    if not 1 <= number <= 65535:
        raise UsageError(f"{option}: {text} is not a port", hint="1 to 65535")
    return number


def variables(given: list[str]) -> dict[str, str]:
    """`K=V`, or `K` for the caller's own value; a name the caller does not have is left out."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name:
            raise UsageError(f"-e: {text!r} has no name", hint="write -e NAME=VALUE, or -e NAME to pass on your own")
        if equals:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    return found


def hostname(text: str) -> str:
    """A name of at most 64 bytes."""
    plain = text.replace("-", "").replace(".", "").replace("_", "")
    if not plain.isalnum() or not text.isascii() or len(text) > 64:
        raise UsageError(f"--hostname: {text!r} is not a host name", hint="letters, digits, '-' and '.', at most 64")
    return text


def directory_inside(text: str) -> str:
    """An absolute path inside."""
    if not text.startswith("/"):
        raise UsageError(f"-w: {text!r} must be an absolute path inside")
    return text


class User:
    """Who the program is: numbers, the home directory its `passwd` gives, and its further groups."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, *, uid: int, gid: int, home: str, groups: list[int]) -> None:
        self.uid = uid
        self.gid = gid
        self.home = home
        self.groups = groups


def user(text: str | None, root: str) -> User:
    """`UID[:GID]`, numbers or names; names are looked up in the container's own files below `root`."""
    name, colon, group = (text or "0").partition(":")
    if not name or (colon and not group):
        raise UsageError(f"-u: {text!r} is not UID[:GID]")
    entries = _entries(root, "passwd", 7)
    number = int(name) if name.isdecimal() else None
    entry = next((e for e in entries if (e[0] == name if number is None else e[2] == str(number))), None)
    if number is None and entry is None:
        raise UsageError(f"-u: no user {name!r} in {os.path.join(root, 'etc/passwd')}", hint="write its number")
    uid = _id("-u", number if number is not None or entry is None else entry[2])
    gid = _id("-u", entry[3]) if entry else 0
    groups: list[int] = []
    if group:
        gid = _id("-u", group) if group.isdecimal() else _group(group, root)
    elif entry:
        members = _entries(root, "group", 4)
        groups = [int(g[2]) for g in members if entry[0] in g[3].split(",") and g[2].isdecimal()]
    home = entry[5] if entry and entry[5].startswith("/") else "/root" if uid == 0 else "/"
    return User(uid=uid, gid=gid, home=home, groups=groups)


def _group(name: str, root: str) -> int:
    for entry in _entries(root, "group", 4):
        if entry[0] == name:
            return _id("-u", entry[2])
    raise UsageError(f"-u: no group {name!r} in {os.path.join(root, 'etc/group')}", hint="write its number")


def _entries(root: str, name: str, fields: int) -> list[list[str]]:
    # The container's files are not to be trusted: a link in their place could name a file of the host's.
    try:
        etc = os.open(os.path.join(root, "etc"), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=etc)
        finally:
            os.close(etc)
        with open(fd, encoding="utf-8", errors="replace") as lines:
            text = lines.read(1 << 20)
    except OSError:
        return []
    rows = (line.split(":") for line in text.splitlines())
    return [row for row in rows if len(row) == fields]


def _id(option: str, value: str | int | None) -> int:
    number = _number(option, value)
    if not 0 <= number <= _LARGEST_ID:
        raise UsageError(f"{option}: {value} is out of range", hint=f"0 to {_LARGEST_ID}")
    return number


def _number(option: str, value: str | int | None) -> int:
    try:
        return int(value if value is not None else "")
    except ValueError:
        raise UsageError(f"{option}: {value!r} is not a number") from None
