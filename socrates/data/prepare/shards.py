"""One piece of the published data to finished lines of a prepared set, with what assembling them needs to know.

A piece gives three files under a temporary name first: `N.jsonl` (the lines, in order), `N.npz` (per line: its cell,
its length in bytes, a 64-bit hash of its prompt) and, last, `N.json` (counts, bad rows). A piece with an `N.json` is
finished and is not done again.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from socrates.data.prepare.raw_rows import Unreadable
from socrates.data.prepare.sources import Piece, read_piece
from socrates.data.prepare.splits import Split
from socrates.data.records import Answer, Cell, parse_answer, read_cell, stimuli_of
from socrates.errors import SocratesError
from socrates.files import read_json, write_json

LISTED = 20  # bad rows that are named; all are counted


@dataclass(frozen=True)
class Task:
    """What a worker needs to know about one piece."""

    number: int
    piece: Piece
    folder: Path  # where its three files go
    split: Split
    cells: frozenset[Cell] | None = None  # a sample's; None keeps all

    def file(self, ending: str) -> Path:
        """One of the three files: ".jsonl", ".npz" or ".json"."""
        return self.folder / f"{self.number:05}{ending}"


class BadRow(Exception):
    """A row that cannot be used, and why."""


def do_piece(task: Task) -> dict[str, Any]:
    """Write a piece's three files, unless they are there, and return what its `N.json` holds.

    Keys: "rows" kept; "lines" of the piece; "cells" [[study, condition, task, rows], …], which the array "cell"
    counts from 0; "bad" rows and the "first_bad" of them [[number in the piece, reason], …]; "left_out"
    {reason: {name: rows}}.
    """
    if task.file(".json").exists():
        return read_json(task.file(".json"), "record of a finished piece")
    cells: dict[Cell, int] = {}
    sides: dict[Cell, bool] = {}
    index = {"cell": array("i"), "length": array("q"), "prompt": array("Q")}  # as lists: ten times the memory
    info: dict[str, Any] = {"lines": 0, "bad": 0, "first_bad": [], "left_out": {}}
    temporary = task.file(f".{os.getpid()}.tmp")
    try:
        with temporary.open("wb", buffering=2**20) as file:
            for number, row in read_piece(task.piece):
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
    """Of each line that a piece gave: "cell" (its number in the piece), "length" (bytes), "prompt" (hash)."""
    with np.load(task.file(".npz")) as arrays:
        return {name: arrays[name] for name in ("cell", "length", "prompt")}


def count_cells(task: Task) -> dict[Cell, int]:
    """Rows of each listed cell of a piece; rows that cannot be used are passed over here, and reported when read."""
    counts: Counter[Cell] = Counter()
    for _, row in read_piece(task.piece, keys_only=True):
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
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode  # made once: json.dumps makes one a call


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
