"""An experiment as a person describes it: conditions, questions with their scales, and who is asked.

The model reads it in the words of the data set (`wording.py`), or verbatim.

Covers: what `schema.py` covers; and that the rendered question states the very scale that was meant.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice, product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, model_validator

from socrates.data.scales import Scale, scale_from_text
from socrates.data.scales.text import IN_QUESTION, read_scale
from socrates.data.scales.wording import answer_instruction, stimuli_text
from socrates.files import read_json
from socrates.inference.engine import MAX_TREE_ANSWERS
from socrates.predict.population import Population
from socrates.schema import Line, Schema, Text, nearest, raise_problems, shown, validate

_NUMBER = re.compile(r"(0|-?[1-9][0-9]{0,8})|-?(?:0|[1-9][0-9]{0,8})\.[0-9]{0,3}[1-9]")
_MOST_CELLS = 64  # of a factorial design
_ALIKE = "items have one scale of numbers, and are asked in the same conditions"
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def _number(answer: Any) -> float:
    if not isinstance(answer, str) or not (found := _NUMBER.fullmatch(answer)):
        raise ValueError(f'the answer must be a number, such as "1" or "2.5", not {shown(answer)}')
    return int(answer) if found[1] else float(answer)


_Labels = dict[
    Annotated[float, PlainValidator(_number)], Annotated[Text, AfterValidator(lambda text: " ".join(text.split()))]
]
_whole = AfterValidator(lambda number: int(number) if number % 1 == 0 else number)
_End = Annotated[float, Field(gt=-(10**9), lt=10**9), _whole]


def _text_as(key: str) -> BeforeValidator:
    return BeforeValidator(lambda value: {key: value} if value is None or isinstance(value, str) else value)


class _Answers(Schema):
    """The valid answers of a question: a range of numbers, some with labels, or options; codes beside them."""

    low: _End | None = None
    high: _End | None = None
    step: Annotated[float, Field(ge=1e-4, lt=10**9), _whole] = 1
    labels: _Labels = Field({}, description='an object such as {"1": "Yes"}')
    options: _Labels | None = Field(None, description='an object such as {"1": "Yes", "2": "No"}')
    codes: _Labels = Field({}, description='an object such as {"999": "don\'t know"}')

    @model_validator(mode="after")
    def _is_a_scale(self) -> _Answers:
        if self.options is not None:
            if self.model_fields_set - {"options", "codes"}:
                raise ValueError('takes either "options", or "low", "high", "step" and "labels"')
            if len(self.options) < 2:
                raise ValueError("one answer alone is no scale; give two or more options")
        elif self.low is None or self.high is None:
            raise ValueError('takes "low" and "high", such as {"low": 1, "high": 7}, or "options"')
        elif self.low >= self.high:
            raise ValueError(f'"low" must be below "high", and is {self.low} where that is {self.high}')
        elif (answers := int((self.high - self.low) / self.step) + 1) > MAX_TREE_ANSWERS - len(self.codes):
            raise ValueError(f"has {answers:,} answers; at most {MAX_TREE_ANSWERS:,} are scored: ask in larger units")
        elif round((self.high - self.low) / self.step, 6) % 1:
            raise ValueError(f'"high" - "low" must be a multiple of "step", which is {self.step}')
        values = self.values
        if odd := [number for number in self.labels if number not in values]:
            raise ValueError(f"the label of {odd[0]} lies outside {values}")
        if odd := [n for n in self.codes if n in values or (self.options is None and self.low < n < self.high)]:
            raise ValueError(f"the code {odd[0]} lies within {values}; take a number outside")
        return self

    @property
    def values(self) -> Scale:
        written = f"{self.low} to {self.high} by {self.step}"
        return Scale(tuple(sorted(self.options))) if self.options else scale_from_text(written)


class OutcomeQuestion(Schema):
    """A question that everybody is asked, in every condition that does not leave it out; without answer instruction."""

    text: Text = Field(description="the question")
    scale: _Answers = Field(
        description='the valid answers, {"low": 1, "high": 7}, with "labels" if you like, or '
        '{"options": {"1": "Yes", "2": "No"}}'
    )

    @property
    def answers(self) -> Scale:
        """The valid ones that measure something, or are options; no codes."""
        return self.scale.values

    @property
    def codes(self) -> Mapping[float, str]:
        """Valid answers beside the scale (999, "don't know")."""
        return self.scale.codes

    @property
    def valid(self) -> Scale:
        """Answers and codes."""
        return Scale(tuple(sorted({*self.answers.values, *self.codes})))

    @property
    def nominal(self) -> bool:
        """Whether answers are options, so that their numbers are names; else they measure something."""
        return self.scale.options is not None

    @property
    def labels(self) -> Mapping[float, str]:
        """Of all answers, or of some."""
        return self.scale.options or self.scale.labels

    @property
    def instruction(self) -> str:
        """How to answer, in the data set's words."""
        return answer_instruction(self.answers, self.labels, nominal=self.nominal, codes=self.codes)

    def allows(self, found: Scale | None) -> bool:
        """Whether a text from which this scale is read may mean the question's: not every code is told as one."""
        return found is not None and {*self.answers.values} <= {*found.values} <= {*self.valid.values}

    def stated_by(self, text: str) -> bool:
        """Whether a text itself states all valid answers."""
        found, _, missing = read_scale(text)
        return self.allows(found) and {*found.values, *missing} == {*self.valid.values}


class Turn(Schema):
    """A screen before the question, or a question that the same person answered."""

    question: Text
    answer: Line | None = None  # may hold "{field}", of the persona


class Condition(Schema):
    """What people read, and what they are asked there."""

    text: Text | None = None
    verbatim: bool = False  # as it was written, else in the words of the data set
    before: list[Annotated[Turn, _text_as("question")]] = Field([], description="a list of texts and earlier answers")
    questions: dict[Line, Text | None] = Field({}, description="an object, question -> its wording here, or null")
    levels: dict[Line, Line] = Field({}, description='an object, factor -> level, such as {"frame": "loss"}')


class Index(Schema):
    """The mean of questions, some of them reversed; ``together``: all are on one screen, in an order drawn by seed."""

    items: list[Line] = Field(min_length=2, description="a list of two or more questions")
    reversed: list[Line] = Field([], description="a list of items")
    together: bool = False


def _check_crossing(factors: Mapping[str, Collection[str]]) -> Mapping[str, Collection[str]]:
    for name, levels in factors.items():
        if len(set(levels)) < max(2, len(levels)):
            raise ValueError(f"the factor {shown(name)} takes two or more levels, each once, not {shown([*levels])}")
    if (cells := math.prod(map(len, factors.values()))) > _MOST_CELLS:
        raise ValueError(f"the factors make {cells:,} conditions; at most {_MOST_CELLS} are taken: leave a factor out")
    return factors


def _filled(template: Any, texts: Mapping[str, str]) -> Any:
    """A template with each factor's text in its place, wherever that is: in what is read, or in a question."""
    if isinstance(template, str):
        return PLACEHOLDER.sub(lambda found: texts.get(found[1], found[0]), template)
    if isinstance(template, Mapping):
        return {key: _filled(one, texts) for key, one in template.items()}
    return [_filled(one, texts) for one in template] if isinstance(template, list) else template


def _check_within(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, list) and value and all(isinstance(one, str) for one in value)):
        return value
    raise ValueError(f'must be true or a list of factors, such as ["frame"], not {shown(value)}')


class Experiment(Schema):
    """What is to be predicted, as a file describes it; a template and its levels' texts have become conditions."""

    title: Text
    note: Text | None = None
    conditions: dict[Line, Annotated[Condition, _text_as("text")]] = Field(
        min_length=1, description='an object, name -> what people read, such as {"control": null, "treatment": "…"}'
    )
    factors: Annotated[
        dict[Line, Annotated[tuple[Line, ...], Field(strict=False)]], AfterValidator(_check_crossing)
    ] = Field({}, description='an object, factor -> levels, such as {"frame": ["gain", "loss"]}')
    template: None = None
    within: Annotated[bool | list[str], PlainValidator(_check_within)] = False  # which the same people see
    questions: dict[Line, OutcomeQuestion] = Field(
        min_length=1,
        description='an object, name -> question, such as {"support": {"text": "…", "scale": {"low": 1, "high": 7}}}',
    )
    indices: dict[Line, Index] = Field({}, description='an object, such as {"trust": {"items": ["honest", "fair"]}}')
    population: Population = Field(
        description='an object, such as {"size": 200, "gender": {"Male": 0.49, "Female": 0.51}} or '
        '{"csv": "personas.csv"}'
    )

    @model_validator(mode="before")
    @classmethod
    def _make_conditions(cls, value: Any) -> Any:
        """From a template: one for each crossing of the factors, with the texts of its levels."""
        if not isinstance(value, Mapping) or "template" not in value:
            return value
        if "conditions" in value:
            raise ValueError('takes either "conditions", or "template", from which they are made')
        rest = dict(value)
        template, factors = rest.pop("template"), rest.get("factors")
        levels = factors.values() if isinstance(factors, Mapping) else [None]
        if not all(isinstance(of, Mapping) and all(isinstance(one, str) for one in of.values()) for of in levels):
            raise ValueError('"factors": beside "template" takes a text a level: {"frame": {"gain": "…", "loss": "…"}}')
        needed = [f"{{{name}}}" for name in factors]
        if not isinstance(template, str | Mapping) or not all(name in str(template) for name in needed):
            raise ValueError(f'"template": must be a text that holds {" and ".join(needed)}, not {shown(template)}')
        made = {"text": template} if isinstance(template, str) else template
        conditions = {}
        for levels in product(*_check_crossing(factors).values()):
            at = dict(zip(factors, levels, strict=True))
            texts = {factor: factors[factor][level] for factor, level in at.items()}
            conditions[", ".join(levels)] = _filled(made, texts) | {"levels": at}
        return rest | {"factors": {name: [*levels] for name, levels in factors.items()}, "conditions": conditions}

    def asked_in(self, question: str) -> tuple[int, ...]:
        """The places of the conditions in which a question is asked."""
        conditions = enumerate(self.conditions.values())
        return tuple(place for place, one in conditions if one.questions.get(question, "") is not None)

    @property
    def people_of(self) -> NDArray[np.int64]:
        """Shape (C,): conditions of one number are seen by the same people."""
        within = self.factors if self.within is True else self.within or ()
        levels = [{key: one.levels[key] for key in one.levels if key not in within} for one in self.conditions.values()]
        return np.array([levels.index(one) if self.within else place for place, one in enumerate(levels)])

    def wording(self, condition: str, question: str) -> str:
        """A question's own words in a condition."""
        return self.conditions[condition].questions.get(question) or self.questions[question].text

    def screen(self, question: str) -> Sequence[str]:
        """The items that are shown together with a question, if any."""
        return next((one.items for one in self.indices.values() if one.together and question in one.items), ())

    def stimuli(self, condition: str, question: str, items: Sequence[str] | None = None) -> str:
        """What a person is told: what they read and were asked, and how to answer; ``items``: of `screen`, in order."""
        read, asked, wording = self.conditions[condition], self.questions[question], self.wording(condition, question)
        statements = [self.wording(condition, item) for item in (self.screen(question) if items is None else items)]
        states = read.verbatim and (asked.stated_by(wording) or (_instructed(read.text) and asked.stated_by(read.text)))
        instruction = "" if states else asked.instruction
        return stimuli_text(read.text, wording, instruction, statements, verbatim=read.verbatim)


def _instructed(text: str | None) -> Scale | None:
    """The scale from which what people read tells them to answer; one that others used is none."""
    found, form, _ = read_scale(text or "")
    return None if found and form.endswith(IN_QUESTION) else found


def read_experiment(path: Path) -> Experiment:
    """Read and check the description of an experiment.

    Raises:
        SocratesError: no such file, no JSON, or with every problem of it, a line each.
    """
    experiment = validate(Experiment, read_json(path, "experiment"), str(path))
    raise_problems(path, [*_design_problems(experiment)])
    raise_problems(path, [one for name in experiment.questions for one in islice(_scale_problems(experiment, name), 1)])
    return experiment


def _unknown(key: str, names: Collection[str], valid: Collection[str], what: str) -> Iterator[str]:
    return (f'"{key}": {shown(name)} is no {what}{nearest(name, valid)}' for name in names if name not in valid)


def _design_problems(experiment: Experiment) -> Iterator[str]:
    """What names nothing, conditions that leave a design with gaps, and items that make no index."""
    factors, cells = experiment.factors, []
    for name, condition in experiment.conditions.items():
        yield from _unknown(f"conditions.{name}.questions", condition.questions, experiment.questions, "question")
        if all(condition.questions.get(question, "") is None for question in experiment.questions):
            yield f'"conditions.{name}.questions": all are null; leave the condition out'
        cells.append(tuple(condition.levels.get(factor) for factor in factors))
        if len(condition.levels) != len(factors) or cells[-1] not in product(*factors.values()):
            yield f'"conditions.{name}.levels": {shown(condition.levels)} names no level of each of {shown(factors)}'
    for cell in product(*factors.values()) if factors else ():
        if (times := cells.count(cell)) != 1:
            yield f'"conditions": {times} of them have the levels {", ".join(cell)}; one is needed'
    if isinstance(experiment.within, list):
        yield from _unknown("within", experiment.within, factors or ["true"], "factor")
    asked = {name: experiment.asked_in(name) for name in experiment.questions}
    yield from (f'"questions.{name}": is asked in no condition; leave it out' for name in asked if not asked[name])
    for name, index in experiment.indices.items():
        key, known = f"indices.{name}", [item for item in index.items if item in asked]
        yield from _unknown(f"{key}.items", index.items, asked, "question")
        yield from _unknown(f"{key}.reversed", index.reversed, index.items, "item")
        if name in asked or len({*index.items}) < len(index.items):
            yield f'"{key}": needs a name that is no question\'s, and each of its items once'
        for item in known:
            first, question = experiment.questions[known[0]], experiment.questions[item]
            if question.nominal or question.answers != first.answers or asked[item] != asked[known[0]]:
                yield f'"{key}.items": {shown(item)} is unlike {shown(known[0])}: {_ALIKE}'
            if index.together and experiment.screen(item) is not index.items:
                yield f'"{key}.items": {shown(item)} is on the screen of another index; show one of them alone'


def _scale_problems(experiment: Experiment, name: str) -> Iterator[str]:
    """What a person wrote may state another scale: a text with an instruction of its own, odd labels."""
    question = experiment.questions[name]
    scale, key = question.answers, f'"questions.{name}"'
    for condition in [[*experiment.conditions][place] for place in experiment.asked_in(name)]:
        read, own = experiment.conditions[condition], read_scale(experiment.wording(condition, name))[0]
        found, _, missing = read_scale(experiment.stimuli(condition, name))
        if own and not question.allows(own):
            at = f"conditions.{condition}.questions.{name}" if name in read.questions else f"questions.{name}.text"
            yield f'"{at}": states the scale {own} itself, and not {scale}; leave the answers to "scale"'
        elif (instructed := _instructed(read.text)) and not question.allows(instructed):
            told = f"tells to answer from {instructed}, and not from {scale}, which {key} has"
            yield f'"conditions.{condition}": {told}; leave the instruction out'
        elif odd := sorted(missing - {*question.codes}):
            codes = ", ".join(f"{code} ({shown(question.labels.get(code, '?'))})" for code in odd)
            yield f'{key}: {codes} is a missing answer, which measures nothing; put it under "codes"'
        elif not question.allows(found) and all(value % 1 == 0 for value in scale.values):  # no decimals are read
            states = f"the scale {found}" if found else "no scale at all"
            reads = f"with its answer instruction it reads as {states}, not {scale} (condition {shown(condition)})"
            yield f"{key}: {reads}; reword its text or its labels: {shown(question.instruction)}"
