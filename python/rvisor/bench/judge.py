"""Where rVisor is behind a gVisor platform, and why: the reasons are data, `reasons.toml`."""

from __future__ import annotations

import fnmatch
import functools
from pathlib import Path

from rvisor.bench.side import more_is_better

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor.bench.side import Figure, Results

REASONS = Path(__file__).with_name("reasons.toml")
UNKNOWN = "not yet looked into"
_NOT_JUDGED = ("processes", "filter's instructions")
"""Figures that tell something, but of which neither more nor less is better."""


class Behind:
    """A figure in which rVisor costs more than the gVisor platform `than`; `times` as much."""

    __slots__ = ("figure", "than", "times", "title", "trial", "why")

    def __init__(self, *, trial: str, title: str, figure: Figure, than: str, times: float) -> None:
        self.trial = trial
        self.title = title
        self.figure = figure
        self.than = than
        self.times = times
        self.why = reason(trial, figure.name)


@functools.cache
def _reasons() -> list[dict[str, str]]:
    import tomllib

    held: list[dict[str, str]] = tomllib.loads(REASONS.read_text(encoding="utf-8"))["reason"]
    return held


def reason(trial: str, figure: str) -> str:
    """Why rVisor is behind there; the first entry that fits."""
    for entry in _reasons():
        if fnmatch.fnmatchcase(trial, entry["trial"]) and fnmatch.fnmatchcase(figure, entry.get("figure", "*")):
            return entry["why"]
    return UNKNOWN


def costs(figure: Figure, peer: str, than: str) -> float | None:
    """How many times `than`'s cost this peer's is: of their ratios to native if there are any, else of the medians."""
    a, b = figure.lines.get(peer), figure.lines.get(than)
    if a is None or b is None:
        return None
    if a.ratio is not None and b.ratio:
        return a.ratio / b.ratio
    if not a.median or not b.median:
        return None
    return b.median / a.median if more_is_better(figure.unit) else a.median / b.median


def behind(trial: str, title: str, figure: Figure) -> Behind | None:
    """Whether rVisor is behind a gVisor platform, the one that it is furthest behind."""
    if figure.name.endswith(_NOT_JUDGED):
        return None
    worst: Behind | None = None
    for peer in figure.lines:
        times = costs(figure, "rvisor", peer) if peer.startswith("gvisor-") else None
        if times is not None and times > 1.0 and (worst is None or times > worst.times):
            worst = Behind(trial=trial, title=title, figure=figure, than=peer, times=times)
    return worst


def judged(results: Results) -> tuple[int, list[Behind]]:
    """How many figures were measured in rVisor and in a gVisor platform, and those in which rVisor is behind."""
    count = 0
    found = []
    for trial, title, figures in results.trials():
        for figure in figures:
            compared = any(peer.startswith("gvisor-") and costs(figure, "rvisor", peer) for peer in figure.lines)
            count += compared and not figure.name.endswith(_NOT_JUDGED)
            if line := behind(trial, title, figure):
                found.append(line)
    return count, found
