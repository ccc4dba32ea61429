"""The 95% interval of a checkpoint's improvement on its baseline, paired: both see the same resampled studies and
cells.

A question that is hard for one model is hard for the other, and their answers to a row are drawn with the same luck; so
the difference is known far better than either distance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from socrates.bootstrap import Interval, Weights, intervals, sorted_units
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
        baseline: the distance of each scored cell, in ascending order of studies.
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
    cells = sorted(baseline, key=lambda cell: cell.study_id)
    before, after = (np.array([side[cell] for cell in cells]) for side in (baseline, checkpoint))

    def improvement(weights: Weights) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (1 - weights.mean_of_means(after) / weights.mean_of_means(before)) * 100

    interval = intervals(sorted_units([cell.study_id for cell in cells]), improvement, seed)[0]
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
    if not distances or abs(_mean_of_means(distances) - metrics[DISTANCE]) > _ROUNDING:
        raise SocratesError(
            f"{path}: is not of the metrics.json beside it (its cells average to another {DISTANCE}); evaluate again"
        )
    return distances


def _mean_of_means(distances: Mapping[Cell, float]) -> float:
    studies: dict[str, list[float]] = {}
    for cell, value in distances.items():
        studies.setdefault(cell.study_id, []).append(value)
    return _mean(_mean(values) for values in studies.values())


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)
