"""What a results folder is: `metrics.json`, `predictions.jsonl`, `cells.jsonl`, `effects.jsonl`; written and read.

`metrics.json` is written last, and an older one is removed first: a folder that has it is consistent.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from socrates.checkpoint import MANIFEST
from socrates.config import without_gone
from socrates.data.dataset import ScalePriors
from socrates.data.records import Cell, read_cell, read_jsonl
from socrates.errors import SocratesError
from socrates.evaluation.bootstrap import METHOD, RESAMPLES, Array
from socrates.evaluation.bounds import standardise
from socrates.evaluation.calibration import HIGHEST, LOWEST, calibrated_numbers
from socrates.evaluation.effects import effect_lines, find_questions, summarize_effects
from socrates.evaluation.groups import accuracy_by_group
from socrates.evaluation.intervals import mean_interval, metric_intervals
from socrates.evaluation.lines import cell_line, rows_sha256
from socrates.evaluation.metrics import METRIC_VERSION, Scores
from socrates.evaluation.people import METHOD as PEOPLE_METHOD
from socrates.evaluation.people import SCOPE, people_intervals
from socrates.files import read_json, remove_file, write_json, write_jsonl
from socrates.inference.journal import differing
from socrates.schema import Recorded, Share, Text, validate

METRICS, PREDICTIONS, CELLS, EFFECTS = "metrics.json", "predictions.jsonl", "cells.jsonl", "effects.jsonl"
DECISION = "decision.json"  # what the gate made of them
DISTANCE, TOTAL_VARIATION = "wasserstein_distance", "total_variation"
EXTERNAL = "external"  # stands for what cannot be known of answers made elsewhere

Correlation = Annotated[float, Field(ge=-1, le=1)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Some = Annotated[Count, Field(ge=1)]
Plain = float | Text | bool | None  # a single value; text without control characters


class Comparability(Recorded):
    """What must be equal in two results before their distances may be compared."""

    data_sha256: Text  # of the data file or files; of answers made elsewhere, of their rows and all human answers
    rows_sha256: Text  # see `lines.rows_sha256`
    prompt_fingerprint: Text  # of the prompt's construction (`chat.py`), or "external"
    decoding: Annotated[dict[Text, Plain], Field(min_length=1)] | Text  # `config.DecodingSettings`, or "external"
    seed: int = Field(ge=0)  # of the choice of rows and of the sampled answers
    metric_version: Some  # `metrics.METRIC_VERSION`
    __pydantic_extra__: dict[Text, Plain]


class RecordedBounds(Recorded):
    """What guesses score on the same cells (`metrics.Bounds`)."""

    uniform_guess: Share | None
    scale_prior: Share | None = None
    pooled_conditions: Share | None = None
    people_5: Share | None = None
    people_20: Share | None = None
    empirical_best: Share | None
    worth_people: Annotated[float, Field(ge=0)] | None = None


class RecordedCoverage(Recorded):
    """What the numbers stand on (`metrics.Coverage`)."""

    rows_scored: Some
    cells_scored: Some
    missing_answers: int | float = Field(0, ge=0)
    cells_drawn: Count = 0
    cells_nominal: Count = 0


class RecordedNominal(Recorded):
    """The numbers of nominal cells (`metrics.Nominal`), each with its interval."""

    total_variation: Share
    uniform_guess: Share
    empirical_best: Share


class RecordedContamination(Recorded):
    """Evaluation rows that the model may have been trained on, of how many (`contamination.Contamination`)."""

    rows: Count
    of: Count


class RecordedGroups(Recorded):
    """The groups of one demographic field (`groups.accuracy_by_group`)."""

    groups: list[Any] = Field([])


class MetricsFile(Recorded):
    """`metrics.json`. "Range" is the range of a cell's human answers; null means not defined.

    Every number of `metrics.Metrics`, `bounds` and `effects.NUMBERS`, and `valid_mass`, has its 95% interval beside it,
    under its name with "_ci95": [low, high], or null.
    """

    # An answer of everybody against human ones, expected, share of the range; 0 is best. Null where all is nominal.
    wasserstein_distance: Share | None
    wasserstein_drawn: Share | None = None  # one sampled answer of each person asked against human ones
    wasserstein_stated_scale: Share | None = None  # as the first, in shares of the scale that the question states
    mae: Share | None  # mean absolute error of the sampled answers over all scored rows, share of the range
    rmse: Share | None  # root of the mean squared error, likewise
    correlation: Correlation | None  # Pearson's over the same rows
    correlation_within_cells: Correlation | None  # after removing each cell's means: knowing persons, not questions
    accuracy: Share | None  # individual accuracy, 1 - absolute error, mean within studies, then over studies
    dispersion: float | None = None  # standard deviation within cells, the model's by the people's
    # Cross-fitted: each study's answers at the temperature that fits the people of the others (`calibration.py`); null
    # where the answers come without the model's probabilities.
    wasserstein_calibrated: Share | None = None
    # The temperature that fits the people of all studies, under this name.
    calibration: dict[str, Annotated[float, Field(ge=LOWEST, le=HIGHEST)]] = Field({})
    bounds: RecordedBounds
    scale_priors: ScalePriors | None = None  # what `bounds.scale_prior` is of; null: not known
    nominal: RecordedNominal | None = None  # outcomes whose answers are names; in no number above. Null: there are none
    # What alone the numbers are of, where that is less than other studies; `people.SCOPE`.
    scope: Annotated[str, Field(max_length=200)] | None = None
    effects: dict[str, Any] = Field({})  # `effects.summarize_effects`: differences between conditions
    groups: dict[str, RecordedGroups] = Field({})  # `groups.accuracy_by_group`: by demographic field
    intervals: dict[str, Any] = Field({})  # how the intervals were made: method, resamples, seed
    valid_mass: Share | None  # mean over exact rows of the probability that the model puts on valid answers
    coverage: RecordedCoverage
    seen: RecordedContamination | None = None  # null: not recorded
    comparability: Comparability
    about: dict[str, Any] = Field({})  # what was evaluated, and by what: model, config, versions; never compared

    @model_validator(mode="after")
    def _has_a_distance(self) -> MetricsFile:
        bounds = self.bounds.uniform_guess, self.bounds.empirical_best
        if (self.nominal if self.wasserstein_distance is None else None in bounds) in (None, True):
            raise ValueError('must hold "wasserstein_distance" with its bounds, or "nominal"')
        return self

    @property
    def decided_on(self) -> str:
        """The name of the distance that a decision is about: the paper's, unless all outcomes are nominal."""
        return TOTAL_VARIATION if self.wasserstein_distance is None else DISTANCE

    @property
    def distance(self) -> float:
        """That distance."""
        return self.nominal.total_variation if self.wasserstein_distance is None else self.wasserstein_distance

    @property
    def guesses(self) -> RecordedBounds | RecordedNominal:
        """What guesses score in that distance: "uniform_guess", "empirical_best"."""
        return self.nominal if self.wasserstein_distance is None else self.bounds

    @property
    def total_variation(self) -> float | None:
        """Of the nominal cells."""
        return self.nominal and self.nominal.total_variation

    @property
    def contaminated_rows(self) -> int:
        """Rows that the model may have been trained on; 0 where that is not recorded, too."""
        return self.seen.rows if self.seen else 0


def check_metrics(metrics: Mapping[str, Any], name: str) -> MetricsFile:
    """The content of a `metrics.json` with every section and number in its range.

    Raises:
        SocratesError: with all that is missing or wrong; ``name`` is what the message calls the file.
    """
    try:
        return validate(MetricsFile, metrics, name)
    except SocratesError as error:
        remedy = "name the metrics.json of an evaluation, or evaluate again with this program"
        raise SocratesError(f"{error}\n  What to do: {remedy}") from error


def comparability(
    lines: Iterable[Mapping[str, Any]], *, seed: int, data_sha256: str, prompt_fingerprint: str, decoding: dict | str
) -> dict[str, Any]:
    """What the gate compares before it compares distances; ``lines`` are those of `predictions.jsonl`."""
    return {
        "data_sha256": data_sha256,
        "rows_sha256": rows_sha256(lines),
        "prompt_fingerprint": prompt_fingerprint,
        "decoding": decoding,
        "seed": seed,
        "metric_version": METRIC_VERSION,
    }


def external_comparability(
    lines: Sequence[Mapping[str, Any]], *, seed: int, human_answers: Mapping[Cell, Mapping[float, int]] | None
) -> dict[str, Any]:
    """The same for answers made elsewhere: comparable with others over the same rows, with no evaluation.

    ``human_answers`` of each cell, where there are more than the rows hold, are compared too.
    """
    data = rows_sha256(lines)
    if human_answers is not None:
        cells = {read_cell(row, "predictions") for row in lines}
        counts = sorted(f"{cell} {sorted(human_answers[cell].items())}" for cell in cells & set(human_answers))
        data = hashlib.sha256("\n".join([data, *counts]).encode()).hexdigest()
    return comparability(lines, seed=seed, data_sha256=data, prompt_fingerprint=EXTERNAL, decoding=EXTERNAL)


def write_results(
    folder: Path,
    *,
    scores: Scores,
    predictions: Sequence[Mapping[str, Any]],
    comparability: Mapping[str, Any],
    about: Mapping[str, Any],
    seen: Mapping[str, Any] | None = None,
    humans: Mapping[Cell, Mapping[float, float]] | None = None,
) -> dict[str, Any]:
    """Write the files of a results folder, `metrics.json` last; returns what stands in it.

    With the ``humans`` (all human answers of the cells), intervals are over people: of data that is split by person.

    Raises:
        SocratesError: a file cannot be written (the folder then has no `metrics.json`).
    """
    seed = comparability["seed"]
    by_cells = humans is None
    limits = metric_intervals(scores, seed) if by_cells else people_intervals(scores, predictions, humans, seed)
    questions = find_questions(scores.cells)
    masses = [(read_cell(line, ""), line["valid_mass"]) for line in predictions if line["valid_mass"] is not None]
    content = dict(
        **_with_intervals(asdict(scores.metrics), limits),
        **calibrated_numbers(predictions, scores.scored, seed),
        bounds=_with_intervals(asdict(scores.bounds), limits),
        scale_priors=scores.priors,
        nominal=scores.nominal_metrics
        and {**_with_intervals(asdict(scores.nominal_metrics), limits["nominal"]), "cells": len(scores.nominal)},
        scope=None if by_cells else SCOPE,
        effects=summarize_effects(questions, seed),
        groups=accuracy_by_group(*_row_accuracies(scores, predictions), seed),
        intervals={"method": METHOD if by_cells else PEOPLE_METHOD, "resamples": RESAMPLES, "seed": seed},
        valid_mass=math.fsum(mass for _, mass in masses) / len(masses) if masses else None,
        valid_mass_ci95=mean_interval(*zip(*masses, strict=True), seed) if masses else None,
        coverage=asdict(scores.coverage),
        seen=dict(seen) if seen is not None else None,
        comparability=dict(comparability),
        about=dict(about),
    )
    for name in (METRICS, DECISION):
        remove_file(folder / name)
    write_jsonl(folder / PREDICTIONS, map(dict, predictions))
    write_jsonl(folder / CELLS, map(cell_line, (*scores.cells, *scores.not_asked)))
    write_jsonl(folder / EFFECTS, effect_lines(questions))
    write_json(folder / METRICS, content)
    return content


def find_results(
    folder: Path,
    asked: Mapping[str, Any],
    *,
    begun: bool = False,
    predictions: Sequence[Mapping[str, Any]] = (),
    overwrite: bool = False,
) -> dict[str, Any] | None:
    """The content of the `metrics.json` of a folder that results are to be written to; None where they may be.

    Args:
        folder: it need not be there.
        asked: what makes the results what they are, as ``about["asked"]`` records it.
        begun: whether files without a `metrics.json` are of this very command, which was broken off.
        predictions: what it will write; where they are there, it was begun.
        overwrite: whether other results may be replaced.

    Raises:
        SocratesError: it holds others, or is a checkpoint.
    """
    if (folder / MANIFEST).exists():
        raise SocratesError(f"{folder}: is a checkpoint, to which nothing is written; choose another --output")
    there = [name for name in (METRICS, PREDICTIONS, CELLS, EFFECTS) if (folder / name).exists()]
    if predictions and PREDICTIONS in there and METRICS not in there:
        with suppress(SocratesError):
            begun = [line for _, line in read_jsonl(folder / PREDICTIONS)] == list(predictions)
    if overwrite or not there or (begun and METRICS not in there):
        return None
    remedy = "choose another --output, or replace them with --overwrite"
    if METRICS not in there:
        raise SocratesError(f"{folder}: holds {there[0]}, and no {METRICS} that says where it is from; {remedy}")
    metrics = read_metrics(folder / METRICS)
    about = metrics.get("about")
    recorded = about.get("asked") if isinstance(about, dict) else None
    if differences := differing(recorded, asked) if isinstance(recorded, dict) else "it does not say of what model":
        raise SocratesError(f"{folder}: holds the results of another evaluation: {differences}; {remedy}")
    check_metrics(metrics, str(folder / METRICS))
    return metrics


def read_metrics(path: Path, what: str = "metrics file") -> dict[str, Any]:
    """Read a `metrics.json` strictly (`files.read_json`); whether its numbers make sense, the gate judges.

    Raises:
        SocratesError: missing, empty, not JSON, not an object, a key twice, NaN or infinity; or made by
            an earlier version in a way that is gone.
    """
    if path.is_dir():
        raise SocratesError(f"{path}: is a folder, expected the {what}; name the {METRICS} in it")
    if path.name == METRICS and path.parent.is_dir() and not path.exists():
        raise SocratesError(
            f"{path}: no such {what}; an evaluation writes it last, so this one did not finish: run it again"
        )
    metrics = read_json(path, what)
    recorded = {key: metrics[key] for key in ("comparability", "about") if isinstance(metrics.get(key), dict)}
    return {**metrics, **without_gone(recorded, str(path))}


def _row_accuracies(
    scores: Scores, predictions: Sequence[Mapping[str, Any]]
) -> tuple[list[Cell], Array, list[Mapping[str, Any]]]:
    """Of each scored row its cell, its accuracy and what is known of the person."""
    scored = {cell.cell: cell for cell in scores.scored}
    given = ((read_cell(line, ""), line) for line in predictions if None not in (line["prediction"], line["response"]))
    rows = [(scored[cell], line) for cell, line in given if cell in scored]
    table = [(cell.human_min, cell.human_max, line["response"], line["prediction"]) for cell, line in rows]
    low, high, human, predicted = np.array(table, dtype=np.float64).reshape(-1, 4).T
    errors = np.abs(standardise(predicted, low, high) - standardise(human, low, high))
    return [cell.cell for cell, _ in rows], 1 - errors, [line["demographic"] for _, line in rows]


def _with_intervals(numbers: Mapping[str, Any], limits: Mapping[str, Any]) -> dict[str, Any]:
    """Each number, and after it its interval."""
    both: dict[str, Any] = {}
    for name, number in numbers.items():
        both |= {name: number, f"{name}_ci95": limits[name]}
    return both
