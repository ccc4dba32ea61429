"""From each persona's answer probabilities to a population's: distributions, means, differences between conditions.

A condition's distribution is the weighted mean of its personas' distributions. Everybody is asked in every condition,
so a difference compares the same personas.

Covers: 95% intervals over which personas happen to be asked (`bootstrap.py`, personas resampled, all conditions with
the same ones). Does not cover: the model's error, which no resampling of its own answers can show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from socrates.evaluation.bootstrap import Interval, Statistic, Units, Weights, estimate, intervals
from socrates.evaluation.effects import shown_pairs
from socrates.report.results_folders import Value

Array = NDArray[np.float64]

RESAMPLES = 2_000
METHOD = "bootstrap of personas, the same in all conditions; expanded percentiles"
MEAN = "mean"
_NORMAL = 1.959963984540054  # the standard normal's 97.5% quantile
_ROUNDING = 1e-9  # of a scale's width: what is nearer to 0 than this is 0


@dataclass(frozen=True)
class ConditionEstimate:
    """The answers of one condition.

    Attributes:
        shares: probability of each answer, in the order of the scale.
        mean: scale points.
        sd: scale points; of answers, so both what differs between personas and what is open within them.
    """

    shares: tuple[Value, ...]
    mean: Value
    sd: Value


@dataclass(frozen=True)
class Difference:
    """Condition b minus condition a.

    Attributes:
        a: index of the condition.
        b: likewise.
        measure: `MEAN`, or the answer whose share it is.
        of_a: the measure in a: scale points, or a share.
        of_b: likewise.
        difference: of_b - of_a.
        standardized: a difference of means in units of the answers' standard deviation, sqrt((var_a + var_b) / 2)
            (Cohen's d with equal group sizes); None for shares, and where no answers differ.
        by_chance: half the width of the 95% interval that this difference would have in an experiment with as many
            people in each condition as there are personas: 1.96 sqrt((var_a + var_b) / N).
    """

    a: int
    b: int
    measure: str | int
    of_a: float
    of_b: float
    difference: Value
    standardized: Value
    by_chance: float


def estimate_conditions(values: Array, probabilities: Array, weights: Array, seed: int) -> list[ConditionEstimate]:
    """The distribution, mean and standard deviation of each condition.

    Args:
        values: shape (A,): the scale, ascending.
        probabilities: shape (C, N, A): of each answer, by condition and persona; summing to 1 over answers.
        weights: shape (N,): how much each persona counts.
        seed: of the resampling.
    """
    centre = _centre(values)

    def estimated(table: Array) -> ConditionEstimate:
        def statistic(resampled: Weights) -> Array:
            shares = _weighted_means(resampled, table, weights)
            mean = shares @ (values - centre)
            variance = np.maximum(shares @ (values - centre) ** 2 - mean**2, 0.0)
            return np.concatenate([shares, mean[:, None], np.sqrt(variance)[:, None]], axis=1)

        *shares, mean, sd = _with_intervals(statistic, len(weights), seed)
        limits = mean.limits and Interval(*(limit + centre for limit in mean.limits))
        return ConditionEstimate(tuple(shares), Value(mean.value + centre, limits), sd)

    return [estimated(table) for table in probabilities]


def estimate_differences(
    values: Array, probabilities: Array, weights: Array, seed: int, *, options: bool
) -> list[Difference]:
    """Every pair of conditions, in their order; with more than `effects.ALL_PAIRS`, the first one against each other.

    Args:
        values: as of `estimate_conditions`; likewise the next three.
        probabilities: see there.
        weights: see there.
        seed: see there.
        options: whether answers are options: then shares are compared (of the first of two, of each of more), since
            their numbers mean nothing; else means.
    """
    first, second = shown_pairs(len(probabilities))
    if not len(first):
        return []
    centre = 0.0 if options else _centre(values)
    measures: list[str | int] = [MEAN]
    scores = (values - centre)[:, None]  # (A, K): of each answer in each measure
    if options:
        shown = 1 if len(values) == 2 else len(values)
        measures, scores = [int(value) for value in values[:shown]], np.eye(len(values))[:, :shown]
    least = _ROUNDING * float(np.ptp(scores))
    moments = np.concatenate([*(probabilities @ scores), *(probabilities @ scores**2)], axis=1)  # (N, 2 * C * K)

    def statistic(resampled: Weights) -> Array:
        """(R, K * pairs * 5): mean of a, of b, difference, standardized, variance in a and b together."""
        means = _weighted_means(resampled, moments, weights).reshape(-1, 2, len(probabilities), len(measures))
        a, b = means[:, :, first], means[:, :, second]
        difference = b[:, 0] - a[:, 0]
        difference = np.where(np.abs(difference) > least, difference, 0.0)
        variance = np.maximum(a[:, 1] - a[:, 0] ** 2, 0) + np.maximum(b[:, 1] - b[:, 0] ** 2, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            d = np.where((variance > least**2) & (not options), difference / np.sqrt(variance / 2), np.nan)
        numbers = np.stack([a[:, 0], b[:, 0], difference, d, variance], axis=-1)
        return numbers.swapaxes(1, 2).reshape(len(numbers), -1)

    numbers = iter(_with_intervals(statistic, len(weights), seed))
    found = []
    for measure in measures:
        for a, b in zip(first, second, strict=True):
            of_a, of_b, difference, standardized, variance = (next(numbers) for _ in range(5))
            by_chance = _NORMAL * math.sqrt(variance.value / len(weights))
            both = (of_a.value + centre, of_b.value + centre)
            found.append(Difference(int(a), int(b), measure, *both, difference, standardized, by_chance))
    return found


def sample_answers(values: Array, probabilities: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    """One answer of each row of ``probabilities``, shape (rows, A): shape (rows,)."""
    reached = probabilities.cumsum(axis=1)
    picks = (rng.random(len(probabilities)) * reached[:, -1])[:, None]
    return values.astype(np.int64)[np.minimum((reached <= picks).sum(axis=1), len(values) - 1)]


def _centre(values: Array) -> float:
    """What moments are taken around, so that a variance of large answers is not lost in rounding."""
    return float(values[0] + values[-1]) / 2


def _weighted_means(resampled: Weights, columns: Array, weights: Array) -> Array:
    """Means over personas of ``columns``, shape (N, K), in each resample: shape (R, K)."""
    counts = resampled.within * weights
    with np.errstate(invalid="ignore", divide="ignore"):  # all that count were left out of a resample: not defined
        return (counts @ columns) / counts.sum(axis=1, keepdims=True)


def _with_intervals(statistic: Statistic, personas: int, seed: int) -> list[Value]:
    units = Units(np.zeros(personas, np.int64))
    limits = intervals(units, statistic, seed, RESAMPLES)
    found = estimate(units, statistic).tolist()
    return [Value(*both) if math.isfinite(both[0]) else Value(None) for both in zip(found, limits, strict=True)]
