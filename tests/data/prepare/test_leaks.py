"""The proof of no leak looks at the written files: whatever is wrong with them is refused with its name."""

import json

import pytest
from published import published_folder

from socrates.data.dataset import read_metadata
from socrates.data.prepare.leaks import check_prepared
from socrates.data.prepare.prepare import PrepareSettings, prepare
from socrates.errors import SocratesError
from socrates.files import sha256_file


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return published_folder(tmp_path_factory.mktemp("published"), "jsonl", files=1, words=5)


@pytest.fixture
def made(tmp_path, source):
    """A prepared set in the study split."""
    prepare(tmp_path / "set", source=str(source))
    return tmp_path / "set"


def lines(folder, part):
    return (folder / f"{part}.jsonl").read_text().splitlines(keepends=True)


def write(folder, part, new, *, keep_metadata=False):
    """Write a part anew; its count and hash in the metadata follow, as if it had been made so."""
    (folder / f"{part}.jsonl").write_text("".join(new))
    if not keep_metadata:
        metadata = json.loads((folder / "metadata.json").read_text())
        metadata["rows"][part] = len(new)
        metadata["sha256"][part] = sha256_file(folder / f"{part}.jsonl")
        (folder / "metadata.json").write_text(json.dumps(metadata))


def test_a_prepared_set_passes_and_says_what_it_counted(made):
    found, metadata = check_prepared(made), read_metadata(made)
    assert found == {key: metadata[key] for key in ("rows", "sha256", "counts", "no_leak", "scale_priors")}
    assert found["counts"]["units"] == {"train": 6, "val": 2, "test": 2}
    assert found["counts"]["cells"] == {"train": 24, "val": 8, "test": 8}
    assert found["no_leak"]["shared_prompts"] == {"train-val": 0, "train-test": 0, "val-test": 0}


@pytest.mark.parametrize(("one", "other"), [("val", "train"), ("test", "train"), ("val", "test")])
def test_a_study_in_two_parts_is_named(made, one, other):
    row = json.loads(lines(made, one)[3]) | {"prompt": "Something else."}
    write(made, other, [*lines(made, other), json.dumps(row) + "\n"])
    with pytest.raises(SocratesError, match=rf"leak: study {row['study_id']} is in") as refused:
        check_prepared(made)
    named = (f"{one}.jsonl (line ", f"{other}.jsonl (line {len(lines(made, other))})")
    assert all(name in str(refused.value) for name in named)


@pytest.mark.parametrize("split", ["condition", "task"])
def test_a_condition_or_task_in_two_parts_is_named(tmp_path, source, split):
    made = tmp_path / split
    prepare(made, PrepareSettings(split), source=str(source))
    found = check_prepared(made)
    assert found["no_leak"]["unit"] == f"{split} of a study"
    assert found["counts"]["studies"]["train"] == 9, "studies may be in all parts"
    row = json.loads(lines(made, "test")[0]) | {"prompt": "Something else."}
    write(made, "train", [*lines(made, "train"), json.dumps(row) + "\n"])
    with pytest.raises(SocratesError, match=f"leak: study {row['study_id']}, {split} 1 is in"):
        check_prepared(made)


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_prompt_of_a_judging_part_in_train_is_named_with_its_lines(made, part):
    prompt = json.loads(lines(made, part)[4])["prompt"]
    train = lines(made, "train")
    train[6] = json.dumps(json.loads(train[6]) | {"prompt": prompt}) + "\n"
    write(made, "train", train)
    with pytest.raises(SocratesError, match=rf"leak: the prompt of .*{part}.jsonl, line 5 is in .*train.jsonl, line 7"):
        check_prepared(made)


def test_a_prompt_in_val_and_test_is_counted_and_no_leak_of_training(made):
    prompt = json.loads(lines(made, "val")[4])["prompt"]
    test = lines(made, "test")
    test[0] = json.dumps(json.loads(test[0]) | {"prompt": prompt}) + "\n"
    write(made, "test", test)
    assert check_prepared(made)["no_leak"]["shared_prompts"] == {"train-val": 0, "train-test": 0, "val-test": 1}


def test_the_same_hash_of_two_texts_is_no_leak(made, monkeypatch):
    monkeypatch.setattr("socrates.data.prepare.leaks.prompt_hash", lambda prompt: 7)
    assert check_prepared(made)["rows"] == read_metadata(made)["rows"]


def test_a_data_file_changed_after_its_metadata_is_named(made):
    val = lines(made, "val")
    val[2] = val[2].replace('"response": ', '"response":  ')
    write(made, "val", val, keep_metadata=True)
    with pytest.raises(SocratesError, match=r"val.jsonl: data file changed after its metadata"):
        check_prepared(made)


def test_a_missing_part_and_missing_metadata_are_named(made):
    (made / "test.jsonl").unlink()
    with pytest.raises(SocratesError, match=r"test.jsonl: no such data file"):
        check_prepared(made)
    (made / "metadata.json").unlink()
    with pytest.raises(SocratesError, match=r"no prepared set is there, since it holds no metadata.json"):
        check_prepared(made)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m["rows"].update(train=175), r"train.jsonl: holds 174 rows, metadata.json says 175"),
        (lambda m: m["rows"].update(test=0), r"test.jsonl: holds \d+ rows, metadata.json says 0"),
        (lambda m: m.pop("split"), '"split" must be one of study, condition, task'),
        (lambda m: [m[name].pop("train") for name in ("rows", "sha256")], "must have train and val or test"),
        (lambda m: m.update(rows={}, sha256={}), "must have train and val or test"),
        (lambda m: m["sha256"].pop("val"), '"rows" and "sha256" of the same parts'),
    ],
)
def test_metadata_that_say_something_else_are_refused(made, change, says):
    metadata = read_metadata(made)
    change(metadata)
    (made / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(SocratesError, match=says):
        check_prepared(made)
