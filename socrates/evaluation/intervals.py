"""95% intervals of all metrics and bounds, and of a checkpoint's improvement, from resamples of studies and cells.

The improvement is paired: baseline and checkpoint see the same resampled studies and cells. A question that is hard for
one model is hard for the other, and their answers to a row are sampled with the same luck; so the difference is known
far better than either distance.

Covers: chance in which studies and cells were looked at, and in which people and answers these hold.
Does not cover: what `bootstrap.py` names.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from socrates.data.records import Cell, cell_order
from socrates.errors import SocratesError
from socrates.evaluation.bootstrap import Interval, Units, Weights, estimate, intervals, sorted_units
from socrates.evaluation.cell_lines import read_cell_lines
from socrates.evaluation.cells import CellScore, named
from socrates.evaluation.metrics import Scores, marginal_errors
from socrates.evaluation.results import CELLS

Array = NDArray[np.float64]

METRICS = (
    "wasserstein_distance",
    "wasserstein_expected",
    "wasserstein_stated_scale",
    "mae",
    "rmse",
    "correlation",
    "correlation_within_cells",
    "accuracy",
    "dispersion",
)
_RANGES = {"correlation": (-1, 1), "correlation_within_cells": (-1, 1), "dispersion": (0, np.inf)}
_RANGES |= {"share_of_the_way": (-np.inf, np.inf)}  # of all others [0, 1]
BOUNDS = ("uniform_guess", "empirical_best", "share_of_the_way", "marginal_accuracy")


def metric_intervals(scores: Scores, seed: int) -> dict[str, Interval | None]:
    """The interval of every number named in `METRICS` and `BOUNDS`; None where the number or its spread is not defined.

    Args:
        scores: of one evaluation.
        seed: of the resamples.
    """
    cells = scores.scored
    found = intervals(cell_units(cells), _Statistics(cells), seed)
    points = {**vars(scores.metrics), **vars(scores.bounds)}
    return {
        name: None if points[name] is None or interval is None else interval.within(*_RANGES.get(name, (0, 1)))
        for name, interval in zip((*METRICS, *BOUNDS), found, strict=True)
    }


def cell_units(cells: Sequence[CellScore]) -> Units:
    """The cells as units of a bootstrap: sorted by study already."""
    return sorted_units([cell.cell.study_id for cell in cells])


def mean_interval(cells: Sequence[Cell], values: Sequence[float], seed: int) -> Interval | None:
    """The interval of a mean over rows, each counting once; None where they are of one cell.

    Args:
        cells: of each row, in any order.
        values: of each row.
        seed: of the resamples.
    """
    by_cell: defaultdict[Cell, list[float]] = defaultdict(list)
    for cell, value in zip(cells, values, strict=True):
        by_cell[cell].append(value)
    names = sorted(by_cell, key=cell_order)
    sums = np.array([math.fsum(by_cell[cell]) for cell in names])
    counts = np.array([len(by_cell[cell]) for cell in names], dtype=np.float64)
    units = sorted_units([cell.study_id for cell in names])
    return intervals(units, lambda weights: weights.pooled_sum(sums) / weights.pooled_sum(counts), seed)[0]


class _Statistics:
    """All numbers of `METRICS` and `BOUNDS` under weights: shape (R, 13). The same definitions as in `metrics.py`."""

    def __init__(self, cells: Sequence[CellScore]) -> None:
        def of(name: str) -> Array:
            return np.array([getattr(cell, name) for cell in cells], dtype=np.float64)  # None becomes NaN

        self.distances = {name: of(name) for name in (*METRICS[:3], "uniform_guess", "empirical_best")}  # each (cells,)
        self.predicted_variance = of("predicted_variance")
        self.human_variance = np.where(np.isnan(self.predicted_variance), np.nan, of("human_variance"))
        self.marginal_error = np.array([marginal_errors(cell).sum() for cell in cells])
        # Sums over each cell's rows with a prediction; answers are centred, so that nothing cancels out.
        self.rows = np.array([cell.n_predicted for cell in cells], dtype=np.float64)
        errors = [np.abs(cell.z_predicted - cell.z_human) for cell in cells]
        self.error = np.array([error.sum() for error in errors])
        self.squared_error = np.array([(error**2).sum() for error in errors])
        pairs = [(cell.z_human - 0.5, cell.z_predicted - 0.5) for cell in cells]
        self.moments = np.array([_sums(x, y) for x, y in pairs])  # (cells, 5)
        self.within = np.array([_sums(x - x.mean(), y - y.mean())[2:] for x, y in pairs])  # (cells, 3)

    def __call__(self, weights: Weights) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            means = {name: weights.mean_of_means(values) for name, values in self.distances.items()}
            rows = weights.pooled_sum(self.rows)
            span = means["uniform_guess"] - means["empirical_best"]
            x, y, xx, yy, xy = (weights.pooled_sum(self.moments) / rows[:, None]).T
            columns = {
                **means,
                "mae": weights.pooled_sum(self.error) / rows,
                "rmse": np.sqrt(weights.pooled_sum(self.squared_error) / rows),
                "correlation": _correlation(xx - x * x, yy - y * y, xy - x * y),
                "correlation_within_cells": _correlation(*weights.pooled_sum(self.within).T),
                "accuracy": 1 - weights.ratio_of_studies(self.error, self.rows),
                "dispersion": np.sqrt(
                    weights.mean_of_means(self.predicted_variance) / weights.mean_of_means(self.human_variance)
                ),
                "share_of_the_way": (means["uniform_guess"] - means["wasserstein_distance"])
                / np.where(span > 0, span, np.nan),
                "marginal_accuracy": 1 - weights.ratio_of_studies(self.marginal_error, self.rows),
            }
        return np.stack([columns[name] for name in (*METRICS, *BOUNDS)], axis=1)


def _sums(x: Array, y: Array) -> tuple[float, float, float, float, float]:
    return x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()


def _correlation(xx: Array, yy: Array, xy: Array) -> Array:
    """Pearson's correlation from (co)variances; NaN where one of them is 0, or only rounding."""
    varies = np.minimum(xx, yy) > 1e-14
    return np.where(varies, xy / np.sqrt(np.where(varies, xx * yy, 1.0)), np.nan)


DISTANCE = "wasserstein_distance"
_ROUNDING = 1e-9


def improvement_interval(
    baseline: Mapping[Cell, float], checkpoint: Mapping[Cell, float], seed: int
) -> Interval | None:
    """The interval of (1 - checkpoint / baseline) x 100, of distances averaged over cells, then over studies.

    Args:
        baseline: the distance of each scored cell, in any order.
        checkpoint: likewise, of the same cells.
        seed: of the resamples.

    Returns:
        The interval in percent; None where there is one cell alone.

    Raises:
        SocratesError: the cells are not the same.
    """
    if set(baseline) != set(checkpoint):
        cell = min(set(baseline) ^ set(checkpoint), key=cell_order)
        raise SocratesError(
            f"these results cannot be compared: {named(cell)} is scored in one of them only; evaluate both on the same "
            "rows"
        )
    units, before = _by_study(baseline)
    _, after = _by_study(checkpoint)

    def improvement(weights: Weights) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (1 - weights.mean_of_means(after) / weights.mean_of_means(before)) * 100

    interval = intervals(units, improvement, seed)[0]
    return interval and interval.within(-math.inf, 100)


def results_improvement(baseline: Path, checkpoint: Path, metrics: Mapping[str, Mapping[str, Any]]) -> Interval | None:
    """The interval of the improvement between two results folders' `metrics.json`, from the `cells.jsonl` beside them.

    Args:
        baseline: path of its `metrics.json`.
        checkpoint: likewise.
        metrics: what stands in both, by "baseline" and "checkpoint".

    Returns:
        The interval in percent; None where a `cells.jsonl` is missing, or where there is one cell alone.

    Raises:
        SocratesError: as of `cell_distances` and `improvement_interval`.
    """
    cells = {"baseline": baseline.with_name(CELLS), "checkpoint": checkpoint.with_name(CELLS)}
    if not all(path.is_file() for path in cells.values()):
        return None
    distances = {role: cell_distances(path, metrics[role]) for role, path in cells.items()}
    return improvement_interval(**distances, seed=metrics["baseline"]["comparability"]["seed"])


def cell_distances(path: Path | str, metrics: Mapping[str, Any]) -> dict[Cell, float]:
    """The distance of each scored cell, from the `cells.jsonl` beside a `metrics.json`.

    Args:
        path: of the `cells.jsonl`.
        metrics: what stands in the `metrics.json`.

    Raises:
        SocratesError: the file cannot be read, or its distances do not average to that of ``metrics``.
    """
    distances: dict[Cell, float] = {}
    for line in read_cell_lines(path):
        if line["skipped"] is None:
            value = line[DISTANCE]
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise SocratesError(
                    f'{path}: "{DISTANCE}" of {named(line["cell"])} must lie between 0 and 1, not {value}'
                )
            distances[line["cell"]] = value
    if not distances or not math.isclose(_mean(distances), metrics[DISTANCE], rel_tol=0, abs_tol=_ROUNDING):
        raise SocratesError(
            f"{path}: is not of the metrics.json beside it (its cells average to another {DISTANCE}); evaluate again"
        )
    return distances


def _mean(distances: Mapping[Cell, float]) -> float:
    units, values = _by_study(distances)
    return float(estimate(units, lambda weights: weights.mean_of_means(values)))


def _by_study(distances: Mapping[Cell, float]) -> tuple[Units, NDArray[np.float64]]:
    """The cells as units of a bootstrap, and their distances in that order."""
    cells = sorted(distances, key=cell_order)
    return sorted_units([cell.study_id for cell in cells]), np.array([distances[cell] for cell in cells])
