"""Treatment effects: do predictions differ between the conditions of a question as human answers do?

An effect is the mean answer in one condition minus that in another, of one question of one study, in units of the range
of the question's human answers over all its conditions, to which predictions are clipped. A question is a `task_num`
with one stated scale. How well effects go together is made of variances and covariances of condition means *within*
questions: such a variance (divisor k - 1) is half the mean square of the differences over all pairs of conditions.

Covers: pairs of conditions, with Welch's intervals; correlation and slope, what noise lets them be, agreement of signs.
Does not cover: which conditions a design compares; corrections for many comparisons; and persons: conditions hold
different ones by chance, so a model that knows persons but no treatments agrees a little with human differences too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, stdtrit
from scipy.stats import permutation_test

from socrates.data.records import as_number
from socrates.evaluation.bootstrap import RESAMPLES, Weights, estimate, intervals, sorted_units
from socrates.evaluation.bounds import standardise
from socrates.evaluation.cells import CellScore
from socrates.evaluation.effect_model import LEAST_STUDIES, ROUNDING, EffectModel, fit_model

Array = NDArray[np.float64]

# Conditions up to which every pair gets a line, 276 a question. The 96 of some studies would give 4,560, each of a few
# people in two small conditions; compared with one of them, they give 95.
ALL_PAIRS = 24
LEAST_ANSWERS = 2  # of either kind in a condition: a single one has no variance


class Moments(NamedTuple):
    """Answers of one side in k conditions, each of shape (k,), in units of the question's range."""

    n: Array
    mean: Array
    variance: Array  # with divisor n - 1


@dataclass(frozen=True)
class ComparedQuestion:
    """One question in k >= 2 conditions, in ascending order."""

    study_id: str
    task_num: int | str
    human_range: float  # scale points, over all conditions
    conditions: tuple[int, ...]
    human: Moments
    predicted: Moments  # of the drawn answers
    expected: Array  # (k,): means of the predicted distributions, of drawn answers where none are recorded


def find_questions(cells: Iterable[CellScore]) -> list[ComparedQuestion]:
    """The questions whose conditions can be compared, sorted by study.

    That takes two conditions with `LEAST_ANSWERS` of either kind, and human answers that are not all the same.
    """
    groups: defaultdict[tuple[Any, ...], list[CellScore]] = defaultdict(list)
    for cell in cells:
        if cell.nominal:  # names have no mean
            continue
        study_id, _, task_num = cell.cell
        groups[study_id, isinstance(task_num, str), task_num, cell.scale or ()].append(cell)
    questions = []
    for key in sorted(groups):
        members = sorted(groups[key], key=lambda member: member.cell.condition_num)
        usable = [
            member for member in members if min(member.n_human, sum(member.predicted_answers.values())) >= LEAST_ANSWERS
        ]
        answers = {answer for member in members for answer in member.human_answers}
        if len(usable) > 1 and len(answers) > 1:
            low, high = min(answers), max(answers)
            human = _moments([member.human_answers for member in usable], low, high)
            predicted = _moments([member.predicted_answers for member in usable], low, high)
            likely = [member.predicted_distribution or member.predicted_answers for member in usable]
            sides = human, predicted, np.array([_mean(counts, low, high)[2] for counts in likely])
            conditions = tuple(member.cell.condition_num for member in usable)
            questions.append(ComparedQuestion(key[0], key[2], float(high - low), conditions, *sides))
    return questions


def effect_lines(questions: Iterable[ComparedQuestion]) -> Iterator[dict[str, Any]]:
    """The lines of `effects.jsonl`: one for each pair of a question's conditions, condition_a < condition_b.

    With more than `ALL_PAIRS` conditions, only the lowest-numbered one is compared with each other one. An effect is
    the mean of b minus the mean of a, in scale points; ``..._standardized``: in units of ``human_range``. Intervals are
    Welch's (1947, Biometrika 34: unequal variances, Satterthwaite's degrees of freedom), null where neither
    condition's answers vary. ``human_effect_clear``: there is an interval, and it excludes 0.
    ``expected_effect_standardized`` is the predicted effect without the noise of drawn answers (`ComparedQuestion`).
    """
    for question in questions:
        a, b = shown_pairs(len(question.conditions))
        human, human_half = differences(question.human, a, b)
        predicted, predicted_half = differences(question.predicted, a, b)
        expected = differences(question.predicted._replace(mean=question.expected), a, b)[0]
        for pair, (i, j) in enumerate(zip(a, b, strict=True)):
            yield {
                "study_id": question.study_id,
                "task_num": question.task_num,
                "condition_a": question.conditions[i],
                "condition_b": question.conditions[j],
                "n_human_a": as_number(question.human.n[i]),
                "n_human_b": as_number(question.human.n[j]),
                "n_predicted_a": as_number(question.predicted.n[i]),
                "n_predicted_b": as_number(question.predicted.n[j]),
                "human_range": question.human_range,
                **_effect("human", human[pair], human_half[pair], question.human_range),
                **_effect("predicted", predicted[pair], predicted_half[pair], question.human_range),
                "expected_effect_standardized": number_or_none(expected[pair]),
                "human_effect_clear": bool(abs(human[pair]) > human_half[pair]),
            }


def _moments(conditions: Sequence[Mapping[float, int]], low: float, high: float) -> Moments:
    moments = []
    for counts in conditions:
        z, number, mean = _mean(counts, low, high)
        variance = (number @ (z - mean) ** 2) / (number.sum() - 1)
        moments.append((number.sum(), mean, variance if variance > ROUNDING**2 else 0.0))
    return Moments(*np.array(moments).T)


def _mean(counts: Mapping[float, float], low: float, high: float) -> tuple[Array, Array, float]:
    """The standardised answers, how often (or how probably) each was given, and their mean."""
    answers, number = (np.array(side, np.float64) for side in zip(*sorted(counts.items()), strict=True))
    z = standardise(answers, low, high)
    return z, number, (number @ z) / number.sum()


def shown_pairs(conditions: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of both conditions of each pair that gets a line: of every one, or with many those of the first."""
    if conditions <= ALL_PAIRS:
        return np.triu_indices(conditions, 1)
    return np.zeros(conditions - 1, np.int64), np.arange(1, conditions)


def differences(side: Moments, a: NDArray[np.int64], b: NDArray[np.int64]) -> tuple[Array, Array]:
    """Mean of b minus mean of a, and half the width of Welch's 95% interval (NaN: no spread), each (pairs,)."""
    effect = side.mean[b] - side.mean[a]
    squared = side.variance / side.n  # standard error of each mean, squared
    with np.errstate(invalid="ignore"):
        freedom = (squared[a] + squared[b]) ** 2 / (
            squared[a] ** 2 / (side.n[a] - 1) + squared[b] ** 2 / (side.n[b] - 1)
        )
        half = stdtrit(freedom, 0.975) * np.sqrt(squared[a] + squared[b])
    return np.where(np.abs(effect) > ROUNDING, effect, 0.0), half


def _effect(side: str, effect: float, half: float, human_range: float) -> dict[str, Any]:
    limits = [number_or_none((effect - half) * human_range), number_or_none((effect + half) * human_range)]
    return {
        f"{side}_effect": number_or_none(effect * human_range),
        f"{side}_effect_ci95": None if None in limits else limits,
        f"{side}_effect_standardized": number_or_none(effect),
    }


def number_or_none(value: float) -> float | None:
    """As it stands in the files: nine digits, null where not defined."""
    return float(f"{value:.9g}") if np.isfinite(value) else None


NUMBERS = (
    "correlation",
    "correlation_ceiling",
    "correlation_empirical_best",
    "slope",
    "slope_corrected",
    "sign_agreement",
    "sign_agreement_clear",
    "sign_agreement_halves",
    "sign_agreement_clear_halves",
)
_ANY = (-np.inf, np.inf)
_RANGES = {"correlation": (-1, 1), "slope": _ANY, "slope_corrected": _ANY}  # of the others [0, 1]
_OF_SIGNAL = {"correlation_ceiling", "correlation_empirical_best", "slope_corrected"}


def summarize_effects(questions: Sequence[ComparedQuestion], seed: int, resamples: int = RESAMPLES) -> dict[str, Any]:
    """How predicted effects go with human ones over all pairs, JSON-ready, each number with its ``_ci95``.

    Pairs are averaged within a question, questions within a study, then studies: no study counts more for having more
    conditions. A number is null where it is not defined. Intervals resample studies, then questions.

    correlation: of condition means (standardised) after removing each question's mean; it equals the correlation
        through the origin over all pairs, each taken in both directions, and is 0 where a model knows nothing of the
        treatments. Noise of the human means and of the sampled predictions pulls it towards 0, therefore:
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
        counts one half, and pairs with no human effect at all do not count. Predicted means are those of the recorded
        distributions, without the noise of drawn answers; so for all that follows.
    sign_agreement_clear: over the ``clear_pairs`` whose human effect is clearly not 0 (see `effect_lines`).
    sign_agreement_halves, sign_agreement_clear_halves: over the same pairs, how often one random half of the people has
        the sign of the other half; 0.5 by chance, of all pairs. Given everybody's effect d with standard error e, the
        halves' are d + h and d - h, h being about normal with standard deviation e (sampling without replacement,
        Cochran 1977, theorem 2.2): 2 Phi(|d| / e) - 1.
    p_value: see `p_value`. prediction: the `EffectModel` for new experiments; no_prediction: why there is none.
    """
    rows = [_row(question) for question in questions]
    result: dict[str, Any] = {
        "studies": len({question.study_id for question in questions}),
        "questions": len(questions),
        "conditions": sum(len(question.conditions) for question in questions),
        "pairs": sum(row[-2] for row in rows),
        "clear_pairs": sum(row[-1] for row in rows),
        "p_value": p_value(questions, seed, resamples),
    }
    model = fit_model(questions)
    fitted = isinstance(model, EffectModel)
    result["prediction"], result["no_prediction"] = (model.model_dump(), None) if fitted else (None, model)
    numbers, limits = [None] * len(NUMBERS), [None] * len(NUMBERS)
    if questions:
        units = sorted_units([question.study_id for question in questions])
        statistic = partial(_numbers, np.array(rows, dtype=np.float64).T)
        numbers = [number_or_none(number) for number in estimate(units, statistic)]
        limits = intervals(units, statistic, seed, resamples)
    for name, number, interval in zip(NUMBERS, numbers, limits, strict=True):
        known = interval is not None or name not in _OF_SIGNAL
        result[name] = number if known else None
        result[f"{name}_ci95"] = interval and interval.within(*_RANGES.get(name, (0, 1)))
    return result


def _row(question: ComparedQuestion) -> tuple[float, ...]:
    """What the numbers are made of, variances in units of the range squared.

    Of the condition means the human variance (divisor k - 1: half the mean square of all pairs' differences), the
    predicted one and their covariance; the part of the human variance that is expected from sampling people, and the
    same of answers drawn from the human distributions, as many as there are predictions; the shares of all, and of
    clear, pairs whose signs agree (NaN: there are none), of predictions and of halves; the numbers of both.
    """
    human, predicted = question.human, question.predicted
    covariance = np.cov(human.mean, predicted.mean)
    a, b = np.triu_indices(len(question.conditions), 1)
    effect, half = differences(human, a, b)
    agrees = (1 + np.sign(effect * differences(predicted._replace(mean=question.expected), a, b)[0])) / 2
    error = np.sqrt((human.variance / human.n)[a] + (human.variance / human.n)[b])  # 0: people agree within conditions
    halves = erf(np.abs(effect) / np.maximum(error, ROUNDING**2) / np.sqrt(2))
    kinds = effect != 0, np.abs(effect) > half
    return (
        covariance[0, 0],
        covariance[1, 1],
        covariance[0, 1],
        (human.variance / human.n).mean(),
        (human.variance / predicted.n).mean(),
        *(side[kind].mean() if kind.any() else np.nan for side in (agrees, halves) for kind in kinds),
        len(a),
        int(kinds[1].sum()),
    )


def _numbers(columns: Array, weights: Weights) -> Array:
    """The `NUMBERS` of the questions' `_row`s, of shape (11, questions), under weights: shape (R, 9)."""
    human, predicted, together, noise, draws, *signs = map(weights.mean_of_means, columns[:9])
    human, predicted, signal = (
        np.where(variance > ROUNDING**2, variance, np.nan) for variance in (human, predicted, human - noise)
    )
    correlation, ceiling = together / np.sqrt(human * predicted), np.sqrt(signal / human)
    best = signal / np.sqrt(human * (signal + draws))
    return np.stack([correlation, ceiling, best, together / human, together / signal, *signs], axis=1)


def p_value(questions: Sequence[ComparedQuestion], seed: int, resamples: int) -> float | None:
    """How often studies of random signs have as large a mean covariance of predicted and human effects, one-sided.

    A study is turned as a whole: its outcomes share people and conditions, so that shuffled predictions, question by
    question, would vary too little. That is valid where a study's covariance is as likely positive as negative. All
    2^studies are counted where they are no more than ``resamples``. Null below `LEAST_STUDIES` with a covariance.
    """
    of_studies: defaultdict[str, list[float]] = defaultdict(list)
    for question in questions:
        of_studies[question.study_id].append(np.cov(question.human.mean, question.expected)[0, 1])
    means = [mean for mean in map(np.mean, of_studies.values()) if abs(mean) > ROUNDING**2]
    if len(means) < LEAST_STUDIES:
        return None
    how = {"permutation_type": "samples", "alternative": "greater", "vectorized": True, "n_resamples": resamples}
    return number_or_none(permutation_test((means,), np.mean, rng=seed, **how).pvalue)
