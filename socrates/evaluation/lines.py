"""One evaluated row as a line of `predictions.jsonl`: made, sampled, hashed, and read from any such file.

Probabilities are rounded before anything is computed from them, so that scoring a written file gives the very
same metrics.
"""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from sys import intern
from typing import TYPE_CHECKING, Any

from socrates.data.records import as_number, read_cell, read_identifier, read_jsonl, require_encodable, require_integer
from socrates.data.scales import Scale, scale_from_text
from socrates.errors import SocratesError
from socrates.files import finite

if TYPE_CHECKING:  # cells.py loads SciPy, which takes a second
    from socrates.evaluation.cells import ScoredRow

KEYS = ("study_id", "condition_num", "task_num", "participant", "sample_id")  # what names a row
SUM_TOLERANCE = 1e-6  # of a distribution's probabilities, around 1


def round_probability(probability: float) -> float:
    """A probability to 9 significant digits, as it stands in the files."""
    return float(f"{probability:.9g}")


def prediction_line(
    keys: Mapping[str, Any],
    response: float,
    *,
    prediction: float | None = None,
    distribution: Mapping[float, float] | None = None,
    valid_mass: float | None = None,
    scale: Scale | None = None,
    demographic: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One line of `predictions.jsonl`, from a model's exact answer probabilities.

    Args:
        keys: study_id, condition_num, task_num, participant, sample_id and line (`Answer.keys()`).
        response: the human answer, in scale points.
        prediction: the model's answer, in scale points; None: there is none, or `sample_predictions` samples it.
        distribution: answer -> probability of the valid answers, after decoding; it is normalised here.
        valid_mass: the probability, before any decoding, that the model put on valid answers.
        scale: the valid answers that the question states.
        demographic: what is known of the person.
    """
    if distribution is not None:
        total = math.fsum(distribution.values())
        distribution = {answer: round_probability(p / total) for answer, p in distribution.items()}
    if valid_mass is not None:
        valid_mass = round_probability(min(valid_mass, 1.0))  # a float32 sum may exceed 1 by its rounding
    return _line(keys, response, prediction, distribution, valid_mass, scale, demographic)


def sample_predictions(lines: Iterable[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Sample one answer for each line that has a distribution and no prediction; the others stay as they are.

    A row's random number depends on the seed and on what names the row: neither the order of the lines nor
    the rest of the file matters, and two models' samples for one person share their luck, which makes their
    difference less noisy. Rows of one name (in a file without `participant`) are told apart by their rank
    among themselves, ordered by human answer, then by distribution.

    Raises:
        SocratesError: a distribution without any probability.
    """
    lines = list(lines)
    namesakes: defaultdict[str, list[int]] = defaultdict(list)
    for index, line in enumerate(lines):
        if line["prediction"] is None and line["predicted_distribution"] is not None:
            namesakes[_canonical([line[key] for key in KEYS])].append(index)
    sampled = list(lines)
    for name, indices in namesakes.items():
        if len(indices) > 1:
            indices.sort(key=lambda i: _canonical([lines[i]["response"], lines[i]["predicted_distribution"]]))
        for rank, index in enumerate(indices):
            uniform = _uniform(f"{seed}\n{name}\n{rank}")
            answer = _sample(lines[index]["predicted_distribution"], uniform)
            sampled[index] = {**lines[index], "prediction": answer}
    return sampled


def scored_row(line: Mapping[str, Any]) -> ScoredRow:
    """A line of `predictions.jsonl` as the metric takes it."""
    from socrates.evaluation.cells import Distribution, ScoredRow

    distribution = line["predicted_distribution"]
    if distribution is not None:
        distribution = Distribution(answers_of(tuple(distribution)), tuple(distribution.values()))
    scale = None if line["scale"] is None else _scale(line["scale"])
    return ScoredRow(read_cell(line, "predictions"), line["response"], line["prediction"], distribution, scale)


def rows_sha256(lines: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 of the rows that were evaluated, whatever was predicted for them and in whatever order.

    Of each row the canonical JSON of [study_id, condition_num, task_num, participant, sample_id, response],
    sorted, one a line.
    """
    rows = sorted(_canonical([line[key] for key in (*KEYS, "response")]) for line in lines)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def read_predictions(path: Path | str) -> list[dict[str, Any]]:
    """Read answers made elsewhere, or a written `predictions.jsonl`, as lines of `predictions.jsonl`.

    Needed: study_id, condition_num, task_num, response, and prediction (null: none) or predicted_distribution
        (an object, answer -> probability). Optional: participant, sample_id, valid_mass, scale (the valid answers, as
        "1 to 7" or "1, 2, 8"), demographic (an object), and line (if absent, the line in this file). Other fields are
        passed over.

    Raises:
        SocratesError: no such file, no rows, or a bad line; names file, line and field.
    """
    lines = [_parse_prediction(row, f"{path}, line {number}", number) for number, row in read_jsonl(path)]
    if not lines:
        raise SocratesError(f"{path}: holds no rows; expected one JSON object a line")
    return lines


def _parse_prediction(row: Mapping[str, Any], where: str, number: int) -> dict[str, Any]:
    cell = read_cell(row, where)
    if "prediction" not in row and "predicted_distribution" not in row:
        raise SocratesError(
            f'{where}: neither "prediction" nor "predicted_distribution"; '
            'write "prediction": null where the model gave no answer'
        )
    if "response" not in row:
        raise SocratesError(f'{where}: no "response" (the human answer)')
    mass = _number(row, "valid_mass", where) if row.get("valid_mass") is not None else None
    if mass is not None and not 0 <= mass <= 1:
        raise SocratesError(f'{where}: "valid_mass" must lie between 0 and 1, not {mass}')
    keys = {
        **cell._asdict(),
        "study_id": intern(cell.study_id),
        "participant": read_identifier(row, "participant", where),
        "sample_id": read_identifier(row, "sample_id", where),
        "line": require_integer(row, "line", where) if row.get("line") is not None else number,
    }
    prediction = _number(row, "prediction", where) if row.get("prediction") is not None else None
    distribution = _parse_distribution(row.get("predicted_distribution"), where)
    scale = _parse_scale(row.get("scale"), where)
    demographic = checked_demographic(row.get("demographic"), where)
    return _line(keys, _number(row, "response", where), prediction, distribution, mass, scale, demographic)


def _line(  # texts that stand in many lines are interned: of 482,642 lines they would take hundreds of megabytes
    keys: Mapping[str, Any],
    response: float,
    prediction: float | None,
    distribution: Mapping[float, float] | None,
    valid_mass: float | None,
    scale: Scale | None,
    demographic: Mapping[str, Any] | None,
) -> dict[str, Any]:
    if distribution is not None:
        distribution = {intern(str(as_number(answer))): distribution[answer] for answer in sorted(distribution)}
    return {
        **keys,
        "response": as_number(response),
        "scale": None if scale is None else intern(str(scale)),
        "prediction": None if prediction is None else as_number(prediction),
        "predicted_distribution": distribution,
        "valid_mass": valid_mass,
        "demographic": {
            intern(field): intern(value) if type(value) is str else value
            for field, value in (demographic or {}).items()
            if value not in (None, "")
        },
    }


def _parse_scale(text: Any, where: str) -> Scale | None:
    if text is None:
        return None
    try:
        return scale_from_text(text)
    except (ValueError, AttributeError) as error:
        shown = json.dumps(text, ensure_ascii=False, default=str)[:40]
        raise SocratesError(
            f'{where}: "scale" must name the valid answers ("1 to 7", "1, 2, 8"), not {shown}'
        ) from error


def checked_demographic(value: Any, where: str) -> Mapping[str, Any] | None:
    """What is known of a person, if it is an object of texts, finite numbers and nulls; SocratesError if not."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise SocratesError(f'{where}: "demographic" must be an object, field -> value ({{"age": 34}})')
    for name, known in value.items():
        require_encodable(name, "demographic", where)
        if isinstance(known, str):
            require_encodable(known, name, where)
        elif known is not None and not isinstance(known, bool) and finite(known) is None:
            raise SocratesError(
                f'{where}: the demographic field "{name}" must be a text, a finite number or null, '
                f"not {json.dumps(known)[:40]}"
            )
    return value


def _parse_distribution(value: Any, where: str) -> dict[float, float] | None:
    if value is None:
        return None
    where = f'{where}: "predicted_distribution"'
    if not isinstance(value, Mapping) or not value:
        raise SocratesError(f'{where} must be an object, answer -> probability ({{"1": 0.25, "2": 0.75}})')
    distribution: dict[float, float] = {}
    for text, probability in value.items():
        try:
            answer = answer_of(text)
        except ValueError as error:
            raise SocratesError(f'{where}: "{text}" is no answer; expected a number such as "3"') from error
        if answer in distribution:
            raise SocratesError(f'{where}: the answer {answer} stands there twice ("{text}")')
        if finite(probability, 0, 1) is None:
            raise SocratesError(
                f'{where}: "{answer}" must have a probability from 0 to 1, not {json.dumps(probability)}'
            )
        distribution[answer] = round_probability(probability)
    total = math.fsum(distribution.values())
    if abs(total - 1) > SUM_TOLERANCE:
        raise SocratesError(
            f"{where}: the probabilities sum to {total:.9g}, not to 1; "
            "give those of the valid answers, divided by their sum"
        )
    return distribution


def _number(row: Mapping[str, Any], name: str, where: str) -> float:
    if finite(row[name]) is None:
        text = json.dumps(row[name], ensure_ascii=False, default=str)
        raise SocratesError(f'{where}: "{name}" must be a finite number, not {text[:40]}')
    return row[name]


def answer_of(text: str) -> float:
    """The number that an answer's text stands for; ValueError where it is none, or not finite."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return as_number(value)


@lru_cache(maxsize=4096)  # a scale's answers stand in thousands of lines
def answers_of(texts: tuple[str, ...]) -> tuple[float, ...]:
    """The numbers that the answers of a distribution stand for; ValueError where one is none, or not finite."""
    return tuple(map(answer_of, texts))


@lru_cache(maxsize=4096)
def _scale(text: str) -> tuple[int, ...]:
    return scale_from_text(text).values


def _sample(distribution: Mapping[str, float], uniform: float) -> float:
    """The answer at the quantile ``uniform`` in [0, 1) of a distribution whose answers ascend."""
    answers = answers_of(tuple(distribution))
    pairs = [pair for pair in zip(answers, distribution.values(), strict=True) if pair[1] > 0]
    if not pairs:
        raise SocratesError("a predicted distribution has no probability on any answer")
    cumulative = list(accumulate(probability for _, probability in pairs))
    index = bisect_right(cumulative, uniform * cumulative[-1])
    return pairs[min(index, len(pairs) - 1)][0]


def _uniform(text: str) -> float:
    """A number in [0, 1) from a text: the first 53 bits of its SHA-256."""
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 11) / 2**53


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
