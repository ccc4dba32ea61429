"""Splits: training and evaluation rows by the published lists, or by chance; which evaluation rows are for validation.

Both know two sides only; a validation part is carved out of the evaluation side by whole units, so that choosing a
checkpoint on it tells nothing about the test's units. An own split carves its evaluation side out of all rows likewise.

| split | file in `metadata/` | trains | evaluates | unit |
|---|---|---|---|---|
| study | participant_mapping.json | "seen" | "unseen" | a study |
| condition | condition_mapping.json | "train" | "eval" | a condition of a study |
| task | task_mapping.json | "train" | "eval" | a question (task) of a study, in all its conditions |
| own | none | the rest | a share of the rows | one of these, or a person: all answers of a participant of a study |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from socrates.data.dataset import PARTS
from socrates.data.records import Answer, BadRow, Cell
from socrates.data.selection import choose_cells
from socrates.errors import SocratesError
from socrates.files import read_json

MAPPINGS = {"study": "participant_mapping.json", "condition": "condition_mapping.json", "task": "task_mapping.json"}
PERSON = "person"
BY = {"study": "study", "condition": "condition", "question": "task", PERSON: PERSON}  # --by, and what it is here
TRAIN, EVALUATION = "training", "evaluation"
# What the parts of a split must not share: (study,), (study, condition), (study, task), (study, participant as a text)
Unit = tuple[Any, ...]
Group = Cell | Unit  # what rows are divided by: their cell, which lies within a unit; by person the unit itself


def group_of(answer: Answer, by: str) -> Group:
    """The rows that an answer stays together with, also in a sample; BadRow if it must have a participant and has not.

    A participant 7 and a participant "7" of a study are one person.
    """
    if by != PERSON:
        return answer.cell
    if answer.participant in (None, ""):
        raise BadRow('no "participant": a split by person must know who gave the answer')
    return (answer.cell.study_id, str(answer.participant))


def unit_of(group: Group, by: str) -> Unit:
    """The unit of a split that a group of rows belongs to."""
    return tuple(group[::2] if by == "task" else group[:1] if by == "study" else group[:2])


def show_unit(unit: Unit, by: str) -> str:
    """A unit for a message: "study x", "study x, condition 3", "study x, task 2", "study x, participant 7"."""
    return f"study {unit[0]}" + (f", {'participant' if by == PERSON else by} {unit[1]}" if len(unit) > 1 else "")


@dataclass(frozen=True)
class Split:
    """Which units are for training, and which for evaluation; ``by``: what they are."""

    by: str
    train: frozenset[Unit]
    evaluation: frozenset[Unit]

    def side(self, group: Group) -> str | None:
        """`TRAIN`, `EVALUATION`, or None for rows that are in no list."""
        unit = unit_of(group, self.by)
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


def own_split(sizes: Mapping[Group, int], by: str, judge_share: float, seed: int, answers: Iterable[Answer]) -> Split:
    """A split by chance: whole units with a share of the rows are for evaluation, at least two of them.

    Args:
        sizes: rows of each group.
        by: what the units are: a value of `BY`.
        judge_share: of all rows, between 0 and 1.
        seed: of the choice, which does not depend on the order of the rows.
        answers: of all rows, read only where there are too few units.

    Raises:
        SocratesError: there are fewer than three units; names the kinds of units of which there are enough.
    """
    units: Counter[Unit] = Counter()
    for group, rows in sizes.items():
        units[unit_of(group, by)] += rows
    if len(units) < len(PARTS):
        raise SocratesError(_too_few(len(units), by, answers))
    evaluation = carve(units, judge_share, seed, fewest=2)
    return Split(by, frozenset(units) - evaluation, evaluation)


def _too_few(number: int, by: str, answers: Iterable[Answer]) -> str:
    found: dict[str, set[Unit]] = {word: set() for word in BY}
    for answer in answers:
        for word, kind in BY.items():
            with suppress(BadRow):  # no participant
                found[word].add(unit_of(group_of(answer, kind), kind))
    enough = [f"--by {word} ({len(of):,})" for word, of in found.items() if len(of) >= len(PARTS)]
    [word] = [word for word, kind in BY.items() if kind == by]
    return (
        f"--by {word}: the source has {number} of these, and it takes {len(PARTS)}, one for each of "
        f"{', '.join(PARTS)}; possible: {', '.join(enough) or 'no other --by'}"
    )


def carve(sizes: Mapping[Unit, int], share: float, seed: int, fewest: int = 1) -> frozenset[Unit]:
    """Choose whole units that together hold a share of the rows, as nearly as whole units allow.

    The units are taken from the start of a random order as far as that allows the nearest sum.

    Args:
        sizes: rows of each unit, all above 0.
        share: of all rows, between 0 and 1.
        seed: of the order.
        fewest: units to choose at least: where the share is less, the smallest ones come to it.

    Returns:
        The chosen units: at least ``fewest``, and at least one is left.

    Raises:
        SocratesError: there are fewer than two units.
    """
    if len(sizes) < 2:
        raise SocratesError(
            f"the source has rows of {len(sizes)} evaluation unit{'s' * (len(sizes) != 1)}: it takes two to be "
            "divided into val and test; is the source complete (or --sample too small), and are the lists those of "
            "this data set?"
        )
    units = sorted(sizes, key=str)
    units = [units[i] for i in np.random.default_rng(seed).permutation(len(units))]
    total, longest = sum(sizes.values()), max(sizes.values())
    wanted, nearest = share * total, int(np.clip(np.ceil(share * total - 0.5), 1, total - 1))
    ends = np.cumsum([sizes[unit] for unit in units])
    sure = int(np.searchsorted(ends, nearest - 1000 * longest))  # of many units most can be taken without a choice
    chosen, start = set(units[:sure]), int(ends[sure - 1]) if sure else 0
    units, total, wanted, nearest = units[sure:], total - start, wanted - start, nearest - start
    largest = min(total - 1, nearest + longest)  # sums above it are further off than some below it
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
    left = int(sums[np.argmin(np.abs(sums - wanted))])
    while left:
        unit = units[last[left] - 1]
        chosen.add(unit)
        left -= sizes[unit]
    others = sorted(sizes.keys() - chosen, key=lambda unit: (sizes[unit], str(unit)))
    return frozenset(chosen.union(others[: max(0, fewest - len(chosen))]))


def choose_sample(sizes: Mapping[Group, int], split: Split, rows: int, seed: int) -> dict[Group, int]:
    """Whole groups, with their sizes, of about ``rows`` rows together, from both sides as the source has them.

    Raises:
        SocratesError: the smallest cell of a side is too large for that.
    """
    total = sum(sizes.values())
    if rows >= total:
        return dict(sizes)
    chosen: set[Group] = set()
    for side, fewest in ((TRAIN, 1), (EVALUATION, 2)):
        cells = {cell: size for cell, size in sizes.items() if split.side(cell) == side}
        share = round(rows * sum(cells.values()) / total)
        if split.by == PERSON:
            chosen |= carve(cells, rows / total, seed, fewest) if len(cells) > fewest else cells.keys()
            continue
        picked = choose_cells(cells, share, seed)
        if cells and not picked:
            raise SocratesError(
                f"--sample {rows}: too few for whole cells; the {side} rows would be {share}, and their smallest cell "
                f"(study, condition, question) holds {min(cells.values())}; take a larger sample"
            )
        chosen |= picked
    return {cell: size for cell, size in sizes.items() if cell in chosen}


def assign_parts(sizes: Mapping[Group, int], split: Split, val_share: float, seed: int) -> dict[Group, str]:
    """The part that each group's rows go to; `val` gets whole units (see `carve`).

    ``sizes``: rows of each group, all of them on a side of the split.

    Raises:
        SocratesError: no cell is for training, or fewer than two units are for evaluation.
    """
    units = {cell: unit_of(cell, split.by) for cell in sizes}
    evaluation: Counter[Unit] = Counter()
    for cell, rows in sizes.items():
        if split.side(cell) == EVALUATION:
            evaluation[units[cell]] += rows
    if not any(unit in split.train for unit in units.values()):
        raise SocratesError(f"no row of the source is in the training list of the {split.by} split")
    val = carve(evaluation, val_share, seed)
    return {cell: "train" if unit in split.train else "val" if unit in val else "test" for cell, unit in units.items()}


def _list(lists: Any, side: str, where: Path | str) -> list[Any]:
    values = lists.get(side) if isinstance(lists, dict) else None
    if not isinstance(values, list) or not all(isinstance(v, str | int) and not isinstance(v, bool) for v in values):
        raise SocratesError(f'{where}: "{side}" must be a list of names or numbers; expected the published file')
    return values
