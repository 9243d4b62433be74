"""What a policy can fail at."""

from __future__ import annotations

from rvisor.errors import RvisorError


class PolicyError(RvisorError):
    """The host refused a setting, or the container has no place for it. The message names the setting."""
