"""Pictures of what was measured, as SVG: readable in colour and without, as every peer has a shape of its own."""

from __future__ import annotations

import html
import math

from rvisor.bench.peers import known
from rvisor.bench.side import more_is_better

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rvisor.bench.side import Figure

MARKS = ("#222222", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#999999")
"""Okabe and Ito's colours, which most eyes tell apart; the shapes differ, too."""

_LEFT, _WIDE, _STEP, _TOP = 300, 700, 22, 46


def ratios(figures: Sequence[Figure]) -> str:
    """Every figure a line, every peer a mark at its ratio to native, on a logarithmic scale."""
    shown = [figure for figure in figures if any(line.ratio is not None for line in figure.lines.values())]
    names = [name for name in named(shown) if name != "native"]
    told = [line.ratio for figure in shown for line in figure.lines.values() if line.ratio]
    if not names or not told:
        return ""
    low = math.floor(min(0.0, *(math.log10(ratio) for ratio in told)) * 2) / 2
    high = math.ceil(max(0.3, *(math.log10(ratio) for ratio in told)) * 2) / 2

    def x(ratio: float) -> float:
        return _LEFT + (math.log10(ratio) - low) / (high - low) * _WIDE

    height = _TOP + _STEP * len(shown) + 26
    out = [
        f'<svg viewBox="0 0 {_LEFT + _WIDE + 40} {height}" width="{_LEFT + _WIDE + 40}" role="img" '
        'aria-label="ratio to native" font-family="system-ui, sans-serif" font-size="12">'
    ]
    out.append(_legend(names, _LEFT))
    exponent = math.floor(low)
    while exponent <= high:
        for digit in (1, 2, 5):
            value = digit * 10.0**exponent
            if low <= math.log10(value) <= high:
                strong = "#222" if value == 1 else "#ddd"
                line_x = f"{x(value):.1f}"
                out.append(f'<line x1="{line_x}" x2="{line_x}" y1="{_TOP - 12}" y2="{height - 22}" stroke="{strong}"/>')
                if digit == 1 or high - low <= 3:
                    out.append(f'<text x="{line_x}" y="{height - 6}" text-anchor="middle">{value:g}×</text>')
        exponent += 1
    for index, figure in enumerate(shown):
        y = _TOP + index * _STEP
        better = ", more is better" if more_is_better(figure.unit) else ""
        label = html.escape(figure.name + (f" ({figure.unit}{better})" if figure.unit else ""))
        out.append(f'<text x="{_LEFT - 12}" y="{y + 4}" text-anchor="end">{label}</text>')
        out.append(f'<line x1="{_LEFT}" x2="{_LEFT + _WIDE}" y1="{y}" y2="{y}" stroke="#eee"/>')
        for name in names:
            line = figure.lines.get(name)
            if line is None or not line.ratio:
                continue
            tip = html.escape(f"{name}: ×{line.ratio:.2f} ({line.ratio_low:.2f}–{line.ratio_high:.2f})")
            spread = ""
            if line.ratio_low > 0:
                ends = f'x1="{x(max(line.ratio_low, 10**low)):.1f}" x2="{x(min(line.ratio_high, 10**high)):.1f}"'
                spread = f'<line {ends} y1="{y}" y2="{y}" stroke="{_colour(name)}" stroke-width="1.5"/>'
            out.append(f"<g><title>{tip}</title>{spread}{_mark(name, x(line.ratio), y)}</g>")
    out.append("</svg>")
    return "\n".join(out)


def growth(figures: Sequence[Figure], steps: Sequence[str], *, title: str, unit: str) -> str:
    """One quantity over growing load, a line for each peer; both ways logarithmic, `steps` at equal distances."""
    names = named(figures)
    values = [line.median for figure in figures for line in figure.lines.values() if line.median > 0]
    if not names or not values:
        return ""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    left, wide, top, tall = 70, 250, 26, 190

    def x(step: int) -> float:
        return left + wide * (step + 0.5) / len(steps)

    def y(value: float) -> float:
        return top + tall * (high - math.log10(value)) / (high - low)

    out = [
        f'<svg viewBox="0 0 {left + wide + 10} {top + tall + 26}" width="{left + wide + 10}" role="img" '
        f'aria-label="{html.escape(title)}" font-family="system-ui, sans-serif" font-size="12">',
        f'<text x="{left}" y="14" font-weight="bold">{html.escape(title)}, {html.escape(unit)}</text>',
    ]
    for exponent in range(low, high + 1):
        at = f"{y(10.0**exponent):.1f}"
        out.append(f'<line x1="{left}" x2="{left + wide}" y1="{at}" y2="{at}" stroke="#ddd"/>')
        out.append(f'<text x="{left - 6}" y="{float(at) + 4:.1f}" text-anchor="end">{_round(10.0**exponent)}</text>')
    for index, step in enumerate(steps):
        out.append(f'<text x="{x(index):.1f}" y="{top + tall + 18}" text-anchor="middle">{html.escape(step)}</text>')
    for name in names:
        points = [
            (x(index), y(figure.lines[name].median))
            for index, figure in enumerate(figures)
            if name in figure.lines and figure.lines[name].median > 0
        ]
        path = " ".join(f"{at:.1f},{height:.1f}" for at, height in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{_colour(name)}" stroke-width="1.5"/>')
        out += [_mark(name, at, height) for at, height in points]
    out.append("</svg>")
    return "\n".join(out)


def key(names: Sequence[str]) -> str:
    """What the marks mean, for pictures that have no room for it."""
    return (
        f'<svg viewBox="0 0 {20 + 130 * len(names)} 30" width="{20 + 130 * len(names)}" role="img" '
        f'aria-label="key" font-family="system-ui, sans-serif" font-size="12">{_legend(names, 14)}</svg>'
    )


def named(figures: Sequence[Figure]) -> list[str]:
    """The peers that have a figure, in the order of the tables."""
    return [name for name in known() if any(name in figure.lines for figure in figures)]


def _round(power: float) -> str:
    return f"{power:,.0f}" if power >= 1 else f"{power:g}"


def _legend(names: Sequence[str], left: float) -> str:
    return "".join(
        _mark(name, left + place * 130, 14) + f'<text x="{left + place * 130 + 10}" y="18">{html.escape(name)}</text>'
        for place, name in enumerate(names)
    )


def _colour(name: str) -> str:
    return MARKS[list(known()).index(name)]


def _mark(name: str, x: float, y: float) -> str:
    """A shape of its own for each peer."""
    colour = _colour(name)
    shapes = (
        f'<path d="M{x - 6:.1f} {y:.1f}h12" stroke="{colour}" stroke-width="3"/>',
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>',
        f'<rect x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9" fill="{colour}"/>',
        f'<path d="M{x - 5:.1f} {y + 5:.1f}l10-10" stroke="{colour}" stroke-width="3"/>',
        f'<path d="M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6-6z" fill="{colour}"/>',
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="none" stroke="{colour}" stroke-width="2.5"/>',
        f'<path d="M{x - 5:.1f} {y - 5:.1f}l10 10m0-10l-10 10" stroke="{colour}" stroke-width="2.5"/>',
        f'<path d="M{x - 6:.1f} {y:.1f}h12m-6-6v12" stroke="{colour}" stroke-width="2.5"/>',
    )
    return shapes[list(known()).index(name)]
