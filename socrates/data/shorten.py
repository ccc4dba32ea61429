"""A prompt that is too long for training, made to fit: what the person read loses its middle, and a mark says so.

What must stay: the persona and the instruction sentence before the stimulus (who answers), and the question with its
answer instruction at the end (what is answered, on which scale). Of the rest, the beginning says what kind of text was
read and the end leads up to the question; so the middle goes, between two words, as little as will do. A stimulus of
which less than half would be left is not what the person answered to any more: such a row is dropped, as is one whose
scale could not be read as before. The answer is never touched. Evaluation never shortens: it leaves such a row out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from socrates.data.records import Answer
from socrates.data.scales.text import parse_scale, question_text

VERSION = 2  # raise it when the same row would be shortened to another text, by a change of `question_text` too
MARK = " […] "
LEAST_KEPT = 0.5  # of the words before the question
_WORD = re.compile(r"\S+")


def shorten_prompt(answer: Answer, fits: Callable[[str], bool]) -> str | None:
    """The longest shortened prompt that fits, or None if none does.

    Args:
        answer: a row whose whole prompt does not fit.
        fits: whether a prompt is short enough.
    """
    if not answer.prompt.endswith(answer.stimuli):
        return None  # which part of it is the stimulus is not known
    before = answer.prompt[: -len(answer.stimuli)]
    words = [match.span() for match in _WORD.finditer(answer.stimuli)]
    count = len(words) - max(1, len(question_text(answer.stimuli).split()))  # words that may go
    fewest = max(1, math.ceil(count * LEAST_KEPT))

    def keeping(kept: int) -> str:
        head = (kept + 1) // 2
        start, end = words[head - 1][1], words[count - (kept - head)][0]
        return f"{answer.stimuli[:start]}{MARK}{answer.stimuli[end:]}"

    if count <= fewest or not fits(before + keeping(fewest)):
        return None
    low, high = fewest, count  # `low` fits; `high`, nothing left out, does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(before + keeping(middle)) else (low, middle)
    shorter = keeping(low)
    states = answer.own.scale is not None or parse_scale(shorter) == parse_scale(answer.stimuli)
    return before + shorter if states else None
