"""Shards of the published data, each to finished lines; then all of them, in order, to the splits of a prepared set.

A shard gives three files under a temporary name first: `N.jsonl` (the lines, in order), `N.npz` (per line: its cell,
its length in bytes, a 64-bit hash of its prompt) and, last, `N.json` (counts, bad rows). A shard with an `N.json` is
finished and is not done again. Which lines go where is decided once all shards are known (`plan_splits`). A note of how
far the appending went is written after each shard, and its text is removed then: the disk holds the data set once.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from socrates.data.dataset import PARTS, part_file
from socrates.data.prepare.sources import Shard, Unreadable, read_shard
from socrates.data.prepare.splits import EVALUATION, Split, Unit, carve, sizes_by_unit, unit_of
from socrates.data.records import Answer, Cell, parse_answer, read_cell, stimuli_of
from socrates.errors import SocratesError
from socrates.files import read_json, write_json

LISTED = 20  # bad rows that are named; all are counted
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode  # made once: json.dumps makes one a call
NOTE = "assembled.json"
_CHUNK = 2**20  # bytes


@dataclass(frozen=True)
class Task:
    """What a worker needs to know about one shard."""

    number: int
    shard: Shard
    folder: Path  # where its three files go
    split: Split
    cells: frozenset[Cell] | None = None  # a sample's; None keeps all

    def file(self, ending: str) -> Path:
        """One of the three files: ".jsonl", ".npz" or ".json"."""
        return self.folder / f"{self.number:05}{ending}"


class BadRow(Exception):
    """A row that cannot be used, and why."""


def do_shard(task: Task) -> dict[str, Any]:
    """Write a shard's three files, unless they are there, and return what its `N.json` holds.

    Keys: "rows" kept; "lines" of the shard; "cells" [[study, condition, task, rows], …], which the array "cell"
    counts from 0; "bad" rows and the "first_bad" of them [[number in the shard, reason], …]; "left_out"
    {reason: {name: rows}}.
    """
    if task.file(".json").exists():
        return read_json(task.file(".json"), "record of a finished shard")
    cells: dict[Cell, int] = {}
    sides: dict[Cell, bool] = {}
    index = {"cell": array("i"), "length": array("q"), "prompt": array("Q")}  # as lists: ten times the memory
    info: dict[str, Any] = {"lines": 0, "bad": 0, "first_bad": [], "left_out": {}}
    temporary = task.file(f".{os.getpid()}.tmp")
    try:
        with temporary.open("wb", buffering=2**20) as file:
            for number, row in read_shard(task.shard):
                info["lines"] = number
                try:
                    if row is None:
                        continue
                    answer = to_answer(row)
                    if not _is_listed(answer.cell, task.split, sides):
                        _leave_out(info["left_out"], answer.cell, task.split)
                        continue
                    if task.cells is not None and answer.cell not in task.cells:
                        continue
                    line = to_line(answer)
                except BadRow as error:
                    info["bad"] += 1
                    if len(info["first_bad"]) < LISTED:
                        info["first_bad"].append([number, str(error)])
                    continue
                file.write(line)
                index["cell"].append(cells.setdefault(answer.cell, len(cells)))
                index["length"].append(len(line))
                index["prompt"].append(prompt_hash(answer.prompt))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(task.file(".jsonl"))
        _write_index(task.file(".npz"), index)
        rows = Counter(index["cell"])
        info |= {"rows": len(index["cell"]), "cells": [[*cell, rows[code]] for cell, code in cells.items()]}
        write_json(task.file(".json"), info)
    except OSError as error:
        raise SocratesError(
            f"{task.folder}: cannot write: {error.strerror or error}; put that right and run the same command again: "
            "it goes on from here"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return info


def read_index(task: Task) -> Mapping[str, np.ndarray]:
    """Of each line that a shard gave: "cell" (its number in the shard), "length" (bytes), "prompt" (hash)."""
    with np.load(task.file(".npz")) as arrays:
        return {name: arrays[name] for name in ("cell", "length", "prompt")}


def rows_by_cell(task: Task) -> dict[Cell, int]:
    """Rows of each listed cell of a shard; rows that cannot be used are passed over here, and reported when read."""
    counts: Counter[Cell] = Counter()
    for _, row in read_shard(task.shard, keys_only=True):
        if isinstance(row, dict):
            try:
                counts[read_cell(row, "") if row.get("task_num") is not None else parse_answer(row, "", 0).cell] += 1
            except SocratesError:
                continue
    return {cell: rows for cell, rows in counts.items() if task.split.side(cell)}


def to_line(answer: Answer) -> bytes:
    """An answer as a line of a prepared set, in the published layout.

    Demographic fields that are null, or NaN (as some converters write null), are left out; so is `stimuli` where the
    prompt tells it, which is two fifths of the bytes.

    Raises:
        BadRow: a demographic field is neither a text nor a number, or cannot be written as JSON in UTF-8.
    """
    demographic = {name: value for name, value in answer.demographic.items() if value is not None and value == value}
    if not _SCALARS.issuperset(map(type, demographic.values())):
        name = next(name for name, value in demographic.items() if type(value) not in _SCALARS)
        raise BadRow(f'"demographic": "{name}" must be a text or a number, not {type(demographic[name]).__name__}')
    row = {
        "prompt": answer.prompt,
        "response": answer.response,
        "study_id": answer.cell.study_id,
        "condition_num": answer.cell.condition_num,
        "task_num": answer.cell.task_num,
        "participant": answer.participant,
        "sample_id": answer.sample_id,
        "demographic": demographic,
    }
    if stimuli_of(answer.prompt) != answer.stimuli:
        row["stimuli"] = answer.stimuli
    try:
        return _encode(row).encode() + b"\n"
    except ValueError as error:  # half a character; a number that is infinite
        raise BadRow(f"cannot be written as JSON: {error}") from error


_SCALARS = frozenset({str, int, float, bool})


def prompt_hash(prompt: str) -> int:
    """64 bits of BLAKE2b over a prompt: among 3 million prompts two get the same one by chance once in 4 million."""
    return int.from_bytes(hashlib.blake2b(prompt.encode(), digest_size=8).digest(), "little")


def to_answer(row: dict[str, Any] | Unreadable) -> Answer:
    """A raw row as an answer; BadRow, with the reason alone, for one that cannot be used."""
    if isinstance(row, Unreadable):
        raise BadRow(row.reason)
    try:
        return parse_answer(row, "", 0)
    except SocratesError as error:
        raise BadRow(str(error).removeprefix(", line 0: ")) from error
    except (ValueError, OverflowError) as error:
        raise BadRow(f"cannot be read: {error}") from error


def _is_listed(cell: Cell, split: Split, known: dict[Cell, bool]) -> bool:
    if cell not in known:
        known[cell] = split.side(cell) is not None
    if not known[cell] and split.name == "study":  # its lists name every study: one that is missing is a mistake
        raise BadRow(f'study "{cell.study_id}" is in neither published list (seen, unseen)')
    return known[cell]


def _leave_out(left_out: dict[str, dict[str, int]], cell: Cell, split: Split) -> None:
    listed = cell.study_id in split.studies
    reason = f"{split.name} in no list" if listed else "study in no list"
    number = cell.condition_num if split.name == "condition" else cell.task_num
    name = f"{cell.study_id}/{number}" if listed else cell.study_id
    names = left_out.setdefault(reason, {})
    names[name] = names.get(name, 0) + 1


def _write_index(path: Path, index: Mapping[str, array]) -> None:
    with path.open("wb") as file:
        np.savez(file, **{name: np.asarray(values) for name, values in index.items()})
        file.flush()
        os.fsync(file.fileno())


@dataclass(frozen=True)
class SplitPlan:
    """Where every line goes.

    Attributes:
        split: the published lists.
        val: the evaluation units that are for validation; the others are for the test.
        evaluation_prompts: sorted 64-bit hashes of all prompts of `val` and `test`; `train` must hold none of them.
    """

    split: Split
    val: frozenset[Unit]
    evaluation_prompts: np.ndarray

    def part(self, cell: Cell) -> str:
        """The part that a cell's rows go to."""
        if self.split.side(cell) != EVALUATION:
            return "train"
        return "val" if unit_of(cell, self.split.name) in self.val else "test"


def plan_splits(
    tasks: Sequence[Task], infos: Sequence[Mapping[str, Any]], split: Split, val_share: float, seed: int
) -> SplitPlan:
    """Divide the evaluation units into `val` and `test`, and collect the evaluation prompts.

    Raises:
        SocratesError: no row trains, or fewer than two evaluation units have rows.
    """
    cells = [(Cell(*cell), rows) for info in infos for *cell, rows in info["cells"]]
    evaluation = [(cell, rows) for cell, rows in cells if split.side(cell) == EVALUATION]
    if len(evaluation) == len(cells):
        raise SocratesError(f"no row of the source is in the training list of the {split.name} split")
    val = carve(sizes_by_unit(evaluation, split.name), val_share, seed)
    hashes = [np.array([], np.uint64)]
    for task, info in zip(tasks, infos, strict=True):
        is_evaluated = np.array([split.side(Cell(*cell)) == EVALUATION for *cell, _ in info["cells"]], bool)
        if is_evaluated.any():
            index = read_index(task)
            hashes.append(index["prompt"][is_evaluated[index["cell"]]])
    return SplitPlan(split, val, np.unique(np.concatenate(hashes)))


def read_note(folder: Path) -> dict[str, Any]:
    """How far appending went.

    "pieces" appended, "bytes" and "rows" of each part, and "repeated" {study: rows of `train` left out because `val` or
    `test` holds their prompt}.
    """
    if (folder / NOTE).exists():
        return read_json(folder / NOTE, "note of the shards appended")
    return {"pieces": 0, "bytes": dict.fromkeys(PARTS, 0), "rows": dict.fromkeys(PARTS, 0), "repeated": {}}


def assemble(
    tasks: Sequence[Task], infos: Sequence[Mapping[str, Any]], plan: SplitPlan, folder: Path
) -> Iterator[None]:
    """Append every shard that is not appended yet to the parts in ``folder``; yields after each."""
    note = read_note(folder)
    try:
        with ExitStack() as stack:
            files = {part: stack.enter_context(part_file(folder, part).open("ab")) for part in PARTS}
            for part, file in files.items():
                file.truncate(note["bytes"][part])
            for task in tasks[: note["pieces"]]:
                task.file(".jsonl").unlink(missing_ok=True)
            for task, info in zip(tasks[note["pieces"] :], infos[note["pieces"] :], strict=True):
                _append(task, info, plan, files, note)
                for file in files.values():
                    file.flush()
                    os.fsync(file.fileno())
                note["pieces"] += 1
                note["bytes"] = {part: file.tell() for part, file in files.items()}
                write_json(folder / NOTE, note)
                task.file(".jsonl").unlink()
                yield
    except OSError as error:
        raise SocratesError(
            f"{folder}: cannot write: {error.strerror or error}; put that right and run the same command again: it "
            "goes on from here"
        ) from error


def _append(
    task: Task, info: Mapping[str, Any], plan: SplitPlan, files: Mapping[str, IO[bytes]], note: dict[str, Any]
) -> None:
    if not info["cells"]:
        return
    cells = [Cell(*cell) for *cell, _ in info["cells"]]
    index = read_index(task)
    to = np.array([PARTS.index(plan.part(cell)) for cell in cells])[index["cell"]]
    repeated = (to == 0) & _among(plan.evaluation_prompts, index["prompt"])
    for code in index["cell"][repeated].tolist():
        study = cells[code].study_id
        note["repeated"][study] = note["repeated"].get(study, 0) + 1
    to[repeated] = -1
    ends = np.concatenate([[0], np.cumsum(index["length"])])
    runs = np.flatnonzero(np.diff(to, prepend=-2, append=-2))  # where a run of lines of one part starts, and the end
    with task.file(".jsonl").open("rb") as lines:
        for first, after in zip(runs[:-1].tolist(), runs[1:].tolist(), strict=True):
            if to[first] >= 0:
                part = PARTS[to[first]]
                note["rows"][part] += after - first
                _copy(lines, int(ends[first]), int(ends[after]), files[part])


def _among(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which values are in an ascending array; `np.isin` would sort all of it again for every shard."""
    if not len(ordered):
        return np.zeros(len(values), bool)
    return ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values


def _copy(source: IO[bytes], start: int, end: int, target: IO[bytes]) -> None:
    source.seek(start)
    while start < end:
        start += target.write(source.read(min(_CHUNK, end - start)))
