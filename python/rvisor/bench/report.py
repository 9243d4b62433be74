"""What was measured side by side, as text, Markdown and one HTML page with its pictures in it."""

from __future__ import annotations

import html
import os
import statistics
from pathlib import Path

from rvisor.bench import charts, judge, load, seed
from rvisor.errors import RvisorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor.bench.side import Figure, Line, Results

BEHIND = "▼"
RATIO = (
    "×: how many times native's cost, the median of the turns' own pairs, in brackets the smallest and the largest; "
    "above 1 is slower or more, whatever the unit. "
    f"{BEHIND}: rVisor costs more than a gVisor platform there; the reason is in the list."
)
BEGIN = "<!-- rvisor bench report: begin; what stands up to the end is written by it -->"
BEHIND_TITLE = "Where rVisor is behind gVisor"
END = "<!-- rvisor bench report: end -->"


class Table:
    """A title, a note, and cells of text; `key` is the trial's, empty for tables of their own."""

    __slots__ = ("head", "key", "note", "rows", "title")

    def __init__(self, title: str, head: list[str], rows: list[list[str]], *, note: str = "", key: str = "") -> None:
        self.title = title
        self.head = head
        self.rows = rows
        self.note = note
        self.key = key


def text(results: Results) -> str:
    """Tables for a terminal, then what went wrong."""
    parts = []
    for made in _all(results):
        widths = [max(len(row[column]) for row in [made.head, *made.rows]) for column in range(len(made.head))]
        lines = [made.title, *([made.note] if made.note else []), ""]
        for row in [made.head, ["-" * width for width in widths], *made.rows]:
            cells = [
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        parts.append("\n".join(lines))
    if results.troubles:
        parts.append("\n".join(results.troubles))
    return "\n\n".join([*parts, RATIO])


def markdown(results: Results, *, level: int = 1) -> str:
    """The same tables in Markdown, with the machine and the versions; its headings begin at `level`."""
    lines = ["#" * level + " Side by side", ""]
    lines += [f"- {name}: {value}" for name, value in _facts(results)]
    lines += ["", RATIO]
    for made in _all(results):
        lines += ["", "#" * (level + 1) + f" {made.title}", ""]
        if made.note:
            lines += [made.note, ""]
        lines += [_row(made.head), _row(["---"] + ["---:"] * (len(made.head) - 1))]
        lines += [_row(row) for row in made.rows]
    if results.troubles:
        lines += ["", "#" * (level + 1) + " Not measured", "", *(f"- {trouble}" for trouble in results.troubles)]
    return "\n".join([*lines, ""])


def page(results: Results) -> str:
    """One HTML page that needs nothing else."""
    out = [_HEAD, "<h1>Side by side</h1>", "<dl>"]
    out += [f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in _facts(results)]
    out.append(f"</dl><p>{html.escape(RATIO)}</p>")
    figures_of = {key: figures for key, _, figures in results.trials()}
    boxes = [key for key in figures_of if key.startswith("load boxes")]
    for made in _all(results):
        out.append(f"<h2>{html.escape(made.title)}</h2>")
        if made.note:
            out.append(f"<p>{html.escape(made.note)}</p>")
        figures = figures_of.get(made.key, [])
        if made.key == "load threads":
            out.append(_threads(figures))
        elif not made.key.startswith("load boxes"):
            # What is measured after a pause has a picture of its own.
            for part in (
                [figure for figure in figures if not figure.name.endswith(", cold")],
                [figure for figure in figures if figure.name.endswith(", cold")],
            ):
                out.append(charts.ratios(part))
        elif made.key == boxes[-1] and len(boxes) > 1:
            out.append(_boxes([figures_of[key] for key in boxes], [str(int(key.split()[-1])) for key in boxes]))
        words = ' class="words"' if made.title == BEHIND_TITLE else ""
        out.append(f"<table{words}><tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in made.head) + "</tr>")
        for row in made.rows:
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


def write_into(file: str, results: Results) -> None:
    """Replace what stands between the two marks of a Markdown file."""
    try:
        held = Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise RvisorError(f"{file}: {error.strerror}") from None
    before, begin, rest = held.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise RvisorError(
            f"{file} has no place for the report", hint=f"write these lines where it is to be:\n{BEGIN}\n{END}"
        )
    beside = Path(f"{file}.new")
    beside.write_text(f"{before}{BEGIN}\n\n{markdown(results, level=2)}\n{END}{after}", encoding="utf-8")
    os.replace(beside, file)


def _threads(figures: list[Figure]) -> str:
    by_call: dict[str, list[Figure]] = {}
    for figure in figures:
        by_call.setdefault(figure.name.rpartition(", ")[0], []).append(figure)
    steps = [str(count) for count in load.THREADS]
    drawn = [charts.growth(held, steps, title=f"{call}, threads", unit="calls/s") for call, held in by_call.items()]
    return "\n".join([charts.key(charts.named(figures)), "<br>", *drawn])


def _boxes(figures: list[list[Figure]], steps: list[str]) -> str:
    drawn = []
    for first in figures[0]:
        held = [figure for step in figures for figure in step if figure.name == first.name]
        if len(held) == len(steps):
            unit = {"/s": "calls/s"}.get(first.unit, first.unit)
            drawn.append(charts.growth(held, steps, title=f"{first.name}, sandboxes", unit=unit))
    return "\n".join([charts.key(charts.named(figures[0])), "<br>", *drawn])


def _facts(results: Results) -> list[tuple[str, str]]:
    facts = list(results.machine.items())
    facts += [(f"version of {name}", value) for name, value in results.versions.items()]
    facts += [(name, str(value)) for name, value in results.settings.items()]
    return facts


def _all(results: Results) -> list[Table]:
    return [*_behind(results), *_seed(results), *(_table(results, *held) for held in results.trials())]


def _table(results: Results, key: str, title: str, figures: list[Figure]) -> Table:
    names = charts.named(figures)
    rows = []
    for figure in figures:
        label = figure.name + (f" ({figure.unit})" if figure.unit else "")
        cells = [_cell(figure.lines.get(name)) for name in names]
        if "rvisor" in names and judge.behind(key, title, figure):
            cells[names.index("rvisor")] += f" {BEHIND}"
        rows.append([label, *cells])
    if told := seed.published(key):
        what, multiples = told
        rows.append(
            [f"published, relative {what}", *(f"×{multiples[name]:.2f}" if name in multiples else "" for name in names)]
        )
    return Table(title, ["", *names], rows, note=results.notes.get(key, ""), key=key)


def _behind(results: Results) -> list[Table]:
    count, found = judge.judged(results)
    if not count:
        return []
    rows = [
        [line.title, line.figure.name, f"{line.times:.2f} × {line.than}", line.why]
        for line in sorted(found, key=lambda line: (line.trial, -line.times))
    ]
    note = (
        f"Of {count} figures that rVisor and a gVisor platform both have, rVisor is ahead of every gVisor platform in "
        f"{count - len(found)} and behind one in {len(found)}."
    )
    return [Table(BEHIND_TITLE, ["", "figure", "cost", "reason"], rows, note=note)]


SEED_ROWS = {"native": "host", "runc": "runc", "rvisor": "rVisor", "gvisor-systrap": "gVisor runsc (systrap)"} | {
    "gvisor-ptrace": "gVisor runsc (ptrace)",
    "gvisor-kvm": "gVisor runsc (kvm)",
}


def _seed(results: Results) -> list[Table]:
    """In the shape of the table that the first rVisor's report has, once by clock() and once by wall time."""
    made = []
    for figure in ("clock()", "wall"):
        rows = []
        for peer, name in SEED_ROWS.items():
            halves = [results.samples(f"seed {what}", figure, peer) for what in ("write", "mkdir")]
            if not all(halves):
                continue
            cells = []
            for values in halves:
                cells += [" ".join(f"{value:.0f}" for value in values), f"{statistics.fmean(values):.0f}"]
            for base in ("native", "runc"):
                against = [results.samples(f"seed {what}", figure, base) for what in ("write", "mkdir")]
                cells.append(
                    "/".join(
                        f"{statistics.fmean(a) / statistics.fmean(b):.2f}" for a, b in zip(halves, against, strict=True)
                    )
                    if all(against)
                    else "-"
                )
            theirs = [
                seed.PUBLISHED[what][1].get(peer, 1.0 if peer == "native" else None) for what in ("write", "mkdir")
            ]
            cells.append("/".join(f"{value:.2f}" for value in theirs if value is not None) or "-")
            rows.append([name, *cells])
        if rows:
            head = ["Runs (µs)", "Writing disk", "mean", "Mkdir/Rmdir", "mean", "÷ host", "÷ runc", "÷ host, published"]
            note = (
                f"By {figure}, in the container's own root, in the shape of the first rVisor's own table (by clock(), "
                "and whose counts were never published). ÷ host: of the means, writing/directories."
            )
            made.append(Table(f"The seed's table, by {figure}", head, rows, note=note))
    return made


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
table.words td:not(:nth-child(3)) { text-align: left; white-space: normal }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1em 1em; font-size: 13px }
dd { margin: 0 }
svg { max-width: 100%; height: auto }
</style>"""
