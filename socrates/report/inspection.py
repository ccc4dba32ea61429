"""An inspection as titled tables: text for a terminal, and one HTML page with plots.

The record's own names stand there, which the help of `scripts/inspect_data.py` explains.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as TextTable

from socrates.console import number, share
from socrates.report.html import Table, render
from socrates.report.plot import DARK, EDGE, LIGHT, LINE, Plot, drawn, legend, short, styled, thousands

if TYPE_CHECKING:
    from socrates.data.inspect import Inspection

PROGRAM = "scripts/inspect_data.py"
_MOST_ROWS = 20  # of a table
_MOST_VALUES = 9  # in one place of a table: a whole spread
_WIDTH = 110  # characters of a line
_BARS, _CLASSES = 9, 40
_Record = Mapping[str, Any]


def inspection_tables(record: _Record) -> dict[str, Table]:
    """All that is reported about a file, from its `Inspection.record`: title -> its table."""
    return {_title(key): _table(part) for key, part in record.items()}


def _table(part: _Record | Sequence[_Record]) -> Table:
    if not part:
        return Table((), (("none",),))
    if isinstance(part, Mapping):
        return Table((), tuple((_title(key), _text(value)) for key, value in part.items()), (0, 1))
    words = tuple(i for i, key in enumerate(part[0]) if not all(isinstance(one[key], int) for one in part))
    return Table(tuple(map(_title, part[0])), tuple(tuple(map(_text, one.values())) for one in part), words)


def _title(key: str) -> str:
    return key.replace("_", " ")


def _text(value: Any) -> str:
    """A value in one line; of several the first ones."""
    if isinstance(value, Mapping):
        shown = [f"{key}: {_text(one)}" for key, one in islice(value.items(), _MOST_VALUES)]
        return ", ".join([*shown, "…"] if len(value) > _MOST_VALUES else shown) or "none"
    if isinstance(value, int | float):
        return number(value)
    return "–" if value is None else value


def inspection_text(found: Inspection) -> str:
    """All tables, one below the other, long ones cut; without what would steer a terminal: names are anybody's."""
    file = io.StringIO()
    console = Console(file=file, width=_WIDTH, color_system=None, markup=False, highlight=False, emoji=False)
    for title, table in inspection_tables(found.record).items():
        console.print(f"\n{title.capitalize()}", Padding(_text_table(table), (0, 0, 0, 2)), sep="\n")
    lines = [line.rstrip() for line in file.getvalue().strip("\n").split("\n")]
    return "\n".join("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line) for line in lines)


def _text_table(table: Table) -> TextTable:
    text = TextTable(box=None, pad_edge=False, show_header=bool(table.heads), caption_justify="left")
    for index, head in enumerate(table.heads or [""] * len(table.rows[0])):
        text.add_column(head, justify="left" if index in table.words else "right", overflow="fold")
    for row in table.rows[:_MOST_ROWS]:
        text.add_row(*row)
    if len(table.rows) > _MOST_ROWS:
        text.caption = f"and {number(len(table.rows) - _MOST_ROWS)} more"
    return text


def default_page(data_file: Path) -> Path:
    """Where the page goes if nobody says: the current folder, named after the data file and its folder."""
    return Path(f"inspection-{data_file.resolve().parent.name}-{data_file.stem}.html")


def page(found: Inspection, when: datetime) -> str:
    """The page as HTML, with its plots in it; ``when`` the file was read."""
    record = found.record
    with styled():
        plots = {"cells": [_plot_cells(found)], "scales": [_plot_scales(record)], "lengths": [_plot_lengths(found)]}
    return render(
        "inspection.html.j2",
        title=f"Inspection of {Path(record['file']['path']).name}",
        generator=PROGRAM,
        when=when,
        file=record["file"],
        tables=inspection_tables(record),
        plots=plots,
    )


def _plot_cells(found: Inspection) -> Plot:
    classes = np.ceil(np.log2(found.cell_sizes)).astype(int)  # 1, 2, 3–4, 5–8, …
    bars = {
        str(2**of) if of < 2 else f"{2 ** (of - 1) + 1}–{2**of}": int((classes == of).sum())
        for of in range(classes.max() + 1)
    }
    alt = f"Bars: answers in a cell, in classes that double; {_told(found.record['cells']['sizes'])}."
    return _bars("Cells by their number of answers", bars, len(classes), alt)


def _plot_scales(record: _Record) -> Plot:
    rows: Counter[str] = Counter()
    for use in record["scales"]:
        rows[use["scale"] or f"none: {use['form']}"] += use["rows"]
    shown = dict(rows.most_common(_BARS))
    if others := len(rows) - len(shown):
        shown[f"{others} others"] = rows.total() - sum(shown.values())
    told = ", ".join(f"{scale} {share(part, rows.total())}" for scale, part in shown.items())
    return _bars("Answers by scale", shown, rows.total(), f"Bars: share of the answers by scale: {told}.")


def _bars(title: str, parts: Mapping[str, int], total: int, alt: str) -> Plot:
    """A bar a part, one below the other, with its share written beside it."""

    def draw(axes: Any) -> None:
        bars = axes.barh(range(len(parts)), [*parts.values()], 0.72, color=LIGHT, **EDGE)
        axes.bar_label(bars, [share(part, total) for part in parts.values()], padding=4, fontsize=9)
        axes.set_yticks(range(len(parts)), map(short, parts))
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.spines["bottom"].set_visible(False)
        axes.set_xticks([])
        axes.set_xlim(0, max(parts.values()) * 1.18)

    return drawn(title, 0.55 + 0.27 * len(parts), draw, alt)


def _plot_lengths(found: Inspection) -> Plot:
    lengths = found.record["lengths"]
    is_tokens, limit = lengths["tokens"] is not None, lengths["max_length"]
    title = "Tokens of a row" if is_tokens else "Characters of a prompt"
    spread = lengths["tokens" if is_tokens else "characters"]

    def draw(axes: Any) -> None:
        bins = min(_CLASSES, spread["max"] - spread["min"] + 1)
        axes.hist(found.lengths, bins, color=LIGHT, edgecolor=DARK, linewidth=0.6)
        axes.axvline(spread["median"], color=LINE, linewidth=1.2, label=f"median {number(spread['median'])}")
        if is_tokens and limit:
            axes.axvline(limit, color=LINE, linewidth=1.2, linestyle="--", label=f"max_length {number(limit)}")
        axes.set(ylabel="rows")
        thousands(axes.xaxis)
        thousands(axes.yaxis)
        legend(axes)

    return drawn(title, 2.6, draw, f"Histogram: {title}, {_told(spread)}.")


def _told(spread: _Record) -> str:
    low, high, median = (number(spread[key]) for key in ("min", "max", "median"))
    return f"from {low} to {high}, the median {median}"
