"""Training for real: DeepSpeed's launcher, two CPU ranks, ZeRO-2, a tiny Qwen2; what it saves, prints and refuses."""

import fcntl
import json
import socket

import pytest
from processes import assert_refused, cosine_rate, launch, logged, train
from shards import flat_adapter, flat_state, saved_name
from trainings import LAST, PEAK, RUN, STEPS, WARMUP_RATIO, change, copy_of, finish, learned, make_workplace

from socrates.checkpoint import GUIDE_FILES, find_damage, read_manifest
from socrates.data.contamination import nest_cells
from socrates.data.records import read_answers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return make_workplace(tmp_path_factory.mktemp("train"))


@pytest.fixture(scope="module")
def undisturbed(workplace):
    """The folder and the output of a run that nothing happened to."""
    folder = copy_of(workplace, "undisturbed")
    return folder, finish(folder, run=launch)


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
    record = json.loads((folder / LAST / "training_config.json").read_text())
    assert record["config"] == json.loads((folder / "config.json").read_text())
    assert {*record["data"]} == {"train_sha256", "split", "tokenized"}, "as before rows_per_cell"
    assert record["data"]["split"] == "study" and len(record["data"]["train_sha256"]) == 64
    trained = json.loads((folder / LAST / "training_data.json").read_text())
    assert trained["train_sha256"] == record["data"]["train_sha256"] and trained["split"] == "study"
    training = {answer.cell for answer in read_answers(folder / "data/set/train.jsonl")}
    assert trained["cells"] == nest_cells(training)
    adapter = json.loads((folder / LAST / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == "models/base", "the name, not a path of this machine"


def test_the_log_has_the_lines_of_the_guide(undisturbed):
    _, log = undisturbed
    lines = log.splitlines()
    steps = [line for line in lines if line.startswith("{'loss': ")]
    assert len(steps) == STEPS and all("'learning_rate': " in line for line in steps)
    saves = [line for line in lines if line.startswith("Saving model checkpoint to ")]
    assert [line.split("/")[-1] for line in saves] == ["checkpoint-3", "checkpoint-6", "checkpoint-9"]
    assert f"step 9 of {STEPS}: " in log and " so far" in log


def test_the_learning_rates_are_the_cosine_formulas(undisturbed):
    folder, _ = undisturbed
    expected = [cosine_rate(step, STEPS, WARMUP_RATIO, PEAK) for step in range(1, STEPS + 1)]
    assert [rate for *_, rate in learned(folder)] == pytest.approx(expected, rel=1e-12)


def test_smaller_micro_batches_learn_the_same(workplace):
    """Through DeepSpeed: the gradients of a step's micro-batches add up, and it steps once."""
    folder = copy_of(workplace, "cut")
    losses = []
    lora = json.loads((folder / "config.json").read_text())["lora"] | {"dropout": 0.0}
    for number, limit in enumerate((100_000, 256)):
        training = {"micro_batch_tokens": limit, "max_length": 256, "max_steps": 4, "save_steps": 4}
        training["bf16"] = False  # else rounding hides small mistakes
        training |= {"report_to": ("tensorboard", "none")[number], "eval_steps": 2, "eval_examples": 6}
        change(folder, training, output_dir=f"models/cut-{number}", lora=lora)
        finish(folder)
        entries = [entry for entry in logged(folder, f"models/cut-{number}/checkpoint-4") if "loss" in entry]
        losses.append([(entry["loss"], entry["grad_norm"]) for entry in entries])
        assert [entry["step"] for entry in entries if "eval_loss" in entry] == [2, 4]
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


def test_optimizer_pt_holds_both_moments_of_every_adapter_weight(undisturbed):
    import torch
    from safetensors.torch import load_file

    checkpoint = undisturbed[0] / LAST
    adapter = load_file(checkpoint / "adapter_model.safetensors")
    export = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    flat, names, _ = flat_state(checkpoint)
    assert export["step"] == STEPS and list(export["state"]) == list(names)
    for name, moments in export["state"].items():
        assert set(moments) == {"exp_avg", "exp_avg_sq"}
        assert all(value.shape == adapter[saved_name(name)].shape for value in moments.values())
    for moment in ("exp_avg", "exp_avg_sq"):
        values = torch.cat([moments[moment].flatten() for moments in export["state"].values()])
        assert torch.equal(values, flat[moment].bfloat16()) and values.any()
    assert torch.equal(flat_adapter(adapter, names), flat["fp32"].to(next(iter(adapter.values())).dtype))


def test_the_same_command_on_a_finished_run_does_nothing(undisturbed):
    folder, _ = undisturbed
    before = (folder / LAST / "manifest.json").read_bytes()
    log = finish(folder)
    assert f"Resuming from {LAST}" in log and "'loss'" not in log
    assert (folder / LAST / "manifest.json").read_bytes() == before


def test_a_wrong_config_is_told_once_not_once_a_rank(workplace):
    folder = copy_of(workplace, "typo")
    change(folder, sed=1)
    result = train(folder)
    assert_refused(result)
    assert result.stderr.count('config.json: 1 problem\n  "sed": unknown key; did you mean "seed"?') == 1


def test_a_second_training_into_the_same_folder_is_refused(workplace):
    folder = workplace / RUN
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".training.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert_refused(train(workplace), f"error: {RUN}: another training is running into this folder")


def test_a_port_in_use_is_told(workplace):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        result = train(workplace, port=port)
    assert result.returncode == 2  # torch may have logged its own traceback
    assert f"cannot meet on port {port}" in result.stderr and "--master_port" in result.stderr
