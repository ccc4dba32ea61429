"""Studies with the structure of the published ones: how many cells, how many people in each, what they answered.

Read from real rows at run time. Answers stand on at most 21 points between the ends of a scale; those
outside the scale count as its nearest end.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import frame  # noqa: F401
import numpy as np
from numpy.typing import NDArray

from socrates.data.records import Cell, read_answers
from socrates.data.scales import Scale
from socrates.data.scales.text import parse_scale

Array = NDArray[np.float64]

POINTS = 21
# A question's answers count with UNIFORM more, spread over its scale; a cell's with SHARED more, as the question's.
UNIFORM, SHARED = 2.0, 10.0


@dataclass(frozen=True)
class Question:
    """One outcome question and its cells.

    Attributes:
        points: shape (V,): the answers' places on the scale, ascending from 0 to 1.
        probabilities: shape (cells, V): how probable each answer is among a cell's people.
        people: shape (cells,).
    """

    points: Array
    probabilities: Array
    people: Array


Study = list[Question]


@dataclass(frozen=True)
class Cells:
    """The cells of a set of studies, sorted by study; P = POINTS - 1, and what a short scale leaves over has width 0.

    Attributes:
        study: shape (C,): 0 to S - 1.
        people: shape (C,): human answers of each.
        human: shape (C, P): share of the human answers at or below each point but the last.
        population: shape (C, P): the same of the people that these were drawn from.
        width: shape (C, P): from each point to the next, in units of the range of the cell's human answers; 0 outside
            of it, where clipping makes predictions equal.
        mean, sd: shape (C,): of the population, in units of the scale.
        points: shape (C, P): place of each point, in units of the scale.
    """

    study: NDArray[np.int64]
    people: NDArray[np.int64]
    human: Array
    population: Array
    width: Array
    mean: Array
    sd: Array
    points: Array

    def sizes(self) -> dict[Cell, int]:
        """People of each cell, as `selection.choose_rows` takes them; `condition_num` is the index."""
        return {
            Cell(f"{study:04d}", index, 0): int(people)
            for index, (study, people) in enumerate(zip(self.study, self.people, strict=True))
        }

    def mean_of_means(self, values: Array) -> Array:
        """Mean over the cells of a study, then over studies, of values of shape (C,) or (C, K)."""
        sizes = np.bincount(self.study)
        return np.tensordot(1 / (len(sizes) * sizes[self.study]), values, axes=1)


def read_studies(files: Sequence[Path], share: float) -> list[Study]:
    """The studies of data files that hold about a share of the rows of each cell."""
    scales: dict[tuple[str, int | str], Scale | None] = {}
    counts: defaultdict[tuple[str, int | str], defaultdict[int, Counter[int]]] = defaultdict(
        lambda: defaultdict(Counter)
    )
    for path in files:
        for answer in read_answers(path):
            key = (answer.cell.study_id, answer.cell.task_num)
            if key not in scales:
                scales[key] = parse_scale(answer.stimuli)
            counts[key][answer.cell.condition_num][answer.response] += 1
    studies: defaultdict[str, Study] = defaultdict(list)
    for key in sorted(counts, key=str):
        observed = {value for counter in counts[key].values() for value in counter}
        scale = scales[key]
        values = np.array(scale.values if scale else sorted(observed), dtype=np.float64)
        if len(values) > 1:
            studies[key[0]].append(_smoothed(values, list(counts[key].values()), share))
    return list(studies.values())


def _smoothed(values: Array, counters: Sequence[Counter[int]], share: float) -> Question:
    """A question from its values and, for each condition, the sample's answers."""
    points = (values - values[0]) / (values[-1] - values[0])
    if len(points) > POINTS:
        points = np.linspace(0, 1, POINTS)
    table = np.zeros((len(counters), len(points)))
    for row, counter in zip(table, counters, strict=True):
        for value, count in counter.items():
            place = (value - values[0]) / (values[-1] - values[0])
            row[np.abs(points - place).argmin()] += count
    rows = table.sum(axis=1, keepdims=True)
    question = (table.sum(axis=0) + UNIFORM / len(points)) / (rows.sum() + UNIFORM)
    return Question(points, (table + SHARED * question) / (rows + SHARED), rows[:, 0] / share)


def draw_cells(studies: Sequence[Study], number: int, rows: int, rng: np.random.Generator) -> Cells:
    """Draw studies with replacement, bring their people to a total, and let them answer.

    Args:
        studies: to draw from.
        number: of studies.
        rows: people of all cells together, about.
        rng: of the studies and of the answers.
    """
    picked = [studies[index] for index in rng.integers(len(studies), size=number)]
    scale = rows / sum(question.people.sum() for study in picked for question in study)
    columns: defaultdict[str, list[Array]] = defaultdict(list)
    for index, study in enumerate(picked):
        for question in study:
            people = np.maximum(2, np.rint(question.people * scale)).astype(np.int64)
            counts = rng.multinomial(people, question.probabilities)
            keep = (counts > 0).sum(axis=1) > 1  # the metric skips the others
            for name, value in _columns(question.points, question.probabilities[keep], counts[keep]).items():
                columns[name].append(value)
            columns["study"].append(np.full(keep.sum(), index))
    merged = {name: np.concatenate(parts) for name, parts in columns.items()}
    merged["study"] = np.unique(merged["study"], return_inverse=True)[1]
    return Cells(**merged)


def _columns(points: Array, probabilities: Array, counts: NDArray[np.int64]) -> dict[str, Array]:
    """What `Cells` holds of one question's cells."""
    people = counts.sum(axis=1)
    low, high = (counts > 0).argmax(axis=1), len(points) - 1 - (counts > 0)[:, ::-1].argmax(axis=1)
    steps = np.arange(len(points) - 1)
    inside = (steps >= low[:, None]) & (steps < high[:, None])
    width = np.where(inside, np.diff(points) / (points[high] - points[low])[:, None], 0.0)
    mean = probabilities @ points
    return {
        "people": people,
        "human": _padded(np.cumsum(counts, axis=1)[:, :-1] / people[:, None], 1.0),
        "population": _padded(np.cumsum(probabilities, axis=1)[:, :-1], 1.0),
        "width": _padded(width, 0.0),
        "mean": mean,
        "sd": np.sqrt(np.maximum(0, probabilities @ points**2 - mean**2)),
        "points": _padded(np.broadcast_to(points[:-1], width.shape), 1.0),
    }


def _padded(values: Array, value: float) -> Array:
    return np.pad(values, ((0, 0), (0, POINTS - 1 - values.shape[1])), constant_values=value)
