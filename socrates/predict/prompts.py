"""The prompts of an experiment, and what is kept of their answers.

Personas of whom the same is known get the same prompts; each is run once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from socrates.data.records import PERSONA_INSTRUCTION, render_prompt
from socrates.errors import SocratesError
from socrates.files import sha256_json
from socrates.model.chat import Prompt
from socrates.predict.experiment import PLACEHOLDER, Experiment
from socrates.predict.population import WEIGHT
from socrates.schema import shown

if TYPE_CHECKING:
    from socrates.data.scales import Scale
    from socrates.inference.engine import AnswerDistribution


NARRATIVE = "narrative"  # a column of personas: a text about the person
_ORDERS = 2**16  # of the seeds, apart from those that make personas


@dataclass(frozen=True)
class PromptPlan:
    """Every prompt, in the order of profiles, conditions, questions that are asked there; its place is its key."""

    experiment: Experiment
    personas: pd.DataFrame  # who is asked, see `population.py`
    profiles: tuple[Mapping[str, str], ...]  # what is known of personas, each combination (and order of items) once
    profile_of: NDArray[np.int64]  # shape (N,): index of each persona's profile
    prompts: tuple[tuple[Prompt, Scale], ...]  # text or messages, and valid answers

    @property
    def profile_of_others(self) -> NDArray[np.int64]:
        """Index of the profile of each of the others, who stand last."""
        return np.arange(self.profile_of.max() + 1, len(self.profiles))

    @property
    def weights(self) -> NDArray[np.float64]:
        """Shape (N,): of the personas, the largest 1: their sums stay finite whatever they are."""
        weights = self.personas[WEIGHT].to_numpy()
        return weights / weights.max()

    @cached_property
    def cells(self) -> tuple[tuple[str, str], ...]:
        """Condition and question of each of a profile's prompts."""
        return _cells(self.experiment)

    def places(self, question: str) -> NDArray[np.int64]:
        """Shape (profiles, conditions in which it is asked): the index of each prompt of a question."""
        mine = [place for place, (_, asked) in enumerate(self.cells) if asked == question]
        return np.add.outer(np.arange(len(self.profiles)) * len(self.cells), mine)

    def keys(self, key: int) -> dict[str, Any]:
        """What names a prompt in files."""
        profile, cell = divmod(key, len(self.cells))
        condition, question = self.cells[cell]
        return {"condition": condition, "question": question, "demographic": dict(self.profiles[profile])}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that is asked."""
        return sha256_json([[prompt, str(scale)] for prompt, scale in self.prompts])


def plan_prompts(
    experiment: Experiment, personas: pd.DataFrame, seed: int = 0, others: Sequence[Mapping[str, str]] = ()
) -> PromptPlan:
    """The prompts for these personas.

    Args:
        experiment: what is asked.
        personas: who is asked, see `population.py`.
        seed: of the order in which each of them sees items that are on one screen.
        others: more profiles, which stand after those of the personas.

    Raises:
        SocratesError: an earlier answer takes a field that a persona lacks.
    """
    rows = personas.drop(columns=WEIGHT).to_dict("records")
    known = [{field: value for field, value in row.items() if isinstance(value, str)} for row in rows]
    known += map(dict, others)
    orders = [
        np.random.default_rng([seed, _ORDERS, place]).permuted(np.tile(index.items, (len(known), 1)), axis=1).tolist()
        for place, index in enumerate(experiment.indices.values())
        if index.together
    ]
    people = [
        (tuple(fields.items()), tuple(tuple(order[place]) for order in orders)) for place, fields in enumerate(known)
    ]
    index: dict[Any, int] = {}
    profile_of = [index.setdefault(one, len(index)) for one in people[: len(rows)]]
    profiles = [(dict(fields), screens) for fields, screens in [*index, *people[len(rows) :]]]
    cells = [(*cell, experiment.questions[cell[1]].valid) for cell in _cells(experiment)]
    prompts = tuple(
        (_prompt(experiment, fields, condition, question, screens), scale)
        for fields, screens in profiles
        for condition, question, scale in cells
    )
    return PromptPlan(experiment, personas, tuple(fields for fields, _ in profiles), np.array(profile_of), prompts)


def _cells(experiment: Experiment) -> tuple[tuple[str, str], ...]:
    conditions, asked_in = enumerate(experiment.conditions), experiment.asked_in
    return tuple(
        (name, asked) for place, name in conditions for asked in experiment.questions if place in asked_in(asked)
    )


def _prompt(
    experiment: Experiment, fields: Mapping[str, str], condition: str, question: str, screens: Sequence[Sequence[str]]
) -> Prompt:
    """What a persona is asked: a text, or messages after earlier answers; ``screens``: items shown together."""

    def fill(field: re.Match[str]) -> str:
        if field[1] not in fields:
            raise SocratesError(
                f'"conditions.{condition}.before": an answer takes the field {shown(field[1])}, which a persona lacks '
                f"({shown(dict(fields))}); give it to every persona, or write the answer out"
            )
        return fields[field[1]]

    told = []
    for turn in experiment.conditions[condition].before:
        told.append(("user", turn.text or turn.question))
        if turn.answer:
            told.append(("assistant", PLACEHOLDER.sub(fill, turn.answer)))
    items = next((screen for screen in screens if question in screen), ())
    told.append(("user", experiment.stimuli(condition, question, items)))
    (_, first), *rest = [
        (role, "\n\n".join(text for _, text in texts)) for role, texts in groupby(told, key=itemgetter(0))
    ]
    first = _introduce(fields, first)
    return tuple({"role": role, "content": text} for role, text in [("user", first), *rest]) if rest else first


def _introduce(fields: Mapping[str, str], text: str) -> str:
    """A text after what is known of a persona; a narrative stands between the list of fields and the instruction."""
    listed = {field: value for field, value in fields.items() if field != NARRATIVE}
    prompt = render_prompt(listed, text)
    if narrative := fields.get(NARRATIVE):
        persona, instruction, rest = prompt.partition(f"\n\n{PERSONA_INSTRUCTION}")
        prompt = f"{persona}\n\n{narrative}{instruction}{rest}"
    return prompt


def kept_answer(key: int, result: AnswerDistribution) -> dict[str, Any]:
    """What is kept of an answer: both probabilities of each valid one, so that neither has to be asked for again."""
    assert result.probabilities is not None  # every scale here is scored exactly
    kept: dict[str, Any] = {"key": key, "valid_mass": result.valid_mass}
    for name, probabilities in (("undecoded", result.probabilities), ("decoded", result.decoded)):
        pairs = zip(result.values.tolist(), probabilities.tolist(), strict=True)
        kept[name] = {str(value): probability for value, probability in pairs if probability > 0}
    return kept
