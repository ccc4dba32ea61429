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
    """What the answers of N personas in C conditions measure: a mean, or the shares of K options.

    Sums over valid answers, weighted by their probabilities; a population's is the sum over personas of one of them by
    that of ``answered``.
    """

    measures: tuple[str, ...]  # K names
    sums: Array  # shape (2 K + 1, C, N): `first`, `second`, `answered`
    centre: float  # keeps the digits of a variance of large answers
    width: float  # of the measure's range
    shares: bool = False

    @property
    def first(self) -> Array:
        """Shape (K, C, N): of the measure, from ``centre``."""
        return self.sums[: len(self.measures)]

    @property
    def second(self) -> Array:
        """Shape (K, C, N): of its square; NaN where it is not known (an index)."""
        return self.sums[len(self.measures) : -1]

    @property
    def answered(self) -> Array:
        """Shape (C, N): probability of an answer that is no code."""
        return self.sums[-1]

    @property
    def expected(self) -> Array:
        """Shape (K, C, N): of each persona's answers that are no codes."""
        return _ratio(self.first, self.answered) + self.centre

    def variances(self, weights: Array) -> Array:
        """Shape (K, C): of a population's answers, what differs between personas and what is open within them."""
        first, second, answered = (side @ weights for side in (self.first, self.second, self.answered))
        return np.maximum(_ratio(second, answered) - _ratio(first, answered) ** 2, 0.0)

    def of(self, chosen: NDArray[np.bool_]) -> Moments:
        """Of some of the personas."""
        return replace(self, sums=self.sums[..., chosen])


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
    """Shares of each answer: a row a condition and answer, `PROBABILITY` and its label.

    Args:
        answers: A of them, with their labels ("": none).
        conditions: the names of all C.
        probabilities: shape (C, N, A): of each answer, by condition and persona.
        weights: shape (N,): how much each persona counts.
        seed: of the resampling.
        of_all: whether shares are of everybody; else of those who give one of these answers.
    """
    tables = []
    for condition, table in zip(conditions, probabilities, strict=True):

        def statistic(resampled: Weights, table: Array = table) -> Array:
            shares = _weighted_means(resampled, table, weights)
            return shares if of_all else _ratio(shares, shares.sum(axis=1, keepdims=True))

        found = pd.DataFrame(_with_intervals(statistic, len(weights), seed), columns=PROBABILITY)
        tables.append(found.assign(condition=condition, answer=list(answers), label=list(answers.values())))
    return pd.concat(tables)


def estimate_means(moments: Moments, conditions: Sequence[str], weights: Array, seed: int) -> pd.DataFrame:
    """Mean and standard deviation of answers in each condition: a row each, `MEAN` and `SD` in scale points.

    The standard deviation holds what differs between personas and what is open within them. Shares have neither.
    """
    rows = np.full((len(conditions), 2, 3), np.nan)
    for row, sums in zip(rows, moments.sums.swapaxes(0, 1), strict=True):

        def statistic(resampled: Weights, sums: Array = sums) -> Array:
            first, second, answered = _weighted_means(resampled, sums.T, weights).T
            mean = _ratio(first, answered)
            return np.stack([mean, np.sqrt(np.maximum(_ratio(second, answered) - mean**2, 0.0))], axis=1)

        if not moments.shares:
            row[:] = _with_intervals(statistic, len(weights), seed)
    rows[:, 0] += moments.centre
    found = pd.DataFrame(rows.reshape(-1, 6), columns=[*MEAN, *SD])
    return found.assign(condition=list(conditions))


def estimate_differences(
    moments: Moments, contrasts: Contrasts, people_of: NDArray[np.int64], weights: Array, seed: int
) -> pd.DataFrame:
    """Every comparison, of each measure.

    Args:
        moments: of all personas' answers.
        contrasts: which sums of conditions are compared.
        people_of: shape (C,): the same number for conditions that the same people see.
        weights: shape (N,): how much each persona counts.
        seed: of the resampling.

    Returns:
        A row a `measure` and comparison; `a` and `b` are both sides, `DIFFERENCE` is b - a, `STANDARDIZED` that in
        units of the answers' standard deviation, the root of the mean variance of the conditions that are compared
        (Cohen's d of two conditions; NaN for shares, and where no answers differ), `by_chance` half the width of the
        95% interval that the difference would have in an experiment with as many people in each condition as there are
        personas: what differs between two answers of one person counts for conditions that the same people see, where
        answers are taken as independent but for who gives them. `name` says what is compared.
    """
    kinds, conditions = len(moments.measures), len(people_of)
    columns = moments.sums.reshape(-1, len(weights)).T
    least = _ROUNDING * moments.width
    compared = (contrasts.weights != 0) / (contrasts.weights != 0).sum(axis=1, keepdims=True)

    def statistic(resampled: Weights) -> Array:
        """(R, K * E * 4): a, b, difference, standardized."""
        sums = _weighted_means(resampled, columns, weights).reshape(-1, 2 * kinds + 1, conditions)
        means = _ratio(sums[:, :-1], sums[:, -1:])
        first, second = means[:, :kinds], means[:, kinds:]
        a, b = first @ contrasts.a.T, first @ contrasts.b.T
        difference = np.where(np.abs(b - a) > least, b - a, 0.0)
        variance = np.maximum(second - first**2, 0) @ compared.T
        with np.errstate(invalid="ignore", divide="ignore"):
            known = (variance > (least / 2) ** 2) & (not moments.shares)
            standardized = np.where(known, difference / np.sqrt(variance), np.nan)
        return np.stack([a, b, difference, standardized], axis=-1).reshape(len(sums), -1)

    numbers = _with_intervals(statistic, len(weights), seed) if len(contrasts.names) else np.empty((0, 3))
    a, b, difference, standardized = numbers.reshape(-1, 4, 3).swapaxes(0, 1)
    names, copies = contrasts.names, kinds
    found = pd.concat([names.assign(measure=measure) for measure in moments.measures], ignore_index=True)
    if kinds > 1:
        options = [measure.partition("(")[2][:-1] for measure in moments.measures]
        found["name"] = np.repeat([f"{option}: " for option in options], len(names)) + found["name"]
    # A difference leaves the centre of both sides where it is, but for effects whose sides are differences themselves.
    centres = moments.centre * np.tile([contrasts.a.sum(axis=1), contrasts.b.sum(axis=1)], copies)
    found["a"], found["b"] = a[:, 0] + centres[0], b[:, 0] + centres[1]
    found[[*DIFFERENCE]], found[[*STANDARDIZED]] = difference, standardized
    found["by_chance"] = _NORMAL * _standard_errors(moments, contrasts, people_of, weights).ravel()
    return found


def _standard_errors(moments: Moments, contrasts: Contrasts, people_of: NDArray[np.int64], weights: Array) -> Array:
    """Of each difference in an experiment of N people a condition: shape (K, E)."""
    shares = weights / weights.sum()
    answered = moments.answered @ shares
    mean = moments.first @ shares / answered
    residual = _residuals(moments, shares)  # (K, C, N): of each persona's expected answer
    square = (moments.second - 2 * mean[..., None] * moments.first + mean[..., None] ** 2 * moments.answered) @ shares
    between = np.einsum("kcn,n,kdn->kcd", residual, shares, residual)
    total = square / answered**2
    same = people_of[:, None] == people_of
    variance = np.where(same, between, 0.0)
    diagonal = np.arange(len(people_of))
    variance[:, diagonal, diagonal] = np.maximum(total, 0.0)
    weighted = np.einsum("ec,kcd,ed->ke", contrasts.weights, variance, contrasts.weights)
    return np.sqrt(np.maximum(weighted, 0.0) / len(weights))


def _residuals(moments: Moments, shares: Array) -> Array:
    """Shape (K, C, N): how each persona moves a condition's mean, which is a ratio where some give codes."""
    answered = (moments.answered @ shares)[:, None]
    mean = (moments.first @ shares)[..., None] / answered
    return (moments.first - mean * moments.answered) / answered


def expect_differences(moments: Moments, contrasts: Contrasts, weights: Array, model: EffectModel) -> Array:
    """Of people: shape (E, 4), as `EXPECTED`, in scale points, of the comparisons of `estimate_differences`.

    The difference of ``moments``, which are of probabilities of the kind that the model of effects was fitted to; the
    true one of people, as if everybody were asked; its 90% interval. The model counts in shares of the range of human
    answers, which is not known before people are asked; the scale's range stands for it, which is no smaller: it leaves
    the expected difference as it is, and the interval is rather too wide. With one persona there is none (NaN).
    """
    shares, people = weights / weights.sum(), np.count_nonzero(weights)
    effect = contrasts.weights @ (moments.first[0] @ shares / (moments.answered @ shares)) / moments.width
    limits = np.full((2, len(effect)), np.nan)
    if people > 1:
        each = contrasts.weights @ _residuals(moments, shares)[0] / moments.width  # (E, N)
        error = np.sqrt(each**2 @ shares**2 * people / (people - 1))
        limits = prediction_interval(effect, error, model, weights=(contrasts.weights**2).sum(axis=1))
    return moments.width * np.column_stack([effect, model.slope * effect, *limits])


def sample_answers(values: Array, probabilities: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    """One answer of each row of ``probabilities``, shape (rows, A): shape (rows,)."""
    reached = probabilities.cumsum(axis=1)
    picks = (rng.random(len(probabilities)) * reached[:, -1])[:, None]
    return values[np.minimum((reached <= picks).sum(axis=1), len(values) - 1)]


def _ratio(numerator: Array, denominator: Array) -> Array:
    """NaN where nobody answers."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return numerator / denominator


def _weighted_means(resampled: Weights, columns: Array, weights: Array) -> Array:
    """Means over personas of ``columns``, shape (N, K), in each resample: shape (R, K)."""
    counts = resampled.within * weights
    return _ratio(counts @ columns, counts.sum(axis=1, keepdims=True))  # NaN: all that count were left out


def _with_intervals(statistic: Statistic, personas: int, seed: int) -> Array:
    """Each number of a statistic and the limits of its interval, NaN where there is none: shape (K, 3)."""
    units = Units(np.zeros(personas, np.int64))
    limits = [interval or (np.nan, np.nan) for interval in intervals(units, statistic, seed, RESAMPLES)]
    return np.column_stack([estimate(units, statistic), np.reshape(limits, (-1, 2))])
