"""How accurate predictions are for each group of people, and how far groups are apart.

The accuracy of an answer is 1 - abs(z prediction - z human), in units of its cell's human range (`metrics.py`); every
answer counts once. A field's *demographic parity difference* is the accuracy of its best predicted group minus that of
its worst (Park et al. 2024, arXiv 2411.10109; the paper, arXiv 2509.05830, reports it without a formula).

Groups answer different questions, some of them easier. Accuracies are therefore compared *within cells* too: the
accuracy of an answer minus the mean of its cell, over the cells in which several groups answered. And the largest minus
the smallest of several noisy numbers is above 0 even where no group is predicted better: beside each difference stands
what would be expected of it if the people of each cell were dealt to its groups by chance.

Does not cover: why groups differ; that the several answers of one person are alike, which makes differences by chance
somewhat larger than computed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from socrates.data.demographics import NOT_KNOWN, find_groups
from socrates.data.records import Cell, cell_order
from socrates.evaluation.bootstrap import RESAMPLES, Units, Weights, estimate, intervals, sorted_units
from socrates.evaluation.effects import number_or_none

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

LEAST_ROWS = 50  # an answer's accuracy has a standard deviation of about 0.25, so that the mean of 50 is known to 0.07
DIFFERENCES = {"accuracy": "parity_difference", "accuracy_within_cells": "parity_difference_within_cells"}
_DRAWS = 10_000  # for what is expected by chance, which is then known to about 1% of itself


def accuracy_by_group(
    cells: Sequence[Cell],
    accuracy: Array,
    demographics: Sequence[Mapping[str, Any]],
    seed: int,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Accuracy by group, and parity differences, of every demographic field; JSON-ready.

    Args:
        cells: of each scored row, in any order.
        accuracy: shape (rows,), in [0, 1].
        demographics: of each row, field -> text, number or null.
        seed: of the resamples and of what is expected by chance.
        resamples: number of them.

    Returns:
        By field:
            rows_known: rows whose group is known.
            groups: {group, rows, accuracy, accuracy_within_cells} of each group with `LEAST_ROWS` rows, the last two
                with ``_ci95``. accuracy_within_cells is a difference, 0 for a group that is predicted like the others.
            small_groups: number of the others, which take part in cells' means only.
            parity_difference, parity_difference_within_cells: largest minus smallest of the groups' numbers; each with
                ``_ci95`` (of the difference between the best and the worst group, so that it reaches below 0 where
                their order is in doubt) and ``_by_chance``.
        null: not defined (fewer than two groups; a group with no cell to compare in); as an interval: too few studies
        know of the group.

    Raises:
        SocratesError: a demographic value is neither a text, a number nor null.
    """
    if not len(cells):
        return {}
    names = sorted(set(cells), key=cell_order)
    index = {cell: position for position, cell in enumerate(names)}
    of_rows = np.array([index[cell] for cell in cells])
    order = np.lexsort((accuracy, of_rows))  # sums then do not depend on the order of rows, in no digit
    of_rows, accuracy = of_rows[order], np.asarray(accuracy)[order]
    units = sorted_units([cell.study_id for cell in names])
    result = {}
    for field, groups in find_groups(demographics).items():
        tally = _tally(groups.names, groups.of_rows[order], of_rows, accuracy, len(names))
        result[field] = _of_field(tally, units, seed, resamples)
    return result


def _of_field(tally: _Tally, units: Units, seed: int, resamples: int) -> dict[str, Any]:
    size, rows = len(tally.names), tally.number.sum(axis=0, dtype=int).tolist()
    table = np.concatenate([tally.accuracy, tally.above, tally.number, tally.compared], axis=1)

    def of_groups(weights: Weights) -> Array:
        """Of every group the accuracy, then of every group that within cells: (R, 2 x groups)."""
        sums, numbers = np.split(weights.pooled_sum(table), 2, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return sums / numbers

    points = estimate(units, of_groups)
    extremes = [_extremes(points, slice(0, size)), _extremes(points, slice(size, 2 * size))]

    def statistic(weights: Weights) -> Array:
        """The same, then the difference of either between the best and the worst group."""
        each = of_groups(weights)
        none = np.full(len(each), np.nan)
        return np.column_stack([each, *(each[:, pair[0]] - each[:, pair[1]] if pair else none for pair in extremes)])

    numbers = [number_or_none(value) for value in estimate(units, statistic)]
    least = [0] * size + [-1] * (size + 2)  # accuracies; then differences
    found = zip(intervals(units, statistic, seed, resamples), least, strict=True)
    limits = [interval and interval.within(low, 1) for interval, low in found]
    groups = [{"group": name, "rows": count} for name, count in zip(tally.names, rows, strict=True)]
    result = {"rows_known": int(tally.known.sum()), "groups": groups, "small_groups": tally.small_groups}
    for place, (measure, difference) in enumerate(DIFFERENCES.items()):
        for column, group in enumerate(groups, start=place * size):
            group |= {measure: numbers[column], f"{measure}_ci95": limits[column]}
        result |= {
            difference: numbers[2 * size + place],
            f"{difference}_ci95": limits[2 * size + place],
            f"{difference}_by_chance": _by_chance(tally, measure, seed) if extremes[place] else None,
        }
    return result


def _extremes(values: Array, columns: slice) -> tuple[int, int] | None:
    """Which of some columns have the largest and the smallest value; None where not two have one."""
    order = columns.start + np.argsort(-values[columns], kind="stable")
    order = order[np.isfinite(values[order])]
    return (order[0], order[-1]) if len(order) > 1 else None


@dataclass(frozen=True)
class _Tally:
    """One field: counts and sums over each cell's rows whose group is known."""

    names: tuple[str, ...]  # of the G groups with enough rows
    small_groups: int  # number of the others
    number: Array  # shape (cells, G): rows of each cell and group
    accuracy: Array  # shape (cells, G): sum of their accuracies
    known: Indices  # shape (cells,): rows of any known group
    mean: Array  # shape (cells,): their mean accuracy; 0 where there are none
    variance: Array  # shape (cells,): of their accuracies, with divisor known - 1; 0 where there are fewer than two

    @property
    def compared(self) -> Array:
        """``number`` in the cells that have people of several groups; 0 in the others."""
        return self.number * (self.number.max(axis=1, initial=0) < self.known)[:, None]

    @property
    def above(self) -> Array:
        """Sums over the compared rows of an answer's accuracy minus the mean of its cell: shape (cells, G)."""
        return self.accuracy - self.number * self.mean[:, None]  # 0 but for rounding where one group is alone


def _tally(names: Sequence[str], group: Indices, cell: Indices, accuracy: Array, cells: int) -> _Tally:
    is_known = group != NOT_KNOWN
    group, cell, accuracy = group[is_known], cell[is_known], accuracy[is_known]
    known = np.bincount(cell, minlength=cells)
    mean = np.bincount(cell, accuracy, cells) / np.maximum(known, 1)
    variance = np.bincount(cell, (accuracy - mean[cell]) ** 2, cells) / np.maximum(known - 1, 1)
    large = np.flatnonzero(np.bincount(group, minlength=len(names)) >= LEAST_ROWS)
    column = np.full(len(names), len(large))  # small groups share a column, which is then dropped
    column[large] = np.arange(len(large))
    shape = cells, len(large) + 1
    flat = cell * shape[1] + column[group]
    number, total = (
        np.bincount(flat, weights, cells * shape[1]).reshape(shape)[:, :-1] for weights in (None, accuracy)
    )
    return _Tally(tuple(names[i] for i in large), len(names) - len(large), number, total, known, mean, variance)


def _by_chance(tally: _Tally, measure: str, seed: int) -> float | None:
    """What is expected of a measure's difference if the people of each cell are dealt to its groups by chance.

    A group's sum of accuracies has then the mean and the covariances of draws without replacement from every cell, and
    over dozens of rows it is close to normal. Drawn as such, no row has to be permuted.
    """
    shares = tally.number / np.maximum(tally.known, 1)[:, None]
    covariance = np.diag(tally.variance @ tally.number) - (tally.variance[:, None] * tally.number).T @ shares
    rng = np.random.default_rng(seed)
    sums = rng.multivariate_normal(np.zeros(len(covariance)), covariance, _DRAWS, check_valid="ignore")
    rows = tally.compared
    if measure == "accuracy":
        sums, rows = sums + tally.mean @ tally.number, tally.number
    with np.errstate(invalid="ignore", divide="ignore"):
        values = sums / rows.sum(axis=0)
    return number_or_none(np.mean(np.nanmax(values, axis=1) - np.nanmin(values, axis=1)))
