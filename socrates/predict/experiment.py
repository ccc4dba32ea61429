"""An experiment as a person describes it: conditions, questions with their scales, and who is asked.

The model reads it in the words of the data set, so that it reads what it was trained to read: 'You read “…” and then
were asked: “…” Only return an integer from 1 to 7, where 1 means … and 7 means …, nothing else.'

Covers: what `schema.py` covers; and that the rendered question states the very scale that was meant.
Does not cover: whether it fits the model's length (`predict.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from socrates.data.scales import Scale
from socrates.data.scales.text import IN_QUESTION, parse_scale, read_scale
from socrates.files import read_json
from socrates.inference.engine import MAX_TREE_ANSWERS
from socrates.predict.population import Margins, Persona, Population, read_personas
from socrates.schema import Line, Schema, Text, raise_problems, shown, validate

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,8}")


def _whole(answer: Any) -> int:
    if not isinstance(answer, str) or not _WHOLE.fullmatch(answer):
        raise ValueError(f'the answer must be a whole number, such as "1", not {shown(answer)}')
    return int(answer)


Labels = dict[
    Annotated[int, BeforeValidator(_whole)], Annotated[Text, AfterValidator(lambda text: " ".join(text.split()))]
]
End = Annotated[int, Field(gt=-(10**9), lt=10**9)]


class _Answers(Schema):
    """The valid answers of a question: a range of whole numbers, some with labels, or options."""

    low: End | None = None
    high: End | None = None
    labels: Labels = Field({}, description='an object such as {"1": "Yes"}')
    options: Labels | None = Field(None, description='an object such as {"1": "Yes", "2": "No"}')

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
        if self.low == self.high:
            raise ValueError(f"from {self.low} to {self.high} is one answer alone, and no scale")
        if self.low > self.high:
            raise ValueError(f'"low" is {self.low} and "high" is {self.high}; exchange them')
        if (answers := self.high - self.low + 1) > MAX_TREE_ANSWERS:
            raise ValueError(f"has {answers:,} answers; at most {MAX_TREE_ANSWERS:,} are scored: ask in larger units")
        for number in self.labels:
            if not self.low <= number <= self.high:
                raise ValueError(f"the label of {number} lies outside {self.low} to {self.high}")
        return self


class _Question(Schema):
    text: Text = Field(description="the question")
    scale: _Answers = Field(
        description='the valid answers, {"low": 1, "high": 7}, with "labels" if you like, or '
        '{"options": {"1": "Yes", "2": "No"}}'
    )


class _Description(Schema):
    """The file."""

    title: Text
    note: Text | None = None
    conditions: dict[Line, Text | None] = Field(
        min_length=1, description='an object, name -> what people read, such as {"control": null, "treatment": "…"}'
    )
    questions: dict[Line, _Question] = Field(
        min_length=1,
        description='an object, name -> question, such as {"support": {"text": "…", "scale": {"low": 1, "high": 7}}}',
    )
    population: Population = Field(
        description='an object, such as {"size": 200, "gender": {"Male": 0.49, "Female": 0.51}} or '
        '{"csv": "personas.csv"}'
    )


@dataclass(frozen=True)
class OutcomeQuestion:
    """A question that everybody is asked in every condition.

    Attributes:
        name: what tables call it.
        text: its words, without the answer instruction.
        scale: its valid answers.
        labels: of all answers, or of some.
        options: whether the answers are options, so that their numbers are names; else they measure something.
    """

    name: str
    text: str
    scale: Scale
    labels: Mapping[int, str]
    options: bool

    @property
    def instruction(self) -> str:
        """How to answer, in the data set's words."""
        labels = sorted(self.labels.items())
        if self.options:
            named = [f"{value} for “{label}”" for value, label in labels]
            return f"Only return {' or '.join(named) if len(named) == 2 else '; '.join(named)}, nothing else."
        *named, last = [f"{value} means {label}" for value, label in labels] or [""]
        where = f", where {', '.join(named)}{' and ' if named else ''}{last}" if last else ""
        return f"Only return an integer from {self.scale.low} to {self.scale.high}{where}, nothing else."


@dataclass(frozen=True)
class Experiment:
    """What is to be predicted.

    Attributes:
        file: that describes it.
        described: what stands in the file.
        title: of the page.
        note: what else the page is to say; may be empty.
        conditions: name -> what people of that condition read; None: nothing but the question.
        questions: at least one.
        population: the margins of those who are asked, or the CSV file that lists them.
    """

    file: Path
    described: Mapping[str, Any]
    title: str
    note: str
    conditions: Mapping[str, str | None]
    questions: tuple[OutcomeQuestion, ...]
    population: Margins | Path

    def stimuli(self, condition: str, question: OutcomeQuestion) -> str:
        """What a person of a condition is told: what they read, what they were asked, and how to answer."""
        read = self.conditions[condition]
        before = "You were asked" if read is None else f"You read “{read}” and then were asked"
        return f"{before}: “{question.text}” {question.instruction}"

    def personas(self, seed: int, people: int | None = None) -> list[Persona]:
        """Who is asked: ``people`` of them, or as many as the file says.

        Raises:
            SocratesError: a CSV file that cannot be used, or that lists fewer.
        """
        if isinstance(self.population, Margins):
            return self.population.sample(seed, people)
        return read_personas(self.population, people, seed)


def read_experiment(path: Path) -> Experiment:
    """Read and check the description of an experiment.

    Raises:
        SocratesError: no such file, no JSON, or with every problem of it, a line each.
    """
    content = read_json(path, "experiment")
    found = validate(_Description, content, str(path))
    questions = tuple(_outcome_question(name, question) for name, question in found.questions.items())
    people = found.population.margins() if found.population.csv is None else path.parent / found.population.csv
    experiment = Experiment(path, content, found.title, found.note or "", found.conditions, questions, people)
    raise_problems(path, [problem for question in questions for problem in _scale_problems(experiment, question)])
    return experiment


def _outcome_question(name: str, question: _Question) -> OutcomeQuestion:
    answers = question.scale
    if answers.options is not None:
        scale = Scale(tuple(sorted(answers.options)))
        return OutcomeQuestion(name, question.text, scale, answers.options, options=True)
    assert answers.low is not None and answers.high is not None
    scale = Scale(tuple(range(answers.low, answers.high + 1)))
    return OutcomeQuestion(name, question.text, scale, answers.labels, options=False)


def _scale_problems(experiment: Experiment, question: OutcomeQuestion) -> Iterator[str]:
    """What a person wrote may state another scale: a text with an instruction of its own, odd labels."""
    key = f'"questions.{question.name}"'
    own = parse_scale(question.text)
    if own not in (None, question.scale):
        yield (
            f'"questions.{question.name}.text": states the scale {own} itself, and not {question.scale}; leave the '
            'answers to "scale"'
        )
    for name, text in experiment.conditions.items():
        instructed, form = read_scale(text or "")
        if form and not form.endswith(IN_QUESTION) and instructed != question.scale:
            yield (
                f'"conditions.{name}": tells to answer from {instructed}, and not from {question.scale}, which '
                f"{key} has; leave the instruction out"
            )
    for name in experiment.conditions:
        found = parse_scale(experiment.stimuli(name, question))
        if found != question.scale:
            scale = f"the scale {found}" if found else "no scale at all"
            yield (
                f"{key}: with its answer instruction it reads as {scale}, not {question.scale} "
                f"(condition {shown(name)}); reword its text or its labels: {shown(question.instruction)}"
            )
            break
