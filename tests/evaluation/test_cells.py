"""What guesses score, against enumeration of every possible draw, closed forms and simulation."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from socrates.data.records import Cell
from socrates.errors import SocratesError
from socrates.evaluation.bounds import expected_distance, uniform_answers
from socrates.evaluation.cells import NO_PREDICTION, Distribution, ScoredRow, score_cell
from socrates.evaluation.full_size import full_size_deviation
from socrates.evaluation.metrics import score

CELL = Cell("aaaaa", 1, 1)


def enumerated(human, weights, guess, probabilities, draws):
    """The expectation by listing every sequence of draws, with the distance as an area in exact fractions."""
    points = sorted({*human, *guess})
    total = Fraction(0)
    for sequence in product(range(len(guess)), repeat=draws):
        probability = math.prod(Fraction(probabilities[i], sum(probabilities)) for i in sequence)
        area = Fraction(0)
        for left, right in pairwise(points):
            at_human = Fraction(sum(w for v, w in zip(human, weights, strict=True) if v <= left), sum(weights))
            at_drawn = Fraction(sum(guess[i] <= left for i in sequence), draws)
            area += abs(at_human - at_drawn) * (right - left)
        total += probability * area
    return float(total)


some = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), min_size=1, max_size=4, unique_by=lambda pair: pair[0])


@settings(max_examples=60, deadline=None)
@given(some.map(sorted), some.map(sorted), st.integers(1, 4))
def test_the_expectation_agrees_with_listing_every_draw(human, guess, draws):
    sides = [np.array(column, dtype=float) for side in (human, guess) for column in zip(*side, strict=True)]
    listed = enumerated(*zip(*human, strict=True), *zip(*guess, strict=True), draws)
    assert expected_distance(*sides, draws) == pytest.approx(listed, abs=1e-12)


def test_closed_forms():
    # With ever more draws only the distance between the distributions is left: everybody at 0, a guess of 0 to 4.
    guess = np.arange(5) / 4, np.ones(5)
    assert expected_distance(np.array([0.0]), np.ones(1), *guess, 10**6) == pytest.approx(0.5, abs=1e-3)
    # n drawn from many: the integral of sqrt(2 / pi) sqrt(F (1 - F) / n) over a uniform F is sqrt(2 / pi n) pi / 8.
    fine = np.linspace(0, 1, 2001)
    expected = math.sqrt(2 / math.pi / 100) * math.pi / 8
    assert expected_distance(fine, np.ones(2001), fine, np.ones(2001), 100) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("scale", "low", "high", "expected"),
    [
        ((1, 2, 8), 1, 99999, [1, 2, 8]),
        (None, 2, 5, [2, 3, 4, 5]),
        (None, 0.25, 0.75, [0.25, 0.75]),
        (None, 0.5, 2.5, [1, 2]),
    ],
)
def test_a_uniform_guess_is_over_the_stated_scale_or_the_human_range(scale, low, high, expected):
    assert uniform_answers(scale, low, high).tolist() == expected


@pytest.mark.parametrize("high", [1e97, 50_000])
def test_a_scale_without_end_is_thinned_and_nothing_changes_by_it(high):
    values = uniform_answers(None, 0, high)
    assert len(values) == 10_001 and values[0] == 0 and values[-1] == high
    stated = uniform_answers(tuple(range(50_001)), 0, 1)
    assert stated[0] == 0 and stated[-1] == 50_000 and np.ptp(np.diff(stated)) <= 1


def test_bounds_of_scores_are_means_over_cells_then_studies():
    # Two people who differ: whoever is drawn anew is 1/4 away on average. A uniform guess over 1 to 3 is 5/18 away.
    pair = [ScoredRow(Cell("a", 1, 1), answer, 2, scale=(1, 2, 3)) for answer in (1, 3)]
    four = [ScoredRow(Cell("b", c, 1), answer, 1, scale=(1, 2)) for c in (1, 2) for answer in (1, 1, 2, 2)]
    bounds = score([*pair, *four]).bounds
    de_moivre = math.comb(4, 2) / 4**2 / 2
    assert bounds.empirical_best == pytest.approx((1 / 4 + de_moivre) / 2, abs=1e-12)
    listed = enumerated((0, 1, 2), (1, 0, 1), (0, 1, 2), (1, 1, 1), 2) / 2
    assert bounds.uniform_guess == pytest.approx((listed + de_moivre) / 2, abs=1e-12)
    # Of two people each is answered the other's answer; of four in pairs each 2/3 away.
    assert bounds.marginal_accuracy == pytest.approx((0 + 1 / 3) / 2, abs=1e-12)


def human_side(cell):
    return cell.n_human, cell.human_min, cell.human_max, cell.human_answers, cell.human_mean, cell.human_variance


def test_a_row_without_a_prediction_and_a_person_not_asked_change_nothing_on_the_human_side():
    people = [1, 2, 3, 99999, 2]
    everyone = {1: 1, 2: 2, 3: 1, 99999: 1}
    complete = score_cell(CELL, [ScoredRow(CELL, answer, 2) for answer in people])
    silent = score_cell(CELL, [ScoredRow(CELL, answer, None if answer > 3 else 2) for answer in people])
    not_asked = score_cell(CELL, [ScoredRow(CELL, answer, 2) for answer in people[:2]], everyone)
    assert human_side(complete) == human_side(silent) == human_side(not_asked)
    assert complete.wasserstein_distance == silent.wasserstein_distance == not_asked.wasserstein_distance
    assert (silent.n_asked, silent.n_predicted) == (5, 4) and (not_asked.n_asked, not_asked.n_predicted) == (2, 2)
    mute = score_cell(CELL, [ScoredRow(CELL, 1, None)], everyone)
    assert mute.skipped == NO_PREDICTION and mute.human_max == 99999 and mute.n_human == 5


def test_human_answers_of_other_data_are_refused():
    rows = [ScoredRow(CELL, 1, 1), ScoredRow(CELL, 1, 2)]
    with pytest.raises(SocratesError, match=r"study aaaaa, .* 2 rows have the human answer 1, .* 1 times"):
        score(rows, {CELL: {1: 1, 2: 5}})
    assert score(rows, {CELL: {1: 2, 2: 1}, Cell("elsewhere", 1, 1): {1: 1}}).coverage.cells == 1


def test_the_stated_scale_is_not_stretched_by_one_odd_answer():
    rows = [ScoredRow(CELL, answer, 5, scale=(1, 2, 3, 4, 5)) for answer in (1, 1, 1, 99999)]
    metrics = score(rows).metrics
    assert metrics.wasserstein_distance < 0.26  # in units of 99998, everybody is near 1 but one
    assert metrics.wasserstein_stated_scale == pytest.approx(3 / 4)  # 99999 counts as 5, the end of the scale
    assert score([ScoredRow(CELL, answer, 5) for answer in (1, 5)]).metrics.wasserstein_stated_scale is None
    elsewhere = [ScoredRow(CELL, answer, 99, scale=(100, 101)) for answer in (1, 2, 3)]
    assert score(elsewhere).metrics.wasserstein_stated_scale is None  # all is its lower end, and nothing is known


def test_correlation_within_cells_is_of_persons_not_of_questions():
    rng = np.random.default_rng(5)
    rows = []
    for c in range(40):  # the model knows each question's level, and nothing of persons
        level = int(rng.integers(2, 90))
        cell = Cell("a", c, 1)
        rows += [ScoredRow(cell, *(level + rng.integers(0, 9, size=2)).tolist()) for _ in range(9)]
        rows += [ScoredRow(cell, 0, level), ScoredRow(cell, 100, level)]
    metrics = score(rows).metrics
    assert metrics.correlation > 0.6
    assert abs(metrics.correlation_within_cells) < 0.1


def test_dispersion_is_of_unbiased_variances():
    people = [1, 3, 5, 7]
    assert score([ScoredRow(CELL, a, a) for a in people]).metrics.dispersion == pytest.approx(1)
    assert score([ScoredRow(CELL, a, (a + 4) / 2) for a in people]).metrics.dispersion == pytest.approx(0.5)
    assert score([ScoredRow(CELL, a, 4) for a in people]).metrics.dispersion == 0
    asked = [ScoredRow(CELL, 1, 1), ScoredRow(CELL, 7, 7)]  # of two, the unbiased variance is 18 of the others' 20/3
    assert score(asked, {CELL: dict.fromkeys(people, 1)}).metrics.dispersion == pytest.approx(math.sqrt(18 / (20 / 3)))
    alone = [ScoredRow(Cell("a", 2, 1), 1, 4), ScoredRow(Cell("a", 2, 1), 7, None)]
    assert score(alone).metrics.dispersion is None
    assert score([*alone, *(ScoredRow(CELL, a, a) for a in people)]).metrics.dispersion == pytest.approx(1)


def person_by_person(at_or_below, spread, people, rng):
    """Each person's distribution function, shape (points, people); their mean is as given, whatever the spread."""
    z = rng.standard_normal(people)
    return ndtr((ndtri(at_or_below)[:, None] - math.sqrt(spread) * z) / math.sqrt(1 - spread))


def drawn_for_everybody(people, human):
    """E|share of drawn answers - human share|, the distribution of the number built up person by person."""
    number = np.zeros((people.shape[1] + 1, len(people)))
    number[0] = 1
    for p in people.T:
        number[1:] = number[1:] * (1 - p) + number[:-1] * p
        number[0] *= 1 - p
    shares = np.arange(len(number))[:, None] / people.shape[1]
    return (number * np.abs(shares - human)).sum(axis=0)


@pytest.mark.parametrize("spread", [0, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("way", [0, 0.5, 1])
def test_everybody_asked_is_what_their_draws_give(spread, way):
    """200 cells of 5 to 500 people, at a share of the way to the human distribution."""
    rng = np.random.default_rng(1)
    found, exact = [], []
    for n in np.exp(rng.uniform(math.log(5), math.log(500), 200)).astype(int):
        population, model = (
            rng.dirichlet(np.full(rng.integers(2, 8), 2.0), 2) if way < 1 else 2 * [rng.dirichlet([2] * 5)]
        )
        human = rng.multinomial(n, population).cumsum()[:-1] / n
        people = person_by_person((way * population + (1 - way) * model).cumsum()[:-1], spread, n, rng)
        found.append(full_size_deviation(people, human, n).mean())
        exact.append(drawn_for_everybody(people, human).mean())
    assert abs(np.mean(found) - np.mean(exact)) < 0.0005
    assert spread or found == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("asked", [20, 130])
def test_those_not_asked_are_allowed_for(asked):
    """Whoever of 400 people is asked, some of them tell on average what all of them do."""
    rng = np.random.default_rng(2)
    people = person_by_person(np.array([0.2, 0.4, 0.7]), 0.3, 400, rng)
    human = np.array([0.25, 0.4, 0.6])
    chosen = np.stack([people[:, rng.permutation(400)[:asked]] for _ in range(4000)])
    everyone = full_size_deviation(people, human, 400).mean()
    jackknifed, plain = (full_size_deviation(chosen, human, np.full((1, 1), 400), jackknifed=j).mean() for j in (1, 0))
    assert abs(jackknifed - everyone) < 0.2 * (plain - everyone) and plain - everyone > 0.1 / asked


def test_a_cell_with_distributions_is_scored_as_if_everybody_had_been_asked():
    alike = Distribution((3, 1, 2), (2, 1, 1))  # in any order, of any sum
    everyone, asked = {1: 4, 2: 3, 3: 3}, [(1, 3), (2, 1), (3, 3)]
    scale = (0, 1, 2, 3)
    cell = score_cell(CELL, [ScoredRow(CELL, *pair, alike, scale) for pair in asked], everyone)
    human = np.array([0, 0.5, 1]), np.array([4, 3, 3])
    guess = human[0], np.array([1, 1, 2])
    assert cell.wasserstein_distance == pytest.approx(expected_distance(*human, *guess, 10), abs=1e-12)
    assert cell.wasserstein_stated_scale == pytest.approx(cell.wasserstein_distance * 2 / 3, abs=1e-12)
    assert cell.wasserstein_drawn == pytest.approx((abs(0.4 - 1 / 3) + abs(0.7 - 1 / 3)) / 2, abs=1e-12)
    drawn = [ScoredRow(CELL, *pair, alike if pair[0] > 1 else None, scale) for pair in asked]
    result = score(
        [*drawn, *(ScoredRow(Cell("b", 1, 1), *pair, alike) for pair in asked)],
        {CELL: everyone, Cell("b", 1, 1): everyone},
    )
    first, second = result.cells
    assert first.wasserstein_distance == first.wasserstein_drawn == cell.wasserstein_drawn
    assert first.empirical_best == expected_distance(*human, *human, 3)
    assert second.empirical_best == expected_distance(*human, *human, 10)
    assert second.wasserstein_distance == cell.wasserstein_distance and result.coverage.cells_drawn == 1
