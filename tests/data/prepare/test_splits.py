"""The published lists decide who trains; the validation part is whole units, by the seed alone."""

import itertools
import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socrates.data.prepare.splits import EVALUATION, TRAIN, carve, load_split
from socrates.data.records import Cell
from socrates.errors import SocratesError


@pytest.fixture
def lists(tmp_path):
    def write(value):
        path = tmp_path / "mapping.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path

    return write


def test_the_study_split_is_by_the_published_lists(lists):
    split = load_split("study", lists({"seen": ["a", "b"], "unseen": ["c"]}))
    assert [split.side(Cell(study, 9, 9)) for study in "abcd"] == [TRAIN, TRAIN, EVALUATION, None]


@pytest.mark.parametrize("numbers", [([0, 1], [2]), (["0", "1"], ["2"])])
def test_conditions_and_tasks_are_each_their_own_number(lists, numbers):
    path = lists({"a": {"train": numbers[0], "eval": numbers[1]}, "b": {"train": [2], "eval": [0]}})
    condition, task = load_split("condition", path), load_split("task", path)
    assert condition.side(Cell("a", 2, 0)) == EVALUATION and task.side(Cell("a", 2, 0)) == TRAIN
    assert condition.side(Cell("b", 0, 2)) == EVALUATION and task.side(Cell("b", 0, 2)) == TRAIN
    assert condition.side(Cell("a", 3, 0)) is None and condition.side(Cell("c", 0, 0)) is None


@pytest.mark.parametrize(
    ("split", "mapping", "says"),
    [
        ("study", {"seen": ["a", "b"], "unseen": ["b"]}, "study b is in both lists"),
        ("task", {"a": {"train": [1, 2], "eval": [2]}}, "study a, task 2 is in both lists"),
        ("study", {"seen": ["a"], "unseen": []}, "one of its two lists is empty"),
        ("study", {"seen": ["a"]}, '"unseen" must be a list'),
        ("study", {"seen": ["a"], "unseen": [None]}, '"unseen" must be a list'),
        ("condition", {"seen": ["a"], "unseen": ["b"]}, 'seen: "train" must be a list'),
        ("study", '{"seen": [], "seen": []}', "twice"),
        ("study", "[]", "must be a JSON object"),
    ],
)
def test_lists_that_are_not_the_published_ones_are_refused(lists, split, mapping, says):
    with pytest.raises(SocratesError, match=says):
        load_split(split, lists(mapping))


# --- carving -----------------------------------------------------------------------------------------------------


def named(sizes):
    return {(f"s{i}",): size for i, size in enumerate(sizes)}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=9), st.floats(0.01, 0.99), st.integers(0, 5))
def test_carving_comes_as_near_as_whole_units_allow(sizes, share, seed):
    units = named(sizes)
    chosen = carve(units, share, seed)
    assert 0 < len(chosen) < len(units) and chosen <= set(units)
    target = share * sum(sizes)
    subsets = itertools.chain.from_iterable(itertools.combinations(sizes, k) for k in range(1, len(sizes)))
    best = min(abs(sum(subset) - target) for subset in subsets)
    assert abs(sum(units[u] for u in chosen) - target) == pytest.approx(best)


def test_carving_depends_on_the_seed_and_not_on_the_order():
    units = named([10] * 12)
    turned = dict(reversed(units.items()))
    assert carve(units, 0.5, 3) == carve(turned, 0.5, 3) and len(carve(units, 0.5, 3)) == 6
    assert len({carve(units, 0.5, seed) for seed in range(10)}) > 5


@pytest.mark.parametrize("sizes", [[], [5]])
def test_fewer_than_two_units_cannot_be_divided(sizes):
    with pytest.raises(SocratesError, match="it takes two to be"):
        carve(named(sizes), 0.5, 0)


def test_more_units_and_rows_than_published_take_little_time_and_memory():
    units = {("s", i): 100 + 3 * i for i in range(1000)}
    tracemalloc.start()
    chosen = carve(units, 0.5, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert abs(sum(units[u] for u in chosen) - sum(units.values()) / 2) <= 1
    assert peak < 30 * 2**20  # not a bit for each unit and each sum: 200 MB
