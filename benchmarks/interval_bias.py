"""How far a cell's distance lies above the one of infinitely many answers, for `bench_intervals.py`.

Two samples of one distribution are never equal: the distance between samples of n and k answers is larger than the one
between what they are drawn from. On a scale whose range is known, the distance is a sum over the scale's cuts j of
abs(B(n, F_j) / n - B(k, G_j) / k), B being binomial and F, G the cumulative distributions; its expectation is summed
here over all values of both: exact. With the range that n human answers happen to have there is no such form: it is
simulated.
"""

from __future__ import annotations

import numpy as np
from interval_designs import POINTS, Array, distances_of, probabilities
from scipy.optimize import brentq
from scipy.stats import binom

ANSWERS = (5, 10, 20, 50, 200)
_SCALE = 7
_MODEL_SD = 0.9  # of the model's opinion, the human one's being 1


def pair(distance: float) -> tuple[Array, Array]:
    """Human answers' and a model's distribution over a 7-point scale at this distance (of the scale's range)."""
    human = _distribution(0.0, 1.0)
    shift = brentq(lambda x: _distance(human, _distribution(x, _MODEL_SD)) - distance, 0.0, 3.0)
    return human, _distribution(shift, _MODEL_SD)


def expected(human: Array, model: Array, n: int | None, k: int) -> float:
    """Expected distance of n human answers (None: infinitely many) and k predictions, on the scale's range; exact."""
    total = 0.0
    for f, g in zip(np.cumsum(human)[: _SCALE - 1], np.cumsum(model)[: _SCALE - 1], strict=True):
        shares = np.array([f]) if n is None else np.arange(n + 1) / n
        weights = np.ones(1) if n is None else binom.pmf(np.arange(n + 1), n, f)
        apart = np.abs(shares[:, None] - np.arange(k + 1) / k)
        total += weights @ apart @ binom.pmf(np.arange(k + 1), k, g)
    return total / (_SCALE - 1)


def simulated(human: Array, model: Array, n: int, k: int, cells: int, seed: int) -> tuple[float, float, float]:
    """Mean distance of so many cells, its standard error, and the mean on the scale's range instead of the observed."""
    rng = np.random.default_rng(seed)
    counts, predicted = rng.multinomial(n, human, cells), rng.multinomial(k, model, cells)
    observed = distances_of(counts, predicted)[0]
    observed = observed[~np.isnan(observed)]
    stated = np.abs(np.cumsum(counts, axis=1) / n - np.cumsum(predicted, axis=1) / k)[:, : _SCALE - 1].sum(axis=1)
    error = float(observed.std() / np.sqrt(len(observed)))
    return float(observed.mean()), error, float(stated.mean() / (_SCALE - 1))


def _distribution(mean: float, sd: float) -> Array:
    row = probabilities(np.array([mean]), sd, np.array([_SCALE]))[0]
    assert len(row) == POINTS
    return row


def _distance(human: Array, model: Array) -> float:
    return float(np.abs(np.cumsum(human - model)).sum() / (_SCALE - 1))
