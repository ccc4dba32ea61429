"""An inspection as titled tables: text for a terminal, and one HTML page with plots.

The record's own names stand there, which the help of `scripts/inspect_data.py` explains.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as TextTable

from socrates.console import count, number, share
from socrates.report.html import Table, render
from socrates.report.plot import DARK, EDGE, LIGHT, LINE, Plot, drawn, legend, short, styled, thousands

if TYPE_CHECKING:
    from socrates.data.inspect import Inspection

PROGRAM = "scripts/inspect_data.py"
_MOST_ROWS = 20  # of a table
_MOST_VALUES = 5  # in one place of a table
_WIDTH = 110  # characters of a line
_BARS, _CLASSES = 9, 40
_Record = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """A part of the record: its single values as a table, and a table of each list in it."""

    key: str
    title: str
    tables: tuple[Table, ...]


def inspection_sections(record: _Record) -> list[Section]:
    """All that is reported about a file, from its `Inspection.record`."""
    parts = {key: value for key, value in record.items() if isinstance(value, Mapping | list)}
    single = {key: value for key, value in record.items() if key not in parts}
    named = {"file": single, **parts}
    return [Section(key, _title(key).capitalize(), tuple(_tables(value, ""))) for key, value in named.items()]


def _tables(part: Any, title: str) -> Iterator[Table]:
    """Of an object its single values, its spreads, then what is nested; of a list a row a record, then the spreads."""
    if isinstance(part, list):
        names = [key for key in (part[0] if part else ()) if not any(_is_spread(one[key]) for one in part)]
        if not names:
            return
        words = tuple(i for i, key in enumerate(names) if not all(isinstance(one[key], int | None) for one in part))
        rows = tuple(tuple(_text(one[key]) for key in names) for one in part)
        yield Table(tuple(map(_title, names)), rows, words, title)
        for key in part[0]:
            yield from _spread_table({one[names[0]]: one[key] for one in part if _is_spread(one[key])}, _title(key))
        return
    nested = {key: value for key, value in part.items() if isinstance(value, Mapping | list) and value}
    facts = tuple((_title(key), _text(value)) for key, value in part.items() if key not in nested)
    if facts:
        yield Table((), facts, (0, 1), title)
    yield from _spread_table({key: value for key, value in nested.items() if _is_spread(value)}, "")
    for key, value in nested.items():
        if not _is_spread(value):
            yield from _tables(value, _title(key))


def _spread_table(spreads: Mapping[str, _Record], title: str) -> Iterator[Table]:
    if spreads:
        keys = tuple(next(iter(spreads.values())))
        rows = tuple((_title(name), *(_text(spread[key]) for key in keys)) for name, spread in spreads.items())
        yield Table(("", *map(_title, keys)), rows, title=title)


def _is_spread(value: Any) -> bool:
    return isinstance(value, Mapping) and "median" in value


def _title(key: str) -> str:
    return key.replace("_", " ")


def _text(value: Any) -> str:
    """A value in one line; of several the first ones."""
    if isinstance(value, Mapping):  # a value and how many rows have it
        first, *others = map(_text, value.values())
        return f"{first} ({', '.join(others)})" if others else first
    if isinstance(value, list | tuple):
        more = ", …" if len(value) > _MOST_VALUES else ""
        return ", ".join(map(_text, value[:_MOST_VALUES])) + more or "none"
    if isinstance(value, int | float):
        return number(value)
    return "–" if value is None else value or "none"


def inspection_text(found: Inspection) -> str:
    """All sections, one below the other, long tables cut; without what would steer a terminal: names are anybody's."""
    file = io.StringIO()
    console = Console(file=file, width=_WIDTH, color_system=None, markup=False, highlight=False, emoji=False)
    for part in inspection_sections(found.record):
        console.print(f"\n{part.title}")
        for table in part.tables:
            console.print(Padding(_text_table(table), (0, 0, 0, 2)))
    lines = [line.rstrip() for line in file.getvalue().strip("\n").split("\n")]
    return "\n".join("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line) for line in lines)


def _text_table(table: Table) -> TextTable:
    text = TextTable(box=None, pad_edge=False, show_header=bool(table.heads), title=table.title or None)
    text.title_justify = text.caption_justify = "left"
    for index, head in enumerate(table.heads or [""] * len(table.rows[0])):
        text.add_column(head, justify="left" if index in table.words else "right", overflow="fold")
    for row in table.rows[:_MOST_ROWS]:
        text.add_row(*row)
    if len(table.rows) > _MOST_ROWS:
        text.caption = f"and {number(len(table.rows) - _MOST_ROWS)} more"
    return text


def default_page(data_file: Path) -> Path:
    """Where the page goes if nobody says: the current folder, named after the data file and its folder."""
    names = ("inspection", data_file.resolve().parent.name, data_file.stem)
    return Path("-".join(filter(None, names)) + ".html")


def page(found: Inspection, when: datetime) -> str:
    """The page as HTML, with its plots in it; ``when`` the file was read."""
    record, counts = found.record, found.record["counts"]
    holds = [count(record["rows"], "row"), count(counts["studies"], "study", "studies"), count(counts["cells"], "cell")]
    with styled():
        plots = {"cells": [_plot_cells(found)], "scales": [_plot_scales(record)], "lengths": [_plot_lengths(found)]}
    return render(
        "inspection.html.j2",
        title=f"Inspection of {Path(record['file']).name}",
        generator=PROGRAM,
        when=when,
        record=record,
        holds=holds,
        sections=inspection_sections(record),
        plots=plots,
    )


def _plot_cells(found: Inspection) -> Plot:
    classes = np.ceil(np.log2(found.cell_sizes)).astype(int)  # 1, 2, 3–4, 5–8, …
    bars = {
        str(2**of) if of < 2 else f"{2 ** (of - 1) + 1}–{2**of}": int((classes == of).sum())
        for of in range(classes.max() + 1)
    }
    alt = f"Bars: answers in a cell, in classes that double; {_told(found.record['cells']['sizes'])}."
    return _bars("Cells by their number of answers", bars, found.record["counts"]["cells"], alt)


def _plot_scales(record: _Record) -> Plot:
    rows: Counter[str] = Counter()
    for use in record["scales"]["stated"]:
        rows[use["scale"]] += use["rows"]
    shown = dict(rows.most_common(_BARS))
    if others := len(rows) - len(shown):
        shown[f"{others} others"] = rows.total() - sum(shown.values())
    if without := sum(one["rows"] for one in record["scales"]["without_scale"]):
        shown["no scale"] = without
    told = ", ".join(f"{scale} {share(part, record['rows'])}" for scale, part in shown.items())
    return _bars("Answers by scale", shown, record["rows"], f"Bars: share of the answers by scale: {told}.")


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
