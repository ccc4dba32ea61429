"""The intervals hold the metrics."""

from __future__ import annotations

import numpy as np
import pytest

from socrates.data.records import Cell
from socrates.evaluation.cells import ScoredRow
from socrates.evaluation.intervals import mean_interval, metric_intervals
from socrates.evaluation.metrics import score


def made_up_scores():
    rng = np.random.default_rng(3)
    rows = []
    for study in range(8):
        for condition in range(int(rng.integers(1, 6))):
            for _ in range(int(rng.integers(2, 30))):
                response, prediction = rng.integers(1, 6, 2).tolist()
                scale = (1, 2, 3, 4, 5) if study % 2 else None
                rows.append(ScoredRow(Cell(f"s{study}", condition, 1), response, prediction, scale=scale))
    return score(rows, priors={"1 to 5": {"1": 0.5, "4": 0.5}})


def test_intervals_hold_their_numbers_and_follow_the_seed():
    scores = made_up_scores()
    intervals = metric_intervals(scores, seed=1)
    for name, value in {**vars(scores.metrics), **vars(scores.bounds)}.items():
        assert intervals[name].low <= value <= intervals[name].high != intervals[name].low, name
    assert metric_intervals(scores, seed=1) == intervals != metric_intervals(scores, seed=2)


def test_one_cell_has_no_interval():
    rows = [ScoredRow(Cell("a", 1, 1), answer, 2) for answer in (1, 2, 3)]
    assert set(metric_intervals(score(rows), seed=1).values()) == {None}


def test_the_interval_of_a_mean_over_rows():
    rng = np.random.default_rng(1)
    cells = [Cell(f"s{i % 30}", i % 2, 1) for i in range(3000)]
    effects = rng.normal(0, 0.1, 30)
    values = [0.5 + effects[i % 30] + rng.normal(0, 0.01) for i in range(3000)]
    low, high = mean_interval(cells, values, seed=2)
    assert low < np.mean(values) < high
    assert (high - low) / 2 == pytest.approx(2.05 * np.std(effects, ddof=1) / np.sqrt(30), rel=0.1)
    shuffled = rng.permutation(3000)
    assert mean_interval([cells[i] for i in shuffled], [values[i] for i in shuffled], seed=2) == (low, high)
    assert mean_interval([cells[0]] * 5, [0.5] * 5, seed=2) is None
