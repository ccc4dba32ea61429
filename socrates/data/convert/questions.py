"""A question that is converted: its text, scale, labels and missing codes, from `columns.json` and from its table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from socrates.data.convert.columns import Columns, Question
from socrates.data.convert.tables import Known
from socrates.data.records import BadRow, as_number
from socrates.data.scales import MAX_VALUES, Scale, without
from socrates.data.scales.missing import CODES, says_missing
from socrates.data.scales.text import IN_QUESTION, read_scale
from socrates.data.scales.wording import answer_instruction
from socrates.errors import SocratesError
from socrates.schema import shown

_NUMBER = re.compile(r"[+-]?(?:\d{1,18}(?:\.\d{1,18})?|\.\d{1,18})(?:[eE][+-]?\d{1,2})?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d{1,18},(?:\d{1,2}|\d{4,18})")  # "1,200" may be 1.2 or 1200, and is refused
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}")  # "1.200" may be, too: only one of them is on most scales


class Asked(NamedTuple):
    """A question with all that is known of it."""

    text: str
    instruction: str  # how to answer; empty where the text says it
    scale: Scale | None
    answers: Mapping[str, float]  # of labels
    missing: frozenset[float]
    known: Known
    own: Mapping[str, Any]  # what each of its rows says

    def answer(self, value: Any) -> float | None:
        """The answer that a value of a table means, None for none; BadRow: it cannot be one."""
        number, labelled = as_answer(value), self.answers.get(_folded(str(value))) if self.answers else None
        if number is not None and labelled not in (None, number):
            raise BadRow(f"{shown(value)} may be an answer, or the label of {labelled}: give that another label")
        number = number if labelled is None else labelled
        if number in self.missing:
            return number
        if value is None or self.known.is_missing(value):
            return None
        if number is None:
            known = f" and none of its labels ({', '.join(self.answers)})" if self.answers else ""
            raise BadRow(f"{shown(value)} is no number{known}")
        number = as_number(round(number, 6))  # 0.30000001, as files of 32 bits have it
        if number != int(number) and (self.scale is None or number not in self.scale):
            scale = f"not on the scale {self.scale}" if self.scale else "no scale is given"
            raise BadRow(
                f'{shown(value)}: {number} is no whole number, and {scale}; one with decimals reads "0 to 1 by 0.1"'
            )
        if isinstance(value, str) and _THOUSANDS.fullmatch(value) and (not self.scale or number * 1000 in self.scale):
            raise BadRow(f"{shown(value)} may be {number} or {number * 1000:g}; write it without a thousands separator")
        return number


def ask(task: int | str, columns: Columns, known: Known, text: str | None) -> Asked:
    """A question by its name, what its file says, and the text beside its answer; SocratesError if they do not fit."""
    said = columns.questions.get(str(task), Question())
    text = said.text or text or known.text
    if text is None:
        write = f'"questions": {{{shown(str(task))}: "…"}}, or name the column that holds it, "text"'
        raise SocratesError(f"question {shown(task)} has no text; write it: {write}")
    given, codes, nominal = (
        getattr(columns if getattr(said, name) is None else said, name) for name in ("scale", "missing", "nominal")
    )
    scale, labels = given or (known.scale, {})
    labels = labels or {value: label for value, label in known.labels.items() if not isinstance(value, str)}
    times = Counter(map(_folded, labels.values()))
    answers = {folded: value for value, label in labels.items() if times[folded := _folded(label)] == 1}
    for value, label in known.labels.items():
        answer = answers.get(_folded(label))
        if isinstance(value, str) and answer is not None:
            answers[_folded(value)] = answer
        elif answer not in (None, value):
            both = f"{shown(label)} is {answer} in columns.json and {value} in the file"
            raise SocratesError(f"question {shown(task)}: {both}; its scale must have the file's codes")
    missing = {*(codes or ())}
    missing |= {value for value, label in labels.items() if CODES.fullmatch(str(value)) and says_missing(label)}
    missing |= {value for value in labels if known.is_missing(value)}
    missing |= {low for low, high in known.missing if low == high and not isinstance(low, str)}
    scale = scale or (Scale(tuple(filled)) if (filled := _filled(sorted(labels.keys() - missing))) else None)
    scale = scale and without(scale, frozenset(missing))
    stated, form, _ = read_scale(text)
    is_told = stated is not None and not form.endswith(IN_QUESTION) and scale in (None, stated)
    scale = scale or stated
    own = {"scale": scale and str(scale), "nominal": nominal, "missing": sorted(map(as_number, missing))}
    return Asked(
        text=text,
        instruction="" if is_told else answer_instruction(scale, labels, nominal=bool(nominal)),
        scale=scale,
        answers=answers,
        missing=frozenset(missing),
        known=known,
        own={name: value for name, value in own.items() if value},
    )


def _filled(values: Sequence[float]) -> Sequence[float]:
    """The answers behind labels of a file: evenly spaced ones, or two, mark a whole range."""
    whole = all(isinstance(value, int) for value in values)
    is_even = len({high - low for low, high in pairwise(values)}) == 1
    return range(values[0], values[-1] + 1) if whole and is_even and values[-1] - values[0] < MAX_VALUES else values


def _folded(text: str) -> str:
    return " ".join(text.replace("’", "'").split()).casefold()


def as_answer(value: Any) -> float | None:
    """A value of a table as a number; None if it is none."""
    if not isinstance(value, str):
        return None if value is None else as_number(value)
    if _DECIMAL_COMMA.fullmatch(value) or _NUMBER.fullmatch(value):
        return as_number(float(value.replace(",", ".")))
    return None
