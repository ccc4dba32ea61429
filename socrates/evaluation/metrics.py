"""How far predicted answers are from human ones: pure functions, no files, no sampling.

The definition is the paper's (arXiv 2509.05830). A *cell* is one outcome question in one condition of one study. Its
distance is the first Wasserstein distance between all its human answers and its predictions, in units of the range of
the human answers (`cells.py`). Distances are averaged over the cells of a study, then over studies: each study counts
once, however many rows it has. 0 is best, 1 is worst.

Covers: the metrics of a set of rows, what a guess would score on the very same rows, and what was left out.
Does not cover: intervals (`intervals.py`), or whether two results may be compared (`gate.py`).

Every sum is exactly rounded (`math.fsum`) or taken over sorted numbers, so row order changes no digit.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from socrates.data.records import Cell, cell_order
from socrates.errors import SocratesError
from socrates.evaluation.cells import SKIP_REASONS, CellScore, ScoredRow, named, score_cell

METRIC_VERSION = 2  # goes up with every change of a definition: results of two versions are not comparable

_ROUNDING = 1e-12  # a spread below this, of numbers in [0, 1], is rounding and carries no correlation
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Metrics:
    """The headline numbers; all but correlations and dispersion are in units of a cell's human range, [0, 1].

    Attributes:
        wasserstein_distance: between human answers and sampled predictions; mean over cells, then over studies.
        wasserstein_expected: the same with the mean of the participants' predicted distributions in place of
            the sampled answers: no sampling noise on the model's side. None unless every row with a prediction
            in a scored cell has a distribution too, as a mean over the others would describe other rows.
        wasserstein_stated_scale: as `wasserstein_distance`, in units of the scale that the question states, which one
            odd human answer does not stretch; over the cells whose question states one, None where none does.
        mae: mean of abs(z prediction - z human) over all scored rows, each row counting once.
        rmse: square root of the mean of their squares, over the same rows.
        correlation: Pearson's, between z prediction and z human over the same rows, [-1, 1]. It pools cells,
            so knowing which questions get high answers counts as well as knowing persons. None where either
            side does not vary.
        correlation_within_cells: the same after removing each cell's mean from both sides: knowing persons alone.
        accuracy: the paper's individual accuracy: 1 - abs(z prediction - z human), mean over the scored rows
            of a study, then over studies.
        dispersion: standard deviation of the predictions by that of the human answers: square root of the ratio of
            their variances within cells, each averaged over cells with two predictions, then over studies. 1: as spread
            out as people.
    """

    wasserstein_distance: float
    wasserstein_expected: float | None
    wasserstein_stated_scale: float | None
    mae: float
    rmse: float
    correlation: float | None
    correlation_within_cells: float | None
    accuracy: float
    dispersion: float | None


@dataclass(frozen=True)
class Bounds:
    """What guesses score on the very same cells, with as many answers as the model gave.

    Attributes:
        uniform_guess: expected `wasserstein_distance` of answers drawn uniformly from the scale (where a question
            states none, from the whole numbers of the human range).
        empirical_best: likewise, drawn from the human answers themselves: the paper's "empirical best".
        share_of_the_way: (uniform_guess - wasserstein_distance) / (uniform_guess - empirical_best); 0: no better than
            guessing, 1: as good as people resampled. None where the two bounds do not differ.
        marginal_accuracy: `accuracy` of answering the mean of the cell's other human answers for each person.
    """

    uniform_guess: float
    empirical_best: float
    share_of_the_way: float | None
    marginal_accuracy: float


@dataclass(frozen=True)
class Coverage:
    """What the metrics stand on: counts of what was given and of what was scored."""

    rows: int  # that the model was asked about
    rows_predicted: int  # with a prediction, in any cell
    rows_scored: int  # with a prediction, in a scored cell
    human_answers: int  # in all cells, of persons asked about or not
    cells: int
    cells_scored: int
    cells_stated_scale: int  # scored ones whose question states its scale
    studies: int
    studies_scored: int
    skipped: Mapping[str, int]  # cells by reason; every reason is there


@dataclass(frozen=True)
class Scores:
    """All that `score` finds out about a set of rows; cells in ascending order."""

    metrics: Metrics
    bounds: Bounds
    coverage: Coverage
    cells: tuple[CellScore, ...]

    @property
    def scored(self) -> tuple[CellScore, ...]:
        """The cells that count, in ascending order."""
        return tuple(cell for cell in self.cells if cell.skipped is None)


def score(rows: Iterable[ScoredRow], human_answers: Mapping[Cell, Mapping[float, int]] | None = None) -> Scores:
    """Score predictions against human answers, by the definition at the top of this module.

    Args:
        rows: that the model was asked about, in any order; a cell's rows need not stand together. In scale points.
        human_answers: of each cell, how often each answer was given by all of its people; None: the rows hold them
            all. Cells without a row are passed over.

    Raises:
        SocratesError: no rows; no cell can be scored (says why not); a response, prediction or distribution
            that is not made of finite numbers (names the cell); human answers further apart than a float can
            say, or that are not of the same data as the rows or lack one of their cells.
    """
    groups: defaultdict[Cell, list[ScoredRow]] = defaultdict(list)
    for row in rows:
        groups[row.cell].append(row)
    if not groups:
        raise SocratesError("there are no rows to score")

    order = sorted(groups, key=cell_order)
    if human_answers is not None and (missing := [cell for cell in order if cell not in human_answers]):
        raise SocratesError(
            f"{len(missing)} of the {len(order)} cells are not among the human answers given, the first of them "
            f"{named(missing[0])}: these are of other data, or their questions have other names (task_num)"
        )
    cells = tuple(score_cell(cell, groups[cell], human_answers and human_answers[cell]) for cell in order)
    scored = [cell for cell in cells if cell.skipped is None]
    coverage = _coverage(cells)
    if not scored:
        reasons = ", ".join(f"{count} with {reason}" for reason, count in coverage.skipped.items() if count)
        raise SocratesError(
            f"none of the {len(cells)} cells can be scored ({reasons}). A cell (study, condition, task) "
            "needs two human answers that differ and one prediction: score whole cells"
        )
    by_study: defaultdict[str, list[CellScore]] = defaultdict(list)
    for cell in scored:
        by_study[cell.cell.study_id].append(cell)
    groups_of_cells = list(by_study.values())
    metrics = _metrics(scored, groups_of_cells)
    return Scores(metrics, _bounds(groups_of_cells, metrics.wasserstein_distance), coverage, cells)


def pearson_correlation(x: Array, y: Array) -> float | None:
    """Pearson's correlation of two arrays of shape (n,) with values in [-1, 1]; None if one does not vary."""
    if min(np.ptp(x), np.ptp(y)) <= _ROUNDING:
        return None
    dx, dy = x - _mean(x), y - _mean(y)
    value = _sum(dx * dy) / math.sqrt(_sum(dx**2) * _sum(dy**2))
    return max(-1.0, min(1.0, value))


def marginal_errors(cell: CellScore) -> Array:
    """abs(mean of the other human answers - z human) of the rows with a prediction: shape (n_predicted,).

    The mean without one's own answer is (n mean - z) / (n - 1), which is (n / (n - 1)) (mean - z) away from it.
    """
    return np.abs(cell.human_mean - cell.z_human) * cell.n_human / (cell.n_human - 1)


def _metrics(scored: Sequence[CellScore], by_study: Sequence[Sequence[CellScore]]) -> Metrics:
    human, predicted = (np.concatenate([getattr(cell, side) for cell in scored]) for side in ("z_human", "z_predicted"))
    error = np.abs(predicted - human)
    within = [
        np.concatenate([getattr(cell, side) - _mean(getattr(cell, side)) for cell in scored])
        for side in ("z_human", "z_predicted")
    ]
    complete = all(cell.wasserstein_expected is not None for cell in scored)
    spread = [[cell for cell in cells if cell.predicted_variance is not None] for cells in by_study]
    variances = [_mean_of_means(spread, f"{side}_variance") for side in ("human", "predicted")]
    return Metrics(
        wasserstein_distance=_mean_of_means(by_study, "wasserstein_distance"),
        wasserstein_expected=_mean_of_means(by_study, "wasserstein_expected") if complete else None,
        wasserstein_stated_scale=_mean_of_means(by_study, "wasserstein_stated_scale"),
        mae=_mean(error),
        rmse=math.sqrt(_mean(error**2)),
        correlation=pearson_correlation(human, predicted),
        correlation_within_cells=pearson_correlation(*within),
        accuracy=_mean([1 - _mean(np.concatenate([*map(_errors, cells)])) for cells in by_study]),
        dispersion=None if variances[1] is None else math.sqrt(variances[1] / variances[0]),
    )


def _bounds(by_study: Sequence[Sequence[CellScore]], distance: float) -> Bounds:
    uniform, best = (_mean_of_means(by_study, name) for name in ("uniform_guess", "empirical_best"))
    return Bounds(
        uniform_guess=uniform,
        empirical_best=best,
        share_of_the_way=(uniform - distance) / (uniform - best) if uniform - best > _ROUNDING else None,
        marginal_accuracy=_mean([1 - _mean(np.concatenate([*map(marginal_errors, cells)])) for cells in by_study]),
    )


def _errors(cell: CellScore) -> Array:
    return np.abs(cell.z_predicted - cell.z_human)


def _mean_of_means(by_study: Iterable[Sequence[CellScore]], name: str) -> float | None:
    """Mean over the cells of a study that define a number, then over the studies that have such a cell."""
    values = [[value for cell in cells if (value := getattr(cell, name)) is not None] for cells in by_study]
    means = [_mean(study) for study in values if study]
    return _mean(means) if means else None


def _coverage(cells: Sequence[CellScore]) -> Coverage:
    scored = [cell for cell in cells if cell.skipped is None]
    skipped = Counter(cell.skipped for cell in cells)
    return Coverage(
        rows=sum(cell.n_asked for cell in cells),
        rows_predicted=sum(cell.n_predicted for cell in cells),
        rows_scored=sum(cell.n_predicted for cell in scored),
        human_answers=sum(cell.n_human for cell in cells),
        cells=len(cells),
        cells_scored=len(scored),
        cells_stated_scale=sum(cell.wasserstein_stated_scale is not None for cell in scored),
        studies=len({cell.cell.study_id for cell in cells}),
        studies_scored=len({cell.cell.study_id for cell in scored}),
        skipped={reason: skipped[reason] for reason in SKIP_REASONS},
    )


def _sum(values: Array | Sequence[float]) -> float:
    return math.fsum(values.tolist() if isinstance(values, np.ndarray) else values)


def _mean(values: Array | Sequence[float]) -> float:
    return _sum(values) / len(values)
