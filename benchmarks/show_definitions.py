#!/usr/bin/env python3
"""What each number says of predictions that everybody can judge: a table over real rows.

    venv/bin/python benchmarks/show_definitions.py --data data/socsci210_full/val.jsonl \
        --output benchmarks/results/definitions.md

Predictions made from the human answers themselves (copied, shuffled, turned round, 1,000 too high, …) are scored by the
real scripts/score_predictions.py, through files. Beside its numbers stands the distance as a public replication defines
it: answers of one study and condition are thrown together, whatever the question, and people and model are each scaled
by their own smallest and largest answer. The table holds numbers only, no row.

Exit status: 0 done, 2 cannot.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import frame
import numpy as np
from scipy.stats import wasserstein_distance

from socrates.data.records import Answer, Cell, read_answers
from socrates.data.scales import Scale
from socrates.data.scales.text import parse_scale
from socrates.errors import EXIT_DONE, SocratesError, run_entry_point
from socrates.files import write_jsonl

_SCRIPT = frame.ROOT / "scripts" / "score_predictions.py"
_COLUMNS = {
    "wasserstein_distance": "W",
    "wasserstein_stated_scale": "W, stated scale",
    "worth_people": "worth people",
    "mae": "MAE",
    "correlation": "correlation",
    "correlation_within_cells": "within cells",
    "accuracy": "accuracy",
    "dispersion": "dispersion",
}
_OWN = ("own ranges", "own ranges, few")
_FEW = 100  # rows that the public replication evaluated: the file's first


@dataclass(frozen=True)
class Row:
    """One human answer with what a made prediction may look at: the scale, and the cell's other answers."""

    answer: Answer
    scale: Scale | None
    low: float  # of the stated scale, or where none is stated of the cell's human answers
    high: float
    cell: np.ndarray  # all its human answers


Numbers = Mapping[str, float | None]
Prediction = Callable[[Row, np.random.Generator], float]

PREDICTIONS: Mapping[str, Prediction] = {
    "the human answers themselves": lambda row, rng: row.answer.response,
    "the same, shuffled within the cell": lambda row, rng: row.answer.response,  # shuffled in `predict`
    "another person's answer, sampled with replacement": lambda row, rng: float(rng.choice(row.cell)),
    "the cell's mean": lambda row, rng: float(row.cell.mean()),
    "the middle of the scale": lambda row, rng: (row.low + row.high) / 2,
    "a uniform guess": lambda row, rng: _uniform(row, rng),
    "the opposite answer": lambda row, rng: row.low + row.high - row.answer.response,
    "the human answers plus 1,000": lambda row, rng: row.answer.response + 1000,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, score every kind of prediction, print."""
    parser = frame.arguments(__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FILE", help="rows, in either layout")
    a = parser.parse_args(argv)
    rows = read_rows(a.data)
    found = {}
    for name in PREDICTIONS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        predicted = predict(name, rows, a.seed)
        numbers, coverage = scored(rows, predicted)
        own = [own_range_distance(rows[:count], predicted[:count]) for count in (len(rows), _FEW)]
        found[name] = {**numbers, **dict(zip(_OWN, own, strict=True))}
    frame.publish(report(a, found, coverage), a.output)
    return EXIT_DONE


def read_rows(files: Sequence[Path]) -> list[Row]:
    """All rows, in order."""
    answers = [answer for file in files for answer in read_answers(file)]
    cells: defaultdict[Cell, list[int]] = defaultdict(list)
    for answer in answers:
        cells[answer.cell].append(answer.response)
    rows = []
    for answer in answers:
        cell, scale = np.array(cells[answer.cell]), parse_scale(answer.stimuli)
        low, high = (scale.values[0], scale.values[-1]) if scale else (int(cell.min()), int(cell.max()))
        rows.append(Row(answer, scale, low, high, cell))
    return rows


def predict(name: str, rows: Sequence[Row], seed: int) -> list[float]:
    """A prediction for each row."""
    rng = np.random.default_rng(seed)
    predicted = [PREDICTIONS[name](row, rng) for row in rows]
    if "shuffled" in name:
        places: defaultdict[Cell, list[int]] = defaultdict(list)
        for index, row in enumerate(rows):
            places[row.answer.cell].append(index)
        for cell in places.values():
            for index, value in zip(cell, rng.permutation([predicted[i] for i in cell]).tolist(), strict=True):
                predicted[index] = value
    return predicted


def scored(rows: Sequence[Row], predicted: Sequence[float]) -> tuple[Numbers, Mapping[str, Any]]:
    """What `scripts/score_predictions.py` finds: its numbers, bounds included, and its coverage."""
    with tempfile.TemporaryDirectory() as folder:
        file, results = Path(folder) / "answers.jsonl", Path(folder) / "results"
        write_jsonl(
            file,
            (
                {
                    **row.answer.keys(),
                    "response": row.answer.response,
                    "prediction": prediction,
                    "scale": str(row.scale) if row.scale else None,
                }
                for row, prediction in zip(rows, predicted, strict=True)
            ),
        )
        command = [sys.executable, _SCRIPT, file, "--output", results]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if done.returncode:
            raise SocratesError(f"{_SCRIPT.name}: {done.stderr.decode(errors='replace').strip()}")
        metrics = json.loads((results / "metrics.json").read_text(encoding="utf-8"))
    return {**metrics, **metrics["bounds"]}, metrics["coverage"]


def own_range_distance(rows: Sequence[Row], predicted: Sequence[float]) -> float:
    """The public replication's distance.

    It groups by study and condition, leaves out groups of one answer, scales people and model each by their own range
    (all zeros where they do not differ), and averages over groups.
    """
    groups: defaultdict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for row, prediction in zip(rows, predicted, strict=True):
        groups[row.answer.cell[:2]].append((row.answer.response, prediction))
    kept = [np.array(group, dtype=float) for group in groups.values() if len(group) > 1]
    ranges = [np.where(np.ptp(group, axis=0) > 0, np.ptp(group, axis=0), 1.0) for group in kept]
    distances = [
        wasserstein_distance(*((group - group.min(axis=0)) / width).T)
        for group, width in zip(kept, ranges, strict=True)
    ]
    return float(np.mean(distances))


def _uniform(row: Row, rng: np.random.Generator) -> float:
    return float(rng.choice(row.scale.values) if row.scale else rng.integers(row.low, row.high + 1))


def report(a: argparse.Namespace, found: Mapping[str, Numbers], coverage: Mapping[str, Any]) -> str:
    """The table, and what its columns are."""
    people = found["the human answers themselves"]
    head = ("prediction", *_COLUMNS.values(), "own ranges", f"own ranges, {_FEW} rows")
    rows = [
        (name, *("n/a" if numbers[key] is None else f"{numbers[key]:.3f}" for key in (*_COLUMNS, *_OWN)))
        for name, numbers in found.items()
    ]
    return f"""\
# What each number says of predictions that everybody can judge

Made by `benchmarks/show_definitions.py` from real rows ({", ".join(file.name for file in a.data)} of a 1% sample): \
{coverage["rows_scored"]:,} of {coverage["rows"]:,} rows in {coverage["cells_scored"]} of {coverage["cells"]} cells of \
{coverage["studies_scored"]} studies, scored by `scripts/score_predictions.py`. On these cells, which hold few people, \
the expected W of a uniform guess is {people["uniform_guess"]:.3f}, the empirical best \
{people["empirical_best"]:.3f}, and the accuracy of answering the mean of the cell's other people \
{people["marginal_accuracy"]:.3f} (less than that of the cell's mean below, which a person's own answer is part of).

{frame.table(head, rows)}
W: the paper's distance, in shares of the range of the cell's human answers; predictions beyond it count as its ends. \
Worth people: how many of a cell's own people, drawn at random, come as near (10,000: or more). Within cells: the \
correlation after each cell's mean is removed. n/a: not defined, as one side does not vary.

*Own ranges*: the definition behind a published 0.0811 (`TRAINING_AUDIT.md`). Answers of a study and condition are \
thrown together, whatever the question, and people and model are each scaled by their own smallest and largest \
answer. It cannot see where a model's answers lie, nor how spread out they are: 1,000 too high is perfect. Two answers \
that differ are 0 and 1 after such scaling, so that in a group of two the distance is 0 if only the model, too, says \
two different things.
"""


if __name__ == "__main__":
    run_entry_point(main)
