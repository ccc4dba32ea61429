"""The metric against a second implementation (exact fractions, cumulative sums, no SciPy) and against its promises."""

from __future__ import annotations

import math
from collections import defaultdict
from fractions import Fraction
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from socrates.data.records import Cell
from socrates.errors import SocratesError
from socrates.evaluation.cells import NO_PREDICTION, NO_SPREAD, ONE_ANSWER, Distribution, ScoredRow
from socrates.evaluation.metrics import score

CELL = Cell("aaaaa", 1, 1)
TOLERANCE = 1e-12
fast = settings(max_examples=60, deadline=None)


def rows_of(responses, predictions, cell=CELL, distributions=None):
    distributions = distributions or [None] * len(responses)
    return [ScoredRow(cell, *row) for row in zip(responses, predictions, distributions, strict=True)]


def distance(responses, predictions):
    return score(rows_of(responses, predictions)).metrics.wasserstein_distance


# The second implementation: the definition of the paper, word for word, in exact arithmetic.


def oracle(rows):
    cells = defaultdict(list)
    for row in rows:
        cells[row.cell].append(row)
    studies, errors = defaultdict(list), defaultdict(list)
    for cell, members in cells.items():
        human = [Fraction(row.response) for row in members]
        answered = [row for row in members if row.prediction is not None]
        if len(human) < 2 or len(set(human)) == 1 or not answered:
            continue

        z = partial(standardised, min(human), max(human))
        people = [(z(value), Fraction(1, len(human))) for value in human]
        drawn = [(z(row.prediction), Fraction(1, len(answered))) for row in answered]
        studies[cell.study_id].append(area_between(people, drawn))
        errors[cell.study_id] += [abs(z(row.response) - z(row.prediction)) for row in answered]
    if not studies:
        return None
    by_study = average([average(distances) for distances in studies.values()])
    all_errors = [e for es in errors.values() for e in es]
    as_drawn = {} if any(row.distribution for row in rows) else {"wasserstein_distance": by_study}
    return as_drawn | {
        "wasserstein_drawn": by_study,
        "mae": average(all_errors),
        "rmse": math.sqrt(average([e * e for e in all_errors])),
        "accuracy": average([1 - average(es) for es in errors.values()]),
    }


def standardised(low, high, value):
    return max(Fraction(0), min(Fraction(1), (Fraction(value) - low) / (high - low)))


def area_between(left, right):
    """The area between two cumulative distributions over their merged support."""
    steps = defaultdict(Fraction)
    for value, weight in left:
        steps[value] += weight
    for value, weight in right:
        steps[value] -= weight
    area = height = Fraction(0)
    support = sorted(steps)
    for value, following in pairwise(support):
        height += steps[value]
        area += abs(height) * (following - value)
    return area


def exact_correlation(xs, ys):
    """Pearson's, of numbers taken as the exact fractions that they are."""
    dx, dy = ([Fraction(v) - average(list(map(Fraction, side))) for v in side] for side in (xs, ys))
    xx, yy = sum(v * v for v in dx), sum(v * v for v in dy)
    if xx == 0 or yy == 0:
        return None
    return float(sum(x * y for x, y in zip(dx, dy, strict=True))) / math.sqrt(xx * yy)


def average(values):
    return sum(values) / len(values)


# Made-up rows: few cells, so that they hold several answers; ties, gaps, huge numbers and predictions out of range.

answers = st.integers(-3, 7) | st.floats(-10, 10, allow_subnormal=False) | st.sampled_from([99999, 1e97, -1e97])
scale_points = st.integers(1, 7)
distributions = st.builds(
    Distribution,
    st.sampled_from([(1, 2, 3), (3, 1, 2), (-2, 5, 9), (1, 2, 99999)]),
    st.tuples(*[st.integers(0, 9).map(lambda weight: weight / 7)] * 3).filter(any),
)
every_tenth_missing = st.integers(1, 10).map(lambda number: number > 1)


@st.composite
def made_up_rows(draw, values=answers, no_distribution=False):
    studies, tasks = st.sampled_from(["aaaaa", "bbbbb"]), st.sampled_from([1, "q-1"])
    rows = []
    for _ in range(draw(st.integers(1, 14))):
        cell = Cell(draw(studies), 1, draw(tasks))
        prediction = draw(values) if draw(every_tenth_missing) else None
        distribution = draw(distributions) if not no_distribution or draw(every_tenth_missing) else None
        rows.append(ScoredRow(cell, draw(values), prediction, distribution))
    return rows


@fast
@given(made_up_rows() | made_up_rows(no_distribution=True))
def test_agrees_with_the_second_implementation(rows):
    expected = oracle(rows)
    if expected is None:
        with pytest.raises(SocratesError, match="can be scored"):
            score(rows)
        return
    metrics = score(rows).metrics
    for name, value in expected.items():
        found = getattr(metrics, name)
        assert (found is None) == (value is None), name
        assert found is None or abs(found - float(value)) <= TOLERANCE, name


@fast
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=20))
def test_correlation_agrees_with_the_second_implementation(pairs):
    xs, ys = zip((0, 50), (100, 50), *pairs, strict=True)
    found, expected = score(rows_of(xs, ys)).metrics.correlation, exact_correlation(xs, ys)
    assert found == expected if expected is None else found == pytest.approx(expected, abs=TOLERANCE)


def test_correlation_is_over_the_standardised_rows_of_all_cells():
    rows = [*rows_of([1, 5, 2], [2, 9, None]), *rows_of([0, 100], [25, 50], Cell("b", 0, 0))]
    expected = exact_correlation([0, 1, 0, 1], [0.25, 1, 0.25, 0.5])
    assert score(rows).metrics.correlation == pytest.approx(expected, abs=TOLERANCE)


@fast
@given(st.lists(scale_points, min_size=2, max_size=20), st.data())
def test_adding_a_thousand_gives_the_largest_distance_and_not_zero(responses, data):
    assume(len(set(responses)) > 1)
    predictions = data.draw(st.lists(scale_points, min_size=len(responses), max_size=len(responses)))
    low, high = min(responses), max(responses)
    above = distance(responses, [p + 1000 for p in predictions])
    below = distance(responses, [p - 1000 for p in predictions])
    mean = average([Fraction(r - low, high - low) for r in responses])
    assert above == pytest.approx(float(1 - mean), abs=TOLERANCE) and above > 0
    assert below == pytest.approx(float(mean), abs=TOLERANCE)
    # No predictions are further from these humans than all at one end or all at the other.
    assert distance(responses, predictions) <= max(above, below) + TOLERANCE


def test_row_order_changes_no_digit_of_long_sums():
    rng = np.random.default_rng(0)
    rows = [
        ScoredRow(
            Cell("s", 0, task), *rng.normal(size=2).tolist(), Distribution((1, 2, 3), tuple(rng.dirichlet([1] * 3)))
        )
        for task in rng.integers(0, 5, 3000).tolist()
    ]
    assert score(rows[::-1]) == score(rows)


def test_predictions_outside_and_answers_far_from_the_scale_are_counted():
    stated = [ScoredRow(CELL, *row, None, (1, 2, 3, 97)) for row in ((1, 2e99), (3, -1), (97, 3), (2, 97), (97, 2))]
    open_amount = rows_of([10, 20, 30], [5, 20, 31], Cell("aaaaa", 1, 2))
    coverage = score([*stated, *open_amount]).coverage
    assert (coverage.predictions_outside, coverage.far_answers) == (2 + 2, {"97": 2})


def test_cells_that_cannot_be_scored_are_counted_by_reason():
    rows = [
        *rows_of([1, 2], [1, 2], Cell("a", 0, 1)),
        *rows_of([3], [3], Cell("a", 0, 2)),
        *rows_of([3], [None], Cell("a", 0, 3)),  # one answer and no prediction: one answer
        *rows_of([4, 4, 4], [1, 2, 3], Cell("a", 0, 4)),
        *rows_of([1, 5], [None, None], Cell("b", 0, 1)),
    ]
    result = score(rows)
    coverage = result.coverage
    assert coverage.skipped == {ONE_ANSWER: 2, NO_SPREAD: 1, NO_PREDICTION: 1}
    assert (coverage.rows, coverage.rows_predicted, coverage.rows_scored) == (9, 6, 2)
    assert (coverage.cells, coverage.cells_scored) == (5, 1)
    assert (coverage.studies, coverage.studies_scored) == (2, 1)
    assert [cell.skipped for cell in result.cells] == [None, ONE_ANSWER, ONE_ANSWER, NO_SPREAD, NO_PREDICTION]
    assert all(cell.wasserstein_distance is None for cell in result.cells[1:])


def test_nothing_to_score_says_why():
    with pytest.raises(SocratesError, match="no rows"):
        score([])
    with pytest.raises(SocratesError, match=r"none of the 1 cells.*1 with fewer than two human answers"):
        score(rows_of([3], [3]))


def test_huge_answers_and_predictions():
    """A 100-digit generation once made an MAE of 2e97."""
    assert score(rows_of([1, 5], [2e97, -(10**100)])).metrics.mae == 1
    assert distance([0, 1e97], [0, 5e96]) == pytest.approx(0.25)


def test_correlation_is_none_where_it_is_not_defined():
    assert score(rows_of([1, 5], [3, 3])).metrics.correlation is None  # predictions do not vary
    assert score(rows_of([1, 5, 3], [None, None, 2])).metrics.correlation is None  # a single row
    assert score(rows_of([1, 5, 3], [1, 5, 3])).metrics.correlation == pytest.approx(1)
    assert score(rows_of([1, 5], [5, 1])).metrics.correlation == pytest.approx(-1)
    # 0.3 of the range, but not to the last digit: this does not vary either.
    assert score(rows_of([0, 1], [0.1 + 0.2, 0.3])).metrics.correlation is None


def test_cells_with_numbers_and_texts_as_tasks_are_sorted_together():
    cells = [Cell("a", 1, "q-1"), Cell("a", 1, 10), Cell("a", 1, 9), Cell("a", 0, 1)]
    result = score([row for cell in cells for row in rows_of([1, 2], [1, 2], cell)])
    assert [cell.cell for cell in result.cells] == cells[::-1]
