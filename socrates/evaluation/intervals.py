"""95% intervals of all metrics and bounds, and of a checkpoint's improvement, from resamples of studies and cells.

The improvement is paired: a question that is hard for one model is hard for the other, and their answers to a row are
sampled with the same luck; so the difference is known far better than either distance.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from socrates.data.records import Cell, cell_order
from socrates.errors import SocratesError
from socrates.evaluation.bootstrap import Interval, Weights, estimate, intervals
from socrates.evaluation.cell_lines import read_cell_lines
from socrates.evaluation.cells import named
from socrates.evaluation.gate import DISTANCE
from socrates.evaluation.metrics import NAMES, Scores, cell_units, statistics
from socrates.evaluation.results import CELLS, MetricsFile

Array = NDArray[np.float64]

_RANGES = {"correlation": (-1, 1), "correlation_within_cells": (-1, 1), "dispersion": (0, np.inf)}
_RANGES |= {"share_of_the_way": (-np.inf, np.inf)}  # of all others [0, 1]


def metric_intervals(scores: Scores, seed: int) -> dict[str, Interval | None]:
    """The interval of every number of `Metrics` and `Bounds`; None where the number or its spread is not defined."""
    cells = scores.scored
    found = intervals(cell_units(cell.cell for cell in cells), statistics(cells), seed)
    points = {**vars(scores.metrics), **vars(scores.bounds)}
    return {
        name: None if points[name] is None else interval and interval.within(*_RANGES.get(name, (0, 1)))
        for name, interval in zip(NAMES, found, strict=True)
    }


def mean_interval(cells: Sequence[Cell], values: Sequence[float], seed: int) -> Interval | None:
    """The interval of the mean of ``values`` over rows, each counting once; None where they are of one cell."""
    by_cell: defaultdict[Cell, list[float]] = defaultdict(list)
    for cell, value in zip(cells, values, strict=True):
        by_cell[cell].append(value)
    names = sorted(by_cell, key=cell_order)
    sums = np.array([math.fsum(by_cell[cell]) for cell in names])
    counts = np.array([len(by_cell[cell]) for cell in names], dtype=np.float64)
    return intervals(cell_units(names), lambda weights: weights.pooled_sum(sums) / weights.pooled_sum(counts), seed)[0]


def results_improvement(paths: Sequence[Path], metrics: Sequence[MetricsFile]) -> Interval | None:
    """The interval of (1 - checkpoint / baseline) x 100 of two results, from the `cells.jsonl` beside them.

    Args:
        paths: of the baseline's and the checkpoint's `metrics.json`.
        metrics: what stands in them.

    Returns:
        The interval in percent; None where a `cells.jsonl` is missing, or where there is one cell alone.

    Raises:
        SocratesError: a `cells.jsonl` cannot be read or is not of the `metrics.json` beside it; or the two are not of
            the same cells.
    """
    files = [path.with_name(CELLS) for path in paths]
    if not all(path.is_file() for path in files):
        return None
    means = [one.wasserstein_distance for one in metrics]
    before, after = (_cell_distances(*pair) for pair in zip(files, means, strict=True))
    if before.keys() != after.keys():
        cell = min(before.keys() ^ after.keys(), key=cell_order)
        raise SocratesError(
            f"these results cannot be compared: {named(cell)} is scored in one of them only; evaluate both on the same "
            "rows"
        )
    old, new = (np.array(list(distances.values())) for distances in (before, after))

    def improvement(weights: Weights) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (1 - weights.mean_of_means(new) / weights.mean_of_means(old)) * 100

    interval = intervals(cell_units(before), improvement, metrics[0].comparability.seed)[0]
    return interval and interval.within(-math.inf, 100)


def _cell_distances(path: Path, mean: float) -> dict[Cell, float]:
    """The distance of each scored cell of a `cells.jsonl`, in order; SocratesError if their mean is not ``mean``."""
    lines = sorted(read_cell_lines(path).items(), key=lambda item: cell_order(item[0]))
    distances = {cell: line.wasserstein_distance for cell, line in lines if line.wasserstein_distance is not None}
    values = np.array(list(distances.values()))
    if not distances or abs(estimate(cell_units(distances), lambda one: one.mean_of_means(values)) - mean) > 1e-9:
        raise SocratesError(
            f"{path}: is not of the metrics.json beside it (its cells average to another {DISTANCE}); evaluate again"
        )
    return distances
