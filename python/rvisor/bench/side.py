"""Side by side: the same work in every peer by turns, each turn's ratio to native, all of it kept on disk."""

from __future__ import annotations

import json
import os
import statistics
from abc import ABC, abstractmethod
from pathlib import Path

from rvisor.bench import host
from rvisor.errors import RvisorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rvisor.bench.peers import Peer

FORMAT = 1


class Trial(ABC):
    """Work that every peer does once a turn. `key` names it for ever: its turns are comparable."""

    key: str
    title: str

    @abstractmethod
    def run(self, peer: Peer) -> dict[str, tuple[float, str]]:
        """Do it once: each figure's value and unit. RvisorError if it cannot be done."""


class Line:
    """One figure of one trial in one peer, over all turns.

    `ratio` is how many times native's cost it is, pair by pair: above 1 is slower, whatever the unit. `low` and `high`
    are the smallest and the largest value, `ratio_low` and `ratio_high` the smallest and the largest ratio.
    """

    __slots__ = ("high", "low", "median", "peer", "ratio", "ratio_high", "ratio_low", "turns")

    def __init__(self, peer: str, values: dict[int, float], native: dict[int, float], unit: str) -> None:
        self.peer = peer
        self.turns = len(values)
        self.median = statistics.median(values.values())
        self.low = min(values.values())
        self.high = max(values.values())
        self.ratio: float | None = None
        self.ratio_low = self.ratio_high = 0.0
        pairs = [(value, native[turn]) for turn, value in values.items() if turn in native]
        ratios = [b / a if more_is_better(unit) else a / b for a, b in pairs if a and b]
        if ratios:
            self.ratio = statistics.median(ratios)
            self.ratio_low, self.ratio_high = min(ratios), max(ratios)


class Figure:
    """One figure of one trial, with a line for each peer that has it."""

    __slots__ = ("lines", "name", "unit")

    def __init__(self, name: str, unit: str) -> None:
        self.name = name
        self.unit = unit
        self.lines: dict[str, Line] = {}


def more_is_better(unit: str) -> bool:
    """Rates are; times, sizes and counts are not."""
    return unit == "/s"


class Results:
    """All samples of one command, on disk after each turn if a file was named."""

    def __init__(self, file: str | None, *, resume: bool) -> None:
        self._file = file
        self.machine = host.environment()
        self.versions: dict[str, str] = {}
        self.troubles: list[str] = []
        self.settings: dict[str, object] = {}
        self.counts: dict[str, int] = {}
        self._titles: dict[str, str] = {}
        self._samples: dict[tuple[str, str, int], dict[str, tuple[float, str]]] = {}
        if resume and file is not None and os.path.exists(file):
            self._load(file)

    def _load(self, file: str) -> None:
        try:
            held = json.loads(Path(file).read_text())
            if held["format"] != FORMAT:
                raise ValueError(held["format"])
            for sample in held["samples"]:
                figures = {name: (float(value), str(unit)) for name, (value, unit) in sample["figures"].items()}
                self._samples[sample["trial"], sample["peer"], int(sample["turn"])] = figures
            self._titles.update(held["trials"])
            self.counts.update(held["counts"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RvisorError(f"{file} is not a file of `rvisor bench` to go on with: {error!r}") from None

    def has(self, trial: Trial, peer: Peer, turn: int) -> bool:
        """Whether this turn was measured before."""
        return (trial.key, peer.name, turn) in self._samples

    def add(self, trial: Trial, peer: Peer, turn: int, figures: dict[str, tuple[float, str]]) -> None:
        """Keep what one turn gave."""
        self._titles[trial.key] = trial.title
        self._samples[trial.key, peer.name, turn] = figures
        self.write()

    def trouble(self, text: str) -> None:
        """Keep what went wrong; said once."""
        if text not in self.troubles:
            self.troubles.append(text)
            self.write()

    def write(self) -> None:
        """Replace the file by all there is."""
        if self._file is None:
            return
        beside = f"{self._file}.new"
        Path(beside).write_text(json.dumps(self.as_dict(), indent=1) + "\n")
        os.replace(beside, self._file)

    def as_dict(self) -> dict[str, object]:
        return {
            "format": FORMAT,
            "machine": self.machine,
            "versions": self.versions,
            "settings": self.settings,
            "counts": self.counts,
            "trials": self._titles,
            "troubles": self.troubles,
            "samples": [
                {"trial": trial, "peer": peer, "turn": turn, "figures": figures}
                for (trial, peer, turn), figures in self._samples.items()
            ],
            "figures": [
                {
                    "trial": trial,
                    "name": figure.name,
                    "unit": figure.unit,
                    "peer": line.peer,
                    "turns": line.turns,
                    "median": line.median,
                    "low": line.low,
                    "high": line.high,
                    "ratio": line.ratio,
                    "ratio_low": line.ratio_low,
                    "ratio_high": line.ratio_high,
                }
                for trial, _, figures_of in self.trials()
                for figure in figures_of
                for line in figure.lines.values()
            ],
        }

    def trials(self) -> list[tuple[str, str, list[Figure]]]:
        """Each trial's key and title, and its figures."""
        return [(key, title, self._figures(key)) for key, title in self._titles.items()]

    def _figures(self, key: str) -> list[Figure]:
        values: dict[str, dict[str, dict[int, float]]] = {}
        units: dict[str, str] = {}
        for (trial, peer, turn), figures in self._samples.items():
            if trial == key:
                for name, (value, unit) in figures.items():
                    units.setdefault(name, unit)
                    values.setdefault(name, {}).setdefault(peer, {})[turn] = value
        made = []
        for name, by_peer in values.items():
            figure = Figure(name, units[name])
            native = by_peer.get("native", {})
            for peer, turns in by_peer.items():
                figure.lines[peer] = Line(peer, turns, native, figure.unit)
            made.append(figure)
        return made


def measure(
    trials: Sequence[Trial],
    peers: Sequence[Peer],
    results: Results,
    *,
    runs: int,
    warm_up: int,
    say: Callable[[str], None],
) -> None:
    """Every trial in every peer by turns, after `warm_up` turns that do not count. What fails is a trouble."""
    for trial in trials:
        failed: set[str] = set()
        for turn in range(-warm_up, runs):
            for peer in peers:
                if peer.name in failed or results.has(trial, peer, turn):
                    continue
                if turn < 0 and all(results.has(trial, peer, later) for later in range(runs)):
                    continue
                what = f"turn {turn + 1} of {runs}" if turn >= 0 else "warming up"
                say(f"{trial.title}: {what}: {peer.name}")
                try:
                    figures = trial.run(peer)
                except RvisorError as error:
                    failed.add(peer.name)
                    results.trouble(f"{trial.title}: {error}")
                    continue
                if turn >= 0:
                    results.add(trial, peer, turn, figures)
