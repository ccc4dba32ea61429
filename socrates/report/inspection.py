"""An inspection as titled sentences and tables: text for a terminal, and one HTML page with plots."""

from __future__ import annotations

import hashlib
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from socrates.console import Table, count, number, share, size
from socrates.errors import SocratesError
from socrates.files import atomic_write
from socrates.report.html import MOST_ROWS, check_name, document, read_start, section
from socrates.report.plot import DARK, LIGHT, LINE, Plot, drawn, legend, short, styled, thousands

if TYPE_CHECKING:
    from socrates.data.inspect import Inspection

_SHOWN_VALUES = 5
_WIDTH, _LEAST = 110, 40  # characters of a line, and of its last column where the others leave less
_PROGRAM = "scripts/inspect_data.py"
_BARS = 9
_CLASSES = 40
_Record = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """One question about the data, answered."""

    key: str
    title: str
    lines: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()


def inspection_sections(record: _Record) -> list[Section]:
    """All that is reported about a file, from its `Inspection.record`."""
    parts = (_overview, _studies, _cells, _people, _demographics, _scales, _outside, _differing, _repeated, _lengths)
    bad_rows = [_bad_rows(record)] if record["bad_rows"]["rows"] else []
    return [*bad_rows, *(part(record) for part in parts), _duplicates(record["duplicates"])]


def _bad_rows(record: _Record) -> Section:
    bad, first = record["bad_rows"]["rows"], record["bad_rows"]["first"]
    more = f" The first {len(first)} of them:" if bad > len(first) else ""
    line = f"{count(bad, 'row')} cannot be used; all other figures are of the other rows.{more}"
    rows = tuple((f"{record['file']}, line {row['line']}", row["reason"]) for row in first)
    return Section("bad", "Bad rows", (line,), (Table(("where", "what is wrong"), rows, left=2),))


def _overview(record: _Record) -> Section:
    counts, unnamed = record["counts"], record["participants"]["rows_without_participant"]
    named = number(counts["participants"]) if counts["participants"] else "not named in this file"
    if counts["participants"] and unnamed:
        named += f" ({count(unnamed, 'row')} without one)"
    layouts = [f"{name} ({count(rows, 'row')})" for name, rows in record["layouts"].items()]
    rows = (
        ("rows", number(record["rows"])),
        ("bad rows", _or_none(record["bad_rows"]["rows"])),
        ("layout", ", ".join(layouts if len(layouts) > 1 else record["layouts"])),
        *((name, number(counts[name])) for name in ("studies", "conditions", "questions", "cells")),
        ("participants", named),
        ("size", size(record["bytes"])),
    )
    note = "The instruction layout has no task_num: the question's own text tells questions apart."
    notes = (note,) if "instruction" in record["layouts"] else ()
    return Section("overview", "What it holds", notes, (Table((), rows, left=2),))


def _studies(record: _Record) -> Section:
    heads = ("study", "rows", "conditions", "questions", "cells", "people", "no scale", "off scale", "repeated")
    rows = tuple(
        (study, *("–" if value is None else number(value) for value in values))
        for study, *values in (one.values() for one in record["studies"])
    )
    return Section("studies", "Studies, the largest first", (), (Table(heads, rows),))


def _cells(record: _Record) -> Section:
    cells, total = record["cells"], record["counts"]["cells"]
    rows = f"{count(cells['judgeable_rows'], 'row')} ({share(cells['judgeable_rows'], record['rows'])})"
    lines = (
        f"Cells whose answers differ, which an evaluation can judge: {number(cells['judgeable'])} of {number(total)}, "
        f"with {rows}.",
        f"It cannot judge those of one answer ({_or_none(cells['one_answer'])}) and those whose answers are all equal "
        f"({_or_none(cells['no_spread'])}).",
    )
    table = _spread_table([("answers in a cell", cells["sizes"])])
    return Section("cells", "Cells (study, condition, question)", lines, (table,))


def _people(record: _Record) -> Section:
    people = record["participants"]
    if people["answers_each"] is None:
        return Section("people", "People", ("No row names its participant.",))
    several = _or_none(people["in_several_conditions"])
    line = f"Participants who answered in several conditions of their study: {several}."
    table = _spread_table([("answers of a participant", people["answers_each"])])
    return Section("people", "People (participant within a study)", (line,), (table,))


def _demographics(record: _Record) -> Section:
    fields = record["demographics"]
    rows = tuple(
        (
            one["field"],
            share(one["known"], record["rows"]),
            "over 10,000" if one["distinct"] is None else number(one["distinct"]),
            ", ".join(f"{c['value']} ({share(c['rows'], one['known'])})" for c in one["common"][:_SHOWN_VALUES]),
        )
        for one in fields
    )
    heads = ("field", "known", "values", "most common, of the rows where it is known")
    tables = [Table(heads, rows, words_last=True)] if rows else []
    if numeric := [(one["field"], one["numbers"]) for one in fields if one["numbers"]]:
        tables.append(_spread_table(numeric, "Fields that are numbers"))
    return Section("demographics", "Demographics, by row", () if rows else ("No row has any.",), tuple(tables))


def _scales(record: _Record) -> Section:
    total, without = record["rows"], _sum(record["scales"]["without_scale"])
    lines = [f"Rows that state their scale: {_or_none(total - without)} ({share(total - without, total)})."]
    if without:
        lines[0] += f" Rows that state none, see below: {number(without)}."
    stated = tuple(
        (short(use["scale"], 40), use["form"], number(use["rows"]), share(use["rows"], total), number(use["studies"]))
        for use in record["scales"]["stated"]
    )
    tables = [Table(("scale", "wording", "rows", "share", "studies"), stated, left=2)] if stated else []
    if without:
        rows = tuple(
            (one["study_id"], number(one["rows"]), f"…{one['ends']} (line {one['line']})")
            for one in record["scales"]["without_scale"]
        )
        heads = ("study", "rows", "how the first of them ends")
        tables.append(Table(heads, rows, words_last=True, title="Rows without a scale"))
    return Section("scales", "Scales", tuple(lines), tuple(tables))


def _outside(record: _Record) -> Section:
    title, studies = "Answers outside their scale", record["scales"]["outside_scale"]
    if not studies:
        return Section("outside", title, ("None.",))
    line = (
        f"{count(_sum(studies), 'row')} in {count(_sum(studies, 'cells'), 'cell')} of "
        f"{count(len(studies), 'study', 'studies')}. One such answer stretches its cell's range."
    )
    rows = tuple(
        (
            one["study_id"],
            number(one["rows"]),
            number(one["cells"]),
            ", ".join(f"{value['answer']} ({number(value['rows'])}×)" for value in one["values"][:_SHOWN_VALUES])
            + (", …" if len(one["values"]) > _SHOWN_VALUES else ""),
        )
        for one in studies
    )
    heads = ("study", "rows", "cells", "most common such answers")
    return Section("outside", title, (line,), (Table(heads, rows, words_last=True),))


def _differing(record: _Record) -> Section:
    found = record["scales"]["differing"]
    cells, questions = found["cells_with_several_scales"], found["questions_differing_between_conditions"]
    lines = (
        f"Cells that state more than one scale: {_or_none(len(cells))}; that state one in some rows only: "
        f"{_or_none(len(found['cells_partly_without']))}; that state none: {_or_none(found['cells_without'])}.",
        f"Questions (study, task) whose scale differs between conditions: {_or_none(len(questions))}.",
    )
    tables = []
    for title, heads, many in (
        ("Cells that state more than one scale", ("study", "condition", "task", "scales"), cells),
        ("Questions whose scale differs between conditions", ("study", "task", "scales"), questions),
    ):
        rows = tuple((*map(str, key), "; ".join(scales)) for *key, scales in (one.values() for one in many))
        tables += [Table(heads, rows, left=len(heads), title=title)] if rows else []
    return Section("differing", "One question, several scales", lines, tuple(tables))


def _repeated(record: _Record) -> Section:
    title, repeated = "Repeated (study, participant, task)", record["repeated"]
    if repeated is None:
        return Section("repeated", title, ("Unknown: no row names its participant.",))
    if not repeated["groups"]:
        return Section("repeated", title, ("None: every participant answered each question once.",))
    again = repeated["rows_asked_again"]
    lines = (
        f"Groups: {number(repeated['groups'])}, of {count(repeated['rows'], 'row')} in "
        f"{count(repeated['studies'], 'study', 'studies')}. With other stimuli each time (the same question about "
        f"other things): {_or_none(repeated['groups_other_stimuli'])}; with the same stimulus twice or more: "
        f"{_or_none(repeated['groups_same_stimulus'])}.",
        f"Rows that repeat an earlier one in the same condition too: {_or_none(again)}"
        + (" (duplicates, or a question that was put twice)." if again else "."),
    )
    return Section("repeated", title, lines)


def _lengths(record: _Record) -> Section:
    lengths = record["lengths"]
    tokens, longest, too_long = (lengths[name] for name in ("tokens", "max_length", "longer_than_max_length"))
    rows = [("characters of a prompt", lengths["characters"])]
    if tokens is None:
        lines = ["Tokens were not counted: name a tokenizer with --model NAME|DIR or --config FILE."]
    else:
        rows.append(("tokens of a row", tokens))
        lines = [f"Tokens of {lengths['tokenizer']}: prompt, answer and end of the turn, as a training row has them."]
    if too_long is not None:
        lines.append(
            f"Rows longer than max_length = {longest} tokens: {_or_none(too_long)}."
            + (" Training shortens their stimuli, or drops them." if too_long else "")
        )
    return Section("lengths", "Lengths", tuple(lines), (_spread_table(rows),))


def _duplicates(same: _Record) -> Section:
    again, shared = _or_none(same["rows_like_an_earlier_one"]), same["shared_prompts"]
    in_rows = f", in {count(same['rows_with_shared_prompts'], 'row')}; people with the same profile share prompts"
    lines = [
        f"Rows that are the same, character by character, as an earlier one: {again}.",
        f"Prompts (persona and text) that several rows share: {_or_none(shared)}{in_rows if shared else ''}.",
    ]
    if shared:
        lines.append(
            f"Of these prompts {number(same['shared_prompts_one_response'])} have one response and "
            f"{number(same['shared_prompts_other_responses'])} different ones; "
            f"{number(same['shared_prompts_one_participant'])} are of one named participant."
        )
    return Section("duplicates", "Duplicates", tuple(lines))


def _spread_table(rows: Sequence[tuple[str, _Record]], title: str = "") -> Table:
    heads = ("least", "quarter", "median", "3 quarters", "95%", "99%", "most")
    keys = ("min", "q1", "median", "q3", "p95", "p99", "max")
    cells = tuple((name, *(number(spread[key]) for key in keys)) for name, spread in rows)
    return Table(("", *heads), cells, title=title)


def _sum(items: Sequence[_Record], key: str = "rows") -> int:
    return sum(item[key] for item in items)


def _or_none(value: int) -> str:
    return number(value) if value else "none"


def inspection_text(found: Inspection) -> str:
    """All sections, one below the other, long tables cut."""
    record = found.record
    lines = [record["file"]]
    for part in inspection_sections(record):
        most = len(record["bad_rows"]["first"]) if part.key == "bad" else MOST_ROWS
        lines += ["", part.title]
        for line in part.lines:
            lines += textwrap.wrap(line, _WIDTH, initial_indent="  ", subsequent_indent="    ")
        for table in part.tables:
            lines += [f"  {table.title}:"] if table.title else []
            lines += [f"  {line}" for line in _aligned(table, most)]
    return "\n".join(map(_printable, lines))


def _aligned(table: Table, most: int) -> Iterator[str]:
    rows, heads = table.rows[:most], [table.heads] if any(table.heads) else []
    widths = [max(map(len, column)) for column in zip(*heads, *rows, strict=True)]
    words = {*range(table.left), *([len(widths) - 1] if table.words_last else [])}
    before = sum(widths[:-1]) + 2 * (len(widths) - 1)
    for row in [*heads, *rows]:
        cells = [f"{c:<{w}}" if i in words else f"{c:>{w}}" for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        first, *more = textwrap.wrap(cells[-1].rstrip(), max(_WIDTH - before, _LEAST)) or [""]
        last = first if len(widths) - 1 in words else cells[-1]
        yield "  ".join([*cells[:-1], last]).rstrip()
        yield from (" " * before + line for line in more)
    if len(table.rows) > most:
        yield f"and {number(len(table.rows) - most)} more"


def _printable(line: str) -> str:
    """Without what would steer a terminal: names and values are as somebody wrote them."""
    return line if line.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


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
    record = found.record
    counts = record["counts"]
    shown = [count(record["rows"], "row"), count(counts["studies"], "study", "studies"), count(counts["cells"], "cell")]
    shown += [count(counts["participants"], "participant")] if counts["participants"] else []
    bad_rows = record["bad_rows"]["rows"]
    shown += [f"<strong>{count(bad_rows, 'bad row')}</strong>"] if bad_rows else []
    header = [
        f"<p>{', '.join(shown)}</p>",
        f'<p class="small">{escape(record["file"])}, read on {when:%Y-%m-%d at %H:%M %Z}</p>',
    ]
    with styled():
        plots = {"cells": [_plot_cells(found)], "scales": [_plot_scales(record)], "lengths": [_plot_lengths(found)]}
    bad = {"kind": "bad", "most": None}
    body = [
        section(one.key, one.title, one.lines, plots.get(one.key, ()), one.tables, **(bad if one.key == "bad" else {}))
        for one in inspection_sections(record)
    ]
    file = Path(record["file"])
    return document(f"Inspection of {file.name}", _generator(file), header, body)


def _generator(data_file: Path) -> str:
    digest = hashlib.sha256(str(data_file.resolve()).encode(errors="replace")).hexdigest()
    return f"{_PROGRAM} {digest[:16]}"


def _plot_cells(found: Inspection) -> Plot:
    classes = Counter(int(size - 1).bit_length() for size in found.cell_sizes.tolist())  # 1, 2, 3–4, 5–8, …
    names = ["1", "2", *(f"{2 ** (i - 1) + 1}–{2**i}" for i in range(2, max(classes) + 1))][: max(classes) + 1]

    def draw(axes: Any) -> None:
        axes.bar(range(len(names)), [classes[i] for i in range(len(names))], color=LIGHT, edgecolor=DARK)
        crowded = len(names) > 7
        axes.set_xticks(range(len(names)), names, rotation=40 if crowded else 0, ha="right" if crowded else "center")
        axes.set(xlabel="answers in the cell", ylabel="cells")
        thousands(axes.yaxis)

    spread = _spread_in_words(found.record["cells"]["sizes"])
    return drawn("Answers in a cell", 2.8, draw, f"Bars: answers in a cell, in classes that double; {spread}.")


def _plot_scales(record: _Record) -> Plot:
    rows: Counter[str] = Counter()
    for use in record["scales"]["stated"]:
        rows[use["scale"]] += use["rows"]
    shown = dict(rows.most_common(_BARS))
    if others := len(rows) - len(shown):
        shown[f"{others} others"] = rows.total() - sum(shown.values())
    if without := _sum(record["scales"]["without_scale"]):
        shown["no scale"] = without
    shares = [share(part, record["rows"]) for part in shown.values()]

    def draw(axes: Any) -> None:
        bars = axes.barh(range(len(shown)), [*shown.values()], 0.72, color=LIGHT, edgecolor=LINE, linewidth=0.7)
        axes.bar_label(bars, shares, padding=4, fontsize=9)
        axes.set_yticks(range(len(shown)), map(short, shown))
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.spines["bottom"].set_visible(False)
        axes.set_xticks([])
        axes.set_xlim(0, max(shown.values()) * 1.16)

    alt = ", ".join(map(" ".join, zip(shown, shares, strict=True)))
    return drawn("Answers by scale", 0.55 + 0.27 * len(shown), draw, f"Bars: share of the answers by scale: {alt}.")


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

    return drawn(title, 2.6, draw, f"Histogram: {title}, {_spread_in_words(spread)}.")


def _spread_in_words(spread: _Record) -> str:
    low, high, median = (number(spread[key]) for key in ("min", "max", "median"))
    return f"from {low} to {high}, the median {median}"
