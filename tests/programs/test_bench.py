"""What a sandbox costs, within bounds that a busy machine keeps, too; `rvisor bench` prints the figures themselves."""

from __future__ import annotations

import json

import pytest

from framework import inside


@pytest.mark.usefixtures("binaries")
def test_start_and_memory() -> None:
    done = inside.rvisor("bench", "start", "--runs", "5", "--json", timeout=120)
    assert done.status == 0, done.err
    figures = {figure["name"]: figure["value"] for figure in json.loads(done.out)}
    assert all(value > 0 for value in figures.values()), figures
    assert figures["launcher's first instruction to the guest's first"] < 100
    assert figures["idle shell: sentry and stubs together, shared pages once"] <= 12


@pytest.mark.usefixtures("binaries")
def test_computation_is_not_slowed() -> None:
    done = inside.rvisor("bench", "compute", "--runs", "1", "--json", timeout=120)
    assert done.status == 0, done.err
    pace = json.loads(done.out)[-1]
    assert pace["unit"] == "%"
    assert pace["value"] > 60
