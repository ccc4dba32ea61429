"""A first `columns.json`, guessed from the names and first rows of a table, for a person to correct.

Covers: who, which condition, demographics and weights by name; questions by labels, or by few whole numbers.
Does not cover: texts that the file does not hold (a column's name stands for it); the order of answers in words.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from socrates.data.convert.columns import Columns
from socrates.data.convert.questions import as_answer
from socrates.data.convert.rows import Conversion, convert_rows, looks_like_weights, open_tables
from socrates.data.convert.tables import Known
from socrates.data.records import render_prompt

_WIDE = {  # key -> names of its column
    "person": "participant participant_id respondent respondent_id subject subject_id person person_id responseid "
    "response_id caseid case_id user_id worker_id prolific_id id",
    "study": "study study_id experiment",
    "condition": "condition condition_num treatment treat arm cond group experimental_condition",
    "stimulus": "stimulus stimuli vignette scenario",
}
_LONG = {
    "question": "question question_id item item_id task task_num outcome variable",
    "answer": "answer response value rating score",
    "text": "question_text item_text text wording",
    "count": "count n freq frequency",
    "prediction": "prediction predicted",
}
_FIELDS = {  # demographic field -> names of its column
    "age": "age",
    "gender": "gender sex",
    "education": "education educ",
    "income": "income household_income hhincome faminc",
    "employment": "employment employment_status employ",
    "party_id": "party_id party partyid pid pid3 pid7",
    "ideology": "ideology ideo ideo5 ideo7",
    "ethnicity": "ethnicity race race_ethnicity",
    "location": "location state region country",
    "marital_status": "marital_status marital marstat",
    "household_size": "household_size hhsize",
}
_EXPORTED = (  # by survey programs, beside what people answered
    *("startdate", "enddate", "status", "progress", "finished", "recorddate", "timestamp"),
    *("duration", "duration_in_seconds"),
)
_MOST_OPTIONS, _MOST_CONDITIONS = 12, 96


def guess_columns(files: Sequence[Path]) -> dict[str, Any]:
    """A first `columns.json` for tables, of which the first is looked into; SocratesError if it cannot be read."""
    table = open_tables(files)[0]
    block = next(table.blocks(), {name: [] for name in table.columns})
    left = {_name(name): name for name in reversed(block)}
    is_long = all(
        set(names.split()) & left.keys() for names in (f"{_LONG['question']} {_LONG['text']}", _LONG["answer"])
    )

    def take(names: str, *, most: int | None = None, unique: bool = False) -> str | None:
        for name in filter(left.__contains__, names.split()):
            values = {value for value in block[left[name]] if value is not None}
            if (
                values
                and (most is None or len(values) <= most)
                and (not unique or len(values) == len(block[left[name]]))
            ):
                return left.pop(name)
        return None

    guessed: dict[str, Any] = {"study": table.path.stem}
    for key, names in (_WIDE | _LONG if is_long else _WIDE).items():
        most = _MOST_CONDITIONS if key == "condition" else None
        if column := take(names, most=most, unique=key == "person" and not is_long):
            guessed[key] = {"column": column} if key == "study" else column
    guessed["demographics"] = {field: column for field, names in _FIELDS.items() if (column := take(names))}
    guessed["weight"] = min(looks_like_weights(block) & {*left.values()}, default=None)
    answers: Mapping[str, list[Any]] = {name: block[name] for name in block if name in left.values()}
    if is_long:
        guessed.setdefault("question", guessed.get("text"))
        answers = defaultdict(list)
        for question, value in zip(block[guessed["question"]], block[guessed["answer"]], strict=True):
            answers[str(question)].append(value)
    asked = {}
    for name, values in answers.items():
        said = table.known.get(guessed["answer"] if is_long else name, Known())
        is_answered = is_long or (name != guessed["weight"] and _name(name) not in _EXPORTED)
        if is_answered and (scale := _scale(values, said)) is not None:
            has_text = "text" in guessed or (said.text and not is_long)
            asked[name] = {**({} if has_text else {"text": name}), **({"scale": scale} if scale else {})}
    guessed["questions"] = asked if any(asked.values()) else [] if is_long else list(asked)
    return {key: value for key, value in guessed.items() if value}


def _name(column: str) -> str:
    """A column's name as the lists here have it."""
    return re.sub(r"[^a-z0-9]+", "_", column.rpartition(".")[2].lower()).strip("_")


def _scale(values: Sequence[Any], said: Known) -> str | None:
    """The scale of a question, from the answers seen; "" where the file says it; None for what is none."""
    if said.scale or sum(not isinstance(value, str) for value in said.labels) > 1:
        return ""
    numbers = {as_answer(value) for value in values if value is not None}
    if len(numbers) < 2 or not all(isinstance(number, int) for number in numbers):
        return None
    low, high = min(numbers), max(numbers)
    if high - low < _MOST_OPTIONS:
        return f"{low} to {high}" if high - low > 1 else f"{low}, {high}"
    return "0 to 100" if low >= 0 and 50 < high <= 100 else None


def columns_text(guessed: Mapping[str, Any]) -> str:
    """A `columns.json` with a question a line."""
    asked = guessed.get("questions")
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in guessed.items()]
    if isinstance(asked, dict):
        each = [
            f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(asked[name], ensure_ascii=False)}" for name in asked
        ]
        lines[-1] = '"questions": {\n    ' + ",\n    ".join(each) + "\n  }"
    return "{\n  " + ",\n  ".join(lines) + "\n}\n"


def preview(files: Sequence[Path], columns: Columns, rows: int = 3) -> list[str]:
    """The first rows as a model would read them, each with its answer; SocratesError if none can be made."""
    found = Conversion()
    made = list(islice(convert_rows(files, columns, found), rows))
    if not made:
        found.refuse(0)
    return [
        f"{render_prompt(row['demographic'], row['stimuli'])}\n→ {row.get('response', row.get('counts'))}"
        for row in made
    ]
