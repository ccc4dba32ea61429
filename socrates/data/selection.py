"""Evaluation rows: a few people of each of many cells, the same for every model.

The model's side of a cell costs a forward pass a row, and once a cell has given some answers, one more from another
cell tells more about the mean over cells. So the examples are shared equally among the studies, and a study's share
among as many of its cells as get at most ``rows_per_cell`` of it; only a study all of whose cells are in gets more of
each. Cells that the metric cannot score (fewer than two human answers, or all the same) are not asked.

The choice depends on the rows of the file, ``max_examples``, ``rows_per_cell`` and the seed alone, and not on the rows'
order as long as they can be told apart.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from socrates.data.human_answers import HumanAnswers
from socrates.data.records import Answer, Cell, cell_order
from socrates.errors import SocratesError

_FEWEST = 2  # rows of a study that is asked at all


@dataclass(frozen=True)
class Selection:
    """The chosen rows, and what the file holds besides them."""

    lines: frozenset[int]  # of the rows to ask, as `Answer.line`
    human_answers: Mapping[Cell, Mapping[float, float]]  # of each chosen cell, all of them (`HumanAnswers`)
    other_conditions: Mapping[Cell, Mapping[float, float]]  # likewise, of their questions, not asked
    rows: int  # to ask
    human_rows: int  # human answers in the chosen cells, asked or not
    file_rows: int
    file_cells: int
    file_studies: int
    one_answer_cells: int  # in the file; cannot be scored and are not asked
    no_spread_cells: int  # likewise: human answers all the same

    def counts(self) -> dict[str, int]:
        """The numbers, for the record."""
        return {name: value for name, value in vars(self).items() if isinstance(value, int)}


def select_cells(
    answers: Iterable[Answer], max_examples: int | None, seed: int, rows_per_cell: int | None = None
) -> Selection:
    """Choose the rows of a data file that a model is asked about.

    Args:
        answers: all of the file, in one pass.
        max_examples: rows to choose, at most; None takes every row of every cell that can be scored.
        seed: of the choice.
        rows_per_cell: rows of one cell, at most, while its study has cells left; None takes whole cells.

    Raises:
        SocratesError: no cell can be scored, or whole cells are wanted and none is small enough for ``max_examples``.
    """
    given, rows = _read(answers, seed)
    humans, people = given.counts(), given.people
    sizes = dict(zip(humans, np.bincount(rows["cell"]).tolist(), strict=True))
    scorable = {cell: size for cell, size in sizes.items() if len(humans[cell]) > 1}
    if not scorable:
        raise SocratesError(
            f"none of the {len(sizes)} cells (study, condition, question) holds two human answers that differ; "
            "evaluate on a data file with whole cells, not on a thin sample of rows"
        )
    chosen = choose_rows(scorable, max_examples, seed, rows_per_cell)
    if not chosen:
        raise SocratesError(
            f"max_examples = {max_examples} is smaller than the smallest cell, which holds {min(scorable.values())} "
            "rows; give more, or ask a part of each cell (rows_per_cell)"
        )
    questions = {cell[::2] for cell in chosen}  # study and task
    return Selection(
        lines=_lowest(rows, [chosen.get(cell, 0) for cell in humans], seed),
        human_answers={cell: humans[cell] for cell in sorted(chosen, key=cell_order)},
        other_conditions={cell: humans[cell] for cell in humans.keys() - chosen.keys() if cell[::2] in questions},
        rows=sum(chosen.values()),
        human_rows=round(sum(people[cell] for cell in chosen)),
        file_rows=sum(sizes.values()),
        file_cells=len(sizes),
        file_studies=len({cell.study_id for cell in sizes}),
        one_answer_cells=sum(people[cell] == 1 for cell in humans),
        no_spread_cells=sum(people[cell] > 1 and len(counts) == 1 for cell, counts in humans.items()),
    )


def choose_rows(
    sizes: Mapping[Cell, int], max_examples: int | None, seed: int, rows_per_cell: int | None
) -> dict[Cell, int]:
    """How many rows of which cells to ask: cell -> rows, from 1 to its size; the other cells are not asked.

    Args:
        sizes: rows of each cell that can be scored.
        max_examples: rows to choose; fewer only where ``sizes`` hold fewer, or where cells are taken whole.
        seed: of the studies' and the cells' order.
        rows_per_cell: as of `select_cells`.
    """
    if max_examples is None or max_examples >= sum(sizes.values()):
        return dict(sizes)
    if rows_per_cell is None:
        return {cell: sizes[cell] for cell in choose_cells(sizes, max_examples, seed)}
    queues = _shuffled_by_study(sizes, np.random.default_rng(seed))
    studies = list(queues.values())[: max(1, max_examples // _FEWEST)]
    shares = _share_out(max_examples, [sum(sizes[cell] for cell in cells) for cells in studies])
    chosen: dict[Cell, int] = {}
    for cells, share in zip(studies, shares, strict=True):
        needed = room = 0
        while room < share and needed < len(cells):
            room += min(sizes[cells[needed]], rows_per_cell)
            needed += 1
        chosen.update(zip(cells, _share_out(share, [sizes[cell] for cell in cells[:needed]]), strict=False))
    return chosen


def choose_cells(sizes: Mapping[Cell, int], max_examples: int, seed: int) -> frozenset[Cell]:
    """Whole cells: go round the studies in a random order, each time taking one more cell of each.

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


def _share_out(total: int, sizes: Sequence[int]) -> list[int]:
    """Shares of a total, as equal as the sizes allow (none is larger than its size); they differ by 1 elsewhere."""
    shares = [0] * len(sizes)
    left = total
    for rank, index in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):  # the smallest leave room to others
        shares[index] = min(sizes[index], left // (len(sizes) - rank))
        left -= shares[index]
    return shares


def _read(answers: Iterable[Answer], seed: int) -> tuple[HumanAnswers, np.ndarray]:
    """The human answers of each cell; of each row the index of its cell, its line and its priority, 16 bytes."""
    humans = HumanAnswers()
    indices: dict[Cell, int] = {}

    def rows() -> Iterator[tuple[int, int, int]]:
        for answer in answers:
            humans.add(answer.cell, answer.counts, answer.own.weight)
            yield indices.setdefault(answer.cell, len(indices)), answer.line, _priority(answer, seed)

    return humans, np.fromiter(rows(), [("cell", "u4"), ("line", "u4"), ("priority", "u8")])


def _priority(answer: Answer, seed: int) -> int:
    """A random number that depends on the seed and on what names the row, not on its answer or its place."""
    names = (seed, *answer.cell, answer.participant, answer.sample_id, answer.prompt)
    text = "\n".join(map(str, names)).encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


def _lowest(rows: np.ndarray, takes: Sequence[int], seed: int) -> frozenset[int]:
    """Lines of the rows with the lowest priorities of each cell; rows of one name are chosen by their lines."""
    ties = np.random.default_rng(seed).permutation(len(rows))
    order = np.lexsort((ties, rows["priority"], rows["cell"]))
    sizes = np.bincount(rows["cell"])
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within the cell
    return frozenset(rows["line"][order[rank < np.repeat(takes, sizes)]].tolist())


def _shuffled_by_study(cells: Collection[Cell], rng: np.random.Generator) -> dict[str, list[Cell]]:
    by_study: defaultdict[str, list[Cell]] = defaultdict(list)
    for cell in sorted(cells, key=cell_order):
        by_study[cell.study_id].append(cell)
    studies = sorted(by_study)
    return {
        studies[s]: [by_study[studies[s]][c] for c in rng.permutation(len(by_study[studies[s]]))]
        for s in rng.permutation(len(studies))
    }
