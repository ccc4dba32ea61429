"""The 95% interval of a checkpoint's improvement on its baseline, paired: both see the same resampled studies and
cells.

A question that is hard for one model is hard for the other, and their answers to a row are drawn with the same luck; so
the difference is known far better than either distance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from socrates.bootstrap import Interval, Units, Weights, estimate, intervals, sorted_units
from socrates.cell_lines import read_cell_lines
from socrates.cells import named
from socrates.errors import SocratesError
from socrates.records import Cell, cell_order

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
