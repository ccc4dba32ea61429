"""Clean stops: the decision, the callback, and DeepSpeed's launcher with two CPU ranks that are stopped for real."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from machines import status_of, text_of
from processes import (
    PATIENCE,
    environment,
    logged,
    rank_processes,
    run_script,
    start_ranks,
    train,
    training_command,
    training_folder,
    wait_for,
)

from socrates.checkpoint import find_damage, newest_complete
from socrates.errors import SocratesError
from socrates.files import write_json
from socrates.machine.process_tree import find_ranks
from socrates.remote.untrusted import json_object
from socrates.telemetry.cost import TRAINING_COST, Account, account_before, parse_account
from socrates.telemetry.log import read_progress
from socrates.telemetry.recorder import Telemetry
from socrates.training.stopping import ASSUMED_SAVE, cost_of_going_on, refuse_if_spent, stop_cleanly, would_pass

RUN, STEPS = "models/run", 9
PRICE = 3600.0  # US dollars an hour: a second costs a dollar


# The decision.


@pytest.mark.parametrize(
    "spent, step, save, passes",
    [
        (80.0, 15.0, 5.0, False),  # to the cent
        (80.01, 15.0, 5.0, True),
        (99.0, 15.0, 5.0, True),
        (0.0, 15.0, None, True),  # no save was measured
        (0.0, None, 5.0, False),
        (100.0, None, 0.0, False),
    ],
)
def test_a_step_and_its_save_must_fit_under_the_limit(spent, step, save, passes):
    account = Account(attempts=1, usd=spent, step_seconds=step, save_seconds=save)
    assert would_pass(account, PRICE, 100.0) is passes
    assert not would_pass(account, PRICE, None) and not would_pass(account, None, 100.0)


def test_a_save_that_is_due_now_counts_besides_the_one_before_the_end():
    account = Account(usd=99.0, step_seconds=10.0, save_seconds=200.0)
    assert would_pass(account, 9.0, 99.6, saves=2) and not would_pass(account, 9.0, 99.6)


def test_without_a_measured_save_one_is_assumed():
    assert cost_of_going_on(Account(step_seconds=16.0), 7.2) == pytest.approx(7.2 * (16 + ASSUMED_SAVE) / 3600)


def test_a_run_that_stopped_for_its_limit_is_refused_with_both_numbers():
    stopped = Account(attempts=3, usd=99.2, step_seconds=1.0, save_seconds=None)
    with pytest.raises(SocratesError, match=r'\$100\.00, and \$99\.20 are spent .*3 attempts.*"max_cost_usd"'):
        refuse_if_spent(stopped, PRICE, 100.0)
    refuse_if_spent(stopped, PRICE, 250.0)
    refuse_if_spent(stopped, PRICE, None)
    refuse_if_spent(Account(), PRICE, 1.0)  # a first attempt may always try


# What is carried on.


def account_files(folder, told=None, saved=None):
    checkpoint = folder / "checkpoint-3"
    checkpoint.mkdir()
    if told:
        write_json(folder / ".progress.json", {"step": 4, "account": told.to_dict()})
    if saved:
        write_json(checkpoint / TRAINING_COST, saved.to_dict())
    return checkpoint


def test_of_two_accounts_of_one_run_the_larger_counts(tmp_path):
    saved = Account(run="a", attempts=1, seconds=100.0, usd=2.0, tokens=5.0, save_seconds=1.0)
    checkpoint = account_files(tmp_path, Account(run="a", attempts=2, seconds=150.0, usd=3.0, tokens=7.0), saved)
    before = account_before(tmp_path, checkpoint, "b", 7.2)
    assert (before.run, before.attempts, before.seconds, before.usd, before.tokens) == ("a", 2, 150.0, 3.0, 7.0)
    assert before.save_seconds is None, "another machine has another disk"


def test_another_runs_progress_does_not_count_and_the_checkpoints_account_is_the_runs_own(tmp_path):
    checkpoint = account_files(tmp_path, Account(run="a", seconds=150.0), Account(run="c", seconds=100.0, usd=2.0))
    assert account_before(tmp_path, checkpoint, "b", 7.2).seconds == 100.0
    assert account_before(tmp_path, None, "b", 7.2) == Account(run="b", usd=0.0)
    assert account_before(tmp_path, None, "a", 3.6).usd == pytest.approx(3.6 * 150 / 3600), "at the price of now"
    assert account_before(tmp_path, None, "a", None).usd is None


def test_without_records_or_with_damaged_ones_it_begins_at_nothing(tmp_path):
    checkpoint = account_files(tmp_path)
    assert account_before(tmp_path, checkpoint, "a", 1.0) == Account(run="a", usd=0.0)
    (tmp_path / ".progress.json").write_text('{"account": [')
    (checkpoint / TRAINING_COST).write_text('{"run": 1}')
    assert account_before(tmp_path, checkpoint, "a", 1.0) == Account(run="a", usd=0.0)
    for value in (None, 5, {}, {"run": "a"}, {"run": "a", "attempts": "x"}, {"run": "a", "attempts": 1, "usd": []}):
        assert parse_account(value) is None


# The callback, without a Trainer.


class Quiet:
    def start(self, told=None): ...

    def stop(self): ...

    def take(self):
        return []


class Loop:
    """As much of the Trainer's loop as the callback sees."""

    def __init__(self, folder, max_cost_usd=None, **before):
        self.telemetry = Telemetry(folder, Quiet(), before=Account(**before), price_per_hour=PRICE)
        self.callback = stop_cleanly(self.telemetry, PRICE, max_cost_usd)
        self.args = SimpleNamespace(output_dir=str(folder))
        self.state = SimpleNamespace(global_step=0, max_steps=5, is_world_process_zero=True)
        self.telemetry.begin(0, 5)
        self.callback.on_train_begin(self.args, self.state, None)

    def step(self, **wanted):
        control = SimpleNamespace(
            should_save=False, should_training_stop=False, should_log=False, should_evaluate=True, **wanted
        )
        self.state.global_step += 1
        self.telemetry.step(self.state.global_step, 5)
        self.callback.on_step_end(self.args, self.state, control)
        return control

    def end(self):
        self.telemetry.end()
        self.callback.on_train_end(self.args, self.state, None)


@pytest.fixture
def default_sigterm():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def test_sigterm_saves_after_the_step_and_tells_how_to_go_on(tmp_path, capsys, default_sigterm):
    loop = Loop(tmp_path)
    assert not loop.step().should_training_stop
    for _ in range(3):  # whoever signals a process tree makes the launcher signal the ranks again
        os.kill(os.getpid(), signal.SIGTERM)
    control = loop.step()
    assert control.should_save and control.should_training_stop and control.should_log
    assert not control.should_evaluate
    loop.end()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    said = capsys.readouterr().out
    assert "Stopped at step 2 of 5: SIGTERM asked it to; " in said and "checkpoint-2 is complete; to go on, run" in said
    assert "max_cost_usd" not in said
    assert read_progress(tmp_path).stopped == "SIGTERM asked it to"


def test_asked_to_stop_in_its_last_step_it_is_simply_complete(tmp_path, capsys, default_sigterm):
    loop = Loop(tmp_path, max_cost_usd=0.01)
    loop.state.global_step = 4
    os.kill(os.getpid(), signal.SIGTERM)
    assert not loop.step().should_save, "the Trainer saves the last step by itself"
    loop.end()
    assert "Stopped" not in capsys.readouterr().out and read_progress(tmp_path).stopped is None


def test_the_limit_counts_what_earlier_attempts_cost(tmp_path, capsys, default_sigterm):
    age = time.time() - psutil.Process().create_time()
    loop = Loop(tmp_path, max_cost_usd=age + 1000 + ASSUMED_SAVE, usd=100.0)
    assert not loop.step().should_training_stop
    loop.end()
    loop = Loop(tmp_path, max_cost_usd=age + 1000 + ASSUMED_SAVE, usd=1001.0)
    assert loop.step().should_training_stop
    loop.end()
    said = capsys.readouterr().out
    assert '"max_cost_usd" in the config' in said
    assert re.search(rf"and up to \${ASSUMED_SAVE:.0f}\.\d\d are kept for that step and what has to be saved", said)


def test_a_second_sigterm_some_seconds_later_ends_at_once():
    program = (
        "import os, signal, time\nfrom types import SimpleNamespace as S\n"
        "import socrates.training.stopping as stopping\n"
        "callback = stopping.stop_cleanly(None, None, None)\ncallback.on_train_begin(None, None, None)\n"
        "kill = lambda: os.kill(os.getpid(), signal.SIGTERM)\nstopping._SAME_REQUEST = 3600.0\nkill(); kill()\n"
        "print('lives', flush=True)\n"
        "stopping._SAME_REQUEST = 0.0\ntime.sleep(0.01); kill(); print('still', flush=True)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "lives\n"), done.stderr


# Ranks among other processes.


def test_a_ranks_workers_are_no_ranks():
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    rank = subprocess.Popen(
        [sys.executable, "-c", child],
        env=environment(LOCAL_RANK="0"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        rank.stdout.readline()
        me = psutil.Process()
        family = me.children(recursive=True)
        assert len([p for p in family if rank.pid in (p.pid, p.ppid())]) == 2
        assert [p.pid for p in find_ranks(family)] == [rank.pid]
    finally:
        rank.communicate(b"\n", timeout=PATIENCE)


# With DeepSpeed.


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder as the guide's project folder: data, base model, configs."""
    return training_folder(
        tmp_path_factory.mktemp("stop"),
        steps=STEPS,
        save_steps=4,
        training={"logging_steps": 1},
        price_per_hour=PRICE,
    )


@pytest.fixture(scope="module")
def undisturbed(workplace):
    """What a run that nothing happened to has learned, step by step."""
    result = train(folder := copy_of(workplace, "undisturbed"))
    assert result.returncode == 0, result.stdout + result.stderr
    metadata = json.loads((folder / RUN / "training_metadata.json").read_text())
    assert metadata["how_it_ended"] == "complete" and metadata["attempts"] == 1
    assert metadata["steps"] == STEPS and metadata["examples"] == 16 * STEPS
    assert metadata["tokens"] > 0 and metadata["mean_tokens_per_second"] > 0
    assert metadata["cost_usd"] == pytest.approx(metadata["wall_time_s"], rel=0.01)
    assert metadata["final_loss"] == learned(folder)[-1][1]
    assert metadata["checkpoints"] == ["checkpoint-4", "checkpoint-8", "checkpoint-9"]
    assert metadata["machine"]["python"] == sys.version.split()[0] and metadata["config"]["seed"] == 42
    assert f"step 9 of {STEPS}: " in result.stdout and " so far" in result.stdout
    return learned(folder)


def copy_of(workplace, name):
    return Path(shutil.copytree(workplace, workplace.with_name(f"{workplace.name}-{name}")))


def learned(folder):
    keys = ("step", "loss", "grad_norm", "learning_rate")
    return [[entry[key] for key in keys] for entry in logged(folder, f"{RUN}/checkpoint-{STEPS}") if "loss" in entry]


def change(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", config | values)


@pytest.mark.slow
def test_a_cost_limit_stops_cleanly_refuses_and_with_a_larger_one_goes_on_to_the_same_end(workplace, undisturbed):
    folder = copy_of(workplace, "limited")
    change(folder, max_cost_usd=ASSUMED_SAVE)  # as no save was measured, the first step's end is the moment
    result = train(folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"Stopped at step 1 of {STEPS}: one step more would pass max_cost_usd = $120.00 (" in result.stdout
    assert f"{RUN}/checkpoint-1 is complete" in result.stdout and "Training complete" not in result.stdout
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
    result = train(folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"Training complete: {STEPS} steps" in result.stdout
    assert learned(folder) == undisturbed, "every digit"
    account = read_progress(folder / RUN).account
    assert account.attempts == 2 and account.usd > saved.usd + 1 and account.tokens > saved.tokens
    lines = [json.loads(line) for line in (folder / RUN / "training_log.jsonl").read_text().splitlines()]
    costs = [line["cost_usd"] for line in lines]
    assert costs == sorted(costs) and saved.usd < costs[-1] <= account.usd
    assert lines[-1]["seconds_left"] == 0 and lines[-1]["expected_cost_usd"] == pytest.approx(costs[-1], abs=0.01)


@pytest.mark.slow
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

    result = train(folder)
    assert result.returncode == 0 and f"Resuming from {RUN}/checkpoint-{progress.step}\n" in result.stdout
    assert learned(folder) == undisturbed, "every digit"


@pytest.mark.slow
def test_under_the_supervisor_a_clean_stop_is_on_record_and_not_started_again(workplace):
    folder = copy_of(workplace, "supervised")
    config = json.loads((folder / "config.json").read_text())
    config["training"] |= {"max_steps": 400, "save_steps": 400}
    write_json(folder / "config.json", config | {"max_cost_usd": ASSUMED_SAVE})
    files = ("--config", "config.json", "--deepspeed", "deepspeed_config.json", "--log", "training.log")
    try:
        run_script("supervise.py", "start", *files, "--watch", "0", cwd=folder)
        state = wait_until_over(folder)
        assert (state["state"], state["restarts"], len(state["attempts"])) == ("stopped", 0, 1), state
        assert "at step 1, where its checkpoint is complete: one step more would pass max_cost_usd" in state["reason"]
        told = run_script("supervise.py", "state", cwd=folder)
        assert told.returncode == 1 and told.stdout.startswith("stopped: at step 1, ")
        assert "to go on: python scripts/supervise.py start --config config.json" in told.stdout
        screen = " ".join(text_of(status_of(folder)).split())
        assert "stopped, no restart" in screen and "would pass max_cost_usd = $120.00" in screen
        assert "--resume --config config.json" in screen and "with a larger max_cost_usd" in screen

        change(folder, max_cost_usd=1e6)
        start = run_script("supervise.py", "start", *files, "--watch", "600", "--resume", cwd=folder)
        assert start.returncode == 0, start.stdout + start.stderr
        stop = run_script("supervise.py", "stop", cwd=folder)
        assert stop.returncode == 0 and "after this step and its checkpoint" in stop.stdout, stop.stderr
        step = read_progress(folder / RUN).step
        assert f"stopped: at step {step}, as it was asked to, where its checkpoint is complete" in stop.stdout
        checkpoint, passed_over = newest_complete(folder / RUN)
        assert checkpoint == folder / RUN / f"checkpoint-{step}" and step > 1 and not passed_over
        assert not rank_processes(folder)
    finally:
        run_script("supervise.py", "stop", "--now", cwd=folder)


def wait_until_over(folder):
    path = folder / ".run/state.json"
    wait_for(lambda: json_object(path.read_bytes())["state"] != "running", (folder / "training.log").read_text)
    return json.loads(path.read_text())
