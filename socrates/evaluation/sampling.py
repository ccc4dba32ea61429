"""One answer for each line of `predictions.jsonl`, sampled from its distribution with the row's own random number."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from socrates.evaluation.lines import KEYS, answers_of, canonical


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
