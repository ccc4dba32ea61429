"""An inspection as one HTML page that needs nothing else: plots and tables, on a screen, a phone or paper."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from socrates.console import count, number, share
from socrates.data.inspect.record import Inspection, Spread
from socrates.errors import SocratesError
from socrates.files import atomic_write
from socrates.report.html import MOST_ROWS, check_name, document, read_start, section
from socrates.report.inspection import inspection_sections
from socrates.report.plot import DARK, EDGE, FILLS, LIGHT, LINE, Plot, drawn, legend, short, styled, thousands

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PROGRAM = "scripts/inspect_data.py"
_NAMED_STUDIES = 15
_BARS = 9
_CLASSES = 40


def default_page(data_file: Path) -> Path:
    """Where the page goes if nobody says: the current folder, named after the data file and its folder."""
    folder = data_file.resolve().parent.name
    return Path("-".join(["inspection", *([folder] if folder else []), data_file.stem]) + ".html")


def check_page(path: Path, data_file: Path) -> None:
    """SocratesError unless the page may be written: under a new name, or over an earlier page about the same file."""
    check_name(path, "--report")
    start = read_start(path)
    if start is not None and _generator(data_file).encode() not in start:
        what = "about another data file" if _PROGRAM.encode() in start else "which this program did not write"
        raise SocratesError(f"{path}: is a page {what}; choose another name with --report PATH, or move it away")


def write_page(found: Inspection, path: Path, when: datetime) -> None:
    """Write the page, whole or not at all; SocratesError where that is not possible."""
    text = page(found, when)
    with atomic_write(path) as file:
        file.write(text)


def page(found: Inspection, when: datetime) -> str:
    """The page as HTML, with its plots in it; ``when`` the file was read."""
    plots = inspection_plots(found)
    counts = ", ".join(
        [
            count(found.rows, "row"),
            count(len(found.studies), "study", "studies"),
            count(found.cells, "cell"),
            *([count(found.participants, "participant")] if found.participants else []),
        ]
    )
    bad_rows = f"; <strong>{escape(count(found.bad_rows, 'bad row'))}</strong>" if found.bad_rows else ""
    header = [
        f"<p>{escape(counts)}{bad_rows}</p>",
        f'<p class="small">{escape(found.file)}, read on {when:%Y-%m-%d at %H:%M %Z}</p>',
    ]
    body = (
        section(
            part.key,
            part.title,
            part.lines,
            plots.get(part.key, ()),
            part.tables,
            kind="bad" if part.key == "bad" else "",
            most=None if part.key == "bad" else MOST_ROWS,
        )
        for part in inspection_sections(found)
    )
    return document(f"Inspection of {Path(found.file).name}", _generator(Path(found.file)), header, body)


def _generator(data_file: Path) -> str:
    digest = hashlib.sha256(str(data_file.resolve()).encode(errors="replace")).hexdigest()
    return f"{_PROGRAM} {digest[:16]}"


def inspection_plots(found: Inspection) -> Mapping[str, Sequence[Plot]]:
    """The plots of an inspection by the key of the section that they belong to."""
    with styled():
        plots: dict[str, list[Plot]] = {
            "studies": [_studies(found)],
            "cells": [_cells(found)],
            "people": [],
            "demographics": [],
            "scales": [_scales(found)],
            "lengths": [_lengths(found.characters, "Characters of a prompt")],
        }
        if found.answers_each:
            plots["people"].append(_answers_each(found.answers_each))
        if found.demographics:
            plots["demographics"].append(_known(found))
        plots["demographics"] += [
            _lengths(one.numbers, f"{_title(one.name).capitalize()}, in the rows where it is a number")
            for one in found.demographics
            if one.numbers
        ]
        if found.tokens:
            plots["lengths"].append(_lengths(found.tokens, "Tokens of a row", limit=found.max_length))
    return plots


def _studies(found: Inspection) -> Plot:
    rows = [study.rows for study in found.studies]
    if len(rows) <= _NAMED_STUDIES:
        return _bars(
            "Rows of each study",
            [study.study_id for study in found.studies],
            {"rows": rows},
            [number(n) for n in rows],
            alt=f"Bars: rows of each of {len(rows)} studies, from {number(rows[0])} down to {number(rows[-1])}.",
        )

    def draw(axes: Axes) -> None:
        axes.fill_between(range(1, len(rows) + 1), rows, step="mid", color=LIGHT, edgecolor=DARK, linewidth=1.2)
        axes.set(xlabel="study, the largest first", ylabel="rows", xlim=(1, len(rows)), ylim=(0, None))
        axes.xaxis.get_major_locator().set_params(integer=True)
        thousands(axes.yaxis)

    middle = rows[len(rows) // 2]
    alt = (
        f"Curve: rows of each of {len(rows)} studies, from {number(rows[0])} for the largest over {number(middle)} in "
        f"the middle down to {number(rows[-1])}."
    )
    return drawn("Rows of each study", 2.6, draw, alt)


def _cells(found: Inspection) -> Plot:
    names = {"spread": "answers differ", "uniform": "all answers equal", "single": "one answer"}
    parts = {names[kind]: _in_powers(sizes) for kind, sizes in found.sizes_by_kind.items()}
    classes = range(max(max(part, default=0) for part in parts.values()) + 1)

    def draw(axes: Axes) -> None:
        bottom = [0] * len(classes)
        for (name, part), (color, hatch) in zip(parts.items(), FILLS, strict=False):
            heights = [part.get(i, 0) for i in classes]
            axes.bar([*classes], heights, bottom=bottom, color=color, hatch=hatch, label=name, **EDGE)
            bottom = [a + b for a, b in zip(bottom, heights, strict=True)]
        _name_powers(axes, classes, "answers in the cell")
        axes.set(ylabel="cells")
        thousands(axes.yaxis)
        legend(axes)

    alt = (
        f"Bars: how many answers cells hold, in classes that double. Of {number(found.cells)} cells "
        f"{number(found.single_cells)} hold one answer, {number(found.uniform_cells)} only equal ones, "
        f"{number(found.judgeable_cells)} answers that differ."
    )
    return drawn("Answers in a cell", 2.8, draw, alt)


def _answers_each(answers: Spread) -> Plot:
    part = _in_powers(answers.counts)
    classes = range(max(part) + 1)

    def draw(axes: Axes) -> None:
        axes.bar([*classes], [part.get(i, 0) for i in classes], color=LIGHT, edgecolor=DARK)
        _name_powers(axes, classes, "answers of the participant")
        axes.set(ylabel="participants")
        thousands(axes.yaxis)

    alt = (
        f"Bars: how many answers participants gave, in classes that double; from {number(answers.min)} to "
        f"{number(answers.max)}, the median {number(answers.median)}."
    )
    return drawn("Answers of a participant", 2.5, draw, alt)


def _known(found: Inspection) -> Plot:
    fields = sorted(found.demographics, key=lambda one: (-one.known, one.name))
    names, shares = [_title(one.name) for one in fields], [share(one.known, found.rows) for one in fields]
    alt = "Bars: rows in which each demographic field is known: " + ", ".join(
        f"{name} {shown}" for name, shown in zip(names, shares, strict=True)
    )
    return _bars("Rows in which a field is known", names, {"rows": [one.known for one in fields]}, shares, alt + ".")


def _scales(found: Inspection) -> Plot:
    by_scale: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for use in found.scales:
        by_scale[use.scale][use.form] += use.rows
    if without := sum(one.rows for one in found.without_scale):
        by_scale["no scale"]["none stated"] += without
    ordered = sorted(by_scale, key=lambda scale: (scale == "no scale", -by_scale[scale].total()))
    shown = {scale: by_scale[scale] for scale in ordered[:_BARS]}
    if rest := ordered[_BARS:]:
        shown[f"{len(rest)} others"] = sum((by_scale[scale] for scale in rest), Counter())
    forms = sorted({form for counts in shown.values() for form in counts}, key=lambda form: _total(shown, form))[::-1]
    if len(forms) > len(FILLS):  # as many as can be told apart
        forms, merged = forms[: len(FILLS) - 1], forms[len(FILLS) - 1 :]
        for counts in shown.values():
            counts["other wordings"] = sum(counts.pop(form, 0) for form in merged)
        forms.append("other wordings")
    shares = [share(counts.total(), found.rows) for counts in shown.values()]
    alt = "Bars: share of the rows by scale, each divided by wording: " + ", ".join(
        f"{scale} {text}" for scale, text in zip(shown, shares, strict=True)
    )
    parts = {form: [counts[form] for counts in shown.values()] for form in forms}
    return _bars("Rows by scale and wording", [*shown], parts, shares, alt + ".")


def _lengths(counts: Spread, title: str, limit: int | None = None) -> Plot:
    low, high = counts.min, max(counts.max, limit or 0)
    width = max(1, -(-(high - low + 1) // _CLASSES)) if isinstance(counts.min, int) else (high - low) / _CLASSES or 1
    heights: Counter[int] = Counter()
    for value, rows in counts.counts.items():
        heights[int((value - low) // width)] += rows

    def draw(axes: Axes) -> None:
        left = [low + i * width for i in heights]
        axes.bar(left, [*heights.values()], width, align="edge", color=LIGHT, edgecolor=DARK, linewidth=0.6)
        axes.axvline(counts.median, color=LINE, linewidth=1.2, label=f"median {number(counts.median)}")
        if limit is not None:
            axes.axvline(limit, color=LINE, linewidth=1.2, linestyle="--", label=f"max_length {number(limit)}")
        axes.set(ylabel="rows")
        axes.margins(x=0.02)
        thousands(axes.xaxis)
        thousands(axes.yaxis)
        legend(axes)

    beyond = f" The limit is {number(limit)}." if limit is not None else ""
    alt = (
        f"Histogram: {title}; from {number(counts.min)} to {number(counts.max)}, half of them between "
        f"{number(counts.q1)} and {number(counts.q3)}, the median {number(counts.median)}.{beyond}"
    )
    return drawn(title, 2.6, draw, alt)


# --- what the plots share --------------------------------------------------------------------------------------


def _bars(title: str, names: Sequence[str], parts: Mapping[str, Sequence[int]], texts: Sequence[str], alt: str) -> Plot:
    """Horizontal bars, one below the other, divided into parts that fill patterns tell apart."""

    def draw(axes: Axes) -> None:
        left = [0] * len(names)
        fills = FILLS if len(parts) > 1 else ((LIGHT, ""),)
        for (name, widths), (color, hatch) in zip(parts.items(), fills, strict=False):
            axes.barh(
                range(len(names)),
                widths,
                0.72,
                left,
                color=color,
                hatch=hatch,
                label=name,
                edgecolor=LINE,
                linewidth=0.7,
            )
            left = [a + b for a, b in zip(left, widths, strict=True)]
        for place, (end, text) in enumerate(zip(left, texts, strict=True)):
            axes.annotate(text, (end, place), (4, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_yticks(range(len(names)), map(short, names))
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.spines["bottom"].set_visible(False)
        axes.set_xticks([])
        axes.set_xlim(0, max(left) * 1.16 or 1)
        if len(parts) > 1:
            legend(axes)

    below = 0.22 * len(parts) if len(parts) > 1 else 0
    return drawn(title, 0.55 + 0.27 * len(names) + below, draw, alt)


def _in_powers(sizes: Mapping[int, int]) -> dict[int, int]:
    """How many lie in each class 1, 2, 3–4, 5–8, 9–16, …, counted from 0."""
    classes: Counter[int] = Counter()
    for size, many in sizes.items():
        classes[int(size - 1).bit_length()] += many
    return dict(classes)


def _name_powers(axes: Axes, classes: Sequence[int], what: str) -> None:
    names = ["1", "2", *(f"{2 ** (i - 1) + 1}–{2**i}" for i in classes[2:])][: len(classes)]
    crowded = len(names) > 7
    axes.set_xticks([*classes], names, rotation=40 if crowded else 0, ha="right" if crowded else "center")
    if crowded:
        axes.tick_params(axis="x", labelsize=8.5, pad=1)
    axes.set_xlabel(what)


def _total(shown: Mapping[str, Counter[str]], form: str) -> tuple[int, str]:
    return sum(counts[form] for counts in shown.values()), form


def _title(name: str) -> str:
    return name.replace("_", " ")
