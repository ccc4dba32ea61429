"""Whether a machine can carry a run: GPUs as a (made-up) nvidia-smi tells them, disk, data, packages, sizes."""

import json
import os
import shutil
from pathlib import Path

import pytest
from processes import run_script

from socrates.config import load_config, parse_config
from socrates.files import sha256_file, write_json
from socrates.machine import preflight, sizes
from socrates.rehearsal import rehearsal_config

ROOT = Path(__file__).parent.parent
FULL = load_config(ROOT / "config_full_dataset.json")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with four A100s, as far as nvidia-smi says; the test may change the file that it prints."""
    folder = tmp_path / "bin"
    folder.mkdir()
    listing = tmp_path / "gpus.csv"
    listing.write_text("".join(f"{i}, NVIDIA A100-SXM4-80GB, 81920, 570.86.10\n" for i in range(4)))
    script = folder / "nvidia-smi"
    script.write_text(
        '#!/bin/sh\ncase "$1" in\n  --query-gpu*) cat "$LISTING" ;;\n'
        '  *) echo "| NVIDIA-SMI 570.86.10   Driver Version: 570.86.10   CUDA Version: 12.8 |" ;;\nesac\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("LISTING", str(listing))
    for name in ("CUDA_VISIBLE_DEVICES", "DS_ACCELERATOR", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return listing


def outcomes(checks):
    return {check.name: check.outcome for check in checks}


def gpu_checks(config):
    return list(preflight.check_gpus(preflight.find_gpus(), config))


def test_four_gpus_carry_a_run_of_four_processes(machine):
    checks = gpu_checks(FULL)
    assert checks[0].outcome == "pass" and "4 x NVIDIA A100-SXM4-80GB (80 GiB), driver 570.86.10" in checks[0].text


@pytest.mark.parametrize(("visible", "count"), [("0,1", 2), ("3", 1), ("", 0), ("7", 0)])
def test_hidden_gpus_do_not_count(machine, monkeypatch, visible, count):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert len(preflight.find_gpus()) == count
    checks = gpu_checks(FULL)
    assert [c.outcome for c in checks] == ["FAIL"] and "the config has 4 processes" in checks[0].text


@pytest.mark.parametrize(
    "text", ["", "No devices were found\n", "0, A100, [N/A], 570\n", "Failed to initialize NVML\n"]
)
def test_an_nvidia_smi_without_gpus_is_no_gpu(machine, text):
    machine.write_text(text)
    assert preflight.find_gpus() == []
    assert gpu_checks(FULL)[0].outcome == "FAIL"


def test_no_nvidia_smi_is_no_gpu(machine, monkeypatch):
    monkeypatch.setenv("PATH", str(machine.parent / "empty"))
    assert preflight.find_gpus() == []


def test_cpus_on_purpose_are_a_warning_only(machine, monkeypatch):
    machine.write_text("")
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    assert [c.outcome for c in gpu_checks(FULL)] == ["warn"]


@pytest.mark.parametrize(
    ("driver", "torch", "outcome"),
    [((12, 8), (12, 8), "pass"), ((12, 2), (12, 8), "pass"), ((12, 8), (13, 0), "FAIL"), ((13, 0), (12, 8), "pass"),
     (None, (12, 8), "warn"), ((12, 8), None, "FAIL")],
)  # fmt: skip
def test_a_driver_runs_its_own_major_cuda_version_and_older_ones(driver, torch, outcome):
    assert preflight.check_driver(driver, torch).outcome == outcome


def test_cuda_versions_are_read_from_what_the_programs_print(machine):
    assert preflight._driver_cuda() == (12, 8)
    assert preflight._version(r"^cuda\b[^=\n]*=\s*'(\d+)\.(\d+)", "git = 'a'\ncuda: Optional[str] = '12.8'\n") == (
        12,
        8,
    )


def test_missing_packages_fail_and_other_versions_warn(tmp_path):
    requirements = tmp_path / "requirements.txt"
    for text, outcome in (
        ("# a comment\nnumpy==0.0.1\n", "warn"),
        ("no-such-package-at-all==1.0\nnumpy==0.0.1\n", "FAIL"),
    ):
        requirements.write_text(text)
        check = preflight.check_packages(requirements)
        assert check.outcome == outcome and "numpy" in check.text
    assert preflight.check_packages(ROOT / preflight.REQUIREMENTS).outcome == "pass"
    assert preflight.check_packages(tmp_path / "absent").outcome == "FAIL"


def test_the_guides_adapter_has_its_known_number_of_parameters():
    shape = sizes._QWEN2_14B
    # Counted by PEFT on the model itself: 68,812,800 for rank 16 on all seven projections.
    assert sizes.adapter_parameters(shape, FULL.lora) == 68_812_800


def test_adapter_parameters_are_those_that_peft_makes():
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape["num_key_value_heads"] = 2
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=64, **shape))
    adapter = get_peft_model(model, LoraConfig(r=16, target_modules=list(FULL.lora.target_modules)))
    counted = sum(p.numel() for p in adapter.parameters() if p.requires_grad)
    assert sizes.adapter_parameters(shape, FULL.lora) == counted


def prepare(folder, rows=1000, **changes):
    value = rehearsal_config("models/base", "data/set", steps=None, save_steps=2)
    value.update(changes)
    (folder / "data" / "set").mkdir(parents=True)
    (folder / "data" / "set" / "train.jsonl").write_text("{}\n" * rows)
    (folder / "data" / "set" / "val.jsonl").write_text("{}\n")
    (folder / "models" / "base").mkdir(parents=True)
    (folder / "models" / "base" / "config.json").write_text(json.dumps(sizes._QWEN2_14B))
    return parse_config(value, "test")


def test_room_is_needed_for_the_checkpoints_still_to_come(tmp_path, monkeypatch):
    config = prepare(tmp_path)
    steps = preflight.planned_steps(config, tmp_path)
    assert steps == 32  # 1000 rows of 32 a step, rounded up
    each = sizes.checkpoint_bytes(config, tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: usage._replace(free=10 * each))
    check = preflight.check_disk(config, tmp_path, steps)
    assert check.outcome == "FAIL" and "16 checkpoints" in check.text
    for step in range(2, 14, 2):  # six are there already
        folder = tmp_path / config.output_dir / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
    check = preflight.check_disk(config, tmp_path, steps)
    assert check.outcome == "pass" and "10 checkpoints" in check.text


def test_the_row_count_of_the_metadata_saves_reading_the_file(tmp_path):
    config = prepare(tmp_path, rows=3)
    (tmp_path / "data" / "set" / "metadata.json").write_text('{"rows": {"train": 320}}')
    assert preflight.planned_steps(config, tmp_path) == 10


def test_a_model_to_download_needs_room_until_it_is_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    assert 28e9 < sizes.download_bytes(FULL, tmp_path) < 32e9
    snapshot = tmp_path / "hf" / "hub" / "models--Qwen--Qwen2.5-14B-Instruct" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model-00001-of-00008.safetensors").write_text("")
    assert sizes.download_bytes(FULL, tmp_path) == 0


def test_missing_and_empty_data_fail(tmp_path):
    config = prepare(tmp_path)
    assert [c.outcome for c in preflight.check_data(config, tmp_path)] == ["pass", "pass"]
    (tmp_path / "data" / "set" / "train.jsonl").write_text("")
    (tmp_path / "data" / "set" / "val.jsonl").unlink()
    assert [c.outcome for c in preflight.check_data(config, tmp_path)] == ["FAIL", "warn"]


def test_data_that_is_not_what_its_metadata_describe_fails(tmp_path):
    config = prepare(tmp_path)
    folder = tmp_path / "data" / "set"
    hashes = {part: sha256_file(folder / f"{part}.jsonl") for part in ("train", "val")}
    write_json(folder / "metadata.json", {"split": "study", "rows": {"train": 1000, "val": 1}, "sha256": hashes})
    assert [c.outcome for c in preflight.check_data(config, tmp_path)] == ["pass", "pass"]
    with (folder / "val.jsonl").open("a") as file:  # as an upload of one file alone would leave it
        file.write("{}\n")
    train, val = preflight.check_data(config, tmp_path)
    assert train.outcome == "pass" and val.outcome == "FAIL" and "val.jsonl: data file changed" in val.text
    write_json(folder / "metadata.json", {"title": "notes of another program", "split": {"train": 0.9}, "rows": 7})
    assert [c.outcome for c in preflight.check_data(config, tmp_path)] == ["pass", "pass"]


def test_the_tokens_value_is_never_printed(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)
    check = preflight.check_token(FULL, tmp_path)
    assert check.outcome == "pass" and "xxx" not in preflight.render([check])


def test_the_entry_point_answers_in_json_and_by_status(tmp_path):
    prepare(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps(rehearsal_config("models/base", "data/set", steps=None, save_steps=2))
    )
    done = run_script("preflight.py", "--config", "config.json", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(preflight.Check(**c) for c in json.loads(done.stdout))["GPUs"] == "warn"
    (tmp_path / "data" / "set" / "train.jsonl").unlink()
    done = run_script("preflight.py", "--config", "config.json", cwd=tmp_path)
    assert done.returncode == 1 and "[FAIL] data: data/set/train.jsonl is not there" in done.stdout
    assert "tnr scp 0 data/set/" in done.stdout
    assert run_script("preflight.py", "--config", "absent.json", cwd=tmp_path).returncode == 2
