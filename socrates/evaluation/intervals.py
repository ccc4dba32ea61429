"""95% intervals of all metrics and bounds, and of a mean over rows, from resamples of studies and cells."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from socrates.data.records import Cell, cell_order
from socrates.evaluation.bootstrap import Interval, intervals
from socrates.evaluation.metrics import NAMES, Nominal, Scores, cell_units, nominal_statistics, statistics

_RANGES = dict.fromkeys(("correlation", "correlation_within_cells"), (-1, 1))
_RANGES |= dict.fromkeys(("dispersion", "worth_people"), (0, np.inf))  # of all others [0, 1]


def metric_intervals(scores: Scores, seed: int) -> dict[str, Any]:
    """The interval of every number of `Metrics` and `Bounds`, and under "nominal" of those of `Nominal`.

    None where the number or its spread is not defined.
    """
    kinds = (scores.scored, statistics, NAMES), (scores.nominal, nominal_statistics, Nominal.__annotations__)
    found = (
        intervals(cell_units(cell.cell for cell in cells), of(cells), seed) if cells else [None] * len(names)
        for cells, of, names in kinds
    )
    return by_name(scores, [*chain(*found)])


def by_name(scores: Scores, found: Sequence[Interval | None]) -> dict[str, Any]:
    """Intervals of `NAMES`, then of `Nominal`, within the range of each number."""
    points = {**vars(scores.metrics), **vars(scores.bounds)}
    limits = {
        name: None if points[name] is None else interval and interval.within(*_RANGES.get(name, (0, 1)))
        for name, interval in zip(NAMES, found, strict=False)
    }
    nominal = zip(Nominal.__annotations__, found[len(NAMES) :], strict=True)
    of_nominal = {name: interval and interval.within(0, 1) for name, interval in nominal}
    return {**limits, "nominal": of_nominal if scores.nominal else None}


def mean_interval(cells: Sequence[Cell], values: Sequence[float], seed: int) -> Interval | None:
    """The interval of the mean of ``values`` over rows, each counting once; None where they are of one cell."""
    by_cell: defaultdict[Cell, list[float]] = defaultdict(list)
    for cell, value in zip(cells, values, strict=True):
        by_cell[cell].append(value)
    names = sorted(by_cell, key=cell_order)
    sums = np.array([math.fsum(by_cell[cell]) for cell in names])
    counts = np.array([len(by_cell[cell]) for cell in names], dtype=np.float64)
    return intervals(cell_units(names), lambda weights: weights.pooled_sum(sums) / weights.pooled_sum(counts), seed)[0]
