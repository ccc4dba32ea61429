"""The valid answers to a question (`Scale`); `text.py` finds them in its text."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

_LARGEST = 2**53  # beyond it a float skips whole numbers
MAX_VALUES = 1_000_000  # a wider "scale" is an open amount, and too large to enumerate


@dataclass(frozen=True, slots=True)
class Scale:
    """The whole numbers that are valid answers to a question, in ascending order, each once.

    Raises:
        ValueError: no values, or values not in strictly ascending order.
    """

    values: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.values or any(b <= a for a, b in pairwise(self.values)):
            raise ValueError("a scale needs values, in ascending order, each once")

    def __contains__(self, value: int) -> bool:
        index = bisect_left(self.values, value)
        return index < len(self.values) and self.values[index] == value

    def __str__(self) -> str:
        """The values as files show them: "1 to 7", "1, 2, 8"; `scale_from_text` reads it."""
        parts, start = [], 0
        for end in range(1, len(self.values) + 1):
            if end == len(self.values) or self.values[end] != self.values[end - 1] + 1:
                run = self.values[start:end]
                parts += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run)
                start = end
        return ", ".join(parts)


def scale_from_text(text: str) -> Scale:
    """The scale that `str` of a scale shows.

    Raises:
        ValueError: the text shows none, one of more than `MAX_VALUES` values, or a value beyond 2**53.
    """
    values: list[int] = []
    for part in text.split(", "):
        first, _, last = part.partition(" to ")
        low = int(first)
        high = int(last or first)
        if len(values) + high - low >= MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES:,} values")
        if max(abs(low), abs(high)) > _LARGEST:
            raise ValueError(f"a value above {_LARGEST:,}")
        values += range(low, high + 1)
    return Scale(tuple(values))
