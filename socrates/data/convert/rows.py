"""Rows of the published layout, with words of their own, from tables of other people.

Covers: long and wide tables, labels as answers, published counts; every answer that cannot be used is named.
Does not cover: whether an answer is on its scale: such ones are written, counted and told.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from socrates.console import progress
from socrates.data.convert.columns import Columns
from socrates.data.convert.questions import Asked, as_answer, ask
from socrates.data.convert.tables import Block, Known, Table, open_table
from socrates.data.records import BadRow
from socrates.data.scales.missing import says_missing
from socrates.data.scales.wording import stimuli_text
from socrates.errors import SocratesError
from socrates.files import is_same_file, write_jsonl
from socrates.schema import nearest, raise_problems, shown

_LISTED = 20
_WEIGHT = re.compile(r"(?:^|[_. ]|p|survey)(?:wt|wgt|wght|weight)s?(?:$|[_. \d])", re.I)


@dataclass
class Conversion:
    """What a conversion has found.

    Attributes:
        rows: that it made.
        numbered: whether conditions are whole numbers; None: none was seen.
        conditions: number of each value of a condition that is a text.
        empty: answers that were not given.
        outside: answers outside their scale, by question and answer.
        words: by question without labels, the texts that stand where numbers should.
        bad: rows or answers that cannot be used; the first are named.
        notes: on how files are read.
    """

    rows: int = 0
    numbered: bool | None = None
    conditions: dict[str, int] = field(default_factory=dict)
    empty: int = 0
    outside: Counter[tuple[int | str, float]] = field(default_factory=Counter)
    words: defaultdict[int | str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))
    bad: int = 0
    first_bad: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """All of it, for the user."""
        numbered = [f"{number} = {name}" for name, number in self.conditions.items()]
        outside = [f"{answer} of {shown(task)} ({times}×)" for (task, answer), times in self.outside.most_common(10)]
        counts = {
            "empty answers, or of weight 0, left out": self.empty,
            "rows or answers that cannot be used, left out": self.bad,
        }
        return [
            *self.notes,
            *([f"Conditions: {', '.join(numbered)}"] if numbered else []),
            *(f"{what[0].upper()}{what[1:]}: {number:,}" for what, number in counts.items() if number),
            *([f"Answers outside their scale: {', '.join(outside)}; are some missing ones?"] if outside else []),
        ]

    def refuse(self, max_bad_rows: int) -> None:
        """SocratesError, which names the first, where more cannot be used than are allowed."""
        if self.bad <= max_bad_rows:
            return
        words = [
            f"question {shown(task)}: answers are words, whose order is not known; write its scale into columns.json, "
            f'as {{"1": {shown(next(iter(texts)))}, …}}, of {", ".join(map(shown, list(texts)[:_LISTED]))}'
            for task, texts in self.words.items()
        ]
        more = [f"… and {self.bad - _LISTED:,} more"] if self.bad > _LISTED else []
        remedy = (
            f"{self.bad} cannot be used, {max_bad_rows} allowed: put it right, or leave it out with --max-bad-rows N"
        )
        raise SocratesError("\n  ".join([*self.first_bad, *more, remedy, *words]))


def convert_to(files: Sequence[Path], columns: Columns, output: Path, max_bad_rows: int = 0) -> Conversion:
    """Write the rows of tables as JSONL, all or nothing; the .qsf of a Qualtrics survey may be among the files.

    Raises:
        SocratesError: a table cannot be read or lacks a column, or more rows than allowed cannot be used.
    """
    if any(is_same_file(file, output) for file in files):
        raise SocratesError(f"--output {output}: is a file to convert; choose another name")
    found = Conversion()

    def rows() -> Iterator[dict[str, Any]]:
        yield from progress(convert_rows(files, columns, found), "converting")
        found.refuse(max_bad_rows)
        if not found.rows:
            raise SocratesError(f"{files[0]}: holds no answer; {found.empty:,} are empty")

    write_jsonl(output, rows())
    return found


def convert_rows(files: Sequence[Path], columns: Columns, found: Conversion) -> Iterator[dict[str, Any]]:
    """The rows of tables, one by one; what is left out is told in ``found``."""
    people, counted = count(1), {}
    for table in open_tables(files, columns):
        found.notes += [f"{table.path}: {note}" for note in table.notes]
        reader, first = _Reader(columns, table, found, people, counted), table.first_row
        for block in table.blocks():
            if first == table.first_row:
                unused = block.keys() - {columns.weight, *columns.questions}
                found.notes += [
                    f'{table.path}: the column "{name}" looks like a survey weight; if it is one, name it: "weight"'
                    for name in sorted(unused)
                    if looks_like_weight(name, block[name])
                ]
            yield from reader.read(first, block)
            first += len(next(iter(block.values())))
    found.rows += len(counted)
    yield from counted.values()


def open_tables(files: Sequence[Path], columns: Columns | None = None) -> list[Table]:
    """The tables among files, each with all columns that are named; SocratesError with those that it lacks."""
    surveys = [file for file in files if file.suffix.lower() == ".qsf"]
    options = {"encoding": columns.encoding, "sheet": columns.sheet} if columns else {}
    tables = [open_table(file, qsf=(surveys or [None])[0], **options) for file in files if file not in surveys]
    if not tables:
        raise SocratesError("name a table to convert beside the .qsf of its survey")
    for table in tables if columns else ():
        lacking = ((key, name) for key, name in columns.named() if name not in table.columns)
        raise_problems(
            table.path,
            [f"{shown(key)}: no column {shown(name)}{nearest(name, table.columns)}" for key, name in lacking],
        )
    return tables


def looks_like_weight(name: str, values: Sequence[Any]) -> bool:
    """Whether a column has the name of a survey weight, and positive numbers around 1, not all of them whole."""
    numbers = [number for value in values if (number := as_answer(value)) is not None]
    return bool(
        _WEIGHT.search(name)
        and numbers
        and min(numbers) >= 0
        and 0.2 < sum(numbers) / len(numbers) < 5
        and any(number != int(number) for number in numbers)
    )


@dataclass
class _Reader:
    """Reads one table."""

    columns: Columns
    table: Table
    found: Conversion
    people: Iterator[int]  # numbers of those that the table does not name
    counted: dict[str, dict[str, Any]]  # rows of published counts, by all else that they say
    asked: dict[Any, Asked] = field(default_factory=dict)

    def read(self, first: int, block: Block) -> Iterator[dict[str, Any]]:
        """The rows that a block gives, whose own first one has the number ``first``."""
        needed = [*dict.fromkeys(name for _, name in self.columns.named())]
        for number, values in enumerate(zip(*(block[name] for name in needed), strict=True), first):
            row = dict(zip(needed, values, strict=True))
            try:
                person = self._person(row)
            except BadRow as error:
                self._leave_out(number, error)
                continue
            for task, column in self._answered(row):
                try:
                    made = self._row(row, task, column, person)
                except BadRow as error:
                    self._leave_out(number, BadRow(f"{shown(column)}: {error}"))
                else:
                    yield from made

    def _leave_out(self, number: int, error: BadRow) -> None:
        self.found.bad += 1
        if self.found.bad <= _LISTED:
            self.found.first_bad.append(f"{self.table.path}, row {number}: {error}")

    def _answered(self, row: Mapping[str, Any]) -> list[tuple[Any, str]]:
        """The questions that a row answers, and the columns that hold the answers."""
        columns = self.columns
        if columns.answer is None:
            return [(name, name) for name in columns.questions]
        return [(row[columns.question] if columns.question else next(iter(columns.questions)), columns.answer)]

    def _person(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What a row says of each of its answers, with what was read under "stimuli"."""
        columns = self.columns
        if (study := columns.study.text or row[columns.study.column]) is None:
            raise BadRow(f"{shown(columns.study.column)}: is empty; expected the name of a study")
        condition, read = self._condition(row)
        person = row[columns.person] if columns.person else next(self.people) if columns.answer is None else None
        known = ((name, self._meaning(column, row[column])) for name, column in columns.demographics.items())
        weight = as_answer(row[columns.weight]) if columns.weight else 1
        if weight is None or not 0 <= weight < math.inf:
            raise BadRow(f"{shown(columns.weight)}: must be a number above 0, not {shown(row[columns.weight])}")
        return {
            "study_id": str(study),
            "condition_num": condition,
            "participant": person,
            "demographic": {name: value for name, value in known if value is not None},
            "stimuli": read,
            "weight": weight if columns.weight else None,
        }

    def _meaning(self, column: str, value: Any) -> Any:
        """The label of a value, where it has one; None for one that says that nothing is known."""
        label = self.table.known.get(column, Known()).labels.get(value)
        return value if label is None else None if says_missing(label) else label

    def _condition(self, row: Mapping[str, Any]) -> tuple[int, str | None]:
        """The number of a row's condition, and what people read in it."""
        column, texts, found = self.columns.condition, self.columns.conditions, self.found
        read = row[self.columns.stimulus] if self.columns.stimulus else None
        if column is None:
            return 0, read and str(read)
        if (value := row[column]) is None:
            raise BadRow(f"{shown(column)}: is empty; expected a condition")
        is_number = isinstance(value, int)
        if found.numbered is None:
            found.numbered = is_number
            found.conditions = {} if is_number else {name: number for number, name in enumerate(sorted(texts))}
        if found.numbered != is_number:
            raise BadRow(
                f"{shown(column)}: numbers and texts name conditions there, such as {shown(value)}; use one kind"
            )
        number = value if is_number else found.conditions.setdefault(str(value), len(found.conditions))
        if not texts:
            return number, read and str(read)
        name = next((name for name in (value, self._meaning(column, value)) if str(name) in texts), None)
        if name is None:
            raise BadRow(f'{shown(column)}: "conditions" has no {shown(str(value))}{nearest(str(value), texts)}')
        return number, texts[str(name)]

    def _row(self, row: Mapping[str, Any], task: Any, column: str, person: dict[str, Any]) -> list[dict[str, Any]]:
        """The row of an answer; none where none was given, or where it is counted."""
        columns, found = self.columns, self.found
        if task is None:
            raise BadRow(f"{shown(columns.question)}: is empty; expected the name of a question")
        text = row[columns.text] if columns.text else None
        if (asked := self.asked.get((task, text))) is None:
            asked = ask(task, columns, self._known(task, column), text and str(text))
            self.asked[task, text] = asked
        try:
            answer = asked.answer(row[column])
        except BadRow:
            if not asked.answers and isinstance(row[column], str) and len(found.words[task]) < _LISTED:
                found.words[task][row[column]] = None
            raise
        if answer is None or person["weight"] == 0:
            found.empty += 1
            return []
        if asked.scale and answer not in asked.scale and answer not in asked.missing:
            found.outside[task, answer] += 1
        made = {**person, "task_num": task, "stimuli": stimuli_text(person["stimuli"], asked.text, asked.instruction)}
        made = {name: value for name, value in made.items() if value is not None} | asked.own
        if columns.count is None:
            made["response"] = answer
            if columns.prediction:
                made["prediction"] = asked.answer(row[columns.prediction])
            found.rows += 1
            return [made]
        people = row[columns.count]
        if not isinstance(people, int) or people < 0:
            raise BadRow(f"{shown(columns.count)}: must be a number of people, not {shown(people)}")
        counts = self.counted.setdefault(json.dumps(made), {**made, "counts": Counter()})["counts"]
        counts[str(answer)] += people
        return []

    def _known(self, task: int | str, column: str) -> Known:
        """What the file says of a question: of a wide table its column, of a long one the label of its name."""
        known = self.table.known.get(column, Known())
        if self.columns.answer is None:
            return known
        return replace(known, text=self.table.known.get(self.columns.question, Known()).labels.get(task))
