"""What a row says itself, so that nothing has to be read from its text: valid answers, missing codes, weight, counts.

`scale`: "1 to 7", "0 to 1000 by 50", "1, 2, 8", or an object, value -> label. `nominal`: true where answers are names
and no amounts. `missing`: codes of missing answers. `weight`: the person's survey weight. In place of a `response`, a
row may hold the answers of many people: `counts` (answer -> people), or `shares` (answer -> share) and `n` people.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from socrates.data.scales import Scale, scale_from_text
from socrates.schema import Recorded, shown, validate

KEYS = ("scale", "nominal", "missing", "weight", "counts", "shares", "n")
SCALE_FORM = 'must name the valid answers ("1 to 7", "0 to 1 by 0.1", "1, 2, 8", {"1": "Never", "2": "Always"})'
_ROUNDED = 0.02  # by how much published shares may miss a sum of 1
_Amount = Annotated[float, Field(ge=0, le=1e9)]


@lru_cache(maxsize=1024)  # one object for the thousands of rows of a scale
def _scale_of(given: str | tuple[str, ...]) -> Scale:
    return scale_from_text(given) if isinstance(given, str) else Scale(tuple(sorted(map(named_answer, given))))


def named_answer(text: str) -> float:
    """The answer that a key of an object names; ValueError if it is no number."""
    (answer,) = scale_from_text(text).values
    return answer


def named_scale(given: Any) -> Scale:
    """The valid answers that a "scale" names, as a text or as an object with labels; ValueError if it names none."""
    try:
        return _scale_of(given if isinstance(given, str) else tuple(key for key in given if given[key] is not None))
    except (ValueError, TypeError, LookupError) as error:
        raise ValueError(f"{SCALE_FORM}, not {shown(given)}") from error


def _codes(given: list[float]) -> frozenset[float]:
    return frozenset(int(code) if code.is_integer() else code for code in given)


def _by_answer(given: dict[str, float | None]) -> dict[float, float]:
    """Those that somebody gave; tables of many rows leave null what a row does not have."""
    try:
        found = {named_answer(text): number for text, number in given.items() if number}
    except ValueError as error:
        raise ValueError(f'must be an object, answer -> number ({{"1": 30, "2": 70}}), not {shown(given)}') from error
    if not found:
        raise ValueError(f"must hold the answers of one person at least, not {shown(given)}")
    return dict(sorted(found.items()))


_ByAnswer = Annotated[dict[str, _Amount | None], AfterValidator(_by_answer)]


class OwnWords(Recorded, extra="ignore"):
    """What a row says itself; the default is that it says nothing."""

    scale: Annotated[Any, AfterValidator(named_scale)] = None  # a `Scale`
    nominal: bool = False
    missing: Annotated[list[float], AfterValidator(_codes)] | None = None
    weight: Annotated[float, Field(gt=0, le=1e9)] = 1
    counts: _ByAnswer | None = None  # answer -> people
    shares: _ByAnswer | None = None
    n: Annotated[float, Field(gt=0, le=1e9)] | None = None

    @model_validator(mode="after")
    def _has_both(self) -> OwnWords:
        if self.shares is None:
            return self
        total = math.fsum(self.shares.values())
        if self.counts is not None or self.n is None:
            raise ValueError('takes either "counts", or "shares" and "n", the number of people')
        if abs(total - 1) > _ROUNDED:
            raise ValueError(f'"shares" sum to {total:.4g}, not to 1')
        counts = {answer: share / total * self.n for answer, share in self.shares.items()}
        return self.model_copy(update={"counts": counts})

    def as_row(self) -> dict[str, Any]:
        """The keys of a row that say the same."""
        counts = {str(answer): number for answer, number in (self.counts or {}).items()}
        missing = None if self.missing is None else sorted(self.missing)
        said = {
            "scale": self.scale and str(self.scale),
            "nominal": self.nominal or None,
            "missing": missing,
            "weight": None if self.weight == 1 else self.weight,
            "counts": counts or None,
        }
        return {key: value for key, value in said.items() if value is not None}


NOTHING = OwnWords()


def read_own_words(row: Mapping[str, Any], where: str) -> OwnWords:
    """What a row says itself; SocratesError, with every problem, for what makes no sense."""
    given = {key: row[key] for key in KEYS if row.get(key) is not None}
    return validate(OwnWords, given, where) if given else NOTHING
