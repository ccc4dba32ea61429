"""What a guess would score: the exact expectation of a cell's distance when answers are drawn from one distribution.

The empirical distribution function of k answers drawn from a distribution function G is, at each point x, Binomial(k,
G(x)) / k. The expected first Wasserstein distance to a human distribution function F is therefore the integral over x
of E|Binomial(k, G(x)) / k - F(x)|, and the mean absolute deviation of a binomial has a closed form: no draws, no seed.

With G a uniform guess over the scale, that is the paper's "random" line; with G = F, its "empirical best" (human
answers against a bootstrap of themselves, of as many answers as the model gave).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

Array = NDArray[np.float64]

_MOST_VALUES = 10_001  # of a scale, before it is thinned: 1e-4 of its width apart


def expected_distance(human: Array, weights: Array, guess: Array, probabilities: Array, draws: int) -> float:
    """E[first Wasserstein distance] between human answers and ``draws`` independent answers from a guess.

    Args:
        human: shape (n,), distinct human answers, ascending.
        weights: shape (n,), how often each was given (any positive scale).
        guess: shape (m,), distinct answers of the guess, ascending, in the same units.
        probabilities: shape (m,), of each (any positive scale).
        draws: answers drawn, at least 1.

    Returns:
        The expectation, in the units of ``human``.
    """
    points = np.union1d(human, guess)
    at_human, at_guess = _distribution(human, weights, points), _distribution(guess, probabilities, points)
    return float((np.diff(points) * binomial_deviation(draws, at_guess[:-1], at_human[:-1])).sum())


def uniform_answers(scale: Sequence[int] | None, low: float, high: float) -> Array:
    """The answers of a uniform guess, ascending: a scale's, or where none is stated the whole numbers of [low, high].

    Args:
        scale: the valid answers that the question states, ascending; None: it states none.
        low: the smallest human answer.
        high: the largest one.
    """
    if scale is not None:
        values = np.asarray(scale, dtype=np.float64)
    elif high - low < _MOST_VALUES:
        values = np.arange(np.ceil(low), np.floor(high) + 1)
    else:
        values = np.linspace(low, high, _MOST_VALUES)
    if len(values) > _MOST_VALUES:
        values = values[np.linspace(0, len(values) - 1, _MOST_VALUES).round().astype(int)]
    return values if len(values) else np.array([low, high])


def _distribution(values: Array, weights: Array, points: Array) -> Array:
    """The distribution function of a weighted sample at ``points``."""
    cumulative = np.concatenate([[0.0], np.cumsum(weights)])
    return cumulative[np.searchsorted(values, points, side="right")] / cumulative[-1]


def binomial_deviation(draws: int | Array, p: Array, center: Array) -> Array:
    """E|B / draws - center| of B ~ Binomial(draws, p), elementwise; shapes broadcast.

    With c = draws * center: E|B - c| = draws p - c + 2 (c P(B <= c) - draws p P(B' <= c - 1)), B' ~ Binomial(draws - 1,
    p), as b P(B = b) = draws p P(B' = b - 1) (De Moivre; see Diaconis and Zabell 1991, Statistical Science 6, 284-302).
    """
    p, c = np.clip(p, 0.0, 1.0), draws * np.clip(center, 0.0, 1.0)
    below = np.floor(c)
    at_most = bdtr(np.minimum(below, draws), draws, p)
    shifted = np.where(below >= 1, bdtr(np.clip(below - 1, 0, draws - 1), draws - 1, p), 0.0)
    return np.maximum(0.0, draws * p - c + 2 * (c * at_most - draws * p * shifted)) / draws
