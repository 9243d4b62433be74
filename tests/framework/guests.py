"""The guest programs of tests/conformance, compiled."""

from __future__ import annotations

from pathlib import Path

from framework import inside

SOURCES = inside.ROOT / "tests" / "conformance" / "guests"
PROGRAMS = sorted(path.stem for path in SOURCES.glob("*.c"))
PRIVILEGED = {"file_attr", "links", "loop", "sysctl", "trusted"}
"""Those that have every capability inside, as root has natively."""
SECONDS = 240
"""The most one program may take."""


def compiled(program: str) -> Path:
    """The guest program, statically linked, compiled if anything it is made of is newer."""
    source, binary = SOURCES / f"{program}.c", inside.BUILD / "guests" / program
    newest = max(path.stat().st_mtime for path in (source, *SOURCES.glob("*.h")))
    if not binary.exists() or binary.stat().st_mtime < newest:
        binary.parent.mkdir(parents=True, exist_ok=True)
        flags = ["-O1", "-g", "-Wall", "-Wextra", "-Wno-unused", "-Wno-nonnull", "-static", "-pthread"]
        done = inside.run(["gcc", *flags, "-o", str(binary), str(source), "-lrt"])
        assert done.status == 0, done.err
    return binary
