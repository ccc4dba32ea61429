"""Which rows are evaluated: whole cells, the same for every model, spread over studies.

A cell's answers are only a distribution together, so a cell is taken whole or not at all; cells that the metric
cannot score (fewer than two human answers, or all the same) are not asked. The choice depends on the data file,
``max_examples`` and the seed alone. The first N lines of a file would be a few studies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from socrates.errors import SocratesError
from socrates.records import Answer, Cell


@dataclass
class _Seen:
    """What is known of a cell before it is read in full."""

    rows: int = 0
    responses: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Selection:
    """The chosen cells, and what the file holds besides them."""

    cells: frozenset[Cell]
    rows: int  # in the chosen cells
    file_rows: int
    file_cells: int
    file_studies: int
    one_answer_cells: int  # in the file; cannot be scored and are not asked
    no_spread_cells: int  # likewise: human answers all the same


def select_cells(answers: Iterable[Answer], max_examples: int | None, seed: int) -> Selection:
    """Choose whole cells of a data file.

    Args:
        answers: all of the file, in one pass; only counts are kept.
        max_examples: rows in the chosen cells, at most; None takes every cell that can be scored.
        seed: of the choice.

    Raises:
        SocratesError: no cell can be scored, or none is small enough for ``max_examples``.
    """
    seen: defaultdict[Cell, _Seen] = defaultdict(_Seen)
    for answer in answers:
        cell = seen[answer.cell]
        cell.rows += 1
        if len(cell.responses) < 2:
            cell.responses.add(answer.response)
    sizes = {cell: s.rows for cell, s in seen.items() if len(s.responses) > 1}
    if not sizes:
        raise SocratesError(
            f"none of the {len(seen)} cells (study, condition, question) holds two human answers that differ; "
            "evaluate on a data file with whole cells, not on a thin sample of rows"
        )
    chosen = frozenset(sizes) if max_examples is None else choose_cells(sizes, max_examples, seed)
    if not chosen:
        raise SocratesError(
            f"max_examples = {max_examples} is smaller than the smallest cell, which holds {min(sizes.values())} rows"
        )
    return Selection(
        cells=chosen,
        rows=sum(sizes[cell] for cell in chosen),
        file_rows=sum(s.rows for s in seen.values()),
        file_cells=len(seen),
        file_studies=len({cell.study_id for cell in seen}),
        one_answer_cells=sum(s.rows == 1 for s in seen.values()),
        no_spread_cells=sum(s.rows > 1 and len(s.responses) == 1 for s in seen.values()),
    )


def choose_cells(sizes: Mapping[Cell, int], max_examples: int, seed: int) -> frozenset[Cell]:
    """Go round the studies in a random order, each time taking one more cell of each.

    A study takes the first of its cells (in a random order) that is no larger than an equal share of the rows left for
    the studies still to come in this round, else its smallest one: a few large cells must not use up what other
    studies need. A study none of whose cells fits any more is done.

    Args:
        sizes: rows of each cell.
        max_examples: rows to take at most.
        seed: of both orders.
    """
    rng = np.random.default_rng(seed)
    queues = _shuffled_by_study(sizes, rng)
    chosen: set[Cell] = set()
    left = max_examples
    while queues:
        for turn, study in enumerate(studies := list(queues)):
            queues[study] = [cell for cell in queues[study] if sizes[cell] <= left]
            if not queues[study]:
                del queues[study]
                continue
            share = left / (len(studies) - turn)
            small = (cell for cell in queues[study] if sizes[cell] <= share)
            cell = next(small, min(queues[study], key=lambda cell: sizes[cell]))
            queues[study].remove(cell)
            chosen.add(cell)
            left -= sizes[cell]
    return frozenset(chosen)


def _shuffled_by_study(cells: Collection[Cell], rng: np.random.Generator) -> dict[str, list[Cell]]:
    by_study: defaultdict[str, list[Cell]] = defaultdict(list)
    for cell in sorted(cells, key=lambda cell: (cell.study_id, cell.condition_num, str(cell.task_num))):
        by_study[cell.study_id].append(cell)
    studies = sorted(by_study)
    return {
        studies[s]: [by_study[studies[s]][c] for c in rng.permutation(len(by_study[studies[s]]))]
        for s in rng.permutation(len(studies))
    }
