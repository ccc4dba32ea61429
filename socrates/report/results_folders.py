"""Results folders as a report reads them, and their numbers as text; the only place that knows the files' forms.

Covers: folders that lack some files, those scored from answers made elsewhere, and those that somebody else sent.
Does not cover: whether the results may be compared; the gate decides that, and the report says where they differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pandas as pd
from pydantic import Field

from socrates.data.records import read_jsonl
from socrates.errors import SocratesError
from socrates.evaluation.gate import REMEDIES, Decision, check_version
from socrates.evaluation.lines import read_cell_lines
from socrates.evaluation.results import CELLS, DECISION, EFFECTS, METRICS, check_metrics, read_metrics
from socrates.files import finite, read_json
from socrates.schema import Recorded, S, validate

NONE = "–"
_MOST = 1e100  # what is larger is no number of an evaluation, and cannot be drawn


class Value(NamedTuple):
    """A number and its 95% interval; either may be unknown."""

    value: float | None
    limits: tuple[float, float] | None = None

    def __str__(self) -> str:
        return self.written()

    def written(self, digits: int = 3, unit: str = "") -> str:
        """As in a table: 0.185 [0.172, 0.198]."""
        if self.value is None:
            return NONE
        interval = self.limits and " [{},\u00a0{}]".format(*(fixed(limit, digits) for limit in self.limits))
        return f"{fixed(self.value, digits)}{unit}{interval or ''}"

    def in_words(self, digits: int = 3, unit: str = "") -> str:
        """As in a sentence: 0.185 (95% interval 0.172 to 0.198)."""
        if self.value is None:
            return "not defined"
        return f"{fixed(self.value, digits)}{unit}{limits_in_words(self.limits, digits, unit)}"

    def times(self, factor: float) -> Value:
        """The same in another unit; in percent with a ``factor`` of 100."""
        if self.value is None:
            return self
        return Value(self.value * factor, self.limits and tuple(sorted(limit * factor for limit in self.limits)))


def value_at(record: Mapping[str, Any], *keys: str) -> Value:
    """A number deep in a record, with the `_ci95` that stands beside it."""
    for key in keys[:-1]:
        record = record.get(key) if isinstance(record.get(key), Mapping) else {}
    limits = record.get(f"{keys[-1]}_ci95")
    low, high = limits if isinstance(limits, list | tuple) and len(limits) == 2 else (None, None)
    value, low, high = (finite(one, -_MOST, _MOST) for one in (record.get(keys[-1]), low, high))
    return Value(value, None if low is None or high is None or low > high else (low, high))


def values_in(table: pd.DataFrame, columns: Sequence[str]) -> list[Value]:
    """The number and the interval in three columns of each row of a table."""
    rows = table[list(columns)].itertuples(index=False)
    return [Value(number, None if low != low else (low, high)) for number, low, high in rows]


def fixed(value: float | None, digits: int = 3) -> str:
    """A number with so many decimals, and no minus before zeros."""
    return NONE if value is None or value != value else f"{value:z,.{digits}f}"


def limits_in_words(limits: tuple[float, float] | None, digits: int = 3, unit: str = "") -> str:
    """The interval as it follows a number in a sentence."""
    return "" if limits is None else " (95% interval {} to {})".format(*(fixed(x, digits) + unit for x in limits))


def decoding_text(record: Mapping[str, Any], *keys: str) -> str | None:
    """A recorded decoding in words; None: the record says neither temperature nor top-p."""
    temperature, top_p = (value_at(record, *keys, name).value for name in ("temperature", "top_p"))
    return None if temperature is None or top_p is None else f"temperature {temperature:g}, top-p {top_p:g}"


_Number = Annotated[float, Field(ge=-_MOST, le=_MOST)]


class _Shown(Recorded, strict=False, extra="ignore"):
    """What a report shows of a line or a file; answers are texts there."""


class _EffectLine(_Shown):
    human_effect_standardized: _Number
    predicted_effect_standardized: _Number
    expected_effect_standardized: _Number | None
    human_effect_clear: bool


@dataclass(frozen=True)
class Results:
    """One results folder, whose further files are read when they are wanted; it may lack them."""

    folder: Path
    label: str  # what the report calls it
    metrics: Mapping[str, Any]  # the content of `metrics.json`

    @cached_property
    def decision(self) -> Decision | None:
        """That of `decision.json`."""
        path = self.folder / DECISION
        return validate(Decision, read_json(path, "decision"), str(path)) if path.exists() else None

    @cached_property
    def cells(self) -> pd.DataFrame:
        """A row a scored cell of `cells.jsonl`: its names, and the fields of its line."""
        path = self.folder / CELLS
        lines = read_cell_lines(path).items() if path.exists() else ()
        name = "total_variation" if self.nominal else "wasserstein_distance"
        rows = (
            {**cell._asdict(), **line.model_dump(), "wasserstein_distance": getattr(line, name)} for cell, line in lines
        )
        return pd.DataFrame([row for row in rows if row["wasserstein_distance"] is not None])

    @cached_property
    def effects(self) -> pd.DataFrame:
        """A row a line of `effects.jsonl`."""
        return pd.DataFrame([line.model_dump() for line in read_lines(self.folder / EFFECTS, _EffectLine)])

    def value(self, *keys: str) -> Value:
        """A number of `metrics.json` and its interval."""
        return value_at(self.metrics, *keys)

    @property
    def distance(self) -> Value:
        """W, the Wasserstein distance; where all outcomes are nominal, the total variation."""
        return self.value("nominal", "total_variation") if self.nominal else self.value("wasserstein_distance")

    @property
    def nominal(self) -> bool:
        """Whether all outcomes are nominal."""
        return self.metrics["wasserstein_distance"] is None

    def guess(self, name: str) -> Value:
        """What a guess scores in that distance."""
        return self.value("nominal" if self.nominal else "bounds", name)

    @property
    def decoding(self) -> str | None:
        """What was done to the model's probabilities, in words; None: not recorded."""
        return decoding_text(self.metrics, "comparability", "decoding")


def read_results(folder: Path) -> Results:
    """The results in a folder with a `metrics.json`, which may be named instead.

    Raises:
        SocratesError: no such folder, no `metrics.json`, a bad one, or one of another version; names file and key.
    """
    if folder.is_file() and folder.name == METRICS:
        folder = folder.parent
    if not folder.is_dir():
        raise SocratesError(f"{folder}: no such results folder; expected one with a {METRICS}, as evaluations write it")
    metrics = check_metrics(read_metrics(path := folder / METRICS), str(path)).model_dump()
    check_version(metrics["comparability"]["metric_version"], path)
    return Results(folder, folder.resolve().name, metrics)


def read_lines(path: Path, schema: type[S]) -> Iterator[S]:
    """What each line of a file means; none where there is no file.

    Raises:
        SocratesError: a bad line; names file, line and key.
    """
    for number, row in read_jsonl(path) if path.exists() else ():
        yield validate(schema, row, f"{path}, line {number}")


def comparability_differences(one: Results, other: Results) -> list[str]:
    """What of the rows, prompts and settings differs between two results, so that they must not be compared."""
    ours, theirs = (results.metrics["comparability"] for results in (one, other))
    return [key for key in REMEDIES if ours[key] != theirs[key]]


@dataclass(frozen=True)
class Material:
    """All results of a report, under labels that differ: what the subject is compared with, others, the subject."""

    all: Sequence[Results]

    @property
    def subject(self) -> Results:
        """The results that the report is about."""
        return self.all[-1]

    @property
    def baseline(self) -> Results | None:
        """What the subject is compared with."""
        return self.all[0] if len(self.all) > 1 else None

    @property
    def main(self) -> list[Results]:
        """Baseline and subject."""
        return [*self.all[:-1][:1], self.subject]
