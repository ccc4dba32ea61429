"""A model and a data file to a results folder, through the real script with a real (tiny) model."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from comparing import assert_close, json_lines
from loaded import Loaded
from made_answers import make_sample_data
from processes import PATIENCE, ROOT, assert_refused, environment, run_loaded, run_script, wait_for
from tiny import with_adapter
from transformers import AutoModelForCausalLM

from socrates.checkpoint import GUIDE_FILES, write_manifest
from socrates.config import load_config
from socrates.data.contamination import nest_cells
from socrates.data.records import read_answers
from socrates.errors import SocratesError
from socrates.evaluation import evaluate as evaluation
from socrates.files import write_json, write_jsonl
from socrates.inference.run import InferenceRequest, settings_of
from socrates.rehearsal.base_model import make_base_model
from socrates.rehearsal.rehearsal import rehearsal_config

DATA = "data/set/val.jsonl"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with data, a tiny base model, a checkpoint and a config."""
    folder = tmp_path_factory.mktemp("evaluate")
    make_sample_data(folder / "data" / "set", people=8, train_studies=4, val_studies=3)
    about = folder / "data" / "set" / "metadata.json"
    write_json(about, {**read(about), "scale_priors": {"1 to 7": {"1": 0.5, "7": 0.5}}})
    make_base_model(folder / "models" / "base", folder / "data" / "set" / "train.jsonl", steps=20)
    write_json(folder / "config.json", rehearsal_config("models/base", "data/set", steps=40, save_steps=20))
    base, checkpoint = folder / "models" / "base", folder / "models" / "run" / "checkpoint-7"
    model = AutoModelForCausalLM.from_pretrained(base)
    model.name_or_path = "models/base"
    with_adapter(model, seed=1).save_pretrained(checkpoint)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(base / file, checkpoint)
    for file in GUIDE_FILES:
        if not (checkpoint / file).exists():
            (checkpoint / file).write_text("x")
    write_json(checkpoint / "training_config.json", {"config": read(folder / "config.json")})
    write_manifest(checkpoint, 1)
    return folder


@pytest.fixture(scope="module")
def baseline(workplace):
    """The results of a baseline there; and what it said, in a log beside them."""
    result = run_script("evaluate_baseline.sh", "--config", "config.json", cwd=workplace, VIRTUAL_ENV=sys.prefix)
    assert result.returncode == 0, result.stdout + result.stderr
    (workplace / "evaluation_results" / "baseline.log").write_text(result.stdout)
    return workplace / "evaluation_results" / "baseline"


def evaluate(folder, *arguments):
    return run_loaded("evaluate.py", *arguments, cwd=folder)


def evaluate_model(folder, place, model, data=DATA, *more):
    return evaluate(folder, "--model", model, "--test-data", data, "--output", place / "out", *more)


def read(path):
    return json.loads(path.read_text())


def predictions(folder):
    return json_lines(folder / "predictions.jsonl")


def assert_same_results(folder, expected, names=("predictions.jsonl",)):
    for name in names:
        assert_close(json_lines(folder / name), json_lines(expected / name), name)


def write_config(folder, **changes):
    """The config with other sections, or other values in them; as the name of a file there."""
    config = read(folder / "config.json")
    for name, value in changes.items():
        config[name] = config.get(name, {}) | value if isinstance(value, dict) else value
    write_json(folder / "other.json", config)
    return "other.json"


@pytest.mark.slow
def test_the_baseline_prints_the_guides_lines_and_writes_its_results(baseline):
    log = baseline.with_name("baseline.log").read_text().splitlines()
    assert log[:3] == ["Baseline Model Evaluation", "Model: models/base", f"Validation data: {DATA}"]
    start = log.index("Baseline Evaluation Complete")
    assert log[start + 1] == "Key baseline metrics:"
    metrics = read(baseline / "metrics.json")
    for line, name in zip(log[start + 2 :], ("wasserstein_distance", "wasserstein_drawn", "mae"), strict=False):
        assert line.startswith(f'  "{name}": {metrics[name]:.4f}')
    rows = predictions(baseline)
    assert len(rows) == metrics["coverage"]["rows"] == 144
    assert metrics["about"]["settings"]["prompt"] == {"system_message": None, "date": "2024-07-26"}
    for row in rows:
        if row["predicted_distribution"] is not None:
            assert sum(row["predicted_distribution"].values()) == pytest.approx(1, abs=1e-6)
            assert str(row["prediction"]) in row["predicted_distribution"]


def test_stored_answers_under_another_decoding_are_those_of_such_an_evaluation(workplace, tmp_path):
    """Of the evaluation's own decoding, and of none; any other is refused, as are answers of unknown decoding."""
    own, none = {"temperature": 0.6, "top_p": 0.9}, {"temperature": 1, "top_p": 1}
    for name, decoding in (("own", own), ("none", none)):
        config = write_config(workplace, decoding=decoding)
        options = ("--config", config, "--model", "models/base", "--test-data", DATA, "--max-examples", "40")
        result = evaluate(workplace, *options, "--output", tmp_path / name)
        assert result.returncode == 0, result.stdout + result.stderr
    bounds = read(tmp_path / "own/metrics.json")["bounds"]
    assert bounds["scale_prior"] != bounds["uniform_guess"] and bounds["pooled_conditions"] > bounds["empirical_best"]
    assert "not asked" in {cell["skipped"] for cell in json_lines(tmp_path / "own/cells.jsonl")}

    def again(of, temperature, top_p):
        options = ("--temperature", str(temperature), "--top-p", str(top_p), "--output", tmp_path / "again")
        return run_loaded("score_predictions.py", tmp_path / of, *options, "--overwrite", cwd=workplace)

    for name, decoding in (("own", own), ("none", none)):
        result = again("own", **decoding)
        assert result.returncode == 0, result.stderr
        found, expected = read(tmp_path / "again/metrics.json"), read(tmp_path / name / "metrics.json")
        for key in ("comparability", "coverage", "seen"):
            assert found.pop(key) == expected.pop(key)
        assert found["about"]["evaluated_decoding"] == own and found["about"]["base_model"] == "models/base"
        assert_close({**found, "about": None}, {**expected, "about": None}, name, 1e-9)
        assert_close(predictions(tmp_path / "again"), predictions(tmp_path / name), name, 1e-9)
    assert_refused(again("own", 0.8, 1), "cannot be told from these, of temperature=0.6 top_p=0.9", "evaluate again")
    assert_refused(again("none", 0.6, 0.9), "cannot be told from these, of temperature=1.0 top_p=1.0")
    lines = predictions(tmp_path / "own")
    write_jsonl(tmp_path / "own/predictions.jsonl", lines[1:])
    assert_refused(again("own", 1, 1), "need the results of an evaluation")
    write_jsonl(tmp_path / "own/predictions.jsonl", [{**lines[0], "probabilities": None}, *lines[1:]])
    assert "1 rows were answered by sampling" in again("own", 1, 1).stdout
    assert read(tmp_path / "again/metrics.json")["about"]["left_out_rows"] == 1
    write_jsonl(tmp_path / "own/predictions.jsonl", [{**line, "probabilities": None} for line in lines])
    assert_refused(again("own", 1, 1), "evaluate again")


@pytest.mark.slow
def test_a_checkpoint_is_asked_the_same_rows_and_compared(workplace, baseline):
    result = run_script(
        "evaluate_checkpoint.sh",
        "models/run/checkpoint-7",
        baseline.relative_to(workplace) / "metrics.json",
        cwd=workplace,
        VIRTUAL_ENV=sys.prefix,
    )
    assert result.returncode in (0, 1), result.stdout + result.stderr
    assert ("✅ GO - " in result.stdout) == (result.returncode == 0)
    results = workplace / "evaluation_results/run/checkpoint-7"
    assert read(results / "decision.json")["decision"] == ("GO" if result.returncode == 0 else "NO-GO")
    checkpoint = read(results / "metrics.json")
    assert checkpoint["comparability"] == read(baseline / "metrics.json")["comparability"]
    assert checkpoint["about"]["base_model"] == "models/base" and checkpoint["about"]["adapter_sha256"]
    ours, theirs = predictions(results), predictions(baseline)
    assert ours != theirs, "the adapter acts"
    for key in ("line", "study_id", "response"):
        assert [row[key] for row in ours] == [row[key] for row in theirs]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"evaluation": {"max_examples": 50}}, "rows_sha256"),
        ({"seed": 7}, "seed"),
        ({"decoding": {"temperature": 1.0, "top_p": 0.9}}, "decoding"),
        ({"prompt": {"system_message": "Be brief."}}, "prompt_fingerprint"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_the_model_is_asked(workplace, baseline, tmp_path, changes, reason):
    config = write_config(workplace, **changes)
    arguments = ("--config", config, "--compare-with", baseline / "metrics.json")
    result = evaluate_model(workplace, tmp_path, "models/run/checkpoint-7", DATA, *arguments)
    assert_refused(result, "cannot be compared", reason)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_damaged_adapter_is_not_evaluated(workplace, tmp_path):
    shutil.copytree(workplace / "models/run/checkpoint-7", tmp_path / "checkpoint-7")
    weights = tmp_path / "checkpoint-7" / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1  # still loads, with another number in it
    weights.write_bytes(data)
    asked = (workplace, tmp_path, tmp_path / "checkpoint-7")
    assert_refused(evaluate_model(*asked), "adapter_model.safetensors has changed")
    shutil.copy(workplace / "models/run/checkpoint-7/adapter_model.safetensors", weights)
    manifest = (tmp_path / "checkpoint-7" / "manifest.json").rename(tmp_path / "manifest.json")
    assert_refused(evaluate_model(*asked), "has no manifest.json yet")
    manifest.rename(tmp_path / "checkpoint-7" / "manifest.json")
    (tmp_path / "checkpoint-7" / "optimizer.pt").unlink()  # not needed to evaluate: a light download lacks it
    result = evaluate_model(*asked, DATA, "--max-examples", 40)
    assert result.returncode == 0, result.stderr


def record_training_data(checkpoint, cells, sha256="0" * 64):
    record = {"train_sha256": sha256, "split": "study", "cells": nest_cells(cells)}
    write_json(checkpoint / "training_data.json", record)
    write_manifest(checkpoint, 1)


@pytest.mark.slow
def test_a_base_on_the_hub_is_asked_for_where_more_than_the_checkpoint_names_it(workplace, baseline, tmp_path):
    checkpoint = shutil.copytree(workplace / "models/run/checkpoint-7", tmp_path / "checkpoint-7")
    for file, changes in (
        ("adapter_config.json", {"base_model_name_or_path": "some/base"}),
        ("training_config.json", {"config": read(workplace / write_config(workplace, model_name="some/base"))}),
    ):
        write_json(checkpoint / file, read(checkpoint / file) | changes)
    write_manifest(checkpoint, 1)
    metrics = read(baseline / "metrics.json")
    write_json(tmp_path / "baseline.json", metrics | {"about": metrics["about"] | {"base_model": "some/base"}})
    result = evaluate_model(workplace, tmp_path, checkpoint)
    assert_refused(result, "some/base: not in the local cache, and not downloaded, as only an adapter names it")
    for named in (
        ("--base-model", "some/base"),
        ("--config", "other.json"),
        ("--compare-with", tmp_path / "baseline.json"),
    ):
        result = evaluate_model(workplace, tmp_path, checkpoint, DATA, *named)
        assert_refused(result, "some/base: no folder here, and cannot reach the hub")


@pytest.mark.slow
def test_rows_that_the_checkpoint_was_trained_on_do_not_judge_it(workplace, tmp_path):
    shutil.copytree(workplace / "models/run/checkpoint-7", checkpoint := tmp_path / "checkpoint-7")
    judging = list(read_answers(workplace / DATA))
    training = {answer.cell for answer in read_answers(workplace / "data/set/train.jsonl")}
    arguments = ("--model", checkpoint, "--test-data", DATA, "--output", tmp_path / "out", "--max-examples", 40)
    record_training_data(checkpoint, training)
    result = evaluate(workplace, *arguments)
    assert result.returncode == 0, result.stderr
    seen = read(tmp_path / "out/metrics.json")["seen"]
    assert seen.pop("of") > 0 and seen == {"rows": 0, "studies": [], "split": "study"}

    study = judging[0].cell.study_id
    record_training_data(checkpoint, training | {answer.cell for answer in judging if answer.cell.study_id == study})
    result = evaluate(workplace, *arguments)  # also where results are there already
    assert_refused(result, "may have been trained on", study, "--allow-seen")
    result = evaluate(workplace, *arguments, "--allow-seen")  # and is recorded in these results, too
    assert result.returncode == 0 and "Already evaluated" in result.stdout, result.stderr
    seen = read(tmp_path / "out/metrics.json")["seen"]
    assert seen["studies"] == [study] and 0 < seen["rows"] < seen["of"]
    assert f"may have been trained on {seen['rows']} of these rows" in result.stdout


@pytest.mark.slow
def test_a_checkpoint_whose_record_of_the_training_data_is_lost(workplace, tmp_path):
    checkpoint = shutil.copytree(workplace / "models/run/checkpoint-7", tmp_path / "checkpoint-7")
    record_training_data(checkpoint, [])
    evaluation.check_checkpoint(checkpoint)
    (checkpoint / "training_data.json").unlink()
    with pytest.raises(SocratesError, match=r"training_data.json is missing"):
        evaluation.check_checkpoint(checkpoint)
    write_manifest(checkpoint, 1)  # a checkpoint of an earlier version never had it
    evaluation.check_checkpoint(checkpoint)


@pytest.mark.slow
def test_missing_answers_are_neither_asked_nor_scored(workplace, tmp_path):
    labelled = "Only return 1 for 'Yes'; 2 for 'No'; 99 for '{}', nothing else."
    rows = [
        {**ROW, "condition_num": i, "participant": n, "prompt": f"Do you? {labelled.format(label)}", "response": answer}
        for i, label in enumerate(("Refused", "Both"))
        for n, answer in enumerate([1, 2, 2, 99])
    ]
    write_jsonl(tmp_path / "val.jsonl", rows)
    result = evaluate_model(workplace, tmp_path, "models/base", tmp_path / "val.jsonl")
    assert result.returncode == 0, result.stderr
    refusable = [line for line in predictions(tmp_path / "out") if line["condition_num"] == 0]
    assert [line["response"] for line in refusable] == [1, 2, 2]
    assert all(set(line["predicted_distribution"]) <= {"1", "2"} for line in refusable)
    coverage = read(tmp_path / "out/metrics.json")["coverage"]
    assert (coverage["human_answers"], coverage["missing_answers"], coverage["far_answers"]) == (7, 1, {"99": 1})
    assert "left out: 1" in result.stdout and "let the question say so): 99 (1×)" in result.stdout


def test_data_that_changed_after_its_metadata(workplace, tmp_path):
    shutil.copytree(workplace / "data/set", tmp_path / "set")
    with (tmp_path / "set/val.jsonl").open("a") as file:
        file.write("\n")
    result = evaluate_model(workplace, tmp_path, "models/base", tmp_path / "set/val.jsonl")
    assert_refused(result, "set/val.jsonl: data file changed after its metadata")


def test_a_model_folder_that_is_missing_or_holds_none(workplace, tmp_path):
    result = evaluate_model(workplace, tmp_path, "models/run/checkpoint-8")
    assert_refused(result, "models/run/checkpoint-8: no such model folder", "checkpoint-7")
    write_json(tmp_path / "checkpoint-1" / "trainer_state.json", {})
    result = evaluate_model(workplace, tmp_path, tmp_path / "checkpoint-1")
    assert_refused(result, "holds no model and no adapter", "trainer_state.json")


ROW = {"study_id": "s", "condition_num": 0, "task_num": 1, "prompt": "1 to 7?", "response": 1}


@pytest.mark.parametrize(
    "rows, parts",
    [
        (None, ["val.jsonl: no such data file"]),
        ([], ["val.jsonl: holds no rows"]),
        ([{"study_id": "s"}], ["val.jsonl, line 1: ", '"response"']),
        ([ROW, {**ROW, "response": 10**400}], ["val.jsonl, line 2: ", '"response" must be within ±1e+100']),
        ([ROW, {**ROW, "response": 2, "demographic": {"age": [34]}}], ["val.jsonl, line 2: ", 'field "age"', "[34]"]),
        ([{**ROW, "task_num": task} for task in range(5)], ["none of the 5 cells", "two human answers that differ"]),
    ],
)
def test_bad_data(workplace, tmp_path, rows, parts):
    data_file = tmp_path / "val.jsonl"
    if rows is not None:
        write_jsonl(data_file, rows)
    assert_refused(evaluate_model(workplace, tmp_path, "models/base", data_file), *parts)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def unseen(workplace, tmp_path):
    """A prepared set whose unseen studies are in two files; val.jsonl begins and ends with empty lines."""
    rows = json_lines(workplace / DATA)
    of_val = {row["study_id"] for row in rows} - {rows[-1]["study_id"]}
    for name, some in (("val", of_val), ("test", {rows[-1]["study_id"]})):
        write_jsonl(tmp_path / f"set/{name}.jsonl", [row for row in rows if row["study_id"] in some])
    val = tmp_path / "set/val.jsonl"
    val.write_bytes(b"\n\n" + val.read_bytes() + b"\n")
    return val, tmp_path / "set/test.jsonl"


@pytest.mark.slow
def test_unseen_is_both_files_whatever_their_order_as_if_they_were_one(workplace, unseen, tmp_path):
    """Also where it is killed in the middle and goes on with the files named the other way round."""
    val, test = unseen
    config = write_config(workplace, dataset_path=str(val.parent), **SMALL_BATCHES)
    result = evaluate(workplace, "--config", config, "--unseen", "--max-examples", 60, "--output", tmp_path / "unseen")
    assert result.returncode == 0, result.stderr
    assert f"Validation data: {val}, {test}\n" in result.stdout
    metrics = read(tmp_path / "unseen/metrics.json")
    assert metrics["about"]["selection"]["file_studies"] == 3 == metrics["coverage"]["studies"]
    assert metrics["coverage"]["rows"] == 60

    start_and_kill(workplace, tmp_path / "again", "--test-data", test, val, "--max-examples", 60)
    options = ("--config", "other.json", "--max-examples", 60, "--output", tmp_path / "again", "--test-data")
    result = evaluate(workplace, *options, val, test)
    assert result.returncode == 0 and "Going on: " in result.stdout, result.stdout + result.stderr
    again = read(tmp_path / "again/metrics.json")
    assert again["comparability"] == metrics["comparability"]

    first, second = (Path(name) for name in metrics["about"]["data_file"].split(", "))
    assert {first, second} == {val, test}
    (tmp_path / "one.jsonl").write_bytes(first.read_bytes() + second.read_bytes())
    result = evaluate(workplace, *options[:-2], tmp_path / "one", "--test-data", tmp_path / "one.jsonl")
    assert result.returncode == 0, result.stderr
    one = read(tmp_path / "one/metrics.json")
    assert one["comparability"].pop("data_sha256") != again["comparability"].pop("data_sha256")
    assert_close({**again, "about": None}, {**one, "about": None}, "metrics.json")
    assert again["about"]["selection"] == one["about"]["selection"]
    assert_same_results(tmp_path / "again", tmp_path / "one", ("predictions.jsonl", "cells.jsonl", "effects.jsonl"))


def test_files_that_are_not_evaluated_together(workplace, unseen, tmp_path):
    val, test = unseen
    ask = ("--model", "models/base", "--output", tmp_path / "out", "--test-data")
    assert_refused(
        evaluate(workplace, *ask, val, test, val), "line 3: study ", f"is in {val} too", "name each file once"
    )
    row, other = (json.loads(file.read_text().split("\n")[2]) for file in (test, val))
    write_jsonl(test, [row, other])
    cell = "study {study_id}, condition {condition_num}, task {task_num} is in ".format(**other)
    assert_refused(evaluate(workplace, *ask, val, test), cell)
    for line, said in (({**row, "response": "x"}, "response"), ({**row, "demographic": {"age": [34]}}, 'field "age"')):
        write_jsonl(test, [row, {**row, "response": row["response"] + 1}, line])
        assert_refused(evaluate(workplace, *ask, val, test), f"{test}, line 3: ", said)
    assert_refused(evaluate(workplace, *ask, val, "--unseen"), "--unseen: not allowed with argument --test-data")
    assert_refused(
        evaluate(workplace, *ask[:-1], "--unseen"), "--unseen needs a --config, or a checkpoint that records"
    )
    recorded = ("--model", "models/run/checkpoint-7", "--unseen", "--output", tmp_path / "out")
    assert_refused(evaluate(workplace, *recorded), "data/set/test.jsonl: no such data file")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_row_that_the_model_cannot_read_is_left_out_and_counted(workplace, tmp_path):
    rows = json_lines(workplace / DATA)
    rows[0]["prompt"] = f"{'word ' * 5000}{rows[0]['prompt']}"
    write_jsonl(tmp_path / "val.jsonl", rows)
    result = evaluate_model(workplace, tmp_path, "models/base", tmp_path / "val.jsonl")
    assert "Note: 1 of 144 rows are longer than the 4084 tokens that models/base can read" in result.stdout
    metrics = read(tmp_path / "out" / "metrics.json")
    assert metrics["coverage"]["rows"] == 143 and metrics["about"]["too_long_rows"] == 1
    write_jsonl(tmp_path / "val.jsonl", [{**row, "prompt": rows[0]["prompt"]} for row in rows])
    again = evaluate_model(workplace, tmp_path, "models/base", tmp_path / "val.jsonl", "--overwrite")
    assert_refused(again, "144 of 144 rows are longer", "take a model that reads more")


@pytest.mark.slow
def test_a_full_disk_loses_no_answer(workplace, baseline, tmp_path):
    """On a small file system of its own: full while the model is asked."""
    disk = tmp_path / "disk"
    disk.mkdir()
    small = write_config(workplace, **SMALL_BATCHES)
    script = (
        f'mount -t tmpfs -o size=512k none "{disk}" && head -c 460k /dev/zero > "{disk}/fill"; '
        f'"{sys.executable}" "{ROOT}/scripts/evaluate.py" --config {small} --output "{disk}/out"; '
        f'status=$?; cp -r "{disk}/out" "{tmp_path}"; exit $status'
    )
    result = subprocess.run(
        ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c", script],
        cwd=workplace,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert_refused(result, "unfinished.jsonl: cannot write: No space left on device", "free some space")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["unfinished.jsonl"]
    again = evaluate(workplace, "--config", small, "--output", tmp_path / "out")
    assert again.returncode == 0 and "Going on: " in again.stdout, again.stderr
    files = {"cells.jsonl", "effects.jsonl", "metrics.json", "predictions.jsonl"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == files
    assert_same_results(tmp_path / "out", baseline)


SMALL_BATCHES = {"evaluation": {"batch_tokens": 64}}  # of one row


def start_and_kill(folder, output, *arguments, after=10):
    """Start an evaluation in batches of one row, and kill -9 its first process once so many are answered.

    Gives how many, after the end of the processes that it started.
    """
    config = write_config(folder, **SMALL_BATCHES)
    command = [ROOT / "scripts/evaluate.py", "--config", config, "--output", output, *arguments]
    read, write = os.pipe()
    with os.fdopen(write) as end:
        process = Loaded([*map(str, command)], cwd=folder, env=environment(), stdout=end, stderr=end)
    said, path = os.fdopen(read), output / "unfinished.jsonl"

    def count():
        assert process.poll() is None, said.read()
        return path.read_bytes().count(b"\n") - 1 if path.exists() else 0  # the first one is the header

    answers = wait_for(lambda: (found := count()) >= after and found)
    process.kill()
    said.read()
    assert not (output / "metrics.json").exists()
    return answers


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_in_the_middle_it_goes_on_to_the_same_numbers(workplace, baseline, tmp_path, processes):
    """The baseline had one process and large batches; this has batches of one row, and is killed at least once.

    Answers that stand there twice, were edited, or are cut off count for nothing.
    """
    output = tmp_path / "out"
    killed = start_and_kill(workplace, output, "--processes", processes)
    header, edited, answer, *rest = (output / "unfinished.jsonl").read_text().splitlines()
    edited = edited.replace('"drawn": false', '"drawn": true')
    lines = [header, edited, answer, *rest, answer, '{"seconds": 0.1, "line": {"li']
    (output / "unfinished.jsonl").write_text("\n".join(lines))
    if processes == 1:
        killed = start_and_kill(workplace, output, after=killed + 12)
    small = write_config(workplace, **SMALL_BATCHES)
    result = evaluate(workplace, "--config", small, "--output", output)
    assert result.returncode == 0, result.stderr
    assert "out: 1 of its answers so far are damaged; asking again" in result.stdout
    (going_on,) = (line for line in result.stdout.splitlines() if line.startswith("Going on: "))
    assert killed - 2 <= int(going_on.split()[2]) < 144
    files = ("predictions.jsonl", "cells.jsonl", "effects.jsonl")
    assert_same_results(output, baseline, files)
    assert not (output / "unfinished.jsonl").exists()
    metrics, expected = (read(f / "metrics.json") for f in (output, baseline))
    for changing in ("seconds", "created", "settings", "processes"):
        metrics["about"].pop(changing, None), expected["about"].pop(changing, None)
    assert_close(metrics, expected, "metrics.json")


@pytest.mark.slow
def test_results_of_another_evaluation_are_not_overwritten(workplace, baseline, tmp_path):
    """Finished or not; the same command again asks nothing."""
    output = tmp_path / "out"
    shutil.copytree(baseline, output)
    before = (output / "metrics.json").read_bytes()
    again = evaluate(workplace, "--config", "config.json", "--output", output)
    assert again.returncode == 0 and "Already evaluated" in again.stdout and "Asked 144 rows" in again.stdout
    killed = tmp_path / "killed"
    start_and_kill(workplace, killed, after=2)
    adapter = str(workplace / "models/run/checkpoint-7")
    others = [
        (output, "the results of another evaluation", "seed", {"seed": 7}),
        (killed, "the answers so far of another run", "decoding", {"decoding": {"temperature": 1.0, "top_p": 0.9}}),
        (output, "the results of another evaluation", "model", {"model_name": adapter}),
    ]
    for folder, what, name, changes in others:
        result = evaluate(workplace, "--config", write_config(workplace, **changes), "--output", folder)
        assert_refused(result, f"holds {what}: ", f"{name} (", "--overwrite")
    assert (output / "metrics.json").read_bytes() == before
    for folder in (output, killed):
        result = evaluate(workplace, "--config", "other.json", "--output", folder, "--overwrite")
        assert result.returncode == 0, result.stderr
        assert read(folder / "metrics.json")["about"]["adapter_sha256"]


@pytest.mark.slow
def test_results_of_which_a_part_is_gone(workplace, baseline, tmp_path):
    """Of another evaluation they are not overwritten; of this one, what is missing is made again."""
    shutil.copy(baseline / "metrics.json", tmp_path)
    before = (tmp_path / "metrics.json").read_bytes()
    other = ["--config", "config.json", "--model", "models/run/checkpoint-7", "--output", tmp_path]
    assert_refused(evaluate(workplace, *other), "holds the results of another evaluation: model (", "--overwrite")
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]
    assert (tmp_path / "metrics.json").read_bytes() == before
    again = evaluate(workplace, "--config", "config.json", "--output", tmp_path)
    assert again.returncode == 0 and "some of its files are gone; asking again" in again.stdout
    assert_same_results(tmp_path, baseline)
    for about in ({"asked": 7}, 7, {}):
        write_json(tmp_path / "metrics.json", {**json.loads(before), "about": about})
        result = evaluate(workplace, "--config", "config.json", "--output", tmp_path)
        assert_refused(result, "it does not say of what model", "--overwrite")
    (tmp_path / "metrics.json").unlink()
    result = evaluate(workplace, "--config", "config.json", "--output", tmp_path)
    assert_refused(result, "holds predictions.jsonl, and no metrics.json", "--overwrite")


@pytest.mark.slow
def test_going_on_with_smaller_batches_where_the_config_says_so(workplace, tmp_path, monkeypatch):
    """Where memory was too small even to say so, it is the config that helps."""

    def open_engine(load, processes):
        raise SocratesError(f"at most {load.keywords['max_batch_tokens']} tokens")

    start_and_kill(workplace, tmp_path, after=2)
    monkeypatch.chdir(workplace)
    monkeypatch.setattr("socrates.inference.run.open_engine", open_engine)
    for configured, used in ((None, None), (77, 77)):
        settings = settings_of(load_config(write_config(workplace, evaluation={"batch_tokens": configured})))
        with pytest.raises(SocratesError, match=f"at most {used} tokens"):
            evaluation.evaluate(InferenceRequest("models/base", tmp_path, settings), [Path(DATA)])


@pytest.mark.parametrize("uploaded", ["nothing", "a part", "cut off"])
def test_entry_points_name_the_missing_upload(tmp_path, uploaded):
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    if uploaded != "nothing":
        (tmp_path / "socrates").mkdir()
        shutil.copy(ROOT / "socrates" / "__init__.py", tmp_path / "socrates")
    if uploaded == "cut off":
        (tmp_path / "socrates" / "errors.py").write_text((ROOT / "socrates" / "errors.py").read_text()[:900])
    program = [sys.executable, tmp_path / "scripts" / "gate.py", "--help"]
    result = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path)
    assert_refused(result, "socrates is missing beside scripts/", "tnr scp 0 socrates/ ~/socrates-training/socrates/")
