"""What a training tells about itself, and what the GPUs did, with a nvidia-smi made up for the test."""

import errno
import json
import math
import os
import time

import pytest
from processes import PATIENCE, wait_for

from socrates.errors import SocratesError
from socrates.rehearsal.rehearsal import rehearsal_config
from socrates.telemetry import gpus
from socrates.telemetry.cost import Account
from socrates.telemetry.gpus import GpuSample, gpu_numbers, query_gpus, start_sampling, summarize
from socrates.telemetry.log import PROGRESS, TRAINING_LOG, read_progress
from socrates.telemetry.recorder import Telemetry
from socrates.training.callbacks import TellProgress as tell_progress
from socrates.training.resume import run_identity


@pytest.fixture
def telemetry(tmp_path):
    return Telemetry(tmp_path)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set on; this process began with it."""
    now = [1000.0]
    monkeypatch.setattr("socrates.telemetry.recorder.time.monotonic", lambda: now[0])
    monkeypatch.setattr("socrates.telemetry.recorder._process_age", lambda: 60.0)
    return now


def lines_of(folder):
    return [json.loads(line) for line in (folder / TRAINING_LOG).read_text().splitlines()]


def test_progress_is_told_at_the_beginning_and_after_every_step(telemetry, tmp_path):
    before = time.time()
    telemetry.begin(6, 50)
    assert read_progress(tmp_path).step == 6
    telemetry.step(7, 50)
    progress = read_progress(tmp_path)
    assert (progress.step, progress.max_steps, progress.started_step) == (7, 50, 6)
    assert before <= progress.started <= progress.time <= time.time()
    assert [p.name for p in tmp_path.iterdir()] == [PROGRESS], "no temporary file is left"


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"step": 1}', b'{"step": null}', b"\xff"])
def test_progress_that_cannot_be_read_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / PROGRESS).write_bytes(content)
    assert read_progress(tmp_path) is None


def test_a_damaged_account_takes_the_progress_not_away_but_a_negative_step_or_time_does(tmp_path):
    known = {"step": 5, "max_steps": 9, "time": 2e9, "started": 1e9, "started_step": 0}
    for account in ({"usd": -3000}, {"seconds": "x"}, 5):
        (tmp_path / PROGRESS).write_text(json.dumps(known | {"account": account}))
        assert (read_progress(tmp_path).step, read_progress(tmp_path).account) == (5, None)
    for harm in ({"step": -3}, {"time": -5}):
        (tmp_path / PROGRESS).write_text(json.dumps(known | harm))
        assert read_progress(tmp_path) is None


def test_a_log_line_holds_what_the_trainer_said(telemetry, tmp_path):
    telemetry.begin(0, 50)
    logs = {"loss": 2.5, "learning_rate": 1e-5, "grad_norm": 0.5, "epoch": 0.1, "num_tokens": 1000.0, "entropy": 1.0}
    telemetry.log(logs, 10, 50)
    (line,) = lines_of(tmp_path)
    trainers = ["loss", "learning_rate", "grad_norm", "epoch", "mean_token_accuracy"]
    more = ["eval_loss", "eval_step", "tokens_per_second", "mfu", "peak_memory_bytes", "elapsed_s"]
    money = ["seconds_left", "cost_usd", "expected_cost_usd"]
    assert list(line) == ["time", "step", "max_steps", *trainers, *more, *money, "gpu", "warnings"]
    assert [line[name] for name in ("step", "max_steps", "loss", "learning_rate", "gpu")] == [10, 50, 2.5, 1e-5, []]
    assert abs(line["time"] - time.time()) < PATIENCE


def test_after_a_kill_and_a_resume_the_log_goes_on(clock, telemetry, tmp_path):
    """The Trainer counts tokens from 0 again; a line that was cut off does not spoil the next."""
    (tmp_path / TRAINING_LOG).write_text('{"step": 10}\n{"step": 2')
    telemetry.begin(10, 50)
    for seconds, tokens in ((4, 1000), (10, 4000), (10, 4000)):
        clock[0] += seconds
        telemetry.log({"loss": 1.0, "num_tokens": tokens}, 11, 50)
    old, cut_off, *new = (tmp_path / TRAINING_LOG).read_text().splitlines()
    assert (old, cut_off) == ('{"step": 10}', '{"step": 2')
    assert [json.loads(line)["tokens_per_second"] for line in new] == [250.0, 300.0, 0.0]
    assert [json.loads(line)["elapsed_s"] for line in new] == [4, 14, 24]


def test_a_full_disk_does_not_end_the_training_and_is_told_once(telemetry, tmp_path, capsys):
    (tmp_path / TRAINING_LOG).symlink_to("/dev/full")
    telemetry.begin(0, 50)
    for step in (1, 2):
        telemetry.step(step, 50)
        telemetry.log({"loss": 1.0}, step, 50)
    said = capsys.readouterr().out
    assert said.count("Cannot write the progress") == 1 and os.strerror(errno.ENOSPC) in said
    assert read_progress(tmp_path).step == 2, "what can be written is"


class State:
    global_step, max_steps = 3, 9


def test_the_trainers_summary_is_no_line_of_the_log(telemetry, tmp_path):
    callback, state = tell_progress(telemetry), State()
    callback.on_train_begin(None, state, None)
    callback.on_step_end(None, state, None)
    callback.on_log(None, state, None, logs={"train_runtime": 1.0})
    assert read_progress(tmp_path) and not (tmp_path / TRAINING_LOG).exists()


# GPUs.

TWO = "0, 80, 61000, 81920, NVIDIA A100\\n1, 90, 62000, 81920, NVIDIA A100\\n"


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Puts an nvidia-smi with this body in front of all programs."""

    def write(body):
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return write


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f'printf "{TWO}"', [(0, 80.0, 61000.0), (1, 90.0, 62000.0)]),
        ("echo '0, [N/A], 61000, 81920, H100 MIG'", [(0, None, 61000.0)]),
        ("echo NVIDIA-SMI has failed because; echo ', , ,'; echo 0, 1", []),
        ("echo 0, 1, 2, 3, x; exit 1", []),
        ("exec sleep 60", []),
        ("printf '\\377'", []),
    ],
)
def test_what_nvidia_smi_prints_and_where_it_fails_or_hangs_nothing(smi, monkeypatch, body, expected):
    if "sleep" in body:
        monkeypatch.setattr(gpus, "_PATIENCE", 0.2)
    smi(body)
    assert [(s.index, s.utilization, s.memory_mib) for s in query_gpus()] == expected


def test_samples_become_the_mean_use_and_the_most_memory():
    samples = [GpuSample(*value, 81920) for value in [(0, 80, 61000), (1, None, None), (0, 71, 60000)]]
    assert summarize(samples) == [
        {"index": 0, "utilization": 75.5, "memory_mib": 61000},
        {"index": 1, "utilization": None, "memory_mib": None},
    ]


def test_the_gpus_that_cuda_visible_devices_leaves():
    assert gpu_numbers({"CUDA_VISIBLE_DEVICES": "3,5,7"}, 2) == [3, 5]
    assert gpu_numbers({}, 2) is None
    assert gpu_numbers({"CUDA_VISIBLE_DEVICES": "3,5,-1,7"}, 2) == [3, 5]
    for named, says in (
        ("-1", "names 0 GPUs, 2 processes"),
        ("3", "names 1 GPUs, 2 processes"),
        ("GPU-1a", r"does not name GPUs by number; write their numbers \(nvidia-smi -L"),
    ):
        with pytest.raises(SocratesError, match=f"CUDA_VISIBLE_DEVICES={named} {says}"):
            gpu_numbers({"CUDA_VISIBLE_DEVICES": named}, 2)


@pytest.mark.parametrize("named", ["1", " 1 ,-1,0"])
def test_the_sampler_takes_the_gpus_of_this_training(smi, monkeypatch, named):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    smi(f'printf "{TWO}"')
    monkeypatch.setattr(gpus, "INTERVAL", 0.01)
    samples = []
    start_sampling(samples.extend)
    assert {(gpu.index, gpu.utilization) for gpu in wait_for(samples.copy)} == {(1, 90.0)}


@pytest.mark.parametrize("environment", [{"CUDA_VISIBLE_DEVICES": ""}, {"DS_ACCELERATOR": "cpu"}, None])
def test_without_the_program_or_a_gpu_of_this_training_there_is_no_thread(smi, monkeypatch, environment):
    smi("exit 0")
    if environment is None:
        monkeypatch.setattr("socrates.telemetry.gpus.shutil.which", lambda name: None)
    for name, value in (environment or {}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("threading.Thread.start", lambda self: pytest.fail("a thread"))
    start_sampling(pytest.fail)


# Money, utilisation, and what the line says of them.


def identity(**changed):
    config = rehearsal_config("m", "d", steps=1, save_steps=1)
    return run_identity({"config": config | changed, "data": {"train_sha256": "d"}})


def test_the_cost_is_that_of_one_run_whatever_the_price():
    assert identity(price_per_hour=1.0, max_cost_usd=50.0) == identity() != identity(seed=5)


def test_what_it_costs_and_will_cost_counts_all_attempts(tmp_path, clock, capsys):
    before = Account(run="a", attempts=1, seconds=3540.0, usd=7.08)
    telemetry = Telemetry(tmp_path, before=before, price_per_hour=7.2, peak_flops=4e12)
    telemetry.begin(100, 1000)
    for step in (110, 120):
        clock[0] += 160
        telemetry.step(step, 1000)
        logs = {"loss": 1.0, "num_tokens": 5e5 * (step - 100), "model_flops": 3.2e13 * (step - 100)}
        logged = telemetry.log(logs | {"peak_memory_bytes": 3 * 2**30}, step, 1000)
    line = lines_of(tmp_path)[-1]
    assert line["mfu"] == pytest.approx(3.2e14 / (160 * 4e12)) == 0.5
    assert line["tokens_per_second"] == pytest.approx(5e6 / 160)
    assert line["seconds_left"] == 880 * 16
    spent = 7.08 + 7.2 * (60 + 320) / 3600
    assert line["cost_usd"] == pytest.approx(spent, abs=1e-4)
    assert line["expected_cost_usd"] == pytest.approx(spent + 7.2 * 880 * 16 / 3600, abs=0.01)
    hours = (3540 + 380) / 3600
    assert logged["summary"] == (
        f"step 120 of 1,000: {60 * hours:.0f} min, ${spent:.2f} so far, about ${spent + 28.16:.2f} at the end "
        "(3 h 55 min left)"
    )
    assert (logged["mfu"], logged["peak_memory_gib"]) == (0.5, 3.0)
    account = read_progress(tmp_path).account
    assert (account.run, account.attempts, account.seconds) == ("a", 2, 3920.0)


def test_what_is_not_known_or_no_number_is_null(tmp_path, clock):
    telemetry = Telemetry(tmp_path, before=Account(seconds=5.0, usd=1.0))
    telemetry.begin(0, 10)
    clock[0] += 10
    assert telemetry.log({"loss": math.nan, "grad_norm": math.inf, "model_flops": 1e12}, 1, 10) == {}
    (line,) = lines_of(tmp_path)
    unknown = ("loss", "grad_norm", "learning_rate", "mfu", "tokens_per_second", "cost_usd")
    assert [line[name] for name in (*unknown, "expected_cost_usd")] == [None] * 7
    assert line["seconds_left"] == 90


def test_a_save_is_no_slow_step_and_the_slowest_of_both_is_known(tmp_path, clock):
    telemetry = Telemetry(tmp_path, price_per_hour=1.0)
    telemetry.begin(0, 10)
    for step, seconds in ((1, 9.0), (2, 5.0), (3, 5.0)):
        clock[0] += seconds
        telemetry.step(step, 10)
        clock[0] += 30.0 + step
        telemetry.saved()
    account = telemetry.account()
    assert (account.step_seconds, account.save_seconds) == (9.0, 33.0)


def test_the_loss_on_held_out_rows_stands_in_the_next_lines_with_its_step(telemetry, tmp_path):
    callback, state = tell_progress(telemetry), State()
    callback.on_train_begin(None, state, None)
    for state.global_step, more in ((3, {"eval_loss": 0.51234}), (4, {})):
        callback.on_log(None, state, None, logs={"loss": 1.0, **more})
    assert [[line[name] for name in ("step", "eval_loss", "eval_step")] for line in lines_of(tmp_path)] == [
        [3, 0.51234, 3],
        [4, 0.51234, 3],
    ]


# A run that looks bad.


def test_a_loss_that_is_no_number_is_told_once_in_the_log_and_in_the_files(telemetry, tmp_path, capsys):
    callback, state = tell_progress(telemetry), State()
    callback.on_train_begin(None, state, None)
    for step, loss in ((3, math.nan), (4, math.nan), (5, 1.0)):
        state.global_step = step
        callback.on_log(None, state, None, logs={"loss": loss})
        callback.on_step_end(None, state, None)
    said = capsys.readouterr().out
    assert said.count("WARNING: the loss is not a number, since step 3") == 1
    assert said.count("Over: the loss is not a number, since step 3\n") == 1
    assert [len(line["warnings"]) for line in lines_of(tmp_path)] == [1, 1, 0]
    assert read_progress(tmp_path).warnings == ()


def test_an_idle_gpu_is_told_also_by_a_training_that_hangs(tmp_path, clock, capsys, monkeypatch):
    listeners = []
    monkeypatch.setattr("socrates.telemetry.recorder.start_sampling", listeners.append)
    telemetry = Telemetry(tmp_path)
    telemetry.begin(0, 10)
    telemetry.step(1, 10)
    for _ in range(100):
        clock[0] += 5
        listeners[0]([GpuSample(0, 100.0, 1, 2), GpuSample(1, 0.0, 1, 2)])
    assert capsys.readouterr().out.count("WARNING: GPU 1 has been idle") == 1
    progress = read_progress(tmp_path)
    assert progress.step == 1 and progress.warnings[0].startswith("GPU 1 has been idle")
    for step in (1, 2):
        telemetry.log({"loss": 1.0}, step, 10)
    assert [[gpu["utilization"] for gpu in line["gpu"]] for line in lines_of(tmp_path)] == [[100.0, 0.0], []]
    telemetry.end()


def test_the_lines_for_people(tmp_path, clock, capsys):
    telemetry = Telemetry(tmp_path, price_per_hour=3600.0)
    callback, state = tell_progress(telemetry), State()
    callback.on_train_begin(None, state, None)
    clock[0] += 10
    logs = {"loss": 1.23456, "learning_rate": 1e-5, "num_tokens": 5000, "eval_loss": 0.5}
    state.global_step = 5
    callback.on_log(None, state, None, logs=logs)
    assert "summary" not in logs, "trackers want numbers"
    assert capsys.readouterr().out.splitlines() == [
        "{'loss': 1.235, 'learning_rate': 1e-05, 'eval_loss': 0.5, 'tokens_per_second': 500.0, 'step': 5}",
        "step 5 of 9: 70 s, $70.00 so far, about $90.00 at the end (20 s left)",
    ]
