"""An experiment as a person describes it: conditions, questions with their scales, and who is asked.

The model reads it in the words of the data set, so that it reads what it was trained to read: 'You read “…” and then
were asked: “…” Only return an integer from 1 to 7, where 1 means … and 7 means …, nothing else.'

Covers: what `schema.py` covers; and that the rendered question states the very scale that was meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from socrates.data.scales import Scale
from socrates.data.scales.text import IN_QUESTION, parse_scale, read_scale
from socrates.data.scales.wording import answer_instruction, stimuli_text
from socrates.files import read_json
from socrates.inference.engine import MAX_TREE_ANSWERS
from socrates.predict.population import Population
from socrates.schema import Line, Schema, Text, raise_problems, shown, validate

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,8}")


def _whole(answer: Any) -> int:
    if not isinstance(answer, str) or not _WHOLE.fullmatch(answer):
        raise ValueError(f'the answer must be a whole number, such as "1", not {shown(answer)}')
    return int(answer)


_Labels = dict[
    Annotated[int, BeforeValidator(_whole)], Annotated[Text, AfterValidator(lambda text: " ".join(text.split()))]
]
_End = Annotated[int, Field(gt=-(10**9), lt=10**9)]


class _Answers(Schema):
    """The valid answers of a question: a range of whole numbers, some with labels, or options."""

    low: _End | None = None
    high: _End | None = None
    labels: _Labels = Field({}, description='an object such as {"1": "Yes"}')
    options: _Labels | None = Field(None, description='an object such as {"1": "Yes", "2": "No"}')

    @model_validator(mode="after")
    def _is_a_scale(self) -> _Answers:
        if self.options is not None:
            if self.model_fields_set != {"options"}:
                raise ValueError('takes either "options", or "low", "high" and "labels"')
            if len(self.options) < 2:
                raise ValueError("one answer alone is no scale; give two or more options")
            return self
        if self.low is None or self.high is None:
            raise ValueError('takes "low" and "high", such as {"low": 1, "high": 7}, or "options"')
        if self.low >= self.high:
            raise ValueError(f'"low" must be below "high", and is {self.low} where that is {self.high}')
        if (answers := self.high - self.low + 1) > MAX_TREE_ANSWERS:
            raise ValueError(f"has {answers:,} answers; at most {MAX_TREE_ANSWERS:,} are scored: ask in larger units")
        for number in self.labels:
            if not self.low <= number <= self.high:
                raise ValueError(f"the label of {number} lies outside {self.low} to {self.high}")
        return self


class OutcomeQuestion(Schema):
    """A question that everybody is asked in every condition; its text has no answer instruction."""

    text: Text = Field(description="the question")
    scale: _Answers = Field(
        description='the valid answers, {"low": 1, "high": 7}, with "labels" if you like, or '
        '{"options": {"1": "Yes", "2": "No"}}'
    )

    @property
    def answers(self) -> Scale:
        """The valid ones."""
        low, high, options = self.scale.low, self.scale.high, self.scale.options
        return Scale(tuple(sorted(options) if options else range(low, high + 1)))

    @property
    def nominal(self) -> bool:
        """Whether answers are options, so that their numbers are names; else they measure something."""
        return self.scale.options is not None

    @property
    def labels(self) -> Mapping[int, str]:
        """Of all answers, or of some."""
        return self.scale.options or self.scale.labels

    @property
    def instruction(self) -> str:
        """How to answer, in the data set's words."""
        return answer_instruction(self.answers, self.labels, nominal=self.nominal)


class Experiment(Schema):
    """What is to be predicted, as a file describes it."""

    title: Text
    note: Text | None = None
    conditions: dict[Line, Text | None] = Field(
        min_length=1, description='an object, name -> what people read, such as {"control": null, "treatment": "…"}'
    )
    questions: dict[Line, OutcomeQuestion] = Field(
        min_length=1,
        description='an object, name -> question, such as {"support": {"text": "…", "scale": {"low": 1, "high": 7}}}',
    )
    population: Population = Field(
        description='an object, such as {"size": 200, "gender": {"Male": 0.49, "Female": 0.51}} or '
        '{"csv": "personas.csv"}'
    )

    def stimuli(self, condition: str, question: OutcomeQuestion) -> str:
        """What a person of a condition is told: what they read, what they were asked, and how to answer."""
        return stimuli_text(self.conditions[condition], question.text, question.instruction)


def read_experiment(path: Path) -> Experiment:
    """Read and check the description of an experiment.

    Raises:
        SocratesError: no such file, no JSON, or with every problem of it, a line each.
    """
    experiment = validate(Experiment, read_json(path, "experiment"), str(path))
    raise_problems(path, [problem for name in experiment.questions for problem in _scale_problems(experiment, name)])
    return experiment


def _scale_problems(experiment: Experiment, name: str) -> Iterator[str]:
    """What a person wrote may state another scale: a text with an instruction of its own, odd labels."""
    question = experiment.questions[name]
    scale, key = question.answers, f'"questions.{name}"'
    own = parse_scale(question.text)
    if own not in (None, scale):
        yield f'"questions.{name}.text": states the scale {own} itself, and not {scale}; leave the answers to "scale"'
    for condition, text in experiment.conditions.items():
        instructed, form, _ = read_scale(text or "")
        if instructed not in (None, scale) and not form.endswith(IN_QUESTION):
            yield (
                f'"conditions.{condition}": tells to answer from {instructed}, and not from {scale}, which '
                f"{key} has; leave the instruction out"
            )
    for condition in experiment.conditions:
        found, _, missing = read_scale(experiment.stimuli(condition, question))
        if missing:
            codes = ", ".join(f"{code} ({shown(question.labels.get(code, '?'))})" for code in sorted(missing))
            yield f"{key}: {codes} is a missing answer, which measures nothing; leave it out of the valid answers"
            break
        if found != scale:
            read = f"the scale {found}" if found else "no scale at all"
            yield (
                f"{key}: with its answer instruction it reads as {read}, not {scale} (condition {shown(condition)}); "
                f"reword its text or its labels: {shown(question.instruction)}"
            )
            break
