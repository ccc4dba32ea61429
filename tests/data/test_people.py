"""`data.rows_per_cell`: how many people of which cell are trained on, and who they are."""

import numpy as np
import pytest
from tiny import tiny_tokenizer

from socrates.config import PromptSettings
from socrates.data.people import People, choose_people
from socrates.data.records import read_answers
from socrates.data.tokenize import ensure_tokenized
from socrates.data.tokenized import TABLE, load_tokenized, read_table
from socrates.errors import SocratesError
from socrates.files import write_jsonl

SIZES = {("a", 0, 0): 200, ("a", 1, 0): 31, ("b", 0, 0): 32, ("b", 0, 1): 33, ("c", 0, 0): 1}


def row(cell, person, **demographic):
    study, condition, task = cell
    return {
        **{"study_id": study, "condition_num": condition, "task_num": task, "participant": person},
        **{"prompt": f"Person {person} of {cell}? Only return an integer from 0 to 300.", "response": person},
        "demographic": demographic,
    }


def rows_of(sizes, seed=0):
    """People in random order; one in ten is over 65, a third are men; of some nothing is known."""
    rng = np.random.default_rng(seed)
    rows = []
    for cell, size in sizes.items():
        for person in range(size):
            age = int(rng.integers(65, 90) if person % 10 == 0 else rng.integers(18, 65))
            known = {"age": age, "gender": "Male" if person % 3 == 0 else "Female", "education": None}
            rows.append(row(cell, person, **(known if person % 7 else {})))
    return [rows[i] for i in rng.permutation(len(rows))]


def table_of(folder, rows):
    write_jsonl(folder / "rows.jsonl", rows)
    people = People()
    people.extend(read_answers(folder / "rows.jsonl"))
    return people.table()


@pytest.mark.parametrize("cap", [1, 32, 200, 10**6])
def test_each_cell_gives_as_many_as_it_has_but_at_most_the_cap_and_none_twice(tmp_path, cap):
    rows = rows_of(SIZES)
    chosen = choose_people(table_of(tmp_path, rows), cap, seed=42)
    assert (np.diff(chosen) > 0).all(), "ascending, none twice"
    taken = [(rows[i]["study_id"], rows[i]["condition_num"], rows[i]["task_num"]) for i in chosen]
    assert {cell: taken.count(cell) for cell in SIZES} == {cell: min(size, cap) for cell, size in SIZES.items()}


def test_the_seed_decides_who_they_are(tmp_path):
    table = table_of(tmp_path, rows_of(SIZES))
    first, again, other = (choose_people(table, 32, seed).tolist() for seed in (42, 42, 43))
    assert first == again != other


def test_everybody_of_a_cell_has_the_same_chance(tmp_path):
    table = table_of(tmp_path, rows_of({("a", 0, 0): 33}))
    times = np.bincount(np.concatenate([choose_people(table, 7, seed) for seed in range(4000)]), minlength=33)
    expected = 4000 * 7 / 33
    assert abs(times - expected).max() < 5 * np.sqrt(expected * (1 - 7 / 33))


def test_the_chosen_are_spread_over_ages_and_genders_more_evenly_than_by_chance(tmp_path):
    """Of 40 from 400: each age group's place is its share to within one person; by chance its error is 2 and more."""
    rows = rows_of({("a", 0, 0): 400})
    table = table_of(tmp_path, rows)
    age = np.array([-1 if not r["demographic"] else np.digitize(r["demographic"]["age"], [30, 45, 65]) for r in rows])
    men = np.array([r["demographic"].get("gender") == "Male" for r in rows])
    rng, men_off, by_chance = np.random.default_rng(1), [], []
    for seed in range(200):
        chosen = choose_people(table, 40, seed)
        for group in range(-1, 4):
            assert abs((age[chosen] == group).sum() - (age == group).sum() / 10) < 1
        men_off.append(men[chosen].sum() - men.sum() / 10)
        by_chance.append(men[rng.choice(400, 40, replace=False)].sum() - men.sum() / 10)
    assert np.std(men_off) < 0.6 * np.std(by_chance), "within each age, too"


def test_the_tokenized_set_says_whose_rows_it_holds_without_those_that_were_left_out(tmp_path):
    rows = [
        row(("a", 0, 0), 1, age=20),
        row(("a", 0, 0), 2, age=["a list"]),  # nobody's age, and no reason to stop a training that asks for all rows
        row(("b", 0, 0), 99, age=70) | {"prompt": "Yes? Only return 1 for 'Yes'; 2 for 'No'; 99 for 'Refused'."},
        row(("b", 0, 0), 4, age=70) | {"prompt": "word " * 500},  # nothing of it can be shortened
        row(("b", 0, 0), 5, age=None),
    ]
    write_jsonl(tmp_path / "train.jsonl", rows)
    folder = ensure_tokenized(tmp_path / "train.jsonl", tiny_tokenizer(), PromptSettings(), 300)
    dataset, info = load_tokenized(folder)
    assert (info["dropped"], info["missing_answers"], len(dataset)) == (1, 1, 3)
    assert read_table(folder)[:, 0].tolist() == [0, 0, 1]
    for damage in (lambda path: path.write_bytes(path.read_bytes()[:-3]), lambda path: path.unlink()):
        damage(folder / TABLE)
        with pytest.raises(SocratesError, match=rf"{TABLE}, from which rows_per_cell chooses.*rm -r .*makes it anew"):
            read_table(folder)
