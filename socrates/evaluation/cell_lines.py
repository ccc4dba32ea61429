"""One cell as a line of `cells.jsonl`: what it holds on both sides, and its numbers; written and read.

All human answers of the cell stand there, also of people whom the model was not asked about: with `predictions.jsonl`
it is all that scoring again needs.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from socrates.data.records import Cell, as_number, read_answers, read_cell, read_jsonl
from socrates.data.scales import Scale
from socrates.errors import SocratesError
from socrates.evaluation.cells import CellScore, named
from socrates.evaluation.lines import by_answer, round_probability
from socrates.files import whole_number

DISTANCES = (
    "wasserstein_distance",
    "wasserstein_expected",
    "wasserstein_stated_scale",
    "uniform_guess",
    "empirical_best",
)

_MOST = 2**53  # beyond it a float skips whole numbers


def cell_line(cell: CellScore) -> dict[str, Any]:
    """A cell as `cells.jsonl` shows it; null is a number that is not defined."""
    distribution = cell.predicted_distribution
    return {
        **cell.cell._asdict(),
        "n_human": cell.n_human,
        "n_asked": cell.n_asked,
        "n_predicted": cell.n_predicted,
        "human_min": as_number(cell.human_min),
        "human_max": as_number(cell.human_max),
        "scale": str(Scale(cell.scale)) if cell.scale else None,
        **{name: getattr(cell, name) for name in DISTANCES},
        "human_mean": cell.human_mean,
        "human_sd": _root(cell.human_variance),
        "predicted_mean": cell.predicted_mean,
        "predicted_sd": _root(cell.predicted_variance),
        "human_answers": _counts(cell.human_answers),
        "predicted_answers": _counts(cell.predicted_answers),
        "predicted_distribution": distribution
        and {str(as_number(answer)): round_probability(p) for answer, p in distribution.items()},
        "skipped": cell.skipped,
    }


def read_cell_lines(path: Path | str) -> list[dict[str, Any]]:
    """Read a `cells.jsonl`: its lines, with `cell` (a `Cell`) beside what stands there.

    Raises:
        SocratesError: no such file, a line that names no cell or lacks a distance, or a cell twice; names file and
            line.
    """
    lines, seen = [], {}
    for number, row in read_jsonl(path):
        where = f"{path}, line {number}"
        cell = read_cell(row, where)
        if cell in seen:
            raise SocratesError(f"{where}: the cell of line {seen[cell]} once more")
        seen[cell] = number
        if lacking := [name for name in (*DISTANCES, "human_answers", "skipped") if name not in row]:
            raise SocratesError(f'{where}: no "{lacking[0]}"; made by an older version of this program: evaluate again')
        lines.append({**row, "cell": cell})
    return lines


def read_human_answers(path: Path | str) -> dict[Cell, dict[float, int]]:
    """How often each answer was given in each cell, from a `cells.jsonl`, or counted in a data file.

    Raises:
        SocratesError: as `read_cell_lines` or `records.read_answers`; what should be counts of answers is none; or the
            `cells.jsonl` is one of before these counts.
    """
    _, first = next(read_jsonl(path), (0, {}))
    if "human_answers" in first:
        return {
            line["cell"]: _checked_counts(line["human_answers"], f'{path}, {named(line["cell"])}: "human_answers"')
            for line in read_cell_lines(path)
        }
    if "n_human" in first or "wasserstein_distance" in first:
        raise SocratesError(
            f'{path}: no "human_answers"; made by an older version of this program: evaluate again, or give '
            "--human-answers DATA_FILE"
        )
    counts: defaultdict[Cell, Counter[float]] = defaultdict(Counter)
    for answer in read_answers(path):
        counts[answer.cell][answer.response] += 1
    return dict(counts)


def _checked_counts(counts: Any, where: str) -> dict[float, int]:
    checked = by_answer(counts, where, 'an object, answer -> how often ({"1": 12, "2": 30})')
    for answer, count in checked.items():
        if whole_number(count, 1, _MOST) is None:
            shown = json.dumps(count, ensure_ascii=False, default=str)[:40]
            raise SocratesError(f'{where}: "{answer}" must stand with a count from 1 to 2**53, not {shown}')
    return checked


def _counts(answers: Mapping[float, int]) -> dict[str, int]:
    return {str(as_number(answer)): count for answer, count in answers.items()}


def _root(variance: float | None) -> float | None:
    return None if variance is None else math.sqrt(variance)
