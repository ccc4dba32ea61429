#!/usr/bin/env python3
"""What each number says of predictions that everybody can judge: a table over real rows.

    venv/bin/python benchmarks/show_definitions.py --data data/socsci210_full/val.jsonl \
        --output benchmarks/results/definitions.md

Predictions made from the human answers themselves (copied, shuffled, turned round, 1,000 too high, …) are scored by the
real scripts/score_predictions.py, through files. Beside its numbers stands the distance as a public replication defines
it: answers of one study and condition are thrown together, whatever the question, and people and model are each scaled
by their own smallest and largest answer. The table holds numbers only, no row.

Exit status: 0 every number is where it must be, 1 one is not (it is named), 2 cannot.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import wasserstein_distance

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from socrates.data.records import Answer, Cell, read_answers
from socrates.data.scales import Scale
from socrates.data.scales.text import parse_scale
from socrates.errors import EXIT_DONE, EXIT_NO, SocratesError, run_entry_point
from socrates.files import atomic_write, write_jsonl

_SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "score_predictions.py"
_COLUMNS = {
    "wasserstein_distance": "W",
    "wasserstein_stated_scale": "W, stated scale",
    "share_of_the_way": "share of the way",
    "mae": "MAE",
    "correlation": "correlation",
    "correlation_within_cells": "within cells",
    "accuracy": "accuracy",
    "dispersion": "dispersion",
}
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FILE", help="rows, in either layout")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table there too (Markdown)")
    a = parser.parse_args(argv)
    rows = read_rows(a.data)
    found = {}
    for name in PREDICTIONS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        predicted = predict(name, rows, a.seed)
        numbers, coverage = scored(rows, predicted)
        few = slice(0, _FEW)
        own = (own_range_distance(rows, predicted), own_range_distance(rows[few], predicted[few]))
        found[name] = {**numbers, "own ranges": own[0][0], "own ranges, few": own[1][0]}
    text = "\n".join(_report(a, found, coverage, own[0][1:], own[1][1:])) + "\n"
    print(text, end="")
    if a.output:
        with atomic_write(a.output) as file:
            file.write(text)
    wrong = [what for what, right in expectations(found).items() if not right]
    for what in wrong:
        print(f"NOT SO: {what}", file=sys.stderr)
    return EXIT_NO if wrong else EXIT_DONE


def read_rows(files: Sequence[Path]) -> list[Row]:
    """All rows, in order."""
    answers = [answer for file in files for answer in read_answers(file)]
    cells: defaultdict[Cell, list[int]] = defaultdict(list)
    for answer in answers:
        cells[answer.cell].append(answer.response)
    rows = []
    for answer in answers:
        cell, scale = np.array(cells[answer.cell]), parse_scale(answer.stimuli)
        low, high = (scale.low, scale.high) if scale else (int(cell.min()), int(cell.max()))
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


def own_range_distance(rows: Sequence[Row], predicted: Sequence[float]) -> tuple[float, int, int, int]:
    """The public replication's distance; then its groups, those of them that hold two answers, and those left out.

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
    return float(np.mean(distances)), len(kept), sum(len(group) == 2 for group in kept), len(groups) - len(kept)


def expectations(found: Mapping[str, Numbers]) -> dict[str, bool]:
    """What must be so, and whether it is."""
    same, shuffled, drawn, mean, middle, uniform, opposite, far = found.values()
    people = found["the human answers themselves"]

    def near(numbers: Numbers, name: str, value: float | None, tolerance: float = 1e-9) -> bool:
        if value is None or numbers[name] is None:
            return numbers[name] is value
        return abs(numbers[name] - value) <= tolerance

    return {
        "copied answers have no distance and no error, and correlate by 1": all(
            near(same, *what)
            for what in (
                *(("wasserstein_distance", 0.0), ("wasserstein_stated_scale", 0.0), ("mae", 0.0)),
                *(("correlation", 1.0), ("correlation_within_cells", 1.0), ("accuracy", 1.0), ("dispersion", 1.0)),
            )
        ),
        "shuffling within cells keeps the distance at 0 and takes the correlation within cells away": near(
            shuffled, "wasserstein_distance", 0.0
        )
        and near(shuffled, "correlation_within_cells", 0.0, 0.15),
        "answers of other people score the empirical best": near(
            drawn, "wasserstein_distance", people["empirical_best"], 0.02
        ),
        "uniform guesses score the uniform guess": near(uniform, "wasserstein_distance", people["uniform_guess"], 0.02),
        "a constant has no dispersion and no correlation within cells": all(
            near(constant, "dispersion", 0.0) and near(constant, "correlation_within_cells", None)
            for constant in (mean, middle)
        ),
        "the opposite answer is worse than a uniform guess for persons": opposite["mae"] > uniform["mae"]
        and opposite["correlation_within_cells"] < -0.8,
        "1,000 too high is the worst of all": all(
            far["wasserstein_distance"] > other["wasserstein_distance"] for other in found.values() if other is not far
        ),
        "scaled by their own ranges, answers 1,000 too high are perfect": near(far, "own ranges", 0.0, 1e-6),
    }


def _uniform(row: Row, rng: np.random.Generator) -> float:
    return float(rng.choice(row.scale.values) if row.scale else rng.integers(row.low, row.high + 1))


def _report(
    a: argparse.Namespace,
    found: Mapping[str, Numbers],
    coverage: Mapping[str, Any],
    groups: tuple[int, int, int],
    few: tuple[int, int, int],
) -> Iterator[str]:
    people = found["the human answers themselves"]
    yield "# What each number says of predictions that everybody can judge"
    yield ""
    yield (
        f"Made by `benchmarks/show_definitions.py` from real rows ({', '.join(file.name for file in a.data)} of a 1% "
        f"sample): {coverage['rows_scored']:,} of {coverage['rows']:,} rows in {coverage['cells_scored']} of "
        f"{coverage['cells']} cells of {coverage['studies_scored']} studies, scored by `scripts/score_predictions.py`. "
        f"On these cells, which hold few people, the expected W of a uniform guess is {people['uniform_guess']:.3f}, "
        f"the empirical best {people['empirical_best']:.3f}, and the accuracy of answering the mean of the cell's "
        f"other people {people['marginal_accuracy']:.3f} (less than that of the cell's mean below, which a person's "
        f"own answer is part of). Python {platform.python_version()}, numpy {version('numpy')}, scipy "
        f"{version('scipy')}."
    )
    yield ""
    yield f"| prediction | {' | '.join(_COLUMNS.values())} | own ranges | own ranges, {_FEW} rows |"
    yield "|---|" + "--:|" * (len(_COLUMNS) + 2)
    for name, numbers in found.items():
        values = [numbers[key] for key in (*_COLUMNS, "own ranges", "own ranges, few")]
        yield f"| {name} | {' | '.join('n/a' if value is None else f'{value:.3f}' for value in values)} |"
    yield ""
    yield (
        "W: the paper's distance, in shares of the range of the cell's human answers; predictions beyond it count as "
        "its ends. Share of the way: from the uniform guess (0) to the empirical best (1), which copied answers "
        "exceed. Within cells: the correlation after each cell's mean is removed. n/a: not defined, as one side does "
        "not vary."
    )
    yield ""
    yield (
        "*Own ranges*: the definition behind a published 0.0811 (`TRAINING_AUDIT.md`). Answers of a study and "
        "condition are thrown together, whatever the question, and people and model are each scaled by their own "
        f"smallest and largest answer: {groups[0]} groups here, {groups[1]} of them of two answers, {groups[2]} of one "
        f"answer left out; on the first {_FEW} rows {few[0]}, {few[1]} and {few[2]}. It cannot see where a model's "
        "answers lie, nor how spread out they are: 1,000 too high is perfect. Two answers that differ are 0 and 1 "
        "after such scaling, so that in a group of two the distance is 0 if only the model, too, says two different "
        "things."
    )


if __name__ == "__main__":
    run_entry_point(main)
