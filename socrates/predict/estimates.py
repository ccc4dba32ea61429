"""From each persona's answer probabilities to a population's: distributions, means, differences between conditions.

A condition's distribution is the weighted mean of its personas' distributions. Everybody is asked in every condition,
so a difference compares the same personas.

Covers: 95% intervals over which personas happen to be asked (`bootstrap.py`, personas resampled, all conditions with
the same ones); and what differences to expect of people, by the model's evaluation (`effect_model.py`). Does not
cover: the model's error in means and shares, which no resampling of its own answers can show.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from socrates.evaluation.bootstrap import Statistic, Units, Weights, estimate, intervals
from socrates.evaluation.effect_model import EffectModel, prediction_interval
from socrates.evaluation.effects import shown_pairs
from socrates.predict.experiment import OutcomeQuestion

Array = NDArray[np.float64]

RESAMPLES = 2_000
METHOD = {"method": "bootstrap of personas, the same in all conditions; expanded percentiles", "resamples": RESAMPLES}
_NORMAL = 1.959963984540054  # the standard normal's 97.5% quantile
_ROUNDING = 1e-9  # of a scale's width: what is nearer to 0 than this is 0

EXPECTED = ("judged_difference", "expected", "expected_low", "expected_high")  # see `expect_differences`
PROBABILITY, MEAN, SD, DIFFERENCE, STANDARDIZED = (  # a number and its 95% interval in a table
    ("probability", "low", "high"),
    ("mean", "low", "high"),
    ("sd", "sd_low", "sd_high"),
    ("difference", "low", "high"),
    ("standardized", "standardized_low", "standardized_high"),
)


def estimate_conditions(
    question: OutcomeQuestion, conditions: Sequence[str], probabilities: Array, weights: Array, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The distribution, mean and standard deviation of each condition.

    Args:
        question: that was asked.
        conditions: the names of all C.
        probabilities: shape (C, N, A): of each answer, by condition and persona; summing to 1 over answers.
        weights: shape (N,): how much each persona counts.
        seed: of the resampling.

    Returns:
        A row a condition and answer, and a row a condition: `MEAN` and `SD` in scale points. The standard deviation is
        of answers, so both what differs between personas and what is open within them.
    """
    values = np.array(question.answers.values, np.float64)
    centre = _centre(values)
    distributions, means = [], []
    for condition, table in zip(conditions, probabilities, strict=True):

        def statistic(resampled: Weights, table: Array = table) -> Array:
            shares = _weighted_means(resampled, table, weights)
            mean = shares @ (values - centre)
            variance = np.maximum(shares @ (values - centre) ** 2 - mean**2, 0.0)
            return np.concatenate([shares, mean[:, None], np.sqrt(variance)[:, None]], axis=1)

        *shares, mean, sd = _with_intervals(statistic, len(weights), seed)
        distribution = pd.DataFrame(shares, columns=PROBABILITY)
        distributions.append(distribution.assign(condition=condition, answer=question.answers.values))
        means.append((condition, *(mean + centre), *sd))
    distributions = pd.concat(distributions)
    distributions["label"] = distributions["answer"].map(question.labels)
    return distributions, pd.DataFrame(means, columns=("condition", *MEAN, *SD))


def estimate_differences(
    question: OutcomeQuestion, conditions: Sequence[str], probabilities: Array, weights: Array, seed: int
) -> pd.DataFrame:
    """Every pair of conditions, in their order; with more than `effects.ALL_PAIRS`, the first one against each other.

    Of a nominal question the shares are compared (of the first of two options, of each of more), else means. Arguments
    as of `estimate_conditions`.

    Returns:
        A row a pair and `measure`; `a` and `b` are the measure in the two conditions, `DIFFERENCE` is b - a,
        `STANDARDIZED` a difference of means in units of the answers' standard deviation, sqrt((var_a + var_b) / 2)
        (Cohen's d with equal group sizes; NaN for shares, and where no answers differ), `by_chance` half the width of
        the 95% interval that the difference would have in an experiment with as many people in each condition as there
        are personas, 1.96 sqrt((var_a + var_b) / N). `name` says what is compared.
    """
    first, second = shown_pairs(len(conditions))
    values = np.array(question.answers.values, np.float64)
    centre = 0.0 if question.nominal else _centre(values)
    measures, named = ["mean"], [""]
    scores = (values - centre)[:, None]  # (A, K): of each answer in each measure
    if question.nominal:
        shown = question.answers.values[: 1 if len(values) == 2 else None]
        measures = [f"share of {value} ({question.labels[value]})" for value in shown]
        named = [f"{question.labels[value]}: " for value in shown] if len(shown) > 1 else [""]
        scores = np.eye(len(values))[:, : len(shown)]
    least = _ROUNDING * float(np.ptp(scores))
    moments = np.concatenate([*(probabilities @ scores), *(probabilities @ scores**2)], axis=1)  # (N, 2 * C * K)

    def statistic(resampled: Weights) -> Array:
        """(R, K * pairs * 5): mean of a, of b, difference, standardized, variance in a and b together."""
        means = _weighted_means(resampled, moments, weights).reshape(-1, 2, len(conditions), len(measures))
        a, b = means[:, :, first], means[:, :, second]
        difference = b[:, 0] - a[:, 0]
        difference = np.where(np.abs(difference) > least, difference, 0.0)
        variance = np.maximum(a[:, 1] - a[:, 0] ** 2, 0) + np.maximum(b[:, 1] - b[:, 0] ** 2, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            d = np.where((variance > least**2) & (not question.nominal), difference / np.sqrt(variance / 2), np.nan)
        numbers = np.stack([a[:, 0], b[:, 0], difference, d, variance], axis=-1)
        return numbers.swapaxes(1, 2).reshape(len(numbers), -1)

    numbers = _with_intervals(statistic, len(weights), seed) if len(first) else np.empty((0, 3))
    a, b, difference, standardized, variance = numbers.reshape(-1, 5, 3).swapaxes(0, 1)
    names, copies = np.array(conditions, object), len(measures)
    found = pd.DataFrame({"measure": np.repeat(measures, len(first))})
    found["condition_a"], found["condition_b"] = np.tile(names[first], copies), np.tile(names[second], copies)
    found["name"] = np.repeat(named, len(first)) + found["condition_b"] + " − " + found["condition_a"]
    found["a"], found["b"] = a[:, 0] + centre, b[:, 0] + centre
    found[[*DIFFERENCE]], found[[*STANDARDIZED]] = difference, standardized
    found["by_chance"] = _NORMAL * np.sqrt(variance[:, 0] / len(weights))
    return found


def expect_differences(question: OutcomeQuestion, probabilities: Array, weights: Array, model: EffectModel) -> Array:
    """Of people: shape (pairs, 4), as `EXPECTED`, in scale points, of the pairs of `estimate_differences`.

    The difference of ``probabilities``, which are of the kind that the model of effects was fitted to; the true one of
    people, as if everybody were asked; its 90% interval. The model counts in shares of the range of human answers,
    which is not known before people are asked; the scale's range stands for it, which is no smaller: it leaves the
    expected difference as it is, and the interval is rather too wide. With one persona there is none (NaN).
    """
    first, second = shown_pairs(len(probabilities))
    values = np.array(question.answers.values, np.float64)
    width, shares = float(np.ptp(values)), weights / weights.sum()
    means = probabilities @ ((values - _centre(values)) / width)
    each = means[second] - means[first]  # (pairs, N)
    effect, people = each @ shares, np.count_nonzero(weights)
    limits = np.full((2, len(first)), np.nan)
    if people > 1:
        error = np.sqrt((each - effect[:, None]) ** 2 @ shares**2 * people / (people - 1))
        limits = prediction_interval(effect, error, model)
    return width * np.column_stack([effect, model.slope * effect, *limits])


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


def _with_intervals(statistic: Statistic, personas: int, seed: int) -> Array:
    """Each number of a statistic and the limits of its interval, NaN where there is none: shape (K, 3)."""
    units = Units(np.zeros(personas, np.int64))
    limits = [interval or (np.nan, np.nan) for interval in intervals(units, statistic, seed, RESAMPLES)]
    return np.column_stack([estimate(units, statistic), limits])
