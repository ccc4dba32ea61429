"""A first `columns.json`, guessed from the names and first rows of a table, for a person to correct.

Covers: who, which condition, demographics and weights by name; questions by labels, or by few whole numbers.
Does not cover: texts that the file does not hold (a column's name stands for it); the order of answers in words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from socrates.data.convert.questions import as_answer
from socrates.data.convert.rows import looks_like_weights, open_tables
from socrates.data.convert.tables import Known, clean
from socrates.data.scales.missing import CODES, far_answers

_WIDE = {  # key -> names of its column
    "person": "participant participant_id respondent respondent_id subject subject_id person person_id responseid "
    "response_id caseid case_id user_id worker_id prolific_id id",
    "study_column": "study study_id experiment",
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
_NOT_ASKED = ("status", "progress", "finished", "duration", "duration_in_seconds")
_MOST_OPTIONS, _MOST_CONDITIONS = 12, 96
_json = partial(json.dumps, ensure_ascii=False)


def guess_columns(files: Sequence[Path]) -> dict[str, Any]:
    """A first `columns.json` for tables, of which the first is looked into; SocratesError if it cannot be read."""
    table = open_tables(files)[0]
    first = next(table.blocks, dict.fromkeys(table.columns, ()))
    block = {name: [clean(value) for value in values] for name, values in first.items()}
    left = {_name(name): name for name in reversed(block)}
    is_long = all(left.keys() & names.split() for names in (f"{_LONG['question']} {_LONG['text']}", _LONG["answer"]))

    def take(key: str, names: str) -> str | None:
        for name in filter(left.__contains__, names.split()):
            values = [value for value in block[left[name]] if value is not None]
            distinct = len(set(values))
            is_usable = {
                "person": is_long or distinct == len(block[left[name]]),
                "condition": distinct <= _MOST_CONDITIONS,
            }
            if values and is_usable.get(key, True):
                return left.pop(name)
        return None

    guessed: dict[str, Any] = {key: take(key, names) for key, names in (_WIDE | _LONG if is_long else _WIDE).items()}
    guessed["study"] = None if guessed["study_column"] else table.path.stem
    guessed["demographics"] = {field: column for field, names in _FIELDS.items() if (column := take(field, names))}
    guessed["weight"] = min(looks_like_weights(block) & {*left.values()}, default=None)
    answers: dict[str, list[Any]] = {}
    if is_long:
        guessed["question"] = guessed["question"] or guessed["text"]
        for question, value in zip(block[guessed["question"]], block[guessed["answer"]], strict=True):
            answers.setdefault(str(question), []).append(value)
    else:
        asked = [name for name in block if left.get(_name(name)) == name and _name(name) not in _NOT_ASKED]
        answers = {name: block[name] for name in asked if name != guessed["weight"]}
    questions = {}
    for name, values in answers.items():
        known = table.known[guessed["answer"] if is_long else name]
        if (said := _question(values, known)) is not None:
            has_text = guessed["text"] if is_long else known.text
            questions[name] = said if has_text else {"text": name, **said}
    guessed["questions"] = questions if any(questions.values()) else [] if is_long else list(questions)
    return {key: value for key, value in guessed.items() if value}


def _name(column: str) -> str:
    """A column's name as the lists here have it."""
    return re.sub(r"[^a-z0-9]+", "_", column.rpartition(".")[2].lower()).strip("_")


def _question(values: Sequence[Any], known: Known) -> dict[str, Any] | None:
    """What is to be said of a question, from the answers seen; None for what is none."""
    if known.scale or sum(not isinstance(value, str) for value in known.labels) > 1:
        return {}
    numbers = sorted({number for value in values if value is not None and isinstance(number := as_answer(value), int)})
    missing = [number for number in far_answers(numbers) if CODES.fullmatch(str(number))]
    numbers = [number for number in numbers if number not in missing]
    if len(numbers) < 2 or any(not isinstance(as_answer(value), int | None) for value in values):
        return None
    low, high = numbers[0], numbers[-1]
    if high - low >= _MOST_OPTIONS and not (low >= 0 and 50 < high <= 100):
        return None
    scale = "0 to 100" if high - low >= _MOST_OPTIONS else f"{low} to {high}" if high - low > 1 else f"{low}, {high}"
    return {"scale": scale, **({"missing": missing} if missing else {})}


def columns_text(guessed: Mapping[str, Any]) -> str:
    """A `columns.json` with a key or a question a line."""
    lines = {key: _json(value) for key, value in guessed.items()}
    if isinstance(asked := guessed.get("questions"), dict):
        each = ",\n    ".join(f"{_json(name)}: {_json(asked[name])}" for name in asked)
        lines["questions"] = f"{{\n    {each}\n  }}"
    each = ",\n  ".join(f"{_json(key)}: {text}" for key, text in lines.items())
    return f"{{\n  {each}\n}}\n"
