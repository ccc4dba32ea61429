"""The prompts of an experiment, and what is kept of their answers.

Personas of whom the same is known get the same prompts; each is run once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from socrates.data.records import as_number, render_prompt
from socrates.errors import SocratesError
from socrates.files import sha256_json
from socrates.model.chat import Prompt
from socrates.predict.experiment import PLACEHOLDER, Experiment
from socrates.predict.personas import NARRATIVE, WEIGHT
from socrates.schema import shown

if TYPE_CHECKING:
    from socrates.data.scales import Scale
    from socrates.inference.engine import AnswerDistribution


@dataclass(frozen=True)
class PromptPlan:
    """Every prompt, in the order of profiles, conditions, questions that are asked there; its place is its key."""

    experiment: Experiment
    personas: pd.DataFrame  # who is asked, see `population.py`
    profiles: tuple[Mapping[str, str], ...]  # what is known of personas, each combination (and order of items) once
    profile_of: NDArray[np.int64]  # shape (N,): index of each persona's profile
    prompts: tuple[tuple[Prompt, Scale], ...]  # text or messages, and valid answers
    cells: tuple[tuple[str, str], ...]  # condition and question of each of a profile's prompts

    @property
    def profile_of_others(self) -> NDArray[np.int64]:
        """Index of the profile of each of the others, who stand last."""
        return np.arange(self.profile_of.max() + 1, len(self.profiles))

    @property
    def weights(self) -> NDArray[np.float64]:
        """Shape (N,): of the personas, the largest 1: their sums stay finite whatever they are."""
        weights = self.personas[WEIGHT].to_numpy()
        return weights / weights.max()

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
    experiment: Experiment, personas: pd.DataFrame, seed: int = 0, others: pd.DataFrame | None = None
) -> PromptPlan:
    """The prompts for these personas, and for ``others``, whose profiles stand after theirs, one each.

    ``seed``: of each person's order of items. SocratesError: a text takes a field that a persona lacks.
    """
    known = [
        {field: value for field, value in row.items() if isinstance(value, str)}
        for table in (personas, others)
        for row in ([] if table is None else table.drop(columns=WEIGHT).to_dict("records"))
    ]
    orders = _draw_orders(experiment, len(known), seed)
    # A persona is told apart by what is known of it and by its orders, another person by its place.
    told_apart = [(*fields.items(), *order.values()) for fields, order in zip(known, orders, strict=True)]
    told_apart[len(personas) :] = range(len(personas), len(known))
    profile_of, _ = pd.factorize(pd.Series(told_apart, dtype=object))
    _, firsts = np.unique(profile_of, return_index=True)
    cells = tuple(
        (condition, question)
        for at, condition in enumerate(experiment.conditions)
        for question in experiment.questions
        if at in experiment.asked_in(question)
    )
    valid = {name: question.valid for name, question in experiment.questions.items()}
    prompts = tuple(
        (_prompt(experiment, known[person], condition, question, orders[person].get(question, ())), valid[question])
        for person in firsts
        for condition, question in cells
    )
    profiles = tuple(known[person] for person in firsts)
    return PromptPlan(experiment, personas, profiles, profile_of[: len(personas)], prompts, cells)


def _draw_orders(experiment: Experiment, people: int, seed: int) -> list[dict[str, tuple[str, ...]]]:
    """Of each person: item -> the items on its screen, in the order that the person sees."""
    found: list[dict[str, tuple[str, ...]]] = [{} for _ in range(people)]
    for place, items in enumerate(index.items for index in experiment.indices.values() if index.together):
        rng = np.random.default_rng([seed, 2**16, place])  # apart from what else the seed decides
        for mine, order in zip(found, rng.permuted([items] * people, axis=1).tolist(), strict=True):
            mine |= dict.fromkeys(items, tuple(order))
    return found


def _prompt(
    experiment: Experiment, fields: Mapping[str, str], condition: str, question: str, items: Sequence[str]
) -> Prompt:
    """What a persona is asked: a text, or messages after earlier answers; ``items``: shown together, in order."""

    def fill(field: re.Match[str]) -> str:
        if field[1] not in fields:
            lacks = f"needs the field {shown(field[1])} of every persona, and one lacks it: {shown(fields)}"
            raise SocratesError(f'"conditions.{condition}": {lacks}; add it, or write the text without {field[0]}')
        return fields[field[1]]

    texts, told = [], []  # of the user and the assistant in turn; of the user, since the last answer
    for turn in experiment.conditions[condition].before:
        told.append(turn.question)
        if turn.answer:
            texts, told = [*texts, "\n\n".join(told), turn.answer], []
    texts.append("\n\n".join([*told, experiment.stimuli(condition, question, items)]))
    texts = [PLACEHOLDER.sub(fill, text) for text in texts]
    listed = {field: value for field, value in fields.items() if field != NARRATIVE}
    texts[0] = render_prompt(listed, texts[0], fields.get(NARRATIVE))
    messages = ({"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts))
    return tuple(messages) if len(texts) > 1 else texts[0]


def kept_answer(key: int, result: AnswerDistribution) -> dict[str, Any]:
    """What is kept of an answer: both probabilities of each valid one, so that neither has to be asked for again."""
    assert result.probabilities is not None  # every scale here is scored exactly
    kept: dict[str, Any] = {"key": key, "valid_mass": result.valid_mass}
    for name, probabilities in (("undecoded", result.probabilities), ("decoded", result.decoded)):
        pairs = zip(result.values.tolist(), probabilities.tolist(), strict=True)
        kept[name] = {str(as_number(value)): probability for value, probability in pairs if probability > 0}
    return kept
