"""An experiment's texts in the words of the data set, so that a model reads what it was trained to read.

SocSci210 tells what a person read, then the question, then how to answer: 'You read “…” and then were asked: “…” Only
return an integer from 1 to 7, where 1 means … and 7 means …, nothing else.'
"""

from __future__ import annotations

from collections.abc import Mapping

from socrates.scales import Scale


def render_stimuli(read: str | None, question: str, instruction: str) -> str:
    """What a person is told: what they read (None: nothing), what they were asked, and how to answer."""
    before = "You were asked" if read is None else f"You read “{read}” and then were asked"
    return f"{before}: “{question}” {instruction}"


def range_instruction(scale: Scale, labels: Mapping[int, str]) -> str:
    """How to answer with a number of a range, of which some may have labels."""
    named = [f"{value} means {labels[value]}" for value in sorted(labels)]
    where = f", where {_listed(named)}" if named else ""
    return f"Only return an integer from {scale.low} to {scale.high}{where}, nothing else."


def options_instruction(labels: Mapping[int, str]) -> str:
    """How to answer with the number of one of several options."""
    named = [f"{value} for “{labels[value]}”" for value in sorted(labels)]
    return f"Only return {' or '.join(named) if len(named) == 2 else '; '.join(named)}, nothing else."


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
