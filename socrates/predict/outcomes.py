"""What is predicted for each question and index, from the model's answers to their prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
    index: Index | None
    conditions: tuple[str, ...]  # in which it is asked
    contrasts: Contrasts
    personas: NDArray[np.int64]  # shape (N,): those with a valid answer in every condition, their indices among all
    probabilities: Array  # shape (C, N, A): of each answer; of an index A = 0
    moments: Moments  # of the personas
    judged: Moments  # likewise, of decoded probabilities, which the evaluation judges
    of_humans: Moments  # of the people of a pilot; NaN where the model gives no valid answer
    valid_mass: Array  # shape (C, all personas): probability of any valid answer, before decoding
    distributions: pd.DataFrame  # see `estimate_distributions`; empty of an index
    codes: pd.DataFrame  # likewise, of codes such as "don't know", of everybody
    means: pd.DataFrame  # see `estimate_means`, with the number of `personas` and the mean of `valid_mass`
    differences: pd.DataFrame  # see `estimate_differences`; with `EXPECTED` where it is known what to expect of people

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
        """Of people, of each difference; none where it is not known, or without its interval."""
        return values_in(self.differences.reindex(columns=EXPECTED).dropna(), EXPECTED[1:])

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
    own, decoded = (
        _take(mine, values, at).reshape(*places.shape, -1).swapaxes(0, 1) for at in (reading.temperature, None)
    )
    mass = np.array([answer["valid_mass"] for answer in mine]).reshape(places.shape)[plan.profile_of].T
    personas = np.flatnonzero(~np.isnan(own).any(axis=(0, 2))[plan.profile_of])
    if not plan.weights[personas].any():
        raise SocratesError(
            f'the model gives no valid answer to the question "{name}", whoever is asked: it was not '
            "trained to answer such questions with a number alone; take a trained checkpoint"
        )
    is_code = np.isin(values, list(question.codes))
    own, decoded, codes = own[..., ~is_code], decoded[..., ~is_code], own[..., is_code]
    profiles = plan.profile_of[personas]
    moments, judged = moments_of(question, own[:, profiles]), moments_of(question, decoded[:, profiles])
    of_humans = moments_of(question, own[:, plan.profile_of_others])
    one = _summarise(name, name, personas, moments, judged, of_humans, mass, plan, reading)
    labels = {answer: question.labels.get(answer) for answer in question.answers.values}
    given = one.conditions, own[:, profiles], plan.weights[personas], reading.seed
    shares = estimates.estimate_distributions(labels, *given, of_all=False)
    codes = estimates.estimate_distributions(question.codes, given[0], codes[:, profiles], *given[2:], of_all=True)
    return replace(one, probabilities=own[:, profiles], distributions=shares, codes=codes)


def predict_index(
    name: str, predicted: Mapping[str, QuestionPrediction], plan: PromptPlan, reading: Reading
) -> QuestionPrediction:
    """What is predicted for an index from its items' predictions, of the personas that answer every item."""
    index = plan.experiment.indices[name]
    items, flipped = [predicted[item] for item in index.items], [item in index.reversed for item in index.items]
    personas = reduce(np.intersect1d, [item.personas for item in items])
    kept = [np.isin(item.personas, personas) for item in items]
    moments, judged = (
        index_of([getattr(item, side).of(mine) for item, mine in zip(items, kept, strict=True)], flipped)
        for side in ("moments", "judged")
    )
    of_humans, mass = index_of([item.of_humans for item in items], flipped), [item.valid_mass for item in items]
    one = _summarise(name, index.items[0], personas, moments, judged, of_humans, np.min(mass, axis=0), plan, reading)
    return replace(one, index=index)


def _summarise(
    name: str,
    asked: str,
    personas: NDArray[np.int64],
    moments: Moments,
    judged: Moments,
    of_humans: Moments,
    mass: Array,
    plan: PromptPlan,
    reading: Reading,
) -> QuestionPrediction:
    """All but distributions, in the conditions of the question ``asked``."""
    experiment, weights, asked_in = plan.experiment, plan.weights[personas], list(plan.experiment.asked_in(asked))
    names, conditions = zip(*[list(experiment.conditions.items())[at] for at in asked_in], strict=True)
    contrasts = find_contrasts(names, experiment.factors, [condition.levels for condition in conditions])
    means = estimates.estimate_means(moments, names, weights, reading.seed)
    means = means.assign(personas=len(personas), valid_mass=np.average(mass, axis=1, weights=plan.weights))
    people_of = experiment.people_of[asked_in]
    differences = estimates.estimate_differences(moments, contrasts, people_of, weights, reading.seed)
    if len(differences) and not (moments.shares or isinstance(reading.effects, str)):
        differences[[*EXPECTED]] = estimates.expect_differences(judged, contrasts, weights, reading.effects)
    nothing = pd.DataFrame(columns=["condition", "answer", "label", *PROBABILITY])
    return QuestionPrediction(
        name=name,
        question=experiment.questions[asked],
        index=None,
        conditions=names,
        contrasts=contrasts,
        personas=personas,
        probabilities=np.empty((len(names), len(personas), 0)),
        moments=moments,
        judged=judged,
        of_humans=of_humans,
        valid_mass=mass,
        distributions=nothing,
        codes=nothing,
        means=means,
        differences=differences,
    )


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
