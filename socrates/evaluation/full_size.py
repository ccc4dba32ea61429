"""What asking everybody in a cell would give, estimated from the answer probabilities of those who were asked.

The paper draws one answer a person, of all people of a cell. At each point x the share of drawn answers at or below it
is then a sum over persons, and the expected first Wasserstein distance is the integral of E|share - F(x)|. Where all
persons have one distribution that sum is binomial, and the expectation has a closed form. Where each has their own, it
varies less (Poisson-binomial): the closed form is then corrected by the difference of two normal approximations, one
with the variance that it has, one with the binomial's. `benchmarks/bench_gate.py` compares it with literal draws.

Whoever was not asked adds to the distance: the mean of few persons lies off everybody's. A jackknife over the asked
ones takes most of that away, the more of a cell was asked the less there is; with everybody asked there is nothing.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, erf

Array = NDArray[np.float64]

_NO_VARIANCE = 1e-30  # below any that is not rounding
GROUPS = 64  # of people that the jackknife leaves out
_DIGITS = 12  # of a probability: what lies beyond is rounding, and its root would not be


def full_size_deviation(
    people: Array,
    human: Array,
    draws: int | Array,
    *,
    weights: Array | None = None,
    asked: float | None = None,
    groups: int = GROUPS,
    jackknifed: bool = True,
) -> Array:
    """E|share of people who answer at most x - human share|, one answer drawn for each of ``draws`` people.

    Args:
        people: shape (..., asked): each asked person's probability of an answer of at most x.
        human: shape (...): the share of human answers of at most x.
        draws: people in the cell, those asked included; () or shape (...).
        weights: shape (asked,), of those asked; None: they count alike.
        asked: how many people they stand for, with weights the effective number; None: themselves.
        groups: of people that the jackknife leaves out; of more people each takes several.
        jackknifed: whether the bias by those not asked is estimated and taken away (Quenouille 1956, Biometrika 43,
            353-360; times the finite population's 1 - asked / draws).

    Returns:
        shape (...), in shares; jackknifed it may be a little below 0.
    """
    people, human, draws = np.round(people, _DIGITS), np.asarray(human), np.asarray(draws)
    own = people * (1 - people)  # variance of one person's draw
    rows = people.shape[-1]
    weights = np.ones(rows) if weights is None else weights / weights.max()  # all alike: no digit is another
    total = weights.sum()
    mean, within = ((one * weights).sum(axis=-1) / total for one in (people, own))
    plain = _deviation(mean, within, human, draws)
    asked = rows if asked is None else asked
    if not jackknifed or rows == 1 or np.all(draws <= asked):
        return plain
    groups = min(rows, groups)
    group = np.random.default_rng(0).permutation(rows) % groups
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    kept = np.maximum(total - np.add.reduceat(weights[order], starts), _NO_VARIANCE)  # one may outweigh all others
    others = [
        (total * all_[..., None] - np.add.reduceat((one * weights)[..., order], starts, axis=-1)) / kept
        for all_, one in ((mean, people), (within, own))
    ]
    without = _deviation(*np.clip(others, 0.0, 1.0), human[..., None], draws[..., None]).mean(axis=-1)
    return plain - (1 - asked / draws) * (groups - 1) * (without - plain)


def _deviation(mean: Array, within: Array, human: Array, draws: Array) -> Array:
    """E|S / draws - human| of a sum S of draws that are 1 with ``mean`` on average, of variance draws x ``within``."""
    apart = mean - human
    corrected = _normal(apart, within / draws) - _normal(apart, mean * (1 - mean) / draws)
    return np.maximum(np.abs(apart), binomial_deviation(draws, mean, human) + corrected)  # Jensen's inequality


def _normal(mean: Array, variance: Array) -> Array:
    """E|X| of a normal X (Leone, Nelson and Nottingham 1961, Technometrics 3, 543-550)."""
    sd = np.sqrt(np.maximum(variance, _NO_VARIANCE))
    z = mean / (math.sqrt(2) * sd)
    return math.sqrt(2 / math.pi) * sd * np.exp(-(z**2)) + mean * erf(z)


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
