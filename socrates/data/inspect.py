"""Inspection of a data file of human answers: one pass over its rows, then counts by pandas over columns of numbers.

A row leaves 105 bytes behind: texts, people and lines become 64-bit hashes, taken as what they stand for. All else that
is kept grows with the cells, scales and demographic values that occur.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from socrates.console import progress
from socrates.data.demographics import group_name
from socrates.data.encode import BYTES_A_TOKEN, PromptEncoder
from socrates.data.prepare.lines import LISTED, to_answer, to_line
from socrates.data.records import Answer, BadRow, Cell, as_number, read_lines
from socrates.data.scales import Scale
from socrates.data.scales.missing import far_answers
from socrates.data.scales.text import parse_scale
from socrates.errors import SocratesError

QUANTILES = {"min": 0, "q1": 0.25, "median": 0.5, "q3": 0.75, "p95": 0.95, "p99": 0.99, "max": 1}
CONTRADICTING = "scale that the text contradicts"
_COUNTED = {"condition": "conditions", "question": "questions", "cell": "cells"}
_KINDS = ("answers_outside", "missing_answers", "far_answers")
_ROW = np.dtype(
    [(name, "i8") for name in ("text", "prompt", "stimuli", "person")]  # hashes; person: 0 where none is named
    + [(name, "i8") for name in ("line", "cell", "wording", "characters", "tokens")]
    + [(name, "f8") for name in ("response", "low", "high", "people")]  # NaN, lowest, highest, how many: of counts
    + [(name, bool) for name in _KINDS]  # outside the scale that the text states, missing, far from the others
)


@dataclass(frozen=True)
class Inspection:
    """All that was counted in a data file.

    Attributes:
        record: what `scripts/inspect_data.py --json` prints; its help names the keys.
        cell_sizes: rows of each cell.
        lengths: of each row, in tokens where they were counted, else characters of its prompt.
    """

    record: dict[str, Any]
    cell_sizes: np.ndarray
    lengths: np.ndarray


def inspect_file(path: Path | str, encoder: PromptEncoder | None = None, max_length: int | None = None) -> Inspection:
    """Count what is in a JSONL file.

    Args:
        path: of the file.
        encoder: to count tokens with.
        max_length: tokens that a row may have in training; goes with the encoder.

    Raises:
        SocratesError: no such file, or one that cannot be read or holds no usable row.
    """
    if Path(path).suffix == ".parquet":
        raise SocratesError(f"{path}: is a parquet file; scripts/prepare_data.py --source {path} makes JSONL of it")
    found = _Found(encoder)
    rows = pd.DataFrame(np.fromiter(found.read(progress(read_lines(path), "inspecting")), _ROW))
    if rows.empty and not found.bad_rows:
        raise SocratesError(f"{path}: holds no rows; expected one JSON object a line")
    if rows.empty:
        reason = "line {line}: {reason}".format(**found.first_bad[0])
        raise SocratesError(f"{path}: none of its {found.bad_rows} rows can be used; {reason}")
    return _summarise(str(path), found, rows, max_length)


class _Found:
    """What the rows' numbers count from 0, and what else is counted as they are read."""

    def __init__(self, encoder: PromptEncoder | None) -> None:
        self.encoder = encoder
        self.cells: dict[Cell, int] = {}
        self.wordings: dict[tuple[Scale | None, str | None], int] = {}  # a scale and its form, or why there is none
        self.groups: defaultdict[str, Counter[str | None]] = defaultdict(Counter)  # of each demographic field
        self.stated_by_rows: Counter[str] = Counter()  # rows with a key of `own_words.py`
        self.bad_rows = 0
        self.first_bad: list[dict[str, Any]] = []

    def read(self, lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, ...]]:
        """Each good row as `_ROW`."""
        for number, line in lines:
            try:
                answer = to_answer(line, number)
                to_line(answer)  # as preparation would write it, if it can be
            except BadRow as error:
                self.bad_rows += 1
                if self.bad_rows <= LISTED:
                    self.first_bad.append({"line": number, "reason": str(error).encode(errors="replace").decode()})
                continue
            for field, value in answer.demographic.items():
                self.groups[field][group_name(field, value)] += 1
            scale, form, missing = answer.stated
            self.stated_by_rows.update(answer.own.as_row().keys())
            if answer.own.scale is not None and parse_scale(answer.stimuli) not in (None, answer.own.scale, scale):
                self.stated_by_rows[CONTRADICTING] += 1
            given = answer.counts
            valid = given.keys() - missing
            yield (
                hash(line.strip()),
                hash(answer.prompt),
                hash(answer.stimuli),
                0 if answer.participant is None else hash(f"{answer.cell.study_id}\n{answer.participant}"),
                number,
                self.cells.setdefault(answer.cell, len(self.cells)),
                self.wordings.setdefault((scale, form), len(self.wordings)),
                len(answer.prompt),
                self._count_tokens(answer) if self.encoder else 0,
                math.nan if answer.response is None else answer.response,
                min(valid, default=math.nan),
                max(valid, default=math.nan),
                math.fsum(given[one] for one in valid),
                scale is not None and any(one not in scale for one in valid),
                len(valid) < len(given),
                scale and not answer.own.nominal and not far_answers(scale.values).isdisjoint(given),
            )

    def _count_tokens(self, answer: Answer) -> int:
        """As a training row has them: prompt, answer, end of the turn."""
        prompt = self.encoder.encode(answer.prompt)
        return (len(prompt) + len(self.encoder.encode_answer(answer.response or min(answer.counts)))) // BYTES_A_TOKEN


def _summarise(path: str, found: _Found, rows: pd.DataFrame, max_length: int | None) -> Inspection:
    wordings = [(None if scale is None else str(scale), form) for scale, form in found.wordings]
    rows = _with_names(rows, found.cells, [scale for scale, _ in wordings])
    named = rows[rows["person"] != 0]
    answers = rows.groupby("cell").agg(
        rows=("people", "size"), people=("people", "sum"), low=("low", "min"), high=("high", "max")
    )
    lengths = rows["tokens" if found.encoder else "characters"]
    record = {
        "file": {
            "path": path.encode(errors="replace").decode(),
            "rows": len(rows),
            "bad_rows": found.bad_rows,
            "studies": rows["study_id"].nunique(),
            **rows[[*_COUNTED]].nunique().rename(_COUNTED).to_dict(),
            "participants": named["person"].nunique(),
        },
        "bad_rows": found.first_bad,
        "studies": _studies(rows, named),
        "cells": _cells(answers),
        "demographics": [_demographic(field, groups) for field, groups in found.groups.items()],
        "scales": _scales(rows, wordings),
        "stated_by_rows": dict(found.stated_by_rows),
        "off_scale": _off_scale(rows[rows[["unscaled", *_KINDS]].any(axis=1)]),
        "differing_scales": _differing(rows[~rows["unscaled"]]),
        "repeated": _repeated(rows, named),
        "lengths": {
            "characters": spread_of(rows["characters"]),
            "tokens": spread_of(lengths) if found.encoder else None,
            "max_length": max_length,
            "longer_than_max_length": int((lengths > max_length).sum()) if found.encoder else None,
        },
        "duplicates": {
            "rows_like_an_earlier_one": int(rows["text"].duplicated().sum()),
            "rows_with_shared_prompts": int(rows["prompt"].duplicated(keep=False).sum()),
        },
    }
    return Inspection(record, answers["rows"].to_numpy(), lengths.to_numpy())


def _with_names(rows: pd.DataFrame, found: Iterable[Cell], scales: list[str | None]) -> pd.DataFrame:
    """The rows with their study, the numbers of their condition and question, and the number of their scale."""
    cells = pd.DataFrame(list(found), columns=list(Cell._fields)).astype({"study_id": "category"})
    for name, key in (("condition", "condition_num"), ("question", "task_num")):
        cells[name] = cells.groupby(["study_id", key], sort=False).ngroup()
    scale = pd.factorize(np.array(scales, object))[0][rows["wording"]]  # -1 where the text states none
    rows = rows.join(cells[["study_id", "condition", "question"]], on="cell")
    return rows.assign(scale=scale, unscaled=scale < 0)


def _studies(rows: pd.DataFrame, named: pd.DataFrame) -> list[dict[str, Any]]:
    by_study = rows.groupby("study_id")
    table = by_study[[*_COUNTED]].nunique().rename(columns=_COUNTED)
    table.insert(0, "rows", by_study.size())
    table["participants"] = named.groupby("study_id")["person"].nunique()
    table = table.fillna(0).astype(int).sort_values("rows", ascending=False, kind="stable")
    return table.reset_index().to_dict("records")


def _cells(answers: pd.DataFrame) -> dict[str, Any]:
    people, differ = answers["people"], answers["low"] < answers["high"]
    return {
        "sizes": spread_of(answers["rows"]),
        "one_answer": int((people == 1).sum()),
        "judgeable": int(differ.sum()),
        "judgeable_rows": round(people[differ].sum()),
    }


def _demographic(field: str, groups: Counter[str | None]) -> dict[str, Any]:
    known = {name: rows for name, rows in groups.items() if name is not None}
    return {"field": field, "known": sum(known.values()), "groups": len(known), "common": _most_common(known)}


def _most_common(counts: Mapping[Any, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:LISTED])


def _most_given(answers: pd.Series) -> dict[float, int]:
    return {as_number(answer): rows for answer, rows in _most_common(answers.value_counts()).items()}


def _scales(rows: pd.DataFrame, wordings: list[tuple[str | None, str | None]]) -> list[dict[str, Any]]:
    uses = rows.groupby("wording").agg(rows=("cell", "size"), studies=("study_id", "nunique"))
    table = pd.DataFrame(wordings, columns=["scale", "form"], dtype=object).join(uses)
    return table.sort_values("rows", ascending=False, kind="stable").to_dict("records")


def _off_scale(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """By study, rows whose text states no scale, and answers that are not on theirs, missing, or far from the rest."""
    return [
        {
            "study_id": study,
            "first_line": int(some["line"].min()),
            "without_scale": int(some["unscaled"].sum()),
            "outside_scale": int(some["answers_outside"].sum()),
            **{name: _most_given(some.loc[some[name], "response"]) for name in _KINDS},
        }
        for study, some in rows.groupby("study_id")
    ]


def _differing(rows: pd.DataFrame) -> dict[str, int]:
    """Cells whose rows state several scales, and questions whose scale depends on the condition."""
    cells = rows.groupby("cell").agg(question=("question", "first"), low=("scale", "min"), high=("scale", "max"))
    conditions = cells.groupby("question")[["low", "high"]].nunique()
    return {
        "cells_with_several_scales": int((cells["low"] < cells["high"]).sum()),
        "questions_differing_between_conditions": int((conditions > 1).any(axis=1).sum()),
    }


def _repeated(rows: pd.DataFrame, named: pd.DataFrame) -> dict[str, int]:
    """Groups of two rows or more with one (study, participant, task)."""
    keys = ["person", "question"]
    repeats = named[named.duplicated(keys, keep=False)]
    groups = repeats.groupby(keys).agg(rows=("cell", "size"), texts=("stimuli", "nunique"))
    return {
        "rows_without_participant": len(rows) - len(named),
        "groups": len(groups),
        "rows": len(repeats),
        "studies": repeats["study_id"].nunique(),
        "groups_other_stimuli": int((groups["texts"] == groups["rows"]).sum()),
    }


def spread_of(values: pd.Series) -> dict[str, Any]:
    """How many numbers there are, one at least; their mean, and quantiles that are values which occur."""
    quantiles = np.quantile(values, [*QUANTILES.values()], method="inverted_cdf").tolist()
    return {
        "count": len(values),
        "mean": round(float(values.mean()), 4),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }
