"""One cell's scores: how far predicted answers are from human ones, in one condition of one question of one study.

Every human answer of the cell counts, whether the model was asked about that person or not; missing answers ("99 for
'Refused'") never come here. Answers are standardised by the smallest and the largest human answer, z = (answer - min) /
(max - min); predictions are clipped to [0, 1] (arXiv 2509.05830), those beyond the scale counted.

The distance is what asking all people of the cell would give (`full_size.py`), where every prediction comes with its
distribution; answers that were drawn elsewhere are taken as they are.

What guesses score on the cell is in `bounds.py`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from socrates.errors import SocratesError
from socrates.evaluation.bounds import Array, distribution_at, standardise
from socrates.evaluation.full_size import full_size_deviation

if TYPE_CHECKING:
    from socrates.data.records import Cell

ONE_ANSWER = "fewer than two human answers"
NO_SPREAD = "human answers all the same"
NO_PREDICTION = "no prediction"
SKIP_REASONS = (ONE_ANSWER, NO_SPREAD, NO_PREDICTION)  # a cell that fits several is counted under the first
NOT_ASKED = "not asked"  # a cell of no row, whose people answered a question that has rows in another condition


class Distribution(NamedTuple):
    """The answers that a model may give and how probable each is; normalised where it is used."""

    values: tuple[float, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One human answer and what the model predicted for the same person and question, in scale points."""

    cell: Cell
    response: float
    prediction: float | None  # None: the model gave no usable answer
    distribution: Distribution | None = None
    scale: tuple[int, ...] | None = None  # the valid answers that the question states; None: it states none


@dataclass(frozen=True)
class CellScore:
    """One cell: what it holds, and its numbers (None where the cell is skipped or a number is not defined).

    Distances, means and variances are in units of the human range; variances are unbiased, None below two answers.
    """

    cell: Cell
    n_human: int  # human answers, of persons asked about or not
    n_asked: int  # rows that the model was asked about
    n_predicted: int  # rows with a prediction
    human_min: float  # smallest human answer, in scale points
    human_max: float
    scale: tuple[int, ...] | None  # the valid answers that most of its rows state; None where they state none
    human_answers: Mapping[float, int]  # how often each answer was given, in scale points, ascending
    predicted_answers: Mapping[float, int]  # how often each was predicted
    z_human: Array | None = field(default=None, compare=False, repr=False)  # (n_predicted,), of rows with a prediction
    z_predicted: Array | None = field(default=None, compare=False, repr=False)  # likewise; both sorted by z_human
    predicted_distribution: Mapping[float, float] | None = None  # mean; None where not every predicted row has one
    wasserstein_distance: float | None = None  # [0, 1], expected with every person of the cell asked; else as drawn
    wasserstein_drawn: float | None = None  # between human and predicted answers
    # Standardised by the stated scale, to which both sides are clipped: not stretched by one odd answer. None where no
    # two human answers differ on it.
    wasserstein_stated_scale: float | None = None
    uniform_guess: float | None = None  # these five: see `bounds_of_cell`
    scale_prior: float | None = None
    pooled_conditions: float | None = None
    empirical_best: float | None = None
    people: Array | None = field(default=None, compare=False, repr=False)
    human_mean: float | None = None  # of all human answers
    human_variance: float | None = None
    predicted_mean: float | None = None
    predicted_variance: float | None = None
    clipped: int = 0  # predictions beyond the scale, or beyond the human range where none is stated; of a scored cell
    skipped: str | None = None  # one of `SKIP_REASONS`, or `NOT_ASKED`


def score_cell(
    cell: Cell,
    rows: Sequence[ScoredRow],
    human_answers: Mapping[float, int] | None = None,
) -> CellScore:
    """Score the rows of one cell, but for its bounds.

    Args:
        cell: which one.
        rows: those that the model was asked about.
        human_answers: how often each answer was given by all people of the cell, those of ``rows`` included; None:
            these are all there are.

    Raises:
        SocratesError: ``human_answers`` lacks an answer of ``rows``; names the cell.
    """
    given = _human_answers(cell, Counter(row.response for row in rows), human_answers)
    answered = [row for row in rows if row.prediction is not None]
    predicted = np.array(sorted(row.prediction for row in answered), dtype=np.float64)
    low, high = min(given), max(given)
    n_human = sum(given.values())
    reason = _skip_reason(n_human, low, high, len(predicted))
    scale = _commonest([row.scale for row in rows])
    counted = CellScore(
        cell=cell,
        n_human=n_human,
        n_asked=len(rows),
        n_predicted=len(predicted),
        human_min=low,
        human_max=high,
        scale=scale,
        human_answers=given,
        predicted_answers=dict(Counter(predicted.tolist())),
        skipped=reason,
    )
    if reason is not None:
        return counted
    answers, counts = _weighted(given)
    z_answers = standardise(answers, low, high)
    pairs = np.array(sorted((row.response, row.prediction) for row in answered), dtype=np.float64)
    z_human, z_predicted = standardise(pairs, low, high).T
    human_mean, human_variance = _moments(z_answers, counts)
    ones = np.ones(len(predicted))
    first, last = (scale[0], scale[-1]) if scale else (low, high)
    predicted_mean, predicted_variance = _moments(z_predicted, ones)
    tables = _tables([row.distribution for row in answered])
    as_drawn = [(predicted, ones[None])]
    sides, draws = (tables, n_human) if tables else (as_drawn, None)
    stated = scale is not None and np.ptp(np.clip(answers, first, last)) > 0  # else nobody answered on it
    return replace(
        counted,
        z_human=z_human,
        z_predicted=z_predicted,
        predicted_distribution=_mean_distribution(tables) if tables else None,
        wasserstein_distance=_distance(answers, counts, sides, low, high, draws),
        wasserstein_drawn=_distance(answers, counts, as_drawn, low, high, None),
        wasserstein_stated_scale=_distance(answers, counts, sides, first, last, draws) if stated else None,
        human_mean=human_mean,
        human_variance=human_variance,
        predicted_mean=predicted_mean,
        predicted_variance=predicted_variance,
        clipped=int(((predicted < first) | (predicted > last)).sum()),
    )


def distance_of(cell: CellScore, distributions: Sequence[Distribution | None]) -> float:
    """`wasserstein_distance` of a scored cell, had its predicted rows these distributions; as drawn if one is None."""
    answers, counts = _weighted(cell.human_answers)
    tables = _tables(distributions)
    return (
        _distance(answers, counts, tables, cell.human_min, cell.human_max, cell.n_human)
        if tables
        else cell.wasserstein_drawn
    )


def named(cell: Cell) -> str:
    """A cell as messages name it."""
    return f"study {cell.study_id}, condition {cell.condition_num}, task {cell.task_num}"


def _human_answers(cell: Cell, asked: Counter[float], given: Mapping[float, int] | None) -> dict[float, int]:
    """All human answers, ascending, checked to hold those that were asked about."""
    given = asked if given is None else given
    for answer, count in asked.items():
        if given.get(answer, 0) < count:
            raise SocratesError(
                f"{named(cell)}: {count} rows have the human answer {answer:g}, and all human answers of the cell hold "
                f"it {given.get(answer, 0)} times: these are not of the same data"
            )
    return {float(answer): count for answer, count in sorted(given.items()) if count}


def _weighted(counts: Mapping[float, int]) -> tuple[Array, Array]:
    """Answers and how often each was given, shape (n,) each."""
    return np.array(list(counts), np.float64), np.array(list(counts.values()), np.float64)


def _skip_reason(n_human: int, low: float, high: float, n_predicted: int) -> str | None:
    if n_human < 2:
        return ONE_ANSWER
    if low == high:
        return NO_SPREAD
    return None if n_predicted else NO_PREDICTION


def _commonest(scales: Sequence[tuple[int, ...] | None]) -> tuple[int, ...] | None:
    """The scale that most rows state; of equally common ones the first in order."""
    counts = Counter(scale for scale in scales if scale is not None)
    return min(counts, key=lambda scale: (-counts[scale], scale)) if counts else None


def _distance(
    answers: Array, counts: Array, sides: Sequence[tuple[Array, Array]], low: float, high: float, draws: int | None
) -> float:
    """First Wasserstein distance in units of a range; expected, where one answer is drawn for everybody.

    Args:
        answers: shape (n,), distinct human answers, ascending, in scale points.
        counts: shape (n,), how often each was given.
        sides: predicted answers, ascending, and their weights for each person, shape (people, answers).
        low: end of the range, to which all is clipped.
        high: its other end.
        draws: for how many people one is drawn; None: the answers are already drawn, and count as one person's.
    """
    sides = [(standardise(values, low, high), table) for values, table in sides]
    human = standardise(answers, low, high)
    points = np.unique(np.concatenate([human, *(z for z, _ in sides)]))
    at_human = distribution_at(human, counts, points)[:-1]
    people = np.concatenate([distribution_at(z, table, points) for z, table in sides])[:, :-1].T  # (points, people)
    apart = full_size_deviation(people, at_human, draws) if draws else np.abs(at_human - people[:, 0])
    return min(1.0, max(0.0, float(np.diff(points) @ apart)))  # rounding, or the jackknife, may go beyond


def _moments(values: Array, counts: Array) -> tuple[float, float | None]:
    """Mean and unbiased variance of a weighted sample."""
    number = math.fsum(counts)
    mean = math.fsum(values * counts) / number
    return mean, math.fsum(counts * (values - mean) ** 2) / (number - 1) if number > 1 else None


def _tables(distributions: Sequence[Distribution | None]) -> list[tuple[Array, Array]] | None:
    """The distributions by their answers: these, ascending, and the probabilities of each person, (people, answers).

    Their order is their own, so that the rows' changes no digit. None unless every row has one.
    """
    by_values: defaultdict[tuple[float, ...], list[Sequence[float]]] = defaultdict(list)
    for distribution in distributions:
        if distribution is None:
            return None
        by_values[distribution.values].append(distribution.probabilities)
    tables = []
    for values, probabilities in sorted(by_values.items()):
        order = np.argsort(values)
        table = np.array(sorted(probabilities), dtype=np.float64)[:, order]
        tables.append((np.array(values, dtype=np.float64)[order], table / table.sum(axis=1, keepdims=True)))
    return tables


def _mean_distribution(tables: Sequence[tuple[Array, Array]]) -> dict[float, float]:
    """Mean over people, by answer, ascending."""
    mean: defaultdict[float, list[float]] = defaultdict(list)
    for values, table in tables:
        for answer, column in zip(values.tolist(), table.T, strict=True):
            mean[answer].append(math.fsum(column))
    number = sum(len(table) for _, table in tables)
    return {answer: math.fsum(mean[answer]) / number for answer in sorted(mean)}
