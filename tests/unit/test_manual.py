"""The pages of the two commands say what the parsers take."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rvisor.oci import boxcli, cli, help

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import manual  # noqa: E402


@pytest.mark.parametrize("name", manual.PAGES)
def test_the_page_is_what_the_parser_says(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == manual.PAGES[name](), "tools/manual.py writes it again"


def test_every_flag_is_explained_and_every_explanation_used() -> None:
    known = [cli.GLOBAL] + [flags for name, (_, flags, _) in cli.COMMANDS.items() if name not in help.REFUSED]
    used = {name for flags in known for name in help.names(flags)}
    assert used == set(help.FLAGS)
    for flags in known:
        for name, kind in flags.items():
            if kind == "v":
                assert help.FLAGS[name][0], name


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_each_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("runrsc")
    if name == "box":
        assert all(f"  {verb}" in said for verb in boxcli.VERBS)
