"""An inspection as titled sentences and tables (`Section`), for the page and, long ones cut, for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from socrates.console import Table, count, number, share, size
from socrates.data.inspect.record import Inspection, Spread

QUANTILES = ("least", "quarter", "median", "3 quarters", "95%", "99%", "most")
_SHOWN_VALUES = 5


@dataclass(frozen=True)
class Section:
    """One question about the data, answered."""

    key: str
    title: str
    lines: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()


def inspection_sections(found: Inspection) -> list[Section]:
    """All that is reported about a file."""
    return [
        *_bad_rows(found),
        _overview(found),
        _studies(found),
        _cells(found),
        _people(found),
        _demographics(found),
        _scales(found),
        _outside(found),
        _differing(found),
        _repeated(found),
        _lengths(found),
        _duplicates(found),
    ]


def _bad_rows(found: Inspection) -> Iterator[Section]:
    if not found.bad_rows:
        return
    lines = [f"{count(found.bad_rows, 'row')} cannot be used; all other figures are of the other rows."]
    if found.bad_rows > len(found.first_bad):
        lines.append(f"The first {len(found.first_bad)} of them:")
    rows = tuple((f"{found.file}, line {line}", reason) for line, reason in found.first_bad)
    yield Section("bad", "Bad rows", tuple(lines), (Table(("where", "what is wrong"), rows, left=2),))


def _overview(found: Inspection) -> Section:
    named = number(found.participants) if found.participants else "not named in this file"
    if found.participants and found.unnamed_rows:
        named += f" ({count(found.unnamed_rows, 'row')} without one)"
    layouts = ", ".join(
        name if rows == found.rows else f"{name} ({count(rows, 'row')})" for name, rows in found.layouts.items()
    )
    rows = (
        ("rows", number(found.rows)),
        ("bad rows", number(found.bad_rows) if found.bad_rows else "none"),
        ("layout", layouts),
        ("studies", number(len(found.studies))),
        ("conditions", number(found.conditions)),
        ("questions", number(found.questions)),
        ("cells", number(found.cells)),
        ("participants", named),
        ("size", size(found.bytes)),
    )
    notes = (
        ("The instruction layout has no task_num: the question's own text tells questions apart.",)
        if "instruction" in found.layouts
        else ()
    )
    return Section("overview", "What it holds", notes, (Table((), rows, left=2),))


def _studies(found: Inspection) -> Section:
    heads = ("study", "rows", "conditions", "questions", "cells", "people", "no scale", "off scale", "repeated")
    rows = tuple(
        (
            one.study_id,
            number(one.rows),
            number(one.conditions),
            number(one.questions),
            number(one.cells),
            _or_dash(one.participants),
            number(one.without_scale),
            number(one.outside_scale),
            _or_dash(one.repeated),
        )
        for one in found.studies
    )
    return Section("studies", "Studies, the largest first", (), (Table(heads, rows),))


def _cells(found: Inspection) -> Section:
    lines = [
        f"Cells whose answers differ: {number(found.judgeable_cells)} of {number(found.cells)}, with "
        f"{count(found.judgeable_rows, 'row')} ({share(found.judgeable_rows, found.rows)}). These an evaluation can "
        "judge."
    ]
    if found.judgeable_cells < found.cells:
        lines.append(
            f"It cannot judge those of one answer ({number(found.single_cells)}) and those whose answers are all equal "
            f"({number(found.uniform_cells)})."
        )
    table = _spread_table([("answers in a cell", found.cell_sizes)])
    return Section("cells", "Cells (study, condition, question)", tuple(lines), (table,))


def _people(found: Inspection) -> Section:
    if found.answers_each is None:
        return Section("people", "People", ("No row names its participant.",))
    line = f"Participants who answered in several conditions of their study: {_or_none(found.in_several_conditions)}."
    table = _spread_table([("answers of a participant", found.answers_each)])
    return Section("people", "People (participant within a study)", (line,), (table,))


def _demographics(found: Inspection) -> Section:
    rows = tuple(
        (
            one.name,
            share(one.known, found.rows),
            "over 10,000" if one.distinct is None else number(one.distinct),
            ", ".join(f"{value} ({share(rows, one.known)})" for value, rows in one.common[:_SHOWN_VALUES]),
        )
        for one in found.demographics
    )
    heads = ("field", "known", "values", "most common, of the rows where it is known")
    tables = [Table(heads, rows, words_last=True)] if rows else []
    if numeric := [(one.name, one.numbers) for one in found.demographics if one.numbers]:
        tables.append(_spread_table(numeric, "Fields that are numbers"))
    return Section("demographics", "Demographics, by row", () if rows else ("No row has any.",), tuple(tables))


def _scales(found: Inspection) -> Section:
    without = sum(one.rows for one in found.without_scale)
    stating = found.rows - without
    lines = [
        f"Rows that state their scale: {_or_none(stating)} ({share(stating, found.rows)})."
        + (f" Rows that state none, see below: {number(without)}." if without else "")
    ]
    stated = tuple(
        (use.scale, use.form, number(use.rows), share(use.rows, found.rows), number(use.studies))
        for use in found.scales
    )
    tables = [Table(("scale", "wording", "rows", "share", "studies"), stated, left=2)] if stated else []
    if found.without_scale:
        rows = tuple((one.study_id, number(one.rows), f"…{one.ends} (line {one.line})") for one in found.without_scale)
        heads = ("study", "rows", "how the first of them ends")
        tables.append(Table(heads, rows, words_last=True, title="Rows without a scale"))
    return Section("scales", "Scales", tuple(lines), tuple(tables))


def _outside(found: Inspection) -> Section:
    if not found.outside_scale:
        return Section("outside", "Answers outside their scale", ("None.",))
    rows = sum(one.rows for one in found.outside_scale)
    cells, studies = sum(one.cells for one in found.outside_scale), len(found.outside_scale)
    line = (
        f"{count(rows, 'row')} in {count(cells, 'cell')} of {count(studies, 'study', 'studies')}. "
        "One such answer stretches its cell's range."
    )
    table = tuple(
        (
            one.study_id,
            number(one.rows),
            number(one.cells),
            ", ".join(f"{answer} ({number(rows)}×)" for answer, rows in one.values[:_SHOWN_VALUES])
            + (", …" if len(one.values) > _SHOWN_VALUES else ""),
        )
        for one in found.outside_scale
    )
    heads = ("study", "rows", "cells", "most common such answers")
    return Section("outside", "Answers outside their scale", (line,), (Table(heads, table, words_last=True),))


def _differing(found: Inspection) -> Section:
    different = found.differing
    lines = [
        f"Cells that state more than one scale: {_or_none(len(different.cells))}; that state one in some rows only: "
        f"{_or_none(len(different.partly))}; that state none: {_or_none(different.unstated)}.",
        f"Questions (study, task) whose scale differs between conditions: {_or_none(len(different.questions))}.",
    ]
    if set(found.layouts) == {"instruction"}:
        lines.append("In the instruction layout a question with another scale is another question.")
    cells = tuple(
        (cell.study_id, str(cell.condition_num), str(cell.task_num), "; ".join(scales))
        for cell, scales in different.cells
    )
    questions = tuple((study, str(task), "; ".join(scales)) for study, task, scales in different.questions)
    tables = []
    if cells:
        heads = ("study", "condition", "task", "scales")
        tables.append(Table(heads, cells, left=4, title="Cells that state more than one scale"))
    if questions:
        title = "Questions whose scale differs between conditions"
        tables.append(Table(("study", "task", "scales"), questions, left=3, title=title))
    return Section("differing", "One question, several scales", tuple(lines), tuple(tables))


def _repeated(found: Inspection) -> Section:
    title, repeated = "Repeated (study, participant, task)", found.repeated
    if repeated is None:
        return Section("repeated", title, ("Unknown: no row names its participant.",))
    if not repeated.groups:
        return Section("repeated", title, ("None: every participant answered each question once.",))
    again = repeated.rows_asked_again
    lines = (
        f"Groups: {number(repeated.groups)}, of {count(repeated.rows, 'row')} in "
        f"{count(repeated.studies, 'study', 'studies')}.",
        "Other stimuli each time (the same question about other things): "
        + _groups_in(repeated.groups_other_stimuli, repeated.studies_other_stimuli),
        "The same stimulus twice or more: " + _groups_in(repeated.groups_same_stimulus, repeated.studies_same_stimulus),
        f"Rows that repeat an earlier one in the same condition too: {_or_none(again)}"
        + (" (duplicates, or a question that was put twice)." if again else "."),
    )
    return Section("repeated", title, lines)


def _groups_in(groups: int, studies: int) -> str:
    return f"{count(groups, 'group')} in {count(studies, 'study', 'studies')}." if groups else "none."


def _lengths(found: Inspection) -> Section:
    rows = [("characters of a prompt", found.characters)]
    lines = []
    if found.tokens is None:
        lines.append("Tokens were not counted: name a tokenizer with --model NAME|DIR or --config FILE.")
    else:
        rows.append(("tokens of a row", found.tokens))
        lines.append(f"Tokens of {found.tokenizer}: prompt, answer and end of the turn, as a training row has them.")
        if found.too_long is not None:
            lines.append(
                f"Rows longer than max_length = {found.max_length} tokens: {_or_none(found.too_long)}."
                + (" Training shortens their stimuli, or drops them." if found.too_long else "")
            )
    return Section("lengths", "Lengths", tuple(lines), (_spread_table(rows),))


def _duplicates(found: Inspection) -> Section:
    same = found.duplicates
    again = _or_none(same.rows_like_an_earlier_one)
    lines = [f"Rows that are the same, character by character, as an earlier one: {again}."]
    if same.shared_prompts:
        one_person = f"; {number(same.shared_prompts_one_participant)} are of one participant"
        lines += [
            f"Prompts (persona and text) that several rows share: {number(same.shared_prompts)}, in "
            f"{count(same.rows_with_shared_prompts, 'row')}; people with the same profile share prompts.",
            f"Of these prompts {number(same.shared_prompts_one_response)} have one response and "
            f"{number(same.shared_prompts_other_responses)} different ones{one_person if found.participants else ''}.",
        ]
    else:
        lines.append("Prompts (persona and text) that several rows share: none.")
    return Section("duplicates", "Duplicates", tuple(lines))


def _spread_table(rows: Sequence[tuple[str, Spread]], title: str = "") -> Table:
    cells = tuple(
        (name, *map(number, (one.min, one.q1, one.median, one.q3, one.p95, one.p99, one.max))) for name, one in rows
    )
    return Table(("", *QUANTILES), cells, title=title)


def _or_dash(value: int | None) -> str:
    return "–" if value is None else number(value)


def _or_none(value: int, what: str = "") -> str:
    if not value:
        return "none"
    return count(value, what) if what else number(value)


MOST_ROWS = 10  # of a table
_WIDTH, _LEAST = 110, 40  # characters of a line, and of its last column where the others leave less


def inspection_text(found: Inspection) -> str:
    """All sections, one below the other."""
    lines = [found.file]
    for section in inspection_sections(found):
        most = len(found.first_bad) if section.key == "bad" else MOST_ROWS
        lines += ["", section.title]
        for line in section.lines:
            lines += textwrap.wrap(line, _WIDTH, initial_indent="  ", subsequent_indent="    ")
        for table in section.tables:
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
