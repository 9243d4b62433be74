"""What a sandbox costs, within bounds that a busy machine keeps, too; `rvisor bench` prints the figures themselves."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from framework import host, inside


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


@pytest.mark.usefixtures("binaries")
@pytest.mark.skipif(os.geteuid() != 0, reason="measuring side by side needs root")
def test_side_by_side(tmp_path: Path) -> None:
    """Every kind once, with all peers that are here; those that are not are named, and nothing is left."""
    before = host.state()
    file, made = tmp_path / "figures.json", tmp_path / "report"
    names = "runc,bwrap,gvisor-systrap"
    common = ["--against", names, "--quick", "--gentle", "--json", str(file), "--resume"]
    for kind in ("start", "memory", "surface", "seed"):
        done = inside.rvisor("bench", kind, *common, timeout=240)
        assert done.status == 0, done.err
    done = inside.rvisor("bench", "micro", "--only", "getppid", "--pause", "1", *common, timeout=240)
    assert done.status == 0, done.err
    done = inside.rvisor("bench", "report", "--json", str(file), "--report", str(made))
    assert done.status == 0, done.err
    held = json.loads(file.read_text())
    here = set(held["versions"])
    assert {"native", "rvisor"} <= here
    troubles = [line for line in held["troubles"] if ": absent: " not in line]
    assert troubles == []
    assert {line.partition(":")[0] for line in held["troubles"]} == {"native", "rvisor", *names.split(",")} - here
    for trial in (
        "micro",
        "start true",
        "crowd",
        "memory",
        "surface",
        "seed write",
        "seed mkdir host",
        "seed nginx",
        "seed pwgen",
    ):
        assert {sample["peer"] for sample in held["samples"] if sample["trial"] == trial} == here, trial
    figures = {(f["trial"], f["name"], f["peer"]): f for f in held["figures"]}
    assert figures["micro", "getppid", "rvisor"]["ratio"] > 0
    assert figures["start true", "CPU", "rvisor"]["median"] > figures["start true", "CPU", "native"]["median"]
    assert figures["surface", "least, calls", "rvisor"]["median"] < 30
    assert "<svg" in (made / "index.html").read_text()
    assert host.left_since(before) == []


def test_a_peer_that_is_none_is_refused() -> None:
    done = inside.rvisor("bench", "start", "--against", "nonsense")
    assert done.status == 2
    assert "there are: native, rvisor, runc" in done.err
    assert inside.rvisor("bench", "start", "--resume").status == 2
    assert inside.rvisor("bench", "compute", "--against", "runc").status == 2
    assert inside.rvisor("bench", "report").status == 2
    assert inside.rvisor("bench", "all", "--budget", "0").status == 2
    assert inside.rvisor("bench", "micro", "--budget", "5").status == 2


@pytest.mark.usefixtures("binaries")
@pytest.mark.skipif(os.geteuid() != 0, reason="measuring side by side needs root")
def test_load_grows(tmp_path: Path) -> None:
    """More threads, and sandboxes beside each other: every one of them is counted."""
    file = tmp_path / "figures.json"
    done = inside.rvisor(
        "bench", "micro", "--against", "bwrap", "--quick", "--pause", "1", "--json", str(file), timeout=240
    )
    assert done.status == 0, done.err
    figures = {(f["trial"], f["name"], f["peer"]): f["median"] for f in json.loads(file.read_text())["figures"]}
    for peer in ("native", "rvisor"):
        for name in ("getppid, 1 thread", "stat, 8 threads"):
            assert figures["load threads", name, peer] > 1000, (name, peer)
        for trial in ("load boxes 01", "load boxes 10", "load boxes 50"):
            assert figures[trial, "pread 4 KiB", peer] > 1000, (trial, peer)
    assert 0.5 < figures["load boxes 50", "memory, each", "rvisor"] < 30
