"""Fakes for tests of programs that use rVisor, and for its own."""

from __future__ import annotations

import os
import sys

from rvisor._sentry import find


def fake_binaries(directory: str) -> str:
    """Put fakes of the executables into `directory`, for RVISOR_BIN_DIR: programs then run on the host, unconfined.

    The fake launcher speaks the real one's messages. `RVISOR_FAKE` makes it misbehave: `launcher-fails`,
    `sentry-dies`, `nonsense`.
    """
    os.makedirs(directory, exist_ok=True)
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fake_launcher.py")
    for name in (find.LAUNCHER, find.SENTRY, find.STUB):
        path = os.path.join(directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nexec {sys.executable} -I -S {script} "$@"\n')
        os.chmod(path, 0o755)
    return directory
