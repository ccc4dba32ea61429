"""Training for real with `data.rows_per_cell`: the same rows on 1, 2 and 4 processes, and after a kill."""

import json
from collections import Counter, defaultdict

import pytest
from processes import assert_refused, train, train_and_kill
from trainings import RUN, WITNESS, change, copy_of, finish, make_workplace

from socrates.data.tokenized import load_tokenized, read_table

pytestmark = pytest.mark.slow
CELLS, PEOPLE, CAP, STEPS = 36, 6, 2, 6  # an epoch of 72 rows has 5 steps


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = make_workplace(tmp_path_factory.mktemp("rows"), people=PEOPLE, data={"rows_per_cell": CAP})
    change(folder, {"max_steps": STEPS})
    return folder


def examples_of(folder):
    """What each step was given, to all processes together; of a step that was taken twice, the second time."""
    by_rank = {}
    for file in (folder / "witness").glob("rank-*.jsonl"):
        for line in map(json.loads, file.read_text().splitlines()):
            by_rank[line["step"], file.name] = [tuple(ids) for ids in line["examples"]]
    steps = defaultdict(list)
    for (step, _), examples in sorted(by_rank.items()):
        steps[step] += examples
    return {step: sorted(examples) for step, examples in steps.items()}


@pytest.fixture(scope="module")
def undisturbed(workplace):
    folder = copy_of(workplace, "undisturbed")
    return folder, finish(folder, script=WITNESS)


def test_an_epoch_is_as_many_people_of_each_cell_and_is_on_record(undisturbed):
    folder, log = undisturbed
    assert f"Training on {CELLS * CAP} (at most {CAP} of a cell) of {CELLS * PEOPLE} rows (" in log
    [tokenized] = (folder / "data" / "set").glob("tokenized-*")
    rows, table = load_tokenized(tokenized)[0], read_table(tokenized)
    cell_of = {tuple(row["input_ids"].tolist()): int(cell) for row, (cell, _) in zip(rows, table, strict=True)}
    steps = examples_of(folder)
    assert [len(examples) for examples in steps.values()] == [16, 16, 16, 16, 8, 16]
    taken = Counter(cell_of[ids] for step in range(1, 6) for ids in steps[step])
    assert taken == dict.fromkeys(range(CELLS), CAP), "every cell is seen"
    assert {*steps[6]} <= {ids for step in range(1, 6) for ids in steps[step]}, "the next epoch has the same people"
    record = json.loads((folder / RUN / "checkpoint-6" / "training_config.json").read_text())
    assert record["config"]["data"] == {"rows_per_cell": CAP} and record["data"]["chosen"]["rows"] == CELLS * CAP


@pytest.mark.parametrize("ranks", [1, 4])
def test_on_another_number_of_processes_each_step_has_the_same_rows(workplace, undisturbed, ranks):
    folder = copy_of(workplace, f"ranks-{ranks}")
    change(folder, {"num_processes": ranks})
    finish(folder, ranks=ranks, script=WITNESS)
    assert examples_of(folder) == examples_of(undisturbed[0])


def test_after_a_kill_each_step_has_the_same_rows_and_another_choice_is_refused(workplace, undisturbed):
    folder = copy_of(workplace, "killed")
    train_and_kill(folder, "'step': 4}", script=WITNESS)
    for cap, told in ((3, "2 -> 3"), (None, "2 -> None")):
        change(folder, data={"rows_per_cell": cap})
        assert_refused(train(folder), "it was made with another configuration:", f"data.rows_per_cell: {told}")
    change(folder, data={"rows_per_cell": CAP})
    assert f"Resuming from {RUN}/checkpoint-3" in finish(folder, script=WITNESS)
    assert examples_of(folder) == examples_of(undisturbed[0])
