"""Profiles from other things: merged with each other, from lists of calls that were seen, compared, looked over."""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby

from rvisor._record import Record, replace
from rvisor.errors import ProfileError
from rvisor.profile import conditions, filter, read, write
from rvisor.profile.model import ALLOW, EPERM, INT, WORD, Action, Case, Condition, Profile, Rule, Syscalls
from rvisor.profile.vocabulary import NUMBERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

SECTIONS = ("kernel_log", "sysctl", "cpu", "memory", "network", "devices", "futex_hash")
"""Of which two profiles say the same, or differ."""

LOOKED_AT = {
    "socket": 0,
    "socketpair": 0,
    "ioctl": 1,
    "fcntl": 1,
    "prctl": 0,
    "arch_prctl": 0,
    "personality": 0,
}
"""Calls whose one argument says which of many calls it is: a small number of values, each an int."""

INTS = {
    "socket": (0, 1, 2),
    "socketpair": (0, 1, 2),
    "ioctl": (0, 1),
    "fcntl": (0, 1),
    "prctl": (0,),
    "arch_prctl": (0,),
    "personality": (0,),
    "kill": (0, 1),
    "tkill": (0, 1),
    "tgkill": (0, 1, 2),
    "setsockopt": (0, 1, 2),
    "getsockopt": (0, 1, 2),
    "open": (1, 2),
    "openat": (0, 2, 3),
    "madvise": (2,),
    "mknod": (1, 2),
    "setns": (0, 1),
    "syslog": (0,),
    "futex": (1,),
    "bpf": (0,),
    "seccomp": (0, 1),
    "sched_setscheduler": (0, 1),
    "keyctl": (0,),
}
"""Arguments of which the kernel looks at 32 bits only."""

DANGEROUS = {
    "bpf": "programs in the host's kernel",
    "kexec_load": "another kernel",
    "kexec_file_load": "another kernel",
    "init_module": "code in the host's kernel",
    "finit_module": "code in the host's kernel",
    "delete_module": "the host's kernel changed",
    "io_uring_setup": "calls that no filter sees",
    "userfaultfd": "faults held up, a help to many attacks",
    "perf_event_open": "other processes measured",
    "open_by_handle_at": "files outside the container's root",
    "mount": "the tree of files changed",
    "umount2": "what was mounted over something taken away",
    "pivot_root": "another root",
    "move_mount": "the tree of files changed",
    "open_tree": "mounts copied",
    "fsopen": "file systems made",
    "mount_setattr": "read-only mounts made writable",
    "setns": "other namespaces",
    "reboot": "the host",
    "swapon": "the host's swap",
    "acct": "the host's accounting",
    "settimeofday": "the host's clock",
    "clock_settime": "the host's clock",
    "iopl": "ports of devices",
    "ioperm": "ports of devices",
    "add_key": "the host's keyrings",
    "keyctl": "the host's keyrings",
    "request_key": "the host's keyrings",
    "uselib": "long unused code",
    "ustat": "long unused code",
    "sysfs": "long unused code",
    "nfsservctl": "long unused code",
    "vmsplice": "pages given to pipes, where several faults were",
}
ALWAYS = ("execve", "exit", "exit_group", "rt_sigreturn", "restart_syscall")
"""What a process needs to begin and end at all, and what the kernel calls on its behalf."""


class Finding(Record):
    """Something `lint` has to say: `level` warning or note."""

    level: str
    place: str
    text: str


def allowed(profile: Profile) -> set[str]:
    """Names of the calls that are let through under some condition at least."""
    table = profile.table()
    if table is None:
        return set(NUMBERS)
    every = table.default.kind in ("allow", "log")
    return {
        name
        for name, number in NUMBERS.items()
        if (number not in table.cases and every) or any(_lets(case) for case in table.cases.get(number, ()))
    }


def _lets(case: Case) -> bool:
    return case.action.kind in ("allow", "log", "notify", "plugin")


def reasons() -> dict[str, str]:
    """What each call is for, as the default profile says."""
    return {name: rule.reason for rule in _default_rules() for name in rule.names}


def of_calls(
    names: Collection[str],
    values: Mapping[str, Collection[int]] | None = None,
    *,
    default: Action = EPERM,
    whence: str = "",
    namespaces: bool = False,
) -> Syscalls:
    """The rules that let just these calls through; those in `values` only with these values of their one argument.

    clone is allowed without new namespaces unless `namespaces`, and clone3 answers ENOSYS.
    """
    purpose = reasons()
    groups: dict[str, list[str]] = {}
    rules = []
    for name in sorted({*names, *ALWAYS}, key=NUMBERS.__getitem__):
        found = (values or {}).get(name)
        if found:
            argument = LOOKED_AT[name]
            said = f"{purpose.get(name, 'not for every program')}: the kinds that were seen{whence}"
            rules += [
                Rule((name,), ALLOW, (Condition(argument, "==", value & INT, INT),), said) for value in sorted(found)
            ]
        elif name == "clone3" or (name == "clone" and not namespaces):
            rules += [rule for rule in _default_rules() if name in rule.names]
        else:
            groups.setdefault(purpose.get(name, "not for every program"), []).append(name)
    plain = [Rule(tuple(group), ALLOW, (), reason + whence) for reason, group in groups.items()]
    return Syscalls(default, (*plain, *rules))


@lru_cache
def _default_rules() -> tuple[Rule, ...]:
    syscalls = read.load("default").syscalls
    return syscalls.rules if syscalls else ()


def merge(profiles: Sequence[Profile], *, name: str) -> Profile:
    """One that allows what any of them allows: calls, files, capabilities, peers. Limits must agree.

    Raises ProfileError where they say different things of which neither holds both.
    """
    made = profiles[0]
    for other in profiles[1:]:
        made = _merge(made, other)
    return replace(
        made, name=name, description="; ".join(dict.fromkeys(p.description for p in profiles if p.description))
    )


def _merge(one: Profile, other: Profile) -> Profile:
    capabilities = None
    if one.capabilities is not None and other.capabilities is not None:
        capabilities = one.capabilities | other.capabilities
    syscalls = None
    if one.syscalls is not None and other.syscalls is not None:
        syscalls = _merge_syscalls(one.syscalls, other.syscalls)
    if one.files != other.files:
        for rule in (*one.files.rules, *other.files.rules):
            if rule.deny or one.files.default or other.files.default:
                raise ProfileError(
                    "files: rules that deny cannot be merged: what one denies the other may need",
                    hint='write the union by hand, or use lists of what is allowed: files.default = "---"',
                )
    files = replace(one.files, rules=tuple(dict.fromkeys((*one.files.rules, *other.files.rules))))
    for name in SECTIONS:
        mine, theirs = _bare(getattr(one, name)), _bare(getattr(other, name))
        if mine != theirs:
            raise ProfileError(f"{name}: {one.name} and {other.name} do not agree", hint="make them say the same first")
    return replace(
        one, syscalls=syscalls, capabilities=capabilities, files=files, files_read=(*one.files_read, *other.files_read)
    )


def _bare(value: object) -> object:
    if isinstance(value, tuple):
        return [_bare(one) for one in value]
    return write.data(value) if isinstance(value, Record) else value


def _merge_syscalls(one: Syscalls, other: Syscalls) -> Syscalls:
    """Allowed by either: conditions become alternatives, and no condition covers them all."""
    if one.default != other.default:
        raise ProfileError(f"syscalls.default: one says {one.default}, the other {other.default}")
    if one.default.kind in ("allow", "log"):
        raise ProfileError(
            "syscalls: lists of what is denied cannot be merged", hint="rvisor profile build --allow-list"
        )
    rules: list[Rule] = []
    plain: set[str] = set()
    for rule in (*one.rules, *other.rules):
        if rule.action.kind == "allow" and not rule.when:
            plain.update(rule.names)
    for rule in (*one.rules, *other.rules):
        names = rule.names
        if rule.action.kind != "allow":
            # Refused by one of them: only if the other does not allow it.
            names = tuple(name for name in names if name not in plain and not _conditional(name, one, other))
        elif rule.when:
            names = tuple(name for name in names if name not in plain)
        else:
            names = tuple(
                name for name in names if not any(name in r.names and r.action == ALLOW and not r.when for r in rules)
            )
        if names and not any((names, rule.when, rule.action) == (r.names, r.when, r.action) for r in rules):
            rules.append(replace(rule, names=names))
    return Syscalls(one.default, tuple(rules), one.reason)


def _conditional(name: str, *every: Syscalls) -> bool:
    return any(name in rule.names and rule.action.kind == "allow" for syscalls in every for rule in syscalls.rules)


def diff(one: Profile, other: Profile) -> list[tuple[str, str, str]]:
    """What differs: the subject, and what each of them says of it."""
    found: list[tuple[str, str, str]] = []
    mine, theirs = one.table(), other.table()
    for name, number in NUMBERS.items():
        first = describe_cases(mine.cases.get(number, (Case((), mine.default),))) if mine else "allow"
        second = describe_cases(theirs.cases.get(number, (Case((), theirs.default),))) if theirs else "allow"
        if first != second:
            found.append((name, first, second))
    a, b = (sorted(p.capabilities) if p.capabilities is not None else None for p in (one, other))
    if a != b:
        every = ("as the kernel gives", "none")
        left = every[0] if a is None else " ".join(sorted(set(a) - set(b or ()))) or "nothing more"
        right = every[0] if b is None else " ".join(sorted(set(b) - set(a or ()))) or "nothing more"
        found.append(("capabilities", left, right))
    for name in ("files", *SECTIONS):
        before, after = _bare(getattr(one, name)), _bare(getattr(other, name))
        if before != after:
            found.append((name, str(before or "-"), str(after or "-")))
    return found


def describe_cases(cases: Sequence[Case]) -> str:
    """The cases of one call in a line."""
    parts = []
    for action, group in groupby(cases, key=lambda case: case.action):
        gathered = conditions.gathered([case.when for case in group])
        parts += [f"{action} if {' and '.join(lines)}" if lines else str(action) for lines in gathered]
    return "; ".join(parts)


def lint(profile: Profile) -> list[Finding]:
    """What is probably not meant."""
    found: list[Finding] = []
    syscalls = profile.syscalls
    if syscalls is None:
        found.append(Finding("warning", "", "nothing is said of system calls: every one is allowed"))
        return found

    def add(level: str, rule: Rule | Syscalls, text: str) -> None:
        found.append(Finding(level, read.place(rule.origin), text))

    if syscalls.default.kind in ("allow", "log"):
        add("warning", syscalls, "the default lets through what nobody thought of, and what later kernels add")
    unexplained = {(rule.origin, rule.names): rule for rule in syscalls.rules if not rule.reason}
    for rule in unexplained.values():
        add("note", rule, f"no reason is given for {', '.join(rule.names[:4])}")
    for rule in syscalls.rules:
        for condition in rule.when:
            wide = [n for n in rule.names if condition.argument in INTS.get(n, ()) and condition.mask == WORD]
            if wide and condition.op != "==":
                text = (
                    f"argument {condition.argument} of {wide[0]} is an int, of which the kernel drops the upper 32 bits"
                )
                add("warning", rule, f"{text}: write arg{condition.argument}:32, or values above pass by this rule")
        if rule.action.kind in ("allow", "log"):
            for name in rule.names:
                if name in DANGEROUS and not rule.when:
                    add("warning", rule, f"{name} is allowed: {DANGEROUS[name]}")
    _lint_shadows(syscalls, add)
    table = syscalls.table()
    let = allowed(profile)
    clone = table.cases.get(NUMBERS["clone"], ())
    if profile.capabilities is None and any(case.when for case in clone) and "clone3" in let:
        found.append(
            Finding("warning", "", "clone is looked at and clone3, which can do the same, is allowed: errno ENOSYS")
        )
    missing = [name for name in ALWAYS if name not in let]
    if missing:
        found.append(Finding("warning", "", f"no program can begin or end without {', '.join(missing)}"))
    length = len(filter.compile_table(profile.table() or table))
    found.append(Finding("note", "", f"{len(let)} calls are allowed; the filter has {length} instructions"))
    return found


def _lint_shadows(syscalls: Syscalls, add: object) -> None:
    assert callable(add)
    plain: dict[str, Rule] = {}
    for rule in syscalls.rules:
        if not rule.when:
            for name in rule.names:
                if name in plain:
                    add("note", rule, f"{name} is said a second time")
                plain.setdefault(name, rule)
    for rule in syscalls.rules:
        for name in rule.names:
            if rule.when and (plain[name].action if name in plain else syscalls.default) == rule.action:
                add(
                    "warning",
                    rule,
                    f"the conditions on {name} change nothing: without them it is {rule.action} as well",
                )
