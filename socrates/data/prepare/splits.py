"""Splits: training and evaluation rows by the published lists; which evaluation rows are for validation.

The lists are the published ones, never an own shuffle. They know two sides only; a validation part is carved out of
the evaluation side by whole units, so that choosing a checkpoint on it tells nothing about the test's units.

| split | file in `metadata/` | trains | evaluates | unit |
|---|---|---|---|---|
| study | participant_mapping.json | "seen" | "unseen" | a study |
| condition | condition_mapping.json | "train" | "eval" | a condition of a study |
| task | task_mapping.json | "train" | "eval" | a question (task) of a study, in all its conditions |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from socrates.data.records import Cell
from socrates.data.selection import choose_cells
from socrates.errors import SocratesError
from socrates.files import read_json

MAPPINGS = {"study": "participant_mapping.json", "condition": "condition_mapping.json", "task": "task_mapping.json"}
TRAIN, EVALUATION = "training", "evaluation"
Unit = tuple[Any, ...]  # (study,), (study, condition) or (study, task): what the parts of a split must not share


def unit_of(cell: Cell, split: str) -> Unit:
    """The unit of a split that a cell belongs to."""
    if split == "study":
        return (cell.study_id,)
    return (cell.study_id, cell.condition_num if split == "condition" else cell.task_num)


def show_unit(unit: Unit, split: str) -> str:
    """A unit for a message: "study x", "study x, condition 3", "study x, task 2"."""
    return f"study {unit[0]}" + (f", {split} {unit[1]}" if len(unit) > 1 else "")


@dataclass(frozen=True)
class Split:
    """The published lists of one split."""

    name: str
    train: frozenset[Unit]
    evaluation: frozenset[Unit]

    def side(self, cell: Cell) -> str | None:
        """`TRAIN`, `EVALUATION`, or None for a cell that is in no list."""
        unit = unit_of(cell, self.name)
        return TRAIN if unit in self.train else EVALUATION if unit in self.evaluation else None


def load_split(name: str, path: Path) -> Split:
    """Read the published lists of a split.

    Raises:
        SocratesError: the file is missing or not in the published form, or a unit is in both lists.
    """
    mapping = read_json(path, f"published list of the {name} split")
    if name == "study":
        sides = [{(study,) for study in _list(mapping, side, path)} for side in ("seen", "unseen")]
    else:
        sides = [
            {
                (study, int(n) if str(n).removeprefix("-").isdecimal() else n)
                for study, lists in mapping.items()
                for n in _list(lists, side, f"{path}, {study}")
            }
            for side in ("train", "eval")
        ]
    train, evaluation = map(frozenset, sides)
    if both := sorted(train & evaluation, key=str):
        raise SocratesError(f"{path}: {show_unit(both[0], name)} is in both lists")
    if not train or not evaluation:
        raise SocratesError(f"{path}: one of its two lists is empty; expected the published file")
    return Split(name, train, evaluation)


def carve(sizes: Mapping[Unit, int], share: float, seed: int) -> frozenset[Unit]:
    """Choose whole units that together hold a share of the rows, as nearly as whole units allow.

    The units are taken from the start of a random order as far as that allows the nearest sum.

    Args:
        sizes: rows of each unit, all above 0.
        share: of all rows, between 0 and 1.
        seed: of the order.

    Returns:
        The chosen units: at least one, and at least one is left.

    Raises:
        SocratesError: there are fewer than two units.
    """
    if len(sizes) < 2:
        raise SocratesError(
            f"the source has rows of {len(sizes)} evaluation unit{'s' * (len(sizes) != 1)}: it takes two to be "
            "divided into val and test; is the source complete, and are the lists those of this data set?"
        )
    units = sorted(sizes, key=str)
    units = [units[i] for i in np.random.default_rng(seed).permutation(len(units))]
    total = sum(sizes.values())
    nearest = int(np.clip(np.ceil(share * total - 0.5), 1, total - 1))
    largest = min(total - 1, nearest + max(sizes.values()))  # sums above it are further off than some below it
    last = np.zeros(largest + 1, np.int32)  # of each sum: how many units, from the start, can first make it; 0: none
    for count, unit in enumerate(units, start=1):
        size = sizes[unit]
        if size <= largest:
            made = last[: largest + 1 - size] > 0
            made[0] = True
            last[size:][made & (last[size:] == 0)] = count
        if last[nearest]:
            break
    sums = np.flatnonzero(last)
    left = int(sums[np.argmin(np.abs(sums - share * total))])
    chosen = set()
    while left:
        unit = units[last[left] - 1]
        chosen.add(unit)
        left -= sizes[unit]
    return frozenset(chosen)


def choose_sample(sizes: Mapping[Cell, int], split: Split, rows: int, seed: int) -> dict[Cell, int]:
    """Whole cells, with their sizes, of about ``rows`` rows together, from both sides as the source has them.

    Raises:
        SocratesError: the smallest cell of a side is too large for that.
    """
    total = sum(sizes.values())
    if rows >= total:
        return dict(sizes)
    chosen: set[Cell] = set()
    for side in (TRAIN, EVALUATION):
        cells = {cell: size for cell, size in sizes.items() if split.side(cell) == side}
        share = round(rows * sum(cells.values()) / total)
        picked = choose_cells(cells, share, seed)
        if cells and not picked:
            raise SocratesError(
                f"--sample {rows}: too few for whole cells; the {side} rows would be {share}, and their smallest cell "
                f"(study, condition, question) holds {min(cells.values())}; take a larger sample"
            )
        chosen |= picked
    return {cell: size for cell, size in sizes.items() if cell in chosen}


def assign_parts(sizes: Mapping[Cell, int], split: Split, val_share: float, seed: int) -> dict[Cell, str]:
    """The part that each cell's rows go to; `val` gets whole units (see `carve`).

    ``sizes``: rows of each cell, all of them on a side of the split.

    Raises:
        SocratesError: no cell is for training, or fewer than two units are for evaluation.
    """
    units = {cell: unit_of(cell, split.name) for cell in sizes}
    evaluation: Counter[Unit] = Counter()
    for cell, rows in sizes.items():
        if split.side(cell) == EVALUATION:
            evaluation[units[cell]] += rows
    if not any(unit in split.train for unit in units.values()):
        raise SocratesError(f"no row of the source is in the training list of the {split.name} split")
    val = carve(evaluation, val_share, seed)
    return {cell: "train" if unit in split.train else "val" if unit in val else "test" for cell, unit in units.items()}


def _list(lists: Any, side: str, where: Path | str) -> list[Any]:
    values = lists.get(side) if isinstance(lists, dict) else None
    if not isinstance(values, list) or not all(isinstance(v, str | int) and not isinstance(v, bool) for v in values):
        raise SocratesError(f'{where}: "{side}" must be a list of names or numbers; expected the published file')
    return values
