"""Models whose improvement is known: what they would score if everyone were asked, in closed form.

A model answers for everyone in a cell from one distribution. `untrained` is narrow and in the wrong place, so that its
distance is the published one; `trained` lies on the way from it to the human distribution, by a share that differs from
study to study and from cell to cell, and may be negative: there it got worse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gate_studies import Array, Cells
from scipy.stats import norm

from socrates.evaluation.cells import binomial_deviation

UNTRAINED = 0.205  # the published distance of Qwen2.5-14B-Instruct on the 40 unseen studies
NARROWER = 0.5  # assumed: standard deviation of the untrained model's answers, as a share of the humans'
_SHARES = np.linspace(-2.0, 1.0, 61)  # of the way to the human distribution, at which distances are tabulated


@dataclass(frozen=True)
class Differences:
    """How unlike the cells' improvements are: standard deviations of the share of the way, over studies and cells."""

    name: str
    studies: float
    cells: float

    def draw(self, cells: Cells, rng: np.random.Generator) -> Array:
        """What each cell's share differs from the common one: shape (C,)."""
        number = int(cells.study[-1]) + 1
        return self.studies * rng.standard_normal(number)[cells.study] + self.cells * rng.standard_normal(
            len(cells.study)
        )


def expected_distance(human: Array, width: Array, model: Array, asked: Array) -> Array:
    """Mean over draws of a cell's distance, where ``asked`` people each get an answer from one distribution.

    The integral of `socrates.evaluation.cells.expected_distance`, over all cells at once.

    Args:
        human: F, shape (..., P).
        width: shape (..., P).
        model: G, shape (..., P).
        asked: n, shape (..., 1).

    Returns:
        shape (...), in units of the human range.
    """
    inside = np.broadcast_to(width > 0, np.broadcast_shapes(human.shape, model.shape))
    f, g, n, w = (np.broadcast_to(value, inside.shape)[inside] for value in (human, model, asked, width))
    terms = np.zeros(inside.shape)
    terms[inside] = w * binomial_deviation(n, g, f)
    return terms.sum(axis=-1)


def untrained(cells: Cells, rng: np.random.Generator, narrower: float = NARROWER) -> Array:
    """G of a model of about the published distance: shape (C, P).

    A normal distribution, binned, narrower than the humans' and off its mean by a random distance, whose size is found
    by bisection.
    """
    direction = rng.standard_normal(len(cells.study))
    step = np.diff(cells.points, axis=1, append=1.0)
    sd = np.maximum(narrower * cells.sd, 0.02)[:, None]

    def shifted(size: float) -> Array:
        mean = np.clip(cells.mean + size * direction, 0, 1)[:, None]
        return norm.cdf((cells.points + step / 2 - mean) / sd)

    def distance(size: float) -> float:
        return float(cells.mean_of_means((cells.width * np.abs(cells.human - shifted(size))).sum(axis=1)))

    low, high = 0.0, 2.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if distance(middle) < UNTRAINED else (low, middle)
    return shifted(high)


def trained(population: Array, base: Array, share: Array) -> Array:
    """G of the model that has gone ``share`` (shape (..., 1), at most 1) of the way from ``base`` to the humans'."""
    moved = population + (1 - share) * (base - population)
    return np.maximum.accumulate(np.clip(moved, 0, 1), axis=-1)


@dataclass(frozen=True)
class Truth:
    """What asking everyone would give in expectation, for every cell and share: shape (C, shares)."""

    cells: Cells
    base: Array  # G of the untrained model
    table: Array

    @staticmethod
    def of(cells: Cells, base: Array) -> Truth:
        """Tabulate it."""
        people = cells.people[:, None]
        columns = [
            expected_distance(
                cells.human, cells.width, trained(cells.population, base, np.full((len(people), 1), share)), people
            )
            for share in _SHARES
        ]
        return Truth(cells, base, np.stack(columns, axis=1))

    def shares(self, common: float, differences: Array) -> Array:
        """Each cell's share of the way: shape (C,)."""
        return np.clip(common + differences, _SHARES[0], _SHARES[-1])

    def distances(self, shares: Array) -> Array:
        """Each cell's distance at its share of the way: shape (C,)."""
        place = (shares - _SHARES[0]) / (_SHARES[1] - _SHARES[0])
        index = np.minimum(place.astype(np.int64), len(_SHARES) - 2)
        rows, part = np.arange(len(index)), place - index
        return (1 - part) * self.table[rows, index] + part * self.table[rows, index + 1]

    @property
    def baseline(self) -> float:
        """The untrained model's distance."""
        return float(self.cells.mean_of_means(self.distances(np.zeros(len(self.table)))))


def common_share(truths: list[tuple[Truth, Array]], improvement: float) -> float:
    """The common share at which the improvement of all studies together is as given, in percent.

    Args:
        truths: sets of studies, each with what its cells differ by; the sets count alike.
        improvement: percent.
    """
    target = (1 - improvement / 100) * sum(truth.baseline for truth, _ in truths)
    low, high = -2.0, 2.0
    for _ in range(30):
        middle = (low + high) / 2
        now = sum(truth.cells.mean_of_means(truth.distances(truth.shares(middle, d))) for truth, d in truths)
        low, high = (middle, high) if now > target else (low, middle)
    return high
