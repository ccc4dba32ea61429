"""95% intervals by resampling studies, then units (cells, or questions) within a study.

Covers: any number that is computed from per-unit values under weights; comparisons are paired, since one set of weights
serves both sides. Does not cover: what is the same in every resample (a leaked data file, a wrong scale).

Resampling at both stages counts what differs within studies twice, since the study means differ by it already. The
second stage is therefore rescaled (Rao and Wu 1988, JASA 83, "Resampling inference with complex survey data"): it adds
a share of 1/S of a study's own variance, S being the number of studies. With one study that is an ordinary bootstrap of
its units; with many it is nothing beside the first stage.

Percentiles are expanded for few studies (Hesterberg 2015, The American Statistician 69): for n studies those of
Phi(-sqrt(n / (n - 1)) t(0.975; n - 1)), not of 2.5%. Below `FEW_STUDIES` that does not help, as no resample passes the
most extreme study: the interval is then Student's, with the standard deviation of the resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

Array = NDArray[np.float64]

RESAMPLES = 10_000
METHOD = "bootstrap of studies, then cells within a study (rescaled); expanded percentiles (2 to 5 studies: Student's)"
FEW_STUDIES = 6  # measured: from here on expanded percentiles hold the truth in 92% of cases or more
_CHUNK_NUMBERS = 2_000_000  # of one array of weights: 16 MB
_DEFINED = 0.95  # share of resamples in which a number must be defined to get an interval
_DIGITS = 6  # significant ones of a limit: more would only tell rounding of sums


class Interval(NamedTuple):
    """A 95% interval."""

    low: float
    high: float

    def within(self, least: float, most: float) -> Interval:
        """The part of it that a number of this range can take."""
        return Interval(max(least, self.low), min(most, self.high))


@dataclass(frozen=True)
class Units:
    """The units of one set of results, sorted by study."""

    study: NDArray[np.int64]  # shape (units,), ascending: index of each unit's study, 0 to S - 1, none left out

    @property
    def starts(self) -> NDArray[np.int64]:
        """Shape (S,): index of each study's first unit."""
        return np.flatnonzero(np.diff(self.study, prepend=-1))

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Shape (S,): units of each study."""
        return np.bincount(self.study)


@dataclass(frozen=True)
class Weights:
    """How often each study and each unit counts, in R resamples at once."""

    units: Units
    studies: Array  # shape (R, S); each row sums to S
    within: Array  # shape (R, units); the weights of a study's units sum to their number

    def pooled_sum(self, values: Array) -> Array:
        """Sum of ``values``, of shape (units,) or (units, K), over all units: shape (R,) or (R, K)."""
        return (self.within * self.studies[:, self.units.study]) @ values

    def mean_of_all(self, values: Array) -> Array:
        """As `mean_of_means`, of K numbers that are defined for every unit, (units, K): shape (R, K)."""
        return self.pooled_sum(values / (self.units.sizes[self.units.study] * len(self.units.starts))[:, None])

    def mean_of_means(self, values: Array) -> Array:
        """Mean over each study's units, then over studies, of ``values`` of shape (units,): shape (R,).

        NaN: not defined for a unit, left out.
        """
        defined = ~np.isnan(values)
        return self.ratio_of_studies(np.where(defined, values, 0.0), defined.astype(float))

    def ratio_of_studies(self, numerators: Array, denominators: Array) -> Array:
        """Mean over studies of a study's summed numerators by its summed denominators, both (units,): shape (R,).

        0 / 0: not defined for a study, left out.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios = self._study_sums(numerators) / self._study_sums(denominators)
            defined = ~np.isnan(ratios)
            weight = np.where(defined, self.studies, 0.0)
            return (weight * np.where(defined, ratios, 0.0)).sum(axis=1) / weight.sum(axis=1)

    def _study_sums(self, values: Array) -> Array:
        return np.add.reduceat(self.within * values, self.units.starts, axis=1)


Statistic = Callable[[Weights], Array]  # weights of R resamples -> shape (R,) or (R, K), NaN where not defined


def sorted_units(studies: Sequence[str]) -> Units:
    """Units from the name of each one's study; equal names must stand together."""
    return Units(np.cumsum([0, *(one != before for before, one in pairwise(studies))]))


def estimate(units: Units, statistic: Statistic) -> Array:
    """The statistic of the units as they are, each counting once: shape () or (K,)."""
    studies = len(units.starts)
    return statistic(Weights(units, np.ones((1, studies)), np.ones((1, len(units.study)))))[0]


def resampled(units: Units, statistic: Statistic, seed: int, resamples: int = RESAMPLES) -> Array:
    """The statistic in every resample: shape (resamples,) or (resamples, K).

    The weights depend on the studies' sizes, the seed and the number of resamples alone.
    """
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_NUMBERS // len(units.study))
    counts = [min(chunk, resamples - start) for start in range(0, resamples, chunk)]
    return np.concatenate([statistic(_draw(units, rng, count)) for count in counts])


def intervals(units: Units, statistic: Statistic, seed: int, resamples: int = RESAMPLES) -> list[Interval | None]:
    """95% intervals of the K numbers that a statistic computes.

    None where there is one unit alone, or where a number is not defined in more than 5% of the resamples.
    """
    columns = resampled(units, statistic, seed, resamples).reshape(resamples, -1).T
    studies = len(units.starts)
    if 1 < studies < FEW_STUDIES:
        points = estimate(units, statistic).reshape(-1)
        return [_interval(column, studies, point) for column, point in zip(columns, points, strict=True)]
    return [_interval(column, studies if studies > 1 else len(units.study)) for column in columns]


def tail(count: int) -> float:
    """The share of resamples beyond each limit, for ``count`` resampled things, at least 2."""
    return float(ndtr(-math.sqrt(count / (count - 1)) * stdtrit(count - 1, 0.975)))


def _draw(units: Units, rng: np.random.Generator, count: int) -> Weights:
    starts, sizes = units.starts, units.sizes
    number = len(starts)
    drawn = rng.integers(number, size=(count, number))
    studies = _counts(drawn, number)
    # Each unit's place is taken by one of the same study's; all copies of a study in a resample share these.
    picks = starts[units.study] + (rng.random((count, len(units.study))) * sizes[units.study]).astype(np.int64)
    # Copies share their units, so the second stage's variance would be 2 - 1/S times what independent ones give.
    rescale = math.sqrt(1 / (number * (2 - 1 / number)))
    within = 1 + rescale * (_counts(picks, len(units.study)) - 1)
    return Weights(units, studies, within)


def _counts(picks: NDArray[np.int64], size: int) -> Array:
    """How often each of ``size`` things was picked in each row: shape (rows, size)."""
    rows = len(picks)
    flat = (picks + size * np.arange(rows)[:, None]).ravel()
    return np.bincount(flat, minlength=rows * size).reshape(rows, size).astype(np.float64)


def _interval(values: Array, count: int, point: float | None = None) -> Interval | None:
    """From resamples of ``count`` things: expanded percentiles, or Student's around an estimate."""
    defined = values[np.isfinite(values)]
    if count < 2 or len(defined) < _DEFINED * len(values):
        return None
    if point is None:
        limits = np.quantile(defined, [tail(count), 1 - tail(count)])
    else:  # the resamples' standard deviation is that of a mean of count - 1 things
        half = stdtrit(count - 1, 0.975) * math.sqrt(count / (count - 1)) * defined.std()
        limits = np.array([point - half, point + half])
    return Interval(*(float(f"{limit:.{_DIGITS}g}") for limit in limits)) if np.isfinite(limits).all() else None
