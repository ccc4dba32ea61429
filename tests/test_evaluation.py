"""A model and a data file to a results folder, through the real script with a real (tiny) model."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from processes import ROOT, assert_refused, environment, run_script

from socrates.checkpoints import GUIDE_FILES, write_manifest
from socrates.files import write_json, write_jsonl
from socrates.rehearsal import make_base_model, make_sample_data, rehearsal_config

DATA = "data/set/val.jsonl"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with data, a tiny base model, a config, and the results of a baseline."""
    folder = tmp_path_factory.mktemp("evaluate")
    make_sample_data(folder / "data" / "set", people=8, train_studies=4, val_studies=3)
    make_base_model(folder / "models" / "base", folder / "data" / "set" / "train.jsonl", steps=20)
    write_json(folder / "config.json", rehearsal_config("models/base", "data/set", steps=40, save_steps=20))
    make_adapter(folder, "models/run/checkpoint-7")
    result = run_script("evaluate_baseline.sh", "--config", "config.json", cwd=folder, VIRTUAL_ENV=sys.prefix)
    assert result.returncode == 0, result.stdout + result.stderr
    (folder / "baseline.log").write_text(result.stdout)
    return folder


def make_adapter(folder, name, scale=0.5):
    """A checkpoint as training writes it, with an adapter that does something."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(folder / "models" / "base")
    base.name_or_path = "models/base"
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"]))
    for parameter_name, parameter in model.named_parameters():
        if "lora_B" in parameter_name:
            torch.nn.init.normal_(parameter, std=scale)
    checkpoint = folder / name
    model.save_pretrained(checkpoint)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(folder / "models" / "base" / file, checkpoint)
    for file in GUIDE_FILES:
        if not (checkpoint / file).exists():
            (checkpoint / file).write_text("x")
    config = json.loads((folder / "config.json").read_text())
    write_json(checkpoint / "training_config.json", {"config": config})
    write_manifest(checkpoint, 1)
    return checkpoint


def evaluate(folder, *arguments, **extra):
    return run_script("evaluate.py", *arguments, cwd=folder, **extra)


def read(path):
    return json.loads(path.read_text())


def predictions(folder):
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_the_baseline_prints_the_guides_lines_and_writes_its_results(workplace):
    log = (workplace / "baseline.log").read_text().splitlines()
    assert log[:3] == ["Baseline Model Evaluation", "Model: models/base", f"Validation data: {DATA}"]
    start = log.index("Baseline Evaluation Complete")
    assert log[start + 1] == "Key baseline metrics:"
    assert [line.split(":")[0] for line in log[start + 2 : start + 5]] == [
        '  "wasserstein_distance"',
        '  "wasserstein_expected"',
        '  "mae"',
    ]
    metrics = read(workplace / "evaluation_results/baseline/metrics.json")
    assert f'"wasserstein_distance": {metrics["wasserstein_distance"]:.4f}' in "\n".join(log)
    rows = predictions(workplace / "evaluation_results/baseline")
    assert len(rows) == metrics["coverage"]["rows"] == 144
    for row in rows:
        if row["predicted_distribution"] is not None:
            assert sum(row["predicted_distribution"].values()) == pytest.approx(1, abs=1e-6)
            assert str(row["prediction"]) in row["predicted_distribution"]


@pytest.mark.slow
def test_a_checkpoint_is_asked_the_same_rows_and_compared(workplace):
    result = run_script(
        "evaluate_checkpoint.sh",
        "models/run/checkpoint-7",
        "evaluation_results/baseline/metrics.json",
        cwd=workplace,
        VIRTUAL_ENV=sys.prefix,
    )
    assert result.returncode in (0, 1), result.stdout + result.stderr
    assert ("✅ GO - " in result.stdout) == (result.returncode == 0)
    results = workplace / "evaluation_results/run/checkpoint-7"
    assert read(results / "decision.json")["decision"] == ("GO" if result.returncode == 0 else "NO-GO")
    baseline = read(workplace / "evaluation_results/baseline/metrics.json")
    checkpoint = read(results / "metrics.json")
    assert checkpoint["comparability"] == baseline["comparability"]
    assert checkpoint["about"]["base_model"] == "models/base" and checkpoint["about"]["adapter_sha256"]
    keys = ("line", "study_id", "response")
    asked = [
        [[row[key] for key in keys] for row in predictions(folder)]
        for folder in (results, workplace / "evaluation_results/baseline")
    ]
    assert asked[0] == asked[1]
    assert (results / "predictions.jsonl").read_text() != (
        workplace / "evaluation_results/baseline/predictions.jsonl"
    ).read_text(), "the adapter acts"


@pytest.mark.slow
def test_an_evaluation_repeats_to_the_byte(workplace, tmp_path):
    for name in ("one", "two"):
        result = evaluate(workplace, "--config", "config.json", "--output", tmp_path / name, "--max-examples", 60)
        assert result.returncode == 0, result.stderr
    for name in ("predictions.jsonl", "cells.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert len(predictions(tmp_path / "one")) <= 60


@pytest.mark.slow
def test_scoring_the_written_predictions_gives_the_same_numbers(workplace, tmp_path):
    results = workplace / "evaluation_results/baseline"
    scored = run_script("score_predictions.py", results / "predictions.jsonl", "--output", tmp_path, cwd=workplace)
    assert scored.returncode == 0, scored.stderr
    before, after = read(results / "metrics.json"), read(tmp_path / "metrics.json")
    for key in ("wasserstein_distance", "wasserstein_expected", "mae", "rmse", "correlation", "accuracy", "valid_mass"):
        assert before[key] == after[key], key


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["--max-examples", 50], "rows_sha256"),
        (["--config", "seed.json"], "seed"),
        (["--config", "decoding.json"], "decoding"),
        (["--config", "system.json"], "prompt_fingerprint"),
    ],
)
def test_what_could_not_be_compared_is_refused_before_the_model_is_asked(workplace, tmp_path, arguments, reason):
    config = read(workplace / "config.json")
    for name, section in (
        ("seed", {"seed": 7}),
        ("decoding", {"decoding": {"temperature": 1.0, "top_p": 0.9}}),
        ("system", {"prompt": {"system_message": "Be brief."}}),
    ):
        write_json(workplace / f"{name}.json", config | section)
    result = evaluate(
        workplace,
        *("--model", "models/run/checkpoint-7", "--test-data", DATA, "--output", tmp_path / "out"),
        *("--compare-with", "evaluation_results/baseline/metrics.json", *arguments),
    )
    assert_refused(result, "cannot be compared", reason)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_damaged_adapter_is_not_evaluated(workplace, tmp_path):
    shutil.copytree(workplace / "models/run/checkpoint-7", tmp_path / "checkpoint-7")
    weights = tmp_path / "checkpoint-7" / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1  # still loads, with another number in it
    weights.write_bytes(data)
    result = evaluate(
        workplace, "--model", tmp_path / "checkpoint-7", "--test-data", DATA, "--output", tmp_path / "out"
    )
    assert_refused(result, "adapter_model.safetensors has changed")
    shutil.copy(workplace / "models/run/checkpoint-7/adapter_model.safetensors", weights)
    config = tmp_path / "checkpoint-7" / "training_config.json"
    config.write_text(config.read_text().replace('"temperature": 0.6', '"temperature": 0.1'))
    arguments = ("--model", tmp_path / "checkpoint-7", "--test-data", DATA, "--output", tmp_path / "out")
    assert_refused(evaluate(workplace, *arguments), "training_config.json has changed")
    shutil.copy(workplace / "models/run/checkpoint-7/training_config.json", config)
    manifest = (tmp_path / "checkpoint-7" / "manifest.json").rename(tmp_path / "manifest.json")
    assert_refused(evaluate(workplace, *arguments), "has no manifest.json yet")
    manifest.rename(tmp_path / "checkpoint-7" / "manifest.json")
    (tmp_path / "checkpoint-7" / "optimizer.pt").unlink()  # not needed to evaluate: a light download lacks it
    result = evaluate(workplace, *arguments, "--max-examples", 40)
    assert result.returncode == 0, result.stderr


def test_a_missing_model_folder(workplace, tmp_path):
    result = evaluate(
        workplace, "--model", "models/run/checkpoint-8", "--test-data", DATA, "--output", tmp_path / "out"
    )
    assert_refused(result, "models/run/checkpoint-8: no such model folder", "checkpoint-7")


def test_a_folder_without_an_adapter(workplace, tmp_path):
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-1" / "trainer_state.json").write_text("{}")
    result = evaluate(
        workplace, "--model", tmp_path / "checkpoint-1", "--test-data", DATA, "--output", tmp_path / "out"
    )
    assert_refused(result, "holds no model and no adapter", "trainer_state.json")


def test_a_hub_name_without_a_network(workplace, tmp_path):
    for extra in ({"HF_HUB_OFFLINE": "1"}, {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}):
        result = evaluate(
            workplace,
            *("--model", "Qwen/Qwen2.5-14B-Instruct", "--test-data", DATA, "--output", tmp_path / "out"),
            HOME=str(tmp_path),
            **extra,
        )
        assert_refused(
            result, "Qwen/Qwen2.5-14B-Instruct: no folder here, and cannot reach the hub", "local model folder"
        )


@pytest.mark.parametrize(
    "content, parts",
    [
        (None, ["no such data file"]),
        ("", ["holds no rows"]),
        ('{"study_id": "s"}\n', ["line 1", '"response"']),
        ('{"x": \n', ["line 1", "not JSON"]),
    ],
)
def test_bad_data(workplace, tmp_path, content, parts):
    data_file = tmp_path / "val.jsonl"
    if content is not None:
        data_file.write_text(content)
    result = evaluate(workplace, "--model", "models/base", "--test-data", data_file, "--output", tmp_path / "out")
    assert_refused(result, str(data_file), *parts)
    assert not (tmp_path / "out").exists()


def test_data_without_whole_cells(workplace, tmp_path):
    row = {"study_id": "s", "condition_num": 0, "prompt": "p", "response": 1}
    write_jsonl(tmp_path / "val.jsonl", [row | {"task_num": task} for task in range(5)])
    result = evaluate(
        workplace, "--model", "models/base", "--test-data", tmp_path / "val.jsonl", "--output", tmp_path / "out"
    )
    assert_refused(result, "none of the 5 cells", "two human answers that differ")


@pytest.mark.parametrize("arguments", [["--max-examples", "-1"], ["--max-examples", "x"], ["--nonsense"]])
def test_wrong_arguments(workplace, tmp_path, arguments):
    result = evaluate(workplace, "--config", "config.json", "--output", tmp_path / "out", *arguments)
    assert_refused(result, arguments[0])


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_half_written(workplace, tmp_path):
    """On a file system of its own of 96 KiB; an earlier evaluation's metrics go too, so nothing is of two pieces."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = (
        f'mount -t tmpfs -o size=96k none "{disk}" && mkdir "{disk}/out" && echo old > "{disk}/out/metrics.json" && '
        f'head -c 80k /dev/zero > "{disk}/fill"; '
        f'"{sys.executable}" "{ROOT}/scripts/evaluate.py" --config config.json --output "{disk}/out"; '
        f'status=$?; echo "left: $(ls -A "{disk}/out" | tr "\\n" " ")"; exit $status'
    )
    result = subprocess.run(
        ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c", script],
        cwd=workplace,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert_refused(result, "predictions.jsonl: cannot write: No space left on device", "free some space")
    assert result.stdout.splitlines()[-1] == "left: "


def test_help_needs_no_heavy_package(tmp_path):
    """Answered from an empty environment: nothing but the standard library is imported for it."""
    for name in ("evaluate.py", "train_full_dataset.py", "gate.py", "score_predictions.py", "make_rehearsal.py"):
        result = subprocess.run(
            [sys.executable, "-S", "-I", ROOT / "scripts" / name, "--help"], capture_output=True, text=True
        )
        # -I leaves the script's folder off the path; put it back as a plain start would.
        if "_bootstrap" in result.stderr:
            code = f"import sys, runpy; sys.path.insert(0, {str(ROOT / 'scripts')!r}); sys.argv = ['x', '--help']; "
            code += f"runpy.run_path({str(ROOT / 'scripts' / name)!r}, run_name='__main__')"
            result = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
        assert result.returncode == 0 and "usage:" in result.stdout, (name, result.stderr)


@pytest.mark.parametrize("uploaded", ["nothing", "a part", "cut off"])
def test_entry_points_name_the_missing_upload(tmp_path, uploaded):
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    if uploaded != "nothing":
        (tmp_path / "socrates").mkdir()
        shutil.copy(ROOT / "socrates" / "__init__.py", tmp_path / "socrates")
    if uploaded == "cut off":
        (tmp_path / "socrates" / "errors.py").write_text((ROOT / "socrates" / "errors.py").read_text()[:900])
    for script in ("evaluate.py", "gate.py"):
        program = [sys.executable, tmp_path / "scripts" / script, "--help"]
        result = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path)
        assert_refused(
            result, "socrates is missing beside scripts/", "tnr scp 0 socrates/ ~/socrates-training/socrates/"
        )
