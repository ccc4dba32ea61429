"""Reading JSON that another process or machine has written, as a dataclass: each part has its declared type.

Covers: no text in it holds control characters, no number is NaN or infinite. Does not cover: whether it is true.
"""

from __future__ import annotations

import types
from dataclasses import fields, is_dataclass
from itertools import repeat
from typing import Any, get_args, get_origin, get_type_hints

from socrates.errors import plain
from socrates.files import finite, whole_number

_LARGEST, _FARTHEST = 10**15, 10**10  # of a whole number, and of others: a time that every calendar has


def read_as(kind: Any, value: Any, name: str = "the answer", *, low: int = -_LARGEST, lines: int = 1) -> Any:
    """A value of JSON as a type: a dataclass, `X | None`, a tuple, a dict, str, int, float or bool.

    No number may be below ``low``. A text keeps so many ``lines`` (by its field's metadata), the last with the rest.

    Raises:
        ValueError, TypeError: it is none; says which part.
    """
    if isinstance(kind, types.UnionType):
        return None if value is None else read_as(get_args(kind)[0], value, name, low=low, lines=lines)
    if is_dataclass(kind) and isinstance(value, dict):
        hints, given = get_type_hints(kind), {f.name: f.metadata for f in fields(kind) if f.name in value}
        return kind(**{key: read_as(hints[key], value[key], key, low=low, **more) for key, more in given.items()})
    if get_origin(kind) is dict and isinstance(value, dict):
        return {plain(key): read_as(get_args(kind)[1], item, name, low=low) for key, item in value.items()}
    if get_origin(kind) is tuple and isinstance(value, list):
        of = get_args(kind)
        parts = repeat(of[0], len(value)) if of[-1] is Ellipsis else of
        return tuple(read_as(part, item, name, low=low) for part, item in zip(parts, value, strict=True))
    if kind is str and isinstance(value, str):
        return "\n".join(plain(line, 500) for line in value.split("\n", lines - 1))
    if kind is bool and isinstance(value, bool):
        return value
    found = None
    if kind in (int, float):
        found = whole_number(value, low, _LARGEST) if kind is int else finite(value, max(low, -_FARTHEST), _FARTHEST)
    if found is None:
        raise ValueError(f"{name} is {str(value)[:50]!r}")
    return found
