"""Tables of texts, and how numbers and shares are written in them, for the terminal and for pages alike."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table of texts; the first ``left`` columns are words, the others numbers."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1
    words_last: bool = False  # the last column holds words too
    title: str = ""


def number(value: float) -> str:
    """With commas between the thousands; a fraction with one digit."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def count(value: int, what: str, many: str = "") -> str:
    """How many of something: 1 row, 2 rows, no rows; ``many`` where the plural takes no s."""
    return f"{number(value) if value else 'no'} {what if value == 1 else many or what + 's'}"


def share(part: int, whole: int) -> str:
    """A percentage that is 0% or 100% only where it is exactly that."""
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.1:
        return "<0.1%"
    if 99.9 < percent < 100:
        return ">99.9%"
    return f"{percent:.0f}%" if part in (0, whole) else f"{percent:.1f}%"


def size(count: int) -> str:
    """Bytes for people."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"
