"""What the benchmarks of intervals, effects and definitions compute, against enumeration and by hand."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from socrates.data.records import Answer, Cell
from socrates.evaluation.cells import ScoredRow
from socrates.evaluation.metrics import score

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from bench_intervals import expected, pair
from interval_designs import DESIGNS, answers, distances_of
from show_definitions import Row, own_range_distance


def test_the_distances_of_the_simulation_are_those_of_the_metric():
    size = np.array([2, 3, 5, 8, 20])
    human, model, _ = answers(DESIGNS[0], np.zeros(len(size), dtype=np.int64), size, np.random.default_rng(3))
    rows = [
        ScoredRow(Cell("s", 0, cell), float(response), float(prediction))
        for cell in range(len(size))
        for response, prediction in zip(
            *(np.repeat(np.arange(len(side[cell])), side[cell]) for side in (human, model)), strict=True
        )
    ]
    theirs = [np.nan if cell.skipped else cell.wasserstein_distance for cell in score(rows).cells]
    np.testing.assert_allclose(distances_of(human, model)[0], theirs, rtol=0, atol=1e-12)
    human, model = np.array([[0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0]]), np.array([[3, 0, 1, 0, 0, 2, 0, 0, 0, 0, 0]])
    clipped = wasserstein_distance([0, 0, 1], [0, 0, 0, 0.5, 1, 1])  # range 1 to 3
    assert distances_of(human, model)[0] == pytest.approx([clipped])
    assert np.isnan(distances_of(human * 0 + np.eye(11, dtype=int)[4], model)[0])  # one answer has no range


def test_the_exact_expectation_is_that_over_all_samples():
    human, model = pair(0.15)
    points = np.arange(7) / 6
    total = 0.0
    for people in itertools.product(range(7), repeat=2):
        for models in itertools.product(range(7), repeat=2):
            probability = np.prod(human[list(people)]) * np.prod(model[list(models)])
            total += probability * wasserstein_distance(points[list(people)], points[list(models)])
    assert expected(human, model, 2, 2) == pytest.approx(total, rel=1e-9)
    shares = wasserstein_distance(points, points, human[:7], model[:7])
    assert shares == pytest.approx(0.15) and expected(human, model, None, 4000) == pytest.approx(shares, abs=1e-4)


def test_own_ranges_call_a_thousand_too_high_perfect():
    def row(condition, task, response):
        cell = Cell("s", condition, task)
        return Row(Answer("p", "s", response, cell, None, None, 1), None, 1, 7, np.array([response]))

    rows = [row(0, 1, 2), row(0, 2, 70), row(0, 1, 4), row(1, 1, 3), row(1, 1, 5), row(2, 1, 1)]
    responses = [each.answer.response for each in rows]
    assert own_range_distance(rows, [value + 1000 for value in responses]) == 0.0
    opposite = [8 - value for value in responses]  # of a group of two it is the same two numbers
    expected_distance = wasserstein_distance([0, 1, 2 / 68], [1, 0, 66 / 68]) / 2
    assert own_range_distance(rows, opposite) == pytest.approx(expected_distance)


def test_a_small_run_writes_its_tables(tmp_path, capsys, monkeypatch):
    import bench_intervals

    monkeypatch.setattr(bench_intervals, "_TRUE_STUDIES", 200)
    bench_intervals.main(["--data-sets", "2", "--resamples", "40", "--output", str(tmp_path / "intervals.md")])
    text = (tmp_path / "intervals.md").read_text()
    assert capsys.readouterr().out == text and "nan" not in text
    assert len([line for line in text.splitlines() if line.startswith(DESIGNS[3].name, 2)]) == 2


@pytest.mark.slow
def test_a_small_run_of_the_effects_writes_its_tables(tmp_path):
    import bench_effects

    bench_effects.main(["--data-sets", "2", "--output", str(tmp_path / "effects.md")])
    text = (tmp_path / "effects.md").read_text()
    assert "nan" not in text
    assert text.count("\n| 40 |") == len(bench_effects.ASSUMPTIONS) + len(bench_effects.NOTHING)
