"""Inspection of a data file of human answers: one pass over its rows, then counts by pandas over columns of numbers.

A row leaves 73 bytes behind: texts, people and lines become 64-bit hashes, taken as what they stand for. All else that
is kept grows with the cells, scales and demographic values that occur.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from socrates.console import progress
from socrates.data.encode import BYTES_A_TOKEN, PromptEncoder
from socrates.data.prepare.lines import LISTED, parse_published, to_answer, to_line
from socrates.data.records import Answer, BadRow, Cell, as_number
from socrates.data.scales import Scale
from socrates.data.scales.text import read_scale
from socrates.errors import SocratesError
from socrates.files import file_identity

QUANTILES = {"min": 0, "q1": 0.25, "median": 0.5, "q3": 0.75, "p95": 0.95, "p99": 0.99, "max": 1}
_ROW = np.dtype(
    [
        *((name, "i8") for name in ("line", "prompt", "stimuli", "person")),  # hashes; person: 0 where none is named
        *((name, "i8") for name in ("response", "cell", "wording")),  # wording: -1 where the text states no scale
        *((name, "i8") for name in ("characters", "tokens")),  # of the prompt, of the row
        ("outside", bool),  # the scale that the text states
    ]
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


def inspect_file(
    path: Path | str,
    *,
    encoder: PromptEncoder | None = None,
    tokenizer: str | None = None,
    max_length: int | None = None,
) -> Inspection:
    """Count what is in a JSONL file.

    Args:
        path: of the file.
        encoder: to count tokens with.
        tokenizer: what the encoder's is called.
        max_length: tokens that a row may have in training.

    Raises:
        SocratesError: no such file, one that cannot be read or holds no usable row, or one that changes meanwhile.
    """
    path = Path(path)
    check_file(path)
    found = _Found(path, encoder)
    try:
        before = file_identity(path)
        with path.open("rb") as file:
            rows = np.fromiter(found.read(progress(file, "inspecting")), _ROW)
        if file_identity(path) != before:
            raise SocratesError(f"{path}: was changed while it was read; run the same command again")
    except OSError as error:
        raise SocratesError(f"{path}: cannot read: {error.strerror or error}") from error
    if not found.cells:
        if not found.bad_rows:
            raise SocratesError(f"{path}: holds no rows; expected one JSON object a line")
        reason = "line {line}: {reason}".format(**found.first_bad[0])
        raise SocratesError(f"{path}: none of its {found.bad_rows} rows can be used; {reason}")
    return _summarise(found, pd.DataFrame(rows), tokenizer if encoder else None, max_length)


def check_file(path: Path) -> None:
    """SocratesError, with what to name instead, unless there is a file that may hold JSONL."""
    if path.is_dir():
        files = sorted(file.name for file in path.glob("*.jsonl"))
        choice = f"; choose one of its files: {', '.join(files)}" if files else ", and holds no .jsonl file"
        raise SocratesError(f"{path}: is a folder{choice}")
    if not path.is_file():
        raise SocratesError(f"{path}: no such data file")
    if path.suffix == ".parquet":
        raise SocratesError(f"{path}: is a parquet file; scripts/prepare_data.py --source {path} makes JSONL of it")


class _Found:
    """What the rows' numbers count from 0, and what else is counted as they are read."""

    def __init__(self, path: Path, encoder: PromptEncoder | None) -> None:
        self.path, self.encoder = path, encoder
        self.cells: dict[Cell, int] = {}
        self.wordings: dict[tuple[Scale, str], int] = {}  # (scale, form in which it is stated)
        self.unscaled: dict[str, dict[str, Any]] = {}  # by study: the first row's line, and how its text ends
        self.layouts: Counter[str] = Counter()
        self.values: defaultdict[str, Counter[str]] = defaultdict(Counter)  # of each demographic field
        self.bad_rows = 0
        self.first_bad: list[dict[str, Any]] = []

    def read(self, lines: Iterable[bytes]) -> Iterator[tuple[int, ...]]:
        """Each good row as `_ROW`."""
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = parse_published(line)
                answer = to_answer(row, number)
                to_line(answer)  # as preparation would write it, if it can be
            except BadRow as error:
                self.bad_rows += 1
                reason = str(error).encode(errors="replace").decode()
                self.first_bad += [{"line": number, "reason": reason}] if self.bad_rows <= LISTED else []
                continue
            wording, is_outside = self._wording_of(answer)
            self.layouts["instruction" if "output" in row and "response" not in row else "published"] += 1
            self._count_demographic(answer.demographic)
            yield (
                hash(line.strip()),
                hash(answer.prompt),
                hash(answer.stimuli),
                0 if answer.participant is None else hash(f"{answer.cell.study_id}\n{answer.participant}") or 1,
                max(-(2**63), min(answer.response, 2**63 - 1)),
                self.cells.setdefault(answer.cell, len(self.cells)),
                wording,
                len(answer.prompt),
                self._count_tokens(answer) if self.encoder else 0,
                is_outside,
            )

    def _wording_of(self, answer: Answer) -> tuple[int, bool]:
        """The number of the wording, and whether the answer is outside the scale that it states."""
        scale, form = _read_scale(answer.stimuli)
        if scale is None:
            ends = " ".join(answer.stimuli[-120:].split())
            self.unscaled.setdefault(answer.cell.study_id, {"line": answer.line, "ends": ends})
            return -1, False
        return self.wordings.setdefault((scale, form), len(self.wordings)), answer.response not in scale

    def _count_tokens(self, answer: Answer) -> int:
        """As a training row has them: prompt, answer, end of the turn."""
        prompt = self.encoder.encode(answer.prompt)
        return (len(prompt) + len(self.encoder.encode_answer(answer.response))) // BYTES_A_TOKEN

    def _count_demographic(self, demographic: Mapping[str, Any]) -> None:
        for name, value in demographic.items():
            values = self.values[name]
            if value is not None and value != "" and value == value:  # NaN: as some converters write null
                values[str(int(value) if isinstance(value, float) and value.is_integer() else value)] += 1


_read_scale = lru_cache(maxsize=8192)(read_scale)  # hundreds of people read the same text


def _summarise(found: _Found, rows: pd.DataFrame, tokenizer: str | None, max_length: int | None) -> Inspection:
    cells, rows = _tables(found, rows)
    named = rows[rows["person"] != 0]
    repeated = _repeated_groups(named)
    answers = rows.groupby("cell")["response"].agg(["size", "min", "max"])
    lengths = rows["tokens" if tokenizer else "characters"].to_numpy()
    record = {
        "file": str(found.path).encode(errors="replace").decode(),
        "bytes": found.path.stat().st_size,
        "rows": len(rows),
        "bad_rows": {"rows": found.bad_rows, "first": found.first_bad},
        "layouts": dict(sorted(found.layouts.items())),
        "counts": {
            "studies": cells["study_id"].nunique(),
            "conditions": cells["condition"].nunique(),
            "questions": cells["question"].nunique(),
            "cells": len(cells),
            "participants": named["person"].nunique() or None,
        },
        "studies": _studies(rows, named, repeated),
        "cells": _cells(answers),
        "participants": _participants(rows, named),
        "demographics": [_demographic(name, values) for name, values in found.values.items()],
        "scales": _scales(rows, cells, found.unscaled),
        "repeated": _repeated(named, repeated) if len(named) else None,
        "lengths": {
            "characters": spread_of(rows["characters"]),
            "tokens": spread_of(lengths) if tokenizer else None,
            "tokenizer": tokenizer,
            "max_length": max_length,
            "longer_than_max_length": int((lengths > max_length).sum()) if tokenizer and max_length else None,
        },
        "duplicates": _duplicates(rows),
    }
    return Inspection(record, answers["size"].to_numpy(), lengths)


def _tables(found: _Found, rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The cells, with the numbers of their condition and question; the rows, with all of their cell and wording."""
    cells = pd.DataFrame(list(found.cells), columns=list(Cell._fields)).astype({"study_id": "category"})
    for name, key in (("condition", "condition_num"), ("question", "task_num")):
        cells[name] = cells.groupby(["study_id", key], sort=False).ngroup()
    names = {
        scale: f"{scale.low}–{scale.high}" if len(scale) > scale.high - scale.low else str(scale).replace(" to ", "–")
        for scale in sorted({scale for scale, _ in found.wordings}, key=lambda scale: scale.values)
    }
    stated = pd.Categorical([names[scale] for scale, _ in found.wordings], [*names.values()], ordered=True)
    wordings = pd.DataFrame({"scale": stated, "form": pd.Categorical([form for _, form in found.wordings])})
    rows = rows.join(cells[["study_id", "condition", "question"]], on="cell").join(wordings, on="wording")
    return cells, rows


def _studies(rows: pd.DataFrame, named: pd.DataFrame, repeated: pd.DataFrame) -> list[dict[str, Any]]:
    table = rows.groupby("study_id").agg(
        rows=("cell", "size"),
        conditions=("condition", "nunique"),
        questions=("question", "nunique"),
        cells=("cell", "nunique"),
        participants=("person", "nunique"),
        without_scale=("wording", lambda some: (some < 0).sum()),
        outside_scale=("outside", "sum"),
    )
    table["participants"] = named.groupby("study_id")["person"].nunique()
    table["repeated"] = repeated.groupby("study_id").size()
    studies = sorted(table.fillna(0).astype(int).reset_index().to_dict("records"), key=_largest_first)
    for study in studies:
        if not study["participants"]:
            study["participants"] = study["repeated"] = None
    return studies


def _cells(answers: pd.DataFrame) -> dict[str, Any]:
    size, differ = answers["size"], answers["min"] < answers["max"]
    return {
        "sizes": spread_of(size),
        "one_answer": int((size == 1).sum()),
        "no_spread": int(((size > 1) & ~differ).sum()),
        "judgeable": int(differ.sum()),
        "judgeable_rows": int(size[differ].sum()),
    }


def _participants(rows: pd.DataFrame, named: pd.DataFrame) -> dict[str, Any]:
    found = {"rows_without_participant": len(rows) - len(named), "in_several_conditions": None, "answers_each": None}
    if len(named):
        conditions = named.groupby("person")["condition"].agg(["size", "min", "max"])
        found["in_several_conditions"] = int((conditions["min"] != conditions["max"]).sum())
        found["answers_each"] = spread_of(conditions["size"])
    return found


def _demographic(name: str, values: Counter[str]) -> dict[str, Any]:
    numbers = pd.to_numeric(pd.Series([*values], dtype=object), errors="coerce").astype(float)
    usable = numbers.abs() < 1e15  # not so where it is no number
    each = np.repeat(numbers[usable], np.array([*values.values()], int)[usable])
    is_numeric = each.nunique() > 1 and len(each) >= 0.95 * values.total()
    return {
        "field": name,
        "known": values.total(),
        "distinct": len(values),
        "common": [{"value": value, "rows": rows} for value, rows in _most_common(values)],
        "numbers": spread_of(each) if is_numeric else None,
    }


def _largest_first(study: Mapping[str, Any]) -> tuple[int, str]:
    return -study["rows"], study["study_id"]


def _most_common(counts: Mapping[Any, int]) -> list[tuple[Any, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:LISTED]


def _scales(rows: pd.DataFrame, cells: pd.DataFrame, unscaled: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The scales that texts state; by study, rows whose text states none, and answers that are not on theirs."""
    uses = rows.groupby(["scale", "form"]).agg(rows=("cell", "size"), studies=("study_id", "nunique")).reset_index()
    without = rows[rows["scale"].isna()].groupby("study_id").size()
    outside = []
    for study, some in rows[rows["outside"]].groupby("study_id"):
        values = [{"answer": answer, "rows": n} for answer, n in _most_common(Counter(some["response"].tolist()))]
        outside.append({"study_id": study, "rows": len(some), "cells": some["cell"].nunique(), "values": values})
    return {
        "stated": uses.sort_values(["rows", "scale", "form"], ascending=[False, True, True]).to_dict("records"),
        "without_scale": sorted(
            ({"study_id": study, "rows": int(without[study]), **first} for study, first in unscaled.items()),
            key=_largest_first,
        ),
        "outside_scale": sorted(outside, key=_largest_first),
        "differing": _differing(rows, cells),
    }


def _differing(rows: pd.DataFrame, cells: pd.DataFrame) -> dict[str, Any]:
    """Cells whose rows state several scales, and questions whose scale depends on the condition."""
    keys, names = list(Cell._fields), list(rows["scale"].cat.categories)
    pairs = rows[["cell", "scale"]].dropna().drop_duplicates().sort_values("scale")
    table = cells[keys].assign(scales=pairs.groupby("cell")["scale"].agg(tuple))
    some, all_rows = rows.groupby("cell")["scale"].count(), rows.groupby("cell").size()
    by_question = table.dropna().groupby(["study_id", "task_num"], sort=False)["scales"].agg(set)
    return {
        "cells_with_several_scales": table[table["scales"].str.len() > 1].to_dict("records"),
        "cells_partly_without": cells.loc[(some > 0) & (some < all_rows), keys].to_dict("records"),
        "cells_without": int((some == 0).sum()),
        "questions_differing_between_conditions": [
            {"study_id": study, "task_num": task, "scales": sorted(set().union(*scales), key=names.index)}
            for (study, task), scales in by_question.items()
            if len(scales) > 1
        ],
    }


def _repeated_groups(named: pd.DataFrame) -> pd.DataFrame:
    """Groups of rows with one (study, participant, task), where there are two rows or more."""
    groups = named[named.duplicated(["person", "question"], keep=False)].groupby(["person", "question"])
    return groups.agg(study_id=("study_id", "first"), rows=("cell", "size"), texts=("stimuli", "nunique"))


def _repeated(named: pd.DataFrame, groups: pd.DataFrame) -> dict[str, int]:
    other = int((groups["texts"] == groups["rows"]).sum())  # every row has another stimulus
    return {
        "groups": len(groups),
        "rows": int(groups["rows"].sum()),
        "studies": groups["study_id"].nunique(),
        "groups_other_stimuli": other,
        "groups_same_stimulus": len(groups) - other,
        "rows_asked_again": int(named.duplicated(["person", "cell", "stimuli"]).sum()),
    }


def _duplicates(rows: pd.DataFrame) -> dict[str, int]:
    """Rows that are the same to the character, and prompts (persona and text) that several rows have."""
    shared = rows[rows["prompt"].duplicated(keep=False)].groupby("prompt")[["response", "person"]]
    sizes, low, high = shared.size(), shared.min(), shared.max()
    one_response, one_person = low["response"] == high["response"], low["person"] == high["person"]
    return {
        "rows_like_an_earlier_one": int(rows["line"].duplicated().sum()),
        "shared_prompts": len(sizes),
        "rows_with_shared_prompts": int(sizes.sum()),
        "shared_prompts_one_response": int(one_response.sum()),
        "shared_prompts_other_responses": int((~one_response).sum()),
        "shared_prompts_one_participant": int((one_person & (low["person"] != 0)).sum()),
    }


def spread_of(values: Any) -> dict[str, Any]:
    """How many numbers there are, one at least; their mean, and quantiles that are values which occur."""
    values = np.asarray(values)
    quantiles = np.quantile(values, [*QUANTILES.values()], method="inverted_cdf").tolist()
    shown = dict(zip(QUANTILES, map(as_number, quantiles), strict=True))
    return {"count": len(values), "mean": round(float(values.mean()), 4), **shown}
