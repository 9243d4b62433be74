"""What `runrsc` refuses or fails at."""

from __future__ import annotations

from rvisor.errors import RvisorError


class OciError(RvisorError):
    """A command of the runtime's failed; callers read the text, so what runc has words for is said in them."""

    status = 1


class NoSuchContainer(OciError):
    """There is no container of this name."""

    def __init__(self) -> None:
        super().__init__("container does not exist")
