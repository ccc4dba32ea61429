"""Contamination: whether a checkpoint may have been trained on the rows that it is to be evaluated on.

Every checkpoint names the cells of its training file (`training_data.json`). Where the two files name their questions
in different ways (the instruction layout has no numbers), study and condition decide. Where the file was split by
person, the record names its participants too, and they decide: all parts of such a split have the same cells.
Does not cover: what the base model saw before, adapters made by other software, and stimuli that are alike under other
study ids (the proof in `prepare/leaks.py` covers equal ones).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from socrates.checkpoint import TRAINING_DATA
from socrates.data.records import QUESTION_PREFIX, Cell, cell_order
from socrates.errors import SocratesError
from socrates.files import read_json
from socrates.schema import validate

Nested = dict[str, dict[str, list[int | str]]]  # study -> condition -> questions


class TrainingData(BaseModel):
    """What `training_data.json` says."""

    train_sha256: str
    split: str | None
    cells: dict[str, dict[int, list[int | str]]]  # as `Nested`
    participants: dict[str, list[str]] | None = None  # of each study, where the file was split by person


@dataclass(frozen=True)
class Contamination:
    """What of the evaluation rows a checkpoint may have been trained on, as `metrics.json` says it.

    Attributes:
        rows: that it may have been trained on.
        of: evaluation rows.
        studies: with such rows.
        split: by which list the training file was made; None where that is not recorded.
    """

    rows: int
    of: int
    studies: list[str]
    split: str | None


def nest_cells(cells: Iterable[Cell]) -> Nested:
    """Cells as JSON holds them, in order."""
    nested: Nested = {}
    for study, condition, task in sorted(set(cells), key=cell_order):
        nested.setdefault(study, {}).setdefault(str(condition), []).append(task)
    return nested


def find_contamination(
    checkpoint: Path | str,
    rows: Iterable[Cell],
    hashes: Collection[str],
    participants: Iterable[int | str | None] | None = None,
) -> Contamination | None:
    """Compare evaluation rows with what a checkpoint was trained on; None where its folder does not say.

    Args:
        checkpoint: any model folder.
        rows: the cell of every evaluation row.
        hashes: SHA-256 of the files that they are from.
        participants: of every evaluation row; one that has none, as all have where this is None, counts by its cell.

    Raises:
        SocratesError: the record is there and malformed.
    """
    path = Path(checkpoint) / TRAINING_DATA
    if not path.is_file():
        return None
    record = validate(TrainingData, read_json(path, "record of the training data"), str(path))
    trained = {
        Cell(study, condition, task)
        for study, conditions in record.cells.items()
        for condition, tasks in conditions.items()
        for task in tasks
    }
    namings: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    for cell in trained:
        namings[cell[:2]].add(_naming(cell))
    same_file = record.train_sha256 in hashes
    people = {(study, person) for study, ids in (record.participants or {}).items() for person in ids}

    def is_seen(cell: Cell, person: int | str | None) -> bool:
        if people and person not in (None, ""):
            return (cell.study_id, str(person)) in people
        return cell in trained or bool(namings.get(cell[:2], set()) - {_naming(cell)})

    cells = list(rows)
    persons = [None] * len(cells) if participants is None else participants
    seen = [cell.study_id for cell, one in zip(cells, persons, strict=True) if same_file or is_seen(cell, one)]
    return Contamination(len(seen), len(cells), sorted(set(seen)), record.split)


def check_contamination(checkpoint: Path | str, seen: Contamination | None) -> None:
    """SocratesError where a checkpoint may have been trained on evaluation rows; says on how many, and what to do."""
    if seen is None or not seen.rows:
        return
    more = f" and {len(seen.studies) - 3} more" if len(seen.studies) > 3 else ""
    raise SocratesError(
        f"{checkpoint}: may have been trained on {seen.rows} of these {seen.of} rows (their cells or participants are "
        f"in its training file; studies {', '.join(seen.studies[:3])}{more}): the distance would tell what it "
        "remembers. Judge it on a part that it was not trained on (val.jsonl or test.jsonl of its data set), or say "
        "--allow-seen to go on; metrics.json will record it"
    )


def _naming(cell: Cell) -> str:
    """In which way a cell's question is named; only names of one way can be compared."""
    if isinstance(cell.task_num, int):
        return "number"
    return "hash of its text" if cell.task_num.startswith(QUESTION_PREFIX) else "own name"
