"""The sections of a file, checked for what they mean, on top of those of the profiles it includes."""

from __future__ import annotations

import errno
import re

from rvisor._record import replace
from rvisor.profile import conditions
from rvisor.profile.model import (
    Action,
    Condition,
    Cpu,
    DeviceRule,
    Devices,
    FileRule,
    Files,
    KernelLog,
    Memory,
    Network,
    NetworkRule,
    Origin,
    Profile,
    Rule,
    Syscalls,
    SysctlView,
)
from rvisor.profile.vocabulary import CAPABILITIES, NUMBERS, OTHER, number_of, suggest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Keys = tuple[str | int, ...]
    Data = Mapping[str, Any]

_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_TIMES = {"ns": 1, "us": 1000, "ms": 1_000_000, "s": 1_000_000_000}
_LARGEST_CPU = 8191
_CASES = 400_000
"""Calls times alternatives of conditions in one file, at most."""


class Problems:
    """Where mistakes are told. When `full`, no more of them are shown."""

    full = False

    def add(self, keys: Keys, what: str) -> None:
        """Something is wrong with the value at `keys`."""
        raise NotImplementedError


def measure(value: object, kind: str) -> int:
    """Bytes of `512m`, nanoseconds of `3ms`; raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    form = r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*" if kind == "size" else r"\s*(\d+(?:\.\d+)?)\s*(ns|us|ms|s)\s*"
    found = re.fullmatch(form, value, re.IGNORECASE | re.ASCII) if isinstance(value, str) else None
    if found is None or len(found[0]) > 40:
        raise ValueError(f"{value!r} is no {'size: write 512m or 2g' if kind == 'size' else 'time: write 3ms'}")
    units = _UNITS if kind == "size" else _TIMES
    return int(float(found[1]) * units.get(found[2].lower(), 1))


def profile(data: Data, base: Profile, file: str, problems: Problems) -> Profile:
    """What the file says, where it says nothing what `base` says."""
    import os

    made = _Sections(file, problems)
    return replace(
        base,
        name=data.get("name") or os.path.basename(file).removesuffix(".toml"),
        description=data.get("description", ""),
        files_read=(file, *base.files_read),
        syscalls=made.syscalls(data.get("syscalls"), base.syscalls),
        capabilities=made.capabilities(data.get("capabilities"), base.capabilities),
        capabilities_origin=Origin(file, ("capabilities",)) if "capabilities" in data else base.capabilities_origin,
        files=made.files(data.get("files", {}), base.files),
        kernel_log=made.kernel_log(data.get("kernel_log"), base.kernel_log),
        sysctl=made.sysctl(data.get("sysctl", {}), base.sysctl),
        cpu=made.cpu(data.get("cpu", {}), base.cpu),
        memory=made.memory(data.get("memory", {}), base.memory),
        network=made.network(data.get("network"), base.network),
        devices=made.devices(data.get("devices"), base.devices),
        futex_hash=made.futex_hash(data.get("futex_hash"), base.futex_hash),
    )


class _Sections:
    def __init__(self, file: str, problems: Problems) -> None:
        self._file = file
        self._wrong = problems.add
        self._problems = problems
        self._cases = 0

    def _origin(self, *keys: str | int) -> Origin:
        return Origin(self._file, keys)

    # System calls

    def syscalls(self, data: Data | None, base: Syscalls | None) -> Syscalls | None:
        if data is None:
            return base
        keys: Keys = ("syscalls",)
        default = self._action(data, "default", keys)
        if default is None:
            if base is None:
                self._wrong(keys, "syscalls: default is missing: what is done with calls that no rule is for")
                return None
            default = base.default
        elif default.kind in ("plugin", "trace"):
            self._wrong((*keys, "default"), f"syscalls.default: {default.kind} is for rules only")
        rules = []
        for number, entry in enumerate(data.get("rule", [])):
            rules += self._rule(entry, (*keys, "rule", number))
        self._contradictions(rules)
        own = {name for rule in rules for name in rule.names}
        for rule in base.rules if base is not None else ():
            left = tuple(name for name in rule.names if name not in own)
            if left:
                rules.append(rule if len(left) == len(rule.names) else replace(rule, names=left))
        return Syscalls(default, tuple(rules), data.get("reason", base.reason if base else ""), self._origin(*keys))

    def _action(self, data: Data, key: str, keys: Keys) -> Action | None:
        kind = data.get(key)
        if kind is None:
            if "errno" in data:
                self._wrong((*keys, "errno"), f"errno: there is no {key} that takes one")
            return None
        number, plugin = 0, ""
        if kind == "errno":
            number = self._errno(data.get("errno", "EPERM"), (*keys, "errno"))
        elif "errno" in data:
            self._wrong((*keys, "errno"), f"errno: the action is {kind}, not errno")
        if "data" in data:
            if kind in ("trap", "trace"):
                number = data["data"]
            else:
                self._wrong((*keys, "data"), f"data: the action is {kind}, not trap or trace")
        if kind == "plugin":
            plugin = data.get("plugin", "")
            if not re.fullmatch(r"[\w.]+:[\w.]+", plugin):
                self._wrong(keys, f"plugin: {plugin!r} is no function: write `module:function`")
        elif "plugin" in data:
            self._wrong((*keys, "plugin"), f"plugin: the action is {kind}, not plugin")
        return Action(kind, number, plugin)

    def _errno(self, name: str, keys: Keys) -> int:
        if name == "0":
            return 0
        number = getattr(errno, name, None) if name.startswith("E") else None
        if not isinstance(number, int):
            self._wrong(keys, f"errno: {name!r} is no error: write EPERM, ENOSYS …")
            return errno.EPERM
        return number

    def _rule(self, data: Data, keys: Keys) -> list[Rule]:
        action = self._action(data, "action", keys) or Action("kill")
        names = data["names"]
        if not names:
            self._wrong((*keys, "names"), "syscalls.rule.names: no call is named")
        known = []
        for number, name in enumerate(names):
            if name in NUMBERS or (action.kind == "plugin" and number_of(name) is not None):
                known.append(name)
            elif number_of(name) is not None:
                self._wrong((*keys, "names", number), f"{name}: calls without a name are for plug-ins only")
            elif name in OTHER:
                self._wrong(
                    (*keys, "names", number), f"{name} is a call of other architectures: x86-64 has none of this name"
                )
            else:
                near = "" if self._problems.full else suggest(name)
                meant = f"; did you mean {near}?" if near else ""
                self._wrong((*keys, "names", number), f"there is no system call {name!r}{meant}")
        alternatives: list[tuple[Condition, ...]] = [()]
        for number, text in enumerate(data.get("when", [])):
            try:
                parsed = conditions.parse(text)
            except ValueError as error:
                self._wrong((*keys, "when", number), str(error))
                continue
            if len(alternatives) * len(parsed) * len(known) > _CASES - self._cases:
                self._wrong((*keys, "when", number), f"more than {_CASES} cases: say it with ranges or masks")
                return []
            alternatives = [(*before, *one) for before in alternatives for one in parsed]
        self._cases += len(alternatives) * len(known)
        reason, origin = data.get("reason", ""), Origin(self._file, keys)
        return [Rule(tuple(dict.fromkeys(known)), action, when, reason, origin) for when in alternatives]

    def _contradictions(self, rules: list[Rule]) -> None:
        said: dict[tuple[str, tuple[Condition, ...]], Rule] = {}
        for rule in rules:
            for name in rule.names:
                first = said.setdefault((name, rule.when), rule)
                if first.action != rule.action:
                    self._wrong(
                        rule.origin.keys,
                        f"contradiction: {name} is to {rule.action} here, and to {first.action} in rule "
                        f"{int(first.origin.keys[2]) + 1} of this file",
                    )

    # Capabilities

    def capabilities(self, data: Data | None, base: frozenset[str] | None) -> frozenset[str] | None:
        if data is None:
            return base
        lists = {
            key: [
                self._capability(name, ("capabilities", key, number)) for number, name in enumerate(data.get(key, []))
            ]
            for key in ("keep", "add", "drop")
        }
        if "keep" not in data and base is None:
            self._wrong(("capabilities",), "capabilities: keep is missing, and no included profile has it")
            return None
        for other in ("keep", "add"):
            for number, name in enumerate(lists["drop"]):
                if name in lists[other]:
                    self._wrong(("capabilities", "drop", number), f"contradiction: {name} is in {other} as well")
        kept = set(lists["keep"]) if "keep" in data else set(base or ())
        return frozenset((kept | set(lists["add"])) - set(lists["drop"])) & frozenset(CAPABILITIES)

    def _capability(self, name: str, keys: Keys) -> str:
        short = name.upper().removeprefix("CAP_")
        if short not in CAPABILITIES:
            from difflib import get_close_matches

            near = get_close_matches(short, CAPABILITIES, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            self._wrong(keys, f"there is no capability {name!r}{meant}")
        return short

    # Files

    def files(self, data: Data, base: Files) -> Files:
        default = base.default
        if "default" in data:
            default = self._letters(data["default"], ("files", "default"))
        rules = []
        for number, entry in enumerate(data.get("rule", [])):
            rules += self._file_rule(entry, ("files", "rule", number))
        return Files(default, (*rules, *base.rules))

    def _file_rule(self, data: Data, keys: Keys) -> list[FileRule]:
        allow = self._letters(data["allow"], (*keys, "allow")) if "allow" in data else None
        deny = self._letters(data["deny"], (*keys, "deny")) if "deny" in data else ""
        if allow is None and not deny:
            self._wrong(keys, "files.rule: neither allow nor deny says anything")
        if allow and set(allow) & set(deny):
            self._wrong((*keys, "deny"), "contradiction: the same letter is in allow and in deny")
        if not data["paths"]:
            self._wrong((*keys, "paths"), "files.rule.paths: no path is named")
        made = []
        for number, path in enumerate(data["paths"]):
            normal = "/".join(part for part in path.split("/") if part not in ("", "."))
            if not path.startswith("/") or ".." in path.split("/"):
                self._wrong((*keys, "paths", number), f"{path!r} is no absolute path without ..")
            elif len(path.encode()) > 4095:
                self._wrong((*keys, "paths", number), "the path is longer than 4095 bytes")
            else:
                origin = Origin(self._file, (*keys, "paths", number))
                made.append(
                    FileRule("/" + normal, allow, deny, data.get("subtree", False), data.get("reason", ""), origin)
                )
        return made

    def _letters(self, text: str, keys: Keys) -> str:
        letters = set(text) - {"-"}
        if letters - set("rwx"):
            self._wrong(keys, f"{text!r}: access is written with r, w and x")
        return "".join(letter for letter in "rwx" if letter in letters)

    # The rest

    def kernel_log(self, data: Data | None, base: KernelLog | None) -> KernelLog | None:
        if data is None:
            return base
        size = measure(data["size"], "size") if "size" in data else base.size if base else None
        mode = data.get("mode", base.mode if base else "own")
        if size is not None and mode != "own":
            self._wrong(("kernel_log",), f"kernel_log.size: the mode is {mode}: there is no log of its own")
        return KernelLog(mode, size, self._origin("kernel_log"))

    def sysctl(self, data: Data, base: tuple[SysctlView, ...]) -> tuple[SysctlView, ...]:
        views = {view.name: view for view in base}
        for name, view in data.items():
            keys = ("sysctl", name)
            if not re.fullmatch(r"[a-z0-9_-]+(\.[A-Za-z0-9_/-]+)+", name) or "/.." in name or "//" in name:
                self._wrong(keys, f"sysctl: {name!r} is no name: write kernel.hostname")
                continue
            made: Data = view if isinstance(view, dict) else {"value": str(view)}
            low, high = made.get("minimum"), made.get("maximum")
            if (low is not None or high is not None) and not re.fullmatch(r"-?\d{1,19}", made["value"]):
                self._wrong(keys, f"sysctl: {name}: bounds are for numbers")
            elif low is not None and high is not None and low > high:
                self._wrong((*keys, "minimum"), f"sysctl: {name}: the minimum is above the maximum")
            elif (low is not None and int(made["value"]) < low) or (high is not None and int(made["value"]) > high):
                self._wrong((*keys, "value"), f"sysctl: {name}: the value is out of its own bounds")
            views[name] = SysctlView(name, made["value"], made.get("writable", False), low, high, self._origin(*keys))
        return tuple(views.values())

    def cpu(self, data: Data, base: Cpu) -> Cpu:
        if not data:
            return base
        given = dict(data)
        if "slice" in given:
            given["slice"] = measure(given["slice"], "time")
        if "cores" in given:
            given["cores"] = self._cores(given["cores"])
        if "controller" in given:
            self._controller(given["controller"], ("cpu", "controller"))
        if "policy" in given:
            # A priority or niceness of another policy is not taken over.
            base = replace(base, nice=None, priority=None)
        made = replace(base, **given, origin=self._origin("cpu"))
        policy = made.policy or "normal"
        if made.priority is not None and policy not in ("fifo", "rr"):
            self._wrong(("cpu", "priority"), f"cpu.priority: the policy is {policy}; priorities are for fifo and rr")
        if made.nice is not None and policy not in ("normal", "batch"):
            self._wrong(("cpu", "nice"), f"cpu.nice: the policy is {policy}; nice is for normal and batch")
        if made.slice is not None and policy not in ("normal", "batch"):
            self._wrong(("cpu", "slice"), f"cpu.slice: the policy is {policy}; slices are for normal and batch")
        return made

    def _cores(self, text: str) -> tuple[int, ...]:
        found: set[int] = set()
        for part in text.split(","):
            bounds = re.fullmatch(r"\s*(\d{1,5})(?:\s*-\s*(\d{1,5}))?\s*", part, re.ASCII)
            first, last = (int(bounds[1]), int(bounds[2] or bounds[1])) if bounds else (1, 0)
            if first > last or last > _LARGEST_CPU:
                self._wrong(("cpu", "cores"), f"cpu.cores: {text!r} is no list of CPUs: write 0-3,6")
                return ()
            found.update(range(first, last + 1))
        return tuple(sorted(found))

    def _controller(self, text: str, keys: Keys) -> None:
        if not re.fullmatch(r"[\w.-]+(:[\w.]+)?", text):
            self._wrong(keys, f"{text!r} is no controller: write a built-in one's name, or `module:Class`")

    def memory(self, data: Data, base: Memory) -> Memory:
        if not data:
            return base
        given = {key: value for key, value in data.items() if key != "overcommit"}
        for key in ("max", "high"):
            if key in given:
                given[key] = measure(given[key], "size")
        if "controller" in given:
            self._controller(given["controller"], ("memory", "controller"))
        overcommit = data.get("overcommit", {})
        if overcommit:
            given |= {
                "overcommit": overcommit.get("mode", base.overcommit),
                "overcommit_ratio": overcommit.get("ratio"),
                "overcommit_kbytes": overcommit.get("kbytes"),
            }
        made = replace(base, **given, origin=self._origin("memory"))
        keys = ("memory", "overcommit")
        if made.max is not None and made.high is not None and made.high > made.max:
            self._wrong(("memory", "high"), "contradiction: memory.high is above memory.max")
        if made.overcommit_ratio is not None and made.overcommit_kbytes is not None:
            self._wrong(keys, "contradiction: memory.overcommit.ratio and kbytes exclude each other")
        if made.overcommit != "never" and (made.overcommit_ratio, made.overcommit_kbytes) != (None, None):
            self._wrong(keys, "memory.overcommit: ratio and kbytes are for the mode never")
        return made

    def network(self, data: Data | None, base: Network | None) -> Network | None:
        if data is None:
            return base
        base = base or Network()
        rules = [self._network_rule(entry, ("network", "rule", n)) for n, entry in enumerate(data.get("rule", []))]
        allow = data["default"] == "allow" if "default" in data else base.allow
        return Network(allow, (*rules, *base.rules))

    def _network_rule(self, data: Data, keys: Keys) -> NetworkRule:
        import ipaddress

        net = data["net"]
        if net == "any":
            net = ""
        else:
            try:
                net = str(ipaddress.ip_network(net))
            except ValueError as error:
                self._wrong((*keys, "net"), f"network.rule.net: {error}")
        ports = (0, 65535)
        if "ports" in data:
            found = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", data["ports"], re.ASCII)
            first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
            if first > last or last > 65535:
                self._wrong((*keys, "ports"), f"network.rule.ports: {data['ports']!r}: write 443 or 8000-8999")
            ports = (first, last)
        protocol = data.get("protocol", "any")
        if protocol == "icmp" and "ports" in data:
            self._wrong((*keys, "ports"), "network.rule.ports: icmp has none")
        allow, direction = data["action"] == "allow", data.get("direction", "both")
        return NetworkRule(allow, net, ports, protocol, direction, data.get("reason", ""), Origin(self._file, keys))

    def devices(self, data: Data | None, base: Devices | None) -> Devices | None:
        if data is None:
            return base
        base = base or Devices()
        rules = [self._device_rule(entry, ("devices", "rule", n)) for n, entry in enumerate(data.get("rule", []))]
        return Devices(data.get("default", base.default), (*rules, *base.rules), self._origin("devices"))

    def _device_rule(self, data: Data, keys: Keys) -> DeviceRule:
        number = r"(\d{1,10}|\*)"
        found = re.fullmatch(rf"([bc])\s+{number}:{number}", data["device"].strip(), re.ASCII)
        kind, major, minor = "a", None, None
        if found:
            kind = found[1]
            major, minor = (None if text == "*" else int(text) for text in found.groups()[1:])
        elif data["device"] != "all":
            self._wrong((*keys, "device"), f"devices.rule.device: {data['device']!r}: write c 1:3, b 8:*, or all")
        if max(major or 0, minor or 0) >= 1 << 31:
            self._wrong((*keys, "device"), f"devices.rule.device: {data['device']!r}: no device has such a number")
        letters = set(data.get("access", "rwm")) - {"-"}
        if letters - set("rwm") or not letters:
            self._wrong((*keys, "access"), f"devices.rule.access: {data['access']!r}: write some of r, w and m")
        access = "".join(letter for letter in "rwm" if letter in letters)
        origin = Origin(self._file, keys)
        return DeviceRule(data["action"] == "allow", kind, major, minor, access, data.get("reason", ""), origin)

    def futex_hash(self, number: int | None, base: int | None) -> int | None:
        if number is None:
            return base
        if number & (number - 1) or number == 1:
            self._wrong(("futex_hash",), f"futex_hash: {number} is no power of two from 2 on, and not 0")
        return number
