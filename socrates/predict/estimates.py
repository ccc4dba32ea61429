"""From each persona's answer probabilities to a population's: distributions, means, differences between conditions.

A condition's distribution is the weighted mean of its personas' distributions, of those answers that measure something:
codes such as "don't know" are no answers here, and their shares are a table of their own. Every persona is asked in
every condition, so a difference compares the same personas.

Covers: 95% intervals over which personas happen to be asked (`bootstrap.py`, personas resampled, all conditions with
the same ones); and what differences to expect of people, by the model's evaluation (`effect_model.py`). Does not
cover: the model's error in means and shares, which no resampling of its own answers can show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from socrates.evaluation.bootstrap import Statistic, Units, Weights, estimate, intervals
from socrates.evaluation.effect_model import EffectModel, prediction_interval
from socrates.predict.contrasts import Contrasts
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


@dataclass(frozen=True)
class Moments:
    """What the answers of N personas in C conditions measure: a mean, or the shares of K options."""

    measures: tuple[str, ...]  # K names
    sums: Array  # (2 K + 1, C, N): of each measure (from ``centre``), its square (NaN: not known), answering
    centre: float  # keeps the digits of a variance of large answers
    width: float  # of the measure's range
    shares: bool = False

    def describe(self, weights: Array | None = None) -> tuple[Array, Array]:
        """Mean, from ``centre``, and variance of answers that are no codes; NaN where there are none.

        Of each persona, (K, C, N); or of populations by the personas' weights, (..., N): (K, C, ...), where the
        variance has what differs between personas and what is open within them.
        """
        sums = self.sums if weights is None else np.tensordot(self.sums, weights, (-1, -1))
        with np.errstate(invalid="ignore", divide="ignore"):
            mean, second = np.split(sums[:-1] / sums[-1], 2)
        return mean, np.maximum(second - mean**2, 0.0)

    def influences(self, shares: Array) -> Array:
        """Shape (K, C, N): how each persona moves a condition's mean, which is a ratio where some give codes."""
        first, answered = self.sums[: len(self.measures)], self.sums[-1]
        return (first - self.describe(shares)[0][..., None] * answered) / (answered @ shares)[:, None]


def moments_of(question: OutcomeQuestion, probabilities: Array) -> Moments:
    """Of a question: ``probabilities`` of its answers, shape (C, N, A), summing to 1 but for codes."""
    values = np.array(question.answers.values, np.float64)
    answered = probabilities.sum(axis=2)[None]
    if question.nominal:
        shown = question.answers.values[: 1 if len(values) == 2 else None]
        measures = tuple(f"share of {value} ({question.labels[value]})" for value in shown)
        shares = np.moveaxis(probabilities, 2, 0)[: len(shown)]
        return Moments(measures, np.concatenate([shares, shares, answered]), 0.0, 1.0, shares=True)
    centre = float(values[0] + values[-1]) / 2
    sums = np.moveaxis(probabilities @ np.stack([values - centre, (values - centre) ** 2], axis=1), 2, 0)
    return Moments(("mean",), np.concatenate([sums, answered]), centre, float(np.ptp(values)))


def index_of(items: Sequence[Moments], is_reversed: Sequence[bool]) -> Moments:
    """Of the mean of several items of one scale, of which some are reversed.

    How one person's answers to several items go together is not predicted, so the spread of an index is not known.
    """
    signs = [(-1 if flipped else 1, np.nan, 1) for flipped in is_reversed]
    sums = sum(np.reshape(sign, (3, 1, 1)) * item.sums for sign, item in zip(signs, items, strict=True))
    return replace(items[0], sums=sums)


def estimate_distributions(
    answers: Mapping[float, str],
    conditions: Sequence[str],
    probabilities: Array,
    weights: Array,
    seed: int,
    *,
    of_all: bool,
) -> pd.DataFrame:
    """A row a condition and answer: `PROBABILITY`, and the answer's label ("": none).

    ``probabilities``, shape (C, N, A), are counted by ``weights``, (N,); ``of_all``: shares are of everybody, else of
    those who give one of these answers.
    """
    tables = []
    for condition, table in zip(conditions, probabilities, strict=True):

        def statistic(resampled: Weights, table: Array = table) -> Array:
            counts = resampled.within * weights
            shares = counts @ table
            of = counts if of_all else shares
            with np.errstate(invalid="ignore"):  # all who count were left out
                return shares / of.sum(axis=1, keepdims=True)

        found = pd.DataFrame(_with_intervals(statistic, len(weights), seed), columns=PROBABILITY)
        tables.append(found.assign(condition=condition, answer=list(answers), label=list(answers.values())))
    return pd.concat(tables)


def estimate_means(moments: Moments, conditions: Sequence[str], weights: Array, seed: int) -> pd.DataFrame:
    """A row a condition: `MEAN` and `SD` of answers in scale points, of which shares have neither."""

    def statistic(resampled: Weights) -> Array:
        mean, variance = moments.describe(resampled.within * weights)
        return np.stack([mean[0], np.sqrt(variance[0])], axis=1).reshape(-1, len(resampled.within)).T

    numbers = np.nan if moments.shares else _with_intervals(statistic, len(weights), seed).reshape(-1, 6)
    found = pd.DataFrame(numbers, range(len(conditions)), [*MEAN, *SD]).assign(condition=list(conditions))
    found[[*MEAN]] += moments.centre  # now, for limits are rounded to some digits
    return found


def estimate_differences(
    moments: Moments, contrasts: Contrasts, people_of: NDArray[np.int64], weights: Array, seed: int
) -> pd.DataFrame:
    """Every comparison, of each measure; the same people see conditions of one number in ``people_of``, (C,).

    Returns:
        A row a `measure` and comparison, which `name` describes; `a` and `b` are both sides, `DIFFERENCE` is b - a,
        `STANDARDIZED` that in units of the answers' standard deviation, the root of the mean variance of the conditions
        that are compared (Cohen's d of two conditions; NaN for shares, and where no answers differ). `by_chance` is
        half the width of the 95% interval that the difference would have in an experiment with as many people in each
        condition as there are personas: what differs between two answers of one person counts for conditions that the
        same people see, where answers are taken as independent but for who gives them.
    """
    names, measures = contrasts.names, moments.measures
    least = _ROUNDING * moments.width
    compared = contrasts.weights != 0
    compared = compared / compared.sum(axis=1, keepdims=True)

    def statistic(resampled: Weights) -> Array:
        """(R, K * E * 4): a, b, difference, standardized."""
        means, variances = moments.describe(resampled.within * weights)
        a, b = contrasts.a @ means, contrasts.b @ means
        difference = np.where(np.abs(b - a) <= least, 0.0, b - a)
        deviation = np.sqrt(compared @ variances)
        known = (deviation > least / 2) & (not moments.shares)
        standardized = difference / np.where(known, deviation, np.nan)
        return np.stack([a, b, difference, standardized], axis=2).reshape(-1, len(resampled.within)).T

    numbers = _with_intervals(statistic, len(weights), seed) if len(names) else np.empty((0, 3))
    a, b, difference, standardized = numbers.reshape(-1, 4, 3).swapaxes(0, 1)
    options = [f"{measure.partition('(')[2][:-1]}: " if len(measures) > 1 else "" for measure in measures]
    found = pd.concat(
        [
            names.assign(measure=measure, name=option + names["name"])
            for measure, option in zip(measures, options, strict=True)
        ],
        ignore_index=True,
    )
    # A difference leaves the centre of both sides where it is, but for effects whose sides are differences themselves.
    for side, of, conditions in (("a", a, contrasts.a), ("b", b, contrasts.b)):
        found[side] = of[:, 0] + moments.centre * np.tile(conditions.sum(axis=1), len(measures))
    found[[*DIFFERENCE]], found[[*STANDARDIZED]] = difference, standardized
    found["by_chance"] = _NORMAL * _standard_errors(moments, contrasts, people_of, weights).ravel()
    return found


def _standard_errors(moments: Moments, contrasts: Contrasts, people_of: NDArray[np.int64], weights: Array) -> Array:
    """Of each difference in an experiment of N people a condition: shape (K, E)."""
    shares = weights / weights.sum()
    influences = moments.influences(shares)
    covariance = (influences * shares) @ influences.swapaxes(1, 2) * (people_of[:, None] == people_of)
    diagonal = np.arange(len(people_of))
    covariance[:, diagonal, diagonal] = moments.describe(shares)[1] / (moments.sums[-1] @ shares)
    squares = np.einsum("ec,kcd,ed->ke", contrasts.weights, covariance, contrasts.weights)
    return np.sqrt(np.maximum(squares, 0.0) / len(weights))


def expect_differences(moments: Moments, contrasts: Contrasts, weights: Array, model: EffectModel) -> Array:
    """Of people: shape (E, 4), as `EXPECTED`, in scale points, of the comparisons of `estimate_differences`.

    The difference of ``moments``, which are of probabilities of the kind that the model of effects was fitted to; the
    true one of people, as if everybody were asked; its 90% interval. The model counts in shares of the range of human
    answers, which is not known before people are asked; the scale's range stands for it, which is no smaller: it leaves
    the expected difference as it is, and the interval is rather too wide. With one persona there is none (NaN).
    """
    shares, people = weights / weights.sum(), np.count_nonzero(weights)
    effect = contrasts.weights @ moments.describe(shares)[0][0] / moments.width
    limits = np.full((2, len(effect)), np.nan)
    if people > 1:
        each = contrasts.weights @ moments.influences(shares)[0] / moments.width  # (E, N)
        error = np.sqrt(each**2 @ shares**2 * people / (people - 1))
        limits = prediction_interval(effect, error, model, weights=(contrasts.weights**2).sum(axis=1))
    return moments.width * np.column_stack([effect, model.slope * effect, *limits])


def sample_answers(values: Array, probabilities: Array, rng: np.random.Generator) -> Array:
    """One answer of each row of ``probabilities``, shape (rows, A): shape (rows,); NaN where none has any."""
    reached = probabilities.cumsum(axis=1)
    whole = reached[:, -1]
    picked = (reached <= (rng.random(len(whole)) * whole)[:, None]).sum(axis=1)
    return np.where(whole > 0, values[np.minimum(picked, len(values) - 1)], np.nan)


def _with_intervals(statistic: Statistic, personas: int, seed: int) -> Array:
    """Each number of a statistic and the limits of its interval, NaN where there is none: shape (K, 3)."""
    units = Units(np.zeros(personas, np.int64))
    limits = [interval or (np.nan, np.nan) for interval in intervals(units, statistic, seed, RESAMPLES)]
    return np.column_stack([estimate(units, statistic), np.reshape(limits, (-1, 2))])
