"""How well predicted treatment effects go with human ones: over all studies, with intervals, and study by study.

Everything is made of variances and covariances of condition means *within* questions, standardised by the question's
range. In a question of k conditions such a variance (divisor k - 1) is half the mean square of the differences over
all pairs of conditions, whichever comes first; so what is said of condition means holds for effects.

Covers: correlation and slope, what noise lets them be, agreement of signs.
Does not cover: the single pairs, and what is said in `effects.py` of designs and of persons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from socrates.bootstrap import RESAMPLES, Statistic, Units, Weights, estimate, intervals, sorted_units
from socrates.effects import ROUNDING, Array, Question, condition_pairs, differences, number_or_none

NUMBERS = (
    "correlation",
    "correlation_ceiling",
    "correlation_empirical_best",
    "slope",
    "slope_corrected",
    "sign_agreement",
    "sign_agreement_clear",
)
_ANY = (-np.inf, np.inf)
_RANGES = {"correlation": (-1, 1), "slope": _ANY, "slope_corrected": _ANY}  # of the others [0, 1]
_OF_SIGNAL = {"correlation_ceiling", "correlation_empirical_best", "slope_corrected"}


def summarize_effects(questions: Sequence[Question], seed: int, resamples: int = RESAMPLES) -> dict[str, Any]:
    """How predicted effects go with human ones over all pairs, JSON-ready, each number with its ``_ci95``.

    Pairs are averaged within a question, questions within a study, then studies: no study counts more for having more
    conditions. A number is null where it is not defined. Intervals resample studies, then questions.

    correlation: of condition means (standardised) after removing each question's mean; it equals the correlation
        through the origin over all pairs, each taken in both directions, and is 0 where a model knows nothing of the
        treatments. Noise of the human means and of the drawn predictions pulls it towards 0, therefore:
    correlation_ceiling: what a model that knew each condition's true mean would have: sqrt(signal / (signal + noise)),
        where signal + noise is the variance of human means between conditions, and noise is s^2 / n, the part of it
        that people's spread within conditions explains.
    correlation_empirical_best: the same for answers drawn from the true distributions, as many as the model's, which
        is what a perfect simulator would be expected to have in this evaluation. Predictions made from the very
        answers that judge them share their noise, and exceed both.
    slope: of predicted on human effects, through the origin; below 1, predicted effects are too small, or human ones
        are noisy: a perfect model's slope is correlation_ceiling^2.
    slope_corrected: the slope that there would be without noise in the human means; 1 is right. Like the two bounds
        it is null unless the signal can be told from the noise (its interval needs that in 95% of the resamples).
    sign_agreement: share of pairs in which both effects have one sign, 0.5 by chance; a predicted effect of exactly 0
        counts one half, and pairs with no human effect at all do not count.
    sign_agreement_clear: over the ``clear_pairs`` whose human effect is clearly not 0 (see `effect_lines`).
    """
    table = _table(questions)
    result: dict[str, Any] = dict(_counts(questions, table))
    if questions:
        units = sorted_units([question.study_id for question in questions])
        numbers = _numbers(estimate(units, _statistic(table)))
        limits = intervals(units, _statistic(table), seed, resamples)
    else:
        numbers, limits = dict.fromkeys(NUMBERS), [None] * len(NUMBERS)
    for (name, number), interval in zip(numbers.items(), limits, strict=True):
        known = interval is not None or name not in _OF_SIGNAL
        result[name] = number if known else None
        result[f"{name}_ci95"] = None if interval is None else list(interval.within(*_RANGES.get(name, (0, 1))))
    return result


def effects_by_study(questions: Sequence[Question]) -> list[dict[str, Any]]:
    """The same numbers of each study, without intervals and without those that need many conditions to be known."""
    if not questions:
        return []
    table, units = _table(questions), sorted_units([question.study_id for question in questions])
    studies = []
    for start, size in zip(units.starts, units.sizes, strict=True):
        chosen = slice(start, start + size)
        numbers = _numbers(estimate(Units(np.zeros(size, np.int64)), _statistic(table.rows(chosen))))
        kept = {name: number for name, number in numbers.items() if name not in _OF_SIGNAL}
        members = questions[chosen]
        studies.append({"study_id": members[0].study_id, **_counts(members, table.rows(chosen)), **kept})
    return studies


class _Table(NamedTuple):
    """What the numbers are made of, each of shape (questions,) and in units of the range squared, or counts."""

    human: Array  # variance of condition means, with divisor k - 1: half the mean square of all pairs' differences
    predicted: Array
    together: Array  # their covariance
    noise: Array  # part of `human` that is expected from sampling people
    draws: Array  # the same of answers drawn from the human distributions, as many as there are predictions
    agreement: Array  # share of pairs, NaN where no human effect differs from 0
    agreement_clear: Array
    pairs: Array
    clear_pairs: Array

    def rows(self, chosen: slice) -> _Table:
        return _Table(*(column[chosen] for column in self))


def _table(questions: Sequence[Question]) -> _Table:
    return _Table(*np.array([_row(question) for question in questions]).reshape(-1, len(_Table._fields)).T)


def _row(question: Question) -> tuple[float, ...]:
    human, predicted = question.human, question.predicted
    covariance = np.cov(human.mean, predicted.mean)
    a, b = condition_pairs(len(question.conditions))
    effect, half = differences(human, a, b)
    agrees = (1 + np.sign(effect * differences(predicted, a, b)[0])) / 2
    clear = np.abs(effect) > half
    return (
        covariance[0, 0],
        covariance[1, 1],
        covariance[0, 1],
        (human.variance / human.n).mean(),
        (human.variance / predicted.n).mean(),
        _mean(agrees[effect != 0]),
        _mean(agrees[clear]),
        len(a),
        clear.sum(),
    )


def _statistic(table: _Table) -> Statistic:
    """The `NUMBERS` of a table under weights of its questions: shape (R, 7)."""

    def statistic(weights: Weights) -> Array:
        human, predicted, together, noise, draws, agreement, clear = map(weights.mean_of_means, table[:7])
        human, predicted, signal = map(_positive, (human, predicted, human - noise))
        return np.stack(
            [
                together / np.sqrt(human * predicted),
                np.sqrt(signal / human),
                signal / np.sqrt(human * (signal + draws)),
                together / human,
                together / signal,
                agreement,
                clear,
            ],
            axis=1,
        )

    return statistic


def _counts(questions: Sequence[Question], table: _Table) -> dict[str, int]:
    return {
        "studies": len({question.study_id for question in questions}),
        "questions": len(questions),
        "conditions": sum(len(question.conditions) for question in questions),
        "pairs": int(table.pairs.sum()),
        "clear_pairs": int(table.clear_pairs.sum()),
    }


def _positive(variance: Array) -> Array:
    """NaN for what is not above 0, but for rounding."""
    return np.where(variance > ROUNDING**2, variance, np.nan)


def _mean(values: Array) -> float:
    return values.mean() if len(values) else np.nan


def _numbers(values: Array) -> dict[str, float | None]:
    return dict(zip(NUMBERS, map(number_or_none, values), strict=True))
