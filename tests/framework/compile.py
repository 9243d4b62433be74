"""Guest programs in C, compiled once: statically, so that they run in any root."""

from __future__ import annotations

from pathlib import Path

from framework import inside

FLAGS = ("-O1", "-g", "-Wall", "-Wextra", "-Wno-unused", "-Wno-nonnull", "-static", "-pthread")


def static(source: Path, *headers: Path) -> Path:
    """The program made of `source`, compiled if anything it is made of is newer."""
    binary = inside.BUILD / source.parent.parent.name / source.stem
    newest = max(path.stat().st_mtime for path in (source, *headers))
    if not binary.exists() or binary.stat().st_mtime < newest:
        binary.parent.mkdir(parents=True, exist_ok=True)
        done = inside.run(["gcc", *FLAGS, "-o", str(binary), str(source), "-lrt"])
        assert done.status == 0, done.err
    return binary
