"""Many evaluations of a baseline and of checkpoints of known improvement, and what the gate says of them.

A model answers for everyone in a cell from one distribution. `untrained` is narrow and in the wrong place, so that its
distance is the published one; `trained` lies on the way from it to the human distribution, by a share that differs from
study to study and from cell to cell, and may be negative: there it got worse. What a model would score if everyone were
asked has a closed form (`Truth`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gate_studies import Array, Cells
from numpy.typing import NDArray
from scipy.stats import norm

from socrates.data.selection import choose_rows
from socrates.evaluation.bootstrap import Units, Weights, intervals
from socrates.evaluation.cells import binomial_deviation
from socrates.evaluation.gate import THRESHOLD

UNTRAINED = 0.205  # the published distance of Qwen2.5-14B-Instruct on the 40 unseen studies
NARROWER = 0.5  # assumed: standard deviation of the untrained model's answers, as a share of the humans'
_SHARES = np.linspace(-2.0, 1.0, 61)  # of the way to the human distribution, at which distances are tabulated
RESAMPLES = 1000  # of an interval; the gate takes more
_DRAWS = 10  # of differences for each set of studies, from which the common share for all studies is found


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


def untrained(cells: Cells, rng: np.random.Generator) -> Array:
    """G of a model of about the published distance: shape (C, P).

    A normal distribution, binned, narrower than the humans' and off its mean by a random distance, whose size is found
    by bisection.
    """
    direction = rng.standard_normal(len(cells.study))
    step = np.diff(cells.points, axis=1, append=1.0)
    sd = np.maximum(NARROWER * cells.sd, 0.02)[:, None]

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


@dataclass(frozen=True)
class Way:
    """How rows are chosen."""

    max_examples: int | None  # None: everyone
    rows_per_cell: int | None  # None: whole cells


@dataclass
class Outcomes:
    """Of one way, one size of differences and one true improvement, over all simulations: shape (simulations,)."""

    estimate: Array  # percent
    low: Array  # of the interval
    high: Array
    baseline_error: Array  # estimated minus true distance of the baseline
    checkpoint_error: Array
    cells: Array  # with a row that was asked
    true: Array  # percent

    @property
    def bias(self) -> float:
        """Mean of the estimated minus the true improvement, in points."""
        return float((self.estimate - self.true).mean())

    @property
    def sd(self) -> float:
        """Standard deviation of the same, in points."""
        return float((self.estimate - self.true).std())

    @property
    def width(self) -> float:
        """Mean width of the interval, in points, of those there are."""
        return float(np.nanmean(self.high - self.low))

    @property
    def covered(self) -> float:
        """Share of the intervals there are that hold the true improvement."""
        held = (self.low <= self.true) & (self.true <= self.high)
        return float(held[np.isfinite(self.low)].mean())

    def go(self, significant: bool = False) -> float:
        """Share of GO at the gate's threshold; ``significant``: all of the interval must be there too."""
        said = (self.estimate >= THRESHOLD) & ((self.low >= THRESHOLD) | (not significant))
        return float(said.mean())


class Luck:
    """One random number for each row, shared by all models: (row, model) -> answer by inversion."""

    def __init__(self, rows: NDArray[np.int64], rng: np.random.Generator) -> None:
        """Draw; ``rows`` of each cell, shape (C,)."""
        cell = np.repeat(np.arange(len(rows)), rows)
        self._rows = rows
        self._start = np.cumsum(rows) - rows
        self._sorted = np.sort(cell + rng.random(len(cell)))

    def predicted(self, model: Array) -> Array:
        """Share of a cell's drawn answers at or below each point: shape (C, P)."""
        at = np.arange(len(model))[:, None] + np.minimum(model, 1 - 1e-12)
        return (np.searchsorted(self._sorted, at) - self._start[:, None]) / self._rows[:, None]


def simulate(
    truth: Truth, way: Way, checkpoints: Sequence[Array], seed: int, resamples: int = RESAMPLES
) -> tuple[Array, Array, int]:
    """One evaluation of the baseline and of several checkpoints.

    Args:
        truth: the studies and the baseline.
        way: how rows are chosen.
        checkpoints: share of the way of each cell, shape (C,) each.
        seed: of the choice, of the draws and of the resamples.
        resamples: of the intervals; 0: there are none.

    Returns:
        distances, shape (1 + checkpoints,); intervals of the improvements, shape (checkpoints, 2); cells.
    """
    cells = truth.cells
    chosen = choose_rows(cells.sizes(), way.max_examples, seed, way.rows_per_cell)
    rows = np.zeros(len(cells.study), dtype=np.int64)
    for cell, count in chosen.items():
        rows[cell.condition_num] = count
    picked = np.flatnonzero(rows)
    luck = Luck(rows[picked], np.random.default_rng([seed, 1]))
    human, width = cells.human[picked], cells.width[picked]
    population, base = cells.population[picked], truth.base[picked]

    def distances(model: Array) -> Array:
        return (width * np.abs(human - luck.predicted(model))).sum(axis=1)

    models = [trained(population, base, share[picked, None]) for share in checkpoints]
    values = np.stack([distances(base), *map(distances, models)], axis=1)  # (cells, models)
    study = np.unique(cells.study[picked], return_inverse=True)[1]
    units = Units(study)
    values /= units.sizes[study][:, None] * len(units.sizes)  # so that sums are means of means
    limits = np.full((len(checkpoints), 2), np.nan)
    if resamples:

        def improvements(weights: Weights) -> Array:
            sums = weights.pooled_sum(values)
            with np.errstate(divide="ignore", invalid="ignore"):  # a few perfect cells, drawn again and again
                return 100 * (1 - sums[:, 1:] / sums[:, :1])

        for index, interval in enumerate(intervals(units, improvements, seed, resamples)):
            if interval is not None:
                limits[index] = interval
    return values.sum(axis=0), limits, len(picked)


def outcomes(
    truths: Sequence[Truth],
    ways: Sequence[Way],
    kinds: Sequence[Differences],
    improvements: Sequence[float],
    simulations: int,
    seed: int,
    other_studies: bool = False,
    resamples: int = RESAMPLES,
) -> dict[tuple[Way, str, float], Outcomes]:
    """Simulate each way, size of differences and true improvement.

    Args:
        truths: sets of studies; simulations take turns among them.
        ways: how rows are chosen.
        kinds: how unlike the cells' improvements are.
        improvements: true ones, in percent.
        simulations: of each combination.
        seed: of everything.
        other_studies: False: the true improvement is that of everyone in the studies at hand; True: it is that of all
            studies of which these were drawn.
        resamples: as of `simulate`.
    """
    rng = np.random.default_rng(seed)
    common: dict[tuple[str, float], float] = {}
    if other_studies:
        for kind in kinds:
            drawn = [(truth, kind.draw(truth.cells, rng)) for truth in truths for _ in range(_DRAWS)]
            drawn += [(truth, -differences) for truth, differences in drawn]  # so that chance cancels
            common |= {(kind.name, value): common_share(drawn, value) for value in improvements}
    keys = [(kind.name, value) for kind in kinds for value in improvements]
    records: dict[tuple[Way, str, float], list[tuple[float, ...]]] = {(w, *key): [] for w in ways for key in keys}
    for number in range(simulations):
        truth = truths[number % len(truths)]
        shares: list[Array] = []
        for kind in kinds:
            differences = kind.draw(truth.cells, rng)
            for value in improvements:
                at = common[kind.name, value] if other_studies else common_share([(truth, differences)], value)
                shares.append(truth.shares(at, differences))
        true = [float(truth.cells.mean_of_means(truth.distances(share))) for share in shares]
        for way in ways:
            found, limits, cells = simulate(truth, way, shares, int(rng.integers(2**31)), resamples)
            for index, key in enumerate(keys):
                estimate = 100 * (1 - found[1 + index] / found[0])
                errors = found[0] - truth.baseline, found[1 + index] - true[index]
                records[way, *key].append((estimate, *limits[index], *errors, cells, key[1]))
    return {key: Outcomes(*np.array(rows).T) for key, rows in records.items()}
