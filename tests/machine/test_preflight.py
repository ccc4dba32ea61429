"""What a run needs of disk and data; the rest of preflight is tried through its script."""

import json
import re
import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants
from made_machine import NO_WEIGHTS, SHAPE

from socrates import files
from socrates.config import DataSettings, load_config, parse_config
from socrates.files import sha256_file, write_json
from socrates.machine.preflight import costs
from socrates.machine.preflight.gpus import Gpu
from socrates.machine.preflight.inputs import DataState, inspect_data, model_state
from socrates.model.sizing import QWEN2_14B, adapter_parameters
from socrates.rehearsal.rehearsal import rehearsal_config

ROOT = Path(__file__).resolve().parents[2]
FULL = load_config(ROOT / "config_full_dataset.json")


@pytest.fixture(autouse=True)
def in_project_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_room_is_needed_for_the_checkpoints_still_to_come(tmp_path, monkeypatch):
    each = 20 * adapter_parameters(QWEN2_14B, FULL.lora) + 20 * 2**20
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(costs.shutil, "disk_usage", lambda _: usage._replace(free=13 * each))
    [check] = costs.check_disk(FULL, QWEN2_14B, 0, DataState(9375))
    assert check.outcome == "FAIL" and "19 checkpoints" in check.text
    assert 'a larger "save_steps" in "training"' in check.remedy
    for step in range(500, 3500, 500):  # six are there already
        write_json(tmp_path / FULL.output_dir / f"checkpoint-{step}" / "manifest.json", {})
    [check] = costs.check_disk(FULL, QWEN2_14B, 0, DataState(9375))
    assert check.outcome == "pass" and "13 checkpoints" in check.text


def test_each_disk_must_have_room_for_what_is_written_to_it(tmp_path, monkeypatch):
    """The home folder's disk, where the hub's cache is, is often a small one."""
    small, large = tmp_path / "small", tmp_path / "large"
    small.mkdir(), large.mkdir()
    monkeypatch.chdir(large)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(small / "hf" / "hub"))
    free = {small: 20 * 2**30, large: 500 * 2**30}
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(costs.shutil, "disk_usage", lambda path: usage._replace(free=free[path]))
    monkeypatch.setattr(costs, "_device", lambda path: 1 if path == small else 2)
    model, state = model_state(FULL), DataState(9375, 371.0, 2 * 2**30)
    first, second = costs.check_disk(FULL, model.shape, model.missing_bytes, state)
    assert first.outcome == "pass" and first.text.startswith(f"500.0 GiB free for {FULL.output_dir}; 19 checkpoints")
    assert "download" not in first.text and "tokenized set of about 2.0 GiB" in first.text
    assert second.outcome == "FAIL" and f"20.0 GiB free for {small}/hf/hub; the model's download" in second.text
    assert "free 7.5 GiB" in second.remedy and "HF_HOME" in second.remedy and "save_steps" not in second.remedy
    free[small], free[large] = 500 * 2**30, 20 * 2**30
    first, second = costs.check_disk(FULL, model.shape, model.missing_bytes, state)
    assert (first.outcome, second.outcome) == ("FAIL", "pass") and "save_steps" in first.remedy


def test_a_model_to_download_needs_room_until_it_is_cached_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    whole = model_state(FULL).missing_bytes
    assert 28e9 < whole < 32e9
    cache = tmp_path / "hf" / "hub" / "models--Qwen--Qwen2.5-14B-Instruct"
    for folder in ("snapshots/abc", "refs", "blobs"):
        (cache / folder).mkdir(parents=True)
    (cache / "refs" / "main").write_text("abc")
    (cache / "snapshots" / "abc" / "config.json").write_text(json.dumps(SHAPE))
    index = {"weight_map": {f"{i}.weight": f"model-{i}.safetensors" for i in (1, 2)}}
    (cache / "snapshots" / "abc" / "model.safetensors.index.json").write_text(json.dumps(index))
    (cache / "snapshots" / "abc" / "model-1.safetensors").write_bytes(NO_WEIGHTS)
    (cache / "blobs" / "aa").write_bytes(bytes(10**6))
    assert model_state(FULL).missing_bytes == whole - 10**6  # one of two files is there
    (cache / "snapshots" / "abc" / "model-2.safetensors").write_bytes(NO_WEIGHTS)
    assert model_state(FULL).missing_bytes == 0


def test_missing_empty_and_changed_data_fail_and_no_file_is_read_twice(tmp_path, monkeypatch):
    config, folder, read = parse_config(rehearsal_config("base", "set", steps=None, save_steps=2), "x"), Path("set"), []
    folder.mkdir()
    (folder / "train.jsonl").write_text("{}\n" * 1000)
    (folder / "val.jsonl").write_text("{}\n")

    def outcomes(config):
        return [check.outcome for check in inspect_data(config)[0]]

    with monkeypatch.context() as patch:
        patch.setattr(files, "sha256_file", lambda path: read.append(path.name) or "0" * 64)
        checks, state = inspect_data(config)
    assert [check.outcome for check in checks] == ["pass", "pass"] and state.steps == 32, "of 32 rows, rounded up"
    assert read == ["train.jsonl", "val.jsonl"]  # both are too new to be remembered
    hashes = {part: sha256_file(folder / f"{part}.jsonl") for part in ("train", "val")}
    write_json(folder / "metadata.json", {"split": "study", "rows": {"train": 64, "val": 1}, "sha256": hashes})
    checks, state = inspect_data(config)
    assert [check.outcome for check in checks] == ["pass", "pass"] and state.steps == 2, "the metadata count the rows"
    with (folder / "val.jsonl").open("a") as file:  # as an upload of one file alone would leave it
        file.write("{}\n")
    assert outcomes(config) == ["pass", "FAIL"] and "val.jsonl: data file changed" in inspect_data(config)[0][1].text
    write_json(folder / "metadata.json", {"title": "notes of another program", "split": {"train": 0.9}, "rows": 7})
    assert outcomes(config) == ["pass", "pass"]
    (folder / "train.jsonl").write_text("")
    (folder / "val.jsonl").unlink()
    assert outcomes(config) == ["FAIL", "warn"]
    watching = config.model_copy(update={"training": config.training.model_copy(update={"eval_steps": 10})})
    assert outcomes(watching) == ["FAIL", "FAIL"], "the training reads it"


def test_hours_and_dollars_of_fewer_people_of_a_cell_stand_against_those_of_all_rows():
    """5,000 cells of which one in five has fewer people than are taken: 129,000 of 2,400,000 rows or so."""
    config = FULL.model_copy(update={"data": DataSettings(rows_per_cell=32)})
    sizes = (600,) * 4000 + (1,) * 1000
    rows, gpus = 4000 * 32 + 1000, [Gpu("A100 80GB", 80 * 2**30, 8, 0)] * 4
    data = DataState(config.planned_steps(rows), 371.0, sizes=sizes)
    *_, check = costs.check_costs(config, None, model_state(config), data, gpus)
    *_, all_rows = costs.check_costs(FULL, None, model_state(FULL), DataState(9379, 371.0), gpus)
    hours, dollars = re.search(r"steps take about (.*), at .*: (\S+) at", all_rows.text).groups()
    taken = f"rows_per_cell = 32 takes 129,000 of 2,401,000 rows, of all 5,000 cells (all rows: 9,379 steps, {hours}, "
    assert check.text.startswith(f"{taken}{dollars}); 504 steps take about ")
    cost = float(re.search(r"\$([\d.]+) at", check.text)[1])
    assert cost == pytest.approx(float(dollars[1:].replace(",", "")) * 504 / 9379, abs=0.01)
