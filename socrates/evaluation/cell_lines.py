"""One cell as a line of `cells.jsonl`: what it holds on both sides, and its numbers; written and read.

All human answers of the cell stand there, also of people whom the model was not asked about: with `predictions.jsonl`
it is all that scoring again needs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from socrates.data.records import Cell, as_number, read_answers, read_cell, read_jsonl
from socrates.data.scales import Scale
from socrates.errors import SocratesError
from socrates.evaluation.cells import CellScore
from socrates.evaluation.lines import Number, round_probability
from socrates.evaluation.metrics import DISTANCES
from socrates.evaluation.results import Recorded, Share
from socrates.schema import validate

Count = Annotated[int, Field(strict=True, ge=0, le=2**53)]  # beyond it a float skips whole numbers


class CellLine(Recorded, strict=False, extra="ignore"):
    """What is read of a line, beside the names of its cell; answers are texts there."""

    human_answers: dict[Number, Annotated[Count, Field(ge=1)]] = Field(min_length=1)  # how many people gave each
    n_human: Count
    wasserstein_distance: Share | None
    uniform_guess: Share | None
    empirical_best: Share | None
    predicted_answers: dict[Number, Count]  # how often each was sampled
    predicted_distribution: dict[Number, Share] | None  # mean probability of each


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
        "human_answers": _counts(cell.human_answers),
        "predicted_answers": _counts(cell.predicted_answers),
        "predicted_distribution": distribution
        and {str(as_number(answer)): round_probability(p) for answer, p in distribution.items()},
        "skipped": cell.skipped,
    }


def read_cell_lines(path: Path | str) -> dict[Cell, CellLine]:
    """Read a `cells.jsonl`.

    Raises:
        SocratesError: no such file, a bad line, one of an older version of this program, or a cell twice; names file
            and line.
    """
    lines: dict[Cell, CellLine] = {}
    for number, row in read_jsonl(path):
        where = f"{path}, line {number}"
        cell = read_cell(row, where)
        if cell in lines:
            raise SocratesError(f"{where}: this cell stands there twice")
        if lacking := [name for name in CellLine.model_fields if name not in row]:
            raise SocratesError(f'{where}: no "{lacking[0]}"; made by an older version of this program: evaluate again')
        lines[cell] = validate(CellLine, row, where)
    return lines


def read_human_answers(path: Path | str) -> dict[Cell, dict[float, int]]:
    """How often each answer was given in each cell, from a `cells.jsonl`, or counted in a data file.

    Raises:
        SocratesError: as `read_cell_lines` or `records.read_answers`.
    """
    _, first = next(read_jsonl(path), (0, {}))
    if "human_answers" in first or "n_human" in first:
        return {cell: line.human_answers for cell, line in read_cell_lines(path).items()}
    counts: defaultdict[Cell, Counter[float]] = defaultdict(Counter)
    for answer in read_answers(path):
        counts[answer.cell][answer.response] += 1
    return dict(counts)


def _counts(answers: Mapping[float, int]) -> dict[str, int]:
    return {str(as_number(answer)): count for answer, count in answers.items()}
