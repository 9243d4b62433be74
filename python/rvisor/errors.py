"""What can go wrong on the operator's side: what happened, and what to do about it.

A guest that exits with a status other than 0 is a result, not an error, unless the caller asked with `check=True`.
"""

from __future__ import annotations


class RvisorError(Exception):
    """Base of all of rVisor's own errors.

    `hint` says what to do; it may be empty. `status` is the exit status of the command that failed with it, as
    `docker run` numbers them: 125 for rVisor itself, 126 for a command that cannot be executed, 127 for one that
    is not there.
    """

    status = 125

    def __init__(self, message: str, *, hint: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        if status is not None:
            self.status = status


class UsageError(RvisorError):
    """An option or argument was wrong. Correct it; nothing was started."""


class BinaryMissing(RvisorError):
    """One of the three executables was not found. Build them, or name their directory in RVISOR_BIN_DIR."""


class LaunchError(RvisorError):
    """The sandbox or its first program could not be started; `rvisor doctor` tells what the host lacks."""

    said = False
    """The launcher has already said it on standard error."""


class SentryDied(RvisorError):
    """The sandbox's kernel ended before its program did: a fault of rVisor's. Please report it with a debug log."""


class ControlError(RvisorError):
    """A running sandbox refused what it was asked. `errno` is the name of the error: ENOENT, ESRCH, EINVAL …"""

    def __init__(self, message: str, *, errno: str, status: int) -> None:
        super().__init__(message, status=status)
        self.errno = errno


class SandboxGone(RvisorError):
    """The sandbox has ended, and everything in it."""


class GuestFailed(RvisorError):
    """The command ended with a status other than 0, and the caller had asked for `check=True`."""


class ProfileError(RvisorError):
    """A profile is wrong, or cannot be enforced. The text begins with file, line and column where they are known."""
