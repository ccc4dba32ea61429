"""Training for real, killed, damaged, short of disk or money, told to stop: it goes on to the same end."""

import json
import os
import platform
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest
from processes import (
    PATIENCE,
    ROOT,
    TRAINING,
    assert_refused,
    environment,
    rank_processes,
    start_loaded,
    train,
    train_and_kill,
    training_command,
    wait_for,
)
from trainings import RUN, STEPS, WITNESS, assert_same_end, change, copy_of, finish, make_workplace

from socrates.checkpoint import find_damage
from socrates.machine.process_tree import free_port
from socrates.telemetry.cost import TRAINING_COST, Account
from socrates.telemetry.log import read_progress
from socrates.telemetry.reading import read_as
from socrates.training.stopping import ASSUMED_SAVE

FILES = ("--config", "config.json", "--deepspeed", "deepspeed_config.json")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return make_workplace(tmp_path_factory.mktemp("interrupted"))


@pytest.fixture(scope="module")
def undisturbed(workplace):
    folder = copy_of(workplace, "undisturbed")
    finish(folder)
    return folder


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


def test_whose_gradients_are_never_finite_saves_and_stops_and_goes_on_once_they_are(workplace):
    import torch

    folder = copy_of(workplace, "infinite")
    (folder / "infinite").touch()
    told = f"error: stopped at step {STEPS} of {STEPS}: the last {STEPS} steps changed no weight, their gradients"
    assert_refused(train(folder, script=WITNESS), told)
    checkpoint = folder / RUN / "checkpoint-6"
    assert find_damage(checkpoint) is None and not (folder / RUN / f"checkpoint-{STEPS}").is_dir()
    moments = torch.load(checkpoint / "optimizer.pt")["state"]
    assert moments and not any(values.any() for both in moments.values() for values in both.values())
    assert not list(checkpoint.rglob("*.py")), "nothing that people run"
    (folder / "infinite").unlink()
    assert f"Resuming from {RUN}/checkpoint-6" in finish(folder, script=WITNESS)


def start_nodes(folder, log):
    """torchrun's agents as two machines with one file system start them, one rank each."""
    address = ("--master-addr=127.0.0.1", f"--master-port={free_port()}", str(TRAINING), *FILES)
    with log.open("w") as file:
        return [
            subprocess.Popen(
                [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={node}", *address],
                cwd=folder,
                env=environment(),
                stdout=file,
                stderr=file,
            )
            for node in range(2)
        ]


def test_two_nodes_one_of_them_killed_end_as_one_node_does_that_nothing_happened_to(workplace, undisturbed):
    folder, log = copy_of(workplace, "nodes"), workplace.parent / "nodes.log"
    nodes = start_nodes(folder, log)
    wait_for(lambda: "'step': 7}" in log.read_text() or any(node.poll() is not None for node in nodes), log.read_text)
    for process in [*psutil.Process(nodes[1].pid).children(recursive=True), nodes[1]]:
        process.kill()
    assert all(node.wait(PATIENCE) for node in nodes), log.read_text()
    nodes = start_nodes(folder, log)
    assert [node.wait(PATIENCE) for node in nodes] == [0, 0], log.read_text()
    assert f"Resuming from {RUN}/checkpoint-6\n" in log.read_text()
    assert_same_end(folder, undisturbed)
    for step in (3, 6, 9):
        assert find_damage(folder / RUN / f"checkpoint-{step}") is None


def test_two_nodes_with_a_folder_each_are_refused_at_the_start(workplace):
    script = workplace.parent / "in_a_hurry.py"
    script.write_text(
        f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'scripts')]}\n"
        "from socrates.training import distributed; distributed.time.sleep = lambda seconds: None\n"
        "import train_full_dataset; train_full_dataset.run_entry_point(train_full_dataset.main)\n"
    )
    nodes = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    nodes |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    folders = [copy_of(workplace, name) for name in ("here", "there")]
    started = [start_loaded(script, *FILES, cwd=f, RANK=str(rank), **nodes) for rank, f in enumerate(folders)]
    first, second = (wait() for wait in started)
    assert_refused(first, f"rank 1 on {platform.node()}: {RUN} is not there, and a checkpoint needs")
    assert (second.returncode, "error:" in second.stderr) == (2, False), second.stderr
    assert not [path for folder in folders for path in folder.glob(f"{RUN}/checkpoint-*")]


def test_a_full_disk_is_told_and_the_same_command_goes_on_once_there_is_space(workplace, undisturbed):
    """The output folder is a file system of 1.4 MiB: room for one checkpoint, and half of the next."""
    folder = copy_of(workplace, "full")
    output = folder / RUN
    output.mkdir(parents=True)
    script = """mount -t tmpfs -o size=1400k none models/run
        RANK=1 LOCAL_RANK=1 "$@" 2>/dev/null & RANK=0 LOCAL_RANK=0 "$@"; status=$?
        kill $!; cp -r models/run kept; exit $status"""
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    ranks = environment(WORLD_SIZE="2", LOCAL_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    command = [*unshare, "sh", "-c", script, "sh", sys.executable, str(TRAINING), *FILES]
    full = subprocess.run(command, cwd=folder, env=ranks, capture_output=True, text=True, timeout=PATIENCE)
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
    saved = read_as(Account, json.loads((folder / RUN / "checkpoint-1" / TRAINING_COST).read_text()))
    assert saved.attempts == 1 and saved.usd > 0 and saved.usd == pytest.approx(saved.seconds, rel=0.01)

    (folder / RUN / ".progress.json").unlink()  # as on another machine: the checkpoint knows
    refused = train(folder)
    assert_refused(refused, "max_cost_usd is $120.00, and $", "by this run's 1 attempt:")
    assert "'loss'" not in refused.stdout

    change(folder, max_cost_usd=1e6)
    assert f"Training complete: {STEPS} steps" in finish(folder)
    assert_same_end(folder, undisturbed)
    account = read_progress(folder / RUN).account
    assert account.attempts == 2 and account.usd > saved.usd + 1
    lines = [json.loads(line) for line in (folder / RUN / "training_log.jsonl").read_text().splitlines()]
    costs = [line["cost_usd"] for line in lines]
    assert costs == sorted(costs) and saved.usd < costs[-1] <= account.usd
    assert lines[-1]["seconds_left"] == 0 and lines[-1]["expected_cost_usd"] == pytest.approx(costs[-1], abs=0.01)


def test_sigterm_to_all_of_it_stops_cleanly_and_the_same_command_goes_on_to_the_same_end(workplace, undisturbed):
    """Sent to all that DeepSpeed's launcher has started and to itself; the supervisor asks one rank alone."""
    folder = copy_of(workplace, "terminated")
    log = folder / "training.log"
    with log.open("w") as file:
        launcher = subprocess.Popen(training_command(), cwd=folder, env=environment(), stdout=file, stderr=file)
    wait_for(lambda: "'step': 2}" in log.read_text(), log.read_text)
    found = psutil.Process(launcher.pid)
    for process in (found, *found.children(recursive=True)):
        with suppress(psutil.Error):
            process.terminate()
    launcher.wait(PATIENCE)
    wait_for(lambda: not rank_processes(folder), log.read_text)
    progress = read_progress(folder / RUN)
    assert progress.stopped == "SIGTERM asked it to" and 2 <= progress.step < STEPS, log.read_text()
    assert find_damage(folder / RUN / f"checkpoint-{progress.step}") is None
    assert f"Stopped at step {progress.step} of {STEPS}: SIGTERM asked it to" in log.read_text()
    assert f"Resuming from {RUN}/checkpoint-{progress.step}\n" in finish(folder)
    assert_same_end(folder, undisturbed)
