"""Rows of the published layout, with words of their own, from tables of other people.

Covers: long and wide tables, labels as answers, published counts; what cannot be used is named by file and row.
Does not cover: repeated answers of a person, and texts that state another scale: `scripts/inspect_data.py` tells.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from socrates.console import progress
from socrates.data.convert.columns import Columns, read_columns
from socrates.data.convert.questions import Asked, as_answer, ask
from socrates.data.convert.tables import Known, Table, clean, open_table
from socrates.data.records import BadRow
from socrates.data.scales.wording import stimuli_text
from socrates.errors import SocratesError, escaped
from socrates.files import is_same_file, write_jsonl
from socrates.schema import nearest, raise_problems, shown

_LISTED = 20
_REMEMBERED = 8192  # questions; texts may differ from row to row
_WEIGHT = re.compile(r"(?:^|[_. ]|p|survey)(?:wt|wgt|wght|weight)s?(?:$|[_. \d])", re.I)


@dataclass
class Conversion:
    """What a conversion has found."""

    rows: int = 0  # that it made
    people: int = 0  # rows of tables that name no person
    has_numbers: bool | None = None  # whether conditions are whole numbers; None: none was seen
    conditions: dict[str, int] = field(default_factory=dict)  # numbers of those that are texts
    counted: dict[str, dict[str, Any]] = field(default_factory=dict)  # rows of counts, by all else that they say
    empty: int = 0  # answers that were not given, or whose weight is 0
    off_scale: dict[int | str, set[float]] = field(default_factory=lambda: defaultdict(set))
    words: dict[int | str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))  # that are no numbers
    tasks: set[str] = field(default_factory=set)  # those of columns.json that were asked
    bad: int = 0  # rows of a table, or answers, that cannot be used
    first_bad: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # on how files were read

    def lines(self) -> list[str]:
        """All of it, for the user."""
        off_scale = [f"{task}: {', '.join(map(str, sorted(seen)))}" for task, seen in self.off_scale.items()]
        told = {
            "Conditions": ", ".join(f"{number} = {name}" for name, number in self.conditions.items()),
            "Empty answers, or of weight 0, left out": self.empty,
            'Answers outside their scale (are they codes for "missing"?)': "; ".join(off_scale[:_LISTED]),
            "Rows or answers that cannot be used, left out": self.bad,
        }
        return [*map(escaped, (*self.notes, *(f"{what}: {found}" for what, found in told.items() if found)))]

    def leave_out(self, why: str) -> None:
        """Count what cannot be used."""
        self.bad += 1
        if self.bad <= _LISTED:
            self.first_bad.append(why)

    def refuse(self, max_bad_rows: int) -> None:
        """SocratesError, which names the first, where more cannot be used than are allowed."""
        if self.bad <= max_bad_rows:
            return
        more = [f"… and {self.bad - _LISTED:,} more"] if self.bad > _LISTED else []
        remedy = "mend them, or leave them out: convert_data.py --max-bad-rows N"
        words = [
            f"question {shown(task)} is answered in words, whose order is not known; write its scale into columns.json "
            f'as {{"1": {shown(next(iter(texts)))}, …}}, of {", ".join(map(shown, texts))}'
            for task, texts in self.words.items()
            if len(texts) > 1
        ]
        counted = f"{self.bad} cannot be used, {max_bad_rows} allowed; {remedy}"
        raise SocratesError("\n  ".join([*self.first_bad, *more, counted, *words, *self.notes]))


def convert_to(files: Sequence[Path], columns: Columns, output: Path, max_bad_rows: int = 0) -> Conversion:
    """Write the rows of tables as JSONL, all or nothing; the .qsf of a Qualtrics survey may be among the files.

    SocratesError: a table cannot be read or lacks a column, or more than allowed cannot be used.
    """
    if any(is_same_file(file, output) for file in files):
        raise SocratesError(f"--output {output}: is a file to convert; choose another name")
    found = Conversion()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what is half written is removed

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
    needed = [*dict.fromkeys(name for _, name in columns.named())]
    for opened in open_tables(files, columns):
        seen, table = opened.peek()
        found.notes += [f"{table.path}: {note}" for note in table.notes]
        for name in sorted(looks_like_weights(seen) - {columns.weight, *columns.questions}):
            found.notes.append(f'{table.path}: "{name}" looks like a survey weight; is it "weight"?')
        reader, places = _Reader(columns, table.known, found), [table.columns.index(name) for name in needed]
        for number, values in enumerate(table.rows, table.first_row):
            row = {name: clean(values[place]) for name, place in zip(needed, places, strict=True)}
            yield from reader.read(f"{table.path}, row {number}", {**row, None: None})
    if unasked := columns.questions.keys() - found.tasks:
        found.notes.append(f"questions of columns.json that no row answers: {', '.join(sorted(unasked))}")
    given = [row for row in found.counted.values() if row["counts"].total()]
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


def looks_like_weights(seen: Mapping[str, Sequence[Any]]) -> set[str]:
    """The columns that have the name of a survey weight, and numbers around 1, not all of them whole."""
    found = set()
    for name in filter(_WEIGHT.search, seen):
        numbers = [number for value in seen[name] if (number := as_answer(value)) is not None]
        if numbers and min(numbers) >= 0 and 0.2 < sum(numbers) / len(numbers) < 5 and any(n % 1 for n in numbers):
            found.add(name)
    return found


@dataclass
class _Reader:
    """Reads the rows of one table."""

    columns: Columns
    known: Mapping[str, Known]
    found: Conversion

    def __post_init__(self) -> None:
        self.ask = lru_cache(_REMEMBERED)(self._ask)

    def read(self, where: str, row: Mapping[str | None, Any]) -> Iterator[dict[str, Any]]:
        """The rows of the published layout that a row gives; under None, for a column that is not named, is None."""
        columns = self.columns
        try:
            person = self._person(row)
        except BadRow as error:
            self.found.leave_out(f"{where}: {error}")
            return
        for task in columns.questions if columns.question is None else [_name(row[columns.question])]:
            column = columns.answer or task
            try:
                if (made := self._row(row, task, column, person)) is not None:
                    yield made
            except BadRow as error:
                self.found.leave_out(f"{where}: {shown(column)}: {error}")

    def _person(self, row: Mapping[str | None, Any]) -> dict[str, Any]:
        """What a row says of each of its answers; under "stimuli", what was read."""
        columns, found = self.columns, self.found
        if (study := columns.study or row[columns.study_column]) is None:
            raise BadRow(f"{shown(columns.study_column)}: is empty; expected the name of a study")
        weight = as_answer(row[columns.weight])
        if columns.weight and (weight is None or weight < 0):
            raise BadRow(f"{shown(columns.weight)}: must be a number above 0, not {shown(row[columns.weight])}")
        condition, read = self._condition(row)
        found.people += 1
        known = {name: self.known[column].meaning(row[column]) for name, column in columns.demographics.items()}
        return {
            "study_id": str(study),
            "condition_num": condition,
            "participant": found.people if columns.answer is columns.person is None else _name(row[columns.person]),
            "demographic": {name: value for name, value in known.items() if value is not None},
            "weight": weight,
            "stimuli": read and str(read),
        }

    def _condition(self, row: Mapping[str | None, Any]) -> tuple[int, Any]:
        """The number of a row's condition, and what people read in it."""
        column, texts, found = self.columns.condition, self.columns.conditions, self.found
        read = row[self.columns.stimulus]
        if column is None:
            return 0, read
        value = row[column]
        if (meaning := self.known[column].meaning(value)) is None:
            raise BadRow(f"{shown(column)}: is empty; expected a condition")
        is_number = isinstance(value, int)
        if found.has_numbers is None:
            found.has_numbers = is_number
            found.conditions = {} if is_number else {name: number for number, name in enumerate(sorted(texts))}
        if found.has_numbers != is_number:
            raise BadRow(f"{shown(column)}: has numbers and texts, such as {shown(value)}; name conditions by one kind")
        name = str(value)
        if texts:
            if (name := next((name for name in (name, str(meaning)) if name in texts), None)) is None:
                raise BadRow(f'{shown(column)}: "conditions" has no {shown(str(value))}{nearest(str(value), texts)}')
            read = texts[name]
        return int(value) if is_number else found.conditions.setdefault(name, len(found.conditions)), read

    def _ask(self, task: Any, column: str, text: str | None) -> Asked:
        """The question of an answer, from the column that holds it; of a long table its name may have a label."""
        if task is None:
            raise BadRow(f"{shown(self.columns.question)} is empty; expected the name of a question")
        known = self.known[column]
        if self.columns.answer is not None:
            known = known._replace(text=self.known[self.columns.question].labels.get(task))
        self.found.tasks.add(str(task))
        return ask(task, self.columns, known, text)

    def _row(self, row: Mapping[str | None, Any], task: Any, column: str, person: dict[str, Any]) -> Any:
        """The row of an answer; None where none was given, or where it is counted."""
        columns, found, text = self.columns, self.found, row[self.columns.text]
        asked = self.ask(task, column, text and str(text))
        try:
            answer = asked.answer(row[column])
        except BadRow:
            if not asked.answers and as_answer(row[column]) is None and len(found.words[task]) < _LISTED:
                found.words[task][row[column]] = None
            raise
        if answer is None or person["weight"] == 0:
            found.empty += 1
            return None
        is_valid = not asked.scale or answer in asked.scale or answer in asked.missing
        if not is_valid and len(found.off_scale[task]) < _LISTED:
            found.off_scale[task].add(answer)
        made = {**person, "task_num": task, "stimuli": stimuli_text(person["stimuli"], asked.text, asked.instruction)}
        made = {name: value for name, value in made.items() if value is not None} | asked.own
        if columns.count is None:
            found.rows += 1
            predicted = {"prediction": asked.answer(row[columns.prediction])} if columns.prediction else {}
            return {**made, "response": answer, **predicted}
        if not isinstance(people := row[columns.count], int) or people < 0:
            raise BadRow(f"{shown(columns.count)} must be a number of people, not {shown(people)}")
        found.counted.setdefault(json.dumps(made), {**made, "counts": Counter()})["counts"][str(answer)] += people
        return None


def _name(value: Any) -> int | str | None:
    """What names a person or a question, as rows of the published layout have it."""
    return str(value) if isinstance(value, bool | float) else value
