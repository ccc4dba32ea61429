"""How a question reads to a model: in the words of the data set, which it was trained to read.

'You read “…” and then were asked: “…” Only return an integer from 1 to 7, where 1 means … and 7 means …, nothing else.'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from socrates.data.scales import Scale


def stimuli_text(
    read: str | None, question: str, instruction: str, statements: Sequence[str] = (), *, verbatim: bool = False
) -> str:
    """What a person is told: what they read, if anything, what they were asked, and how to answer.

    Without an instruction the question holds its own, and is not quoted; ``statements`` were shown together before it.
    """
    shown = f"were shown these statements, in this order: {'; '.join(f'“{one}”' for one in statements)}"
    if verbatim:
        return "\n\n".join(filter(None, [read, statements and f"You {shown}", question, instruction]))
    asked = f"were asked: “{question}” {instruction}" if instruction else f"were asked: {question}"
    if statements:
        return f"You {f'read “{read}”, ' if read else ''}{shown}, and then {asked}"
    if read:
        return f"You read “{read}” and then {asked}"
    return f"You {asked}" if instruction else question


def answer_instruction(
    scale: Scale | None, labels: Mapping[float, str], *, nominal: bool = False, codes: Mapping[float, str] | None = None
) -> str:
    """How to answer, where some answers or all have labels; without a scale, that it is a whole number.

    ``codes``: what may be answered beside the scale, with their labels.
    """
    if scale is None:
        return "Only return an integer, nothing else."
    values, beside = scale.values, " or ".join(f"{code} for “{label}”" for code, label in (codes or {}).items())
    beside = beside and f", or {beside}"
    labels = {value: labels[value] for value in values if value in labels} if labels else {}
    steps = {round(high - low, 9) for low, high in pairwise(values)}
    step = steps.pop() if len(steps) == 1 and not nominal else None
    if step is None or (step != 1 and len(values) == 2):
        if len(labels) == len(values):
            named = [f"{value} for “{label}”" for value, label in labels.items()]
            return f"Only return {' or '.join(named) if len(named) == 2 else '; '.join(named)}{beside}, nothing else."
        return f"Only return {_listed([*map(str, values)], 'or')}{_meanings(labels)}{beside}, nothing else."
    kind = "an integer" if all(value == int(value) for value in values) else "a number"
    by = "" if step == 1 and kind == "an integer" else f" in steps of {step:.12g}"
    return f"Only return {kind} from {values[0]} to {values[-1]}{by}{_meanings(labels)}{beside}, nothing else."


def _meanings(labels: Mapping[int, str]) -> str:
    meanings = [f"{value} means {label}" for value, label in labels.items()]
    return f", where {_listed(meanings, 'and')}" if meanings else ""


def _listed(words: Sequence[str], last: str) -> str:
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else words[0]
