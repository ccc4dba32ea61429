"""Rows that a checkpoint may have been trained on, by the record in its folder."""

import pytest

from socrates.data.contamination import Contamination, check_contamination, find_contamination, nest_cells
from socrates.data.records import Cell
from socrates.errors import SocratesError
from socrates.files import write_json

TRAINED = [Cell("a", 0, 0), Cell("a", 0, 3), Cell("a", 10, 0), Cell("b", 2, "q-123")]


def write_record(folder, cells):
    write_json(folder / "training_data.json", {"train_sha256": "t" * 64, "split": "condition", "cells": cells})
    return folder


@pytest.fixture
def checkpoint(tmp_path):
    return write_record(tmp_path, nest_cells(TRAINED))


def rows_found(checkpoint, *cells, sha256="j" * 64):
    return find_contamination(checkpoint, cells, [sha256]).rows


def test_a_cell_of_the_training_file_is_seen_and_others_are_not(checkpoint):
    assert [rows_found(checkpoint, cell) for cell in TRAINED] == [1, 1, 1, 1]
    unseen = [Cell("a", 0, 1), Cell("a", 1, 0), Cell("c", 0, 0), Cell("b", 2, "q-124"), Cell("b", 1, "q-123")]
    assert [rows_found(checkpoint, cell) for cell in unseen] == [0] * 5


def test_study_and_condition_decide_where_only_one_file_numbers_its_questions(checkpoint):
    assert rows_found(checkpoint, Cell("a", 0, "q-9")) == 1 and rows_found(checkpoint, Cell("b", 2, 7)) == 1
    assert rows_found(checkpoint, Cell("a", 1, "q-9")) == 0 and rows_found(checkpoint, Cell("b", 3, 7)) == 0


def test_questions_with_names_of_their_own_are_not_told_apart_from_numbers_and_hashes(tmp_path):
    write_record(tmp_path, nest_cells([Cell("a", 0, "trust"), Cell("b", 0, 3)]))
    seen = [Cell("a", 0, "trust"), Cell("a", 0, "q-9"), Cell("a", 0, 0), Cell("b", 0, "trust"), Cell("b", 0, "q-9")]
    unseen = [Cell("a", 0, "age"), Cell("a", 1, "q-9"), Cell("b", 0, 4), Cell("b", 1, "trust")]
    assert [rows_found(tmp_path, cell) for cell in seen + unseen] == [1] * 5 + [0] * 4


def test_the_training_file_itself_is_seen_whatever_its_cells_are_called(checkpoint):
    assert rows_found(checkpoint, Cell("z", 0, 0), Cell("y", 0, 0), sha256="t" * 64) == 2


def test_the_refusal_says_how_many_of_which_studies(checkpoint):
    seen = find_contamination(checkpoint, [Cell("a", 0, 0)] * 3 + [Cell("c", 0, 0), TRAINED[3]], ["j" * 64])
    assert seen == Contamination(4, 5, ["a", "b"], "condition")
    with pytest.raises(SocratesError, match=r"trained on 4 of these 5 rows .*studies a, b\).*--allow-seen"):
        check_contamination(checkpoint, seen)
    check_contamination(checkpoint, find_contamination(checkpoint, [Cell("c", 0, 0)], ["j" * 64]))


def test_a_folder_without_a_record_says_nothing_and_a_bad_record_is_no_answer(tmp_path):
    assert find_contamination(tmp_path, TRAINED, ["j" * 64]) is None
    check_contamination(tmp_path, None)
    for cells in ([], {"a": []}, {"a": {"x": [1]}}, {"a": {"0": 3}}, {"a": {"0": [None]}}):
        with pytest.raises(SocratesError, match=r'training_data.json: \d problems?\n  "cells'):
            find_contamination(write_record(tmp_path, cells), TRAINED, ["j" * 64])


def test_the_nested_form_is_in_order_and_holds_each_cell_once():
    nested = {"a": {"0": [0, 3], "10": [0]}, "b": {"2": ["q-123"]}}
    assert nest_cells([*TRAINED, *TRAINED[::-1]]) == nested
    assert [*nest_cells(TRAINED[::-1])] == ["a", "b"]
