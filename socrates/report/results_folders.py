"""Results folders as a report reads them, checked; what is missing, in words; and their numbers as text.

Covers: folders of this and of earlier versions, and those scored from answers made elsewhere.
Does not cover: whether the results may be compared; the gate decides that, and the report says where they differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from socrates.data.records import Cell, read_cell, read_jsonl
from socrates.errors import SocratesError
from socrates.evaluation.results import CELLS, EFFECTS, METRICS, PREDICTIONS, read_metrics
from socrates.files import finite, read_json

NONE = "–"
DECISION = "decision.json"
WASSERSTEIN = "wasserstein_distance"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_WHAT_IS_COMPARED = ("data_sha256", "rows_sha256", "prompt_fingerprint", "decoding", "seed", "metric_version")


class Value(NamedTuple):
    """A number and its 95% interval; either may be unknown."""

    value: float | None
    limits: tuple[float, float] | None = None

    def __str__(self) -> str:
        return self.written()

    def written(self, digits: int = 3) -> str:
        """As in a table: 0.185 [0.172, 0.198]."""
        if self.value is None:
            return NONE
        limits = (
            "" if self.limits is None else " [{},\u00a0{}]".format(*(fixed(limit, digits) for limit in self.limits))
        )
        return fixed(self.value, digits) + limits

    def in_words(self, digits: int = 3) -> str:
        """As in a sentence: 0.185 (95% interval 0.172 to 0.198)."""
        if self.value is None:
            return "not defined"
        return fixed(self.value, digits) + limits_in_words(self.limits, digits)

    def percent(self) -> Value:
        """The same in percent."""
        limits = None if self.limits is None else (self.limits[0] * 100, self.limits[1] * 100)
        return Value(None if self.value is None else self.value * 100, limits)


def value_at(record: Mapping[str, Any], *keys: str) -> Value:
    """A number deep in a record, with the `_ci95` that stands beside it."""
    for key in keys[:-1]:
        inner = record.get(key)
        record = inner if isinstance(inner, Mapping) else {}
    return Value(finite(record.get(keys[-1])), limits(record.get(f"{keys[-1]}_ci95")))


def limits(value: Any) -> tuple[float, float] | None:
    """An interval, or None where the value is none."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    low, high = map(finite, value)
    return None if low is None or high is None or low > high else (low, high)


def fixed(value: float | None, digits: int = 3) -> str:
    """A number with so many decimals, and no minus before zeros."""
    if value is None:
        return NONE
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if not text.strip("-0.") else text


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign; none before zeros."""
    text = fixed(value, digits)
    return f"+{text}" if text.strip("0.") and value > 0 else text


def limits_in_words(limits: tuple[float, float] | None, digits: int = 3, unit: str = "") -> str:
    """The interval as it follows a number in a sentence."""
    if limits is None:
        return ""
    low, high = (fixed(limit, digits) for limit in limits)
    return f" (95% interval {low}{unit} to {high}{unit})"


@dataclass(frozen=True)
class CellResult:
    """A line of `cells.jsonl`; distances in units of the human range, None where not defined or not recorded."""

    cell: Cell
    n_human: int
    n_predicted: int
    distance: float | None
    uniform_guess: float | None
    empirical_best: float | None
    scale: str | None  # the stated one
    human: Mapping[float, float] = field(default_factory=dict)  # answer -> how many people gave it
    sampled: Mapping[float, float] = field(default_factory=dict)  # answer -> how often it was predicted
    distribution: Mapping[float, float] = field(default_factory=dict)  # answer -> mean probability


class Effect(NamedTuple):
    """A line of `effects.jsonl`: a difference between two conditions of a question, in shares of its range."""

    human: float
    predicted: float
    clear: bool  # whether the human one is clearly not 0


@dataclass(frozen=True)
class Results:
    """One results folder.

    Attributes:
        folder: where it is.
        label: what the report calls it.
        step: of the checkpoint that was evaluated; None: it was none.
        metrics: the content of `metrics.json`.
        decision: the content of `decision.json`, or None.
        cells: those of `cells.jsonl`; this and what follows is empty without `with_details`.
        effects: those of `effects.jsonl`.
        missing: the files that are not there, and what they would tell.
    """

    folder: Path
    label: str
    step: int | None
    metrics: Mapping[str, Any]
    decision: Mapping[str, Any] | None = None
    cells: tuple[CellResult, ...] = ()
    effects: tuple[Effect, ...] = ()
    missing: tuple[str, ...] = ()

    def value(self, *keys: str) -> Value:
        """A number of `metrics.json` and its interval."""
        return value_at(self.metrics, *keys)

    @property
    def distance(self) -> Value:
        """W, the Wasserstein distance."""
        return self.value(WASSERSTEIN)

    @property
    def about(self) -> Mapping[str, Any]:
        """What was evaluated, and by what."""
        return section_of(self.metrics, "about")

    @property
    def predictions(self) -> Path:
        """The file with a line for each row."""
        return self.folder / PREDICTIONS


def read_results(folder: Path) -> Results:
    """Read a results folder's numbers and decision; see `with_details` for the rest.

    Raises:
        SocratesError: no such folder, no `metrics.json`, no distance in it, or a file that is there and cannot be
            read; names file and key.
    """
    if folder.is_file() and folder.name == METRICS:
        folder = folder.parent
    if not folder.is_dir():
        raise SocratesError(f"{folder}: no such results folder; expected one with a {METRICS}, as evaluations write it")
    metrics = read_metrics(folder / METRICS)
    if finite(metrics.get(WASSERSTEIN)) is None:
        raise SocratesError(
            f'{folder / METRICS}: "{WASSERSTEIN}" is no number; is this the metrics.json of an evaluation?'
        )
    decision = read_json(folder / DECISION, "decision") if (folder / DECISION).exists() else None
    return Results(folder, _name(folder), _step(folder, metrics), metrics, decision)


def with_details(results: Results) -> Results:
    """The same with cells and effects; what its folder lacks is named in ``missing``.

    Raises:
        SocratesError: a line that is no cell or no effect; names file, line and key.
    """
    folder = results.folder
    parts = {CELLS: "distances of studies and cells", PREDICTIONS: "calibration", EFFECTS: "effects of conditions"}
    missing = tuple(f"{name} ({what})" for name, what in parts.items() if not (folder / name).exists())
    cells, effects = (
        tuple(parse(row, f"{folder / name}, line {line}") for line, row in read_jsonl(folder / name))
        if (folder / name).exists()
        else ()
        for name, parse in ((CELLS, _cell), (EFFECTS, _effect))
    )
    return replace(results, cells=cells, effects=effects, missing=missing)


def in_order(results: Sequence[Results]) -> tuple[Results | None, list[Results]]:
    """(the baseline or None, the others); the last of the others is what the report is about.

    The baseline is a folder of that name with the results of no checkpoint, wherever it stands; else the first. The
    last of the others as they were given stays the last; those before it are put in the order of their steps. One
    folder alone is what the report is about, whatever it is.

    Raises:
        SocratesError: a folder is named twice.
    """
    folders = [one.folder.resolve() for one in results]
    for index, folder in enumerate(folders):
        if folder in folders[:index]:
            raise SocratesError(f"{results[index].folder}: is named twice")
    labels = [one.label for one in results]
    named = [
        one if labels.count(one.label) == 1 else replace(one, label=f"{one.folder.resolve().parent.name}/{one.label}")
        for one in results
    ]
    if len(named) == 1:
        return None, named
    called = [one for one in named if one.step is None and one.folder.resolve().name == "baseline"]
    baseline = called[0] if called else named[0]
    *others, subject = [one for one in named if one is not baseline]
    if all(one.step is not None for one in others):
        others.sort(key=lambda one: one.step or 0)
    return baseline, [*others, subject]


def comparability_differences(one: Results, other: Results) -> list[str]:
    """What of the rows, prompts and settings differs between two results, so that they must not be compared."""
    ours, theirs = (section_of(results.metrics, "comparability") for results in (one, other))
    return [key for key in _WHAT_IS_COMPARED if ours.get(key) != theirs.get(key)]


def section_of(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object in a record; empty where there is none."""
    value = record.get(key)
    return value if isinstance(value, Mapping) else {}


def _cell(row: Mapping[str, Any], where: str) -> CellResult:
    skipped = row.get("skipped")
    counts = {key: _count(row, key, where) for key in ("n_human", "n_predicted")}
    return CellResult(
        read_cell(row, where),
        counts["n_human"],
        counts["n_predicted"],
        None if skipped else finite(row.get(WASSERSTEIN)),
        finite(row.get("uniform_guess")),
        finite(row.get("empirical_best")),
        row.get("scale") if isinstance(row.get("scale"), str) else None,
        *(_answers(row, key, where) for key in ("human_answers", "predicted_answers", "predicted_distribution")),
    )


def _effect(row: Mapping[str, Any], where: str) -> Effect:
    human, predicted = (finite(row.get(f"{side}_effect_standardized")) for side in ("human", "predicted"))
    if human is None or predicted is None:
        raise SocratesError(
            f'{where}: no number stands as "human_effect_standardized" or its prediction; evaluate again'
        )
    return Effect(human, predicted, row.get("human_effect_clear") is True)


def _count(row: Mapping[str, Any], key: str, where: str) -> int:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise SocratesError(f'{where}: "{key}" must be a count, not {value!r}; evaluate again')
    return value


def _answers(row: Mapping[str, Any], key: str, where: str) -> dict[float, float]:
    value = row.get(key)
    if value is None:
        return {}
    try:
        found = {finite(float(answer)): finite(weight) for answer, weight in value.items()}
    except (AttributeError, ValueError) as error:
        raise SocratesError(f'{where}: "{key}" must be an object, answer -> number; evaluate again') from error
    if None in found or not all(weight is not None and weight >= 0 for weight in found.values()):
        raise SocratesError(f'{where}: "{key}" holds what is no answer or no count; evaluate again')
    return found


def _name(folder: Path) -> str:
    return folder.resolve().name or str(folder)


def _step(folder: Path, metrics: Mapping[str, Any]) -> int | None:
    model = section_of(metrics, "about").get("model")
    for name in ([Path(model).name] if isinstance(model, str) else []) + [_name(folder)]:
        if found := _CHECKPOINT.fullmatch(name):
            return int(found[1])
    return None
