"""The simulation of the gate's error rates: its closed forms, its way of drawing, and a small run."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_answers import make_sample_data

from socrates.data.records import Cell
from socrates.evaluation.cells import Distribution, ScoredRow
from socrates.evaluation.metrics import score

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


def test_a_simulated_distance_is_that_of_the_metric(truth, monkeypatch):
    """The same persons as rows with their distributions: what `score` gives is what the simulation computed."""
    from gate_simulation import Way, person_by_person, simulate

    cells = truth.cells
    monkeypatch.setattr("gate_simulation.choose_rows", lambda sizes, *_: dict.fromkeys(sizes, 2))
    found, _, asked = simulate(truth, Way(None, 2), [], seed=5, resamples=0)
    assert asked == len(cells.study)
    rng = np.random.default_rng([5, 1])
    z, luck = rng.standard_normal((asked, 2)), rng.random((asked, 2))
    places = np.append(cells.points, np.ones((asked, 1)), axis=1)
    people = person_by_person(truth.base, z[:, None])
    rows, given = [], {}
    for index, (study, n) in enumerate(zip(cells.study, cells.people, strict=True)):
        cell = Cell(f"s{study:02}", index, 0)
        counts = np.rint(np.diff(cells.human[index], prepend=0, append=1) * n).astype(int)
        human = np.repeat(places[index], counts).tolist()
        given[cell] = dict(Counter(human))
        for person in range(2):
            below = np.append(people[index, :, person], 1.0)
            below[np.append(cells.points[index], 1.0) >= 1] = 1.0  # what a short scale leaves over
            answer = float(places[index][(below <= luck[index, person]).sum()])
            of = Distribution(tuple(places[index].tolist()), tuple(np.diff(below, prepend=0).tolist()))
            rows.append(ScoredRow(cell, human[-person], answer, of))
    metrics = score(rows, given).metrics
    assert metrics.wasserstein_drawn == pytest.approx(found[0, 0], abs=1e-9)
    assert metrics.wasserstein_distance == pytest.approx(found[2, 0], abs=1e-9)


def test_the_probabilities_tell_more_than_draws(truth):
    from gate_simulation import Differences, Way, outcomes

    kind, way = Differences("large", 0.2, 0.4), Way(400, 4)
    found = outcomes([truth], [way], [kind], (10,), 60, seed=2, resamples=0)
    drawn, full, jackknifed = (found[name, way, "large", 10] for name in ("drawn", "full", "jackknifed"))
    assert drawn.bias < -1 and abs(jackknifed.bias) < abs(full.bias) + 0.5 < abs(drawn.bias)
    assert jackknifed.rmse < drawn.rmse and drawn.checkpoint_error.mean() > jackknifed.checkpoint_error.mean()


def test_a_small_run_writes_its_tables(tmp_path, capsys):
    from bench_gate import main

    make_sample_data(tmp_path / "data")
    sizes = ["--rows", "2000", "--simulations", "2", "--sets", "1", "--draws", "500"]
    data = ["--data", str(tmp_path / "data" / "train.jsonl")]
    assert main([*data, *sizes, "--output", str(tmp_path / "gate.md")]) in (0, 1)
    text = (tmp_path / "gate.md").read_text()
    assert capsys.readouterr().out == text
    assert "nan" not in text and "| 10,000 | jackknifed |" in text and "| 40 | large |" in text
