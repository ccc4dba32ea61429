"""The summary of a data file: from its columns (`inspect.Found`) to an `Inspection`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from socrates.data.inspect import groups
from socrates.data.inspect.record import (
    DemographicField,
    Differing,
    Duplicates,
    Inspection,
    Outside,
    Repeated,
    ScaleUse,
    StudyCounts,
    Unscaled,
    spread_of,
)
from socrates.data.records import Cell

if TYPE_CHECKING:
    from socrates.data.inspect.inspect import Found, Stated

COMMON = 20  # values outside a scale, and of a demographic field, that are named
_LARGEST = 1e15  # number in a demographic field
_NUMERIC = 0.95  # share of a field's known values that are numbers, for quartiles


@dataclass(frozen=True)
class _Tables:
    """Indices of what a cell belongs to, and what a row does."""

    names: list[str]  # of the studies
    study: np.ndarray  # [rows]
    question: np.ndarray  # [rows]
    condition: np.ndarray  # [rows]
    questions: np.ndarray  # [studies]
    conditions: np.ndarray  # [studies]
    cells: np.ndarray  # [studies]


def _index(found: Found) -> _Tables:
    studies: dict[str, int] = {}
    questions: dict[tuple, int] = {}
    conditions: dict[tuple, int] = {}
    table = np.array(
        [
            (
                studies.setdefault(cell.study_id, len(studies)),
                questions.setdefault((cell.study_id, cell.task_num), len(questions)),
                conditions.setdefault((cell.study_id, cell.condition_num), len(conditions)),
            )
            for cell in found.cells
        ],
        np.int32,
    )
    cell = found.columns["cell"]

    def of_studies(keys: Iterable[tuple]) -> np.ndarray:
        return np.bincount([studies[key[0]] for key in keys], minlength=len(studies))

    return _Tables(
        list(studies),
        *(table[cell, i] for i in range(3)),
        of_studies(questions),
        of_studies(conditions),
        of_studies(found.cells),
    )


def summarise(path: Path, found: Found, tokenizer: str | None, max_length: int | None) -> Inspection:
    """The summary of a file, from what its shards held; ``found`` has one good row at least."""
    duplicates = _duplicates(found.columns)
    columns, tables = found.columns, _index(found)
    cells = groups.cell_counts(columns["cell"], columns["response"], len(found.cells))
    single, uniform = cells.sizes == 1, (cells.sizes > 1) & ~cells.spread
    repeats = groups.find_repeats(columns["person"], tables.question, columns["stimuli"], columns["cell"], tables.study)
    named = np.flatnonzero(columns["person"])
    answers, people = groups.count_values(columns["person"][named])
    outside = _outside(found)
    return Inspection(
        file=str(path).encode(errors="replace").decode(),
        bytes=path.stat().st_size,
        rows=len(columns["cell"]),
        bad_rows=found.bad,
        first_bad=tuple(found.first_bad),
        layouts=dict(sorted(found.layouts.items())),
        conditions=int(tables.conditions.sum()),
        questions=int(tables.questions.sum()),
        studies=_studies(found, tables, named[people], outside, repeats),
        participants=len(people),
        unnamed_rows=len(columns["person"]) - len(named),
        in_several_conditions=_in_several_conditions(columns["person"], tables.condition),
        answers_each=spread_of(_counts(answers)) if len(answers) else None,
        cell_sizes=spread_of(_counts(cells.sizes)),
        single_cells=int(single.sum()),
        uniform_cells=int(uniform.sum()),
        sizes_by_kind={
            "spread": _counts(cells.sizes[cells.spread]),
            "uniform": _counts(cells.sizes[uniform]),
            "single": _counts(cells.sizes[single]),
        },
        scales=_scale_uses(found, tables),
        without_scale=_without_scale(found, tables),
        outside_scale=_outside_by_study(found, tables, outside),
        differing=_differing(found),
        repeated=_repeated(repeats) if len(named) else None,
        demographics=tuple(_field(name, values, found.known[name]) for name, values in found.demographics.items()),
        characters=spread_of(found.characters),
        tokens=spread_of(found.tokens) if tokenizer else None,
        tokenizer=tokenizer,
        max_length=max_length,
        duplicates=duplicates,
    )


def _studies(
    found: Found, tables: _Tables, people: np.ndarray, outside: np.ndarray, repeats: groups.Repeats
) -> tuple[StudyCounts, ...]:
    def of_studies(studies: np.ndarray) -> list[int]:
        return np.bincount(studies, minlength=len(tables.names)).tolist()

    rows, persons, repeated = of_studies(tables.study), of_studies(tables.study[people]), of_studies(repeats.study)
    unscaled, strange = of_studies(tables.study[found.columns["scale"] < 0]), of_studies(tables.study[outside])
    studies = [
        StudyCounts(
            study_id=name,
            rows=rows[i],
            conditions=int(tables.conditions[i]),
            questions=int(tables.questions[i]),
            cells=int(tables.cells[i]),
            participants=persons[i] or None,
            without_scale=unscaled[i],
            outside_scale=strange[i],
            repeated=repeated[i] if persons[i] else None,
        )
        for i, name in enumerate(tables.names)
    ]
    return tuple(sorted(studies, key=lambda study: (-study.rows, study.study_id)))


def _without_scale(found: Found, tables: _Tables) -> tuple[Unscaled, ...]:
    rows = Counter(tables.study[found.columns["scale"] < 0].tolist())
    studies = [Unscaled(tables.names[i], count, *found.unscaled[tables.names[i]]) for i, count in rows.items()]
    return tuple(sorted(studies, key=lambda one: (-one.rows, one.study_id)))


def _counts(values: np.ndarray) -> dict[int, int]:
    distinct, counts = np.unique(values, return_counts=True)
    return dict(zip(distinct.tolist(), counts.tolist(), strict=True))


def _in_several_conditions(person: np.ndarray, condition: np.ndarray) -> int:
    order = np.lexsort((condition, person))
    person, condition = person[order], condition[order]
    moved = (person[1:] == person[:-1]) & (condition[1:] != condition[:-1]) & (person[1:] != 0)
    return len(np.unique(person[1:][moved]))


def show_scale(scale: Stated) -> str:
    """A scale as people write it: "1–5"; with a gap "1–5, 8"."""
    if len(scale.runs) == 1:
        return "{}–{}".format(*scale.runs[0])
    shown = [f"{a}–{b}" if b - a > 1 else ", ".join(map(str, range(a, b + 1))) for a, b in scale.runs[:6]]
    return ", ".join(shown) + (", …" if len(scale.runs) > 6 else "")


def _scale_uses(found: Found, tables: _Tables) -> tuple[ScaleUse, ...]:
    scale = found.columns["scale"]
    rows = np.bincount(scale[scale >= 0], minlength=len(found.scales))
    used, _ = groups.distinct_pairs(scale, tables.study)
    studies = np.bincount(used[used >= 0], minlength=len(found.scales))
    uses = [
        ScaleUse(show_scale(wording.scale), wording.form, int(rows[i]), int(studies[i]))
        for i, wording in enumerate(found.scales)
    ]
    return tuple(sorted(uses, key=lambda use: (-use.rows, use.scale, use.form)))


def _outside(found: Found) -> np.ndarray:
    """Which rows' answers lie outside the scale that their text states."""
    response, scale = found.columns["response"], found.columns["scale"]
    low = np.array([*(wording.scale.runs[0][0] for wording in found.scales), np.iinfo(np.int64).min])
    high = np.array([*(wording.scale.runs[-1][1] for wording in found.scales), np.iinfo(np.int64).max])
    outside = (response < low[scale]) | (response > high[scale])  # without a scale, -1: the last entry
    for i, wording in enumerate(found.scales):
        for (_, end), (start, _) in pairwise(wording.scale.runs):
            outside |= (scale == i) & (response > end) & (response < start)
    return np.flatnonzero(outside)


def _outside_by_study(found: Found, tables: _Tables, outside: np.ndarray) -> tuple[Outside, ...]:
    values: defaultdict[int, Counter[int]] = defaultdict(Counter)
    study, response = tables.study[outside], found.columns["response"][outside]
    distinct, rows = np.unique(np.stack([study, response], axis=1), axis=0, return_counts=True)
    for (index, answer), count in zip(distinct.tolist(), rows.tolist(), strict=True):
        values[index][answer] = count
    cells = np.unique(np.stack([study, found.columns["cell"][outside]], axis=1), axis=0)[:, 0]
    of_studies = [
        Outside(tables.names[index], counts.total(), int((cells == index).sum()), _most_common(counts))
        for index, counts in values.items()
    ]
    return tuple(sorted(of_studies, key=lambda one: (-one.rows, one.study_id)))


def _most_common(counts: Mapping[Any, int]) -> tuple[tuple[Any, int], ...]:
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:COMMON])


def _differing(found: Found) -> Differing:
    of_cell: defaultdict[Cell, set[Stated | None]] = defaultdict(set)
    cells, scales = groups.distinct_pairs(found.columns["cell"], found.columns["scale"])
    for cell, scale in zip(cells.tolist(), scales.tolist(), strict=True):
        of_cell[found.cells[cell]].add(None if scale < 0 else found.scales[scale].scale)
    of_question: defaultdict[tuple[str, int | str], dict[frozenset, None]] = defaultdict(dict)
    for cell, scales in of_cell.items():
        if known := frozenset(scales - {None}):
            of_question[cell.study_id, cell.task_num][known] = None

    def names(scales: Iterable[Stated]) -> tuple[str, ...]:
        return tuple(show_scale(scale) for scale in sorted(scales))

    def ordered(items: Iterable[tuple]) -> list[tuple]:
        return sorted(items, key=lambda item: [(isinstance(part, str), part) for part in item[0]])

    return Differing(
        cells=tuple(
            (cell, names(scales - {None})) for cell, scales in ordered(of_cell.items()) if len(scales - {None}) > 1
        ),
        partly=tuple(cell for cell, scales in ordered(of_cell.items()) if None in scales and len(scales) > 1),
        unstated=sum(scales == {None} for scales in of_cell.values()),
        questions=tuple(
            (*question, names(frozenset().union(*conditions)))
            for question, conditions in ordered(of_question.items())
            if len(conditions) > 1
        ),
    )


def _repeated(repeats: groups.Repeats) -> Repeated:
    other = repeats.texts == repeats.rows
    return Repeated(
        groups=len(repeats.rows),
        rows=int(repeats.rows.sum()),
        studies=len(np.unique(repeats.study)),
        groups_other_stimuli=int(other.sum()),
        studies_other_stimuli=len(np.unique(repeats.study[other])),
        groups_same_stimulus=int((~other).sum()),
        studies_same_stimulus=len(np.unique(repeats.study[~other])),
        rows_asked_again=int((repeats.rows - repeats.places).sum()),
    )


def _duplicates(columns: dict[str, np.ndarray]) -> Duplicates:
    """Takes the columns that nothing else needs, and so frees their memory."""
    again = groups.count_repeated(columns.pop("line"))
    same = groups.find_same_prompts(columns.pop("prompt"), columns["response"], columns["person"])
    return Duplicates(
        rows_like_an_earlier_one=again,
        shared_prompts=len(same.rows),
        rows_with_shared_prompts=int(same.rows.sum()),
        shared_prompts_one_response=int(same.one_response.sum()),
        shared_prompts_other_responses=int((~same.one_response).sum()),
        shared_prompts_one_participant=int(same.one_person.sum()),
    )


def _field(name: str, values: Counter[str] | None, known: int) -> DemographicField:
    if values is None:
        return DemographicField(name, known, None, (), None)
    numbers: Counter[float] = Counter()
    for value, rows in values.items():
        if (number := _as_number(value)) is not None:
            numbers[number] += rows
    numeric = len(numbers) > 1 and sum(numbers.values()) >= _NUMERIC * known
    return DemographicField(name, known, len(values), _most_common(values), spread_of(numbers) if numeric else None)


def _as_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    if not abs(number) < _LARGEST:
        return None
    return int(number) if number.is_integer() else number
