"""The interval of an improvement: two results, paired by cells, or by people where the data are split by person."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from socrates.data.records import Cell, cell_order, read_cell
from socrates.errors import SocratesError
from socrates.evaluation.bootstrap import Array, Interval, Weights, estimate, intervals
from socrates.evaluation.cells import named
from socrates.evaluation.lines import read_cell_lines, read_predictions, scored_row
from socrates.evaluation.metrics import Scores, cell_units, score
from socrates.evaluation.people import interval_of, replicates
from socrates.evaluation.results import CELLS, DISTANCE, PREDICTIONS, MetricsFile

_MOST_PROBABILITIES = 2**27  # of the rows of a cell, for any answer of one: a gigabyte
LEAST, MOST = 1e-90, 1e100  # of a distance, and in percent: what a decision can record


def results_improvement(paths: Sequence[Path], metrics: Sequence[MetricsFile]) -> Interval | None:
    """The interval of (1 - checkpoint / baseline) x 100 of two results, from the `cells.jsonl` beside them.

    It is paired: a question that is hard for one model is hard for the other, and their answers to a row are sampled
    with the same luck; so the difference is known far better than either distance.

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
    if any(one.scope for one in metrics):
        return _improvement_of_people(files, metrics)
    before, after = (_cell_distances(*pair) for pair in zip(files, metrics, strict=True))
    if before.keys() != after.keys():
        cell = min(before.keys() ^ after.keys(), key=cell_order)
        raise SocratesError(
            f"these results cannot be compared: {named(cell)} is scored in one of them only; evaluate both on the same "
            "rows"
        )
    old, new = (np.array(list(distances.values())) for distances in (before, after))

    def improvement(weights: Weights) -> Array:
        return (1 - weights.mean_of_means(new) / weights.mean_of_means(old)) * 100

    with np.errstate(all="ignore"):  # a resample of cells without any distance
        found = intervals(cell_units(before), improvement, metrics[0].comparability.seed)[0]
    return found and found.within(-MOST, 100)


def _improvement_of_people(files: Sequence[Path], metrics: Sequence[MetricsFile]) -> Interval | None:
    """The same over people, who are left out of both results alike; from the `predictions.jsonl` beside them."""
    if not all(file.with_name(PREDICTIONS).is_file() for file in files):
        return None
    name, seed = metrics[0].decided_on, metrics[0].comparability.seed

    def distance(scores: Scores) -> Array:  # NaN where there is none
        of = scores.metrics if name == DISTANCE else scores.nominal_metrics
        return np.array([getattr(of, name, None)], np.float64)

    found = []
    for file, one in zip(files, metrics, strict=True):
        humans = {cell: line.human_answers for cell, line in read_cell_lines(file).items()}
        lines = read_predictions(path := file.with_name(PREDICTIONS))
        _check_size(lines, path)
        _check_same(distance(score(map(scored_row, lines), humans)).item(), one, path)
        found.append(replicates(lines, humans, seed, numbers=distance))
    if any(one is None for one in found):
        return None
    old, new = found[0][:, 0], found[1][:, 0]
    before, after = (one.distance for one in metrics)
    with np.errstate(all="ignore"):
        interval = interval_of((1 - after / before) * 100, (1 - new / old) * 100)
    return interval and interval.within(-MOST, 100)


def _check_size(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """SocratesError for more answers than can be compared in hours: results may come from anywhere."""
    cells = defaultdict(list)
    for line in lines:
        cells[read_cell(line, "")].append(line["predicted_distribution"] or {})
    if (size := sum(len(rows) * len(set().union(*rows)) for rows in cells.values())) > _MOST_PROBABILITIES:
        raise SocratesError(f"{path}: cells hold {size:,} probabilities; up to {_MOST_PROBABILITIES:,} are compared")


def _cell_distances(path: Path, metrics: MetricsFile) -> dict[Cell, float]:
    """The distance of each scored cell of a `cells.jsonl`, in order; SocratesError if they are not of the metrics."""
    lines = sorted(read_cell_lines(path).items(), key=lambda item: cell_order(item[0]))
    distances = {cell: distance for cell, line in lines if (distance := getattr(line, metrics.decided_on)) is not None}
    values = np.array(list(distances.values()))
    mean = estimate(cell_units(distances), lambda one: one.mean_of_means(values)) if distances else np.inf
    _check_same(float(mean), metrics, path)
    return distances


def _check_same(distance: float, metrics: MetricsFile, path: Path) -> None:
    if not abs(distance - metrics.distance) <= 1e-9:
        raise SocratesError(
            f"{path}: is not of the metrics.json beside it (its cells average to another {metrics.decided_on}); "
            "evaluate again"
        )
