"""A seccomp profile of the runtime specification as a filter of seccomp(2), which the sandbox's kernel runs."""

from __future__ import annotations

from rvisor.errors import ProfileError
from rvisor.oci.errors import OciError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rvisor.profile.filter import Insn
    from rvisor.profile.model import Table

ACTIONS = tuple(
    f"SCMP_ACT_{name}" for name in ("KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP", "ERRNO", "TRACE", "LOG", "ALLOW")
)
OPERATORS = tuple(f"SCMP_CMP_{name}" for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"))
_FLAGS = ("SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW")
_WHERE = "linux.seccomp"


def program(profile: dict[str, Any]) -> list[Insn]:
    """The filter; raises OciError for what cannot be meant."""
    from rvisor.profile import filter

    try:
        return filter.compile_table(table(profile))
    except ProfileError as error:
        raise OciError(f"config.json: {error}", hint=error.hint) from None


def table(profile: dict[str, Any]) -> Table:
    """What it says of each call; raises OciError for what cannot be meant."""
    from rvisor.oci.config import texts
    from rvisor.profile import seccomp

    if profile.get("listenerPath"):
        raise OciError(f"config.json: {_WHERE}.listenerPath: there is no such listener here")
    for flag in texts(profile, f"{_WHERE}.flags"):
        if flag not in _FLAGS:
            raise OciError(f"config.json: {_WHERE}.flags: {flag} is not supported")
    try:
        found = seccomp.read(profile, where=_WHERE).syscalls
        for action in (found.default, *(rule.action for rule in found.rules)):
            if action.kind == "notify":
                raise ProfileError(f"{_WHERE}: SCMP_ACT_NOTIFY is not supported")
        return found.table()
    except ProfileError as error:
        raise OciError(f"config.json: {error}", hint=error.hint) from None
