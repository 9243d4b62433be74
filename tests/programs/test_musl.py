"""Programs of the other C library: its loader, its call sites, its threads."""

from __future__ import annotations

from pathlib import Path

import pytest

from framework import inside

SOURCE = Path(__file__).with_name("musl.c")


@pytest.mark.usefixtures("binaries")
@pytest.mark.parametrize("link", ["dynamic", "static", "static-pie"])
def test_musl(link: str, platform: str, tmp_path: Path) -> None:
    program = tmp_path / "program"
    flags = [] if link == "dynamic" else [f"-{link}"]
    made = inside.run(["musl-gcc", "-O1", *flags, "-o", str(program), str(SOURCE)])
    assert made.status == 0, made.err
    wanted = inside.run([str(program)])
    assert wanted.status == 3
    assert wanted.out.startswith("sum 200000\ncalls 2000\n")
    got = inside.rvisor("run", "--platform", platform, "-v", f"{tmp_path}:/program:ro", "--", "/program/program")
    assert got == wanted
