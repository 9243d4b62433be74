"""Side by side: ratios, what is kept, the reports, and the reading of filters. No sandbox is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rvisor.bench import apps, charts, judge, report, side, surface
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
    side.Measure([work], PEERS, results, runs=runs, warm_up=warm_up, say=said.append).run()
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


class Clock:
    """A clock that only the trials move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(side.time, "monotonic", lambda: self.now)


class Slow(side.Trial):
    def __init__(
        self, key: str, clock: Clock, *, seconds: float, turns: int | None = None, at_the_end: bool = False
    ) -> None:
        self.key = self.title = key
        self.turns = turns
        self.at_the_end = at_the_end
        self._clock = clock
        self._seconds = seconds

    def run(self, peer: Peer) -> dict[str, tuple[float, str]]:
        self._clock.now += self._seconds
        return {"time": (self._seconds, "s")}


def test_all_trials_have_their_first_turn_before_one_has_its_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    trials = [
        Slow("last", clock, seconds=1, at_the_end=True),
        Slow("once", clock, seconds=1, turns=1),
        Slow("work", clock, seconds=1),
    ]
    said: list[str] = []
    side.Measure(trials, PEERS[:1], side.Results(None, resume=False), runs=2, warm_up=0, say=said.append).run()
    assert [line.partition("] ")[2] for line in said] == [
        "once: turn 1 of 1: native",
        "work: turn 1 of 2: native",
        "work: turn 2 of 2: native",
        "last: turn 1 of 2: native",
        "last: turn 2 of 2: native",
    ]


def test_a_budget_is_kept_and_what_is_left_is_said_and_measured_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    trials = [
        Slow("short", clock, seconds=1),
        Slow("last", clock, seconds=2, turns=1, at_the_end=True),
        Slow("long", clock, seconds=30),
    ]
    file = str(tmp_path / "figures.json")
    results = side.Results(file, resume=False)
    said: list[str] = []
    side.Measure(trials, PEERS[:2], results, runs=3, warm_up=0, say=said.append, budget=170).run()
    assert clock.now - 100 <= 170
    assert results.samples("last", "time", "rvisor") == [2]
    assert results.troubles == ["long: turn 3: not measured, the time was over"]
    assert said[-1].startswith("[3 left, about 1 min] last")
    assert results.seconds("long", "rvisor") == 30
    results = side.Results(file, resume=True)
    begun = clock.now
    side.Measure(trials, PEERS[:2], results, runs=3, warm_up=0, say=said.append).run()
    assert clock.now - begun == 60


def test_turns_of_another_size_are_not_mixed(tmp_path: Path) -> None:
    file = str(tmp_path / "figures.json")
    results = side.Results(file, resume=False)
    results.settings_are({"scale": 20, "runs": 1})
    measured(Work(native=[1], rvisor=[2], runc=[3]), results, runs=1)
    later = side.Results(file, resume=True)
    later.settings_are({"scale": 20, "runs": 5})
    with pytest.raises(RvisorError, match="scale 20, not 100"):
        later.settings_are({"scale": 100, "runs": 5})


def test_where_gvisor_is_cheaper_is_marked_with_its_reason(tmp_path: Path) -> None:
    peers = [Named("native"), Named("rvisor"), Named("gvisor-systrap"), Named("gvisor-ptrace")]
    work = Work(**{"native": [1], "rvisor": [4], "gvisor-systrap": [2], "gvisor-ptrace": [8]})
    work.key = "crowd"
    results = side.Results(None, resume=False)
    side.Measure([work], peers, results, runs=1, warm_up=0, say=lambda _: None).run()
    count, found = judge.judged(results)
    assert (count, [(line.figure.name, line.than, line.times) for line in found]) == (
        2,
        [("time", "gvisor-systrap", 2.0), ("pace", "gvisor-systrap", 2.0)],
    )
    assert found[0].why == judge.reason("crowd", "time") != judge.UNKNOWN
    assert judge.reason("no such trial", "time") == judge.UNKNOWN
    for made in (report.page(results), report.markdown(results), report.text(results)):
        assert f"×4.00 {report.BEHIND}" in made and "2.00 × gvisor-systrap" in made
        assert "ahead of every gVisor platform in 0 and behind one in 2" in made


def test_the_report_is_put_between_the_marks(tmp_path: Path) -> None:
    results = side.Results(None, resume=False)
    measured(Work(native=[1], rvisor=[2], runc=[3]), results, runs=1)
    file = tmp_path / "page.md"
    file.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    for _ in range(2):
        report.write_into(str(file), results)
        text = file.read_text()
        assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
        assert text.count("Some work") == 1
    file.write_text("no marks\n")
    with pytest.raises(RvisorError, match="no place for the report"):
        report.write_into(str(file), results)
    assert file.read_text() == "no marks\n"


def test_the_seeds_table_has_the_published_ratios() -> None:
    results = side.Results(None, resume=False)
    for what, values in (("write", [2.0, 2.4, 2.6]), ("mkdir", [1.0, 3.0, 1.5])):
        native, rvisor, runc = values
        work = Work(native=[native], rvisor=[rvisor], runc=[runc])
        work.key = f"seed {what}"
        work.run_of = work.run  # type: ignore[attr-defined]
        work.run = lambda peer, of=work: {"clock()": (of.run_of(peer)["time"][0], "µs")}  # type: ignore[method-assign]
        measured(work, results, runs=1)
    row = next(line for line in report.markdown(results).splitlines() if line.startswith("| rVisor |"))
    assert row == "| rVisor | 2 | 2 | 3 | 3 | 1.20/3.00 | 0.92/2.00 | 1.42/1.76 |"


def test_every_peer_has_a_shape_of_its_own() -> None:
    results = side.Results(None, resume=False)
    measured(Work(native=[1], rvisor=[2], runc=[3]), results, runs=1)
    figures = results.trials()[0][2]
    drawn = charts.growth(figures, ["1", "2"], title="calls", unit="/s")
    assert drawn.count("<polyline") == 3 and drawn.startswith("<svg") and drawn.endswith("</svg>")
    assert len({charts._mark(name, 0, 0) for name in charts.known()}) == len(charts.known())


def test_sizes_are_told_at_their_scale() -> None:
    git = next(app for app in apps.apps() if app.name == "git")
    assert git.size(100) == "1,000 files in 20 directories"
    assert git.size(20) == "200 files in 20 directories"
    assert all(app.size(20) for app in apps.apps())


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
