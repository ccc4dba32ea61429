"""Who is asked: personas from the margins of a population.

Covers: a field's shares or counts become whole numbers of personas by largest remainder, so that every margin is
exact; who gets which value is shuffled with the seed, each field on its own.
Does not cover: how fields go together. Where that matters (party and ideology, say), a CSV of personas says it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from socrates.prediction.known_values import clean_value, value_problem, years_of
from socrates.prediction.problems import Problems, shown

# The demographic fields of SocSci210, in the order of its prompts (as far as they were seen).
FIELDS = (
    "age",
    "gender",
    "education",
    "income",
    "employment",
    "party_id",
    "ideology",
    "ethnicity",
    "location",
    "marital_status",
    "household_size",
    "housing_ownership",
    "housing_type",
    "metro_status",
    "internet_access",
    "phone_service",
)
MOST_PEOPLE = 100_000
_ROUNDED = 0.001  # what shares that were rounded (0.333 three times) may lack of 1


@dataclass(frozen=True)
class Persona:
    """One person who is asked.

    Attributes:
        demographic: what is known, field -> value, in the order of `FIELDS`.
        weight: how much this person counts.
    """

    demographic: Mapping[str, str]
    weight: float = 1.0


@dataclass(frozen=True)
class Margins:
    """A population as the distribution of each field.

    Attributes:
        size: how many personas are made of it.
        fields: field -> value -> share or count.
    """

    size: int
    fields: Mapping[str, Mapping[str, float]]

    def draw(self, seed: int, size: int | None = None) -> list[Persona]:
        """So many personas (default: ``self.size``) whose margins are these, but for rounding."""
        size = self.size if size is None else size
        columns = {}
        for place, name in enumerate(FIELDS):
            if name in self.fields:
                column = _column(name, self.fields[name], size)
                order = np.random.default_rng([seed, place]).permutation(size)
                columns[name] = [column[index] for index in order]
        return [Persona(dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def read_margins(value: Mapping[str, Any], prefix: str, problems: Problems) -> Margins | None:
    """The margins in a checked file, or None after a problem.

    A field's numbers are shares where they sum to 1 (within 0.001), else counts: whole, and of as many people as
    "size" says, or as the other fields count.
    """
    before = len(problems)
    problems.check_keys(value, ("size", "csv", *FIELDS), prefix)
    size = value.get("size")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MOST_PEOPLE):
        problems.add(f"{prefix}size", f"must be a whole number from 1 to {MOST_PEOPLE:,}, not {shown(size)}")
        return None
    fields: dict[str, dict[str, float]] = {}
    for name in (name for name in FIELDS if name in value):
        if numbers := _read_numbers(value[name], f"{prefix}{name}", problems):
            fields[name] = numbers
        total = math.fsum(numbers.values()) if numbers else 1.0
        if not _is_one(total):
            size = _read_counts(numbers, total, size, f"{prefix}{name}", problems)
    if not any(name in value for name in FIELDS):
        problems.add(
            prefix.rstrip("."), f"is empty: name shares or counts of a demographic field ({', '.join(FIELDS)})"
        )
    elif size is None:
        problems.add(f"{prefix}size", "missing: how many people are to be asked")
    return Margins(size, fields) if len(problems) == before and size is not None else None


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
        years = years_of(value) if name == "age" else None
        if years is None:
            column += [value] * count
        else:
            column += [str(years[(2 * index + 1) * len(years) // (2 * count)]) for index in range(count)]
    return column


def _read_numbers(value: Any, key: str, problems: Problems) -> dict[str, float]:
    """Value -> share or count; empty after a problem."""
    expected = 'shares or counts, such as {"Male": 0.49, "Female": 0.51}'
    numbers = problems.read_object(value, key, expected)
    before = len(problems)
    found: dict[str, float] = {}
    field = key.rpartition(".")[2]
    for name, number in (numbers or {}).items():
        value = clean_value(name)
        if not value:
            problems.add(key, "names an empty value; leave the field out where it is not known")
        elif problem := value_problem(field, value, ranges=True):
            problems.add(f"{key}.{name}", problem)
        elif value in found:
            problems.add(f"{key}.{name}", f"{shown(value)} stands there twice")
        elif isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 1e12:
            problems.add(f"{key}.{name}", f"must be a share or a count, not {shown(number)}")
        else:
            found[value] = float(number)
    if field == "age":
        _check_ages(found, key, problems)
    if numbers and len(problems) == before and not sum(found.values()):
        problems.add(key, "all are 0")
    return found if len(problems) == before else {}


def _check_ages(ages: Iterable[str], key: str, problems: Problems) -> None:
    """A year in two ranges: people of 25 would be counted among those of 18-29 and of 20-40."""
    taken: dict[int, str] = {}
    for age in ages:
        years = years_of(age) or ()
        if (twice := next((year for year in years if year in taken), None)) is not None:
            problems.add(f"{key}.{age}", f"the age {twice} is in {shown(taken[twice])} already")
        taken |= dict.fromkeys(years, age)


def _read_counts(
    numbers: Mapping[str, float], total: float, size: int | None, key: str, problems: Problems
) -> int | None:
    """The size of the population, ``size`` or what is counted here."""
    said = f"sum to {total:.6g}"
    if not all(number.is_integer() for number in numbers.values()):
        counts = "whole counts" if size is None else f"whole counts that sum to {size}"
        problems.add(key, f"must be shares that sum to 1, or {counts}; these {said}")
    elif size is not None and total != size:
        problems.add(
            key, f"counts {said}, but the population has {size} people; write shares that sum to 1, or mend the counts"
        )
    elif total > MOST_PEOPLE:
        problems.add(key, f"counts {said}; at most {MOST_PEOPLE:,} people can be asked")
    return int(total) if size is None else size


def _is_one(total: float) -> bool:
    return abs(total - 1) <= _ROUNDED * (1 + 1e-9)
