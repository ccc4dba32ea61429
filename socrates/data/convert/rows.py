"""Rows of the published layout, with words of their own, from tables of other people.

Covers: long and wide tables, labels as answers, published counts; what cannot be used is named by file and row.
Does not cover: whether an answer is on its scale, which `scripts/inspect_data.py` tells.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from socrates.console import progress
from socrates.data.convert.columns import Columns, read_columns
from socrates.data.convert.questions import Asked, as_answer, ask
from socrates.data.convert.tables import Block, Known, Table, open_table
from socrates.data.records import BadRow
from socrates.data.scales.missing import says_missing
from socrates.data.scales.wording import stimuli_text
from socrates.errors import SocratesError
from socrates.files import is_same_file, write_jsonl
from socrates.schema import nearest, raise_problems, shown

_LISTED = 20
_REMEMBERED = 8192  # questions; texts may differ from row to row
_NOTHING = Known()
_WEIGHT = re.compile(r"(?:^|[_. ]|p|survey)(?:wt|wgt|wght|weight)s?(?:$|[_. \d])", re.I)


@dataclass
class Conversion:
    """What a conversion has found."""

    rows: int = 0  # that it made
    has_numbers: bool | None = None  # whether conditions are whole numbers; None: none was seen
    conditions: dict[str, int] = field(default_factory=dict)  # numbers of those that are texts
    empty: int = 0  # answers that were not given, or whose weight is 0
    words: defaultdict[int | str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))  # for numbers
    bad: int = 0  # rows of a table, or answers, that cannot be used
    first_bad: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # on how files were read

    def lines(self) -> list[str]:
        """All of it, for the user."""
        told = {
            "Conditions": ", ".join(f"{number} = {name}" for name, number in self.conditions.items()),
            "Empty answers, or of weight 0, left out": self.empty,
            "Rows or answers that cannot be used, left out": self.bad,
        }
        return [*self.notes, *(f"{what}: {found}" for what, found in told.items() if found)]

    def refuse(self, max_bad_rows: int) -> None:
        """SocratesError, which names the first, where more cannot be used than are allowed."""
        if self.bad <= max_bad_rows:
            return
        more = [f"… and {self.bad - _LISTED:,} more"] if self.bad > _LISTED else []
        remedy = f"{self.bad} cannot be used, {max_bad_rows} allowed; mend them, or leave them out: --max-bad-rows N"
        words = [
            f"question {shown(task)} is answered in words, whose order is not known; write its scale into columns.json "
            f'as {{"1": {shown(next(iter(texts)))}, …}}, of {", ".join(map(shown, texts))}'
            for task, texts in self.words.items()
            if len(texts) > 1
        ]
        raise SocratesError("\n  ".join([*self.first_bad, *more, remedy, *words]))


def convert_to(files: Sequence[Path], columns: Columns, output: Path, max_bad_rows: int = 0) -> Conversion:
    """Write the rows of tables as JSONL, all or nothing; the .qsf of a Qualtrics survey may be among the files.

    Raises:
        SocratesError: a table cannot be read or lacks a column, or more than allowed cannot be used.
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


@contextmanager
def converted(file: Path, columns: Path | None) -> Iterator[Path]:
    """A file of rows: the one that is given or, with a `columns.json`, one that is made of it for a while."""
    if columns is None:
        yield file
        return
    with TemporaryDirectory() as folder:
        rows = Path(folder) / f"{file.name}.jsonl"
        for line in convert_to([file], read_columns(columns), rows).lines():
            print(line, file=sys.stderr, flush=True)
        yield rows


def convert_rows(files: Sequence[Path], columns: Columns, found: Conversion) -> Iterator[dict[str, Any]]:
    """The rows of tables, one by one; what is left out is told in ``found``."""
    people, counted = count(1), {}
    for table in open_tables(files, columns):
        found.notes += [f"{table.path}: {note}" for note in table.notes]
        reader, first = _Reader(columns, table, found, people, counted), table.first_row
        for block in table.blocks():
            if first == table.first_row:
                weights = sorted(looks_like_weights(block) - {columns.weight, *columns.questions})
                found.notes += [
                    f'{table.path}: "{name}" looks like a survey weight; is it "weight"?' for name in weights
                ]
            yield from reader.read(first, block)
            first += len(next(iter(block.values())))
    given = [row for row in counted.values() if row["counts"].total()]
    found.rows += len(given)
    yield from given


def open_tables(files: Sequence[Path], columns: Columns | None = None) -> list[Table]:
    """The tables among files, each with all columns that are named; SocratesError with those that it lacks."""
    surveys = [file for file in files if file.suffix.lower() == ".qsf"]
    encoding = columns and columns.encoding
    tables = [open_table(file, encoding, (surveys or [None])[0]) for file in files if file not in surveys]
    if not tables:
        raise SocratesError(f"{surveys[0]}: is a survey without answers; name its export beside it")
    for table in tables if columns else ():
        lacking = [(key, name) for key, name in columns.named() if name not in table.columns]
        told = [f"{shown(key)}: no column {shown(name)}{nearest(name, table.columns)}" for key, name in lacking]
        raise_problems(table.path, told)
    return tables


def looks_like_weights(block: Block) -> set[str]:
    """The columns that have the name of a survey weight, and numbers around 1, not all of them whole."""
    found = set()
    for name in filter(_WEIGHT.search, block):
        numbers = [number for value in block[name] if (number := as_answer(value)) is not None]
        if numbers and min(numbers) >= 0 and 0.2 < sum(numbers) / len(numbers) < 5 and any(n % 1 for n in numbers):
            found.add(name)
    return found


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
        columns = self.columns
        needed = [*dict.fromkeys(name for _, name in columns.named())]
        for number, values in enumerate(zip(*(block[name] for name in needed), strict=True), first):
            row = {None: None, **dict(zip(needed, values, strict=True))}  # None: a column that is not named
            tasks = columns.questions if columns.question is None else [row[columns.question]]
            try:
                person = self._person(row)
            except BadRow as error:
                self._leave_out(number, str(error))
                continue
            for task in tasks:
                column = task if columns.answer is None else columns.answer
                try:
                    made = self._row(row, task, column, person)
                except BadRow as error:
                    self._leave_out(number, f"{shown(column)}: {error}")
                else:
                    yield from made

    def _leave_out(self, number: int, why: str) -> None:
        self.found.bad += 1
        if self.found.bad <= _LISTED:
            self.found.first_bad.append(f"{self.table.path}, row {number}: {why}")

    def _person(self, row: Mapping[str | None, Any]) -> dict[str, Any]:
        """What a row says of each of its answers; under "stimuli", what was read."""
        columns = self.columns
        if (study := columns.study or row[columns.study_column]) is None:
            raise BadRow(f"{shown(columns.study_column)}: is empty; expected the name of a study")
        condition, read = self._condition(row)
        weight = as_answer(row[columns.weight]) if columns.weight else 1
        if weight is None or not 0 <= weight < math.inf:
            raise BadRow(f"{shown(columns.weight)}: must be a number above 0, not {shown(row[columns.weight])}")
        known = {name: self._meaning(column, row[column]) for name, column in columns.demographics.items()}
        return {
            "study_id": str(study),
            "condition_num": condition,
            "participant": next(self.people) if columns.answer is columns.person is None else row[columns.person],
            "demographic": {name: value for name, value in known.items() if value is not None},
            "weight": weight if columns.weight else None,
            "stimuli": read and str(read),
        }

    def _condition(self, row: Mapping[str | None, Any]) -> tuple[int, Any]:
        """The number of a row's condition, and what people read in it."""
        column, texts, found = self.columns.condition, self.columns.conditions, self.found
        if column is None:
            return 0, row[self.columns.stimulus]
        if (value := row[column]) is None:
            raise BadRow(f"{shown(column)}: is empty; expected a condition")
        is_number = isinstance(value, int)
        if found.has_numbers is None:
            found.has_numbers = is_number
            found.conditions = {} if is_number else {name: number for number, name in enumerate(sorted(texts))}
        if found.has_numbers != is_number:
            raise BadRow(f"{shown(column)}: has numbers and texts, such as {shown(value)}; name conditions by one kind")
        name, read = str(value), row[self.columns.stimulus]
        if texts:
            name = next((name for name in (name, str(self._meaning(column, value))) if name in texts), None)
            if name is None:
                raise BadRow(f'{shown(column)}: "conditions" has no {shown(str(value))}{nearest(str(value), texts)}')
            read = texts[name]
        return value if is_number else found.conditions.setdefault(name, len(found.conditions)), read

    def _known(self, column: str | None) -> Known:
        return self.table.known.get(column, _NOTHING)

    def _meaning(self, column: str, value: Any) -> Any:
        """The label of a value, where it has one; None for one that says that nothing is known."""
        label = self._known(column).labels.get(value)
        return value if label is None else None if says_missing(label) else label

    def _ask(self, task: Any, column: str, text: str | None) -> Asked:
        """The question of an answer, from the column that holds it; of a long table its name may have a label."""
        if (asked := self.asked.get((task, text))) is None:
            if task is None:
                raise BadRow(f"{shown(self.columns.question)} is empty; expected the name of a question")
            known = self._known(column)
            if self.columns.answer is not None:
                known = known._replace(text=self._known(self.columns.question).labels.get(task))
            if len(self.asked) >= _REMEMBERED:
                self.asked.clear()
            asked = self.asked[task, text] = ask(task, self.columns, known, text)
        return asked

    def _row(
        self, row: Mapping[str | None, Any], task: Any, column: str, person: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """The row of an answer; none where none was given, or where it is counted."""
        columns, found, text = self.columns, self.found, row[self.columns.text]
        asked = self._ask(task, column, text and str(text))
        try:
            answer = asked.answer(row[column])
        except BadRow:
            if not asked.answers and isinstance(row[column], str) and len(found.words[task]) < _LISTED:
                found.words[task][row[column]] = None
            raise
        if answer is None or person["weight"] == 0:
            found.empty += 1
            return []
        made = {**person, "task_num": task, "stimuli": stimuli_text(person["stimuli"], asked.text, asked.instruction)}
        made = {name: value for name, value in made.items() if value is not None} | asked.own
        if columns.count is not None:
            if not isinstance(people := row[columns.count], int) or people < 0:
                raise BadRow(f"{shown(columns.count)} must be a number of people, not {shown(people)}")
            self.counted.setdefault(json.dumps(made), {**made, "counts": Counter()})["counts"][str(answer)] += people
            return []
        found.rows += 1
        predicted = {"prediction": asked.answer(row[columns.prediction])} if columns.prediction else {}
        return [{**made, "response": answer, **predicted}]
