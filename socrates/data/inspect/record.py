"""The inspection of a data file of human answers (`Inspection`) as plain values: for the text, the page and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from socrates.data.records import Cell


@dataclass(frozen=True)
class Spread:
    """How values are spread: each quantile is a value that occurs (the smallest with that share at or below it)."""

    count: int
    mean: float
    min: float
    q1: float
    median: float
    q3: float
    p95: float
    p99: float
    max: float
    counts: Mapping[float, int] = field(repr=False)  # of every value; not part of the record

    def to_dict(self) -> dict[str, Any]:
        """The quantiles as JSON values."""
        return {name: value for name, value in vars(self).items() if name != "counts"}


@dataclass(frozen=True)
class StudyCounts:
    """One study's counts; ``participants`` is None where its rows name none."""

    study_id: str
    rows: int
    conditions: int
    questions: int
    cells: int
    participants: int | None
    without_scale: int
    outside_scale: int
    repeated: int | None  # groups of one (participant, task); None as above


@dataclass(frozen=True)
class ScaleUse:
    """A scale in one form, and where it is used."""

    scale: str
    form: str
    rows: int
    studies: int


@dataclass(frozen=True)
class Unscaled:
    """A study's rows without a scale; the first of them by line, and how its text ends."""

    study_id: str
    rows: int
    line: int
    ends: str


@dataclass(frozen=True)
class Outside:
    """A study's answers outside their scale; ``values`` are the most common ones, as (answer, rows)."""

    study_id: str
    rows: int
    cells: int
    values: tuple[tuple[int, int], ...]

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON values."""
        values = [{"answer": answer, "rows": rows} for answer, rows in self.values]
        return {"study_id": self.study_id, "rows": self.rows, "cells": self.cells, "values": values}


@dataclass(frozen=True)
class DemographicField:
    """A demographic field.

    Attributes:
        name: as in the rows.
        known: rows in which it is neither null nor empty.
        distinct: values; None if there are more than 10,000.
        common: the most common, as (value, rows).
        numbers: spread over the rows, where nearly all values are numbers.
    """

    name: str
    known: int
    distinct: int | None
    common: tuple[tuple[str, int], ...]
    numbers: Spread | None

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON values."""
        common = [{"value": value, "rows": rows} for value, rows in self.common]
        numbers = self.numbers.to_dict() if self.numbers else None
        return {
            "field": self.name,
            "known": self.known,
            "distinct": self.distinct,
            "common": common,
            "numbers": numbers,
        }


@dataclass(frozen=True)
class Differing:
    """Cells in which rows state different scales, and questions whose scale depends on the condition.

    Attributes:
        cells: (cell, its scales), two or more.
        partly: cells in which some rows state a scale and others none.
        unstated: number of cells in which no row states one.
        questions: (study, task, the scales of its conditions).
    """

    cells: tuple[tuple[Cell, tuple[str, ...]], ...]
    partly: tuple[Cell, ...]
    unstated: int
    questions: tuple[tuple[str, int | str, tuple[str, ...]], ...]

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON values, every cell and question named."""
        return {
            "cells_with_several_scales": [{**cell._asdict(), "scales": list(scales)} for cell, scales in self.cells],
            "cells_partly_without": [cell._asdict() for cell in self.partly],
            "cells_without": self.unstated,
            "questions_differing_between_conditions": [
                {"study_id": study, "task_num": task, "scales": list(scales)} for study, task, scales in self.questions
            ],
        }


@dataclass(frozen=True)
class Repeated:
    """Groups of rows with one (study, participant, task), where there are two or more.

    Attributes:
        groups, rows, studies: of them all.
        groups_other_stimuli: in which every row has another stimulus: the same question about other things.
        studies_other_stimuli: that have such groups.
        groups_same_stimulus: in which one stimulus at least comes twice.
        studies_same_stimulus: that have such groups.
        rows_asked_again: with the participant, task, condition and stimulus of an earlier one.
    """

    groups: int
    rows: int
    studies: int
    groups_other_stimuli: int
    studies_other_stimuli: int
    groups_same_stimulus: int
    studies_same_stimulus: int
    rows_asked_again: int


@dataclass(frozen=True)
class Duplicates:
    """Rows that are the same, and prompts (persona and text) that several rows have."""

    rows_like_an_earlier_one: int  # to the character
    shared_prompts: int
    rows_with_shared_prompts: int
    shared_prompts_one_response: int
    shared_prompts_other_responses: int
    shared_prompts_one_participant: int


@dataclass(frozen=True)
class Inspection:
    """All that was counted in a data file."""

    file: str
    bytes: int
    rows: int
    bad_rows: int
    first_bad: tuple[tuple[int, str], ...]  # (line, reason)
    layouts: Mapping[str, int]
    conditions: int
    questions: int
    studies: tuple[StudyCounts, ...]  # the largest first
    participants: int
    unnamed_rows: int  # name no participant
    in_several_conditions: int  # participants
    answers_each: Spread | None  # of a participant
    cell_sizes: Spread
    single_cells: int
    uniform_cells: int  # several answers, all equal
    scales: tuple[ScaleUse, ...]
    without_scale: tuple[Unscaled, ...]
    outside_scale: tuple[Outside, ...]
    differing: Differing
    repeated: Repeated | None  # None where no row names a participant
    demographics: tuple[DemographicField, ...]
    characters: Spread
    tokens: Spread | None
    tokenizer: str | None
    max_length: int | None
    duplicates: Duplicates
    sizes_by_kind: Mapping[str, Mapping[int, int]] = field(repr=False)  # of cells: "spread", "uniform", "single"

    @property
    def cells(self) -> int:
        """How many (study, condition, task)."""
        return self.cell_sizes.count

    @property
    def judgeable_cells(self) -> int:
        """Cells that an evaluation can judge: they hold two different answers at least."""
        return self.cells - self.single_cells - self.uniform_cells

    @property
    def judgeable_rows(self) -> int:
        """Rows of these cells."""
        return sum(size * cells for size, cells in self.sizes_by_kind["spread"].items())

    @property
    def too_long(self) -> int | None:
        """Rows longer than the limit; None where there is no limit or no tokenizer."""
        if self.tokens is None or self.max_length is None:
            return None
        return sum(rows for length, rows in self.tokens.counts.items() if length > self.max_length)

    def to_dict(self) -> dict[str, Any]:
        """Everything in full, as JSON values."""
        return {
            "file": self.file,
            "bytes": self.bytes,
            "rows": self.rows,
            "bad_rows": {"rows": self.bad_rows, "first": [{"line": n, "reason": why} for n, why in self.first_bad]},
            "layouts": dict(self.layouts),
            "counts": {
                "studies": len(self.studies),
                "conditions": self.conditions,
                "questions": self.questions,
                "cells": self.cells,
                "participants": self.participants if self.participants else None,
            },
            "studies": [asdict(study) for study in self.studies],
            "cells": {
                "sizes": self.cell_sizes.to_dict(),
                "one_answer": self.single_cells,
                "no_spread": self.uniform_cells,
                "judgeable": self.judgeable_cells,
                "judgeable_rows": self.judgeable_rows,
            },
            "participants": {
                "rows_without_participant": self.unnamed_rows,
                "in_several_conditions": self.in_several_conditions if self.participants else None,
                "answers_each": self.answers_each.to_dict() if self.answers_each else None,
            },
            "demographics": [one.to_dict() for one in self.demographics],
            "scales": {
                "stated": [asdict(use) for use in self.scales],
                "without_scale": [asdict(one) for one in self.without_scale],
                "outside_scale": [one.to_dict() for one in self.outside_scale],
                "differing": self.differing.to_dict(),
            },
            "repeated": asdict(self.repeated) if self.repeated else None,
            "lengths": {
                "characters": self.characters.to_dict(),
                "tokens": self.tokens.to_dict() if self.tokens else None,
                "tokenizer": self.tokenizer,
                "max_length": self.max_length,
                "longer_than_max_length": self.too_long,
            },
            "duplicates": asdict(self.duplicates),
        }


def spread_of(counts: Mapping[Any, int]) -> Spread:
    """The spread of numbers that occur so many times each; at least one does."""
    values = np.array(sorted(counts))
    times = np.array([counts[value] for value in values.tolist()])
    total, reached = int(times.sum()), np.cumsum(times)
    quantiles = [values[np.searchsorted(reached, share * total)].item() for share in (0, 0.25, 0.5, 0.75, 0.95, 0.99)]
    mean = float((values * times).sum() / total)
    return Spread(total, round(mean, 4), *quantiles, values[-1].item(), dict(sorted(counts.items())))
