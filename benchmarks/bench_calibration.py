#!/usr/bin/env python3
r"""How often the gate says "width, not learning", and how well a temperature is found again: simulated, no model.

    OMP_NUM_THREADS=1 venv/bin/python benchmarks/bench_calibration.py --output benchmarks/results/bench_calibration.md

Exit status: 0 it is said in over 95% of cases of mere width and in under 5% of cases of a true improvement of 10%, and
every known temperature is found within 5% in 9 of 10 data sets; 1 it is not so.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import frame
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
TEMPERATURES, DATA_SETS, CLOSE = (0.5, 0.7, 1.0, 1.5, 2.0, 3.0), 20, 0.05
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
            "wasserstein_distance": scores.metrics.wasserstein_distance,
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


def temperature_found(temperature: float, seed: int, data_set: int) -> float:
    """The fitted temperature of a model with people's logits at temperature 1 / ``temperature``."""
    return fit_temperatures(World(np.random.default_rng([seed, data_set])).lines(1 / temperature, 0.0))[0]


def simulate(seed: int, simulation: int) -> list[tuple[float, float, bool]]:
    """Of both checkpoints the improvements in percent, plain and calibrated, and whether the sentence was said."""
    world = World(np.random.default_rng([seed, simulation]))
    baseline, rows = world.metrics(NARROW, ERROR), []
    for temperature, error in ((WIDE, ERROR), (NARROW, IMPROVED)):
        found = world.metrics(temperature, error)
        decision = decide(*check_comparable(baseline, found, ("baseline", "checkpoint")))
        plain, calibrated = (
            100 * (1 - found[name] / baseline[name]) for name in ("wasserstein_distance", "wasserstein_calibrated")
        )
        rows.append((plain, calibrated, any(SENTENCE in note for note in decision.notes)))
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate, print and judge."""
    parser = frame.arguments(__doc__)
    frame.add_count(parser, "--simulations", 200, "of baseline and checkpoints")
    frame.add_count(parser, "--processes", 2, "at once")
    a = parser.parse_args(argv)
    with ProcessPoolExecutor(a.processes) as pool:
        found = np.array(
            [list(pool.map(partial(temperature_found, one, a.seed), range(DATA_SETS))) for one in TEMPERATURES]
        )
        both = []
        for pair in pool.map(partial(simulate, a.seed), range(a.simulations)):
            both.append(pair)
            print(f"{len(both)} of {a.simulations}", file=sys.stderr, flush=True)
    both = np.array(both, dtype=float)  # (simulations, wider and better, what simulate returns)
    close = (np.abs(found / np.array(TEMPERATURES)[:, None] - 1) < CLOSE).mean(axis=1)
    said = both[:, :, 2].mean(axis=0)  # of the wider and of the better checkpoint
    frame.publish(report(found, close, both), a.output)
    return EXIT_DONE if close.min() >= 0.9 and said[0] > 0.95 and said[1] < 0.05 else EXIT_NO


def report(found: np.ndarray, close: Sequence[float], both: np.ndarray) -> str:
    """Both tables."""
    fitted = [
        [f"{one:g}", f"{row.mean():.3f}", f"{row.min():.3f} to {row.max():.3f}", f"{share:.0%}"]
        for one, row, share in zip(TEMPERATURES, found, close, strict=True)
    ]
    lines = []
    for name, columns in zip(("only wider", "truly better"), both.transpose(1, 2, 0), strict=True):
        improvements = [f"{column.mean():.1f} ({column.std():.1f})" for column in columns[:2]]
        lines.append([name, *improvements, f"**{columns[2].mean():.1%}**"])
    return f"""\
# Calibration: is learning told apart from widening?

Made by `benchmarks/bench_calibration.py` on {frame.machine(None, ("numpy", "scipy"))}. Made-up people and models: \
{STUDIES} studies of {CELLS} cells, scales of {", ".join(map(str, sorted(TOPS)))} answers, {PEOPLE} people a cell, of \
whom {ASKED} are asked ({STUDIES * CELLS * ASKED:,} rows). Each person has logits of their own around the cell's.

## A known temperature

A model with people's logits at another temperature, and the temperature that is fitted to make its answers people's \
again. The same {found.shape[1]} data sets for each. Required: within {CLOSE:.0%} in 9 of 10.

{frame.table(("true", "fitted, mean", "least to greatest", f"within {CLOSE:.0%}"), fitted, left=0)}
## Wider, or better

{len(both)} simulations of a baseline that is too narrow (temperature {NARROW:g}) and has errors of its own in each \
cell, and of two checkpoints: *only wider* is the baseline at temperature {WIDE:g}; *truly better* is as narrow as the \
baseline, with errors {1 - IMPROVED:.0%} smaller. Improvements in percent, mean (standard deviation), and how often \
the gate says "most of this is {SENTENCE}". Required: over 95% of the first, under 5% of the second. \
A temperature undoes what a temperature did, so the first is the plain case; other ways of getting wider, and the \
paper's decoding, are not simulated.

{frame.table(("checkpoint", "improvement of W", "calibrated", "said"), lines)}"""


if __name__ == "__main__":
    run_entry_point(main)
