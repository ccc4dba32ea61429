"""Preparing the published data: the right rows in the right part, the same bytes whatever happened on the way."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from processes import PATIENCE, ROOT, assert_refused, in_a_fork, run_loaded
from published import made_rows, published_folder, study_names, write_mappings, write_parquet, write_rows

from socrates.data.dataset import PARTS, read_metadata
from socrates.data.prepare.lines import write_lines
from socrates.data.prepare.prepare import LOCK, WORK, PrepareSettings, prepare
from socrates.data.records import read_answers, read_jsonl
from socrates.data.scales.text import parse_scale
from socrates.errors import SocratesError
from socrates.files import sha256_file, try_lock

FIELDS = ["prompt", "response", "study_id", "condition_num", "task_num", "participant", "sample_id", "demographic"]


def hashes(folder):
    return {part: sha256_file(folder / f"{part}.jsonl") for part in PARTS}


def rows_of(folder, part):
    return [row for _, row in read_jsonl(folder / f"{part}.jsonl")]


@pytest.fixture
def published(tmp_path):
    """A data set in JSONL whose rows a test may change: call it with them."""

    def published(rows, raw=b""):
        write_rows(tmp_path / "in" / "rows.jsonl", rows)
        with (tmp_path / "in" / "rows.jsonl").open("ab") as file:
            file.write(raw)
        return str(write_mappings(tmp_path / "in"))

    return published


# --- what goes where -------------------------------------------------------------------------------------------


def test_the_study_split(tmp_path):
    source = published_folder(tmp_path / "in")
    metadata = prepare(tmp_path / "out", source=str(source))
    names, rows = study_names(10), list(made_rows())
    parts = {part: rows_of(tmp_path / "out", part) for part in PARTS}
    studies = {part: {row["study_id"] for row in found} for part, found in parts.items()}
    assert studies["train"] == set(names[:6]) and studies["val"] | studies["test"] == set(names[6:])
    assert studies["val"] and studies["test"] and not studies["val"] & studies["test"]
    assert [list(row) for row in parts["train"][:2]] == [list(FIELDS)] * 2
    wanted = [row for row in rows if row["study_id"] in studies["val"]]  # in the source's order
    assert [row["prompt"] for row in parts["val"]] == [row["prompt"] for row in wanted]
    assert parts["train"][0]["demographic"] == {"age": 18, "gender": "Male", "party_id": "party 0"}
    assert metadata["rows"] == {part: len(found) for part, found in parts.items()}
    assert metadata["sha256"] == hashes(tmp_path / "out")
    assert metadata == read_metadata(tmp_path / "out") and not (tmp_path / "out" / WORK).exists()
    assert metadata["source"]["lists"].keys() == {"participant_mapping.json"}


@pytest.mark.parametrize(("split", "field"), [("condition", "condition_num"), ("task", "task_num")])
def test_the_condition_and_task_splits_leave_out_and_name_what_is_in_no_list(tmp_path, published, split, field):
    rows = [*made_rows(words=3), *(r | {field: 7} for r in made_rows(studies=1, people=2, words=2, seed=1))]
    metadata = prepare(tmp_path / "out", PrepareSettings(split), source=published(rows))
    parts = {part: rows_of(tmp_path / "out", part) for part in PARTS}
    assert {row[field] for row in parts["train"]} == {0}
    assert {row[field] for row in parts["val"] + parts["test"]} == {1}
    where = {"mad00/7": 4, "mad09/0": 21 if split == "task" else 22, "mad09/1": 21 if split == "task" else 20}
    assert metadata["left_out"] == {f"{split} in no list": {"rows": 46, "where": where}}
    assert sum(metadata["rows"].values()) + 46 == len(rows)


def test_a_train_row_with_a_prompt_of_val_or_test_is_dropped_and_counted(tmp_path, published):
    rows = list(made_rows(words=3))
    judging = next(row for row in rows if row["study_id"] == "mad08")
    rows[5] |= {"prompt": judging["prompt"], "stimuli": judging["stimuli"]}
    rows[9] |= {"prompt": rows[4]["prompt"]}  # twice in train: stays
    metadata = prepare(tmp_path / "out", source=published(rows))
    assert metadata["left_out"] == {"prompt of train that is in val or test too": {"rows": 1, "where": {"mad00": 1}}}
    assert metadata["rows"]["train"] == 173
    assert metadata["no_leak"]["shared_prompts"] == {"train-val": 0, "train-test": 0, "val-test": 0}


def test_stimuli_that_the_prompt_does_not_tell_are_kept(tmp_path, published):
    rows = list(made_rows(words=3))
    rows[0] |= {"prompt": f"Be brief. {rows[0]['stimuli']}"}
    prepare(tmp_path / "out", source=published(rows))
    prepared = {a.prompt: a.stimuli for part in PARTS for a in read_answers(tmp_path / "out" / f"{part}.jsonl")}
    assert prepared == {row["prompt"]: row["stimuli"] for row in rows}
    assert ["stimuli" in row for row in rows_of(tmp_path / "out", "train")[:2]] == [True, False]


def test_a_sample_is_whole_cells_of_both_sides(tmp_path, published):
    rows = list(made_rows(words=3))
    metadata = prepare(tmp_path / "out", PrepareSettings(sample=100), source=published(rows))
    assert 60 <= sum(metadata["rows"].values()) <= 100 and metadata["settings"]["sample"] == 100
    kept = [row for part in PARTS for row in rows_of(tmp_path / "out", part)]
    sizes, taken = (Counter((r["study_id"], r["condition_num"], r["task_num"]) for r in some) for some in (rows, kept))
    assert all(sizes[cell] == count for cell, count in taken.items())
    assert all(metadata["rows"].values())
    with pytest.raises(SocratesError, match="--sample 5: too few for whole cells"):
        prepare(tmp_path / "few", PrepareSettings(sample=5), source=str(tmp_path / "in"))


# --- layouts ---------------------------------------------------------------------------------------------------


def test_all_layouts_give_the_same_answers_scales_and_cells(tmp_path):
    for kind in ("parquet", "jsonl", "instruction"):
        prepare(tmp_path / f"out-{kind}", source=str(published_folder(tmp_path / kind, kind)))
    assert hashes(tmp_path / "out-parquet") == hashes(tmp_path / "out-jsonl")
    for part in PARTS:
        one, other = (
            list(read_answers(tmp_path / f"out-{kind}" / f"{part}.jsonl")) for kind in ("jsonl", "instruction")
        )
        assert [(a.prompt, a.stimuli, a.response) for a in one] == [(a.prompt, a.stimuli, a.response) for a in other]
        assert [parse_scale(a.stimuli) for a in one] == [parse_scale(a.stimuli) for a in other]
        cells = {(a.cell, b.cell) for a, b in zip(one, other, strict=True)}  # one to one, though with other names
        assert len(cells) == len({a for a, _ in cells}) == len({b for _, b in cells})
        assert [a.cell[:2] for a in one] == [b.cell[:2] for b in other]


def test_decimals_are_numbers_and_nan_is_nobody(tmp_path):
    plain, converted = ([{**row, "stimuli": None} for row in made_rows()] for _ in range(2))
    for index, row in enumerate(converted):
        row["response"], row["condition_num"] = Decimal(f"{row['response']}.00"), Decimal(row["condition_num"])
        row["demographic"] = {**row["demographic"], "age": Decimal(30), "weight": Decimal("1.50")}
        row["participant"] = float("nan") if index % 2 else float(row["participant"])
        plain[index]["demographic"] = {**row["demographic"], "age": 30, "weight": 1.5}
        plain[index]["participant"] = None if index % 2 else plain[index]["participant"]
    for name in ("plain", "marked"):
        write_rows(tmp_path / name / "rows.jsonl", plain)
    text = (tmp_path / "marked" / "rows.jsonl").read_text()
    (tmp_path / "marked" / "rows.jsonl").write_text(
        "\ufeff" + text.replace('"participant": null', '"participant": NaN')
    )
    write_parquet(tmp_path / "converted" / "rows.parquet", converted)
    for name in ("plain", "marked", "converted"):
        prepare(tmp_path / "out" / name, source=str(write_mappings(tmp_path / name)))
        assert hashes(tmp_path / "out" / name) == hashes(tmp_path / "out" / "plain")


# --- bad input -------------------------------------------------------------------------------------------------

GOOD = next(made_rows())
BAD = {
    "cut": (json.dumps(GOOD).encode()[:200], "not JSON: .*the file may be cut off"),
    "encoding": (b'{"prompt": "caf\xe9"}\n', "not UTF-8 text"),
    "nested null": (GOOD | {"demographic": {"age": {"years": None}}}, '"age" must be a text or a number'),
    "NaN": (GOOD | {"response": float("nan")}, '"response" must be a whole number'),
    "no such study": (GOOD | {"study_id": "nowhr"}, 'study "nowhr" is in neither published list'),
    "twice": (b'{"response": 1, "response": 2}\n', 'the key "response" stands there twice'),
    "half a character": (GOOD | {"demographic": {"age": "\ud800"}}, '"demographic" holds half a character'),
    "infinite": (GOOD | {"demographic": {"age": float("inf")}}, "cannot be written as JSON"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_rows_are_named_counted_and_left_out_if_that_is_allowed(tmp_path, published, what):
    bad, says = BAD[what]
    raw = b"\n" + (bad if isinstance(bad, bytes) else json.dumps(bad).encode() + b"\n")  # an empty line counts as one
    source = published(made_rows(words=2), raw)
    line = 332
    with pytest.raises(SocratesError, match=rf"rows.jsonl, line {line}: .*{says}[\s\S]*1 bad row, 0 allowed"):
        prepare(tmp_path / "out", source=source)
    assert [path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")] == []
    metadata = prepare(tmp_path / "out", source=source, max_bad_rows=1)
    assert sum(metadata["rows"].values()) == 330 and metadata["bad_rows"]["rows"] == 1
    [named] = metadata["bad_rows"]["first"]
    assert (named["file"], named["line"]) == ("rows.jsonl", line)
    prepare(tmp_path / "clean", source=published(made_rows(words=2)))
    assert hashes(tmp_path / "clean") == hashes(tmp_path / "out")


def test_of_many_bad_rows_twenty_are_named(tmp_path, published):
    source = published(made_rows(words=2), b"{}\n" * 50)
    with pytest.raises(SocratesError) as error:
        prepare(tmp_path / "out", source=source)
    *lines, more, counted = str(error.value).splitlines()
    assert [line.split(":")[0].rpartition(" ")[2] for line in lines] == [str(331 + n) for n in range(20)]
    assert more.strip() == "… and 30 more" and "50 bad rows, 0 allowed" in counted
    bad = prepare(tmp_path / "out", source=source, max_bad_rows=50)["bad_rows"]
    assert bad["rows"] == 50 and len(bad["first"]) == 20


def test_rows_are_counted_in_each_file(tmp_path):
    source = published_folder(tmp_path / "in", "jsonl", files=3)
    for name, at in (("train-00001-of-00003", 70), ("train-00002-of-00003", 99)):
        path = source / "data" / f"{name}.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join([*lines[:at], "{}\n", *lines[at:]]))
    metadata = prepare(tmp_path / "out", source=str(source), max_bad_rows=2)
    assert [(bad["file"], bad["line"]) for bad in metadata["bad_rows"]["first"]] == [
        ("data/train-00001-of-00003.jsonl", 71),
        ("data/train-00002-of-00003.jsonl", 100),
    ]
    rows = list(made_rows(words=2))
    rows[77] |= {"response": None}
    write_parquet(tmp_path / "parquet" / "x.parquet", rows, row_group_size=20)
    with pytest.raises(SocratesError, match=r'x.parquet, row 78: "response" must be a whole number, not null'):
        prepare(tmp_path / "other", source=str(write_mappings(tmp_path / "parquet")))


def test_sources_that_cannot_be_used(tmp_path):
    (tmp_path / "empty").mkdir()
    cut = published_folder(tmp_path / "cut")
    file = next((cut / "data").iterdir())
    file.write_bytes(file.read_bytes()[:-40])
    lists = published_folder(tmp_path / "lists", "jsonl")
    (lists / "metadata" / "participant_mapping.json").unlink()
    both = published_folder(tmp_path / "both", "jsonl")
    write_parquet(both / "more.parquet", list(made_rows(studies=1)))
    for source, says in [
        (tmp_path / "nothing", "no such folder or file"),
        (tmp_path / "empty", "no .parquet and no .jsonl file"),
        (cut, "no parquet file, or one that is damaged or was cut off"),
        (lists, r"no participant_mapping.json.*expected .*lists/metadata/participant_mapping.json"),
        (both, "holds parquet and JSONL files both"),
        (lists / "metadata" / "task_mapping.json", r"is a .json file; expected rows of the published"),
    ]:
        with pytest.raises(SocratesError, match=says):
            prepare(tmp_path / "out", source=str(source))
    (tmp_path / "a file").write_text("")
    with pytest.raises(SocratesError, match=r"--output .*/a file: is no folder"):
        prepare(tmp_path / "a file", source=str(published_folder(tmp_path / "good")))
    with pytest.raises(SocratesError, match="lies in the source's folder"):
        prepare(cut / "data" / "out", source=str(cut / "metadata" / ".."))
    with pytest.raises(SocratesError, match="a local folder has no revisions"):
        prepare(tmp_path / "out", source=str(both), revision="main")
    with pytest.raises(SocratesError, match="cannot reach the hub"):
        prepare(tmp_path / "out", source="nobody/nothing-of-this-name")


def test_links_spaces_and_a_part_of_the_published_folder(tmp_path):
    """The hub's cache holds links; and a user may name `data/`, or a file in it, with the lists beside `data/`."""
    source = published_folder(tmp_path / "in put", files=1)
    linked = tmp_path / "links"
    for file in [file for file in source.rglob("*") if file.is_file()]:
        (linked / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
        (linked / file.relative_to(source)).symlink_to(file)
    [file] = (source / "data").iterdir()
    folders, made = tmp_path / "folders", []
    folders.mkdir()
    for name, place in (("data", source / "data"), ("metadata", source / "metadata"), ("again", source / "data")):
        (folders / name).symlink_to(place)
    (folders / "above").symlink_to(tmp_path / "folders")
    for name, given in (("a", source), ("b", linked), ("c", source / "data"), ("d", file), ("e", folders)):
        prepare(tmp_path / "out put" / name, source=str(given))
        made.append(hashes(tmp_path / "out put" / name))
    assert made == made[:1] * 5
    with pytest.raises(SocratesError, match="lies in the source's folder"):
        prepare(source / "data" / "out", source=str(folders))
    file.unlink()
    with pytest.raises(SocratesError, match=r"is no file, or a link to one that is not there"):
        prepare(tmp_path / "out", source=str(linked))


# --- a second time, at once, and after a kill --------------------------------------------------------------------


def test_the_same_again_does_nothing_and_another_set_is_only_replaced_if_told(tmp_path, published):
    source, out = published(made_rows(words=2)), tmp_path / "out"
    prepare(out, source=source)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("[!.]*")}
    assert prepare(out, source=source) is None
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("[!.]*")} == before
    with pytest.raises(SocratesError, match=r"test.jsonl of seed 0 \(now 1\); .*--overwrite"):
        prepare(out, PrepareSettings(seed=1), source=source)
    assert prepare(out, PrepareSettings(seed=1), source=source, overwrite=True)["settings"]["seed"] == 1
    (out / "val.jsonl").write_text("")
    with pytest.raises(SocratesError, match=r"val.jsonl: data file changed after its metadata"):
        prepare(out, PrepareSettings(seed=1), source=source)


def test_files_that_were_not_made_here_are_not_replaced_and_two_at_once_are_refused(tmp_path, published):
    out = tmp_path / "out"
    out.mkdir()
    with (out / LOCK).open("a") as lock:
        assert try_lock(lock)
        with pytest.raises(SocratesError, match="another preparation is writing there now"):
            prepare(out, source=published(made_rows(words=2)))
    (out / "train.jsonl").write_text("mine\n")
    with pytest.raises(SocratesError, match=r"holds train.jsonl"):
        prepare(out, source=published(made_rows(words=2)))
    assert (out / "train.jsonl").read_text() == "mine\n"


@pytest.fixture
def three_files(tmp_path):
    return str(published_folder(tmp_path / "in", "jsonl", files=3, words=20))


def test_killed_at_each_write_to_disk_it_leaves_nothing_and_the_next_run_ends_with_the_same_bytes(
    tmp_path, three_files
):
    prepare(tmp_path / "whole", source=three_files)
    wanted = hashes(tmp_path / "whole") | {"metadata": sha256_file(tmp_path / "whole" / "metadata.json")}
    for n in range(1, 40):
        out = tmp_path / f"out{n}"
        if in_a_fork(lambda out=out: prepare(out, source=three_files), at_sync=n):
            break
        check_whole_or_absent(out, wanted)
        prepare(out, source=three_files)
        check_whole_or_absent(out, wanted, complete=True)
    assert 8 < n < 39


def check_whole_or_absent(out, wanted, complete=False):
    files = {"metadata": out / "metadata.json"} | {part: out / f"{part}.jsonl" for part in PARTS}
    there = {name for name, file in files.items() if file.exists()}
    assert {name: sha256_file(files[name]) for name in there} == {name: wanted[name] for name in there}
    assert "metadata" not in there or there == set(wanted)
    if complete:
        assert there == set(wanted) and not (out / WORK).exists()


def test_a_source_that_changes_while_it_is_read_is_not_taken(tmp_path, three_files, monkeypatch):
    """Its hash, which the metadata name, was made before."""

    def change_and_write(*arguments):
        os.utime(next((Path(three_files) / "data").iterdir()))
        return write_lines(*arguments)

    monkeypatch.setattr("socrates.data.prepare.prepare.write_lines", change_and_write)
    with pytest.raises(SocratesError, match="was changed while it was read"):
        prepare(tmp_path / "out", source=three_files)
    assert not (tmp_path / "out/metadata.json").exists()


def test_a_kill_while_replacing_never_mixes_two_sets_under_one_metadata(tmp_path, three_files):
    prepare(tmp_path / "old", PrepareSettings(val_share=0.2), source=three_files)
    (tmp_path / "old" / "notes.txt").write_text("the user's")
    prepare(tmp_path / "whole", source=three_files)
    old, new = hashes(tmp_path / "old"), hashes(tmp_path / "whole")
    assert old["val"] != new["val"]
    ends = set()
    for n in range(1, 40):
        out = Path(shutil.copytree(tmp_path / "old", tmp_path / f"out{n}"))
        done = in_a_fork(lambda out=out: prepare(out, source=three_files, overwrite=True), at_sync=n)
        if (out / "metadata.json").exists():
            assert read_metadata(out)["sha256"] == hashes(out)
            ends.add("old" if hashes(out) == old else "new")
        else:
            ends.add("none")
        if done:
            break
        if (out / WORK / "metadata.json").exists() or hashes(out) == new:  # it counts: any run moves the rest
            assert prepare(out, source=three_files) is None
        else:
            assert hashes(out) == old and prepare(out, source=three_files, overwrite=True)
        assert hashes(out) == new and (out / "notes.txt").exists() and not (out / WORK).exists()
    assert done and ends == {"old", "none", "new"}


def test_a_disk_that_is_full_says_so_and_leaves_nothing(tmp_path, three_files):
    """A limit on the size of files stands for the full disk: writing fails in the same way."""

    def write():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        with pytest.raises(SocratesError, match="cannot write: File too large"):
            prepare(tmp_path / "out", source=three_files)

    assert in_a_fork(write)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [LOCK]


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_leaves_nothing(tmp_path):
    """Sent to the whole group, as a terminal does, once it writes."""
    source = published_folder(tmp_path / "in", "jsonl", people=60)
    out = tmp_path / "out"
    command = [sys.executable, str(ROOT / "scripts" / "prepare_data.py"), "--source", str(source), "--output", str(out)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, start_new_session=True, **pipes)
    while process.poll() is None and not (out / WORK).exists():
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=PATIENCE)[1]
    assert "Traceback" not in said and process.returncode == 130, said
    assert [path.name for path in out.iterdir()] == [LOCK]


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_prepares_checks_and_says_what_it_did(tmp_path, published):
    source, out = published(made_rows(words=2)), tmp_path / "a folder"
    done = run_loaded("prepare_data.py", "--output", out, "--source", source)
    assert (done.returncode, done.stderr) == (0, "")
    assert "train.jsonl: 174 rows, 6 studies, 24 cells" in done.stdout
    assert "No study is in two parts, and no prompt of val or test is in train" in done.stdout
    again = run_loaded("prepare_data.py", "--output", out, "--source", source)
    assert again.returncode == 0 and "nothing to do" in again.stdout
    (out / "test.jsonl").write_text((out / "val.jsonl").read_text())
    assert_refused(run_loaded("prepare_data.py", "--output", out, "--check"), "leak: study")
    assert_refused(run_loaded("prepare_data.py", "--output", tmp_path, "--check"), "no prepared set is there")


@pytest.mark.parametrize("wrong", ["--split random", "--val-share 1", "--sample 0", "--max-bad-rows -1", "--seed -1"])
def test_wrong_arguments_end_with_2_before_anything_happens(tmp_path, wrong):
    name, value = wrong.split()
    assert_refused(run_loaded("prepare_data.py", "--output", tmp_path / "out", "--source", tmp_path, name, value), name)
    assert not (tmp_path / "out").exists()
