"""Intervals against closed forms, SciPy and plain loops."""

import math

import numpy as np
import pytest
from scipy import stats

from socrates.evaluation.bootstrap import Interval, Units, estimate, intervals, resampled, tail

UNEVEN = Units(np.repeat([0, 1, 2, 3], [1, 7, 3, 12]))
NAN = math.nan


def mean_of(values):
    return lambda weights: weights.mean_of_means(values)


def by_study(units, values):
    return [values[units.study == study] for study in range(units.study[-1] + 1)]


def some_values(units, seed=5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=units.study[-1] + 1)[units.study] + rng.gamma(2, size=len(units.study))


def test_estimates_are_plain_averages():
    a, b = some_values(UNEVEN), some_values(UNEVEN, 6)
    expected = np.mean([np.mean(study) for study in by_study(UNEVEN, a)])
    assert estimate(UNEVEN, mean_of(a)) == pytest.approx(expected, rel=1e-12)
    ratios = [x.sum() / y.sum() for x, y in zip(by_study(UNEVEN, a), by_study(UNEVEN, b), strict=True)]
    assert estimate(UNEVEN, lambda w: w.ratio_of_studies(a, b)) == pytest.approx(np.mean(ratios), rel=1e-12)
    both = np.stack([a, b], axis=1)
    np.testing.assert_allclose(estimate(UNEVEN, lambda w: w.pooled_sum(both)), both.sum(axis=0), rtol=1e-12)
    assert estimate(UNEVEN, lambda w: w.pooled_sum(a)) == pytest.approx(a.sum(), rel=1e-12)


def test_what_is_not_defined_is_left_out_and_is_no_zero():
    a = some_values(UNEVEN)
    a[[0, 3, 20]] = NAN  # the whole first study, and a unit of two others
    expected = np.mean([np.nanmean(study) for study in by_study(UNEVEN, a)[1:]])
    assert estimate(UNEVEN, mean_of(a)) == pytest.approx(expected, rel=1e-12)
    assert math.isnan(estimate(UNEVEN, mean_of(np.full(len(a), NAN))))
    ones = np.ones(len(a))
    assert not math.isfinite(estimate(UNEVEN, lambda w: w.ratio_of_studies(ones, 0 * ones)))


@pytest.mark.parametrize("sizes", [[30], [4, 4], [1, 7, 3, 12], [5] * 10, [2, 80, 3, 9, 1, 1, 40]])
def test_the_variance_is_the_closed_form(sizes):
    """Studies: their plug-in variance by S. Units: a share of 1/S of what they would add to the mean on their own."""
    units = Units(np.repeat(np.arange(len(sizes)), sizes))
    values = some_values(units)
    studies = by_study(units, values)
    between = np.var([study.mean() for study in studies]) / len(sizes)
    within = sum(np.var(study) / len(study) for study in studies) / len(sizes) ** 2
    means = resampled(units, mean_of(values), seed=7, resamples=60_000)
    assert means.var() == pytest.approx(between + within / len(sizes), rel=0.03)
    assert means.mean() == pytest.approx(estimate(units, mean_of(values)), abs=4 * means.std() / math.sqrt(60_000))


@pytest.mark.parametrize(("studies", "each"), [(1, 12), (2, 1), (3, 1), (5, 1), (12, 1), (40, 1)])
def test_the_interval_of_a_mean_is_students(studies, each):
    """Of few studies it passes their most extreme one."""
    values = np.random.default_rng(9).normal(10, 2, size=studies * each)
    units = Units(np.repeat(np.arange(studies), each))
    student = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    found = intervals(units, mean_of(values), seed=1, resamples=40_000)[0]
    assert found == pytest.approx(student, abs=0.04 * (student[1] - student[0]))


def test_the_tail_is_the_expanded_percentile():
    for count in (2, 5, 40, 1000):
        wide = -math.sqrt(count / (count - 1)) * stats.t(count - 1).isf(0.025)
        assert tail(count) == pytest.approx(stats.norm.cdf(wide), rel=1e-9)
    assert tail(10**6) == pytest.approx(0.025, rel=1e-4)
    units = Units(np.repeat(np.arange(6), 4))  # of 6 studies, not of 24 units
    means = resampled(units, mean_of(some_values(units)), seed=2)
    found = intervals(units, mean_of(some_values(units)), seed=2)[0]
    assert found == pytest.approx(np.quantile(means, [tail(6), 1 - tail(6)]), rel=1e-5)


def test_both_sides_of_a_comparison_share_their_resamples():
    baseline = some_values(UNEVEN)

    def improvement(weights):
        checkpoint = weights.mean_of_means(0.9 * baseline)
        return np.stack([1 - checkpoint / weights.mean_of_means(baseline), weights.mean_of_means(baseline)], axis=1)

    same, level = intervals(UNEVEN, improvement, seed=1)
    assert same == pytest.approx(Interval(0.1, 0.1), rel=1e-6)
    assert level.high - level.low > 0.5
    assert level == intervals(UNEVEN, mean_of(baseline), seed=1)[0]  # and so do statistics that are asked for apart


@pytest.mark.parametrize("no_number", [NAN, math.inf])
def test_no_interval_where_there_is_nothing_to_resample_or_too_often_no_number(no_number):
    assert intervals(Units(np.zeros(1, dtype=np.int64)), mean_of(np.ones(1)), seed=1) == [None]
    values = some_values(UNEVEN)

    def often_undefined(share):
        def statistic(weights):
            means = weights.mean_of_means(values)
            means[: round(share * len(means))] = no_number
            return means

        return intervals(UNEVEN, statistic, seed=1)[0]

    assert often_undefined(0.06) is None
    assert often_undefined(0.04) == pytest.approx(intervals(UNEVEN, mean_of(values), seed=1)[0], rel=0.05)
    one_defined = np.where(np.arange(len(values)) == 9, values, NAN)
    assert intervals(UNEVEN, mean_of(one_defined), seed=1)[0] is None  # its study is missing from many resamples


def test_the_seed_decides_and_the_order_within_a_study_does_not_matter():
    values = some_values(UNEVEN)
    first, again, other = (intervals(UNEVEN, mean_of(values), seed)[0] for seed in (3, 3, 4))
    assert first == again != other
    assert first == tuple(float(f"{limit:.6g}") for limit in first)  # limits say six digits
    shuffled = np.concatenate([np.random.default_rng(1).permutation(study) for study in by_study(UNEVEN, values)])
    found = intervals(UNEVEN, mean_of(shuffled), seed=3)[0]
    assert found == pytest.approx(first, abs=0.03 * (first.high - first.low))


def test_an_interval_is_cut_to_what_a_number_can_be():
    assert Interval(-0.2, 1.4).within(0, 1) == (0, 1)
    assert Interval(0.1, 0.4).within(0, 1) == (0.1, 0.4)
