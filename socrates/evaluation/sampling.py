"""The answers of stored lines: sampled from their distributions, each with its own random number; and decoded anew.

Decoding acts at every token: a temperature divides by a sum over the whole vocabulary, and top-p cuts by the mass of
tokens that begin no valid answer. `predictions.jsonl` has neither, so only no decoding and its own can be scored again.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from socrates.config import UNDECODED, DecodingSettings
from socrates.errors import SocratesError
from socrates.evaluation.lines import KEYS, answers_of, canonical, undecoded_distribution


def sample_predictions(lines: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Sample one answer for each line that has a distribution and no prediction; the others stay as they are.

    A row's random number depends on the seed and on what names the row: neither the order of the lines nor
    the rest of the file matters, and two models' samples for one person share their luck, which makes their
    difference less noisy. Rows of one name (in a file without `participant`) are told apart by their rank
    among themselves, ordered by human answer, then by distribution.
    """
    namesakes: defaultdict[str, list[int]] = defaultdict(list)
    for index, line in enumerate(lines):
        if line["prediction"] is None and line["predicted_distribution"] is not None:
            namesakes[canonical([line[key] for key in KEYS])].append(index)
    sampled = list(lines)
    for name, indices in namesakes.items():
        if len(indices) > 1:
            indices.sort(key=lambda i: canonical([lines[i]["response"], lines[i]["predicted_distribution"]]))
        for rank, index in enumerate(indices):
            uniform = _uniform(f"{seed}\n{name}\n{rank}")
            answer = _sample(lines[index]["predicted_distribution"], uniform)
            sampled[index] = {**lines[index], "prediction": answer}
    return sampled


def under_decoding(
    lines: Sequence[dict[str, Any]], evaluated: DecodingSettings, wanted: DecodingSettings
) -> list[dict[str, Any]]:
    """Lines of `predictions.jsonl` as an evaluation with another decoding has them before it samples their answers.

    What was answered by sampling has no answer under another decoding.

    Raises:
        SocratesError: ``wanted`` is neither ``evaluated`` nor `UNDECODED`, or the lines do not have what the model
            itself says.
    """
    if wanted == evaluated:
        return [line if line["predicted_distribution"] is None else {**line, "prediction": None} for line in lines]
    if wanted != UNDECODED:
        raise SocratesError(
            f"answers under {wanted} cannot be told from these, of {evaluated}: decoding acts at every token, on the "
            "whole vocabulary, of which only the valid answers are stored. What to do: score them under "
            f'{UNDECODED} (what the model itself says), or evaluate again with that "decoding" in the config'
        )
    found = [{**line, "predicted_distribution": undecoded_distribution(line), "prediction": None} for line in lines]
    if all(line["predicted_distribution"] is None for line in found):
        raise SocratesError(
            'no line has "probabilities", what the model says without decoding: the questions state no valid answers, '
            "or an older version of this program evaluated; evaluate again"
        )
    return found


def _sample(distribution: Mapping[str, float], uniform: float) -> float:
    """The answer at the quantile ``uniform`` in [0, 1) of a distribution whose answers ascend."""
    answers = answers_of(tuple(distribution))
    pairs = [pair for pair in zip(answers, distribution.values(), strict=True) if pair[1] > 0]
    cumulative = list(accumulate(probability for _, probability in pairs))
    index = bisect_right(cumulative, uniform * cumulative[-1])
    return pairs[min(index, len(pairs) - 1)][0]


def _uniform(text: str) -> float:
    """A number in [0, 1) from a text: the first 53 bits of its SHA-256."""
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 11) / 2**53
