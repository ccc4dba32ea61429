"""A few people of many cells, or whole cells: spread over studies, the same for every model."""

from collections import Counter

import numpy as np
import pytest

from socrates.data.records import Answer, Cell
from socrates.data.selection import choose_cells, choose_rows, select_cells
from socrates.errors import SocratesError


def answers_of(sizes, responses=(1, 2)):
    return [
        Answer("p", "s", responses[i % len(responses)], cell, i, None, line)
        for line, (cell, i) in enumerate(((c, i) for c, n in sizes.items() for i in range(n)), start=1)
    ]


SIZES = {Cell(f"s{s}", c, t): 20 + 7 * s + t for s in range(10) for c in range(3) for t in range(4)}


@pytest.mark.parametrize("max_examples", [40, 300, 1000, 5000])
def test_budget_holds_and_cells_are_whole(max_examples):
    selection = select_cells(answers_of(SIZES), max_examples, seed=1)
    chosen = selection.human_answers
    assert selection.rows == len(selection.lines) == sum(SIZES[cell] for cell in chosen) <= max_examples
    assert selection.file_rows == sum(SIZES.values()) and selection.file_cells == len(SIZES)
    left = max_examples - selection.rows
    assert all(size > left for cell, size in SIZES.items() if cell not in chosen), "room was left unused"


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


@pytest.mark.parametrize("max_examples, cells_a_study", [(7, {0: 7, 1: 3}), (400, {4: 10}), (2000, {12: 10})])
def test_a_few_rows_of_many_cells(max_examples, cells_a_study):
    answers = answers_of(SIZES)
    selection = select_cells(answers, max_examples, seed=1, rows_per_cell=10)
    asked = Counter(answer.cell for answer in answers if answer.line in selection.lines)
    assert asked.keys() == selection.human_answers.keys()
    assert asked.total() == selection.rows == max_examples, "all examples are used"
    per_study = Counter(cell.study_id for cell in asked)
    assert Counter(per_study[f"s{s}"] for s in range(10)) == cells_a_study
    rows = [sum(n for cell, n in asked.items() if cell.study_id == study) for study in per_study]
    assert max(rows) - min(rows) <= 1, "each study that is asked has the same number of rows"
    assert max(asked.values()) <= 10 or len(asked) == len(SIZES), "more of a cell only where no cell is left"
    for cell, humans in selection.human_answers.items():
        assert humans == Counter(answer.response for answer in answers if answer.cell == cell), "asked or not"
    assert selection.counts()["human_rows"] == sum(SIZES[cell] for cell in selection.human_answers)


def test_a_small_study_gives_all_it_has_and_the_others_share_the_rest():
    small, large, wide = (Cell("small", 0, 0), Cell("large", 0, 0), [Cell("wide", c, 0) for c in range(100)])
    sizes = {small: 6, large: 500, **dict.fromkeys(wide, 50)}
    chosen = choose_rows(sizes, 206, seed=1, rows_per_cell=10)
    assert (chosen[small], chosen[large]) == (6, 100), "its one cell has the share of a study, not of a cell"
    assert [n for cell, n in chosen.items() if cell in wide] == [10] * 10
    assert choose_rows(sizes, 10**6, seed=1, rows_per_cell=10) == choose_rows(sizes, None, 1, 10) == sizes


@pytest.mark.parametrize("rows_per_cell", [None, 5])
def test_the_seed_decides_and_the_order_of_the_rows_does_not(rows_per_cell):
    answers = answers_of(SIZES)
    chosen = select_cells(answers, 500, 1, rows_per_cell)
    assert select_cells(answers[::-1], 500, 1, rows_per_cell).lines == chosen.lines
    other = select_cells(answers, 500, 2, rows_per_cell)
    assert other.human_answers != chosen.human_answers and other.lines != chosen.lines


@pytest.mark.parametrize("named", [True, False])
def test_people_are_a_random_choice_whatever_the_order_of_their_answers(named):
    """Files are often sorted by answer; without names, or a persona, nothing but their lines tells rows apart."""
    cells = [Cell("s", 0, task) for task in range(400)]
    answers = [
        Answer("p", "s", i // 10, cell, i if named else None, None, 100 * task + i)
        for task, cell in enumerate(cells)
        for i in range(100)
    ]
    lines = select_cells(answers, 2000, seed=1, rows_per_cell=5).lines
    places = np.bincount([line % 100 // 10 for line in lines], minlength=10)  # 2,000 rows, 200 expected in each tenth
    assert ((places - 200) ** 2 / 200).sum() < 27.9, "chi-squared of 9 degrees of freedom, one in a thousand"


def test_cells_that_cannot_be_scored_are_not_asked():
    one, same, good = Cell("a", 0, 0), Cell("a", 0, 1), Cell("a", 0, "q-1")
    answers = [*answers_of({one: 1}), *answers_of({same: 5}, responses=(3,)), *answers_of({good: 4})]
    selection = select_cells(answers, None, seed=0)
    assert selection.human_answers.keys() == {good} and selection.file_cells == 3
    assert (selection.one_answer_cells, selection.no_spread_cells) == (1, 1)


def test_nothing_to_choose_is_an_error_that_says_why():
    with pytest.raises(SocratesError, match="none of the 1 cells"):
        select_cells(answers_of({Cell("a", 0, 0): 1}), None, seed=0)
    with pytest.raises(SocratesError, match="smaller than the smallest cell, which holds 20 rows"):
        select_cells(answers_of(SIZES), 19, seed=0)
