"""Side by side: ratios, what is kept, the reports, and the reading of filters. No sandbox is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rvisor.bench import report, side, surface
from rvisor.bench.peers import Job, Peer, oci
from rvisor.errors import RvisorError


class Work(side.Trial):
    """Gives each peer's figures in their order; ends as an interrupted command would when there are no more."""

    key = "work"
    title = "Some work"

    def __init__(self, **figures: list[float]) -> None:
        self.figures = figures

    def run(self, peer: Peer) -> dict[str, tuple[float, str]]:
        if not self.figures[peer.name]:
            raise KeyboardInterrupt
        value = self.figures[peer.name].pop(0)
        if value < 0:
            raise RvisorError(f"{peer.name}: cannot")
        return {"time": (value, "s"), "pace": (100 / value, "/s")}


class Named(Peer):
    def __init__(self, name: str) -> None:
        self.name = name

    def absent(self) -> str:
        return ""

    def version(self) -> str:
        return "1"

    def argv(self, job: Job) -> list[str]:
        return job.args


PEERS = [Named("native"), Named("rvisor"), Named("runc")]


def measured(work: Work, results: side.Results, *, runs: int = 3, warm_up: int = 0) -> list[str]:
    said: list[str] = []
    side.measure([work], PEERS, results, runs=runs, warm_up=warm_up, say=said.append)
    return said


def test_a_ratio_is_the_cost_of_each_pair_whatever_the_unit() -> None:
    results = side.Results(None, resume=False)
    said = measured(Work(native=[1, 2, 4], rvisor=[2, 2, 2], runc=[1, 2, 5]), results)
    assert [line.rpartition(" ")[2] for line in said[:4]] == ["native", "rvisor", "runc", "native"]
    ((_, _, figures),) = results.trials()
    for figure in figures:
        line = figure.lines["rvisor"]
        assert (line.ratio, line.ratio_low, line.ratio_high) == (1.0, 0.5, 2.0), figure.name
    assert figures[0].lines["runc"].median == 2
    assert (figures[0].lines["runc"].low, figures[0].lines["runc"].high) == (1, 5)


def test_warming_up_does_not_count() -> None:
    results = side.Results(None, resume=False)
    measured(Work(native=[9, 1], rvisor=[9, 3], runc=[9, 1]), results, runs=1, warm_up=1)
    assert results.trials()[0][2][0].lines["rvisor"].ratio == 3


def test_who_fails_is_named_and_the_others_go_on() -> None:
    results = side.Results(None, resume=False)
    measured(Work(native=[1, 1, 1], rvisor=[1, 1, 1], runc=[1, -1]), results)
    assert results.troubles == ["Some work: runc: cannot"]
    lines = results.trials()[0][2][0].lines
    assert (lines["rvisor"].turns, lines["runc"].turns) == (3, 1)


def test_an_interrupted_run_keeps_what_it_has_and_goes_on(tmp_path: Path) -> None:
    file = str(tmp_path / "figures.json")
    with pytest.raises(KeyboardInterrupt):
        measured(Work(native=[1, 1], rvisor=[2], runc=[3]), side.Results(file, resume=False))
    held = json.loads(Path(file).read_text())
    assert [(sample["peer"], sample["turn"]) for sample in held["samples"]][-1] == ("native", 1)
    results = side.Results(file, resume=True)
    measured(Work(native=[1], rvisor=[4, 4], runc=[5, 5]), results)
    assert [results.trials()[0][2][0].lines[name].median for name in ("native", "rvisor", "runc")] == [1, 4, 5]
    Path(file).write_text("{}")
    with pytest.raises(RvisorError, match="not a file of"):
        side.Results(file, resume=True)


def test_the_reports_hold_every_figure_and_need_nothing_else(tmp_path: Path) -> None:
    results = side.Results(None, resume=False)
    measured(Work(native=[1, 1, 1], rvisor=[2, 2, 4], runc=[3, 3, 3]), results)
    results.trouble("crun: absent: <why>")
    report.write(str(tmp_path / "made"), results)
    page = (tmp_path / "made" / "index.html").read_text()
    text = (tmp_path / "made" / "report.md").read_text()
    for made in (page, text, report.text(results)):
        assert "×2.00 (2.00–4.00)" in made
        assert "Some work" in made
        assert "crun: absent: " in made
    assert "<svg" in page and "http" not in page and "&lt;why&gt;" in page
    assert "kernel" in text


def test_the_seeds_ratios_stand_beside() -> None:
    results = side.Results(None, resume=False)
    work = Work(native=[1], rvisor=[2], runc=[3])
    work.key = "seed mkdir"
    measured(work, results, runs=1)
    assert "×1.76" in report.text(results) and "×1.48" in report.text(results)


LOAD_NUMBER, LOAD_ARGUMENT = (0x20, 0, 0, 0), (0x20, 0, 0, 16)
ALLOW, KILL = (0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x80000000)


@pytest.mark.parametrize(
    ("code", "reached"),
    [
        ([ALLOW], {0, 1, 2}),
        ([KILL], set()),
        ([LOAD_NUMBER, (0x15, 1, 0, 1), KILL, ALLOW], {1}),
        ([LOAD_NUMBER, (0x35, 0, 1, 1), ALLOW, KILL], {1, 2}),
        # Call 2 only with some argument.
        ([LOAD_NUMBER, (0x15, 0, 3, 2), LOAD_ARGUMENT, (0x15, 0, 1, 7), ALLOW, KILL], {2}),
        ([LOAD_NUMBER, (0x05, 0, 0, 1), ALLOW, KILL], set()),
    ],
)
def test_filters_are_read(code: surface.Filter, reached: set[int]) -> None:
    assert {number for number in range(3) if "allow" in surface.answers(code, number)} == reached


def test_every_filter_must_let_a_call_through() -> None:
    only_zero = [LOAD_NUMBER, (0x15, 0, 1, 0), ALLOW, KILL]
    assert surface.reachable([[ALLOW], only_zero]) == {0}
    assert len(surface.reachable([])) > 300


def test_a_bundle_shares_what_the_job_names() -> None:
    job = Job(["true"], volumes=["/a"], read_only=["/b"], env={"K": "v"}, cwd="/a")
    made = oci.config(job, root="/r", cgroup="/g")
    shared = {mount["source"]: mount["options"] for mount in made["mounts"] if mount["type"] == "bind"}
    assert shared == {"/a": ["rbind", "rw"], "/b": ["rbind", "ro"]}
    assert "K=v" in made["process"]["env"] and made["process"]["cwd"] == "/a"
    assert made["linux"]["cgroupsPath"] == "/g"
    assert "cgroupsPath" not in oci.config(job, root="/r", cgroup=None)["linux"]
