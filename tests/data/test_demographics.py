"""Groups of people and their accuracy against row-by-row sums and permutations."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from statistics import mean

import numpy as np
import pytest

from socrates.data.demographics import NOT_KNOWN, find_groups, group_name
from socrates.data.records import Cell
from socrates.errors import SocratesError
from socrates.evaluation.groups import LEAST_ROWS, accuracy_by_group


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("age", {17: "under 18", "29": "18-29", 30.0: "30-44", "44.5": "30-44", 120: "65+", 999: None, -1: None}),
        ("age", {" 25 -  34 ": "25 - 34"}),
        ("household_size", {"4": "3-4", 5: "5+", 0: None}),
        ("gender", {" Male\n": "Male", "": None, None: None}),
        ("income", {float("nan"): None, "50-74K": "50-74K", float("inf"): "inf", 3.0: "3", True: "True"}),
    ],
)
def test_a_value_belongs_to_the_group(field, names):
    assert {value: group_name(field, value) for value in names} == names


def test_groups_are_told_apart_by_field_and_not_by_case_and_stand_in_order():
    people = [{"age": 70, "party_id": "Other", "gender": None}, {"age": "25", "party_id": "OTHER", "extra": "Other"}]
    people += [{"age": 19, "party_id": "other "}, {"age": 9, "party_id": "OTHER"}, {}]
    groups = find_groups(people)
    assert list(groups) == ["age", "extra", "party_id"]  # of gender nothing is known
    assert groups["age"].names == ("under 18", "18-29", "65+")
    assert groups["age"].of_rows.tolist() == [2, 1, 1, 0, NOT_KNOWN]
    assert groups["party_id"].names == ("OTHER",)  # as most write it
    assert groups["extra"].of_rows.tolist() == [NOT_KNOWN, 0, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN]
    assert find_groups([{"extra": 1}, {"extra": True}])["extra"].names == ("1", "True")
    incomes = ["100-124K", "20-29K", "refused", "under 20K"]
    ordered = ("20-29K", "under 20K", "100-124K", "refused")
    assert find_groups([{"income": income} for income in incomes])["income"].names == ordered


def test_a_value_that_is_neither_text_nor_number_names_its_field():
    with pytest.raises(SocratesError, match='"gender" holds a list or an object'):
        find_groups([{"age": 3, "gender": ["Male"]}])


def made_rows(seed, rows=1500):
    """Cells of different ease; groups of different sizes that are not spread evenly over them; one small group."""
    rng = np.random.default_rng(seed)
    cells, accuracy, people = [], [], []
    for _ in range(rows):
        study, condition, task = rng.integers(4), int(rng.integers(3)), int(rng.integers(2))
        gender = "Male" if rng.random() < (0.05, 0.5, 0.95, 0.5)[study] else "Female"
        party = str(rng.choice(["Lean", "Strong", "None", "Rare"], p=[0.5, 0.28, 0.2, 0.02]))
        cells.append(Cell(f"s{study}", condition, task))
        accuracy.append(np.clip(0.4 + 0.1 * study + 0.05 * (party == "Strong") + rng.normal(0, 0.2), 0, 1))
        people.append({"gender": gender if study < 3 else None, "party_id": party})
    return cells, np.array(accuracy), people


def test_every_number_is_what_a_sum_over_rows_gives():
    cells, accuracy, people = made_rows(0)
    result = accuracy_by_group(cells, accuracy, people, seed=1, resamples=100)
    for field, found in result.items():
        rows = [
            (cell, value, one[field]) for cell, value, one in zip(cells, accuracy, people, strict=True) if one[field]
        ]
        by_group, by_cell = defaultdict(list), defaultdict(list)
        for cell, value, group in rows:
            by_group[group].append(value)
            by_cell[cell].append(value)
        within = defaultdict(list)
        mixed = {cell for cell in by_cell if len({group for other, _, group in rows if other == cell}) > 1}
        for cell, value, group in rows:
            if cell in mixed:
                within[group].append(value - mean(by_cell[cell]))
        large = {group for group, values in by_group.items() if len(values) >= LEAST_ROWS}
        assert found["rows_known"] == len(rows)
        assert {group["group"]: group["rows"] for group in found["groups"]} == {g: len(by_group[g]) for g in large}
        assert found["small_groups"] == len(by_group) - len(large)
        for group in found["groups"]:
            assert group["accuracy"] == pytest.approx(mean(by_group[group["group"]]), abs=1e-8)
            assert group["accuracy_within_cells"] == pytest.approx(mean(within[group["group"]]), abs=1e-8)
        for name, values in (("parity_difference", by_group), ("parity_difference_within_cells", within)):
            means = {group: mean(values[group]) for group in large}
            best, worst = max(means, key=means.get), min(means, key=means.get)
            assert found[name] == pytest.approx(means[best] - means[worst], abs=1e-8)
            assert found[f"{name}_ci95"][0] < found[name] < found[f"{name}_ci95"][1]
    assert "Rare" in {person["party_id"] for person in people} and result["party_id"]["small_groups"] == 1


def test_what_is_expected_by_chance_is_the_mean_over_permutations_within_cells():
    cells, accuracy, people = made_rows(1, rows=700)
    found = accuracy_by_group(cells, accuracy, people, seed=1, resamples=2)
    rng = np.random.default_rng(2)
    index = np.unique([f"{cell}" for cell in cells], return_inverse=True)[1]
    for field, large in (("party_id", ("Lean", "Strong", "None")), ("gender", ("Female", "Male"))):
        known = np.array([one[field] is not None for one in people])
        groups, cell, values = np.array([one[field] for one in people])[known], index[known], accuracy[known]
        above = values - (np.bincount(cell, values) / np.maximum(np.bincount(cell), 1))[cell]
        mixed = np.array([len(set(groups[cell == one])) > 1 for one in cell])
        plain, within = [], []
        for _ in range(1500):
            shuffled = np.empty_like(groups)
            shuffled[np.lexsort((rng.random(len(cell)), cell))] = groups[np.argsort(cell, kind="stable")]
            plain.append(np.ptp([values[shuffled == name].mean() for name in large]))
            within.append(np.ptp([above[mixed & (shuffled == name)].mean() for name in large]))
        assert found[field]["parity_difference_by_chance"] == pytest.approx(mean(plain), rel=0.06)
        assert found[field]["parity_difference_within_cells_by_chance"] == pytest.approx(mean(within), rel=0.06)


def test_what_is_not_defined_is_null_and_what_one_study_knows_has_no_interval():
    cells = [Cell("a", 1, 1)] * 120 + [Cell("b", 1, 1)] * 60 + [Cell("c", 1, 1)] * 60
    people = [{"gender": "Female", "age": 20, "state": "Ohio", "id": i} for i in range(120)]
    people += [{"gender": "Male", "age": 21}] * 60 + [{"gender": "Male"}] * 60
    accuracy = np.linspace(0, 1, 240)
    result = accuracy_by_group(cells, accuracy, people, seed=1, resamples=200)
    assert list(result) == ["age", "gender", "id", "state"]
    alone = {key: value for key, value in result["state"].items() if key.startswith("parity")}
    assert len(alone) == 6 and set(alone.values()) == {None}
    (ohio,) = result["state"]["groups"]
    assert (ohio["accuracy_within_cells"], ohio["accuracy_ci95"]) == (None, None)
    assert result["gender"]["parity_difference"] is not None and result["gender"]["parity_difference_ci95"] is None
    assert result["gender"]["parity_difference_within_cells_by_chance"] is None
    assert (result["id"]["groups"], result["id"]["small_groups"], result["id"]["rows_known"]) == ([], 120, 120)
    json.dumps(result, allow_nan=False)
    assert (
        accuracy_by_group([], np.empty(0), [], seed=1) == {} == accuracy_by_group(cells, accuracy, [{}] * 240, seed=1)
    )


def test_the_order_of_rows_changes_no_digit():
    rows = list(zip(*made_rows(3), strict=True))
    first = accuracy_by_group(*(list(column) for column in zip(*rows, strict=True)), seed=1, resamples=50)
    random.Random(4).shuffle(rows)
    assert accuracy_by_group(*(list(column) for column in zip(*rows, strict=True)), seed=1, resamples=50) == first
