"""Lists of personas: from a file or an experiment, to one column a demographic field.

What a spreadsheet or a data frame leaves in a cell (37.0, NaN) is read as what it means, or refused with the line.
Does not cover: whether the data set has such a value; a model reads "Bachelors" too, if less well.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from socrates.data.convert.guess import COLUMNS
from socrates.data.convert.tables import clean, open_table
from socrates.errors import SocratesError
from socrates.files import finite
from socrates.schema import raise_problems, shown, text_problem

# The demographic fields of SocSci210, in the order of its prompts (as far as they were seen).
FIELDS = (
    *("age", "gender", "education", "income", "employment", "party_id", "ideology", "ethnicity", "location"),
    *("marital_status", "household_size", "housing_ownership", "housing_type", "metro_status", "internet_access"),
    "phone_service",
)
WEIGHT, NARRATIVE = "weight", "narrative"
NO_FIELD = ""  # what a column means that names people, or numbers them
MOST_PEOPLE = 100_000
OLDEST, OLDEST_OF_OPEN, YOUNGEST_OF_OPEN = 120, 90, 13  # "65+" is 65 to 90, "under 18" 13 to 17
_WEIGHTS = (WEIGHT, "weights", "wt", "wgt", "pweight", "survey_weight", "sample_weight", "share", "count")
_PEOPLE = (*COLUMNS["person"], "pid", "prolific_pid", "uuid", "index", "row", "persona", "column 1", "")
_TAKEN = ("condition", "question", "mean", "sd", "answer", "validmass")  # columns of predictions.csv
_NOT_KNOWN = frozenset(("na", "n/a", "#n/a", "<na>", "nan", "null", "none"))
_WHOLE_AS_FLOAT = re.compile(r"(-?[0-9]+)\.0+")  # how a column of whole numbers with gaps is written by pandas
_YEAR = "(0|[1-9][0-9]{0,2})"
_AGES = re.compile(rf"(under |<)?{_YEAR}(?: ?(?:[-–]|to) ?{_YEAR}|( ?\+| (?:and|or) (?:over|older)))?( years( old)?)?")
_SHOWN_AS_TEXT = re.compile(r"^'(?=[=+@\t\r-])")  # as predictions.csv has it (`tables.py`)
_MOST_PROBLEMS = 10  # that are listed; a file of the wrong kind has one a line


def _short(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold().removeprefix("demographic."))


_KNOWN = {_short(name): name for name in (*FIELDS, WEIGHT, NARRATIVE)}
_MEANINGS = {_short(name): field for field in FIELDS for name in COLUMNS.get(field, ())} | _KNOWN
_MEANINGS |= dict.fromkeys(map(_short, _WEIGHTS), WEIGHT) | dict.fromkeys(map(_short, _PEOPLE), NO_FIELD)


def unseen(fields: Iterable[str]) -> list[str]:
    """Those that the data set does not have, so that no model was trained on them."""
    return [field for field in fields if field not in _KNOWN.values()]


def find_meanings(names: Sequence[str], what: str) -> tuple[list[str], list[str]]:
    """`FIELDS`, `WEIGHT`, `NARRATIVE`, `NO_FIELD` or fields of their own that columns or keys mean; every problem."""
    meanings, problems, taken = [], [], {}
    for name in names:
        short = _short(name)
        meaning = _MEANINGS.get(short, " ".join(name.split()))
        key, is_own = (short, True) if short not in _MEANINGS else (meaning, False)
        problem = text_problem(name.strip(), one_line=True)
        if short in _TAKEN:
            problem = "has the name of a column of predictions.csv; choose another one"
        elif what == "key" and meaning in (WEIGHT, NARRATIVE, NO_FIELD):
            problem = 'goes with persons, in a "csv" or in "personas", and not with shares of fields'
        elif is_own and (close := difflib.get_close_matches(short, _KNOWN, n=1, cutoff=0.8)):
            own = shown(f"{meaning} of the person")
            problem = f'is no known field; did you mean "{_KNOWN[close[0]]}"? Call a field of your own {own}, say'
        elif key and taken.setdefault(key, len(meanings)) != len(meanings):
            problem = f"means the same as {shown(names[taken[key]])}; leave one out, or rename it if it means another"
        if problem:
            problems.append(f"the {what} {shown(name)} {problem}")
        meanings.append(meaning)
    return meanings, problems


def read_table(path: Path) -> pd.DataFrame:
    """The cells of any file that `open_table` reads, and raises for; the index has the number of each line, or row."""
    table = open_table(path)
    for note in table.notes:
        print(f"{path}: {note}", flush=True)
    frame = pd.DataFrame(list(table.rows), columns=table.columns, dtype=object)
    for name in (name for name in table.columns if table.known[name].labels or table.known[name].missing):
        frame[name] = [table.known[name].meaning(clean(cell)) for cell in frame[name]]
    numbers = table.lines[table.first_row - 1 :] or range(table.first_row, table.first_row + len(frame))
    return frame.set_axis(pd.Index(numbers, name="line" if table.lines else "row"))


def clean_personas(table: pd.DataFrame, where: object, seed: int = 0) -> pd.DataFrame:
    """Raw columns as those of personas: `WEIGHT` (1 without one), `FIELDS`, fields of their own, `NARRATIVE`.

    The index, which stays, numbers what its name says ("line"). Values are texts, NaN where nothing is known; of a band
    of ages ``seed`` chooses a year. `attrs["left_out"]` has the columns that name people, which are no fields.
    SocratesError: every name, value or weight that is none, and person of whom nothing is known; or nobody is there.
    """
    kind, names = table.index.name or "line", [str(name) for name in table.columns]
    meanings, problems = find_meanings(names, "column")
    if not {*meanings} - {WEIGHT, NO_FIELD}:
        problems.append(f"names no demographic field: {', '.join(FIELDS)}")
    raise_problems(where, [f"line 1: {problem}" if kind == "line" else problem for problem in problems])
    personas, chances = [], np.random.default_rng([seed, len(FIELDS) + 1]).random(len(table))
    for (number, *cells), chance in zip(table.itertuples(name=None), chances, strict=True):
        try:
            personas.append(_read_persona(names, meanings, cells, chance))
        except ValueError as error:
            problems.append(f"{kind} {number}{error}")
    raise_problems(where, problems[:_MOST_PROBLEMS] + ["and more below"] * (len(problems) > _MOST_PROBLEMS))
    if not personas:
        raise SocratesError(f"{where}: lists nobody; below the names of the fields, one line a person is expected")
    order = dict.fromkeys((WEIGHT, *FIELDS, *sorted(meanings, key=NARRATIVE.__eq__)))
    found = pd.DataFrame(personas, table.index, [*order]).dropna(axis=1, how="all")
    found.attrs["left_out"] = [name for name, meaning in zip(names, meanings, strict=True) if meaning == NO_FIELD]
    return found


def read_personas(where: Path | str, people: int | None = None, seed: int = 0, table: Any = None) -> pd.DataFrame:
    """The personas of a file, or of a ``table``, in its order: all, or ``people`` of them, chosen with ``seed``.

    SocratesError: see `read_table` and `clean_personas`; or they are fewer, too many, or all weights are 0.
    """
    personas = clean_personas(read_table(Path(where)) if table is None else table, where, seed)
    if left_out := personas.attrs["left_out"]:
        print(f"{where}: left out, since it names people: {', '.join(map(shown, left_out))}", flush=True)
    if people is not None:
        if people > len(personas):
            raise SocratesError(f"--people {people}: {where} lists {len(personas)}")
        chosen = np.random.default_rng(seed).permutation(len(personas))[:people]
        personas = personas.iloc[sorted(chosen)].dropna(axis=1, how="all")
    if len(personas) > MOST_PEOPLE:
        raise SocratesError(f"{where}: lists {len(personas):,} people; at most {MOST_PEOPLE:,} can be asked")
    if not personas[WEIGHT].any():
        raise SocratesError(f"{where}: all weights are 0, so nobody{' of --people' if people else ''} counts")
    return personas.reset_index(drop=True)


def clean_value(text: str, field: str) -> str:
    """A value without white space around it, and whole numbers without ".0"; ValueError if it is none of that field."""
    text = text.strip().replace("\r\n", "\n")
    if whole := _WHOLE_AS_FLOAT.fullmatch(text):
        text = whole[1]
    if problem := text_problem(text, one_line=field != NARRATIVE):
        raise ValueError(problem)
    if text.lower() in _NOT_KNOWN:
        raise ValueError('is no value; leave it empty where it is not known, or write it out ("no party")')
    if field == "age" and text and not years_of(text):
        wanted = 'an age ("34") or a band of ages ("35-44", "65+", "under 18")'
        raise ValueError(f"must be {wanted}, up to {OLDEST}, not {shown(text)}")
    return text


def years_of(age: str) -> range:
    """The years of an age or a band of ages, none where it is neither: "65+" is 65 to 90, "under 18" is 13 to 17."""
    if not (found := _AGES.fullmatch(" ".join(age.lower().split()))):
        return range(0)
    under, first, last, is_open, *_ = found.groups()
    low, high = int(first), int(last or first)
    if under:
        low, high = (1, 0) if last or is_open else (max(0, min(YOUNGEST_OF_OPEN, low - 1)), low - 1)
    elif is_open:
        high = max(low, OLDEST_OF_OPEN)
    return range(low, high + 1) if high <= OLDEST else range(0)


def _read_persona(names: Sequence[str], meanings: Sequence[str], cells: Sequence[Any], chance: float) -> dict[str, Any]:
    """What is known of a person. ValueError with what is wrong, to be read after the line's number."""
    known: dict[str, Any] = {}
    for name, meaning, cell in zip(names, meanings, cells, strict=True):
        text = "" if pd.isna(cell) is True else _SHOWN_AS_TEXT.sub("", str(cell))
        try:
            if isinstance(cell, bool | list | dict):
                raise ValueError(f"must be a text or a number, not {shown(cell)}")
            if meaning not in (WEIGHT, NO_FIELD) and (value := clean_value(text, meaning)):
                years = years_of(value) if meaning == "age" else ()
                known[meaning] = str(years[int(chance * len(years))]) if years else value
        except ValueError as error:
            raise ValueError(f", {name}: {error}") from error
        if meaning == WEIGHT:
            known[WEIGHT] = finite(float(pd.to_numeric(text, errors="coerce")), 0)
            if known[WEIGHT] is None:
                raise ValueError(f": the {name} must be a number of 0 or more, such as 0.8, not {shown(text)}")
    if not known.keys() - {WEIGHT}:
        raise ValueError(": says nothing of this person")
    return {WEIGHT: 1.0, **known}
