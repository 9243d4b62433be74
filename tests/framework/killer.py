"""`runrsc` that dies by SIGKILL just before its N-th step: python killer.py N ARGUMENTS…

A step is a call into the host's kernel, or a library of its, made by code of ours: what can leave something behind.
With N = 0 nobody dies, and the number of steps is printed as the last line of standard error.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

MODULES = ("posix", "_socket", "fcntl", "select", "_posixsubprocess", "io", "_io")


def main() -> None:
    wanted = int(sys.argv[1])
    from rvisor.oci import cli

    made = 0

    def step(frame: FrameType, event: str, called: Any) -> None:
        nonlocal made
        if event != "c_call" or "/rvisor/" not in frame.f_code.co_filename:
            return
        owner = getattr(called, "__self__", None)
        module = getattr(called, "__module__", None) or type(owner).__module__
        if module not in MODULES and type(owner).__name__ not in ("socket", "poll"):
            return
        made += 1
        if made == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(step)
    status = cli.main(sys.argv[2:])
    sys.setprofile(None)
    sys.stdout.flush()
    if wanted == 0:
        print(made, file=sys.stderr)
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
