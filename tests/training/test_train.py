"""Training for real: DeepSpeed's launcher, two CPU ranks, ZeRO-2, a tiny Qwen2; killed, damaged, stopped, resumed."""

import fcntl
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest
from processes import (
    PATIENCE,
    ROOT,
    TRAINING,
    cosine_rate,
    environment,
    launch,
    logged,
    rank_processes,
    start_ranks,
    train,
    train_and_kill,
    training_command,
    training_folder,
    wait_for,
)
from shards import flat_adapter, flat_state, saved_name

from socrates.checkpoint import GUIDE_FILES, find_damage, read_manifest
from socrates.data.contamination import nest_cells
from socrates.data.records import read_answers
from socrates.files import write_json
from socrates.machine.process_tree import free_port
from socrates.telemetry.cost import TRAINING_COST, parse_account
from socrates.telemetry.log import read_progress
from socrates.training.stopping import ASSUMED_SAVE

STEPS, SAVE_STEPS, WARMUP_RATIO, PEAK = 9, 3, 0.3, 2e-3
RUN, LAST = "models/run", "models/run/checkpoint-9"
PRICE = 3600.0  # US dollars an hour: a second costs a dollar
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    training = {"learning_rate": PEAK, "warmup_ratio": WARMUP_RATIO, "logging_steps": 1}
    options = {"training": training, "price_per_hour": PRICE, "people": 2}  # an epoch ends after 5 of the 9 steps
    return training_folder(tmp_path_factory.mktemp("train"), steps=STEPS, save_steps=SAVE_STEPS, **options)


@pytest.fixture(scope="module")
def undisturbed(workplace):
    """The folder and the output of a run that nothing happened to."""
    folder = copy_of(workplace, "undisturbed")
    return folder, finish(folder, run=launch)


def copy_of(workplace, name):
    return shutil.copytree(workplace, workplace.with_name(f"{workplace.name}-{name}"))


def change(folder, training=(), **values):
    config = json.loads((folder / "config.json").read_text()) | values
    config["training"] |= dict(training)
    write_json(folder / "config.json", config)


def finish(folder, *more, run=train):
    result = run(folder, *more)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def learned(folder):
    """What each step has learned, to the last digit, as the last checkpoint tells."""
    keys = ("step", "loss", "grad_norm", "learning_rate")
    return [[entry[key] for key in keys] for entry in logged(folder, LAST) if "loss" in entry]


def assert_same_end(folder, undisturbed):
    """Every digit of the log, and the last adapter byte for byte."""
    assert learned(folder) == learned(undisturbed[0])
    one, other = (f / LAST / "adapter_model.safetensors" for f in (undisturbed[0], folder))
    assert one.read_bytes() == other.read_bytes()


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


def test_the_metadata_say_what_the_run_was_and_took(undisturbed):
    folder, log = undisturbed
    metadata = json.loads((folder / RUN / "training_metadata.json").read_text())
    assert metadata["how_it_ended"] == "complete" and metadata["attempts"] == 1
    assert metadata["steps"] == STEPS and metadata["examples"] == 16 * STEPS
    assert metadata["tokens"] > 0 and metadata["mean_tokens_per_second"] > 0
    assert metadata["cost_usd"] == pytest.approx(metadata["wall_time_s"], rel=0.01)
    assert metadata["final_loss"] == learned(folder)[-1][1]
    assert metadata["checkpoints"] == ["checkpoint-3", "checkpoint-6", "checkpoint-9"]
    assert metadata["machine"]["python"] == sys.version.split()[0] and metadata["config"]["seed"] == 42
    assert f"step 9 of {STEPS}: " in log and " so far" in log


def test_the_learning_rates_are_the_cosine_formulas(undisturbed):
    folder, _ = undisturbed
    expected = [cosine_rate(step, STEPS, WARMUP_RATIO, PEAK) for step in range(1, STEPS + 1)]
    assert [rate for *_, rate in learned(folder)] == pytest.approx(expected, rel=1e-12)


def test_smaller_micro_batches_learn_the_same(workplace):
    """Through DeepSpeed: the gradients of a step's micro-batches add up, and it steps once."""
    folder = copy_of(workplace, "cut")
    losses = []
    for number, limit in enumerate((100_000, 256)):
        config = json.loads((folder / "config.json").read_text())
        training = {"micro_batch_tokens": limit, "max_length": 256, "max_steps": 4, "save_steps": 4}
        training["bf16"] = False  # else rounding hides small mistakes
        training |= {"report_to": ("tensorboard", "none")[number], "eval_steps": 2, "eval_examples": 6}
        change(folder, training, output_dir=f"models/cut-{number}", lora=config["lora"] | {"dropout": 0.0})
        finish(folder)
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


def test_optimizer_pt_holds_both_moments_of_every_adapter_weight(undisturbed):
    import torch
    from safetensors.torch import load_file

    folder, _ = undisturbed
    checkpoint = folder / LAST
    adapter = load_file(checkpoint / "adapter_model.safetensors")
    export = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    flat, names, _ = flat_state(checkpoint)
    assert export["step"] == export["updates"] == STEPS and list(export["state"]) == list(names)
    for name, moments in export["state"].items():
        assert set(moments) == {"exp_avg", "exp_avg_sq"}
        assert all(value.shape == adapter[saved_name(name)].shape for value in moments.values())
    for moment in ("exp_avg", "exp_avg_sq"):
        values = torch.cat([moments[moment].flatten() for moments in export["state"].values()])
        assert torch.equal(values, flat[moment].bfloat16()) and values.any()
    assert torch.equal(flat_adapter(adapter, names), flat["fp32"].to(next(iter(adapter.values())).dtype))


def test_killed_and_with_its_newest_checkpoint_damaged_it_ends_with_the_same_losses(workplace, undisturbed):
    folder = copy_of(workplace, "killed")
    log = train_and_kill(folder, "'step': 7}")  # between the saves at 6 and 9
    assert "checkpoint-9" not in log
    damaged = folder / RUN / "checkpoint-6" / "adapter_model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])  # the library would resume from it without a word

    log = finish(folder, "--resume-from-checkpoint", "auto")
    assert f"Passed over {RUN}/checkpoint-6: adapter_model.safetensors has" in log
    assert f"Resuming from {RUN}/checkpoint-3" in log
    assert list((folder / RUN / "set-aside").glob("checkpoint-6-*/optimizer.pt")), "nothing is deleted"
    assert_same_end(folder, undisturbed)


def start_nodes(*folders, log, script=TRAINING):
    """torchrun's agents as two machines start them, one rank each; all their output goes into one log."""
    address = ("--master-addr=127.0.0.1", f"--master-port={free_port()}")
    with log.open("w") as file:
        return [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "torch.distributed.run", f"--nnodes={len(folders)}", f"--node-rank={node}"),
                    *(*address, str(script), "--config", "config.json", "--deepspeed", "deepspeed_config.json"),
                ],
                cwd=folder,
                env=environment(),
                stdout=file,
                stderr=file,
            )
            for node, folder in enumerate(folders)
        ]


def test_two_nodes_one_of_them_killed_end_as_one_node_does_that_nothing_happened_to(workplace, undisturbed):
    folder, log = copy_of(workplace, "nodes"), workplace.parent / "nodes.log"
    nodes = start_nodes(folder, folder, log=log)
    wait_for(lambda: "'step': 7}" in log.read_text() or any(node.poll() is not None for node in nodes), log.read_text)
    for process in [*psutil.Process(nodes[1].pid).children(recursive=True), nodes[1]]:
        process.kill()
    assert all(node.wait(PATIENCE) for node in nodes), log.read_text()
    nodes = start_nodes(folder, folder, log=log)
    assert [node.wait(PATIENCE) for node in nodes] == [0, 0], log.read_text()
    assert f"Resuming from {RUN}/checkpoint-6\n" in log.read_text()
    assert_same_end(folder, undisturbed)
    for step in (3, 6, 9):
        assert find_damage(folder / RUN / f"checkpoint-{step}") is None


def test_two_nodes_with_a_folder_each_are_refused_at_the_start(workplace):
    folders, log = [copy_of(workplace, name) for name in ("here", "there")], workplace.parent / "apart.log"
    script = workplace.parent / "in_a_hurry.py"
    script.write_text(
        f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'scripts')]}\n"
        "from socrates.training import distributed; distributed._LOOKS = (0.0,)\n"
        "import train_full_dataset; train_full_dataset.run_entry_point(train_full_dataset.main)\n"
    )
    assert all(node.wait(PATIENCE) for node in start_nodes(*folders, log=log, script=script)), log.read_text()
    assert log.read_text().count(f"rank 1 on {platform.node()}: {RUN} is not there, and a checkpoint needs") == 1
    assert not [path for folder in folders for path in folder.glob(f"{RUN}/checkpoint-*")]


def test_a_full_disk_is_told_and_the_same_command_goes_on_once_there_is_space(workplace, undisturbed):
    """The output folder is a file system of 1.4 MiB: room for one checkpoint, and half of the next."""
    folder = copy_of(workplace, "full")
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

    change(folder, {"save_steps": 2})  # may be changed on the way, and counts from then on
    assert f"Passed over {RUN}/checkpoint-6" in finish(folder)
    saved = {p.name for p in output.glob("checkpoint-*")}
    assert saved == {"checkpoint-3", "checkpoint-4", "checkpoint-6", "checkpoint-8", "checkpoint-9"}
    assert_same_end(folder, undisturbed)


def test_a_cost_limit_stops_cleanly_refuses_and_with_a_larger_one_goes_on_to_the_same_end(workplace, undisturbed):
    folder = copy_of(workplace, "limited")
    change(folder, max_cost_usd=ASSUMED_SAVE)  # as no save was measured, the first step's end is the moment
    log = finish(folder)
    assert f"Stopped at step 1 of {STEPS}: one step more would pass max_cost_usd = $120.00 (" in log
    assert f"{RUN}/checkpoint-1 is complete" in log and "Training complete" not in log
    assert find_damage(folder / RUN / "checkpoint-1") is None
    saved = parse_account(json.loads((folder / RUN / "checkpoint-1" / TRAINING_COST).read_text()))
    assert saved.attempts == 1 and saved.usd > 0 and saved.usd == pytest.approx(saved.seconds, rel=0.01)
    metadata = json.loads((folder / RUN / "training_metadata.json").read_text())
    assert metadata["how_it_ended"].startswith("stopped: one step more") and metadata["steps"] == 1

    refused = train(folder)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "max_cost_usd is $120.00, and $" in refused.stderr and "by this run's 1 attempt:" in refused.stderr
    assert "'loss'" not in refused.stdout and read_progress(folder / RUN).account.attempts == 1

    (folder / RUN / ".progress.json").unlink()  # as on another machine: the checkpoint knows
    assert train(folder).returncode == 2
    change(folder, max_cost_usd=1e6)
    assert f"Training complete: {STEPS} steps" in finish(folder)
    assert_same_end(folder, undisturbed)
    account = read_progress(folder / RUN).account
    assert account.attempts == 2 and account.usd > saved.usd + 1 and account.tokens > saved.tokens
    lines = [json.loads(line) for line in (folder / RUN / "training_log.jsonl").read_text().splitlines()]
    costs = [line["cost_usd"] for line in lines]
    assert costs == sorted(costs) and saved.usd < costs[-1] <= account.usd
    assert lines[-1]["seconds_left"] == 0 and lines[-1]["expected_cost_usd"] == pytest.approx(costs[-1], abs=0.01)


@pytest.mark.parametrize("whole_tree", [False, True])
def test_sigterm_stops_cleanly_and_the_same_command_goes_on_to_the_same_end(workplace, undisturbed, whole_tree):
    """Sent to the ranks, or to all that DeepSpeed's launcher has started and to itself."""
    folder = copy_of(workplace, f"terminated-{whole_tree}")
    log = folder / "training.log"
    with log.open("w") as file:
        output = {"stdout": file, "stderr": file}
        if whole_tree:
            started = [subprocess.Popen(training_command(), cwd=folder, env=environment(), **output)]
        else:
            started = start_ranks(folder, **output)
    wait_for(lambda: "'step': 2}" in log.read_text(), log.read_text)
    found = [psutil.Process(process.pid) for process in started]
    for process in found + [child for parent in found for child in parent.children(recursive=True)]:
        with suppress(psutil.Error):
            process.terminate()
    statuses = [process.wait(PATIENCE) for process in started]
    wait_for(lambda: not rank_processes(folder), log.read_text)
    progress = read_progress(folder / RUN)
    assert progress.stopped == "SIGTERM asked it to" and 2 <= progress.step < STEPS, log.read_text()
    assert find_damage(folder / RUN / f"checkpoint-{progress.step}") is None
    assert f"Stopped at step {progress.step} of {STEPS}: SIGTERM asked it to" in log.read_text()
    assert whole_tree or statuses == [0, 0]

    assert f"Resuming from {RUN}/checkpoint-{progress.step}\n" in finish(folder)
    assert_same_end(folder, undisturbed)


def test_the_same_command_on_a_finished_run_does_nothing(undisturbed):
    folder, _ = undisturbed
    before = (folder / LAST / "manifest.json").read_bytes()
    log = finish(folder)
    assert f"Resuming from {LAST}" in log and "'loss'" not in log
    assert (folder / LAST / "manifest.json").read_bytes() == before


def test_a_wrong_config_is_told_once_not_once_a_rank(workplace):
    config = json.loads((workplace / "config.json").read_text())
    write_json(workplace / "typo.json", config | {"sed": 1})
    result = train(workplace, config="typo.json")
    assert result.returncode == 2
    assert result.stderr.count('typo.json: 1 problem\n  "sed": unknown key; did you mean "seed"?') == 1
    assert "Traceback" not in result.stderr


def test_a_second_training_into_the_same_folder_is_refused(workplace):
    folder = workplace / RUN
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".training.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = train(workplace)
    assert result.returncode == 2
    assert f"error: {RUN}: another training is running into this folder" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_port_in_use_is_told(workplace):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        result = train(workplace, port=port)
    assert result.returncode == 2
    assert f"cannot meet on port {port}" in result.stderr and "--master_port" in result.stderr
