"""What a training tells about itself, and what the GPUs did, with a nvidia-smi made up for the test."""

import errno
import json
import math
import os
import time

import pytest

from socrates.callbacks import guide_log, log_line, tell_progress
from socrates.config import parse_config
from socrates.errors import SocratesError
from socrates.machine import gpus
from socrates.machine.gpus import GpuSampler, parse_gpus, query_gpus, summarize, visible_gpus
from socrates.machine.telemetry import PROGRESS, TRAINING_LOG, Progress, Telemetry, read_progress
from socrates.rehearsal import rehearsal_config
from socrates.resuming import choose_checkpoint


class NoGpus:
    def start(self): ...

    def stop(self): ...

    def take(self):
        return []


@pytest.fixture
def telemetry(tmp_path):
    return Telemetry(tmp_path, NoGpus())


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


def test_a_log_line_holds_what_the_trainer_said(telemetry, tmp_path):
    telemetry.begin(0, 50)
    logs = {"loss": 2.5, "learning_rate": 1e-5, "grad_norm": 0.5, "epoch": 0.1, "num_tokens": 1000.0, "entropy": 1.0}
    telemetry.log(logs, 10, 50)
    (line,) = lines_of(tmp_path)
    names = ["time", "step", "max_steps", "loss", "learning_rate", "grad_norm", "epoch", "tokens_per_second"]
    assert list(line) == [*names, "elapsed_s", "gpu"]
    assert [line[name] for name in ("step", "max_steps", "loss", "learning_rate", "gpu")] == [10, 50, 2.5, 1e-5, []]
    assert abs(line["time"] - time.time()) < 60


def test_speed_is_that_of_this_process_since_the_line_before(telemetry, tmp_path, monkeypatch):
    """After a resume the Trainer counts tokens from 0 again; the log goes on."""
    clock = [100.0]
    monkeypatch.setattr("socrates.machine.telemetry.time.monotonic", lambda: clock[0])
    (tmp_path / TRAINING_LOG).write_text('{"step": 10, "tokens_per_second": 7.0}\n')
    telemetry.begin(10, 50)
    for seconds, tokens in ((4, 1000), (10, 4000), (10, 4000)):
        clock[0] += seconds
        telemetry.log({"loss": 1.0, "num_tokens": tokens}, 11, 50)
    assert [line["tokens_per_second"] for line in lines_of(tmp_path)] == [7.0, 250.0, 300.0, 0.0]
    assert [line["elapsed_s"] for line in lines_of(tmp_path)[1:]] == [4, 14, 24]


def test_what_is_no_number_is_null(telemetry, tmp_path):
    telemetry.begin(0, 50)
    assert telemetry.log({"loss": math.nan, "grad_norm": math.inf}, 1, 50) is None
    (line,) = lines_of(tmp_path)
    assert line["loss"] is line["grad_norm"] is line["learning_rate"] is line["tokens_per_second"] is None


def test_a_line_that_a_kill_cut_off_does_not_spoil_the_next(telemetry, tmp_path):
    (tmp_path / TRAINING_LOG).write_text('{"step": 10}\n{"step": 2')
    telemetry.begin(10, 50)
    telemetry.log({"loss": 1.0}, 20, 50)
    telemetry.log({"loss": 1.0}, 30, 50)
    lines = (tmp_path / TRAINING_LOG).read_text().splitlines()
    assert lines[:2] == ['{"step": 10}', '{"step": 2'] and [json.loads(x)["step"] for x in lines[2:]] == [20, 30]


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
    global_step, max_steps, is_world_process_zero = 3, 9, True


def test_the_callback_speaks_for_rank_zero_only(tmp_path):
    telemetry = Telemetry(tmp_path, NoGpus())
    callback, state = tell_progress(telemetry), State()
    state.is_world_process_zero = False
    for event in (callback.on_train_begin, callback.on_step_end, callback.on_train_end):
        event(None, state, None)
    callback.on_log(None, state, None, logs={"loss": 1.0})
    assert not list(tmp_path.iterdir())
    state.is_world_process_zero = True
    callback.on_train_begin(None, state, None)
    callback.on_step_end(None, state, None)
    callback.on_log(None, state, None, logs={"train_runtime": 1.0})  # the Trainer's summary is no line of the log
    assert read_progress(tmp_path) and not (tmp_path / TRAINING_LOG).exists()


def test_the_printed_line_gets_the_speed_and_still_ends_with_the_step(tmp_path, capsys):
    callback = tell_progress(Telemetry(tmp_path, NoGpus()))
    callback.on_train_begin(None, State(), None)
    logs = {"loss": 2.45678, "learning_rate": 1e-5, "num_tokens": 5000}
    callback.on_log(None, State(), None, logs=logs)
    guide_log().on_log(None, State(), None, logs=logs)
    line = capsys.readouterr().out.strip()
    assert line.startswith("{'loss': 2.457, 'learning_rate': 1e-05, 'tokens_per_second': ")
    assert line.endswith(", 'step': 3}")
    assert "tokens_per_second" not in log_line({"loss": 1.0}, 3)


# GPUs.

TWO = "0, 80, 61000, 81920\n1, 90, 62000, 81920\n"


def fake_smi(folder, body):
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    "text, expected",
    [
        (TWO, [(0, 80.0, 61000.0), (1, 90.0, 62000.0)]),
        ("0, [N/A], 61000, 81920\n", [(0, None, 61000.0)]),
        ("NVIDIA-SMI has failed because it couldn't communicate with the driver\n", []),
        ("No devices were found\n\n, , ,\n0, 1\n", []),
    ],
)
def test_what_nvidia_smi_prints(text, expected):
    assert [(s.index, s.utilization, s.memory_mib) for s in parse_gpus(text)] == expected


def test_samples_become_the_mean_use_and_the_most_memory():
    records = summarize(parse_gpus(TWO + "0, 71, 60000, 81920\n1, [N/A], [N/A], 81920\n"))
    assert records == [
        {"index": 0, "utilization": 75.5, "memory_mib": 61000.0, "memory_total_mib": 81920.0},
        {"index": 1, "utilization": 90.0, "memory_mib": 62000.0, "memory_total_mib": 81920.0},
    ]
    assert summarize(parse_gpus("0, [N/A], [N/A], [N/A]\n"))[0]["utilization"] is None


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, None),
        ({"CUDA_VISIBLE_DEVICES": "0, 2"}, {0, 2}),
        ({"CUDA_VISIBLE_DEVICES": ""}, set()),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8f1c"}, None),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "DS_ACCELERATOR": "cpu"}, set()),
    ],
)
def test_only_the_gpus_that_this_training_uses(environment, expected):
    assert visible_gpus(environment) == expected


def test_the_sampler_asks_as_it_should_and_keeps_what_it_was_told(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    fake_smi(tmp_path, f'printf "%s\\n" "$@" >>{tmp_path}/asked; printf "{TWO.strip()}\\n"')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    sampler = GpuSampler(interval=0.01)
    sampler.start()
    deadline = time.monotonic() + 20
    while not (records := sampler.take()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert records == [{"index": 1, "utilization": 90.0, "memory_mib": 62000.0, "memory_total_mib": 81920.0}]
    sampler.stop()
    time.sleep(0.2)
    sampler.take()
    assert sampler.take() == records, "with no newer sample, the last one"
    asked = (tmp_path / "asked").read_text().splitlines()[:2]
    assert asked == [
        "--query-gpu=index,utilization.gpu,memory.used,memory.total",
        "--format=csv,noheader,nounits",
    ]


@pytest.mark.parametrize("body", ["exit 9", "echo 0, 1, 2, 3; exit 1", "sleep 60", "printf '\\377'", None])
def test_a_nvidia_smi_that_fails_hangs_or_is_missing_gives_nothing(tmp_path, monkeypatch, body):
    monkeypatch.setattr(gpus, "_PATIENCE", 0.2)
    program = tmp_path / "absent" if body is None else fake_smi(tmp_path, f"exec {body}" if "sleep" in body else body)
    assert query_gpus(str(program), None) == []


def test_without_the_program_there_is_no_thread(monkeypatch):
    monkeypatch.setattr("socrates.machine.gpus.shutil.which", lambda name: None)
    monkeypatch.setattr("threading.Thread.start", lambda self: pytest.fail("a thread"))
    sampler = GpuSampler()
    sampler.start()
    assert sampler.take() == []


# The price, which the status shows, is no part of what is learned.


def priced(price):
    return rehearsal_config("m", "d", steps=1, save_steps=1) | {"price_per_hour": price}


@pytest.mark.parametrize("price", [None, 0, 7.2])
def test_a_price_or_none(price):
    assert parse_config(priced(price), "c").price_per_hour == price


@pytest.mark.parametrize("price", [-1, "7.2", True, math.inf])
def test_what_is_no_price(price):
    with pytest.raises(SocratesError, match="price_per_hour"):
        parse_config(priced(price), "c")


def test_the_price_may_change_on_the_way(tmp_path):
    from socrates.checkpoints import GUIDE_FILES, write_manifest
    from socrates.files import write_json

    value = priced(7.2) | {"output_dir": str(tmp_path)}
    checkpoint = tmp_path / "checkpoint-1"
    checkpoint.mkdir()
    for name in GUIDE_FILES:
        (checkpoint / name).write_text("x")
    earlier = {key: item for key, item in value.items() if key != "price_per_hour"}  # made before there was a price
    write_json(checkpoint / "training_config.json", {"config": earlier, "data": {"train_sha256": "d"}})
    write_manifest(checkpoint, 2)
    record = {"config": value, "data": {"train_sha256": "d"}}
    assert choose_checkpoint(parse_config(value, "c"), record, "auto") == checkpoint


def test_progress_has_the_keys_that_others_read():
    assert list(Progress.__dataclass_fields__) == ["step", "max_steps", "time", "started", "started_step"]
