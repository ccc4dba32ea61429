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

from socrates.data.convert.columns import Columns
from socrates.data.convert.questions import as_answer
from socrates.data.convert.rows import looks_like_weights, open_tables
from socrates.data.convert.tables import Known
from socrates.data.scales.missing import CODES, far_answers

_NAMES = """
person: participant participant_id respondent respondent_id subject subject_id person person_id responseid response_id
caseid case_id user_id worker_id prolific_id id;
study_column: study study_id experiment; stimulus: stimulus stimuli vignette scenario;
condition: condition condition_num treatment treat arm cond group experimental_condition;
question: question question_id item item_id task task_num outcome variable; answer: answer response value rating score;
text: question_text item_text text wording; count: count n freq frequency; prediction: prediction predicted;
age: age; gender: gender sex; education: education educ education_level level_of_education;
income: income household_income hhincome faminc; employment: employment employment_status employ;
party_id: party_id party partyid party_identification party_affiliation pid pid3 pid7;
ideology: ideology political_ideology ideo ideo5 ideo7; ethnicity: ethnicity race race_ethnicity;
location: location state region country; marital_status: marital_status marital marstat;
household_size: household_size hhsize
"""
COLUMNS = {key.strip(): names.split() for key, _, names in (one.partition(":") for one in _NAMES.split(";"))}
_LONG = ("question", "answer", "text", "count", "prediction")
_NOT_ASKED = ("status", "progress", "finished", "duration", "duration_in_seconds")
_MOST_OPTIONS, _MOST_CONDITIONS = 12, 96
_json = partial(json.dumps, ensure_ascii=False)


def guess_columns(files: Sequence[Path]) -> dict[str, Any]:
    """A first `columns.json` for tables, of which the first is looked into; SocratesError if it cannot be read."""
    seen, table = open_tables(files)[0].peek()
    left = {_name(name): name for name in reversed(seen)}
    is_long = not left.keys().isdisjoint(COLUMNS["answer"])
    is_long &= not left.keys().isdisjoint([*COLUMNS["question"], *COLUMNS["text"]])
    guessed: dict[str, Any] = {"study": table.path.stem, "demographics": {}}
    for key, names in COLUMNS.items():
        for name in () if key in _LONG and not is_long else filter(left.__contains__, names):
            values = [value for value in seen[left[name]] if value is not None]
            is_one_each = key != "person" or is_long or len(set(values)) == len(values)
            if values and is_one_each and (key != "condition" or len(set(values)) <= _MOST_CONDITIONS):
                (guessed if key in Columns.model_fields else guessed["demographics"])[key] = left.pop(name)
                break
    if "study_column" in guessed:
        del guessed["study"]
    guessed["weight"] = min(looks_like_weights(seen) & {*left.values()}, default=None)
    answers: dict[str, list[Any]] = {}
    if is_long:
        guessed.setdefault("question", guessed.get("text"))
        for question, value in zip(seen[guessed["question"]], seen[guessed["answer"]], strict=True):
            answers.setdefault(str(question), []).append(value)
    else:
        asked = {name for short, name in left.items() if short not in _NOT_ASKED and name != guessed["weight"]}
        answers = {name: seen[name] for name in seen if name in asked}
    questions = {}
    for name, values in answers.items():
        known = table.known[guessed["answer"] if is_long else name]
        if (said := _question(values, known)) is not None:
            questions[name] = said if guessed.get("text") or known.text else {"text": name, **said}
    guessed["questions"] = questions if any(questions.values()) else [] if is_long else list(questions)
    return {key: value for key, value in guessed.items() if value}


def _name(column: str) -> str:
    """A column's name as the lists here have it."""
    return re.sub(r"[^a-z0-9]+", "_", column.rpartition(".")[2].lower()).strip("_")


def _question(values: Sequence[Any], known: Known) -> dict[str, Any] | None:
    """What is to be said of a question, from the answers seen; None for what is none."""
    if known.scale or sum(not isinstance(value, str) for value in known.labels) > 1:
        return {}
    answers = [as_answer(value) for value in values if value is not None]
    if not all(isinstance(answer, int) for answer in answers):
        return None
    far = [answer for answer in far_answers(sorted({*answers})) if CODES.fullmatch(str(answer))]
    scale = sorted({*answers}.difference(far))
    if len(scale) < 2:
        return None
    low, *_, high = scale
    is_wide = high - low >= _MOST_OPTIONS
    if is_wide and not (low >= 0 and 50 < high <= 100):
        return None
    scale = "0 to 100" if is_wide else f"{low} to {high}" if high - low > 1 else f"{low}, {high}"
    return {"scale": scale, **({"missing": sorted(far)} if far else {})}


def columns_text(guessed: Mapping[str, Any]) -> str:
    """A `columns.json` with a key or a question a line."""
    lines = {key: _json(value) for key, value in guessed.items()}
    if isinstance(asked := guessed.get("questions"), dict):
        each = ",\n    ".join(f"{_json(name)}: {_json(asked[name])}" for name in asked)
        lines["questions"] = f"{{\n    {each}\n  }}"
    each = ",\n  ".join(f"{_json(key)}: {text}" for key, text in lines.items())
    return f"{{\n  {each}\n}}\n"
