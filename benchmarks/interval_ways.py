"""The ways of making an interval that `bench_intervals.py` compares, for one made data set.

Each takes the study and both models' distances of every scored cell, in order of studies.
"""

from __future__ import annotations

import numpy as np
from interval_designs import Array, Counts

from socrates.evaluation.bootstrap import Units, Weights, intervals


def rescaled(
    study: Counts, baseline: Array, checkpoint: Array, seed: int, resamples: int
) -> tuple[Array, Array, Array]:
    """Limits of the two numbers, their estimates, and how far their resamples lie from these on average."""
    units = Units(study)
    # A mean over studies of means over cells, as one sum: each value by its study's size and the number of studies.
    shares = np.stack([baseline, checkpoint], axis=1) / (len(units.sizes) * units.sizes[study])[:, None]
    total = np.zeros(2)

    def statistic(weights: Weights) -> Array:
        values = numbers_of(*weights.pooled_sum(shares).T)
        total[:] += values.sum(axis=0)
        return values

    limits = np.array(intervals(units, statistic, seed, resamples))
    estimate = numbers_of(*shares.sum(axis=0)[:, None])[0]
    return limits, estimate, total / resamples - estimate


def two_stage(study: Counts, baseline: Array, checkpoint: Array, rng: np.random.Generator, resamples: int) -> Array:
    """The plain bootstrap: studies with replacement, then cells with replacement in each copy of a study."""
    units = Units(study)
    drawn = rng.integers(len(units.sizes), size=(resamples, len(units.sizes))).ravel()
    sizes = units.sizes[drawn]
    picks = np.repeat(units.starts[drawn], sizes) + (rng.random(sizes.sum()) * np.repeat(sizes, sizes)).astype(np.int64)
    starts = np.cumsum(sizes) - sizes
    return numbers_of(
        *(
            (np.add.reduceat(side[picks], starts) / sizes).reshape(resamples, -1).mean(axis=1)
            for side in (baseline, checkpoint)
        )
    )


def studies_alone(study: Counts, baseline: Array, checkpoint: Array, rng: np.random.Generator, resamples: int) -> Array:
    """The bootstrap of studies alone."""
    units = Units(study)
    drawn = rng.integers(len(units.sizes), size=(resamples, len(units.sizes)))
    return numbers_of(
        *((np.add.reduceat(side, units.starts) / units.sizes)[drawn].mean(axis=1) for side in (baseline, checkpoint))
    )


def numbers_of(baseline: Array, checkpoint: Array) -> Array:
    """The numbers that get an interval, of each resample: shape (R, 2)."""
    return np.stack([baseline, 1 - checkpoint / baseline], axis=1)


def percentiles(values: Array) -> Array:
    """The 95% limits of each number, shape (2, 2): numbers, then low and high."""
    return np.quantile(values, [0.025, 0.975], axis=0).T
