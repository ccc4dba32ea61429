"""Lines of `predictions.jsonl` (a row: made, hashed, and read from any such file) and of `cells.jsonl`.

Probabilities are rounded before anything is computed from them, so that scoring a written file gives the very
same metrics.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from sys import intern
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from socrates.data.human_answers import HumanAnswers
from socrates.data.own_words import NOTHING, OwnWords, named_scale
from socrates.data.records import (
    LARGEST,
    Cell,
    as_number,
    read_answers,
    read_cell,
    read_identifier,
    read_jsonl,
    require_integer,
)
from socrates.data.scales import Scale, scale_from_text
from socrates.errors import SocratesError
from socrates.evaluation.cells import CellScore, Distribution, ScoredRow
from socrates.evaluation.metrics import DISTANCES
from socrates.files import finite
from socrates.schema import Recorded, Share, shown, validate

KEYS = ("study_id", "condition_num", "task_num", "participant", "sample_id")  # what names a row
SUM_TOLERANCE = 1e-6  # of a distribution's probabilities, around 1


def round_probability(probability: float) -> float:
    """A probability to 9 significant digits, as it stands in the files."""
    return float(f"{probability:.9g}")


def answer_of(text: str) -> float:
    """The number that an answer's text stands for; ValueError where it is none, or beyond `LARGEST`."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= LARGEST:
        raise ValueError(f'"{text}" is no answer; expected a number such as "3"')
    return as_number(value)


# Texts that stand in many lines are interned: of 482,642 lines they would take hundreds of megabytes.


def _distribution(given: Mapping[str, float]) -> dict[str, float]:
    if not given:
        raise ValueError('must be an object, answer -> probability ({"1": 0.25, "2": 0.75})')
    found: dict[float, float] = {}
    for text, probability in given.items():
        answer = answer_of(text)
        if answer in found:
            raise ValueError(f'the answer {answer} stands there twice ("{text}")')
        found[answer] = round_probability(probability)
    _check_sum(found.values())
    return {intern(str(answer)): found[answer] for answer in sorted(found)}


def _check_sum(probabilities: Collection[float]) -> None:
    if abs((total := math.fsum(probabilities)) - 1) > SUM_TOLERANCE:
        raise ValueError(
            f"the probabilities sum to {total:.9g}, not to 1; give those of the valid answers, divided by their sum"
        )


def _scale_text(text: str) -> str:
    return intern(str(named_scale(text)))


def known_demographic(given: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a person; ValueError where it is not made of texts, finite numbers, true, false and nulls."""
    known = {}
    for name, value in given.items():
        if not (value is None or isinstance(value, str | bool)) and finite(value) is None:
            raise ValueError(
                f'the demographic field "{name}" must be a text, a finite number or null, not {shown(value)}'
            )
        if (text := f"{name}{value}").encode(errors="ignore").decode() != text:
            raise ValueError(f"the demographic field {shown(name)} holds half a character (\\ud800 to \\udfff)")
        if value not in (None, ""):
            known[intern(name)] = intern(value) if isinstance(value, str) else value
    return known


Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST), AfterValidator(as_number)]
People = Annotated[float, Field(strict=True, gt=0, le=2**53), AfterValidator(as_number)]
_RARE = {"nominal": False, "weight": 1, "counts": None}  # keys that are left out where they say no more than this


class _Line(Recorded, extra="ignore"):
    """A line, beside what names its row."""

    response: Number | None  # the human answer, in scale points, as all answers; None: `counts` are of many people
    scale: Annotated[str, AfterValidator(_scale_text)] | None = None
    prediction: Number | None = None
    predicted_distribution: Annotated[dict[str, Share], AfterValidator(_distribution)] | None = Field(
        None, description='an object, answer -> probability ({"1": 0.25, "2": 0.75})'
    )
    # Of the scale's answers in their order, before any decoding, given that one of them is given.
    probabilities: list[Annotated[Share, AfterValidator(round_probability)]] | None = None
    valid_mass: Share | None = None
    demographic: Annotated[dict[str, Any], AfterValidator(known_demographic)] = Field(default_factory=dict)
    nominal: bool = False  # whether answers are names
    weight: People = 1  # of the person, or of each of many
    counts: Annotated[dict[Number, People], Field(min_length=1)] | None = None  # how many people gave each answer

    def as_line(self) -> dict[str, Any]:
        """The keys of the line; what few rows have stands only in theirs."""
        line = self.model_dump()
        if self.counts is not None:
            line["counts"] = _counts(self.counts)
        return {key: value for key, value in line.items() if key not in _RARE or value != _RARE[key]}

    @model_validator(mode="after")
    def _is_of_somebody(self) -> _Line:
        if (self.response is None) is (self.counts is None):
            raise ValueError('takes either a "response", of one person, or "counts", of many')
        return self

    @model_validator(mode="after")
    def _are_of_the_scale(self) -> _Line:
        if self.probabilities is not None:
            if self.scale is None or len(self.probabilities) != len(_scale(self.scale)):
                raise ValueError(f"the probabilities must be of the answers of the scale ({self.scale}), one of each")
            _check_sum(self.probabilities)
        return self


class CellLine(Recorded, strict=False, extra="ignore"):
    """What is read of a line of `cells.jsonl`, beside the names of its cell; answers are texts there."""

    human_answers: dict[Number, People] = Field(min_length=1)  # how many people gave each (effective number)
    n_human: People
    wasserstein_distance: Share | None
    uniform_guess: Share | None
    empirical_best: Share | None
    total_variation: Share | None = None  # of a nominal cell
    predicted_answers: dict[Number, People]  # how often each was sampled
    predicted_distribution: dict[Number, Share] | None  # mean probability of each


def prediction_line(
    keys: Mapping[str, Any],
    response: float | None,
    *,
    distribution: Mapping[float, float] | None = None,
    probabilities: Sequence[float] | None = None,
    valid_mass: float | None = None,
    scale: Scale | None = None,
    demographic: Mapping[str, Any] | None = None,
    own: OwnWords = NOTHING,
) -> dict[str, Any]:
    """One line of `predictions.jsonl`, from a model's exact answer probabilities; `sample_predictions` samples one.

    Args:
        keys: study_id, condition_num, task_num, participant, sample_id and line (`Answer.keys()`).
        response: the human answer, in scale points.
        distribution: answer -> probability of the valid answers, after decoding; it is normalised here.
        probabilities: of each of the scale's answers, before any decoding; normalised here; None: not known.
        valid_mass: the probability, before any decoding, that the model put on valid answers.
        scale: the valid answers that the question states.
        demographic: what is known of the person.
        own: what the row says itself.
    """
    if distribution is not None:
        total = math.fsum(distribution.values())
        distribution = {str(as_number(answer)): float(p / total) for answer, p in distribution.items()}
    if probabilities is not None:
        total = math.fsum(probabilities)
        probabilities = [float(p / total) for p in probabilities] if total > 0 else None
    if valid_mass is not None:
        valid_mass = round_probability(min(valid_mass, 1.0))  # a float32 sum may exceed 1 by its rounding
    line = _Line(
        response=None if response is None else as_number(response),
        scale=None if scale is None else str(scale),
        predicted_distribution=distribution,
        probabilities=probabilities,
        valid_mass=valid_mass,
        demographic=dict(demographic or {}),
        nominal=own.nominal,
        weight=own.weight,
        counts=None if own.counts is None else {given: people for given, people in own.counts.items() if people},
    )
    return {**keys, **line.as_line()}


def without_missing(line: dict[str, Any], missing: Container[tuple[Cell, float]]) -> dict[str, Any] | None:
    """A line without what is a missing answer in its cell; None if the person gave one."""
    cell, given = read_cell(line, "predictions"), line["predicted_distribution"] or {}
    if codes := {text for text in given | (undecoded_distribution(line) or {}) if (cell, answer_of(text)) in missing}:
        kept = {text: p for text, p in given.items() if p > 0 and text not in codes}
        total = math.fsum(kept.values())
        kept = {text: round_probability(p / total) for text, p in kept.items()}
        line = {**line, "predicted_distribution": kept or None, "probabilities": None}
    prediction = None if (cell, line["prediction"]) in missing else line["prediction"]
    if counts := line.get("counts"):
        kept = {text: people for text, people in counts.items() if (cell, answer_of(text)) not in missing}
        return {**line, "counts": kept, "prediction": prediction} if kept else None
    return None if (cell, line["response"]) in missing else {**line, "prediction": prediction}


def undecoded_distribution(line: Mapping[str, Any]) -> dict[str, float] | None:
    """What the model itself says of a row, as a `predicted_distribution`; None where its line has no probabilities."""
    if line["probabilities"] is None:
        return None
    pairs = zip(_scale(line["scale"]), line["probabilities"], strict=True)
    return {str(answer): p for answer, p in pairs if p > 0}


def scored_row(line: Mapping[str, Any]) -> ScoredRow:
    """A line of `predictions.jsonl` as the metric takes it."""
    distribution = line["predicted_distribution"]
    if distribution is not None:
        distribution = Distribution(answers_of(tuple(distribution)), tuple(distribution.values()))
    scale = None if line["scale"] is None else _scale(line["scale"])
    rare = {key: line[key] for key in _RARE if key in line}
    if counts := rare.get("counts"):
        rare["counts"] = dict(zip(answers_of(tuple(counts)), counts.values(), strict=True))
    cell = read_cell(line, "predictions")
    return ScoredRow(cell, line["response"], line["prediction"], distribution, scale, **rare)


def rows_sha256(lines: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 of the rows that were evaluated, whatever was predicted for them and in whatever order.

    Of each row the canonical JSON of [study_id, condition_num, task_num, participant, sample_id, response], and of
    "nominal", "weight" and "counts" where it has them, sorted, one a line.
    """
    rows = sorted(
        canonical([*(line[key] for key in (*KEYS, "response")), *({key: line[key]} for key in _RARE if key in line)])
        for line in lines
    )
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
    line = validate(_Line, {key: value for key, value in row.items() if (key, value) != ("demographic", None)}, where)
    return {
        **cell._asdict(),
        "study_id": intern(cell.study_id),
        "participant": read_identifier(row, "participant", where),
        "sample_id": read_identifier(row, "sample_id", where),
        "line": require_integer(row, "line", where) if row.get("line") is not None else number,
        **line.as_line(),
    }


@lru_cache(maxsize=4096)  # a scale's answers stand in thousands of lines
def answers_of(texts: tuple[str, ...]) -> tuple[float, ...]:
    """The numbers that the answers of a distribution stand for; ValueError where one is none, or beyond `LARGEST`."""
    return tuple(map(answer_of, texts))


@lru_cache(maxsize=4096)
def _scale(text: str) -> tuple[int, ...]:
    return scale_from_text(text).values


def canonical(value: Any) -> str:
    """JSON of which equal values have one text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def cell_line(cell: CellScore) -> dict[str, Any]:
    """A cell as `cells.jsonl` shows it; null is a number that is not defined.

    All human answers of the cell stand there, also of people whom the model was not asked about: with
    `predictions.jsonl` it is all that scoring again needs.
    """
    distribution = cell.predicted_distribution
    return {
        **cell.cell._asdict(),
        **({"nominal": True} if cell.nominal else {}),
        "n_human": as_number(cell.n_human),
        "n_asked": cell.n_asked,
        "n_predicted": cell.n_predicted,
        "human_min": as_number(cell.human_min),
        "human_max": as_number(cell.human_max),
        "scale": str(Scale(cell.scale)) if cell.scale else None,
        **{name: getattr(cell, name) for name in DISTANCES},
        **({"total_variation": cell.total_variation} if cell.nominal else {}),
        "human_mean": cell.human_mean,
        "human_sd": _root(cell.human_variance),
        "predicted_mean": cell.predicted_mean,
        "predicted_sd": _root(cell.predicted_variance),
        "human_answers": _counts(cell.human_answers),
        "predicted_answers": _counts(cell.predicted_answers),
        "predicted_distribution": distribution
        and {str(as_number(answer)): round_probability(p) for answer, p in distribution.items()},
        "skipped": cell.skipped,
    }


def read_cell_lines(path: Path | str) -> dict[Cell, CellLine]:
    """Read a `cells.jsonl`.

    Raises:
        SocratesError: no such file, a bad line, one of an older version of this program, or a cell twice; names file
            and line.
    """
    lines: dict[Cell, CellLine] = {}
    for number, row in read_jsonl(path):
        where = f"{path}, line {number}"
        cell = read_cell(row, where)
        if cell in lines:
            raise SocratesError(f"{where}: this cell stands there twice")
        if lacking := [
            name for name, field in CellLine.model_fields.items() if field.is_required() and name not in row
        ]:
            raise SocratesError(f'{where}: no "{lacking[0]}"; made by an older version of this program: evaluate again')
        line = lines[cell] = validate(CellLine, row, where)
        people = math.fsum(line.human_answers.values())  # "1" and "1.0" are one answer
        if not math.isclose(people, line.n_human, rel_tol=1e-9):
            raise SocratesError(f'{where}: "human_answers" are of {people:g} people, "n_human" says {line.n_human:g}')
    return lines


def read_human_answers(path: Path | str, missing: Counter[tuple[Cell, float]]) -> dict[Cell, dict[float, float]]:
    """How often each answer was given in each cell, of a `cells.jsonl`, or of a data file: without the ``missing``.

    These hold each code that a question states, also one that nobody gave: a model may.

    Raises:
        SocratesError: as `read_cell_lines` or `records.read_answers`.
    """
    _, first = next(read_jsonl(path), (0, {}))
    if "human_answers" in first or "n_human" in first:
        return {cell: line.human_answers for cell, line in read_cell_lines(path).items()}
    humans = HumanAnswers()
    for answer in read_answers(path, missing):
        if answer.cell not in humans.people:
            missing.update(dict.fromkeys(((answer.cell, code) for code in answer.stated[2]), 0))
        humans.add(answer.cell, answer.counts, answer.own.weight)
    return humans.counts()


def _counts(answers: Mapping[float, float]) -> dict[str, float]:
    return {str(as_number(answer)): as_number(count) for answer, count in answers.items()}


def _root(variance: float | None) -> float | None:
    return None if variance is None else math.sqrt(variance)
