"""What a profile says, as values: one frozen object per thought. `read` makes them from files, kernels obey them.

None means that the profile does not speak of it: the kernel's own rule holds.
"""

from __future__ import annotations

import errno

from rvisor._record import Record
from rvisor.profile.vocabulary import CAPABILITIES, NUMBERS, number_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Literal

    Kernel = Literal["private", "shared"]
    """Which kernel is to obey."""

WORD = (1 << 64) - 1
INT = (1 << 32) - 1
CLONE_NEWUSER = 0x10000000
KERNELS = ("private", "shared")


class Origin(Record):
    """Where something was said: the file, and the path of keys in it (`read.position` finds line and column)."""

    file: str = ""
    keys: tuple[str | int, ...] = ()


class Action(Record):
    """What is done with a call.

    allow; errno (`number`: which, 0 for success); kill (the process, with SIGSYS); kill-thread; trap (SIGSYS, which may
    be caught); trace (a tracer is asked, `number` is its data); log (allow, with a line in the log); notify (the
    operator's monitor answers); plugin (the Python function `plugin` answers: `module:function`).
    """

    kind: str
    number: int = 0
    plugin: str = ""

    def __str__(self) -> str:
        if self.kind == "errno":
            return f"errno {errno.errorcode.get(self.number, self.number)}"
        return f"{self.kind} {self.plugin or self.number or ''}".rstrip()


ALLOW = Action("allow")
EPERM = Action("errno", errno.EPERM)
ENOSYS = Action("errno", errno.ENOSYS)
KINDS = ("allow", "errno", "kill", "kill-thread", "trap", "trace", "log", "notify", "plugin")
OPERATORS = ("==", "!=", "<", "<=", ">", ">=")


def shown(value: int) -> str:
    """A number as people read it."""
    return str(value) if value < 10 else hex(value)


class Condition(Record):
    """`(argument & mask) op value`, all of 64 bits without a sign. A mask of 32 bits is how the kernel sees an int."""

    argument: int
    op: str
    value: int
    mask: int = WORD

    def holds(self, arguments: tuple[int, ...]) -> bool:
        """Whether it is true of these arguments."""
        found = arguments[self.argument] & self.mask
        match self.op:
            case "==":
                return found == self.value
            case "!=":
                return found != self.value
            case "<":
                return found < self.value
            case "<=":
                return found <= self.value
            case ">":
                return found > self.value
            case _:
                return found >= self.value

    def constant(self) -> bool | None:
        """True or False if it is that of every argument."""
        if self.value & ~self.mask and self.op in ("==", "!="):
            return self.op == "!="
        if self.op in ("<", "<=", ">", ">="):
            lowest, highest = self.holds((0,) * 6), self.holds((self.mask,) * 6)
            return lowest if lowest == highest else None
        return None

    def __str__(self) -> str:
        left = f"arg{self.argument}"
        if self.mask == INT:
            left += ":32"
        elif self.mask != WORD:
            left += f" & {self.mask:#x}"
        return f"{left} {self.op} {shown(self.value)}"


class Rule(Record):
    """Calls by name, what is done with them, and why. All of `when` must hold."""

    names: tuple[str, ...]
    action: Action
    when: tuple[Condition, ...] = ()
    reason: str = ""
    origin: Origin = Origin()


class Case(Record):
    """One of the rules of a call: if all of `when` hold, `action`."""

    when: tuple[Condition, ...]
    action: Action


class Table(Record):
    """Every call's answer: the cases of a number in the order they are asked, then what holds if none fits."""

    default: Action
    cases: Mapping[int, tuple[Case, ...]]

    def decide(self, number: int, arguments: tuple[int, ...]) -> Action:
        """The plain meaning, which the compiled filter has to have as well."""
        for case in self.cases.get(number, ()):
            if all(condition.holds(arguments) for condition in case.when):
                return case.action
        return self.default

    def first(self, rules: Iterable[Rule]) -> Table:
        """The same, but that these are asked before what there is of their calls."""
        cases = dict(self.cases)
        for rule in rules:
            for name in rule.names:
                number = NUMBERS[name]
                left = cases.get(number, (Case((), self.default),))
                case = Case(rule.when, rule.action)
                cases[number] = (case, *left) if case.when else (case,)
        return Table(self.default, cases)


_STRICTEST = ("kill", "kill-thread", "trap", "errno", "notify", "plugin", "trace", "log", "allow")
"""As the kernel has it where several filters answer."""


def both(one: Table | None, other: Table | None) -> Table | None:
    """What holds where both tables do: of their answers the stricter one, as with two filters."""
    if one is None or other is None:
        return one or other
    cases = {}
    for number in {**one.cases, **other.cases}:
        mine = (*one.cases.get(number, ()), Case((), one.default))
        theirs = (*other.cases.get(number, ()), Case((), other.default))
        found = [Case((*a.when, *b.when), _stricter(a.action, b.action)) for a in mine for b in theirs]
        # Behind one without conditions nothing is asked.
        cases[number] = tuple(found[: next(n for n, case in enumerate(found) if not case.when) + 1])
    return Table(_stricter(one.default, other.default), cases)


def _stricter(one: Action, other: Action) -> Action:
    return min(one, other, key=lambda action: _STRICTEST.index(action.kind))


class Syscalls(Record):
    """Rules on system calls. The first that fits decides, those with conditions before those without."""

    default: Action
    rules: tuple[Rule, ...] = ()
    reason: str = ""
    origin: Origin = Origin()

    def table(self) -> Table:
        """By number."""
        conditional: dict[int, list[Case]] = {}
        plain: dict[int, Case] = {}
        for rule in self.rules:
            case = Case(rule.when, rule.action)
            for name in rule.names:
                number = number_of(name)
                if number is None:
                    raise KeyError(name)
                if rule.when:
                    conditional.setdefault(number, []).append(case)
                else:
                    plain.setdefault(number, case)
        cases = {
            number: (*conditional.get(number, ()), *((plain[number],) if number in plain else ()))
            for number in sorted({*conditional, *plain})
        }
        return Table(self.default, cases)


class FileRule(Record):
    """Access to a file, or with `subtree` to a directory and all below it.

    `allow` and `deny` are of the letters r, w and x (x of a directory: searching it). The access to a file is what the
    rules that match it allow together, or `Files.default` if none of them says what it allows; less what any denies.
    `path` may be a pattern (`*` within a name, `**` across names, `?`, `[abc]`, `[^abc]`, `{a,b}`), which is looked up
    when the container starts. One that ends in `/**` is the subtree of each directory before it. Rules are of files,
    not of names: another name of the same file is the same file.
    """

    path: str
    allow: str | None = None
    deny: str = ""
    subtree: bool = False
    reason: str = ""
    origin: Origin = Origin()

    @property
    def pattern(self) -> bool:
        """Whether the path stands for several."""
        return any(letter in self.path for letter in "*?[{")


class Files(Record):
    """Rules on files; `default` is the access to those that no rule allows anything on."""

    default: str = "rwx"
    rules: tuple[FileRule, ...] = ()

    def access(self, matching: list[FileRule]) -> str:
        """The access to a file for which these rules are."""
        said = [rule.allow for rule in matching if rule.allow is not None]
        allowed = set("".join(said)) if said else set(self.default)
        return "".join(letter for letter in "rwx" if letter in allowed - set("".join(r.deny for r in matching)))


class KernelLog(Record):
    """dmesg, /dev/kmsg, /proc/kmsg, syslog(2): `mode` own (a log of the container's own), none (EPERM), or host."""

    mode: str = "own"
    size: int | None = None
    origin: Origin = Origin()


class SysctlView(Record):
    """What the container finds in a file of /proc/sys. `name` has dots. What it writes is in `minimum`…`maximum`."""

    name: str
    value: str
    writable: bool = False
    minimum: int | None = None
    maximum: int | None = None
    origin: Origin = Origin()


class Cpu(Record):
    """`policy`: normal, batch, idle, fifo, rr. `quota` in CPUs, `slice` in ns, `weight` 1–10000 as cgroup v2 has it,
    `cores` as numbers, `controller` a Python class `module:Class`, or the name of a built-in one, that changes these
    while the container runs, with `options`.
    """

    policy: str | None = None
    nice: int | None = None
    priority: int | None = None
    weight: int | None = None
    quota: float | None = None
    slice: int | None = None
    cores: tuple[int, ...] | None = None
    controller: str | None = None
    options: Mapping[str, str | int | float | bool] = {}
    origin: Origin = Origin()


class Memory(Record):
    """`max`, `high` in bytes, `swappiness` 0–200. `overcommit`, as vm.overcommit_memory: heuristic, always, never,
    the last with `ratio` in percent or `kbytes`. `thp`: always, madvise, never. `controller` as for the CPU.
    """

    max: int | None = None
    high: int | None = None
    swappiness: int | None = None
    overcommit: str | None = None
    overcommit_ratio: int | None = None
    overcommit_kbytes: int | None = None
    thp: str | None = None
    controller: str | None = None
    options: Mapping[str, str | int | float | bool] = {}
    origin: Origin = Origin()


class NetworkRule(Record):
    """Peers by network, ports (first, last) and protocol (tcp, udp, icmp, any), connecting out, in, or both; or with
    the direction bind, what own addresses and ports may be taken.
    """

    allow: bool
    net: str = ""
    ports: tuple[int, int] = (0, 65535)
    protocol: str = "any"
    direction: str = "both"
    reason: str = ""
    origin: Origin = Origin()


class Network(Record):
    """The first rule that fits decides, then `default`: allow or deny."""

    allow: bool = True
    rules: tuple[NetworkRule, ...] = ()


class DeviceRule(Record):
    """Devices by `kind` (c, b, or a for all) and numbers (None: every); `access` of r, w, and m for making a node."""

    allow: bool
    kind: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"
    reason: str = ""
    origin: Origin = Origin()


class Devices(Record):
    """The first rule that fits decides, then `default`: standard (those of every container), allow or deny."""

    default: str = "standard"
    rules: tuple[DeviceRule, ...] = ()
    origin: Origin = Origin()


class Profile(Record):
    """One profile, with what it includes already in it."""

    name: str
    description: str = ""
    files_read: tuple[str, ...] = ()
    """The file itself, then those it includes."""
    syscalls: Syscalls | None = None
    capabilities: frozenset[str] | None = None
    """The ceiling: nothing inside ever has others."""
    capabilities_origin: Origin = Origin()
    files: Files = Files()
    kernel_log: KernelLog | None = None
    sysctl: tuple[SysctlView, ...] = ()
    cpu: Cpu = Cpu()
    memory: Memory = Memory()
    network: Network | None = None
    devices: Devices | None = None
    futex_hash: int | None = None
    """Buckets of the process's private futex hash; 0: the global one."""

    def table(self) -> Table | None:
        """Every call's answer; None if nothing is said of any.

        Where there is a ceiling of capabilities no user namespace may be made, as whoever makes one has all of them in
        it: EPERM; and ENOSYS for clone3, whose flags are in memory: C libraries then use clone.
        """
        syscalls = self.syscalls
        if self.capabilities is None or len(self.capabilities) == len(CAPABILITIES):
            return None if syscalls is None else syscalls.table()
        table = (syscalls or Syscalls(ALLOW)).table()
        new = Condition(0, "!=", 0, CLONE_NEWUSER)
        return table.first((Rule(("clone", "unshare"), EPERM, (new,)), Rule(("clone3",), ENOSYS)))

    def capability_mask(self) -> int | None:
        """The ceiling as Linux writes it, bit n for capability n."""
        if self.capabilities is None:
            return None
        return sum(1 << CAPABILITIES.index(name) for name in self.capabilities)

    def unsupported(self, kernel: Kernel) -> list[tuple[str, Origin]]:
        """What that kernel cannot enforce, by name, with where it was said. Nobody may start it while there is any."""
        from rvisor.profile import support

        return list(support.private(self) if kernel == "private" else support.shared(self))
