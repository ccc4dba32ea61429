"""Who is asked: personas from the margins of a population, or from a list (`personas.py`).

A field's shares or counts become whole numbers of personas by largest remainder, so that every margin is exact; who
gets which value is shuffled with the seed, each field on its own: how fields go together, only a list can say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import ConfigDict, Field, model_validator

from socrates.predict.personas import FIELDS, MOST_PEOPLE, WEIGHT, clean_value, find_meanings, read_personas, years_of
from socrates.schema import Schema, Text, shown

_ROUNDED = 0.001  # what shares that were rounded (0.333 three times) may lack of 1
_KEYS = {"size": "size", "csv": "csv", "file": "csv", "personas": "personas"}
_Number = Annotated[float, Field(ge=0, le=1e12, description="a share or a count")]


def _check_shares(field: str, numbers: Mapping[str, float]) -> dict[str, float]:
    """The shares or counts of a field's values, which are cleaned. ValueError with the first problem."""
    found: dict[str, float] = {}
    taken: dict[int, str] = {}
    for name, number in numbers.items():
        try:
            if not (value := clean_value(name, field)):
                raise ValueError("names an empty value; leave the field out where it is not known")
            if value in found:
                raise ValueError("stands there twice")
        except ValueError as error:
            raise ValueError(f'"{field}": {shown(name.strip())} {error}') from error
        for year in years_of(value) if field == "age" else ():
            if taken.setdefault(year, value) != value:
                raise ValueError(f'"age": {shown(value)}: the age {year} is in {shown(taken[year])} already')
        found[value] = number
    if not any(found.values()):
        raise ValueError(f'"{field}": all are 0')
    return found


class Population(Schema):
    """A population as a person describes it: a list, or shares or counts of any demographic fields."""

    model_config = ConfigDict(extra="allow", serialize_by_alias=True)
    __pydantic_extra__: dict[str, dict[str, _Number]]

    size: int | None = Field(None, ge=1, le=MOST_PEOPLE)
    csv: Text | None = None  # any file that `read_table` reads
    listed: list[dict[str, Any]] | None = Field(None, alias="personas", description="a list of objects, one a person")

    @property
    def margins(self) -> dict[str, dict[str, float]]:
        """Shares or counts of the fields that are named: those of `FIELDS` in its order, then others as they stand."""
        own = self.__pydantic_extra__ or {}
        return {name: _check_shares(name, own[name]) for name in dict.fromkeys((*FIELDS, *own)) if name in own}

    @model_validator(mode="before")
    @classmethod
    def _by_meaning(cls, given: Any) -> Any:
        """Fields by their names in the data set."""
        if not isinstance(given, dict):
            return given
        named = [key for key in given if key not in _KEYS]
        meanings, problems = find_meanings(named, "key")
        wanted = 'must be shares or counts, such as {"Male": 0.49, "Female": 0.51}'
        problems += [
            f"{shown(key)} {wanted}, not {shown(given[key])}" for key in named if not isinstance(given[key], dict)
        ]
        if "csv" in given and "file" in given:
            problems.append('"file" and "csv" mean the same; leave one out')
        if problems:
            raise ValueError("; ".join(problems))
        meant = _KEYS | dict(zip(named, meanings, strict=True))
        return {meant[key]: value for key, value in given.items()}

    @model_validator(mode="after")
    def _add_up(self) -> Population:
        said = self.model_dump(exclude_none=True)
        source = next((name for name in ("csv", "personas") if name in said), None)
        if source is None:
            self.count()
        elif other := min(said.keys() - {source}, default=None):
            raise ValueError(f'"{other}" does not go with "{source}", which says who is asked; leave one out')
        return self

    def count(self) -> int:
        """How many people the margins are of: "size", or what the counts sum to; shares sum to 1 (within 0.001)."""
        if not (margins := self.margins):
            raise ValueError(f"is empty: name shares or counts of a demographic field ({', '.join(FIELDS)})")
        size = self.size
        for name, numbers in margins.items():
            total = math.fsum(numbers.values())
            said = f'"{name}" sums to {total:.6g}'
            if abs(total - 1) <= _ROUNDED * (1 + 1e-9):
                continue
            if not all(number.is_integer() for number in numbers.values()):
                counts = "whole counts" if size is None else f"whole counts that sum to {size}"
                raise ValueError(f"{said}: must be shares that sum to 1, or {counts}")
            if total != (size or total):
                remedy = "write shares that sum to 1, or mend the counts"
                raise ValueError(f"{said}, but the population has {size} people; {remedy}")
            if total > MOST_PEOPLE:
                raise ValueError(f"{said}; at most {MOST_PEOPLE:,} people can be asked")
            size = int(total)
        if size is None:
            raise ValueError('"size" is missing: how many people are to be asked')
        return size

    def personas(self, folder: Path, seed: int, people: int | None = None) -> pd.DataFrame:
        """Who is asked, as `read_personas` has them: a file is named from ``folder``, that of the description.

        ``seed``: of who has which values together, or is chosen, and of years in bands of ages; ``people``: how many,
        instead of the number that the margins or the list say. SocratesError: a list that cannot be used.
        """
        if self.csv is not None:
            return read_personas(folder / self.csv, people, seed)
        if self.listed is not None:
            table = pd.DataFrame(self.listed, range(1, len(self.listed) + 1), dtype=object).rename_axis("person")
            return read_personas('"population.personas"', people, seed, table)
        size = people or self.count()
        columns: dict[str, Any] = {WEIGHT: np.ones(size)}
        for place, (name, numbers) in enumerate(self.margins.items(), len(FIELDS) + 2):  # those before it are taken
            stream = FIELDS.index(name) if name in FIELDS else place
            order = np.random.default_rng([seed, stream]).permutation(size)
            columns[name] = np.array(_column(name, numbers, size), object)[order]
        return pd.DataFrame(columns)


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
        years = years_of(value) if name == "age" else ()
        spread = [str(years[(2 * index + 1) * len(years) // (2 * count)]) for index in range(count if years else 0)]
        column += spread or [value] * count
    return column
