"""Contamination: whether a checkpoint may have been trained on the rows that it is to be evaluated on.

Every checkpoint names the cells of its training file (`training_data.json`). Where the two files name their questions
in different ways (the instruction layout has no numbers), study and condition decide. Of checkpoints of earlier
versions the hash of their training file alone is known.
Does not cover: what the base model saw before, adapters made by other software, and stimuli that are alike under other
study ids (the proof in `prepare/leaks.py` covers equal ones).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from socrates.checkpoint import TRAINING_CONFIG, TRAINING_DATA, read_training_config
from socrates.data.records import QUESTION_PREFIX, Cell, cell_order
from socrates.errors import SocratesError
from socrates.files import read_json

Nested = dict[str, dict[str, list[int | str]]]  # study -> condition -> questions


@dataclass(frozen=True)
class Contamination:
    """What of the evaluation rows a checkpoint may have been trained on.

    Attributes:
        rows: that it may have been trained on.
        of: evaluation rows.
        studies: with such rows.
        split: by which list the training file was made; None where that is not recorded.
    """

    rows: int
    of: int
    studies: tuple[str, ...]
    split: str | None

    def to_dict(self) -> dict[str, Any]:
        """What `metrics.json` says of it."""
        return {**asdict(self), "studies": list(self.studies)}


def nest_cells(cells: Iterable[Cell]) -> Nested:
    """Cells as JSON holds them, in order."""
    nested: Nested = {}
    for study, condition, task in sorted(set(cells), key=cell_order):
        nested.setdefault(study, {}).setdefault(str(condition), []).append(task)
    return nested


def training_data_record(train_sha256: str, split: str | None, cells: Nested) -> dict[str, Any]:
    """What `training_data.json` says."""
    return {"train_sha256": train_sha256, "split": split, "cells": cells}


def find_contamination(checkpoint: Path | str, rows: Iterable[Cell], data_sha256: str) -> Contamination | None:
    """Compare evaluation rows with what a checkpoint was trained on; None where its folder does not say enough.

    Args:
        checkpoint: any model folder.
        rows: the cell of every evaluation row.
        data_sha256: of the file that they are from.

    Raises:
        SocratesError: the record is there and malformed.
    """
    record, trained = _read_record(Path(checkpoint))
    same_file = record.get("train_sha256") == data_sha256
    if not same_file and not trained:
        return None
    namings: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    for cell in trained:
        namings[cell[:2]].add(_naming(cell))
    counted, seen, studies = 0, 0, set()
    for cell in rows:
        counted += 1
        if same_file or cell in trained or namings.get(cell[:2], set()) - {_naming(cell)}:
            seen += 1
            studies.add(cell.study_id)
    return Contamination(seen, counted, tuple(sorted(studies)), record.get("split"))


def check_contamination(checkpoint: Path | str, seen: Contamination | None) -> None:
    """SocratesError where a checkpoint may have been trained on evaluation rows; says on how many, and what to do."""
    if seen is None or not seen.rows:
        return
    more = f" and {len(seen.studies) - 3} more" if len(seen.studies) > 3 else ""
    raise SocratesError(
        f"{checkpoint}: may have been trained on {seen.rows} of these {seen.of} rows (their cells are in its training "
        f"file; studies {', '.join(seen.studies[:3])}{more}): the distance would tell what it remembers. Judge it on a "
        "part that it was not trained on (val.jsonl or test.jsonl of its data set), or say --allow-seen to go on; "
        "metrics.json will record it"
    )


def _naming(cell: Cell) -> str:
    """In which way a cell's question is named; only names of one way can be compared."""
    if isinstance(cell.task_num, int):
        return "number"
    return "hash of its text" if cell.task_num.startswith(QUESTION_PREFIX) else "own name"


def _read_record(checkpoint: Path) -> tuple[Mapping[str, Any], frozenset[Cell]]:
    """What a checkpoint says of its training file, and the cells in that; empty where it says nothing."""
    path = checkpoint / TRAINING_DATA
    if not path.is_file():
        config = read_training_config(checkpoint) if (checkpoint / TRAINING_CONFIG).is_file() else {}
        data = config.get("data")
        return data if isinstance(data, Mapping) else {}, frozenset()
    record = read_json(path, "record of the training data")
    try:
        cells = frozenset(
            Cell(study, int(condition), task)
            for study, conditions in record["cells"].items()
            for condition, tasks in conditions.items()
            for task in tasks
        )
        if not all(isinstance(cell.task_num, int | str) for cell in cells):
            raise TypeError
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise SocratesError(f'{path}: "cells" must be {{study: {{condition: [question, …]}}}}') from error
    return record, cells
