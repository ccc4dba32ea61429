"""Training for real: DeepSpeed's launcher, two CPU ranks, ZeRO-2, a tiny Qwen2; killed, damaged, resumed."""

import fcntl
import json
import math
import os
import shutil
import socket
import subprocess

import pytest
from processes import (
    PATIENCE,
    assert_refused,
    environment,
    launch,
    logged,
    run_loaded,
    run_script,
    train,
    train_and_kill,
    training_command,
    training_folder,
)

from socrates.checkpoint import GUIDE_FILES, find_damage, read_manifest
from socrates.config import parse_config
from socrates.data.contamination import nest_cells
from socrates.data.records import read_answers
from socrates.files import write_json, write_jsonl
from socrates.rehearsal.rehearsal import rehearsal_config
from socrates.training.callbacks import log_line

STEPS, SAVE_STEPS, WARMUP_RATIO, PEAK = 9, 3, 0.3, 2e-3
RUN = "models/run"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    training = {"learning_rate": PEAK, "warmup_ratio": WARMUP_RATIO, "logging_steps": 1}
    return training_folder(tmp_path_factory.mktemp("train"), steps=STEPS, save_steps=SAVE_STEPS, training=training)


@pytest.fixture(scope="module")
def undisturbed(workplace):
    """The folder and the output of a run that nothing happened to."""
    folder = workplace.with_name(f"{workplace.name}-undisturbed")
    shutil.copytree(workplace, folder)
    result = launch(folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder, result.stdout


@pytest.mark.slow
def test_a_checkpoint_holds_what_the_guide_lists_and_verifies(undisturbed):
    folder, _ = undisturbed
    names = sorted(p.name for p in (folder / RUN).glob("checkpoint-*"))
    assert names == ["checkpoint-3", "checkpoint-6", "checkpoint-9"]
    for name in names:
        checkpoint = folder / RUN / name
        assert find_damage(checkpoint) is None
        manifest = read_manifest(checkpoint)
        assert {*GUIDE_FILES, "training_config.json", "training_data.json"} <= set(manifest.files)
        assert manifest.num_processes == 2
    record = json.loads((folder / RUN / "checkpoint-9" / "training_config.json").read_text())
    assert record["config"] == json.loads((folder / "config.json").read_text())
    assert record["data"]["split"] == "study" and len(record["data"]["train_sha256"]) == 64
    trained = json.loads((folder / RUN / "checkpoint-9" / "training_data.json").read_text())
    assert trained["train_sha256"] == record["data"]["train_sha256"] and trained["split"] == "study"
    training = {answer.cell for answer in read_answers(folder / "data/set/train.jsonl")}
    assert trained["cells"] == nest_cells(training)
    adapter = json.loads((folder / RUN / "checkpoint-9" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == "models/base", "the name, not a path of this machine"


@pytest.mark.slow
def test_the_log_has_the_lines_of_the_guide(undisturbed):
    _, log = undisturbed
    lines = log.splitlines()
    steps = [line for line in lines if line.startswith("{'loss': ")]
    assert len(steps) == STEPS and all("'learning_rate': " in line for line in steps)
    saves = [line for line in lines if line.startswith("Saving model checkpoint to ")]
    assert [line.split("/")[-1] for line in saves] == ["checkpoint-3", "checkpoint-6", "checkpoint-9"]


@pytest.mark.slow
def test_the_learning_rates_are_the_cosine_formulas(undisturbed):
    folder, _ = undisturbed
    rates = [entry["learning_rate"] for entry in logged(folder, f"{RUN}/checkpoint-9") if "loss" in entry]
    warmup = math.ceil(WARMUP_RATIO * STEPS)

    def formula(step):  # the rate that optimizer step number step + 1 uses
        if step < warmup:
            return PEAK * step / warmup
        return PEAK * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (STEPS - warmup)))

    assert rates == pytest.approx([formula(step) for step in range(STEPS)], rel=1e-12)


@pytest.mark.slow
def test_smaller_micro_batches_learn_the_same(workplace):
    """Through DeepSpeed: the gradients of a step's micro-batches add up, and it steps once."""
    folder = workplace.parent / "cut"
    shutil.copytree(workplace, folder)
    losses = []
    for number, limit in enumerate((100_000, 256)):
        config = json.loads((folder / "config.json").read_text())
        config["output_dir"], config["lora"]["dropout"] = f"models/cut-{number}", 0.0
        config["training"] |= {"micro_batch_tokens": limit, "max_length": 256, "max_steps": 4, "save_steps": 4}
        config["training"]["bf16"] = False  # else rounding hides small mistakes
        config["training"] |= {"report_to": ("tensorboard", "none")[number], "eval_steps": 2, "eval_examples": 6}
        write_json(folder / "config.json", config)
        result = train(folder)
        assert result.returncode == 0, result.stdout + result.stderr
        entries = [entry for entry in logged(folder, f"models/cut-{number}/checkpoint-4") if "loss" in entry]
        losses.append([(entry["loss"], entry["grad_norm"]) for entry in entries])
        watched = [entry["step"] for entry in entries if "eval_loss" in entry]
        assert watched == [2, 4]
    assert len(losses[0]) == 4
    for one, other in zip(*losses, strict=True):
        assert one[0] == pytest.approx(other[0], rel=1e-5) and one[1] == pytest.approx(other[1], rel=1e-4)
    assert tracked(folder / "models/cut-0", "train/loss") == pytest.approx([loss for loss, _ in losses[0]])
    assert len(tracked(folder / "models/cut-0", "train/tokens_per_second")) == 4, "what is measured is tracked, too"
    assert not list((folder / "models/cut-1").glob("runs/*")), "no tracker unless asked for"


def tracked(folder, tag):
    """What TensorBoard was told, in order."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (run,) = folder.glob("runs/*")
    events = EventAccumulator(str(run)).Reload()
    return [event.value for event in events.Scalars(tag)]


@pytest.mark.slow
def test_optimizer_pt_holds_both_moments_of_every_adapter_weight(undisturbed):
    import torch
    from safetensors.torch import load_file

    from socrates.training.optimizer_export import _load_shards, merge_partitions

    folder, _ = undisturbed
    checkpoint = folder / RUN / "checkpoint-9"
    adapter = load_file(checkpoint / "adapter_model.safetensors")
    export = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    assert export["step"] == STEPS

    def saved_name(name):
        return name.replace(".default.", ".")

    assert {saved_name(name) for name in export["state"]} == set(adapter)
    for name, moments in export["state"].items():
        assert set(moments) == {"exp_avg", "exp_avg_sq"}
        for value in moments.values():
            assert value.shape == adapter[saved_name(name)].shape and value.dtype == torch.bfloat16
        assert (moments["exp_avg_sq"] >= 0).all() and moments["exp_avg_sq"].any()
    # The cut of the flat vector is right: the master weights, cut the same way, are the adapter's.
    masters = merge_partitions(*_load_shards(checkpoint), lambda shard, g: shard["single_partition_of_fp32_groups"][g])
    for name, master in masters.items():
        assert torch.equal(master.to(adapter[saved_name(name)].dtype), adapter[saved_name(name)])


@pytest.mark.slow
def test_killed_and_with_its_newest_checkpoint_damaged_it_ends_with_the_same_losses(workplace, undisturbed):
    folder = workplace.parent / "killed"
    shutil.copytree(workplace, folder)
    log = train_and_kill(folder, "'step': 7}")  # between the saves at 6 and 9
    assert "checkpoint-9" not in log
    damaged = folder / RUN / "checkpoint-6" / "adapter_model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])  # the library would resume from it without a word

    result = train(folder, "--resume-from-checkpoint", "auto")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"Passed over {RUN}/checkpoint-6: adapter_model.safetensors has" in result.stdout
    assert f"Resuming from {RUN}/checkpoint-3" in result.stdout
    assert list((folder / RUN / "set-aside").glob("checkpoint-6-*/optimizer.pt")), "nothing is deleted"

    keys = ("step", "loss", "grad_norm", "learning_rate")
    undisturbed_log, resumed_log = (
        [[entry[key] for key in keys] for entry in logged(f, f"{RUN}/checkpoint-9") if "loss" in entry]
        for f in (undisturbed[0], folder)
    )
    assert resumed_log == undisturbed_log, "every digit"
    for name in ("checkpoint-6", "checkpoint-9"):
        one, other = (f / RUN / name / "adapter_model.safetensors" for f in (undisturbed[0], folder))
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.slow
def test_a_full_disk_is_told_and_the_same_command_goes_on_once_there_is_space(workplace, undisturbed):
    """The output folder is a file system of 1.4 MiB: room for one checkpoint, and half of the next."""
    folder = workplace.parent / "full"
    shutil.copytree(workplace, folder)
    output = folder / RUN
    output.mkdir(parents=True)
    script = 'mount -t tmpfs -o size=1400k none "$1" && shift && "$@"; s=$?; cp -r models/run kept; exit $s'
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    command = [*unshare, "sh", "-c", script, "sh", str(output), *training_command()]
    full = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert full.returncode == 2, full.stdout + full.stderr
    assert f"error: {RUN}: no space left" in full.stderr
    output.rmdir()
    (folder / "kept").rename(output)
    assert find_damage(output / "checkpoint-3") is None and find_damage(output / "checkpoint-6") is not None

    config = json.loads((folder / "config.json").read_text())
    config["training"]["save_steps"] = 2  # may be changed on the way, and counts from then on
    write_json(folder / "config.json", config)
    result = train(folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"Passed over {RUN}/checkpoint-6" in result.stdout
    saved = {p.name for p in output.glob("checkpoint-*")}
    assert saved == {"checkpoint-3", "checkpoint-4", "checkpoint-6", "checkpoint-8", "checkpoint-9"}
    losses = [
        [entry["loss"] for entry in logged(f, f"{RUN}/checkpoint-9") if "loss" in entry]
        for f in (undisturbed[0], folder)
    ]
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_the_same_command_on_a_finished_run_does_nothing(undisturbed):
    folder, _ = undisturbed
    before = (folder / RUN / "checkpoint-9" / "manifest.json").read_bytes()
    result = train(folder)
    assert result.returncode == 0 and f"Resuming from {RUN}/checkpoint-9" in result.stdout
    assert "'loss'" not in result.stdout
    assert (folder / RUN / "checkpoint-9" / "manifest.json").read_bytes() == before


@pytest.mark.slow
def test_a_wrong_config_is_told_once_not_once_a_rank(workplace):
    config = json.loads((workplace / "config.json").read_text())
    write_json(workplace / "typo.json", config | {"sed": 1})
    result = train(workplace, config="typo.json")
    assert result.returncode == 2
    assert result.stderr.count('typo.json: 1 problem\n  "sed": unknown key; did you mean "seed"?') == 1
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_second_training_into_the_same_folder_is_refused(workplace):
    folder = workplace / RUN
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".training.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = train(workplace)
    assert result.returncode == 2
    assert f"error: {RUN}: another training is running into this folder" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_port_in_use_is_told(workplace):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        result = train(workplace, port=port)
    assert result.returncode == 2
    assert f"cannot meet on port {port}" in result.stderr and "--master_port" in result.stderr


def test_started_with_the_wrong_number_of_processes(workplace):
    arguments = ("train_full_dataset.py", "--config", "config.json", "--deepspeed", "deepspeed_config.json")
    result = run_script(*arguments, cwd=workplace, LOCAL_RANK="0")
    assert_refused(result, "1 process started", "deepspeed --num_gpus=2")
    result = run_loaded(*arguments, cwd=workplace)
    assert_refused(result, "start it with DeepSpeed's launcher: deepspeed --num_gpus=2")


def test_without_gpus_it_does_not_train_on_cpus_unasked(workplace):
    arguments = ("train_full_dataset.py", "--config", "config.json", "--deepspeed", "deepspeed_config.json")
    result = run_script(
        *arguments, cwd=workplace, LOCAL_RANK="0", WORLD_SIZE="2", DS_ACCELERATOR="", CUDA_VISIBLE_DEVICES=""
    )
    assert_refused(result, "torch can use 0 GPUs here, 2 processes need one each", "export DS_ACCELERATOR=cpu")


def test_planned_steps_are_the_papers_and_the_guides():
    config = rehearsal_config("m", "d", steps=1, save_steps=1)
    config["training"] |= {"max_steps": None, "global_batch_size": 256}
    assert parse_config(config, "c").planned_steps(2_418_748) == 9449
    assert parse_config(config, "c").planned_steps(2_901_390) == 11334


def test_log_line_is_the_guides():
    line = str(log_line({"loss": 2.45678, "grad_norm": 1.0, "learning_rate": 1e-5, "epoch": 0.1, "num_tokens": 5}, 10))
    assert line.startswith("{'loss': 2.457, 'learning_rate': 1e-05, ") and line.endswith("'step': 10}")


# The dry run: every wrong input, told by file, line or key.


@pytest.fixture
def dry_run(tmp_path, workplace):
    folder = tmp_path
    for name in ("config.json", "deepspeed_config.json"):
        shutil.copy(workplace / name, folder)
    shutil.copytree(workplace / "data", folder / "data")

    def run(**changed):
        arguments = {"config": "config.json", "deepspeed": "deepspeed_config.json", **changed}
        options = [part for name, value in arguments.items() for part in (f"--{name}", value)]
        return run_loaded("train_full_dataset.py", *options, "--dry-run", cwd=folder)

    return folder, run


def test_dry_run_says_what_the_run_would_be(dry_run):
    folder, run = dry_run
    result = run()
    assert result.returncode == 0, result.stderr
    assert '"learning_rate": 0.002' in result.stdout and "9 steps of 16 examples, 3 checkpoints" in result.stdout
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "data", "deepspeed_config.json"], (
        "writes nothing"
    )


@pytest.mark.parametrize(
    "name, content, parts",
    [
        ("train.jsonl", None, ["no such data file"]),
        ("train.jsonl", b"", ["holds no rows"]),
        ("train.jsonl", b'{"a": 1}\n{"b": \n', ["train.jsonl, line 1", '"response"']),
        ("val.jsonl", b"\n{nonsense}\n", ["val.jsonl, line 2", "not JSON"]),
        ("val.jsonl", b"\xff\xfe\n", ["val.jsonl, line 1", "not UTF-8"]),
    ],
)
def test_dry_run_refuses_bad_data(dry_run, name, content, parts):
    folder, run = dry_run
    path = folder / "data/set" / name
    path.unlink() if content is None else path.write_bytes(content)
    assert_refused(run(), *parts)


def test_dry_run_refuses_a_config_typo_and_missing_files(dry_run):
    folder, run = dry_run
    config = json.loads((folder / "config.json").read_text())
    config["training"]["learning_rat"] = config["training"].pop("learning_rate")
    write_json(folder / "typo.json", config)
    assert_refused(run(config="typo.json"), "typo.json: 2 problems", 'did you mean "learning_rate"?')
    assert_refused(run(config="absent.json"), "absent.json: no such config")
    write_jsonl(folder / "scheduler.json", [{"scheduler": {}, "zero_optimization": {"stage": 2}}])
    assert_refused(run(deepspeed="scheduler.json"), '"scheduler": remove this block')
