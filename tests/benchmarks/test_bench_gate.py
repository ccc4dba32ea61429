"""The simulation of the gate's error rates: its closed forms, its way of drawing, and a small run."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from socrates.data.records import Cell
from socrates.evaluation.metrics import ScoredRow, score
from socrates.rehearsal.rehearsal import make_sample_data

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))


def made_up_question(rng):
    """A scale of 5 or 11 points, answered under three conditions."""
    from gate_studies import Question

    points = np.linspace(0, 1, int(rng.choice([5, 11])))
    return Question(points, rng.dirichlet(1 + 5 * rng.random(len(points)), size=3), 80 * rng.lognormal(0, 0.3, 3))


@pytest.fixture(scope="module")
def truth():
    """12 made-up studies with an untrained model."""
    from gate_simulation import Truth, untrained
    from gate_studies import draw_cells

    rng = np.random.default_rng(3)
    cells = draw_cells([[made_up_question(rng) for _ in range(4)] for _ in range(30)], 12, 4000, rng)
    return Truth.of(cells, untrained(cells, rng))


def test_a_simulated_distance_is_that_of_the_metric(truth):
    """The answers that the shares stand for, as rows: what `score` gives for them is what the simulation computed."""
    from gate_simulation import Luck, Way, simulate

    cells = truth.cells
    found, _, asked = simulate(truth, Way(None, None), [], seed=5, resamples=0)
    assert asked == len(cells.study)
    predicted = Luck(cells.people, np.random.default_rng([5, 1])).predicted(truth.base)
    places = np.append(cells.points, np.ones((asked, 1)), axis=1)
    rows = []
    for index, (study, people) in enumerate(zip(cells.study, cells.people, strict=True)):
        human, model = (
            np.repeat(places[index], np.rint(np.diff(shares[index], prepend=0, append=1) * people).astype(int))
            for shares in (cells.human, predicted)
        )
        cell = Cell(f"s{study}", index, 0)
        rows += [ScoredRow(cell, float(a), float(b)) for a, b in zip(human, model, strict=True)]
    assert score(rows).metrics.wasserstein_distance == pytest.approx(found[0], abs=1e-12)


def test_asking_everyone_gives_the_true_improvement_and_a_few_rows_a_smaller_one(truth):
    from gate_simulation import Differences, Way, outcomes

    everyone, few = Way(None, None), Way(400, 4)
    kind = Differences("large", 0.2, 0.4)
    found = outcomes([truth], [everyone, few], [kind], (0, 10), 200, seed=2, resamples=0)
    for value in (0, 10):
        exact = found[everyone, "large", value]
        for error in (exact.baseline_error, exact.checkpoint_error):
            assert abs(error.mean()) < 4 * error.std() / np.sqrt(200)
        assert abs(exact.bias) < 4 * exact.sd / np.sqrt(200) + 0.02  # a ratio of means has a small bias of its own
    assert found[few, "large", 10].bias < -1 and found[few, "large", 10].sd > found[everyone, "large", 10].sd


def test_a_small_run_writes_its_tables(tmp_path, capsys):
    from bench_gate import main

    make_sample_data(tmp_path / "data")
    sizes = ["--studies", "5", "--rows", "2000", "--simulations", "2", "--sets", "1"]
    data = ["--data", str(tmp_path / "data" / "train.jsonl")]
    assert main([*data, *sizes, "--output", str(tmp_path / "gate.md")]) in (0, 1)
    text = (tmp_path / "gate.md").read_text()
    assert capsys.readouterr().out == text
    assert "nan" not in text and "| 10,000 | all |" in text and "| everyone | all |" in text
