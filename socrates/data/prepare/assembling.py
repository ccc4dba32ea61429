"""Finished pieces to the three parts of a prepared set, going on where an interruption left off.

Which lines go where is decided once all pieces are known (`make_plan`). Pieces are appended in the source's order; a
note of how far that went is written after each, and the piece's text is removed then, so that the disk holds the data
set once, and not twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from socrates.data.dataset import PARTS, part_file
from socrates.data.prepare.shards import Task, read_index
from socrates.data.prepare.splits import JUDGE, Split, Unit, carve, sizes_by_unit, unit_of
from socrates.data.records import Cell
from socrates.errors import SocratesError
from socrates.files import read_json, write_json

NOTE = "assembled.json"
_CHUNK = 2**20  # bytes


@dataclass(frozen=True)
class Plan:
    """Where every line goes.

    Attributes:
        split: the published lists.
        val: the judging units that are for validation; the others are for the test.
        judging_prompts: sorted 64-bit hashes of all prompts of `val` and `test`; `train` must hold none of them.
    """

    split: Split
    val: frozenset[Unit]
    judging_prompts: np.ndarray

    def part(self, cell: Cell) -> str:
        """The part that a cell's rows go to."""
        if self.split.side(cell) != JUDGE:
            return "train"
        return "val" if unit_of(cell, self.split.name) in self.val else "test"


def make_plan(
    tasks: Sequence[Task], infos: Sequence[Mapping[str, Any]], split: Split, val_share: float, seed: int
) -> Plan:
    """Divide the judging units into `val` and `test`, and collect the judging prompts.

    Raises:
        SocratesError: no row trains, or fewer than two judging units have rows.
    """
    cells = [(Cell(*cell), rows) for info in infos for *cell, rows in info["cells"]]
    judging = [(cell, rows) for cell, rows in cells if split.side(cell) == JUDGE]
    if len(judging) == len(cells):
        raise SocratesError(f"no row of the source is in the training list of the {split.name} split")
    val = carve(sizes_by_unit(judging, split.name), val_share, seed)
    hashes = [np.array([], np.uint64)]
    for task, info in zip(tasks, infos, strict=True):
        judges = np.array([split.side(Cell(*cell)) == JUDGE for *cell, _ in info["cells"]], bool)
        if judges.any():
            index = read_index(task)
            hashes.append(index["prompt"][judges[index["cell"]]])
    return Plan(split, val, np.unique(np.concatenate(hashes)))


def read_note(folder: Path) -> dict[str, Any]:
    """How far appending went.

    "pieces" appended, "bytes" and "rows" of each part, and "repeated" {study: rows of `train` left out because `val` or
    `test` holds their prompt}.
    """
    if (folder / NOTE).exists():
        return read_json(folder / NOTE, "note of the pieces appended")
    return {"pieces": 0, "bytes": dict.fromkeys(PARTS, 0), "rows": dict.fromkeys(PARTS, 0), "repeated": {}}


def assemble(tasks: Sequence[Task], infos: Sequence[Mapping[str, Any]], plan: Plan, folder: Path) -> Iterator[None]:
    """Append every piece that is not appended yet to the parts in ``folder``; yields after each."""
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
    task: Task, info: Mapping[str, Any], plan: Plan, files: Mapping[str, IO[bytes]], note: dict[str, Any]
) -> None:
    if not info["cells"]:
        return
    cells = [Cell(*cell) for *cell, _ in info["cells"]]
    index = read_index(task)
    to = np.array([PARTS.index(plan.part(cell)) for cell in cells])[index["cell"]]
    repeated = (to == 0) & _among(plan.judging_prompts, index["prompt"])
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
    """Which values are in an ascending array; `np.isin` would sort all of it anew for every piece."""
    if not len(ordered):
        return np.zeros(len(values), bool)
    return ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values


def _copy(source: IO[bytes], start: int, end: int, target: IO[bytes]) -> None:
    source.seek(start)
    while start < end:
        start += target.write(source.read(min(_CHUNK, end - start)))
