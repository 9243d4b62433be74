"""Servers, languages and tools do the same inside as natively. `rvisor bench apps` measures the same scripts."""

from __future__ import annotations

import pytest

from rvisor.bench import apps

SCALE = 3
"""Per cent of what is measured: enough to see that it works."""
OPTIONAL = {"go", "java", "node", "rust"}
"""Their compilers and runtimes are large; where they are absent, the test says so and is skipped."""


@pytest.mark.usefixtures("binaries")
@pytest.mark.parametrize("app", apps.apps(), ids=lambda app: app.name)
def test_app(app: apps.App) -> None:
    if (absent := app.absent()) and app.name in OPTIONAL:
        pytest.skip(f"absent here: {', '.join(absent)}")
    assert app.absent() == []
    with apps.Work(app, scale=SCALE) as work:
        wanted = work.natively()
        got = work.inside(platform="slots")
    assert wanted.checks
    assert got.checks == wanted.checks
    assert got.figures.keys() == wanted.figures.keys()
