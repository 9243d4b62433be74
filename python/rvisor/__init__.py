"""rVisor: a private Linux kernel for every sandbox.

    Sandbox, Result      run programs in a sandbox                 (sandbox.py)
    RvisorError …        what can go wrong, each with a hint       (errors.py)

The `rvisor` command is in `cli/`; only `_sentry/` touches the executables. Names load when they are first used, so
that the command starts quickly.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor.errors import BinaryMissing as BinaryMissing
    from rvisor.errors import GuestFailed as GuestFailed
    from rvisor.errors import LaunchError as LaunchError
    from rvisor.errors import RvisorError as RvisorError
    from rvisor.errors import SentryDied as SentryDied
    from rvisor.errors import UsageError as UsageError
    from rvisor.sandbox import Result as Result
    from rvisor.sandbox import Sandbox as Sandbox

__all__ = [
    "BinaryMissing",
    "GuestFailed",
    "LaunchError",
    "Result",
    "RvisorError",
    "Sandbox",
    "SentryDied",
    "UsageError",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'rvisor' has no attribute {name!r}")
    from importlib import import_module

    home = "rvisor.sandbox" if name in ("Result", "Sandbox") else "rvisor.errors"
    return getattr(import_module(home), name)
