"""Who is asked: personas that a CSV file lists, a line each.

Covers: columns that are demographic fields of SocSci210, and `weight`; an empty value is not known, and one that is
none is refused, since it would go into the prompt as it is. What is wrong is told with its line.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from socrates.errors import SocratesError
from socrates.files import read_text
from socrates.prediction.known_values import clean_value, value_problem
from socrates.prediction.population import FIELDS, MOST_PEOPLE, Persona
from socrates.prediction.problems import Problems, nearest, shown

WEIGHT = "weight"
_MOST_PROBLEMS = 10  # that are listed; a file of the wrong kind has one a line


def read_personas(path: Path) -> list[Persona]:
    """The personas of a CSV file, in its order.

    Raises:
        SocratesError: no such file, nobody in it, a column that is no demographic field, a line of another length, a
            line of which nothing is known, a value that is none, a weight that is no number of 0 or more, or all
            weights 0.
    """
    text = read_text(path, "CSV file of personas").removeprefix("\ufeff")
    problems = Problems(path)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if not header:
            raise SocratesError(f"{path}: is empty; the first line must name demographic fields: {', '.join(FIELDS)}")
        _check_header(header, problems)
        problems.raise_any()
        personas = list(_read_lines(reader, header, problems))
    except csv.Error as error:
        raise SocratesError(f"{path}, line {reader.line_num}: not CSV: {error}") from error
    problems.raise_any()
    if not personas:
        raise SocratesError(f"{path}: lists nobody; below the names of the fields, one line a person is expected")
    if len(personas) > MOST_PEOPLE:
        raise SocratesError(
            f"{path}: lists {len(personas):,} people; at most {MOST_PEOPLE:,} can be asked (draw a sample of them)"
        )
    if not any(persona.weight for persona in personas):
        raise SocratesError(f"{path}: all weights are 0, so nobody counts")
    return personas


def draw_some(personas: list[Persona], people: int, seed: int, path: Path) -> list[Persona]:
    """So many of the listed personas, each at most once, chosen at random and kept in their order.

    Raises:
        SocratesError: more than are listed, or those that were chosen all have weight 0.
    """
    if people > len(personas):
        raise SocratesError(f"--people {people}: {path} lists {len(personas)}")
    chosen = sorted(np.random.default_rng(seed).permutation(len(personas))[:people].tolist())
    found = [personas[index] for index in chosen]
    if not any(persona.weight for persona in found):
        raise SocratesError(f"--people {people}: all that were chosen of {path} have weight 0; take more")
    return found


def _check_header(header: list[str], problems: Problems) -> None:
    for name in dict.fromkeys(header):
        if name not in (*FIELDS, WEIGHT):
            problems.add("", f"line 1: the column {shown(name)} is no demographic field{nearest(name, FIELDS)}")
        elif header.count(name) > 1:
            problems.add("", f"line 1: the column {shown(name)} stands there twice")
    if not set(header) & set(FIELDS):
        problems.add("", "line 1: names no demographic field")


def _read_lines(reader: Iterator[list[str]], header: list[str], problems: Problems) -> Iterator[Persona]:
    for values in reader:
        where = f"line {reader.line_num}"
        if not any(value.strip() for value in values):
            continue
        if len(problems) >= _MOST_PROBLEMS:
            problems.add("", "and perhaps more below")
            return
        if len(values) != len(header):
            problems.add("", f"{where}: has {len(values)} values, and line 1 names {len(header)} columns")
            continue
        line = {name: clean_value(value) for name, value in zip(header, values, strict=True)}
        demographic = {name: line[name] for name in FIELDS if line.get(name)}
        weight = _weight(line.get(WEIGHT, "1"))
        wrong = [
            (name, found) for name, value in demographic.items() if (found := value_problem(name, value, ranges=False))
        ]
        for name, problem in wrong:
            problems.add("", f"{where}, {name}: {problem}")
        if wrong:
            continue
        if weight is None:
            problems.add("", f"{where}: the weight must be a number of 0 or more, not {shown(line[WEIGHT])}")
        elif not demographic:
            problems.add("", f"{where}: says nothing of this person")
        else:
            yield Persona(demographic, weight)


def _weight(text: str) -> float | None:
    try:
        weight = float(text)
    except ValueError:
        return None
    return weight if math.isfinite(weight) and weight >= 0 else None
