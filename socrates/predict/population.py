"""Who is asked: personas from the margins of a population, or from a CSV file.

Covers: a field's shares or counts become whole numbers of personas by largest remainder, so that every margin is exact;
who gets which value is shuffled with the seed, each field on its own. A CSV file has a persona a line; what a
spreadsheet or a data frame leaves in it (37.0, NaN) is read as what it means, or refused with the line.
Does not cover: how fields go together in margins (where that matters, party and ideology, say, take a CSV of personas),
and whether the data set has such a value; a model reads "Bachelors" too, if less well.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field, create_model, model_validator

from socrates.errors import SocratesError
from socrates.files import finite, read_text
from socrates.schema import Schema, Text, nearest, raise_problems, shown, text_problem

# The demographic fields of SocSci210, in the order of its prompts (as far as they were seen).
FIELDS = (
    *("age", "gender", "education", "income", "employment", "party_id", "ideology", "ethnicity", "location"),
    *("marital_status", "household_size", "housing_ownership", "housing_type", "metro_status", "internet_access"),
    "phone_service",
)
MOST_PEOPLE = 100_000
_ROUNDED = 0.001  # what shares that were rounded (0.333 three times) may lack of 1
OLDEST = 120
_NOT_KNOWN = frozenset(("na", "n/a", "#n/a", "<na>", "nan", "null", "none"))
_WHOLE_AS_FLOAT = re.compile(r"(-?[0-9]+)\.0+")  # how a column of whole numbers with gaps is written by pandas
_AGES = re.compile(r"(0|[1-9][0-9]{0,2})(?:\s*[-–]\s*(0|[1-9][0-9]{0,2}))?")
_SHOWN_AS_TEXT = re.compile(r"^'(?=[=+@\t\r-])")  # as predictions.csv has it (`tables.py`)
WEIGHT = "weight"
_MOST_PROBLEMS = 10  # that are listed; a file of the wrong kind has one a line


def _check_shares(numbers: dict[str, float], field: str) -> dict[str, float]:
    """The shares or counts of a field's values, which are cleaned. ValueError with the first problem."""
    found: dict[str, float] = {}
    taken: dict[int, str] = {}
    for name, number in numbers.items():
        try:
            value = _clean(name, field, ranges=True)
        except ValueError as error:
            raise ValueError(f"{shown(name)} {error}") from error
        if not value:
            raise ValueError("names an empty value; leave the field out where it is not known")
        if value in found:
            raise ValueError(f"{shown(value)} stands there twice")
        years = _years(value) if field == "age" else ()
        if (twice := next((year for year in years if year in taken), None)) is not None:
            raise ValueError(f"{shown(value)}: the age {twice} is in {shown(taken[twice])} already")
        taken |= dict.fromkeys(years, value)
        found[value] = number
    if not sum(found.values()):
        raise ValueError("all are 0")
    return found


class _People(Schema):
    """A population as a person describes it; `Population` has the demographic fields, too."""

    size: int | None = Field(None, ge=1, le=MOST_PEOPLE)
    csv: Text | None = None

    @property
    def margins(self) -> dict[str, dict[str, float]]:
        """Shares or counts of the fields that are named, in the order of `FIELDS`."""
        return {name: numbers for name in FIELDS if (numbers := getattr(self, name)) is not None}

    @model_validator(mode="after")
    def _add_up(self) -> _People:
        if self.csv is None:
            self.count()
        elif other := self.model_fields_set - {"csv"}:
            raise ValueError(f'"{min(other)}" does not go with "csv": the file says who is asked')
        return self

    def count(self) -> int:
        """How many people the margins are of: "size", or what the counts sum to.

        A field's numbers are shares where they sum to 1 (within 0.001), else counts: whole, and of as many people as
        "size" says, or as the other fields count.
        """
        if not self.margins:
            raise ValueError(f"is empty: name shares or counts of a demographic field ({', '.join(FIELDS)})")
        size = self.size
        for name, numbers in self.margins.items():
            total = math.fsum(numbers.values())
            said = f'"{name}" sums to {total:.6g}'
            if abs(total - 1) <= _ROUNDED * (1 + 1e-9):
                continue
            if not all(number.is_integer() for number in numbers.values()):
                counts = "whole counts" if size is None else f"whole counts that sum to {size}"
                raise ValueError(f"{said}: must be shares that sum to 1, or {counts}")
            if size is not None and total != size:
                raise ValueError(
                    f"{said}, but the population has {size} people; write shares that sum to 1, or mend the counts"
                )
            if total > MOST_PEOPLE:
                raise ValueError(f"{said}; at most {MOST_PEOPLE:,} people can be asked")
            size = int(total)
        if size is None:
            raise ValueError('"size" is missing: how many people are to be asked')
        return size

    def personas(self, folder: Path, seed: int, people: int | None = None) -> pd.DataFrame:
        """Who is asked: `WEIGHT`, and the demographic fields of which something is known, a row a person.

        Args:
            folder: of the description, from which a CSV file is named.
            seed: of who has which values together, or is chosen.
            people: how many, instead of the number that the margins or the CSV file say.

        Raises:
            SocratesError: a CSV file that cannot be used, or that lists fewer.
        """
        if self.csv is not None:
            return read_personas(folder / self.csv, people, seed)
        size = people or self.count()
        columns: dict[str, Any] = {WEIGHT: np.ones(size)}
        for name, numbers in self.margins.items():
            order = np.random.default_rng([seed, FIELDS.index(name)]).permutation(size)
            columns[name] = np.array(_column(name, numbers, size), object)[order]
        return pd.DataFrame(columns)


def _field(name: str) -> Any:
    number = Annotated[float, Field(ge=0, le=1e12, description="a share or a count")]
    check = AfterValidator(lambda numbers: _check_shares(numbers, name))
    expected = 'shares or counts, such as {"Male": 0.49, "Female": 0.51}'
    return Annotated[dict[str, number], check] | None, Field(None, min_length=1, description=expected)


Population = create_model("Population", __base__=_People, **{name: _field(name) for name in FIELDS})


def read_personas(path: Path, people: int | None = None, seed: int = 0) -> pd.DataFrame:
    """The personas of a CSV file, in its order: all, or ``people`` of them, chosen at random with ``seed``.

    Raises:
        SocratesError: no such file, nobody in it or fewer than ``people``, a column that is no demographic field, a
            line of another length, a line of which nothing is known, a value that is none, a weight that is no number
            of 0 or more, or nobody with a weight above 0.
    """
    text = read_text(path, "CSV file of personas")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    personas, problems = [], []
    try:
        header = [name.strip() for name in next(reader, [])]
        raise_problems(path, _header_problems(header))
        for values in reader:
            try:
                if any(value.strip() for value in values):
                    values = [_SHOWN_AS_TEXT.sub("", value) for value in values]
                    personas.append(_read_persona(header, values))
            except ValueError as error:
                problems.append(f"line {reader.line_num}{error}")
    except csv.Error as error:
        raise SocratesError(f"{path}, line {reader.line_num}: not CSV: {error}") from error
    if len(problems) > _MOST_PROBLEMS:
        problems[_MOST_PROBLEMS:] = ["and more below"]
    raise_problems(path, problems)
    if not personas:
        raise SocratesError(f"{path}: lists nobody; below the names of the fields, one line a person is expected")
    if people is not None and people > len(personas):
        raise SocratesError(f"--people {people}: {path} lists {len(personas)}")
    if people is not None:
        chosen = np.random.default_rng(seed).permutation(len(personas))[:people]
        personas = [personas[index] for index in sorted(chosen)]
    if len(personas) > MOST_PEOPLE:
        raise SocratesError(f"{path}: lists {len(personas):,} people; at most {MOST_PEOPLE:,} can be asked")
    found = pd.DataFrame(personas, columns=[WEIGHT, *FIELDS]).dropna(axis=1, how="all")
    if not found[WEIGHT].any():
        raise SocratesError(f"{path}: all weights are 0, so nobody{' of --people' if people else ''} counts")
    return found


def quotas(numbers: Sequence[float], size: int) -> list[int]:
    """``size`` in whole parts in proportion to ``numbers``, by largest remainder; of equal ones the first."""
    total = math.fsum(numbers)
    exact = [size * number / total for number in numbers]
    parts = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(parts)), key=lambda index: (round(parts[index] - exact[index], 9), index))
    for index in by_remainder[: size - sum(parts)]:
        parts[index] += 1
    return parts


def _column(name: str, numbers: Mapping[str, float], size: int) -> list[str]:
    """The values of one field, sorted; a range of ages as single years, evenly spread, as prompts have them."""
    column: list[str] = []
    for value, count in zip(numbers, quotas(list(numbers.values()), size), strict=True):
        years = _years(value) if name == "age" else ()
        spread = [str(years[(2 * index + 1) * len(years) // (2 * count)]) for index in range(count if years else 0)]
        column += spread or [value] * count
    return column


def _clean(text: str, field: str, *, ranges: bool = False) -> str:
    """A value without white space around it, and whole numbers without ".0"; a range of ages only with ``ranges``.

    Raises:
        ValueError: it is no value of that field.
    """
    text = text.strip()
    if whole := _WHOLE_AS_FLOAT.fullmatch(text):
        text = whole[1]
    if problem := text_problem(text, one_line=True):
        raise ValueError(problem)
    if text.lower() in _NOT_KNOWN:
        raise ValueError("is no value; leave it empty where it is not known")
    if field == "age" and text and not (_years(text) if ranges else len(_years(text)) == 1 and text.isdigit()):
        wanted = ' or a range of ages with both ends ("65-90")' if ranges else ", whole years of one person"
        raise ValueError(f'must be an age ("34"){wanted}, up to {OLDEST}, not {shown(text)}')
    return text


def _years(age: str) -> range:
    """The years that an age or a range of ages holds; none where it is neither."""
    low, high = found.group(1, 2) if (found := _AGES.fullmatch(age)) else (1, 0)
    years = range(int(low), int(low if high is None else high) + 1)
    return years if years and years[-1] <= OLDEST else range(0)


def _header_problems(header: list[str]) -> list[str]:
    problems = []
    if not set(header) & set(FIELDS):
        said = "names no demographic field" if header else "is empty; the first line must name demographic fields"
        problems.append(f"line 1: {said}: {', '.join(FIELDS)}")
    for name in dict.fromkeys(header):
        if name not in (*FIELDS, WEIGHT):
            problems.append(f"line 1: the column {shown(name)} is no demographic field{nearest(name, FIELDS)}")
        elif header.count(name) > 1:
            problems.append(f"line 1: the column {shown(name)} stands there twice")
    return problems


def _read_persona(header: list[str], values: list[str]) -> dict[str, Any]:
    """What is known of the person of a line. ValueError with what is wrong, to be read after the line's number."""
    if len(values) != len(header):
        raise ValueError(f": has {len(values)} values, and line 1 names {len(header)} columns")
    line = dict(zip(header, values, strict=True))
    known = {}
    for name in (name for name in FIELDS if name in line):
        try:
            if value := _clean(line[name], name):
                known[name] = value
        except ValueError as error:
            raise ValueError(f", {name}: {error}") from error
    weight = line.get(WEIGHT, "1")
    try:
        number = finite(float(weight), 0)
    except ValueError:
        number = None
    if number is None:
        raise ValueError(f": the weight must be a number of 0 or more, not {shown(weight)}")
    if not known:
        raise ValueError(": says nothing of this person")
    return {WEIGHT: number, **known}
