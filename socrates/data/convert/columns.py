"""`columns.json`: which column of a table is what, and what the table itself does not say of its questions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from socrates.data.own_words import SCALE_FORM, named_answer, named_scale
from socrates.data.scales import Scale
from socrates.files import read_json
from socrates.schema import Line, Schema, Text, shown, validate


def _labelled(given: Any) -> tuple[Scale, dict[float, str]]:
    """A "scale" with the labels of its answers, where it has them."""
    scale, labels = named_scale(given), {}
    if isinstance(given, dict):
        labels = {named_answer(text): " ".join(str(label).split()) for text, label in given.items() if label}
    if len(scale.values) < 2 or len(labels) not in (0, len(scale.values)) or not all(labels.values()):
        raise ValueError(f"{SCALE_FORM}, of two answers or more, not {shown(given)}")
    return scale, dict(sorted(labels.items()))


def _questions(given: Any) -> Any:
    """Names alone, and names with a text, mean questions of which the table says the rest."""
    if isinstance(given, list) and all(isinstance(name, str) for name in given):
        return {name: {} for name in given}
    if isinstance(given, dict):
        return {name: {"text": value} if isinstance(value, str) else value for name, value in given.items()}
    raise ValueError('must be names (["Q1", "Q2"]), or an object such as {"Q1": {"text": "…", "scale": "1 to 7"}}')


class Question(Schema):
    """What is said of a question; the table says the rest."""

    text: Text | None = None
    scale: Annotated[Any, AfterValidator(_labelled)] = None  # a `Scale`, and labels of its answers
    nominal: bool | None = None
    missing: list[float] | None = Field(None, description="a list of numbers such as [98, 99]")


class Columns(Question):
    """Which column is what; a scale, `nominal` and missing codes are of the questions that have none of their own."""

    study: Line | None = None  # its name
    study_column: Line | None = None
    person: Line | None = None
    condition: Line | None = None
    conditions: dict[str, Text | None] = Field({})  # value of `condition` -> what people read
    stimulus: Line | None = None  # column of what people read
    weight: Line | None = None
    demographics: dict[Line, Line] = Field({}, description='an object, field -> column, such as {"gender": "sex"}')
    question: Line | None = None
    answer: Line | None = None  # with it a row of the table is an answer, else a person
    text: Line | None = None  # column of the questions' texts
    count: Line | None = None
    prediction: Line | None = None
    questions: Annotated[dict[Line, Question], BeforeValidator(_questions)] = Field({})
    encoding: Line | None = None

    @model_validator(mode="after")
    def _go_together(self) -> Columns:
        of_answers = [name for name in ("question", "text", "count", "prediction") if getattr(self, name) is not None]
        if (self.study is None) == (self.study_column is None):
            raise ValueError('takes "study", its name, or "study_column"')
        if self.answer is None and of_answers:
            raise ValueError(f'"{of_answers[0]}" needs "answer", the column of the answers, one a row')
        if self.answer is None and not self.questions:
            raise ValueError('takes "questions", columns of answers (a row is a person), or "question" and "answer"')
        if self.answer is not None and self.question is None and len(self.questions) != 1:
            raise ValueError('takes "question", the column that names it, or "questions" with the one that is answered')
        if self.conditions and (self.condition is None or self.stimulus is not None):
            raise ValueError('"conditions" goes with "condition", the column of its names, and not with "stimulus"')
        if self.count is not None and (self.person or self.prediction):
            raise ValueError('"count" is of many people: leave out "person" and "prediction", or "count"')
        return self

    def named(self) -> Iterator[tuple[str, str]]:
        """(key, column) of every column that is named."""
        keys = ("study_column", "person", "condition", "stimulus", "weight", "question", "answer", "text", "count")
        yield from ((key, column) for key in (*keys, "prediction") if (column := getattr(self, key)) is not None)
        yield from ((f"demographics.{field}", column) for field, column in self.demographics.items())
        yield from (("questions", column) for column in self.questions if self.answer is None)


def read_columns(path: Path) -> Columns:
    """Read and check a `columns.json`; SocratesError with every problem of it, a line each."""
    return validate(Columns, read_json(path, "columns file"), str(path))
