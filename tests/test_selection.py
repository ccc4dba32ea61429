"""Whole cells, spread over studies, the same for every model."""

from collections import Counter

import numpy as np
import pytest

from socrates.errors import SocratesError
from socrates.records import Answer, Cell
from socrates.selection import choose_cells, select_cells


def answers_of(sizes, responses=(1, 2)):
    return [
        Answer("p", "s", responses[i % len(responses)], cell, None, None, line)
        for line, (cell, i) in enumerate(((c, i) for c, n in sizes.items() for i in range(n)), start=1)
    ]


SIZES = {Cell(f"s{s}", c, t): 20 + 7 * s + t for s in range(10) for c in range(3) for t in range(4)}


@pytest.mark.parametrize("max_examples", [40, 300, 1000, 5000])
def test_budget_holds_and_cells_are_whole(max_examples):
    selection = select_cells(answers_of(SIZES), max_examples, seed=1)
    assert selection.rows == sum(SIZES[cell] for cell in selection.cells) <= max_examples
    assert selection.file_rows == sum(SIZES.values()) and selection.file_cells == len(SIZES)
    left = max_examples - selection.rows
    assert all(size > left for cell, size in SIZES.items() if cell not in selection.cells), "room was left unused"


def test_studies_get_their_share_before_any_gets_more():
    chosen = choose_cells(SIZES, 1000, seed=3)
    per_study = Counter(cell.study_id for cell in chosen)
    assert len(per_study) == 10 and max(per_study.values()) - min(per_study.values()) <= 2


def test_large_cells_do_not_keep_other_studies_out():
    rng = np.random.default_rng(0)
    for median in (100, 200, 400):
        sizes = {
            Cell(f"s{s}", c, t): int(median * rng.lognormal(0, 1)) + 2
            for s in range(40)
            for c in range(3)
            for t in range(8)
        }
        smallest = {s: min(n for cell, n in sizes.items() if cell.study_id == s) for s in {c.study_id for c in sizes}}
        chosen = choose_cells(sizes, 5000, seed=1)
        assert sum(smallest.values()) <= 5000, "the budget would reach every study"
        assert len({cell.study_id for cell in chosen}) >= 36


def test_the_seed_decides_and_the_order_of_the_rows_does_not():
    answers = answers_of(SIZES)
    chosen = select_cells(answers, 500, seed=1).cells
    assert select_cells(answers[::-1], 500, seed=1).cells == chosen
    assert select_cells(answers, 500, seed=2).cells != chosen


def test_cells_that_cannot_be_scored_are_not_asked():
    one, same, good = Cell("a", 0, 0), Cell("a", 0, 1), Cell("a", 0, "q-1")
    answers = [*answers_of({one: 1}), *answers_of({same: 5}, responses=(3,)), *answers_of({good: 4})]
    selection = select_cells(answers, None, seed=0)
    assert selection.cells == {good} and (
        selection.one_answer_cells,
        selection.no_spread_cells,
        selection.file_cells,
    ) == (1, 1, 3)


def test_nothing_to_choose_is_an_error_that_says_why():
    with pytest.raises(SocratesError, match="none of the 1 cells"):
        select_cells(answers_of({Cell("a", 0, 0): 1}), None, seed=0)
    with pytest.raises(SocratesError, match="smaller than the smallest cell, which holds 20 rows"):
        select_cells(answers_of(SIZES), 19, seed=0)
