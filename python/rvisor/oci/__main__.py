"""`python -m rvisor.oci`, and the `runrsc` command."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Entry point of the `runrsc` command."""
    from rvisor._sentry.standard import open_descriptors
    from rvisor.oci.cli import main as cli_main

    open_descriptors()
    status = cli_main(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        # Nobody reads any more, or there is no room for it.
        status = status or 1
    # Taking the interpreter apart would cost milliseconds, and nothing is left to be done.
    os._exit(status)


if __name__ == "__main__":
    main()
