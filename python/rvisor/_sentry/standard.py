"""The three standard descriptors."""

from __future__ import annotations

import os
import sys


def open_descriptors() -> None:
    """Make sure that there are all three."""
    # A caller may have closed them; the next file opened would then be taken for standard output.
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # Python has None for what was closed.
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
