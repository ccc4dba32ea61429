"""One cell's scores: how far predicted answers are from human ones, in one condition of one question of one study.

Every human answer of the cell counts, whether the model was asked about that person or not; missing answers ("99 for
'Refused'") never come here. Answers are standardised by the smallest and the largest human answer, z = (answer - min) /
(max - min); predictions are clipped to [0, 1] (arXiv 2509.05830), those beyond the scale counted.

The distance is what asking all people of the cell would give (`full_size.py`), where every prediction comes with its
distribution; answers that were drawn elsewhere are taken as they are.

The answers of a nominal question are names: its distance is the total variation, half the sum over answers of the
difference of their shares, estimated in the same way. It is a number of its own, never averaged with the other.

What guesses score on the cell is in `bounds.py`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from socrates.data.human_answers import HumanAnswers
from socrates.errors import SocratesError
from socrates.evaluation.bounds import Array, distribution_at, standardise
from socrates.evaluation.full_size import GROUPS, full_size_deviation

if TYPE_CHECKING:
    from socrates.data.records import Cell

ONE_ANSWER = "fewer than two human answers"
NO_SPREAD = "human answers all the same"
NO_PREDICTION = "no prediction"
SKIP_REASONS = (ONE_ANSWER, NO_SPREAD, NO_PREDICTION)  # a cell that fits several is counted under the first
_ROUNDING = 1e-9  # of a sum of counts
NOT_ASKED = "not asked"  # a cell of no row, whose people answered a question that has rows in another condition


class Distribution(NamedTuple):
    """The answers that a model may give and how probable each is; normalised where it is used."""

    values: tuple[float, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One human answer and what the model predicted for the same person and question, in scale points."""

    cell: Cell
    response: float | None  # None: `counts` holds the answers of many people
    prediction: float | None  # None: the model gave no usable answer
    distribution: Distribution | None = None
    scale: tuple[float, ...] | None = None  # the valid answers that the question states; None: it states none
    nominal: bool = False  # whether answers are names
    weight: float = 1  # of the person, or of each of many
    counts: Mapping[float, float] | None = None  # how many people gave each answer, where the row is of many

    @property
    def given(self) -> Mapping[float, float]:
        """How many people gave each answer."""
        return {self.response: 1} if self.counts is None else self.counts

    @property
    def people(self) -> float:
        """How many people the row is of."""
        return 1 if self.counts is None else math.fsum(self.counts.values())


@dataclass(frozen=True)
class CellScore:
    """One cell: what it holds, and its numbers (None where the cell is skipped or a number is not defined).

    Distances, means and variances are in units of the human range; variances are unbiased, None below two answers.
    """

    cell: Cell
    n_human: float  # people who answered, asked about or not; with survey weights the effective number (Kish)
    n_asked: int  # rows that the model was asked about
    n_predicted: int  # rows with a prediction
    human_min: float  # smallest human answer, in scale points
    human_max: float
    scale: tuple[float, ...] | None  # the valid answers that most of its rows state; None where they state none
    human_answers: Mapping[float, float]  # how often each answer was given, in scale points, ascending
    predicted_answers: Mapping[float, float]  # how often each was predicted; for many people, is expected to be
    nominal: bool = False
    z_human: Array | None = field(default=None, compare=False, repr=False)  # (k,), of persons with a prediction
    z_predicted: Array | None = field(default=None, compare=False, repr=False)  # likewise; both sorted by z_human
    predicted_distribution: Mapping[float, float] | None = None  # mean; None where not every predicted row has one
    wasserstein_distance: float | None = None  # [0, 1], expected with every person of the cell asked; else as drawn
    wasserstein_drawn: float | None = None  # between human and predicted answers; None where a row is of many people
    total_variation: float | None = None  # of a nominal cell, in place of all others; as `wasserstein_distance`
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
    human_answers: Mapping[float, float] | None = None,
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
    given = _human_answers(cell, rows, human_answers)
    answered = [row for row in rows if row.prediction is not None]
    drawn = _drawn(cell, answered)
    low, high = min(given), max(given)
    n_human = sum(given.values())
    reason = _skip_reason(n_human, low, high, len(answered))
    scale = _commonest([row.scale for row in rows])
    counted = CellScore(
        cell=cell,
        n_human=n_human,
        n_asked=len(rows),
        n_predicted=len(answered),
        human_min=low,
        human_max=high,
        scale=scale,
        human_answers=given,
        predicted_answers=drawn,
        nominal=any(row.nominal for row in rows),
        skipped=reason,
    )
    if reason is not None:
        return counted
    predicted = _from_distributions(answered) or _as_drawn(drawn)
    likely = _mean_distribution(predicted) if predicted.asked else None
    if counted.nominal:
        variation = _total_variation(given, predicted)
        return replace(counted, predicted_distribution=likely, total_variation=variation)
    answers, counts = _weighted(given)
    pairs = sorted((row.response, row.prediction) for row in answered if row.response is not None)
    z_human, z_predicted = standardise(np.array(pairs, dtype=np.float64).reshape(-1, 2), low, high).T
    human_mean, human_variance = _moments(standardise(answers, low, high), counts)
    drawn_answers, numbers = _weighted(drawn)
    predicted_mean, predicted_variance = _moments(standardise(drawn_answers, low, high), numbers)
    first, last = (scale[0], scale[-1]) if scale else (low, high)
    of_many = any(row.counts is not None for row in answered)
    stated = scale is not None and np.ptp(np.clip(answers, first, last)) > 0  # else nobody answered on it
    return replace(
        counted,
        z_human=z_human,
        z_predicted=z_predicted,
        predicted_distribution=likely,
        wasserstein_distance=_distance(answers, counts, predicted, low, high),
        wasserstein_drawn=None if of_many else _distance(answers, counts, _as_drawn(drawn), low, high),
        wasserstein_stated_scale=_distance(answers, counts, predicted, first, last) if stated else None,
        human_mean=human_mean,
        human_variance=human_variance,
        predicted_mean=predicted_mean,
        predicted_variance=predicted_variance,
        clipped=sum(not first <= row.prediction <= last for row in answered),
    )


def distance_of(cell: CellScore, rows: Sequence[ScoredRow]) -> float:
    """`wasserstein_distance` of a scored cell, were these its predicted rows; as drawn if one has no distribution."""
    if (predicted := _from_distributions(rows)) is None:
        return cell.wasserstein_distance
    return _distance(*_weighted(cell.human_answers), predicted, cell.human_min, cell.human_max)


def named(cell: Cell) -> str:
    """A cell as messages name it."""
    return f"study {cell.study_id}, condition {cell.condition_num}, task {cell.task_num}"


def _human_answers(cell: Cell, rows: Sequence[ScoredRow], given: Mapping[float, float] | None) -> Mapping[float, float]:
    """All human answers, ascending, checked to hold those that were asked about."""
    asked = human_answers_of(rows).get(cell, {})
    if given is None:
        return asked
    weighted = any(row.weight != 1 for row in rows)  # then both are effective numbers, of different people
    for answer, count in asked.items():
        if answer not in given or (given[answer] < count * (1 - _ROUNDING) and not weighted):
            raise SocratesError(
                f"{named(cell)}: {count} rows have the human answer {answer:g}, and all human answers of the cell hold "
                f"it {given.get(answer, 0)} times: these are not of the same data"
            )
    return {float(answer): count for answer, count in sorted(given.items()) if count}


def _weighted(counts: Mapping[float, float]) -> tuple[Array, Array]:
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


class _Predicted(NamedTuple):
    """The predicted side of a cell."""

    tables: Sequence[tuple[Array, Array]]  # answers, ascending, and each row's probabilities, (rows, answers)
    weights: Array  # (rows,), in the order of the tables
    asked: float | None  # how many people they stand for (effective number); None: answers as they are, not probable


def _distance(answers: Array, counts: Array, predicted: _Predicted, low: float, high: float) -> float:
    """First Wasserstein distance in units of the range from low to high, to which all is clipped.

    Expected, where one answer is drawn for everybody. Human answers are distinct, ascending, in scale points, with how
    often each was given: shape (n,) each.
    """
    sides = [(standardise(values, low, high), table) for values, table in predicted.tables]
    human = standardise(answers, low, high)
    points = np.unique(np.concatenate([human, *(z for z, _ in sides)]))
    at_human = distribution_at(human, counts, points)[:-1]
    people = np.concatenate([distribution_at(z, table, points) for z, table in sides])[:, :-1].T  # (points, rows)
    return _clipped(np.diff(points) @ _apart(people, at_human, counts.sum(), predicted))


def _total_variation(given: Mapping[float, float], predicted: _Predicted) -> float:
    """Half the sum over answers of the difference between their human and predicted shares; expected likewise.

    It is the same under every numbering of the answers.
    """
    total = math.fsum(given.values())
    options = sorted({*given, *(value for values, _ in predicted.tables for value in values.tolist())})
    place = {option: index for index, option in enumerate(options)}
    shares = np.zeros((len(options), len(predicted.weights)))
    row = 0
    for values, table in predicted.tables:
        columns = [place[value] for value in values.tolist()]
        shares[columns, row : row + len(table)] = (table / table.sum(axis=1, keepdims=True)).T
        row += len(table)
    human = np.array([given.get(option, 0) / total for option in options])
    return _clipped(0.5 * math.fsum(_apart(shares, human, total, predicted, groups=len(predicted.weights))))


def _apart(people: Array, human: Array, number: float, predicted: _Predicted, groups: int = GROUPS) -> Array:
    """How far the predicted share is from the human one at each of k places: (k, rows), (k,), people -> (k,)."""
    if predicted.asked is None:
        return np.abs(human - people[:, 0])
    asked, draws = round(predicted.asked), max(1, round(number))
    return full_size_deviation(people, human, draws, weights=predicted.weights, asked=asked, groups=groups)


def _clipped(distance: float) -> float:
    return min(1.0, max(0.0, float(distance)))  # rounding, or the jackknife, may go beyond


def _moments(values: Array, counts: Array) -> tuple[float, float | None]:
    """Mean and unbiased variance of a weighted sample."""
    number = math.fsum(counts)
    mean = math.fsum(values * counts) / number
    return mean, math.fsum(counts * (values - mean) ** 2) / (number - 1) if number > 1 else None


def _as_drawn(answers: Mapping[float, float]) -> _Predicted:
    values, counts = _weighted(answers)
    return _Predicted([(values, counts[None])], np.ones(1), None)


def _from_distributions(rows: Sequence[ScoredRow]) -> _Predicted | None:
    """The rows' distributions; None unless every row has one. Their order is their own: the rows' changes no digit."""
    by_values: defaultdict[tuple[float, ...], list[tuple[Sequence[float], float]]] = defaultdict(list)
    for row in rows:
        if row.distribution is None:
            return None
        by_values[row.distribution.values].append((row.distribution.probabilities, row.weight * row.people))
    tables, weights = [], []
    for values, found in sorted(by_values.items()):
        found.sort()
        order = np.argsort(values)
        table = np.array([probabilities for probabilities, _ in found], dtype=np.float64)[:, order]
        tables.append((np.array(values, dtype=np.float64)[order], table / table.sum(axis=1, keepdims=True)))
        weights += [weight for _, weight in found]
    squares = math.fsum(row.people * row.weight**2 for row in rows)
    return _Predicted(tables, np.array(weights), math.fsum(weights) ** 2 / squares)


def _mean_distribution(predicted: _Predicted) -> dict[float, float]:
    """Mean over people, by answer, ascending."""
    mean: defaultdict[float, list[float]] = defaultdict(list)
    start = 0
    for values, table in predicted.tables:
        weights = predicted.weights[start : start + len(table)]
        start += len(table)
        for answer, column in zip(values.tolist(), table.T, strict=True):
            mean[answer].append(math.fsum(column * weights))
    total = math.fsum(predicted.weights)
    return {answer: math.fsum(mean[answer]) / total for answer in sorted(mean)}


def human_answers_of(rows: Iterable[ScoredRow]) -> dict[Cell, dict[float, float]]:
    """How often each answer was given in each cell, by the people of these rows."""
    humans = HumanAnswers()
    for row in rows:
        humans.add(row.cell, row.given, row.weight)
    return humans.counts()


def _drawn(cell: Cell, answered: Sequence[ScoredRow]) -> dict[float, float]:
    """How often each answer was predicted; where a row is of many people, how often it is expected to be."""
    drawn = HumanAnswers()
    for row in answered:
        likely = {row.prediction: 1.0}
        if row.counts is not None and row.distribution is not None:
            likely = dict(zip(row.distribution.values, row.distribution.probabilities, strict=True))
        drawn.add(cell, {float(answer): share * row.people for answer, share in likely.items()}, row.weight)
    return drawn.counts().get(cell, {})
