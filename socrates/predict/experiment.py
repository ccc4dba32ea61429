"""An experiment as a person describes it: conditions, questions with their scales, and who is asked.

The model reads it in the words of the data set, so that it reads what it was trained to read: 'You read “…” and then
were asked: “…” Only return an integer from 1 to 7, where 1 means … and 7 means …, nothing else.' A condition with
"verbatim" is read as it was written instead.

Covers: what `schema.py` covers; and that the rendered question states the very scale that was meant.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, model_validator

from socrates.data.scales import Scale, scale_from_text
from socrates.data.scales.text import IN_QUESTION, read_scale
from socrates.data.scales.wording import answer_instruction, stimuli_text, verbatim_text
from socrates.files import read_json
from socrates.inference.engine import MAX_TREE_ANSWERS
from socrates.predict.population import Population
from socrates.schema import Line, Schema, Text, nearest, raise_problems, shown, validate

_ANSWER = re.compile(r"(0|-?[1-9][0-9]{0,8})|-?(?:0|[1-9][0-9]{0,8})\.[0-9]{0,3}[1-9]")
_MOST_CELLS = 64  # of a factorial design
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def _number(answer: Any, *, whole: bool = False) -> float:
    found = _ANSWER.fullmatch(answer) if isinstance(answer, str) else None
    if not found or (whole and not found[1]):
        kind = 'a whole number, such as "1"' if whole else 'a number, such as "1" or "0.5"'
        raise ValueError(f"the answer must be {kind}, not {shown(answer)}")
    return int(answer) if found[1] else float(answer)


_Whole = Annotated[int, PlainValidator(lambda answer: _number(answer, whole=True))]
_Label = Annotated[Text, AfterValidator(lambda text: " ".join(text.split()))]
_plain = AfterValidator(lambda number: int(number) if number % 1 == 0 else number)
_End = Annotated[float, Field(gt=-(10**9), lt=10**9), _plain]


class _Answers(Schema):
    """The valid answers of a question: a range of numbers, some with labels, or options; and codes beside them."""

    low: _End | None = None
    high: _End | None = None
    step: Annotated[float, Field(ge=1e-4, lt=10**9), _plain] = 1
    labels: dict[Annotated[float, PlainValidator(_number)], _Label] = Field(
        {}, description='an object such as {"1": "Yes"}'
    )
    options: dict[_Whole, _Label] | None = Field(None, description='an object such as {"1": "Yes", "2": "No"}')
    codes: dict[_Whole, _Label] = Field({}, description='an object such as {"999": "don\'t know"}')

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
        else:
            if (answers := int((self.high - self.low) / self.step) + 1 + len(self.codes)) > MAX_TREE_ANSWERS:
                raise ValueError(
                    f"has {answers:,} answers; at most {MAX_TREE_ANSWERS:,} are scored: ask in larger units"
                )
            try:
                scale = self.scale
            except ValueError:
                raise ValueError(
                    f'"high" - "low" must be a multiple of "step", {self.step}, with at most four decimals in each'
                ) from None
            for number in self.labels:
                if number not in scale:
                    raise ValueError(f"the label of {number} lies outside {scale}")
        for code in self.codes:
            if code in (self.options or ()) or (self.options is None and self.low <= code <= self.high):
                raise ValueError(f"the code {code} lies within {self.scale}; take a number outside")
        return self

    @property
    def scale(self) -> Scale:
        """What measures, or the options' numbers; without codes. ValueError: it is none."""
        range_ = f"{self.low} to {self.high} by {self.step}"
        return Scale(tuple(sorted(self.options))) if self.options else scale_from_text(range_)


class OutcomeQuestion(Schema):
    """A question that everybody is asked, in every condition that does not leave it out; without answer instruction."""

    text: Text = Field(description="the question")
    scale: _Answers = Field(
        description='the valid answers, {"low": 1, "high": 7}, with "step", "labels" and "codes" if you like, or '
        '{"options": {"1": "Yes", "2": "No"}}'
    )

    @property
    def answers(self) -> Scale:
        """What measures something, or the options; codes are none."""
        return self.scale.scale

    @property
    def codes(self) -> Mapping[float, str]:
        """Valid answers beside the scale, such as 999, "don't know"."""
        return self.scale.codes

    @property
    def valid(self) -> Scale:
        """All that may be answered: answers and codes."""
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


class Turn(Schema):
    """What came before the question: a screen, or a question that the same person answered."""

    text: Text | None = None
    question: Text | None = None
    answer: Line | None = None  # may hold "{field}", a field of the persona

    @model_validator(mode="after")
    def _is_one(self) -> Turn:
        if {name for name, value in self if value is not None} not in ({"text"}, {"question", "answer"}):
            raise ValueError('takes either "text" (a screen), or "question" and "answer"')
        return self


def _as_turn(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


class Condition(Schema):
    """What people of a condition read, and what they are asked there."""

    text: Text | None = None
    verbatim: bool = False  # text and wordings stand as they were written, else in the words of the data set
    before: list[Annotated[Turn, BeforeValidator(_as_turn)]] = Field(
        [], description='a list of texts and of earlier answers, such as {"question": "…", "answer": "4"}'
    )
    questions: dict[Line, Text | None] = Field(
        {}, description="an object, name of a question -> its wording here, or null where it is not asked"
    )
    levels: dict[Line, Line] = Field({}, description='an object, factor -> level, such as {"frame": "loss"}')


def _as_condition(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return {"text": value}
    if not isinstance(value, Mapping):
        raise ValueError(f'must be null, a text or an object such as {{"text": "…"}}, not {shown(value)}')
    return value


class Index(Schema):
    """The mean of several questions, some of them reversed."""

    items: list[Line] = Field(min_length=2, description="a list of two or more names of questions")
    reversed: list[Line] = Field([], description="a list of items")
    together: bool = False  # all items are shown on one screen, in an order that is drawn for each persona


def _check_crossing(factors: Mapping[str, Collection[str]]) -> Mapping[str, Collection[str]]:
    for name, levels in factors.items():
        if len(set(levels)) < max(2, len(levels)):
            raise ValueError(f"a factor takes two or more levels, each once; {shown(name)} has {shown([*levels])}")
    if (cells := math.prod(map(len, factors.values()))) > _MOST_CELLS:
        raise ValueError(f"the factors make {cells:,} conditions; at most {_MOST_CELLS} are taken: leave a factor out")
    return factors


def _cross(template: Any, factors: Any) -> dict[str, Any]:
    """The conditions that a template makes, a crossing of levels each: their descriptions by name."""
    made = {"text": template} if isinstance(template, str) else template
    if not isinstance(made, Mapping) or not isinstance(made.get("text"), str):
        raise ValueError(f'"template": must be a text such as "{{source}} says: {{frame}}.", not {shown(template)}')
    if not (isinstance(factors, Mapping) and factors and all(map(_are_texts, factors.values()))):
        example = '{"frame": {"gain": "200 are saved", "loss": "400 die"}}'
        raise ValueError(f'"factors": beside "template" they have a text a level, such as {example}')
    named = PLACEHOLDER.findall(made["text"])
    for name in [*named, *factors]:
        if name not in factors:
            raise ValueError(f'"template": {{{name}}} is no factor{nearest(name, factors)}')
        if name not in named:
            raise ValueError(f'"template": lacks {{{name}}}, a factor; say in the text where its levels stand')
    conditions = {}
    for levels in product(*_check_crossing(factors).values()):
        at = dict(zip(factors, levels, strict=True))
        text = PLACEHOLDER.sub(lambda found, at=at: factors[found[1]][at[found[1]]], made["text"])
        conditions[", ".join(levels)] = {**made, "text": text, "levels": at}
    return conditions


def _are_texts(levels: Any) -> bool:
    return isinstance(levels, Mapping) and all(isinstance(text, str) for text in levels.values())


def _check_within(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, list) and value and all(isinstance(one, str) for one in value)):
        return value
    raise ValueError(f'must be true or a list of factors, such as ["frame"], not {shown(value)}')


class Experiment(Schema):
    """What is to be predicted, as a file describes it."""

    title: Text
    note: Text | None = None
    conditions: dict[Line, Annotated[Condition, BeforeValidator(_as_condition)]] = Field(
        min_length=1, description='an object, name -> what people read, such as {"control": null, "treatment": "…"}'
    )
    factors: Annotated[
        dict[Line, Annotated[tuple[Line, ...], Field(strict=False, description="a list of levels")]],
        AfterValidator(_check_crossing),
    ] = Field({}, description='an object, factor -> its levels, such as {"frame": ["gain", "loss"]}')
    template: None = None  # in files alone: conditions are made of it
    within: Annotated[bool | list[str], PlainValidator(_check_within)] = False  # which the same people see
    questions: dict[Line, OutcomeQuestion] = Field(
        min_length=1,
        description='an object, name -> question, such as {"support": {"text": "…", "scale": {"low": 1, "high": 7}}}',
    )
    indices: dict[Line, Index] = Field(
        {}, description='an object, name -> index, such as {"trust": {"items": ["honest", "fair"]}}'
    )
    population: Population = Field(
        description='an object, such as {"size": 200, "gender": {"Male": 0.49, "Female": 0.51}} or '
        '{"csv": "personas.csv"}'
    )

    @model_validator(mode="before")
    @classmethod
    def _make_conditions(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or "template" not in value:
            return value
        if "conditions" in value:
            raise ValueError('takes either "conditions", or "template", from which they are made')
        template, factors = value["template"], value.get("factors")
        made = {
            "conditions": _cross(template, factors),
            "factors": {name: [*levels] for name, levels in factors.items()},
        }
        return {key: one for key, one in value.items() if key != "template"} | made

    def asked_in(self, question: str) -> tuple[int, ...]:
        """The conditions in which a question is asked, by their place."""
        conditions = enumerate(self.conditions.values())
        return tuple(place for place, one in conditions if one.questions.get(question, "") is not None)

    @property
    def people_of(self) -> NDArray[np.int64]:
        """Shape (C,): conditions of one number are seen by the same people."""
        if self.within is True:
            return np.zeros(len(self.conditions), np.int64)
        if not self.within:
            return np.arange(len(self.conditions))
        between = [factor for factor in self.factors if factor not in self.within]
        groups: dict[tuple[str, ...], int] = {}
        seen = [tuple(one.levels[factor] for factor in between) for one in self.conditions.values()]
        return np.array([groups.setdefault(levels, len(groups)) for levels in seen])

    def wording(self, condition: str, question: str) -> str:
        """A question's own words in a condition in which it is asked."""
        return self.conditions[condition].questions.get(question) or self.questions[question].text

    def screen_of(self, question: str) -> str | None:
        """The index whose items are shown together with this question, if there is one."""
        return next((name for name, one in self.indices.items() if one.together and question in one.items), None)

    def stimuli(self, condition: str, question: str, shown_items: Sequence[str] = ()) -> str:
        """What a person of a condition is told: what they read, what they were asked, and how to answer.

        ``shown_items``: the questions that are on one screen with it, in their order.
        """
        read, asked = self.conditions[condition], self.questions[question]
        wording = self.wording(condition, question)
        statements = [self.wording(condition, item) for item in shown_items]
        if not read.verbatim:
            return stimuli_text(read.text, wording, asked.instruction, statements)
        states = _states(wording, asked) or (_instructs(read.text) and _states(read.text, asked))
        return verbatim_text(read.text, wording, "" if states else asked.instruction, statements)


def _states(text: str, question: OutcomeQuestion) -> bool:
    """Whether a text itself states the valid answers of a question, all of them."""
    found, _, missing = read_scale(text)
    return found is not None and {*found.values} | missing == {*question.valid.values} and missing <= {*question.codes}


def _instructs(text: str | None) -> bool:
    """Whether what people read says how to answer; a scale that others used does not."""
    found, form, _ = read_scale(text or "")
    return found is not None and not form.endswith(IN_QUESTION)


def read_experiment(path: Path) -> Experiment:
    """Read and check the description of an experiment.

    Raises:
        SocratesError: no such file, no JSON, or with every problem of it, a line each.
    """
    experiment = validate(Experiment, read_json(path, "experiment"), str(path))
    for problems in (_design_problems, _scale_problems):
        raise_problems(path, [*dict.fromkeys(problems(experiment))])
    return experiment


def _design_problems(experiment: Experiment) -> Iterator[str]:
    """What names, in one part of an experiment, nothing in another, or leaves a design with gaps."""
    questions, factors = experiment.questions, experiment.factors
    cells: dict[tuple[str, ...], str] = {}
    for name, condition in experiment.conditions.items():
        key = f"conditions.{name}"
        for other in set(condition.questions) - set(questions):
            yield f'"{key}.questions.{other}": is no question{nearest(other, questions)}'
        levels = condition.levels
        if levels.keys() != factors.keys():
            needed = f"must name one level of each factor ({', '.join(factors)})" if factors else 'needs "factors"'
            yield f'"{key}.levels": {needed}, not {shown(levels)}'
            continue
        for factor, level in levels.items():
            if level not in factors[factor]:
                yield f'"{key}.levels.{factor}": {shown(level)} is no level{nearest(level, factors[factor])}'
        cell = tuple(levels[factor] for factor in factors)
        if factors and (twice := cells.setdefault(cell, name)) != name:
            yield f'"{key}.levels": {", ".join(cell)} is that of {shown(twice)} already; each crossing stands once'
    for cell in product(*factors.values()) if cells else ():
        if cell not in cells:
            yield f'"conditions": none has the levels {", ".join(cell)}; add one: every crossing of factors is needed'
    for factor in experiment.within if isinstance(experiment.within, list) else ():
        if factor not in factors:
            yield f'"within": {shown(factor)} is no factor{nearest(factor, factors) if factors else "; write true"}'
    for name in questions:
        if not experiment.asked_in(name):
            yield f'"questions.{name}": is asked in no condition; leave it out'
    for place, name in enumerate(experiment.conditions):
        if not any(place in experiment.asked_in(question) for question in questions):
            yield f'"conditions.{name}.questions": all are null; leave the condition out'
    for name in experiment.indices:
        yield from (f'"indices.{name}": {problem}' for problem in _index_problems(experiment, name))


def _index_problems(experiment: Experiment, name: str) -> Iterator[str]:
    index, questions = experiment.indices[name], experiment.questions
    if name in questions:
        yield "has the name of a question; give it another"
    if len({*index.items}) < len(index.items):
        yield f'"items" names a question twice: {shown(index.items)}'
    if unknown := [item for item in index.items if item not in questions]:
        yield from (f"the item {shown(item)} is no question{nearest(item, questions)}" for item in unknown)
        return
    for item in index.reversed:
        if item not in index.items:
            yield f'{shown(item)} in "reversed" is none of the items{nearest(item, index.items)}'
    first = index.items[0]
    for item in index.items:
        if questions[item].nominal:
            yield f"the item {shown(item)} has options, of which there is no mean; leave it out"
        elif questions[item].answers != questions[first].answers:
            scales = f"{questions[item].answers}, and {shown(first)} {questions[first].answers}"
            yield f"the item {shown(item)} has the scale {scales}; items have one scale"
        if experiment.asked_in(item) != experiment.asked_in(first):
            yield f"the item {shown(item)} is asked in other conditions than {shown(first)}"
        if index.together and (other := experiment.screen_of(item)) != name:
            yield f"the item {shown(item)} is on the screen of {shown(other)} already; it can be on one only"


def _scale_problems(experiment: Experiment) -> Iterator[str]:
    """What a person wrote may state another scale: a text with an instruction of its own, odd labels."""
    for name, question in experiment.questions.items():
        for place in experiment.asked_in(name):
            problem = _scale_problem(experiment, [*experiment.conditions][place], name, question)
            if problem:
                yield problem
                break


def _scale_problem(experiment: Experiment, name: str, asked: str, question: OutcomeQuestion) -> str | None:
    scale, key, condition = question.answers, f'"questions.{asked}"', experiment.conditions[name]
    exact, valid, codes = {*scale.values}, {*question.valid.values}, {*question.codes}
    own = read_scale(experiment.wording(name, asked))[0]
    if own and not exact <= {*own.values} <= valid:
        at = f'"conditions.{name}.questions.{asked}"' if asked in condition.questions else f'{key[:-1]}.text"'
        return f'{at}: states the scale {own} itself, and not {scale}; leave the answers to "scale"'
    read = condition.text or ""
    if _instructs(read) and not exact <= {*read_scale(read)[0].values} <= valid:
        return (
            f'"conditions.{name}": tells to answer from {read_scale(read)[0]}, and not from {scale}, which '
            f"{key} has; leave the instruction out"
        )
    screen = experiment.screen_of(asked)
    told = experiment.stimuli(name, asked, experiment.indices[screen].items if screen else ())
    found, _, missing = read_scale(told)
    if missing - codes:
        labelled = ", ".join(f"{code} ({shown(question.labels.get(code, '?'))})" for code in sorted(missing - codes))
        return f'{key}: {labelled} is a missing answer, which measures nothing; put it under "codes"'
    if all(value % 1 == 0 for value in exact) and not (found and exact <= {*found.values} <= valid):
        states = f"the scale {found}" if found else "no scale at all"
        return (
            f"{key}: with its answer instruction it reads as {states}, not {scale} (condition {shown(name)}); "
            f"reword its text or its labels: {shown(question.instruction)}"
        )
    return None
