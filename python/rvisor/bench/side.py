"""Side by side: the same work in every peer by turns, each turn's ratio to native, all of it kept on disk."""

from __future__ import annotations

import json
import os
import statistics
import time
from abc import ABC, abstractmethod
from pathlib import Path

from rvisor.bench import host
from rvisor.errors import RvisorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rvisor.bench.peers import Peer

FORMAT = 2


class Trial(ABC):
    """Work that every peer does once a turn. `key` names it for ever: its turns are comparable.

    `note` tells sizes and conditions. `turns`: more turns than that tell nothing new. `warm_up` is who does it once
    without being counted: `all`, `native` (what only files in the host's cache make faster) or `none`.
    """

    key: str
    title: str
    note = ""
    turns: int | None = None
    warm_up = "all"
    at_the_end = False
    """After all others: it disturbs them."""

    def prepare(self) -> None:
        """Make what all turns need; RvisorError if that cannot be done."""
        return

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


class Cost:
    """What one turn took, in seconds: `wall`, measuring too, and `cpu` of all processes of the peer's sandboxes."""

    __slots__ = ("cpu", "wall")

    def __init__(self, *, wall: float, cpu: float) -> None:
        self.wall = wall
        self.cpu = cpu


class Results:
    """All samples of one command, on disk after each turn if a file was named."""

    def __init__(self, file: str | None, *, resume: bool) -> None:
        self._file = file
        self.machine = host.environment()
        self.versions: dict[str, str] = {}
        self.troubles: list[str] = []
        self.settings: dict[str, object] = {}
        self.counts: dict[str, int] = {}
        self.notes: dict[str, str] = {}
        self._titles: dict[str, str] = {}
        self._costs: dict[tuple[str, str, int], Cost] = {}
        self._samples: dict[tuple[str, str, int], dict[str, tuple[float, str]]] = {}
        if file is not None:
            os.makedirs(os.path.dirname(os.path.abspath(file)), exist_ok=True)
            if resume and os.path.exists(file):
                self._load(file)

    def _load(self, file: str) -> None:
        try:
            held = json.loads(Path(file).read_text())
            if held["format"] != FORMAT:
                raise ValueError(held["format"])
            for sample in held["samples"]:
                figures = {name: (float(value), str(unit)) for name, (value, unit) in sample["figures"].items()}
                at = (str(sample["trial"]), str(sample["peer"]), int(sample["turn"]))
                self._samples[at] = figures
                self._costs[at] = Cost(wall=float(sample["seconds"]), cpu=float(sample["cpu_seconds"]))
            self._titles.update(held["trials"])
            self.notes.update(held["notes"])
            self.counts.update(held["counts"])
            self.troubles += map(str, held["troubles"])
            self.versions.update(held["versions"])
            self.settings.update(held["settings"])
            self.machine = {str(name): str(value) for name, value in held["machine"].items()}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RvisorError(f"{file} is not a file of `rvisor bench` to go on with: {error!r}") from None

    def settings_are(self, settings: dict[str, object]) -> None:
        """Remember them; RvisorError when turns of another size are there already, which cannot be compared."""
        held = self.settings
        if self._samples and held.get("scale") != settings["scale"]:
            raise RvisorError(
                f"the turns that are there were measured at scale {held.get('scale')}, not {settings['scale']}",
                hint=f"--scale {held.get('scale')}, or another file",
            )
        held.update(settings)

    def has(self, trial: Trial, peer: Peer, turn: int) -> bool:
        """Whether this turn was measured before."""
        return (trial.key, peer.name, turn) in self._samples

    def add(self, trial: Trial, peer: Peer, turn: int, figures: dict[str, tuple[float, str]], cost: Cost) -> None:
        """Keep what one turn gave, and what it took."""
        self._titles[trial.key] = trial.title
        if trial.note:
            self.notes[trial.key] = trial.note
        self._samples[trial.key, peer.name, turn] = figures
        self._costs[trial.key, peer.name, turn] = cost
        self.write()

    def seconds(self, trial: str | None = None, peer: str | None = None) -> float | None:
        """What a turn took on average: of this trial, of this peer, or of all; None before there is one."""
        walls = [
            cost.wall
            for (of, by, _), cost in self._costs.items()
            if (trial is None or trial == of) and (peer is None or peer == by)
        ]
        return statistics.fmean(walls) if walls else None

    def samples(self, trial: str, figure: str, peer: str) -> list[float]:
        """Every turn's value, in their order."""
        turns = sorted(
            (turn, figures[figure][0])
            for (of, by, turn), figures in self._samples.items()
            if of == trial and by == peer and figure in figures
        )
        return [value for _, value in turns]

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
        Path(beside).write_text(_as_lines(self.as_dict()))
        os.replace(beside, self._file)

    def as_dict(self) -> dict[str, object]:
        """All of it, figures to six digits."""
        return {
            "format": FORMAT,
            "machine": self.machine,
            "versions": self.versions,
            "settings": self.settings,
            "counts": self.counts,
            "trials": self._titles,
            "notes": self.notes,
            "troubles": self.troubles,
            "samples": [
                {
                    "trial": trial,
                    "peer": peer,
                    "turn": turn,
                    "seconds": _short(self._costs[trial, peer, turn].wall),
                    "cpu_seconds": _short(self._costs[trial, peer, turn].cpu),
                    "figures": {name: (_short(value), unit) for name, (value, unit) in figures.items()},
                }
                for (trial, peer, turn), figures in self._samples.items()
            ],
            "figures": [
                {
                    "trial": trial,
                    "name": figure.name,
                    "unit": figure.unit,
                    "peer": line.peer,
                    "turns": line.turns,
                    "median": _short(line.median),
                    "low": _short(line.low),
                    "high": _short(line.high),
                    "ratio": None if line.ratio is None else _short(line.ratio),
                    "ratio_low": _short(line.ratio_low),
                    "ratio_high": _short(line.ratio_high),
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


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _as_lines(value: dict[str, object]) -> str:
    """JSON with a line for each sample and figure, so that two files can be compared."""
    parts = []
    for name, held in value.items():
        if isinstance(held, list):
            rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in held)
            parts.append(f'"{name}": [\n{rows}\n]')
        else:
            parts.append(f'"{name}": {json.dumps(held, ensure_ascii=False, indent=1)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


class Measure:
    """Every trial in every peer by turns: first all trials' first turn, then all their second, so that what is
    interrupted, or out of time, has all of them. What fails is a trouble.

    `cpu_seconds` tells the CPU time of all who were ever in a sandbox. `budget` is in seconds.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        peers: Sequence[Peer],
        results: Results,
        *,
        runs: int,
        warm_up: int,
        say: Callable[[str], None],
        budget: float | None = None,
        cpu_seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._trials = trials
        self._peers = peers
        self._results = results
        self._runs = runs
        self._warm_up = warm_up
        self._say = say
        self._cpu_seconds = cpu_seconds
        self._end = None if budget is None else time.monotonic() + budget
        self._failed: set[tuple[str, str]] = set()
        self._prepared: set[str] = set()

    def run(self) -> None:
        """Measure what is not there yet."""
        for at_the_end in (False, True):
            self._rounds([trial for trial in self._trials if trial.at_the_end == at_the_end])

    def _rounds(self, trials: Sequence[Trial]) -> None:
        for turn in range(self._runs):
            for trial in trials:
                if not any(self._left(trial, peer, turn) for peer in self._peers):
                    continue
                needed = sum(self._expected(trial, peer) for peer in self._peers if self._left(trial, peer, turn))
                # The first turns of what comes at the end have their time kept.
                later = [] if trial.at_the_end else [one for one in self._trials if one.at_the_end]
                needed += sum(self._expected(one, peer) for one in later for peer in self._peers)
                if self._end is not None and time.monotonic() + needed > self._end:
                    self._results.trouble(f"{trial.title}: turn {turn + 1}: not measured, the time was over")
                    continue
                self._prepare_once(trial)
                for peer in self._peers:
                    if self._left(trial, peer, turn):
                        self._say(
                            f"{self._progress()} {trial.title}: turn {turn + 1} of {self._turns(trial)}: {peer.name}"
                        )
                        self._one(trial, peer, turn)

    def _turns(self, trial: Trial) -> int:
        return self._runs if trial.turns is None else min(self._runs, trial.turns)

    def _left(self, trial: Trial, peer: Peer, turn: int) -> bool:
        if turn >= self._turns(trial) or (trial.key, peer.name) in self._failed:
            return False
        return not self._results.has(trial, peer, turn)

    def _prepare_once(self, trial: Trial) -> None:
        if trial.key in self._prepared:
            return
        self._prepared.add(trial.key)
        try:
            trial.prepare()
        except RvisorError as error:
            self._failed.update((trial.key, peer.name) for peer in self._peers)
            self._results.trouble(f"{trial.title}: not measured: {error}")
        for _ in range(0 if trial.warm_up == "none" else self._warm_up):
            for peer in self._peers:
                if (peer.sandbox and trial.warm_up == "native") or (trial.key, peer.name) in self._failed:
                    continue
                self._say(f"{self._progress()} {trial.title}: warming up: {peer.name}")
                self._one(trial, peer, None)

    def _one(self, trial: Trial, peer: Peer, turn: int | None) -> None:
        begun, used = time.monotonic(), self._cpu_seconds()
        try:
            figures = trial.run(peer)
        except RvisorError as error:
            self._failed.add((trial.key, peer.name))
            self._results.trouble(f"{trial.title}: {error}")
            return
        if turn is not None:
            cost = Cost(wall=time.monotonic() - begun, cpu=self._cpu_seconds() - used)
            self._results.add(trial, peer, turn, figures, cost)

    def _expected(self, trial: Trial, peer: Peer) -> float:
        """Seconds of one turn, as far as can be told: its own, else this trial's, else this peer's, else anybody's."""
        seconds = self._results.seconds
        for told in (seconds(trial.key, peer.name), seconds(trial.key), seconds(peer=peer.name), seconds()):
            if told is not None:
                return told
        return 0.0

    def _progress(self) -> str:
        left = [
            (trial, peer)
            for trial in self._trials
            for peer in self._peers
            for turn in range(self._runs)
            if self._left(trial, peer, turn)
        ]
        minutes = sum(self._expected(trial, peer) for trial, peer in left) / 60
        if self._end is not None:
            minutes = min(minutes, max(0.0, self._end - time.monotonic()) / 60)
        return f"[{len(left)} left, about {minutes:.0f} min]"
