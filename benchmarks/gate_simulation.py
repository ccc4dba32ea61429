"""Many evaluations of a baseline and of checkpoints of known improvement, and what the gate says of them.

A model has a distribution for each cell, and each person's is a shifted one, of which it is the mean over all people
(`person_by_person`). `untrained` is narrow and in the wrong place, so that its
distance is the published one; `trained` lies on the way from it to the human distribution, by a share that differs from
study to study and from cell to cell, and may be negative: there it got worse. What a model would score if everyone were
asked has a closed form (`Truth`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gate_studies import Array, Cells
from scipy.special import ndtr, ndtri
from scipy.stats import norm

from socrates.data.selection import choose_rows
from socrates.evaluation.bootstrap import Units, Weights, intervals
from socrates.evaluation.full_size import binomial_deviation, full_size_deviation
from socrates.evaluation.gate import THRESHOLD

UNTRAINED = 0.205  # the published distance of Qwen2.5-14B-Instruct on the 40 unseen studies
NARROWER = 0.5  # assumed: standard deviation of the untrained model's answers, as a share of the humans'
_SHARES = np.linspace(-2.0, 1.0, 61)  # of the way to the human distribution, at which distances are tabulated
SPREAD = 0.3  # assumed: share of the variance of a model's (latent) answers that lies between persons
ESTIMATORS = ("drawn", "full", "jackknifed")
RESAMPLES = 400  # of an interval; the gate takes more
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
    def rmse(self) -> float:
        """Root of the mean squared error, in points."""
        return float(np.hypot(self.bias, self.sd))

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

    def elsewhere(self, own: Array) -> tuple[float, float]:
        """Share of GO, and of intervals that hold what all studies improve by, where sets of them improve by ``own``.

        The error of an estimate is taken to be the same whatever a set improves by: it is added to each.
        """
        shift, truth = own[:, None] - self.true, self.true[0]
        held = (self.low + shift <= truth) & (truth <= self.high + shift)
        return float((self.estimate + shift >= THRESHOLD).mean()), float(held.mean())


def person_by_person(model: Array, z: Array, spread: float = SPREAD) -> Array:
    """Each person's probability of an answer of at most x: shape (..., people), from the cell's (...) and z ~ N(0, 1).

    Of a latent normal answer a share of the variance is the person's own; over all people the mean is the cell's.
    """
    latent = ndtri(np.clip(model, 1e-9, 1 - 1e-9))[..., None]
    return ndtr((latent - np.sqrt(spread) * z) / np.sqrt(1 - spread))


def simulate(
    truth: Truth, way: Way, checkpoints: Sequence[Array], seed: int, resamples: int = RESAMPLES
) -> tuple[Array, Array, int]:
    """One evaluation of the baseline and of several checkpoints, by all estimators; models share persons and luck.

    Args:
        truth: the studies and the baseline.
        way: how rows are chosen.
        checkpoints: share of the way of each cell, shape (C,) each.
        seed: of the choice, of the persons, of the draws and of the resamples.
        resamples: of the intervals; 0: there are none.

    Returns:
        distances, shape (estimators, 1 + checkpoints); intervals of the improvements, shape (estimators, checkpoints,
        2); cells.
    """
    cells, rng = truth.cells, np.random.default_rng([seed, 1])
    chosen = choose_rows(cells.sizes(), way.max_examples, seed, way.rows_per_cell)
    rows = np.zeros(len(cells.study), dtype=np.int64)
    for cell, count in chosen.items():
        rows[cell.condition_num] = count
    picked = np.flatnonzero(rows)
    values = np.zeros((len(ESTIMATORS), len(picked), 1 + len(checkpoints)))
    shares = [None, *checkpoints]
    for asked in np.unique(rows[picked]):
        places = np.flatnonzero(rows[picked] == asked)
        of = picked[places]
        z, luck = rng.standard_normal((len(of), asked)), rng.random((len(of), asked))
        cell, point = np.nonzero(cells.width[of] > 0)
        human, width = cells.human[of][cell, point], cells.width[of][cell, point]
        people_there = cells.people[of][cell]
        for index, share in enumerate(shares):
            base = truth.base[of]
            model = base if share is None else trained(cells.population[of], base, share[of, None])
            people = person_by_person(model[cell, point], z[cell])
            apart = (
                np.abs((luck[cell] < people).mean(axis=1) - human),
                full_size_deviation(people, human, people_there, jackknifed=False),
                full_size_deviation(people, human, people_there),
            )
            for number, one in enumerate(apart):
                values[number, places, index] = np.maximum(0, np.bincount(cell, width * one, len(of)))
    study = np.unique(cells.study[picked], return_inverse=True)[1]
    units = Units(study)
    values /= units.sizes[study][:, None] * len(units.sizes)  # so that sums are means of means
    limits = np.full((len(ESTIMATORS), len(checkpoints), 2), np.nan)
    if resamples:
        table = np.concatenate(list(values), axis=1)

        def improvements(weights: Weights) -> Array:
            sums = weights.pooled_sum(table).reshape(-1, len(ESTIMATORS), 1 + len(checkpoints))
            with np.errstate(divide="ignore", invalid="ignore"):  # a few perfect cells, drawn again and again
                return (100 * (1 - sums[..., 1:] / sums[..., :1])).reshape(len(sums), -1)

        found = intervals(units, improvements, seed, resamples)
        limits = np.array([interval or (np.nan, np.nan) for interval in found]).reshape(limits.shape)
    return values.sum(axis=1), limits, len(picked)


Key = tuple[str, Way, str, float]  # estimator, way, kind, true improvement


def outcomes(
    truths: Sequence[Truth],
    ways: Sequence[Way],
    kinds: Sequence[Differences],
    improvements: Sequence[float],
    simulations: int,
    seed: int,
    resamples: int = RESAMPLES,
) -> dict[Key, Outcomes]:
    """Simulate each way, size of differences and true improvement of the studies at hand.

    Args:
        truths: sets of studies; simulations take turns among them.
        ways: how rows are chosen.
        kinds: how unlike the cells' improvements are.
        improvements: true ones of everyone in a set, in percent.
        simulations: of each combination.
        seed: of everything.
        resamples: as of `simulate`.
    """
    rng = np.random.default_rng(seed)
    keys = [(kind.name, value) for kind in kinds for value in improvements]
    records: dict[Key, list[tuple[float, ...]]] = {(e, w, *key): [] for e in ESTIMATORS for w in ways for key in keys}
    for number in range(simulations):
        truth = truths[number % len(truths)]
        shares: list[Array] = []
        for kind in kinds:
            differences = kind.draw(truth.cells, rng)
            shares += [truth.shares(common_share([(truth, differences)], v), differences) for v in improvements]
        true = [float(truth.cells.mean_of_means(truth.distances(share))) for share in shares]
        for way in ways:
            found, limits, cells = simulate(truth, way, shares, int(rng.integers(2**31)), resamples)
            for estimator, distances, ends in zip(ESTIMATORS, found, limits, strict=True):
                for index, key in enumerate(keys):
                    estimate = 100 * (1 - distances[1 + index] / distances[0])
                    errors = distances[0] - truth.baseline, distances[1 + index] - true[index]
                    records[estimator, way, *key].append((estimate, *ends[index], *errors, cells, key[1]))
    return {key: Outcomes(*np.array(rows).T) for key, rows in records.items()}


def own_improvements(
    truths: Sequence[Truth], kind: Differences, improvement: float, sets: int, rng: np.random.Generator
) -> Array:
    """What ``sets`` sets of studies together truly improve by, where all studies of the kind do by ``improvement``.

    Returns:
        shape (1000,), percent.
    """
    drawn = [(truth, kind.draw(truth.cells, rng)) for truth in truths for _ in range(_DRAWS)]
    drawn += [(truth, -differences) for truth, differences in drawn]  # so that chance cancels
    common = common_share(drawn, improvement)
    trained_to = [t.cells.mean_of_means(t.distances(t.shares(common, d))) for t, d in drawn]
    pairs = np.array([(truth.baseline, after) for (truth, _), after in zip(drawn, trained_to, strict=True)])
    before, after = pairs[rng.integers(len(pairs), size=(1000, sets))].sum(axis=1).T
    return 100 * (1 - after / before)
