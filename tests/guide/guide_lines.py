"""Whether a command printed what the page says it prints.

A line of the page is found where a line of the output is the same, but for its numbers: a time of day stands for any,
a whole number for any whole number, one with a decimal point for any number. Numbers that are part of a name
(checkpoint-10, Qwen2.5) stand for themselves. "..." (or "…") stands for anything in a line, and alone on a line for any
lines between. Lines with no "..." between them must follow one another; empty lines count on neither side.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby

_TIME = r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d"
_WHOLE = r"-?\d[\d,]*"
_REAL = rf"{_WHOLE}(?:\.\d+)?(?:e[-+]?\d+)?"
_TOKEN = re.compile(rf"({_TIME}|\.\.\.|…|(?<![\w.-]){_REAL})")


def line_pattern(line: str) -> re.Pattern[str]:
    """The pattern of the lines that a line of the page stands for."""
    texts_and_tokens = _TOKEN.split(line)
    texts_and_tokens[::2] = map(re.escape, texts_and_tokens[::2])
    texts_and_tokens[1::2] = map(_stands_for, texts_and_tokens[1::2])
    return re.compile("".join(texts_and_tokens))


def _stands_for(token: str) -> str:
    if token in ("...", "…"):
        return ".*"
    return next(pattern for pattern in (_TIME, _WHOLE, _REAL) if re.fullmatch(pattern, token))


def says_something(expected: Iterable[str]) -> bool:
    """Whether lines of a page ask for anything at all."""
    return bool(_groups(expected))


def first_missing(expected: Iterable[str], output: str) -> str | None:
    """The first lines of the page that the output does not hold in their place; None if it holds all of them."""
    printed = [line.rstrip() for line in output.splitlines() if line.strip()]
    at = 0
    for group in _groups(expected):
        patterns = [line_pattern(line) for line in group]
        starts = range(at, len(printed) - len(group) + 1)
        found = next((i for i in starts if all(p.fullmatch(printed[i + n]) for n, p in enumerate(patterns))), None)
        if found is None:
            return "\n".join(group)
        at = found + len(group)
    return None


def _groups(expected: Iterable[str]) -> list[list[str]]:
    """Lines that must follow one another."""
    lines = [line.rstrip() for line in expected if line.strip()]
    return [list(group) for is_gap, group in groupby(lines, lambda line: line.strip() in ("...", "…")) if not is_gap]
