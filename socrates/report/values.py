"""Numbers of a results file as a report reads and writes them: what is not a number, or not there, is "–"."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

NONE = "–"


class Value(NamedTuple):
    """A number and its 95% interval; either may be unknown."""

    value: float | None
    limits: tuple[float, float] | None = None

    def __str__(self) -> str:
        return self.written()

    def written(self, digits: int = 3) -> str:
        """As in a table: 0.185 [0.172, 0.198]."""
        if self.value is None:
            return NONE
        limits = (
            "" if self.limits is None else " [{},\u00a0{}]".format(*(fixed(limit, digits) for limit in self.limits))
        )
        return fixed(self.value, digits) + limits

    def told(self, digits: int = 3) -> str:
        """As in a sentence: 0.185 (95% interval 0.172 to 0.198)."""
        if self.value is None:
            return "not defined"
        return fixed(self.value, digits) + told_limits(self.limits, digits)

    def percent(self) -> Value:
        """The same in percent."""
        limits = None if self.limits is None else (self.limits[0] * 100, self.limits[1] * 100)
        return Value(None if self.value is None else self.value * 100, limits)


def value_at(record: Mapping[str, Any], *keys: str) -> Value:
    """A number deep in a record, with the `_ci95` that stands beside it."""
    for key in keys[:-1]:
        inner = record.get(key)
        record = inner if isinstance(inner, Mapping) else {}
    return Value(finite(record.get(keys[-1])), limits(record.get(f"{keys[-1]}_ci95")))


def finite(value: Any) -> float | None:
    """A number, or None where the value is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def limits(value: Any) -> tuple[float, float] | None:
    """An interval, or None where the value is none."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    low, high = map(finite, value)
    return None if low is None or high is None or low > high else (low, high)


def fixed(value: float | None, digits: int = 3) -> str:
    """A number with so many decimals, and no minus before zeros."""
    if value is None:
        return NONE
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if not text.strip("-0.") else text


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign; none before zeros."""
    text = fixed(value, digits)
    return f"+{text}" if text.strip("0.") and value > 0 else text


def told_limits(limits: tuple[float, float] | None, digits: int = 3, unit: str = "") -> str:
    """The interval as it follows a number in a sentence."""
    if limits is None:
        return ""
    low, high = (fixed(limit, digits) for limit in limits)
    return f" (95% interval {low}{unit} to {high}{unit})"
