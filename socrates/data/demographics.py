"""Groups of people, by what is known of them: one value of one demographic field is one group.

Covers: ages and household sizes in bins, other fields by their text, whatever its case and spaces; what is not known.
Does not cover: one group under two names. Studies word their fields differently ("50-74K" and "$50,000 to $74,999"),
and two wordings are two groups.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from socrates.data.records import as_number
from socrates.errors import SocratesError

NOT_KNOWN = -1
# The least number of each bin, and its name. The last bin is open up to the largest number that is believed: 999 and
# such are codes for "refused".
_BINS = {
    "age": ((0, "under 18"), (18, "18-29"), (30, "30-44"), (45, "45-64"), (65, "65+")),
    "household_size": ((1, "1"), (2, "2"), (3, "3-4"), (5, "5+")),
}
_LARGEST = {"age": 120, "household_size": 50}
_NUMBER = re.compile(r"[+-]?\d{1,15}(\.\d{1,15})?")


class Groups(NamedTuple):
    """The groups of one field.

    Attributes:
        names: of each group, in the spelling of most of its rows; ascending by the first number in it, then as text.
        of_rows: shape (rows,): index of each row's group, or `NOT_KNOWN`.
    """

    names: tuple[str, ...]
    of_rows: NDArray[np.int64]


def find_groups(demographics: Sequence[Mapping[str, Any]]) -> dict[str, Groups]:
    """Field -> its groups, of every field in which something is known of someone; fields in ascending order.

    Raises:
        SocratesError: a value is neither a text nor a number (names the field).
    """
    fields = sorted({field for person in demographics for field in person})
    found = {field: _groups(field, (person.get(field) for person in demographics)) for field in fields}
    return {field: groups for field, groups in found.items() if groups.names}


@lru_cache(maxsize=8192, typed=True)  # typed: True and 1 are two groups
def group_name(field: str, value: str | float | None) -> str | None:
    """The group that a value belongs to; None: not known (null, an empty text, an age of 999)."""
    text = "" if value is None else " ".join(str(value).split())
    if text.casefold() in ("", "nan"):
        return None
    if not _NUMBER.fullmatch(text):
        return text
    number = float(text)
    if field not in _BINS:
        return str(as_number(number))
    bins = [name for least, name in _BINS[field] if least <= number <= _LARGEST[field]]
    return bins[-1] if bins else None


def _groups(field: str, values: Iterable[Any]) -> Groups:
    try:
        named = [group_name(field, value) for value in values]
    except TypeError as error:  # not hashable
        raise SocratesError(
            f'the demographic field "{field}" holds a list or an object; expected a text, a number or null'
        ) from error
    spellings = Counter(filter(None, named))
    best: dict[str, str] = {}  # name in lower case -> its most common spelling
    for name in sorted(spellings, key=lambda name: (-spellings[name], name)):
        best.setdefault(name.casefold(), name)
    order = sorted(best, key=lambda key: _place(field, best[key]))
    index = {key: position for position, key in enumerate(order)}
    of_rows = [NOT_KNOWN if name is None else index[name.casefold()] for name in named]
    return Groups(tuple(best[key] for key in order), np.array(of_rows, np.int64))


def _place(field: str, name: str) -> tuple[float, str]:
    for least, bin_name in _BINS.get(field, ()):
        if name == bin_name:
            return least, name
    number = re.search(r"\d{1,15}", name)
    return float(number[0]) if number else float("inf"), name
