"""Many evaluations of a baseline and of checkpoints of known improvement, and what the gate says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gate_models import Differences, Truth, common_share, trained
from gate_studies import Array
from numpy.typing import NDArray

from socrates.data.selection import choose_rows
from socrates.evaluation.bootstrap import Units, Weights, intervals
from socrates.evaluation.gate import THRESHOLD

RESAMPLES = 1000  # of an interval; the gate takes more
_DRAWS = 10  # of differences for each set of studies, from which the common share for all studies is found


@dataclass(frozen=True)
class Way:
    """How rows are chosen."""

    max_examples: int | None  # None: everyone
    rows_per_cell: int | None  # None: whole cells
    shared_luck: bool = True  # whether a row's random number is the same for both models, as the evaluation has it


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

    @property
    def go(self) -> float:
        """Share of GO at the gate's threshold."""
        return float((self.estimate >= THRESHOLD).mean())

    @property
    def go_significant(self) -> float:
        """Share of GO where all of the interval must be at or above the threshold too."""
        return float(((self.estimate >= THRESHOLD) & (self.low >= THRESHOLD)).mean())


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
    truth: Truth, way: Way, checkpoints: Sequence[Array], seed: int, with_intervals: bool = True
) -> tuple[Array, Array, int]:
    """One evaluation of the baseline and of several checkpoints.

    Args:
        truth: the studies and the baseline.
        way: how rows are chosen.
        checkpoints: share of the way of each cell, shape (C,) each.
        seed: of the choice, of the draws and of the resamples.
        with_intervals: whether intervals are computed.

    Returns:
        distances, shape (1 + checkpoints,); intervals of the improvements, shape (checkpoints, 2); cells.
    """
    cells = truth.cells
    chosen = choose_rows(cells.sizes(), way.max_examples, seed, way.rows_per_cell)
    rows = np.zeros(len(cells.study), dtype=np.int64)
    for cell, count in chosen.items():
        rows[cell.condition_num] = count
    picked = np.flatnonzero(rows)
    rng = np.random.default_rng([seed, 1])
    luck = Luck(rows[picked], rng)
    human, width = cells.human[picked], cells.width[picked]
    population, base = cells.population[picked], truth.base[picked]

    def distances(model: Array, luck: Luck) -> Array:
        return (width * np.abs(human - luck.predicted(model))).sum(axis=1)

    models = [trained(population, base, share[picked, None]) for share in checkpoints]
    lucks = [luck if way.shared_luck else Luck(rows[picked], rng) for _ in models]
    values = np.stack([distances(base, luck), *map(distances, models, lucks)], axis=1)  # (cells, models)
    study = np.unique(cells.study[picked], return_inverse=True)[1]
    units = Units(study)
    values /= units.sizes[study][:, None] * len(units.sizes)  # so that sums are means of means
    limits = np.full((len(checkpoints), 2), np.nan)
    if with_intervals:

        def improvements(weights: Weights) -> Array:
            sums = weights.pooled_sum(values)
            with np.errstate(divide="ignore", invalid="ignore"):  # a few perfect cells, drawn again and again
                return 100 * (1 - sums[:, 1:] / sums[:, :1])

        for index, interval in enumerate(intervals(units, improvements, seed, RESAMPLES)):
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
    with_intervals: bool = True,
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
        with_intervals: as of `simulate`.
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
            found, limits, cells = simulate(truth, way, shares, int(rng.integers(2**31)), with_intervals)
            for index, key in enumerate(keys):
                estimate = 100 * (1 - found[1 + index] / found[0])
                errors = found[0] - truth.baseline, found[1 + index] - true[index]
                records[way, *key].append((estimate, *limits[index], *errors, cells, key[1]))
    return {key: Outcomes(*np.array(rows).T) for key, rows in records.items()}
