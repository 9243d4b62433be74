"""What was measured side by side, as text, Markdown and one HTML page with its pictures in it."""

from __future__ import annotations

import html
import os
from pathlib import Path

from rvisor.bench.side import more_is_better
from rvisor.bench.trials import SEED_RATIOS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor.bench.side import Figure, Line, Results

RATIO = (
    "×: how many times native's cost, the median of the turns' own pairs, in brackets the smallest and the largest; "
    "above 1 is slower or more."
)
MARKS = ("#222222", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#999999")
"""Okabe and Ito's colours, which most eyes tell apart; the shapes differ, too."""


def text(results: Results) -> str:
    """Tables for a terminal, then what went wrong."""
    parts = []
    for title, head, rows in _tables(results):
        widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
        lines = [title, ""]
        for row in [head, ["-" * width for width in widths], *rows]:
            cells = [
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        parts.append("\n".join(lines))
    if results.troubles:
        parts.append("\n".join(results.troubles))
    return "\n\n".join([*parts, RATIO])


def markdown(results: Results) -> str:
    """The same tables in Markdown, with the machine and the versions."""
    lines = ["# Side by side", ""]
    lines += [f"- {name}: {value}" for name, value in _facts(results)]
    for title, head, rows in _tables(results):
        lines += ["", f"## {title}", "", _row(head), _row(["---"] + ["---:"] * (len(head) - 1))]
        lines += [_row(row) for row in rows]
    if results.troubles:
        lines += ["", "## Not measured", "", *(f"- {trouble}" for trouble in results.troubles)]
    return "\n".join([*lines, "", RATIO, ""])


def page(results: Results) -> str:
    """One HTML page that needs nothing else."""
    out = [_HEAD, "<h1>Side by side</h1>", "<dl>"]
    out += [f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in _facts(results)]
    out.append(f"</dl><p>{html.escape(RATIO)}</p>")
    tables = _tables(results)
    for (_, _, figures), (title, head, rows) in zip(results.trials(), tables, strict=True):
        out.append(f"<h2>{html.escape(title)}</h2>")
        out.append(_chart(figures))
        out.append("<table><tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>")
        for row in rows:
            out.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>")
        out.append("</table>")
    if results.troubles:
        out.append("<h2>Not measured</h2><ul>")
        out += [f"<li>{html.escape(trouble)}</li>" for trouble in results.troubles]
        out.append("</ul>")
    return "\n".join([*out, "</html>", ""])


def write(directory: str, results: Results) -> None:
    """`index.html` and `report.md` in `directory`."""
    os.makedirs(directory, exist_ok=True)
    Path(directory, "index.html").write_text(page(results), encoding="utf-8")
    Path(directory, "report.md").write_text(markdown(results), encoding="utf-8")


def _facts(results: Results) -> list[tuple[str, str]]:
    facts = list(results.machine.items())
    facts += [(f"version of {name}", value) for name, value in results.versions.items()]
    facts += [(name, str(value)) for name, value in results.settings.items()]
    return facts


def _peers(figures: list[Figure]) -> list[str]:
    from rvisor.bench.peers import known

    return [name for name in known() if any(name in figure.lines for figure in figures)]


def _tables(results: Results) -> list[tuple[str, list[str], list[list[str]]]]:
    made = []
    for key, title, figures in results.trials():
        names = _peers(figures)
        rows = []
        for figure in figures:
            label = figure.name + (f" ({figure.unit})" if figure.unit else "")
            rows.append([label, *(_cell(figure.lines.get(name)) for name in names)])
        if key.startswith("seed "):
            rows.append(_published(key, names))
        made.append((title, ["", *names], rows))
    return made


def _published(key: str, names: list[str]) -> list[str]:
    half = 1 if "mkdir" in key else 0
    cells = [f"×{SEED_RATIOS[name][half]:.2f}" if name in SEED_RATIOS else "" for name in names]
    return ["the first rVisor's own report, clock()", *cells]


def _cell(line: Line | None) -> str:
    if line is None:
        return "-"
    shown = _number(line.median)
    if line.peer == "native" or line.ratio is None:
        return shown
    spread = f" ({line.ratio_low:.2f}–{line.ratio_high:.2f})" if line.turns > 1 else ""
    return f"{shown} ×{line.ratio:.2f}{spread}"


def _number(value: float) -> str:
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.2f}"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


_HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>rVisor side by side</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1100px; padding: 0 1em; color: #222 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px;
  display: block; overflow-x: auto }
th, td { padding: .2em .7em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1em 1em; font-size: 13px }
dd { margin: 0 }
svg { max-width: 100%; height: auto }
</style>"""

_LEFT, _WIDE, _STEP, _TOP = 300, 700, 22, 46


def _chart(figures: list[Figure]) -> str:
    """Every figure a line, every peer a mark at its ratio to native, on a logarithmic scale."""
    import math

    shown = [figure for figure in figures if any(line.ratio is not None for line in figure.lines.values())]
    names = [name for name in _peers(shown) if name != "native"]
    ratios = [line.ratio for figure in shown for line in figure.lines.values() if line.ratio]
    if not names or not ratios:
        return ""
    low = math.floor(min(0.0, *(math.log10(ratio) for ratio in ratios)) * 2) / 2
    high = math.ceil(max(0.3, *(math.log10(ratio) for ratio in ratios)) * 2) / 2

    def x(ratio: float) -> float:
        return _LEFT + (math.log10(ratio) - low) / (high - low) * _WIDE

    height = _TOP + _STEP * len(shown) + 26
    out = [
        f'<svg viewBox="0 0 {_LEFT + _WIDE + 40} {height}" width="{_LEFT + _WIDE + 40}" role="img" '
        'aria-label="ratio to native" font-family="system-ui, sans-serif" font-size="12">'
    ]
    for place, name in enumerate(names):
        at = _LEFT + place * 130
        out.append(_mark(place, at, 14) + f'<text x="{at + 10}" y="18">{html.escape(name)}</text>')
    exponent = math.floor(low)
    while exponent <= high:
        for digit in (1, 2, 5):
            value = digit * 10.0**exponent
            if low <= math.log10(value) <= high:
                strong = "#222" if value == 1 else "#ddd"
                line_x = f"{x(value):.1f}"
                out.append(f'<line x1="{line_x}" x2="{line_x}" y1="{_TOP - 12}" y2="{height - 22}" stroke="{strong}"/>')
                out.append(f'<text x="{line_x}" y="{height - 6}" text-anchor="middle">{value:g}×</text>')
        exponent += 1
    for index, figure in enumerate(shown):
        y = _TOP + index * _STEP
        better = ", more is better" if more_is_better(figure.unit) else ""
        label = html.escape(figure.name + (f" ({figure.unit}{better})" if figure.unit else ""))
        out.append(f'<text x="{_LEFT - 12}" y="{y + 4}" text-anchor="end">{label}</text>')
        for place, name in enumerate(names):
            line = figure.lines.get(name)
            if line is None or not line.ratio:
                continue
            tip = html.escape(f"{name}: {_cell(line)}")
            spread = ""
            if line.ratio_low > 0:
                ends = f'x1="{x(max(line.ratio_low, 10**low)):.1f}" x2="{x(min(line.ratio_high, 10**high)):.1f}"'
                spread = f'<line {ends} y1="{y}" y2="{y}" stroke="{MARKS[place + 1]}" stroke-width="1.5"/>'
            out.append(f"<g><title>{tip}</title>{spread}{_mark(place, x(line.ratio), y)}</g>")
    out.append("</svg>")
    return "\n".join(out)


def _mark(place: int, x: float, y: float) -> str:
    """A shape of its own for each peer."""
    colour = MARKS[place + 1]
    shapes = (
        f'<circle cx="{x:.1f}" cy="{y}" r="5" fill="{colour}"/>',
        f'<rect x="{x - 4.5:.1f}" y="{y - 4.5}" width="9" height="9" fill="{colour}"/>',
        f'<path d="M{x:.1f} {y - 6}l6 11h-12z" fill="{colour}"/>',
        f'<path d="M{x:.1f} {y - 6}l6 6l-6 6l-6-6z" fill="{colour}"/>',
        f'<circle cx="{x:.1f}" cy="{y}" r="4.5" fill="none" stroke="{colour}" stroke-width="2.5"/>',
        f'<path d="M{x - 5:.1f} {y - 5}l10 10m0-10l-10 10" stroke="{colour}" stroke-width="2.5"/>',
        f'<path d="M{x - 6:.1f} {y}h12m-6-6v12" stroke="{colour}" stroke-width="2.5"/>',
    )
    return shapes[place % len(shapes)]
