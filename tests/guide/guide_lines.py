"""Whether a command printed what the page says it prints.

A line of the page is found where a line of the output is the same, but for its numbers: a time of day stands for any,
a whole number for any whole number, one with a decimal point for any number. Numbers that are part of a name
(checkpoint-10, Qwen2.5) stand for themselves. "..." (or "…") stands for anything in a line, and alone on a line for any
lines between. Lines with no "..." between them must follow one another; empty lines count on neither side.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_TOKEN = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)"
    r"|(?P<any>\.\.\.|…)"
    r"|(?P<number>(?<![\w.-])-?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?)"
)
_TIME = r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d"
_WHOLE, _REAL = r"-?\d[\d,]*", r"-?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"


def line_pattern(line: str) -> re.Pattern[str]:
    """The pattern of the lines that a line of the page stands for."""
    pattern, end = "", 0
    for match in _TOKEN.finditer(line):
        pattern += re.escape(line[end : match.start()])
        if match["time"]:
            pattern += _TIME
        elif match["any"]:
            pattern += ".*"
        else:
            pattern += _WHOLE if re.fullmatch(_WHOLE, match["number"]) else _REAL
        end = match.end()
    return re.compile(pattern + re.escape(line[end:]))


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
        found = next((i for i in starts if _match_from(patterns, printed, i)), None)
        if found is None:
            return "\n".join(group)
        at = found + len(group)
    return None


def _match_from(patterns: Sequence[re.Pattern[str]], printed: Sequence[str], start: int) -> bool:
    return all(pattern.fullmatch(printed[start + i]) for i, pattern in enumerate(patterns))


def _groups(expected: Iterable[str]) -> list[list[str]]:
    """Lines that must follow one another."""
    groups: list[list[str]] = [[]]
    for line in expected:
        if line.strip() in ("...", "…"):
            groups.append([])
        elif line.strip():
            groups[-1].append(line.rstrip())
    return [group for group in groups if group]
