"""Own splits: whole units by the seed alone, what is proved of them, and what a checkpoint remembers of its people."""

import json
import random
from collections import Counter, defaultdict

import pytest
from processes import assert_refused, run_loaded
from published import made_rows, published_folder, write_rows
from tiny import tiny_tokenizer

from socrates.config import PromptSettings
from socrates.data.contamination import find_contamination
from socrates.data.dataset import PARTS, judged_by_person, split_of
from socrates.data.prepare.leaks import check_prepared
from socrates.data.prepare.prepare import PrepareSettings, prepare
from socrates.data.prepare.splits import carve
from socrates.data.records import read_answers, read_jsonl, render_prompt
from socrates.data.tokenize import ensure_tokenized
from socrates.data.tokenized import read_contents
from socrates.errors import SocratesError
from socrates.files import sha256_file, write_json

UNITS = {
    "study": lambda row: row["study_id"],
    "condition": lambda row: (row["study_id"], row["condition_num"]),
    "task": lambda row: (row["study_id"], row["task_num"]),
    "person": lambda row: (row["study_id"], row["participant"]),
}


def one_study(people=300, **more):
    """Everybody of a condition reads the very same prompt."""
    rows = made_rows(studies=1, people=people, words=0)
    return [{**r, "demographic": {}, "prompt": render_prompt({}, r["stimuli"]), **more} for r in rows]


def make(folder, rows, name="set", **settings):
    write_rows(folder / f"{name}-rows" / "rows.jsonl", rows)
    settings = PrepareSettings("own", **settings)
    return folder / name, prepare(folder / name, settings, source=str(folder / f"{name}-rows"))


def units(folder, by):
    return {part: {UNITS[by](row) for _, row in read_jsonl(folder / f"{part}.jsonl")} for part in PARTS}


def test_one_study_by_person(tmp_path):
    rows = one_study()
    made, metadata = make(tmp_path, rows, by="person", judge_share=0.3, val_share=0.25, seed=4)
    people = units(made, "person")
    assert [len(people[part]) for part in PARTS] == [210, 22, 68]
    assert len(set().union(*people.values())) == 300 and sum(metadata["rows"].values()) == len(rows)
    assert metadata["counts"]["cells"] == dict.fromkeys(PARTS, 4), "every part has every question and condition"
    assert metadata["no_leak"] == {
        "unit": "participant of a study",
        "shared_prompts": {"train-val": 4, "train-test": 4, "val-test": 4},
    }
    assert (metadata["split"], metadata["source"]["lists"], metadata["left_out"]) == ("own", {}, {})
    shares = {"val_share": 0.25, "judge_share": 0.3}
    assert metadata["settings"] == {"split": "own", "by": "person", "seed": 4, "sample": None, **shares}
    assert split_of(metadata) == ("own", "person") and judged_by_person(made)
    assert check_prepared(made) == {name: metadata[name] for name in check_prepared(made)}

    again, _ = make(tmp_path, rows, "again", by="person", judge_share=0.3, val_share=0.25, seed=4)
    assert [sha256_file(again / f"{part}.jsonl") for part in PARTS] == list(metadata["sha256"].values())
    random.Random(0).shuffle(rows)
    shuffled, _ = make(tmp_path, rows, "shuffled", by="person", judge_share=0.3, val_share=0.25, seed=4)
    assert units(shuffled, "person") == people
    assert units(make(tmp_path, rows, "seed", by="person", judge_share=0.3, seed=5)[0], "person") != people


@pytest.mark.parametrize("by", ["study", "condition", "task"])
def test_whole_units_of_about_the_share(tmp_path, by):
    rows = list(made_rows(words=3))
    made, metadata = make(tmp_path, rows, by=by, judge_share=0.4, seed=1)
    found, again = units(made, by), list(rows)
    assert all(found.values()) and not any(found[a] & found[b] for a in PARTS for b in PARTS if a < b)
    assert metadata["rows"]["train"] / len(rows) == pytest.approx(0.6, abs=0.03)
    assert metadata["no_leak"]["unit"] == ("study" if by == "study" else f"{by} of a study")
    assert not judged_by_person(made)
    random.Random(1).shuffle(again)
    assert units(make(tmp_path, again, "shuffled", by=by, judge_share=0.4, seed=1)[0], by) == found
    judged = json.loads((made / "val.jsonl").read_text().splitlines()[2])
    with (made / "train.jsonl").open("a") as file:
        file.write(json.dumps(judged | {"prompt": "Something else."}) + "\n")
    with pytest.raises(SocratesError, match=f"leak: study {judged['study_id']}.* is in .*train.jsonl"):
        check_prepared(made)


def test_a_small_share_still_gives_val_and_test_a_unit_each(tmp_path):
    for seed in range(4):
        made, _ = make(tmp_path, made_rows(studies=3, words=2), f"set{seed}", by="study", judge_share=0.01, seed=seed)
        assert [len(found) for found in units(made, "study").values()] == [1, 1, 1]


def test_a_participant_in_two_parts_or_unknown_is_named_with_its_lines(tmp_path):
    made, _ = make(tmp_path, one_study(), by="person")
    train, val = ((made / f"{part}.jsonl").read_text().splitlines(keepends=True) for part in ("train", "val"))
    planted = json.loads(val[3])
    for person, says in (
        (str(planted["participant"]), r"is in .*train.jsonl \(line 8\) and in .*val.jsonl \(line [34]\)"),
        (None, 'train.jsonl, line 8: no "participant"'),
        ("", 'train.jsonl, line 8: no "participant"'),
    ):
        (made / "train.jsonl").write_text(
            "".join([*train[:7], json.dumps(planted | {"participant": person}) + "\n", *train[8:]])
        )
        with pytest.raises(SocratesError, match=says):
            check_prepared(made)


def test_rows_that_cannot_be_divided_so_are_refused_with_what_can(tmp_path):
    rows = one_study()
    with pytest.raises(SocratesError, match=r"--by study: .* has 1 of .* takes 3.*possible: --by person \(300\)$"):
        make(tmp_path, rows, by="study")
    with pytest.raises(SocratesError, match="--by question: the source has 2 of these"):
        make(tmp_path, rows, by="task")
    with pytest.raises(SocratesError, match="possible: no other --by"):
        make(tmp_path, one_study(participant=None), by="study")
    with pytest.raises(SocratesError, match=r'line 1: no "participant"[\s\S]*600 bad rows'):
        make(tmp_path, one_study(participant=None), by="person")
    same = [{**row, "prompt": "How warm?", "condition_num": i % 4} for i, row in enumerate(rows)]
    with pytest.raises(SocratesError, match=r"every prompt of train is in val or test too.*--by person"):
        make(tmp_path, same, by="condition")


def test_a_sample_by_person_is_whole_people(tmp_path):
    rows = list(made_rows(words=2))
    made, metadata = make(tmp_path, rows, by="person", sample=101)
    assert sum(metadata["rows"].values()) == pytest.approx(101, abs=3) and all(metadata["rows"].values())
    taken = Counter(UNITS["person"](row) for part in PARTS for _, row in read_jsonl(made / f"{part}.jsonl"))
    assert set(taken.values()) == {2}, "each person answered two questions"
    made, metadata = make(tmp_path, rows, "few", by="person", sample=1)
    assert metadata["rows"] == {"train": 2, "val": 2, "test": 2}


def test_as_many_people_as_published_take_seconds():
    sizes = {("s", str(i)): 1 + i % 12 for i in range(400_000)}
    chosen = carve(sizes, 0.2, 0)
    total = sum(sizes.values())
    assert sum(map(sizes.get, chosen)) == round(total / 5) and len(chosen) == pytest.approx(80_000, rel=0.01)


def test_settings_of_the_published_splits_stay_those_that_sets_were_made_with(tmp_path):
    """Else the same command would not know its set again."""
    metadata = prepare(tmp_path / "out", source=str(published_folder(tmp_path / "in", words=2)))
    assert metadata["settings"] == {"split": "study", "val_share": 0.5, "seed": 0, "sample": None}


def test_a_checkpoint_of_a_split_by_person_has_seen_its_people_and_not_its_cells(tmp_path):
    made, _ = make(tmp_path, one_study(), by="person")
    contents = read_contents(ensure_tokenized(made / "train.jsonl", tiny_tokenizer(), PromptSettings(), 2048))
    write_json(tmp_path / "training_data.json", {"train_sha256": "t" * 64, "split": "own", **contents})
    trained, val = (list(read_answers(made / f"{part}.jsonl")) for part in ("train", "val"))

    def seen(answers, people=True):
        people = [answer.participant for answer in answers] if people else None
        return find_contamination(tmp_path, [answer.cell for answer in answers], ["v" * 64], people).rows

    assert (seen(trained), seen(val), seen(trained[:3] + val)) == (len(trained), 0, 3)
    assert seen(val, people=False) == len(val), "rows of nobody count by their cells"
    elsewhere = [answer.cell._replace(study_id="other") for answer in trained]
    assert find_contamination(tmp_path, elsewhere, [], [answer.participant for answer in trained]).rows == 0
    assert find_contamination(tmp_path, [val[0].cell], ["t" * 64], [val[0].participant]).rows == 1
    by_study = defaultdict(set)
    for answer in trained:
        by_study[answer.cell.study_id].add(str(answer.participant))
    assert contents["participants"] == {study: sorted(people) for study, people in by_study.items()}

    (made / "metadata.json").unlink()  # a file that nothing is known of
    folder = ensure_tokenized(made / "train.jsonl", tiny_tokenizer(), PromptSettings(), 1024)
    assert read_contents(folder) == {"cells": contents["cells"]}


def test_the_command(tmp_path):
    source, out = write_rows(tmp_path / "rows.jsonl", one_study()), tmp_path / "out"
    command = ("prepare_data.py", "--output", out, "--source", source, "--split")
    done = run_loaded(*command, "own", "--by", "person")
    assert (done.returncode, done.stderr) == (0, "")
    assert "train.jsonl: 480 rows, 1 study, 4 cells" in done.stdout
    assert "No participant of a study is in two parts; the same questions and prompts may be" in done.stdout
    again = run_loaded("prepare_data.py", "--output", out, "--check")
    assert again.returncode == 0 and "No participant of a study is in two parts" in again.stdout
    assert_refused(run_loaded(*command, "own", "--by", "question"), "of by person (now task)")
    other = ("prepare_data.py", "--output", tmp_path / "other", "--source", source, "--split")
    assert_refused(
        run_loaded(*other, "own", "--by", "question"), "--by question: the source has 2", "--by person (300)"
    )
    assert_refused(run_loaded(*other, "own"), "--split own needs --by")
    assert_refused(run_loaded(*other, "study", "--by", "person"), "--by and --judge-share go with --split own")
    assert_refused(run_loaded(*other, "own", "--by", "person", "--judge-share", 1), "--judge-share: must be between")
    assert_refused(run_loaded(*other, "study"), "no participant_mapping.json", "--split own")
