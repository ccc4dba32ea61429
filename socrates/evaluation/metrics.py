"""How far predicted answers are from human ones: pure functions, no files, no sampling.

The definition is the paper's (arXiv 2509.05830). A *cell* is one outcome question in one condition of one study; its
distance is in `cells.py`. Distances are averaged over the cells of a study, then over studies: each study counts once,
however many rows it has. 0 is best, 1 is worst.

Every number is defined once, under weights (`statistics`): intervals are of the very same ones. Sums are taken over
sorted numbers, so row order changes no digit.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from socrates.data.records import Cell, as_number, cell_order
from socrates.data.scales import Scale
from socrates.data.scales.missing import far_answers
from socrates.errors import SocratesError
from socrates.evaluation.bootstrap import Statistic, Units, Weights, estimate, sorted_units
from socrates.evaluation.bounds import PEOPLE, bounds_of_cell, nominal_bounds, worth_people
from socrates.evaluation.cells import (
    NOT_ASKED,
    SKIP_REASONS,
    CellScore,
    ScoredRow,
    human_answers_of,
    named,
    score_cell,
)

if TYPE_CHECKING:
    from socrates.data.dataset import ScalePriors

METRIC_VERSION = 4  # goes up with every change of a definition: results of two versions are not comparable

_LEAST_VARIANCE = 1e-14  # under weights, of numbers in [0, 1]: what is below it is rounding
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Metrics:
    """The headline numbers; all but correlations and dispersion are in units of a cell's human range, [0, 1]."""

    # Expected between human answers and one sampled answer of every person of a cell, estimated from the distributions
    # of those who were asked (`full_size.py`); a cell of which a prediction comes without its distribution counts with
    # its answers as they are. Mean over cells, then over studies. None where all cells are nominal, as are all others.
    wasserstein_distance: float | None
    # Between human answers and one sampled answer of each person who was asked; of cells without rows of many people.
    wasserstein_drawn: float | None
    # As the first, in units of the scale that the question states, which one odd human answer does not stretch; over
    # the cells whose question states one, None where none does.
    wasserstein_stated_scale: float | None
    # These six are of persons: a row that holds the answers of many people does not count.
    mae: float | None  # mean of abs(z prediction - z human) over all scored rows, each row counting once
    rmse: float | None  # square root of the mean of their squares, over the same rows
    # Pearson's, between z prediction and z human over the same rows, [-1, 1]. It pools cells, so knowing which
    # questions get high answers counts as well as knowing persons. None where either side does not vary.
    correlation: float | None
    correlation_within_cells: float | None  # after removing each cell's mean from both sides: knowing persons alone
    # The paper's individual accuracy: 1 - abs(z prediction - z human), mean over the scored rows of a study, then over
    # studies.
    accuracy: float | None
    # Standard deviation of the predictions by that of the human answers: square root of the ratio of their variances
    # within cells, each averaged over cells with two predictions, then over studies. 1: as spread out as people.
    dispersion: float | None


@dataclass(frozen=True)
class Nominal:
    """The numbers of nominal cells, never averaged with those of the others; means over cells, then over studies."""

    total_variation: float  # between human answers and one sampled answer of everybody, expected
    uniform_guess: float  # the same of answers drawn uniformly from the valid ones
    empirical_best: float  # the same of the cell's own people, resampled, as many as answers were drawn


@dataclass(frozen=True)
class Bounds:
    """What guesses score on the very same cells, from as many answers as `wasserstein_distance` is of (`bounds.py`)."""

    uniform_guess: float | None  # drawn uniformly from the scale
    scale_prior: float | None  # from how people answer training's questions with that scale; None: not known
    pooled_conditions: float | None  # from the human answers to the question in all of its conditions
    people_5: float | None  # five of the cell's own people, resampled
    people_20: float | None
    # As many of them as answers were drawn. How the paper's figure of that name was made could not be read.
    empirical_best: float | None
    # How many of them, resampled, score what the predictions do (`bounds.worth_people`).
    worth_people: float | None
    marginal_accuracy: float | None  # `accuracy` of answering the mean of the cell's other answers for each person


NAMES = (*Metrics.__annotations__, *Bounds.__annotations__)
DISTANCES = tuple(name for name in NAMES if name in CellScore.__annotations__)  # those that a cell has


@dataclass(frozen=True)
class Coverage:
    """What the metrics stand on: counts of what was given and of what was scored."""

    rows: int  # that the model was asked about
    rows_predicted: int  # with a prediction, in any cell
    rows_scored: int  # with a prediction, in a scored cell
    rows_of_many: int  # that hold the answers of many people: they count in distances and effects alone
    human_answers: float  # people in all cells, asked about or not; with survey weights the effective number (Kish)
    cells: int
    cells_scored: int
    cells_nominal: int  # of these; they have a total variation and no other number
    studies: int
    studies_scored: int
    skipped: Mapping[str, int]  # cells by reason; every reason is there
    missing_answers: float  # in all cells, codes for "refused", "don't know" and the like: left out
    far_answers: Mapping[str, int]  # stated answers far from the rest of their scale, and how many people gave each
    predictions_outside: int  # in scored cells, beyond the scale (the human range where none is stated): clipped
    cells_drawn: int  # scored cells whose distance is of drawn answers, as not all of them come with a distribution


@dataclass(frozen=True)
class Scores:
    """All that `score` finds out about a set of rows; cells in ascending order."""

    metrics: Metrics
    bounds: Bounds
    coverage: Coverage
    cells: tuple[CellScore, ...]
    scored: tuple[CellScore, ...]  # those that count in the metrics
    nominal: tuple[CellScore, ...]  # those that count in the nominal numbers
    nominal_metrics: Nominal | None  # None where no cell is nominal
    not_asked: tuple[CellScore, ...]  # the other conditions of their questions, whose people count in one bound
    priors: ScalePriors | None  # of the rows' scales


def score(
    rows: Iterable[ScoredRow],
    human_answers: Mapping[Cell, Mapping[float, float]] | None = None,
    missing_answers: Mapping[tuple[Cell, float], float] | None = None,
    priors: ScalePriors | None = None,
) -> Scores:
    """Score predictions against human answers, by the definition at the top of this module.

    Args:
        rows: that the model was asked about, in any order; a cell's rows need not stand together. In scale points.
        human_answers: of each cell, how often each answer was given by all of its people; None: the rows hold them
            all. Of cells without a row, those of a question that has rows count in `pooled_conditions`.
        missing_answers: of each cell and code, how often it was given; to be counted, none may be among the others.
        priors: how people answer on each scale (`dataset.read_scale_priors`); None: not known.

    Raises:
        SocratesError: no rows; no cell can be scored (says why not); or human answers that are not of the same data as
            the rows, or lack one of their cells.
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
    given = human_answers or human_answers_of(row for rows in groups.values() for row in rows)
    pooled: defaultdict[tuple, Counter[float]] = defaultdict(Counter)  # by study and task
    for cell, answers in given.items():
        pooled[cell[::2]].update(answers)
    scales = {str(Scale(scale)) for scale in {row.scale for rows in groups.values() for row in rows} if scale}
    priors = {scale: priors[scale] for scale in sorted(scales) if scale in priors} if priors else None
    scored_cells = (score_cell(cell, groups[cell], given[cell]) for cell in order)
    cells = tuple(_with_bounds(cell, pooled[cell.cell[::2]], priors or None) for cell in scored_cells)
    scored, nominal = (
        tuple(cell for cell in cells if cell.skipped is None and cell.nominal is kind) for kind in (False, True)
    )
    questions = {cell[::2] for cell in order}
    others = sorted((cell for cell in given.keys() - groups.keys() if cell[::2] in questions), key=cell_order)
    not_asked = tuple(replace(score_cell(cell, (), given[cell]), skipped=NOT_ASKED) for cell in others)
    of_many = sum(row.counts is not None for rows in groups.values() for row in rows)
    coverage = _coverage(cells, of_many, sum(n for (cell, _), n in (missing_answers or {}).items() if cell in groups))
    if not scored and not nominal:
        reasons = ", ".join(f"{count} with {reason}" for reason, count in coverage.skipped.items() if count)
        raise SocratesError(
            f"none of the {len(cells)} cells can be scored ({reasons}). A cell (study, condition, task) "
            "needs two human answers that differ and one prediction: score whole cells"
        )
    values = estimate(cell_units(cell.cell for cell in scored), statistics(scored)).tolist() if scored else []
    numbers = {name: None if math.isnan(value) else value for name, value in zip(NAMES, values, strict=bool(scored))}
    metrics, bounds = (kind(**{name: numbers.get(name) for name in kind.__annotations__}) for kind in (Metrics, Bounds))
    units = cell_units(cell.cell for cell in nominal)
    of_nominal = Nominal(*estimate(units, nominal_statistics(nominal)).tolist()) if nominal else None
    return Scores(metrics, bounds, coverage, cells, scored, nominal, of_nominal, not_asked, priors or None)


def _with_bounds(cell: CellScore, pooled: Mapping[float, int], priors: ScalePriors | None) -> CellScore:
    if cell.skipped is not None:
        return cell
    of = cell.predicted_answers if cell.predicted_distribution is None else cell.human_answers
    draws = max(1, round(sum(of.values())))
    if cell.nominal:
        return replace(cell, **nominal_bounds(cell.human_answers, cell.scale, draws))
    return replace(cell, **bounds_of_cell(cell.human_answers, cell.scale, draws, pooled, priors))


def cell_units(cells: Iterable[Cell]) -> Units:
    """Cells in ascending order as units of a bootstrap."""
    return sorted_units([cell.study_id for cell in cells])


def nominal_statistics(cells: Sequence[CellScore]) -> Statistic:
    """The numbers of `Nominal` under weights of nominal cells: shape (R, 3)."""
    values = np.array([[getattr(cell, name) for name in Nominal.__annotations__] for cell in cells], dtype=np.float64)
    return lambda weights: weights.mean_of_all(values)


def statistics(cells: Sequence[CellScore]) -> Statistic:
    """The numbers of `NAMES` under weights of scored cells: shape (R, len(NAMES)), NaN where not defined."""

    def of(name: str) -> Array:
        return np.array([getattr(cell, name) for cell in cells], dtype=np.float64)  # None becomes NaN

    distances = {name: of(name) for name in DISTANCES}  # each (cells,)
    predicted_variance = of("predicted_variance")
    human_variance = np.where(np.isnan(predicted_variance), np.nan, of("human_variance"))
    rows = np.array([len(cell.z_human) for cell in cells])  # of persons: 0 in a cell that is of counts alone
    some = rows > 0
    people = np.array([cell.people for cell in cells])  # (cells, len(PEOPLE))
    human, predicted = (np.concatenate([getattr(cell, side) for cell in cells]) for side in ("z_human", "z_predicted"))

    def sums(values: Array) -> Array:
        """Over each cell's rows with a prediction, of values of shape (..., rows): shape (cells, ...)."""
        found = np.zeros((*values.shape[:-1], len(rows)))
        if some.any():
            found[..., some] = np.add.reduceat(values, (np.cumsum(rows) - rows)[some], axis=-1)
        return found.T

    def moments(x: Array, y: Array) -> Array:
        """Sums of x, y, x x, y y and x y, which are centred first, so that nothing cancels out: shape (cells, 5)."""
        return sums(np.stack([x, y, x * x, y * y, x * y]))

    def centred(values: Array) -> Array:
        return values - np.repeat(sums(values) / np.maximum(rows, 1), rows)

    error, squared_error = (sums(np.abs(predicted - human) ** power) for power in (1, 2))
    # The mean without one's own answer is (n mean - z) / (n - 1), which is (n / (n - 1)) (mean - z) away from z.
    from_mean = sums(np.abs(np.repeat(of("human_mean"), rows) - human))
    marginal_error = from_mean * of("n_human") / (of("n_human") - 1)
    pooled = moments(*(side - side.mean() if len(side) else side for side in (human, predicted)))
    within = moments(centred(human), centred(predicted))[:, 2:]

    def statistic(weights: Weights) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            means = {name: weights.mean_of_means(values) for name, values in distances.items()}
            total = weights.pooled_sum(rows)
            mean_x, mean_y, xx, yy, xy = (weights.pooled_sum(pooled) / total[:, None]).T
            as_people = weights.mean_of_all(people)
            spread = weights.mean_of_means(predicted_variance) / weights.mean_of_means(human_variance)
            numbers = {
                **means,
                **{f"people_{number}": as_people[:, PEOPLE.tolist().index(number)] for number in (5, 20)},
                "worth_people": worth_people(means["wasserstein_distance"], as_people),
                "mae": weights.pooled_sum(error) / total,
                "rmse": np.sqrt(weights.pooled_sum(squared_error) / total),
                "correlation": _correlation(xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y),
                "correlation_within_cells": _correlation(*(weights.pooled_sum(within) / total[:, None]).T),
                "accuracy": 1 - weights.ratio_of_studies(error, rows),
                "dispersion": np.sqrt(spread),
                "marginal_accuracy": 1 - weights.ratio_of_studies(marginal_error, rows),
            }
        return np.stack([numbers[name] for name in NAMES], axis=1)

    return statistic


def _correlation(xx: Array, yy: Array, xy: Array) -> Array:
    """Pearson's correlation from (co)variances; NaN where one of them is 0, or only rounding."""
    varies = np.minimum(xx, yy) > _LEAST_VARIANCE
    return np.clip(np.where(varies, xy / np.sqrt(np.where(varies, xx * yy, 1.0)), np.nan), -1, 1)


def _coverage(cells: Sequence[CellScore], of_many: int, missing_answers: float) -> Coverage:
    skipped, far = Counter(cell.skipped for cell in cells), Counter[float]()
    scored = [cell for cell in cells if cell.skipped is None]
    for cell in cells:
        far.update(
            {
                answer: cell.human_answers.get(answer, 0)
                for answer in far_answers(cell.scale if not cell.nominal else None)
            }
        )
    return Coverage(
        rows=sum(cell.n_asked for cell in cells),
        rows_predicted=sum(cell.n_predicted for cell in cells),
        rows_scored=sum(cell.n_predicted for cell in scored),
        rows_of_many=of_many,
        human_answers=as_number(round(math.fsum(cell.n_human for cell in cells), 6)),
        cells=len(cells),
        cells_scored=len(scored),
        cells_nominal=sum(cell.nominal for cell in scored),
        studies=len({cell.cell.study_id for cell in cells}),
        studies_scored=len({cell.cell.study_id for cell in scored}),
        skipped={reason: skipped[reason] for reason in SKIP_REASONS},
        missing_answers=missing_answers,
        far_answers={str(answer): people for answer, people in sorted(far.items()) if people},
        predictions_outside=sum(cell.clipped for cell in scored),
        cells_drawn=sum(cell.predicted_distribution is None for cell in scored),
    )
