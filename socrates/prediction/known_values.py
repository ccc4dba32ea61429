"""One value of a demographic field, as the prompt is to hold it: the same check for CSV files and for JSON.

Covers: what spreadsheets and data frames leave in a file (37.0, NaN), and ages that are no age.
Does not cover: whether the data set has such a value; a model reads "Bachelors" too, if less well.
"""

from __future__ import annotations

import re

from socrates.prediction.problems import shown, text_problem

OLDEST = 120
_NOT_KNOWN = frozenset(("na", "n/a", "#n/a", "<na>", "nan", "null", "none"))
_WHOLE_AS_FLOAT = re.compile(r"(-?[0-9]+)\.0+")  # how a column of whole numbers with gaps is written by pandas
_AGE = re.compile(r"0|[1-9][0-9]{0,2}")
_AGES = re.compile(r"(0|[1-9][0-9]{0,2})\s*[-–]\s*(0|[1-9][0-9]{0,2})")


def clean_value(text: str) -> str:
    """The value without white space around it, and whole numbers without ".0"."""
    text = text.strip()
    whole = _WHOLE_AS_FLOAT.fullmatch(text)
    return whole[1] if whole else text


def value_problem(field: str, value: str, *, ranges: bool) -> str | None:
    """What is wrong with a value that `clean_value` returned and that is not empty; None: nothing.

    Args:
        field: of which it is.
        value: the text.
        ranges: whether a range of ages may stand for the years in it.
    """
    if problem := text_problem(value, one_line=True):
        return problem
    if value.lower() in _NOT_KNOWN:
        return f"{shown(value)} is no value; leave it empty where it is not known"
    if field == "age" and not (years_of(value) if ranges else _is_age(value)):
        wanted = ' or a range of ages with both ends ("65-90")' if ranges else ", whole years of one person"
        return f'must be an age ("34"){wanted}, up to {OLDEST}, not {shown(value)}'
    return None


def years_of(age: str) -> range | None:
    """The years that an age or a range of ages holds; None: it is neither."""
    if _is_age(age):
        return range(int(age), int(age) + 1)
    found = _AGES.fullmatch(age)
    return range(int(found[1]), int(found[2]) + 1) or None if found and int(found[2]) <= OLDEST else None


def _is_age(text: str) -> bool:
    return _AGE.fullmatch(text) is not None and int(text) <= OLDEST
