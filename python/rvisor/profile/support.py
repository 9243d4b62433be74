"""What a kernel cannot enforce of a profile, by name, with where it was said."""

from __future__ import annotations

from rvisor.errors import ProfileError
from rvisor.profile import host
from rvisor.profile.model import Origin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rvisor.profile.model import Action, Kernel, Profile

ANSWERED = ("uname", "sysinfo", "syslog")
"""Calls that the shared kernel's monitor can answer."""
START = (
    *("execve", "execveat", "exit", "exit_group", "rt_sigreturn", "restart_syscall", "write", "sendmsg", "close"),
    *("close_range", "seccomp", "prctl", "mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "futex"),
    *("rt_sigprocmask", "rt_sigaction", "sigaltstack"),
)
"""Calls that stand between the rows and the container's program: no plug-in can serve them."""
CEILING = ("capset", "clone", "clone3", "unshare", "setns")
"""Calls that have rows for the ceiling of capabilities."""
LEAVES = ("NET_RAW", "NET_ADMIN", "SYS_ADMIN", "BPF")
"""Capabilities by which what is sent goes around rules for peers, or the rules themselves go."""

_MISTAKES = 20


def refuse(profile: Profile, kernel: Kernel) -> None:
    """Raises ProfileError with all that kernel cannot enforce."""
    wrong = profile.unsupported(kernel)
    if wrong:
        from rvisor.profile.read import place

        lines = [f"{place(origin)}{what} is not there with --kernel={kernel}" for what, origin in wrong[:_MISTAKES]]
        if len(wrong) > _MISTAKES:
            lines.append(f"… and {len(wrong) - _MISTAKES} more")
        raise ProfileError("\n".join(lines), hint="a profile is enforced whole or not at all")


def _actions(profile: Profile) -> Iterator[tuple[Action, Origin]]:
    if profile.syscalls is not None:
        yield profile.syscalls.default, profile.syscalls.origin
        for rule in profile.syscalls.rules:
            yield rule.action, rule.origin


def private(profile: Profile) -> Iterator[tuple[str, Origin]]:
    for action, origin in _actions(profile):
        if action.kind in ("notify", "plugin"):
            yield f"syscalls: the action {action.kind!r}", origin
    for rule in profile.files.rules:
        yield f"files: the rule on {rule.path}", rule.origin
    if profile.files.default != "rwx":
        yield f"files: the default {profile.files.default!r}", Origin()
    if profile.kernel_log is not None:
        if profile.kernel_log.mode != "own":
            yield f"kernel_log: the mode {profile.kernel_log.mode!r}", profile.kernel_log.origin
        if profile.kernel_log.size is not None:
            yield "kernel_log: a size", profile.kernel_log.origin
    for view in profile.sysctl:
        yield f"sysctl: the view of {view.name}", view.origin
    if profile.memory.overcommit == "never":
        yield "memory: overcommit 'never'", profile.memory.origin
    for peer in profile.network.rules if profile.network is not None else ():
        if peer.protocol != "any":
            yield f"network: a rule for {peer.protocol} only", peer.origin
        if peer.direction != "both":
            yield f"network: a rule for the direction {peer.direction!r} only", peer.origin
    if profile.devices is not None:
        yield "devices: rules on the host's devices, of which there are none,", profile.devices.origin
    if profile.futex_hash is not None:
        yield "futex_hash", Origin()


def shared(profile: Profile) -> Iterator[tuple[str, Origin]]:
    """Some of it depends on the host, and on who asks."""
    for action, origin in _actions(profile):
        if action.kind == "trace":
            yield f"syscalls: the action {action.kind!r}", origin
    rules = () if profile.syscalls is None else profile.syscalls.rules
    own_log = profile.kernel_log is None or profile.kernel_log.mode != "host"
    for rule in rules:
        for name in rule.names if rule.action.kind == "plugin" else ():
            what = f"syscalls: a plug-in for {name}"
            if name in START:
                yield f"{what}, which the start of a container needs,", rule.origin
            elif name in CEILING:
                yield f"{what}, which is looked at for the ceiling of capabilities,", rule.origin
            elif name == "syslog" and own_log:
                yield f"{what} beside the kernel log (its mode is not host)", rule.origin
        if rule.action.kind == "notify":
            for name in rule.names:
                if name not in ANSWERED:
                    yield f"syscalls: the action 'notify' for {name}", rule.origin
            if rule.when:
                yield "syscalls: the action 'notify' under a condition", rule.origin
    if profile.syscalls is not None and profile.syscalls.default.kind == "notify":
        yield "syscalls: the default 'notify'", profile.syscalls.origin
    if profile.memory.overcommit == "never" and "SYS_RESOURCE" in (profile.capabilities or ()):
        yield "memory: overcommit 'never' beside SYS_RESOURCE, which lifts limits,", profile.memory.origin
    yield from _programs(profile)


def _programs(profile: Profile) -> Iterator[tuple[str, Origin]]:
    """What programs attached to control groups enforce."""
    missing = host.hindrance()

    def because(what: str) -> str:
        return f"{what} ({missing})"

    for view in profile.sysctl:
        from rvisor.profile import groups

        if not groups.bounded(view):
            continue
        if not groups.own(view.name):
            yield f"sysctl: {view.name} is the host's, of which a picture can be given; a bound for it", view.origin
        elif len(view.name) >= groups.NAME_ROOM:
            yield f"sysctl: bounds for so long a name as {view.name}", view.origin
        elif missing:
            yield because(f"sysctl: bounds for {view.name}"), view.origin
    if profile.devices is not None and missing:
        yield because("devices: rules"), profile.devices.origin
    yield from _peers(profile, missing)


def _peers(profile: Profile, missing: str | None) -> Iterator[tuple[str, Origin]]:
    network = profile.network
    if network is None or (network.allow and not network.rules):
        return
    from rvisor.profile import groups

    origin = network.rules[0].origin if network.rules else Origin()
    if missing:
        yield f"network: rules for peers ({missing})", origin
    for peer in network.rules:
        if peer.protocol == "icmp":
            yield (
                "network: a rule for icmp (no program sees where it goes: there is none beside such rules)",
                peer.origin,
            )
    if len(network.rules) > groups.MOST_RULES:
        yield f"network: more than {groups.MOST_RULES} rules", origin
    for name in LEAVES:
        if name in (profile.capabilities or ()):
            yield f"network: rules for peers beside the capability {name}, by which they can be left,", origin
