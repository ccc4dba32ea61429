"""A checkpoint is complete and verified, or it is none."""

import json
import math
import os

import pytest
from mirrors import flip_a_bit

from socrates.checkpoint import (
    GUIDE_FILES,
    find_damage,
    is_finished,
    list_checkpoints,
    newest_complete,
    read_manifest,
    set_aside,
    write_manifest,
)
from socrates.errors import SocratesError


def make_checkpoint(output_dir, step, *, manifest=True):
    folder = output_dir / f"checkpoint-{step}"
    (folder / f"global_step{step}").mkdir(parents=True)
    for name in (*GUIDE_FILES, f"global_step{step}/shard.pt"):
        (folder / name).write_bytes(os.urandom(100))
    if manifest:
        write_manifest(folder, num_processes=2)
    return folder


def test_manifest_lists_every_file_and_verifies(tmp_path):
    folder = make_checkpoint(tmp_path, 10)
    manifest = read_manifest(folder)
    assert (manifest.step, manifest.num_processes) == (10, 2)
    assert set(manifest.files) == {*GUIDE_FILES, "global_step10/shard.pt"}
    assert find_damage(folder) is None


def test_a_folder_that_lacks_a_file_of_the_guide_gets_no_manifest(tmp_path):
    folder = make_checkpoint(tmp_path, 10, manifest=False)
    (folder / "optimizer.pt").unlink()
    with pytest.raises(SocratesError, match=r"lacks optimizer\.pt"):
        write_manifest(folder, num_processes=2)
    assert not (folder / "manifest.json").exists()


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("name", ["optimizer.pt", "global_step10/shard.pt"])
@pytest.mark.parametrize(
    "harm, reason", [(lambda p: p.unlink(), "is missing"), (truncate, "bytes, not 100"), (flip_a_bit, "has changed")]
)
def test_any_harm_to_any_file_is_found_and_named(tmp_path, name, harm, reason):
    folder = make_checkpoint(tmp_path, 10)
    harm(folder / name)
    damage = find_damage(folder)
    assert damage and name in damage and reason in damage


@pytest.mark.parametrize(
    "content, reason",
    [
        ("{", "not JSON"),
        ("{}", "malformed"),
        ('{"step": 10, "num_processes": 1, "files": [{"path": "a"}]}', "malformed"),
        (
            json.dumps({"step": 10, "num_processes": 1, "files": [{"path": "../x", "size": 1, "sha256": ""}]}),
            "no file of a checkpoint",
        ),
        (
            json.dumps({"step": 11, "num_processes": 1, "files": [{"path": "x", "size": 1, "sha256": "0" * 64}]}),
            "is of step 11",
        ),
    ],
)
def test_a_bad_manifest_is_damage(tmp_path, content, reason):
    folder = make_checkpoint(tmp_path, 10)
    (folder / "manifest.json").write_text(content)
    assert reason in find_damage(folder)


def test_newest_complete_passes_over_and_names_the_damaged(tmp_path):
    for step in (9, 10, 100):
        make_checkpoint(tmp_path, step)
    make_checkpoint(tmp_path, 200, manifest=False)
    truncate(tmp_path / "checkpoint-100" / "adapter_model.safetensors")
    newest, passed_over = newest_complete(tmp_path)
    assert newest == tmp_path / "checkpoint-10", "by number, not by name"
    assert [(path.name, why.split(":")[0].split(" has")[0]) for path, why in passed_over.items()] == [
        ("checkpoint-200", "no manifest.json"),
        ("checkpoint-100", "adapter_model.safetensors"),
    ]


def test_a_training_with_a_loss_that_is_no_number_is_told_to_be_finished_or_not(tmp_path):
    for step, finished in ((4, False), (5, True)):
        state = {"global_step": step, "max_steps": 5, "log_history": [{"loss": math.nan, "grad_norm": math.inf}]}
        (tmp_path / "trainer_state.json").write_text(json.dumps(state))
        assert is_finished(tmp_path) is finished


def test_only_exact_names_count_as_checkpoints(tmp_path):
    for name in ("checkpoint-5x", "xcheckpoint-5", "checkpoint-", "checkpoint-5\n", ".checkpoint-5", "checkpoint--5"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-7").write_text("a file")
    make_checkpoint(tmp_path, 6)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["checkpoint-6"]
    assert list_checkpoints(tmp_path / "absent") == []


def test_set_aside_loses_nothing_even_twice(tmp_path):
    first = set_aside(make_checkpoint(tmp_path, 10))
    second = set_aside(make_checkpoint(tmp_path, 10))
    assert first != second and (first / "optimizer.pt").is_file() and (second / "optimizer.pt").is_file()
    assert list_checkpoints(tmp_path) == []
