"""`columns.json`: which column of a table is what, and what the table itself does not say of its questions.

Covers: what `schema.py` covers; that the parts go together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from socrates.data.scales import Scale, scale_from_text
from socrates.files import finite, read_json
from socrates.schema import Line, Schema, Text, shown, validate

_SCALE = 'must be "1 to 7", "1, 2, 8", "0 to 1000 by 50", or an object such as {"1": "Never", "2": "Always"}'


def _scale(given: Any) -> str | dict[str, str]:
    try:
        scale, labels = scale_of(given)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{_SCALE}, not {shown(given)}") from error
    if len(scale.values) < 2 or not all(labels.values()):
        raise ValueError(f"{_SCALE}, of two answers or more, each label a text, not {shown(given)}")
    return given


def _codes(given: Any) -> Any:
    if not isinstance(given, list) or any(finite(code) is None for code in given):
        raise ValueError(f"must be a list of numbers such as [98, 99], not {shown(given)}")
    return tuple(given)


def _questions(given: Any) -> Any:
    """Names alone, or name -> text, mean questions of which the table says the rest."""
    if isinstance(given, list) and all(isinstance(name, str) for name in given):
        return {name: {} for name in given}
    if isinstance(given, Mapping):
        return {name: {"text": value} if isinstance(value, str) else value for name, value in given.items()}
    raise ValueError(
        'must be names such as ["Q1", "Q2"], or an object such as {"Q1": {"text": "…", "scale": "1 to 7"}}'
    )


def _demographics(given: Any) -> Any:
    """Field -> column; in a list, a column that has the field's name, or such objects."""
    if isinstance(given, list) and all(isinstance(item, str | dict) for item in given):
        return {k: v for item in given for k, v in (item if isinstance(item, dict) else {item: item}).items()}
    if isinstance(given, dict):
        return given
    raise ValueError('must be columns such as ["age", {"gender": "sex"}]')


_Scale = Annotated[Any, BeforeValidator(_scale)]
_Codes = Annotated[Any, BeforeValidator(_codes)]


class Question(Schema):
    """What is to be said of a question; what is not comes from the table."""

    text: Text | None = Field(None, description="the question")
    scale: _Scale = None
    nominal: bool | None = None
    missing: _Codes = None


class Study(Schema):
    """The name of a study, or the column that has it."""

    text: Line | None = None
    column: Line | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Study:
        if (self.text is None) == (self.column is None):
            raise ValueError('takes a name, or {"column": "study"}')
        return self


class Columns(Schema):
    """Which column is what."""

    study: Annotated[Study, BeforeValidator(lambda given: {"text": given} if isinstance(given, str) else given)] = (
        Field(description='a name, or {"column": "study"}')
    )
    person: Line | None = None
    condition: Line | None = None
    conditions: dict[str, Text | None] = Field({})  # value of `condition` -> what people read
    stimulus: Line | None = None  # column of what people read
    weight: Line | None = None
    demographics: Annotated[dict[Line, Line], BeforeValidator(_demographics)] = Field({})
    question: Line | None = None
    answer: Line | None = None  # then a row of the table is an answer, else a person
    text: Line | None = None  # column of the questions' texts
    questions: Annotated[dict[Line, Question], BeforeValidator(_questions)] = Field({})
    scale: _Scale = None  # of the questions that have none of their own; likewise the next two
    nominal: bool = False
    missing: _Codes = ()
    count: Line | None = None
    prediction: Line | None = None
    encoding: Line | None = None
    sheet: Line | None = None

    @model_validator(mode="after")
    def _go_together(self) -> Columns:
        if self.answer is None:
            for name in ("question", "text", "count", "prediction"):
                if getattr(self, name) is not None:
                    raise ValueError(f'"{name}" needs "answer": the column of the answers, one a row')
            if not self.questions:
                raise ValueError(
                    'takes "questions": the columns that hold answers, where each row is a person; or, where each row '
                    'is an answer, "question" and "answer": the columns that name the question and hold the answer'
                )
        elif self.question is None and len(self.questions) != 1:
            raise ValueError('takes "question", the column that names it, or "questions" with the one that is answered')
        if self.conditions and (self.condition is None or self.stimulus is not None):
            raise ValueError('"conditions" goes with "condition", the column of its names, and not with "stimulus"')
        if self.count is not None and self.person is not None:
            raise ValueError('"count" goes with rows that are not one person\'s: leave out "person" or "count"')
        return self

    def named(self) -> Iterator[tuple[str, str]]:
        """(key, column) of every column that is named."""
        if self.study.column is not None:
            yield "study.column", self.study.column
        for key in ("person", "condition", "stimulus", "weight", "question", "answer", "text", "count", "prediction"):
            if (column := getattr(self, key)) is not None:
                yield key, column
        yield from ((f"demographics.{field}", column) for field, column in self.demographics.items())
        if self.answer is None:
            yield from (("questions", column) for column in self.questions)


def read_columns(path: Path) -> Columns:
    """Read and check a `columns.json`; SocratesError with every problem of it, a line each."""
    return validate(Columns, read_json(path, "columns file"), str(path))


def scale_of(given: str | Mapping[str, str] | None) -> tuple[Scale | None, dict[float, str]]:
    """The valid answers of a "scale", and labels of them; ValueError if it states none."""
    if not isinstance(given, Mapping):
        return (None if given is None else scale_from_text(given)), {}
    labels = {}
    for text, label in given.items():
        [value] = scale_from_text(text).values
        labels[value] = " ".join(label.split())
    if len(labels) < len(given):
        raise ValueError("an answer stands there twice")
    return Scale(tuple(sorted(labels))), dict(sorted(labels.items()))
