"""The prompts of an experiment, and what is kept of their answers.

Personas of whom the same is known get the same prompts; each is run once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from socrates.data.records import render_prompt
from socrates.files import sha256_json
from socrates.predict.experiment import Experiment
from socrates.predict.population import WEIGHT

if TYPE_CHECKING:
    from socrates.data.scales import Scale
    from socrates.inference.engine import AnswerDistribution


@dataclass(frozen=True)
class PromptPlan:
    """Every prompt, in the order of profiles, conditions, questions.

    That of profile p, condition c, question q stands at (p * C + c) * Q + q, which is its key.
    """

    experiment: Experiment
    personas: pd.DataFrame  # who is asked, see `population.py`
    profiles: tuple[Mapping[str, str], ...]  # what is known of personas, each combination once
    profile_of: NDArray[np.int64]  # shape (N,): index of each persona's profile
    prompts: tuple[tuple[str, Scale], ...]  # text and valid answers

    @property
    def weights(self) -> NDArray[np.float64]:
        """Shape (N,): of the personas, the largest 1: their sums stay finite whatever they are."""
        weights = self.personas[WEIGHT].to_numpy()
        return weights / weights.max()

    def keys(self, key: int) -> dict[str, Any]:
        """What names a prompt in files."""
        names, questions = list(self.experiment.conditions), list(self.experiment.questions)
        rest, question = divmod(key, len(questions))
        profile, condition = divmod(rest, len(names))
        return {
            "condition": names[condition],
            "question": questions[question],
            "demographic": dict(self.profiles[profile]),
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that is asked."""
        return sha256_json([[text, str(scale)] for text, scale in self.prompts])


def plan_prompts(experiment: Experiment, personas: pd.DataFrame) -> PromptPlan:
    """The prompts for these personas."""
    index: dict[tuple[tuple[str, str], ...], int] = {}
    rows = personas.drop(columns=WEIGHT).to_dict("records")
    known = (tuple((field, value) for field, value in row.items() if isinstance(value, str)) for row in rows)
    profile_of = [index.setdefault(items, len(index)) for items in known]
    profiles = tuple(map(dict, index))
    stimuli = [
        (experiment.stimuli(condition, question), question.answers)
        for condition in experiment.conditions
        for question in experiment.questions.values()
    ]
    prompts = tuple((render_prompt(profile, text), scale) for profile in profiles for text, scale in stimuli)
    return PromptPlan(experiment, personas, profiles, np.array(profile_of), prompts)


def kept_answer(key: int, result: AnswerDistribution) -> dict[str, Any]:
    """What is kept of an answer: both probabilities of each valid one, so that neither has to be asked for again."""
    assert result.probabilities is not None  # every scale here is scored exactly
    kept: dict[str, Any] = {"key": key, "valid_mass": result.valid_mass}
    for name, probabilities in (("undecoded", result.probabilities), ("decoded", result.decoded)):
        pairs = zip(result.values.tolist(), probabilities.tolist(), strict=True)
        kept[name] = {str(value): probability for value, probability in pairs if probability > 0}
    return kept
