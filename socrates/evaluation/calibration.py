"""How much of a distance is width alone: one temperature on a model's answers, fitted to the human ones.

Temperature scaling (Guo et al. 2017, arXiv 1706.04599) of whole answers: p^(1/T), normalised over the valid answers;
T > 1 is wider. T has the least negative log-likelihood of the human answers, each study counting once. It is no
decoding, which acts at each token. Cross-fitted: what is applied to a study was fitted on the others.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import logsumexp

from socrates.data.records import Cell, as_number
from socrates.evaluation.bootstrap import Weights, estimate, intervals
from socrates.evaluation.cells import Array, CellScore, Distribution, ScoredRow, distance_of
from socrates.evaluation.lines import answers_of, scored_row, undecoded_distribution
from socrates.evaluation.metrics import cell_units

LOWEST, HIGHEST = 0.05, 20.0  # temperature that is fitted
_TINY = float(np.finfo(np.float32).tiny)  # in place of 0, for the model's numbers are no smaller
# The likelihood is computed at these logarithms of T, 10% apart, and interpolated: the minimum is off by less than 1e-4
# of T, and any number of studies is left out at no cost.
_GRID = np.linspace(math.log(LOWEST), math.log(HIGHEST), 61)


def fit_temperatures(lines: Iterable[Mapping[str, Any]]) -> tuple[float, dict[str, float]] | None:
    """The temperature of all studies, and for each study that of the others; None where fewer than two can be fitted.

    Of lines of `predictions.jsonl` with probabilities, whose human answer is one that the model may give.
    """
    tables: defaultdict[tuple[str, int], list[list[float]]] = defaultdict(list)
    for line in lines:
        given = undecoded_distribution(line) or {}
        if line["response"] is None:  # of many people
            continue
        own = given.pop(str(as_number(line["response"])), _TINY)
        if given and line["response"] in scored_row(line).scale:  # the human answer's first, then the others'
            tables[line["study_id"], len(given)].append([own, *given.values()])
    losses: defaultdict[str, Array] = defaultdict(lambda: np.zeros(len(_GRID)))
    rows: Counter[str] = Counter()
    for (study, _), table in tables.items():
        logarithms = np.log(table)
        losses[study] += [(logsumexp(logarithms / t, axis=1) - logarithms[:, 0] / t).sum() for t in np.exp(_GRID)]
        rows[study] += len(table)
    if len(losses) < 2:
        return None
    means = {study: loss / rows[study] for study, loss in losses.items()}
    total = np.sum(list(means.values()), axis=0)
    return _lowest(total), {study: _lowest(total - mean) for study, mean in means.items()}


def calibrated(distribution: Mapping[str, float], temperature: float) -> dict[str, float]:
    """Each probability to the power 1 / temperature, normalised."""
    powers = np.array(list(distribution.values())) ** (1 / temperature)
    return dict(zip(distribution, (powers / powers.sum()).tolist(), strict=True))


def calibrated_numbers(lines: Sequence[Mapping[str, Any]], scored: Sequence[CellScore], seed: int) -> dict[str, Any]:
    """What stands in `metrics.json`: the mean distance of the scored cells with every study at its temperature.

    Rows that were answered by sampling have no probabilities, and keep their distribution.
    """
    if not scored or (fitted := fit_temperatures(lines)) is None:
        return {"wasserstein_calibrated": None, "wasserstein_calibrated_ci95": None, "calibration": {}}
    every, of_others = fitted
    given: defaultdict[Cell, list[ScoredRow]] = defaultdict(list)
    for line in lines:
        row = scored_row(line)
        if own := undecoded_distribution(line):
            wider = calibrated(own, of_others.get(row.cell.study_id, every))
            row = replace(row, distribution=Distribution(answers_of(tuple(wider)), tuple(wider.values())))
        if row.prediction is not None:
            given[row.cell].append(row)
    distances = np.array([distance_of(cell, given[cell.cell]) for cell in scored], dtype=np.float64)
    units = cell_units(cell.cell for cell in scored)
    mean = partial(Weights.mean_of_means, values=distances)
    limits = intervals(units, mean, seed)[0]
    return {
        "wasserstein_calibrated": float(estimate(units, mean)),
        "wasserstein_calibrated_ci95": limits and limits.within(0, 1),
        "calibration": {"temperature": every},
    }


def _lowest(losses: Array) -> float:
    """The temperature of the least loss; the loss is convex in 1 / T, so there is one."""
    spline = CubicSpline(_GRID, losses)
    places = [*spline.derivative().roots(extrapolate=False), _GRID[0], _GRID[-1]]
    return float(np.clip(np.exp(min(places, key=spline)), LOWEST, HIGHEST))
