"""`python -m rvisor.oci`, and the `runrsc` command.

As a file, `python -I -S rvisor/oci/__main__.py`, it starts in half the time: nothing is looked for in the interpreter's
site directories, of which nothing is needed. `rvisor install docker` writes that down.
"""

from __future__ import annotations

import os
import sys

if not __package__:
    sys.path[:] = [p for p in sys.path if p != os.path.dirname(os.path.abspath(__file__))]
    sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..")))

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
