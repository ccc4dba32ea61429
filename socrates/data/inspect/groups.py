"""Group counts over columns of numbers, by sorting: no Python object a row.

Covers: exact counts, but for 64-bit hashes taken as what they stand for (see `lines.prompt_hash`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_ODD = np.uint64(0x9E3779B97F4A7C15)  # spreads small numbers over 64 bits


@dataclass(frozen=True)
class CellCounts:
    """Of each cell: its rows, and whether its answers differ."""

    sizes: np.ndarray  # [cells]
    spread: np.ndarray  # [cells] of bool


@dataclass(frozen=True)
class Repeats:
    """Groups of rows with one (study, participant, task), where there are two rows or more.

    Attributes:
        study: [groups] index of the study.
        rows: [groups].
        texts: [groups] distinct stimuli.
        places: [groups] distinct pairs of stimulus and condition; rows beyond these ask the same thing again.
    """

    study: np.ndarray
    rows: np.ndarray
    texts: np.ndarray
    places: np.ndarray


@dataclass(frozen=True)
class SamePrompts:
    """Groups of rows with one prompt, where there are two rows or more.

    Attributes:
        rows: [groups].
        one_response: [groups] whether all gave the same answer.
        one_person: [groups] whether all are of one named participant.
    """

    rows: np.ndarray
    one_response: np.ndarray
    one_person: np.ndarray


def cell_counts(cell: np.ndarray, response: np.ndarray, cells: int) -> CellCounts:
    """How many rows each cell has, and whether they hold two different answers at least."""
    low = np.full(cells, np.iinfo(np.int64).max)
    high = np.full(cells, np.iinfo(np.int64).min)
    np.minimum.at(low, cell, response)
    np.maximum.at(high, cell, response)
    return CellCounts(np.bincount(cell, minlength=cells), low < high)


def find_repeats(
    person: np.ndarray, question: np.ndarray, stimuli: np.ndarray, cell: np.ndarray, study: np.ndarray
) -> Repeats:
    """The repeated (study, participant, task) among rows whose participant is named (``person`` is not 0)."""
    rows = np.flatnonzero(person)
    first, repeated = _in_groups(_mixed(person[rows], question[rows]))
    rows = rows[repeated]
    group = np.cumsum(first) - 1  # of each repeated row, in order
    if not len(rows):
        none = np.zeros(0, np.int64)
        return Repeats(none, none, none, none)
    texts = _distinct(group, stimuli[rows])
    places = _distinct(group, _mixed(stimuli[rows], cell[rows]))
    return Repeats(study[rows[first]], np.bincount(group), texts, places)


def find_same_prompts(prompt: np.ndarray, response: np.ndarray, person: np.ndarray) -> SamePrompts:
    """The prompts that stand in more than one row."""
    first, rows = _in_groups(prompt)
    starts = np.flatnonzero(first)
    if not len(rows):
        return SamePrompts(np.zeros(0, np.int64), np.zeros(0, bool), np.zeros(0, bool))

    def same(values: np.ndarray) -> np.ndarray:
        return np.minimum.reduceat(values, starts) == np.maximum.reduceat(values, starts)

    one_person = same(person[rows]) & (person[rows[starts]] != 0)
    return SamePrompts(np.diff(np.append(starts, len(rows))), same(response[rows]), one_person)


def count_repeated(hashes: np.ndarray) -> int:
    """Rows beyond the first of each value; sorts ``hashes`` in place."""
    hashes.sort()
    return int(np.count_nonzero(hashes[1:] == hashes[:-1]))


def count_values(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows of each distinct value, one row that holds it)."""
    _, index, counts = np.unique(values, return_index=True, return_counts=True)
    return counts, index


def distinct_pairs(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct pairs of two columns of indices (from -1), sorted, as two columns."""
    width = int(other.max(initial=-1)) + 2
    pairs = np.unique((one.astype(np.int64) + 1) * width + other + 1)
    return pairs // width - 1, pairs % width - 1


def _mixed(hashes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Hashes of pairs of a hash and a small number."""
    mixed = numbers.astype(np.uint64)
    mixed *= _ODD
    mixed ^= hashes
    return mixed


def _in_groups(key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(which of them begins a group, indices of the rows that share their key with another), group by group."""
    order = np.argsort(key, kind="stable")
    key = key[order]
    change = key[1:] != key[:-1]
    begins, ends = np.append(True, change)[: len(key)], np.append(change, True)[: len(key)]
    shared = ~(begins & ends)
    return begins[shared], order[shared]


def _distinct(group: np.ndarray, value: np.ndarray) -> np.ndarray:
    """How many distinct values each group has; groups count from 0, and none is empty."""
    order = np.lexsort((value, group))
    group, value = group[order], value[order]
    new = np.append(True, (np.diff(group) != 0) | (value[1:] != value[:-1]))
    return np.bincount(group[new])
