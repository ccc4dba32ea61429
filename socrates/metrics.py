"""How far predicted answers are from human ones: pure functions, no files, no drawing.

The definition is the paper's (arXiv 2509.05830). A *cell* is one outcome question in one condition of one
study. Within a cell every answer is standardised by the smallest and the largest of *all* its human answers,
those of rows without a prediction included: z = (answer - min) / (max - min). Predictions are clipped to
[0, 1]. The cell's distance is the first Wasserstein distance between all its human answers and its
predictions. Distances are averaged over the cells of a study, then over studies: each study counts once,
however many rows it has. 0 is best, 1 is worst.

Covers: the distances, MAE, RMSE, correlation and individual accuracy of a set of rows; what was left out.
Does not cover: uncertainty, or whether two results may be compared (`gate.py`).

Every sum is exactly rounded (`math.fsum`) or taken over sorted numbers, so row order changes no digit.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance as first_wasserstein_distance

from socrates.errors import SocratesError

if TYPE_CHECKING:
    from socrates.records import Cell

METRIC_VERSION = 1  # goes up with every change of a definition: results of two versions are not comparable

ONE_ANSWER = "fewer than two human answers"
NO_SPREAD = "human answers all the same"
NO_PREDICTION = "no prediction"
SKIP_REASONS = (ONE_ANSWER, NO_SPREAD, NO_PREDICTION)  # a cell that fits several is counted under the first

_ROUNDING = 1e-12  # a spread below this, of numbers in [0, 1], is rounding and carries no correlation
Array = NDArray[np.float64]


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


@dataclass(frozen=True)
class CellScore:
    """One cell: how many answers it holds, and its distances (None where skipped or not defined)."""

    cell: Cell
    n_human: int
    n_predicted: int
    human_min: float  # scale points, over all human answers
    human_max: float
    wasserstein_distance: float | None  # in units of the human range, [0, 1]
    wasserstein_expected: float | None
    skipped: str | None  # one of SKIP_REASONS


@dataclass(frozen=True)
class StudyScore:
    """One study: means over its scored cells, and the accuracy over their rows."""

    study_id: str
    cells: int
    rows: int
    wasserstein_distance: float
    wasserstein_expected: float | None
    accuracy: float


@dataclass(frozen=True)
class Metrics:
    """The headline numbers; all but the correlation are in units of a cell's human range, [0, 1].

    Attributes:
        wasserstein_distance: between human answers and drawn predictions; mean over cells, then over studies.
        wasserstein_expected: the same with the mean of the participants' predicted distributions in place of
            the drawn answers: no sampling noise on the model's side. None unless every row with a prediction
            in a scored cell has a distribution too, as a mean over the others would describe other rows.
        mae: mean of abs(z prediction - z human) over all scored rows, each row counting once.
        rmse: square root of the mean of their squares, over the same rows.
        correlation: Pearson's, between z prediction and z human over the same rows, [-1, 1]. It pools cells,
            so knowing which questions get high answers counts as well as knowing persons. None where either
            side does not vary.
        accuracy: the paper's individual accuracy: 1 - abs(z prediction - z human), mean over the scored rows
            of a study, then over studies.
    """

    wasserstein_distance: float
    wasserstein_expected: float | None
    mae: float
    rmse: float
    correlation: float | None
    accuracy: float


@dataclass(frozen=True)
class Coverage:
    """What the metrics stand on: counts of what was given and of what was scored."""

    rows: int
    rows_predicted: int  # with a prediction, in any cell
    rows_scored: int  # with a prediction, in a scored cell
    cells: int
    cells_scored: int
    studies: int
    studies_scored: int
    skipped: Mapping[str, int]  # cells by reason; every reason is there


@dataclass(frozen=True)
class Scores:
    """All that `score` finds out about a set of rows; cells and studies in ascending order."""

    metrics: Metrics
    coverage: Coverage
    cells: tuple[CellScore, ...]
    studies: tuple[StudyScore, ...]


def score(rows: Iterable[ScoredRow]) -> Scores:
    """Score predictions against human answers, by the definition at the top of this module.

    Args:
        rows: in any order; a cell's rows need not stand together. Answers are in scale points.

    Raises:
        SocratesError: no rows; no cell can be scored (says why not); a response, prediction or distribution
            that is not made of finite numbers (names the cell); human answers further apart than a float can
            say.
    """
    groups: defaultdict[Cell, list[ScoredRow]] = defaultdict(list)
    for row in rows:
        groups[row.cell].append(row)
    if not groups:
        raise SocratesError("there are no rows to score")

    cells: list[CellScore] = []
    scored: list[tuple[str, Array, Array]] = []  # study, z human and z predicted of the rows of one scored cell
    for cell in sorted(groups, key=_cell_order):
        result, human, predicted = _score_cell(cell, groups[cell])
        cells.append(result)
        if result.skipped is None:
            scored.append((cell.study_id, human, predicted))
    coverage = _coverage(cells)
    if not scored:
        reasons = ", ".join(f"{count} with {reason}" for reason, count in coverage.skipped.items() if count)
        raise SocratesError(
            f"none of the {len(cells)} cells can be scored ({reasons}). A cell (study, condition, task) "
            "needs two human answers that differ and one prediction: score whole cells"
        )
    studies = _score_studies(cells, scored)
    human, predicted = (np.concatenate(side) for side in list(zip(*scored, strict=True))[1:])
    error = np.abs(predicted - human)
    metrics = Metrics(
        wasserstein_distance=_mean([study.wasserstein_distance for study in studies]),
        wasserstein_expected=_mean_or_none([study.wasserstein_expected for study in studies]),
        mae=_mean(error),
        rmse=math.sqrt(_mean(error**2)),
        correlation=pearson_correlation(human, predicted),
        accuracy=_mean([study.accuracy for study in studies]),
    )
    return Scores(metrics, coverage, tuple(cells), tuple(studies))


def pearson_correlation(x: Array, y: Array) -> float | None:
    """Pearson's correlation of two arrays of shape (n,) with values in [0, 1]; None if one does not vary."""
    if min(np.ptp(x), np.ptp(y)) <= _ROUNDING:
        return None
    dx, dy = x - _mean(x), y - _mean(y)
    value = _sum(dx * dy) / math.sqrt(_sum(dx**2) * _sum(dy**2))
    return max(-1.0, min(1.0, value))


def _score_cell(cell: Cell, rows: Sequence[ScoredRow]) -> tuple[CellScore, Array, Array]:
    """One cell's result, and z human and z predicted of its rows with a prediction (empty where skipped)."""
    answered = [row for row in rows if row.prediction is not None]
    human = _numbers([row.response for row in rows], "human answer", cell)
    predicted = _numbers([row.prediction for row in answered], "prediction", cell)
    low, high = float(human.min()), float(human.max())
    reason = _skip_reason(len(rows), low, high, len(answered))
    distance = expected = None
    z_human = z_predicted = np.empty(0)
    if reason is None:
        if not math.isfinite(high - low):
            raise SocratesError(f"{_named(cell)}: human answers from {low:g} to {high:g} are too far apart to scale")
        z_human, z_predicted = _standardise(human, low, high), _standardise(predicted, low, high)
        distance = _wasserstein(z_human, z_predicted)
        if all(row.distribution is not None for row in answered):
            values, weights = _mean_distribution([row.distribution for row in answered], cell)
            expected = _wasserstein(z_human, _standardise(values, low, high), weights)
        has_prediction = np.fromiter((row.prediction is not None for row in rows), bool, len(rows))
        z_human = z_human[has_prediction]
    result = CellScore(cell, len(rows), len(answered), low, high, distance, expected, reason)
    return result, z_human, z_predicted


def _skip_reason(n_human: int, low: float, high: float, n_predicted: int) -> str | None:
    if n_human < 2:
        return ONE_ANSWER
    if low == high:
        return NO_SPREAD
    return None if n_predicted else NO_PREDICTION


def _standardise(answers: Array, low: float, high: float) -> Array:
    """Scale points to units of the human range. Clipping first is the same, and 1e97 cannot overflow."""
    return (np.clip(answers, low, high) - low) / (high - low)


def _wasserstein(human: Array, predicted: Array, weights: Array | None = None) -> float:
    """First Wasserstein distance of two samples in [0, 1]; the second one may be weighted."""
    distance = float(first_wasserstein_distance(human, predicted, None, weights))
    return min(1.0, distance)  # rounding may exceed the largest possible value


def _mean_distribution(distributions: Sequence[Distribution], cell: Cell) -> tuple[Array, Array]:
    """Mean of the distributions, each normalised first: values and weights of shape (number of answers,)."""
    by_values: defaultdict[tuple[float, ...], list[Sequence[float]]] = defaultdict(list)
    for values, probabilities in distributions:
        if len(values) != len(probabilities):
            raise SocratesError(f"{_named(cell)}: {len(values)} answers and {len(probabilities)} probabilities")
        by_values[tuple(values)].append(probabilities)
    support, weights = [], []
    for values in sorted(by_values):
        table = _numbers(by_values[values], "probability", cell)  # (people, answers)
        totals = table.sum(axis=1, keepdims=True)
        if (table < 0).any() or not (totals > 0).all() or not np.isfinite(totals).all():
            raise SocratesError(f"{_named(cell)}: probabilities must be at least 0, and not all of them 0")
        support.append(_numbers(values, "answer of a distribution", cell))
        weights.append(np.sort(table / totals, axis=0).sum(axis=0))  # sorted: row order changes no digit
    return np.concatenate(support), np.concatenate(weights) / len(distributions)


def _score_studies(cells: Sequence[CellScore], scored: Sequence[tuple[str, Array, Array]]) -> list[StudyScore]:
    by_study: defaultdict[str, list[CellScore]] = defaultdict(list)
    for cell in cells:
        if cell.skipped is None:
            by_study[cell.cell.study_id].append(cell)
    errors: defaultdict[str, list[Array]] = defaultdict(list)
    for study_id, human, predicted in scored:
        errors[study_id].append(np.abs(predicted - human))
    return [
        StudyScore(
            study_id=study_id,
            cells=len(results),
            rows=sum(result.n_predicted for result in results),
            wasserstein_distance=_mean([result.wasserstein_distance for result in results]),
            wasserstein_expected=_mean_or_none([result.wasserstein_expected for result in results]),
            accuracy=1.0 - _mean(np.concatenate(errors[study_id])),
        )
        for study_id, results in by_study.items()
    ]


def _coverage(cells: Sequence[CellScore]) -> Coverage:
    scored = [cell for cell in cells if cell.skipped is None]
    skipped = Counter(cell.skipped for cell in cells)
    return Coverage(
        rows=sum(cell.n_human for cell in cells),
        rows_predicted=sum(cell.n_predicted for cell in cells),
        rows_scored=sum(cell.n_predicted for cell in scored),
        cells=len(cells),
        cells_scored=len(scored),
        studies=len({cell.cell.study_id for cell in cells}),
        studies_scored=len({cell.cell.study_id for cell in scored}),
        skipped={reason: skipped[reason] for reason in SKIP_REASONS},
    )


def _numbers(values: Sequence[float] | Sequence[Sequence[float]], what: str, cell: Cell) -> Array:
    try:
        array = np.asarray(values, dtype=np.float64)
    except OverflowError as error:
        raise SocratesError(f"{_named(cell)}: a {what} is too large for a number (above 1.8e308)") from error
    if not np.isfinite(array).all():
        bad = array[~np.isfinite(array)][0]
        raise SocratesError(
            f"{_named(cell)}: {bad} stands as a {what}; expected a finite number (no prediction is None)"
        )
    return array


def _cell_order(cell: Cell) -> tuple[str, int, bool, int | str]:
    return cell.study_id, cell.condition_num, isinstance(cell.task_num, str), cell.task_num


def _named(cell: Cell) -> str:
    return f"study {cell.study_id}, condition {cell.condition_num}, task {cell.task_num}"


def _sum(values: Array | Sequence[float]) -> float:
    return math.fsum(values.tolist() if isinstance(values, np.ndarray) else values)


def _mean(values: Array | Sequence[float]) -> float:
    return _sum(values) / len(values)


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    return None if None in values else _mean(values)
