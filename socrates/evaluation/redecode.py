"""Stored answers under another decoding, without a model; only where that is exact.

Decoding acts at every token: a temperature divides by a sum over the whole vocabulary, and top-p cuts by the mass of
tokens that begin no valid answer. What stands in `predictions.jsonl` knows neither, and the mass of single tokens at
every step would be more than all else there. So two decodings can be scored again: that of the evaluation, and none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from socrates.config import UNDECODED, DecodingSettings
from socrates.errors import SocratesError
from socrates.evaluation.lines import undecoded_distribution


def under_decoding(
    lines: Sequence[dict[str, Any]], evaluated: DecodingSettings, wanted: DecodingSettings
) -> tuple[list[dict[str, Any]], int]:
    """Lines as an evaluation with another decoding would have written them, before an answer is sampled for each.

    Args:
        lines: of the `predictions.jsonl` of an evaluation.
        evaluated: the decoding of that evaluation.
        wanted: the same, or `UNDECODED`.

    Returns:
        The lines, and how many of them have no answer because theirs was sampled under the other decoding.

    Raises:
        SocratesError: another decoding is wanted, or the lines do not have what the model itself says.
    """
    if wanted == evaluated:
        return [{**line, "prediction": _resampled(line)} for line in lines], 0
    if wanted != UNDECODED:
        raise SocratesError(
            f"answers under {_shown(wanted)} cannot be told from these, of {_shown(evaluated)}: decoding acts "
            "at every token, on the whole vocabulary, of which only the valid answers are stored. What to do: score "
            f"them under {_shown(UNDECODED)} (what the model itself says) or as they are, or evaluate again with the "
            'other "decoding" in the config'
        )
    found = [
        {**line, "predicted_distribution": undecoded_distribution(line) or None, "prediction": None} for line in lines
    ]
    if all(line["predicted_distribution"] is None for line in found):
        raise SocratesError(
            'no line has "probabilities", what the model says without decoding: the questions state no valid answers, '
            "or an older version of this program evaluated; evaluate again"
        )
    pairs = zip(lines, found, strict=True)
    lost = sum(one["prediction"] is not None and other["predicted_distribution"] is None for one, other in pairs)
    return found, lost


def _resampled(line: dict[str, Any]) -> float | None:
    return line["prediction"] if line["predicted_distribution"] is None else None


def _shown(decoding: DecodingSettings) -> str:
    return f"temperature {decoding.temperature:g} and top_p {decoding.top_p:g}"
