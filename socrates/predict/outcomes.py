"""What is predicted for each question and index, from the model's answers to their prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from socrates.errors import SocratesError
from socrates.evaluation.calibration import calibrated
from socrates.evaluation.effect_model import EffectModel
from socrates.predict import estimates
from socrates.predict.contrasts import Contrasts, find_contrasts
from socrates.predict.estimates import EXPECTED, MEAN, PROBABILITY, Array, Moments, index_of, moments_of
from socrates.predict.experiment import Index, OutcomeQuestion
from socrates.predict.prompts import PromptPlan
from socrates.report.results_folders import Value, values_in

_SHARES = ["condition", "answer", "label", *PROBABILITY]


class Reading(NamedTuple):
    """How the model's answers are read."""

    temperature: float | None  # of its own probabilities; None: decoded as evaluated
    effects: EffectModel | str  # how human differences follow predicted ones; a text: why that is not known
    seed: int  # of intervals


@dataclass(frozen=True)
class QuestionPrediction:
    """What is predicted for one question, or for an index of several."""

    name: str
    question: OutcomeQuestion  # of an index one of its items, whose scale it has
    conditions: tuple[str, ...]  # in which it is asked
    contrasts: Contrasts
    personas: NDArray[np.int64]  # shape (N,): those with a valid answer in every condition, their indices among all
    moments: Moments  # of the personas
    judged: Moments  # likewise, of decoded probabilities, which the evaluation judges
    of_humans: Moments  # of the people of a pilot; NaN where the model gives no valid answer
    valid_mass: Array  # shape (C, all personas): probability of any valid answer, before decoding
    means: pd.DataFrame  # see `estimate_means`, with the number of `personas` and the mean of `valid_mass`
    differences: pd.DataFrame  # see `estimate_differences`; with `EXPECTED` where it is known what to expect of people
    index: Index | None = None
    probabilities: Array = field(default_factory=lambda: np.empty((0, 0, 0)))  # (C, N, A): of answers; of no index
    distributions: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_SHARES))  # of no index
    codes: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_SHARES))  # "don't know", of everybody

    @property
    def shares(self) -> Array:
        """Shape (C, A): of each answer."""
        return self.distributions["probability"].to_numpy().reshape(len(self.means), -1)

    @property
    def headline(self) -> tuple[str, list[Value]]:
        """One number a condition, and what it is: the mean, or the share of an option.

        Of two options the first one's, of more that of the option that differs most between conditions.
        """
        question, shares = self.question, self.shares
        if not question.nominal:
            return f"mean, {question.answers}", values_in(self.means, MEAN)
        spread = np.ptp(shares, axis=0) if len(shares) > 1 else shares[0]
        option = question.answers.values[0 if len(spread) == 2 else spread.argmax()]
        what = f"share of “{question.labels[option]}”"
        if len(spread) > 2:
            what += ", the option that differs most" if len(shares) > 1 else ", the most frequent option"
        return what, values_in(self.distributions[self.distributions["answer"] == option], PROBABILITY)

    @property
    def is_factorial(self) -> bool:
        """Whether effects of factors are compared."""
        return bool((self.differences["effect"] != "").any())

    @property
    def expected(self) -> list[Value]:
        """Of people, of each difference; no list where it is not known, or without intervals."""
        table = self.differences.reindex(columns=EXPECTED)
        return values_in(table, EXPECTED[1:]) if table["expected_low"].notna().any() else []

    @property
    def least_mass(self) -> float:
        """In the condition where it is least."""
        return float(self.means["valid_mass"].min())


def predict_question(
    name: str, answers: Sequence[Mapping[str, Any]], plan: PromptPlan, reading: Reading
) -> QuestionPrediction:
    """What is predicted for a question, from the answers to all prompts (`kept_answer`), by key.

    The model of effects was fitted to decoded predictions, whose differences have another size than calibrated ones: it
    is given decoded ones, whatever is shown.

    Raises:
        SocratesError: the model gives no valid answer, whoever is asked.
    """
    question, places = plan.experiment.questions[name], plan.places(name)
    mine, values = [answers[key] for key in places.ravel()], question.valid.values

    def taken(temperature: float | None) -> Array:
        """Shape (C, profiles, A)."""
        return _take(mine, values, temperature).reshape(*places.shape, -1).swapaxes(0, 1)

    own, decoded = taken(reading.temperature), taken(None)
    mass = np.array([answer["valid_mass"] for answer in mine]).reshape(places.shape)[plan.profile_of].T
    personas = np.flatnonzero(~np.isnan(own).any(axis=(0, 2))[plan.profile_of])
    if not plan.weights[personas].any():
        raise SocratesError(
            f'the model gives no valid answer to the question "{name}", whoever is asked: it was not '
            "trained to answer such questions with a number alone; take a trained checkpoint"
        )
    is_code = np.isin(values, list(question.codes))
    profiles, weights = plan.profile_of[personas], plan.weights[personas]
    shares, codes, others = own[:, profiles][..., ~is_code], own[:, profiles][..., is_code], own[..., ~is_code]
    judged = decoded[..., ~is_code]
    if question.codes:  # the evaluation knows none: where decoding leaves nothing else, it is as if nothing were left
        judged = np.where(judged.any(axis=-1, keepdims=True), judged, taken(1.0)[..., ~is_code])
    sides = shares, judged[:, profiles], others[:, plan.profile_of_others]
    one = _summarise(name, name, personas, [moments_of(question, side) for side in sides], mass, plan, reading)
    labels = {answer: question.labels.get(answer) for answer in question.answers.values}
    where, counted = one.conditions, (weights, reading.seed)
    of_answers = estimates.estimate_distributions(labels, where, shares, *counted, of_all=False)
    of_codes = estimates.estimate_distributions(question.codes, where, codes, *counted, of_all=True)
    return replace(one, probabilities=shares, distributions=of_answers, codes=of_codes)


def predict_index(
    name: str, predicted: Mapping[str, QuestionPrediction], plan: PromptPlan, reading: Reading
) -> QuestionPrediction:
    """What is predicted for an index from its items' predictions, of the personas that answer every item."""
    index = plan.experiment.indices[name]
    items, flipped = [predicted[item] for item in index.items], [item in index.reversed for item in index.items]
    personas = reduce(np.intersect1d, [item.personas for item in items])
    kept = [np.isin(item.personas, personas) for item in items]
    sides = (
        [replace(side, sums=side.sums[..., mine]) for side, mine in zip(of_items, kept, strict=True)]
        for of_items in ([item.moments for item in items], [item.judged for item in items])
    )
    moments = *(index_of(side, flipped) for side in sides), index_of([item.of_humans for item in items], flipped)
    mass = np.min([item.valid_mass for item in items], axis=0)
    return replace(_summarise(name, index.items[0], personas, moments, mass, plan, reading), index=index)


def _summarise(
    name: str,
    asked: str,
    personas: NDArray[np.int64],
    moments: Sequence[Moments],
    mass: Array,
    plan: PromptPlan,
    reading: Reading,
) -> QuestionPrediction:
    """All but distributions, in the conditions of the question ``asked``; moments: own, judged, of the pilot."""
    experiment, weights, asked_in = plan.experiment, plan.weights[personas], list(plan.experiment.asked_in(asked))
    seed, people_of = reading.seed, experiment.people_of[asked_in]
    names, conditions = zip(*[list(experiment.conditions.items())[at] for at in asked_in], strict=True)
    for condition, answered in zip(names, moments[0].sums[-1] @ weights, strict=True):
        if not answered > 0:
            raise SocratesError(
                f'to the question "{name}" in the condition "{condition}" the model gives no answer but codes such as '
                '"don\'t know", so nothing can be predicted; leave its "codes" out'
            )
    contrasts = find_contrasts(names, experiment.factors, [condition.levels for condition in conditions])
    means = estimates.estimate_means(moments[0], names, weights, seed)
    means = means.assign(personas=len(personas), valid_mass=np.average(mass, axis=1, weights=plan.weights))
    differences = estimates.estimate_differences(moments[0], contrasts, people_of, weights, seed)
    if len(differences) and not (moments[0].shares or isinstance(reading.effects, str)):
        differences[[*EXPECTED]] = estimates.expect_differences(moments[1], contrasts, weights, reading.effects)
    question = experiment.questions[asked]
    return QuestionPrediction(name, question, names, contrasts, personas, *moments, mass, means, differences)


def _take(answers: Sequence[Mapping[str, Any]], values: Sequence[float], temperature: float | None) -> Array:
    """Shape (answers, A): the model's own probabilities at a temperature; None: decoded. NaN where none is valid.

    Where decoding leaves no valid answer at all, its own are taken, as the evaluation does.
    """
    table = np.full((len(answers), len(values)), np.nan)
    for row, answer in zip(table, answers, strict=True):
        if chosen := (temperature is None and answer["decoded"]) or answer["undecoded"]:
            chosen = calibrated(chosen, temperature or 1.0)
            row[:] = [chosen.get(str(value), 0.0) for value in values]
    return table
