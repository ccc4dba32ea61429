"""`data.rows_per_cell`: at most so many people of each cell to train on, spread over demographics.

A cell's people stand in the order of `_FIELDS`, those who are alike in a random order, and every n-th of them is taken
from a random start on: a systematic sample (Cochran 1977, Sampling Techniques, chapter 8). So each group gets its share
of the places, each person has the same chance, and a cell that has no more people than that keeps all.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from socrates.data.demographics import group_name
from socrates.data.records import Answer, Cell

_FIELDS = ("age", "gender", "education", "ethnicity", "party_id")


class People:
    """Collects the cell and the demographic groups of row after row; 8 bytes a row."""

    def __init__(self) -> None:
        self._cells: dict[Cell, int] = {}
        self._groups: dict[tuple[str, ...], int] = {}
        self._rows = array("I")

    def extend(self, answers: Iterable[Answer]) -> None:
        """Add the next rows."""
        for answer in answers:
            groups = tuple((group_name(name, str(answer.demographic.get(name))) or "").casefold() for name in _FIELDS)
            self._rows.append(self._cells.setdefault(answer.cell, len(self._cells)))
            self._rows.append(self._groups.setdefault(groups, len(self._groups)))

    def table(self) -> NDArray[np.uint32]:
        """Of each row the number of its cell and the place of its groups in their order; shape (rows, 2)."""
        rows = np.array(self._rows, np.uint32).reshape(-1, 2)
        rows[:, 1] = np.argsort([self._groups[groups] for groups in sorted(self._groups)])[rows[:, 1]]
        return rows


def choose_people(table: NDArray[np.uint32], rows_per_cell: int, seed: int) -> NDArray[np.int64]:
    """The numbers of the rows to train on, ascending: of each cell all, but at most ``rows_per_cell``."""
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.permutation(len(table)), table[:, 1], table[:, 0]))
    sizes = np.bincount(table[:, 0])
    starts, taken = rng.integers(sizes), np.minimum(sizes, rows_per_cell)
    cell = np.repeat(np.arange(len(sizes)), taken)
    number = np.arange(len(cell)) - (np.cumsum(taken) - taken)[cell]  # of the chosen row within its cell
    within = (number * sizes[cell] + starts[cell]) // taken[cell]
    return np.sort(order[(np.cumsum(sizes) - sizes)[cell] + within])
