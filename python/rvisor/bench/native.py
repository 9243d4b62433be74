"""Measuring programs are C, compiled on the spot."""

from __future__ import annotations

import os
import shutil
import subprocess

from rvisor.errors import RvisorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path


def compile_c(source: Path, directory: str, *, static: bool = False) -> str:
    """The program of `source`, made in `directory`; its path."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise RvisorError("no C compiler was found", hint="install gcc and the C library's headers")
    program = os.path.join(directory, source.stem)
    flags = ["-O2", "-pthread"] + (["-static"] if static else [])
    done = subprocess.run(
        [compiler, *flags, "-o", program, str(source)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode != 0:
        raise RvisorError(f"the measuring program does not compile: {last_line(done.stderr)}")
    return program


def last_line(text: bytes) -> str:
    """What a program said last, for a message."""
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
