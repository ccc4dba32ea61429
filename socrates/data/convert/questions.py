"""A question that is converted: its text, scale, labels and missing codes, from `columns.json` and from its table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from socrates.data.convert.columns import Columns, Question, scale_of
from socrates.data.convert.tables import Known
from socrates.data.records import BadRow, as_number
from socrates.data.scales import MAX_VALUES, Scale
from socrates.data.scales.missing import CODES, says_missing
from socrates.data.scales.text import IN_QUESTION, read_scale
from socrates.data.scales.wording import answer_instruction
from socrates.errors import SocratesError
from socrates.schema import shown

_NUMBER = re.compile(r"[+-]?\d{1,18}(?:\.\d{1,18})?(?:[eE][+-]?\d{1,2})?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d{1,18},(?:\d{1,2}|\d{4,18})")  # "1,200" may be 1.2 or 1200, and is refused


class Asked(NamedTuple):
    """A question with all that is known of it."""

    text: str
    instruction: str  # how to answer; empty where the text says it
    scale: Scale | None
    answers: Mapping[str, float]  # of labels
    missing: frozenset[float]
    ranges: tuple[tuple[float, float], ...]  # of more missing codes, which are taken as empty
    own: Mapping[str, Any]  # what each of its rows says

    def answer(self, value: Any) -> float | None:
        """The answer that a value of a table means, None for none; BadRow: it cannot be one."""
        number = value and self.answers.get(_folded(value)) if isinstance(value, str) else value
        if number is None and value is not None and (number := as_answer(value)) is None:
            known = f" and none of its labels ({', '.join(self.answers)})" if self.answers else ""
            raise BadRow(f"{shown(value)} is no number{known}")
        if number is None or number in self.missing:
            return number
        if any(low <= number <= high for low, high in self.ranges):
            return None
        if number != int(number) and (self.scale is None or number not in self.scale):
            scale = f"not on the scale {self.scale}" if self.scale else "no scale is given"
            raise BadRow(f'{number} is no whole number, and {scale}; one with decimals reads "0 to 1 by 0.1"')
        return number


def ask(task: int | str, columns: Columns, known: Known, text: str | None) -> Asked:
    """A question by its name, what its file says, and the text beside its answer; SocratesError: it has no text."""
    said = columns.questions.get(str(task), Question())
    text = said.text or text or known.text
    if text is None:
        write = f'"questions": {{{shown(str(task))}: "…"}}, or name the column that holds it, "text"'
        raise SocratesError(f"question {shown(task)} has no text; write it: {write}")
    given, codes, nominal = (
        getattr(columns if getattr(said, name) is None else said, name) for name in ("scale", "missing", "nominal")
    )
    scale, labels = scale_of(known.scale if given is None else given)
    labels = labels or {value: label for value, label in known.labels.items() if not isinstance(value, str)}
    missing = {*(codes or ())}
    missing |= {value for value, label in labels.items() if CODES.fullmatch(str(value)) and says_missing(label)}
    for low, high in known.missing:
        missing |= {low} if low == high else {value for value in labels if low <= value <= high}
    values = scale.values if scale else _filled(sorted(labels.keys() - missing))
    values = tuple(value for value in values if value not in missing)
    scale = Scale(values) if len(values) > 1 else None
    stated, form, _ = read_scale(text)
    is_told = stated is not None and not form.endswith(IN_QUESTION) and scale in (None, stated)
    scale = scale or stated
    own = {"scale": scale and str(scale), "nominal": nominal, "missing": sorted(map(as_number, missing))}
    return Asked(
        text=text,
        instruction="" if is_told else answer_instruction(scale, labels, nominal=bool(nominal)),
        scale=scale,
        answers={_folded(label): value for value, label in labels.items()},
        missing=frozenset(missing),
        ranges=known.missing,
        own={name: value for name, value in own.items() if value},
    )


def _filled(values: Sequence[float]) -> Sequence[float]:
    """The answers behind labels of a file: evenly spaced ones, or two, mark a whole range."""
    whole = all(isinstance(value, int) for value in values)
    is_even = len({high - low for low, high in pairwise(values)}) == 1
    return range(values[0], values[-1] + 1) if whole and is_even and values[-1] - values[0] < MAX_VALUES else values


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def as_answer(value: Any) -> float | None:
    """A value of a table as a number; None if it is none."""
    if not isinstance(value, str):
        return value
    if _DECIMAL_COMMA.fullmatch(value) or _NUMBER.fullmatch(value):
        return as_number(float(value.replace(",", ".")))
    return None
