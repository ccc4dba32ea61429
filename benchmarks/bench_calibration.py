#!/usr/bin/env python3
r"""How often the gate says "width, not learning", and how well a temperature is found again: simulated, no model.

    OMP_NUM_THREADS=1 venv/bin/python benchmarks/bench_calibration.py

Exit status: 0 it is said in over 95% of cases of mere width and in under 5% of cases of a true improvement of 10%, and
every known temperature is found within 5% in 9 of 10; 1 it is not so.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from socrates.data.records import Cell
from socrates.data.scales import Scale
from socrates.errors import EXIT_DONE, EXIT_NO, run_entry_point
from socrates.evaluation import calibration
from socrates.evaluation.calibration import calibrated_numbers, fit_temperatures
from socrates.evaluation.gate import check_comparable, decide
from socrates.evaluation.lines import scored_row
from socrates.evaluation.metrics import METRIC_VERSION, score
from socrates.evaluation.sampling import sample_predictions

STUDIES, CELLS, ASKED, PEOPLE = 20, 12, 21, 120  # 5,040 rows
TOPS = (5, 7, 4, 11, 101)  # answers of a study's scale
NARROW, WIDE = 0.5, 0.8  # temperatures at which the baseline and the wider checkpoint say the same
ERROR, IMPROVED = 1.0, 0.84  # of the model's picture of a cell, in people's own spread; the second is 10% better in W
SENTENCE = "width, not learning"
calibration.intervals = lambda *_: [None]  # what takes most of the time, and is not looked at


class World:
    """Cells with people: logits over the answers, partly the cell's, partly each person's."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Draw the cells, their people's answers, and a model's picture of each cell."""
        self.cells, self.humans, self.people, self.errors, self.answers = [], [], [], [], []
        for study in range(STUDIES):
            x = np.linspace(0, 1, TOPS[study % len(TOPS)])
            bias = rng.normal(0, 0.7) * (x - 0.5) * 4
            for task in range(CELLS):
                human = -(((x - rng.uniform(0.2, 0.8)) / rng.uniform(0.2, 0.45)) ** 2) + rng.normal(0, 0.3, len(x))
                own = rng.normal(0, 1, (PEOPLE, 1)) * (x - 0.5) * 2
                self.cells.append(Cell(f"s{study:02}", 0, task))
                self.humans.append(human)
                self.people.append(own)
                self.errors.append(bias + rng.normal(0, 0.7) * (x - 0.5) * 4 + rng.normal(0, 0.4, len(x)))
                self.answers.append([rng.choice(len(x), p=softmax(one)) + 1 for one in human + own])

    def lines(self, temperature: float, error: float) -> list[dict]:
        """What a model says of the first people of each cell; its logits spread as people's, whatever its error."""
        lines = []
        parts = zip(self.cells, self.humans, self.people, self.errors, self.answers, strict=True)
        for cell, human, people, wrong, answers in parts:
            said = human + error * wrong
            said = (said - said.mean()) * human.std() / said.std()
            scale = str(Scale(tuple(range(1, len(human) + 1))))
            for person in range(ASKED):
                p = softmax((said + people[person]) / temperature).tolist()
                line = {**cell._asdict(), "participant": person, "sample_id": None, "response": float(answers[person])}
                whole = {str(i + 1): one for i, one in enumerate(p)}
                lines.append(
                    line
                    | {"scale": scale, "prediction": None, "predicted_distribution": whole, "probabilities": p}
                    | {"valid_mass": 1.0, "demographic": {}}
                )
        return sample_predictions(lines, 0)

    def metrics(self, temperature: float, error: float) -> dict:
        """What the gate reads of such a model's `metrics.json`."""
        lines = self.lines(temperature, error)
        counts = {cell: counted(answers) for cell, answers in zip(self.cells, self.answers, strict=True)}
        scores = score(map(scored_row, lines), counts)
        numbers = ("mae", "rmse", "correlation", "correlation_within_cells", "accuracy", "valid_mass")
        same = dict.fromkeys(("data_sha256", "rows_sha256", "prompt_fingerprint", "decoding"), "simulated")
        return {
            **dict.fromkeys(numbers),
            **calibrated_numbers(lines, scores.scored, 0),
            "wasserstein_distance": getattr(scores.metrics, calibration.DISTANCE),
            "bounds": {"uniform_guess": 1.0, "empirical_best": 0.0},
            "coverage": {"rows_scored": len(lines), "cells_scored": len(scores.scored)},
            "comparability": {**same, "seed": 0, "metric_version": METRIC_VERSION},
        }


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits."""
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def counted(answers: list[int]) -> dict[float, int]:
    """How often each answer was given."""
    return {float(value): int(n) for value, n in zip(*np.unique(answers, return_counts=True), strict=True)}


def simulate(simulation: int) -> list[tuple[float, float, bool]]:
    """Of both checkpoints the improvements in percent, plain and calibrated, and whether the sentence was said."""
    world = World(np.random.default_rng(simulation))
    baseline, rows = world.metrics(NARROW, ERROR), []
    for temperature, error in ((WIDE, ERROR), (NARROW, IMPROVED)):
        found = world.metrics(temperature, error)
        decision = decide(*check_comparable(baseline, found, ("baseline", "checkpoint")))
        plain, calibrated = (
            100 * (1 - found[name] / baseline[name]) for name in ("wasserstein_distance", "wasserstein_calibrated")
        )
        rows.append((plain, calibrated, any(SENTENCE in note for note in decision.notes)))
    return rows


def main() -> int:
    """Simulate, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=200)
    arguments = parser.parse_args()
    good = True
    print("A model of logits at temperature 1 / T of people's: the temperature that is fitted")
    for temperature in (0.5, 0.7, 1.0, 1.5, 2.0, 3.0):
        found = np.array(
            [fit_temperatures(World(np.random.default_rng(i)).lines(1 / temperature, 0.0))[0] for i in range(10)]
        )
        good &= bool((np.abs(found / temperature - 1) < 0.05).mean() >= 0.9)
        print(f"  {temperature}: {found.mean():.3f}, {found.min():.3f} to {found.max():.3f}")
    with ProcessPoolExecutor(2) as pool:
        both = np.array(list(pool.map(simulate, range(arguments.simulations))), dtype=float)
    for kind, (plain, calibrated, said) in zip(("wider", "better"), both.transpose(1, 2, 0), strict=True):
        print(
            f"{kind}: {len(said)} simulations, improvement {plain.mean():.1f}% (sd {plain.std():.1f}), calibrated "
            f'{calibrated.mean():.1f}% (sd {calibrated.std():.1f}), "{SENTENCE}" in {said.mean():.1%}'
        )
        good &= bool(said.mean() > 0.95 if kind == "wider" else said.mean() < 0.05)
    return EXIT_DONE if good else EXIT_NO


if __name__ == "__main__":
    run_entry_point(main)
