"""The human side of a cell: how often each answer was given, by people who count alike or by their survey weights.

Weighted counts are scaled so that they sum to the effective number of people, (sum of w)^2 / sum of w^2 (Kish 1965,
Survey Sampling, section 11.7): distributions and means are the weighted ones, and whatever depends on the number of
people (draws, variances, intervals) takes the effective one. Without weights they are plain counts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socrates.data.records import Cell


class HumanAnswers:
    """Counts answers by cell."""

    def __init__(self) -> None:
        self.people: Counter[Cell] = Counter()  # of each cell, whatever their weights
        self._sums: defaultdict[Cell, Counter[float]] = defaultdict(Counter)  # of weights, by answer
        self._squares: Counter[Cell] = Counter()  # sum of squared weights

    def add(self, cell: Cell, counts: Mapping[float, float], weight: float = 1) -> None:
        """Add people of one weight: answer -> how many gave it."""
        sums = self._sums[cell]
        for answer, people in counts.items():
            sums[answer] += people * weight
            self.people[cell] += people
            self._squares[cell] += people * weight**2

    def counts(self) -> dict[Cell, dict[float, float]]:
        """Of each cell answer -> (effective) number of people, ascending."""
        return {cell: self._effective(cell, sums) for cell, sums in self._sums.items()}

    def _effective(self, cell: Cell, sums: Counter[float]) -> dict[float, float]:
        total, squares = sums.total(), self._squares[cell]
        scale = 1 if total == squares else total / squares
        counts = {answer: round(sums[answer] * scale, 12) for answer in sorted(sums)}  # two of equal weight are two
        return {answer: people for answer, people in counts.items() if people}
