"""The valid answers to a question (`Scale`); `text.py` finds them in its text."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from itertools import pairwise

_LARGEST = 2**53  # beyond it a float skips whole numbers
_DECIMALS = 4  # of a value, at most: then `str` writes it without an exponent
MAX_VALUES = 1_000_000  # a wider "scale" is an open amount, and too large to enumerate


@dataclass(frozen=True, slots=True)
class Scale:
    """The numbers that are valid answers to a question, in ascending order, each once; whole ones are of type int.

    Raises:
        ValueError: no values, or values not in strictly ascending order.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values or any(b <= a for a, b in pairwise(self.values)):
            raise ValueError("a scale needs values, in ascending order, each once")

    def __contains__(self, value: float) -> bool:
        index = bisect_left(self.values, value)
        return index < len(self.values) and self.values[index] == value

    def __str__(self) -> str:
        """The values as files show them: "1 to 7", "1, 2, 8", "0 to 1 by 0.1"; `scale_from_text` reads it."""
        return ", ".join(_runs([Decimal(repr(value)) for value in self.values]))


@lru_cache(maxsize=1024)
def without(scale: Scale, missing: frozenset[float]) -> Scale | None:
    """A scale without codes of missing answers; None where fewer than two answers are left."""
    values = tuple(value for value in scale.values if value not in missing)
    return Scale(values) if len(values) > 1 else None


def scale_from_text(text: str) -> Scale:
    """The scale that `str` of a scale shows.

    Raises:
        ValueError: the text shows none, one of more than `MAX_VALUES` values, a value beyond 2**53, or one of more than
            four decimals.
    """
    values: list[float] = []
    for part in text.split(", "):
        run, _, by = part.partition(" by ")
        first, to, last = run.partition(" to ")
        low, high, step = (_decimal(number) for number in (first, last if to else first, by or "1"))
        count = (high - low) / step if step > 0 else Decimal(-1)
        if count < 0 or count != int(count) or (by and not to):
            raise ValueError(f"no scale: {part}")
        if len(values) + count >= MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES:,} values")
        numbers = (low + index * step for index in range(int(count) + 1))
        values += [int(number) if number == int(number) else float(number) for number in numbers]
    return Scale(tuple(values))


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
        if not abs(number) <= _LARGEST or number != round(number, _DECIMALS):
            raise ValueError(f"{text} is above {_LARGEST:,}, or has more than {_DECIMALS} decimals")
    except InvalidOperation as error:
        raise ValueError(f"no number: {text}") from error
    return number


def _runs(values: list[Decimal]) -> Iterator[str]:
    """Three values or more with a step of 1, and five or more with another step, as "A to B"."""
    start = 0
    while start < len(values):
        end, step = start + 1, values[start + 1] - values[start] if start + 1 < len(values) else None
        while end < len(values) and values[end] - values[end - 1] == step:
            end += 1
        if end - start >= (3 if step == 1 else 5):
            yield f"{values[start]} to {values[end - 1]}" + ("" if step == 1 else f" by {step}")
            start = end
        else:
            yield str(values[start])
            start += 1
