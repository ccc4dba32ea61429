"""Starting the project's entry points as a person would, for tests."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from loaded import Loaded
from tqdm import tqdm

from socrates.machine.process_tree import free_port

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
PATIENCE = 500.0  # seconds until a test gives something up; a busy machine takes many times as long as a quiet one


def wait_for(condition, told=lambda: "it did not come about"):
    """Wait until a condition holds, and return what it gave; ``told`` says what was there instead."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, told()
        time.sleep(0.01)
    return found


def environment(**extra: str) -> dict[str, str]:
    """A small environment without a GPU, a hub or more threads than cores."""
    of_processor = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")  # torch as on another one
    names = ("HOME", "TERM", "TMPDIR", "LANG", *of_processor)
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {
        **kept,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONDONTWRITEBYTECODE": "1",
        **extra,
    }


def run_script(name: str, *arguments: object, cwd: Path, **extra: str):
    """Run scripts/NAME to its end; returns the CompletedProcess with text output."""
    program = [sys.executable, ROOT / "scripts" / name] if name.endswith(".py") else [ROOT / "scripts" / name]
    return run_in(cwd, [*map(str, program), *map(str, arguments)], env=environment(**extra))


def run_in(folder: Path, command: list[str], **options):
    """Run a command in a folder to its end, in the small environment and without input where nothing else is said."""
    options = {"input": "", "env": environment(), "timeout": PATIENCE, **options}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, **options)


def run_loaded(script: str | Path, *arguments: object, cwd: Path = ROOT):
    """As `run_script` does it with a Python script, with the model libraries loaded before: for most tests."""
    return start_loaded(script, *arguments, cwd=cwd)()


def start_loaded(script: str | Path, *arguments: object, cwd: Path, **extra: str):
    """Start a script with the model libraries loaded; returns a function that waits for its CompletedProcess."""
    outputs = [_output(), _output()]
    command = [str(ROOT / "scripts" / script), *map(str, arguments)]
    process = Loaded(command, cwd=cwd, env=environment(**extra), stdout=outputs[0], stderr=outputs[1])
    return lambda: subprocess.CompletedProcess(command, process.wait(PATIENCE), *map(_read, outputs))


def _output():
    return tempfile.TemporaryFile("w+", encoding="utf-8")


def _read(file) -> str:
    with file:
        file.seek(0)
        return file.read()


def assert_refused(result, *parts: str) -> None:
    """Exit status 2, each part in the message, no traceback, nothing decided."""
    assert result.returncode == 2, (result.returncode, result.stdout, result.stderr)
    for part in parts:
        assert part in result.stderr, result.stderr
    assert "Traceback" not in result.stderr


TRAINING = ROOT / "scripts" / "train_full_dataset.py"


def training_command() -> list[str]:
    """The guide's command line, with the rehearsal's two processes."""
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus=2", f"--master_port={free_port()}"]
    return [*launcher, str(TRAINING), "--config", "config.json", "--deepspeed", "deepspeed_config.json"]


def launch(folder: Path):
    """Run a training to its end through DeepSpeed's launcher."""
    return run_in(folder, training_command())


def start_ranks(
    folder: Path,
    *more: str,
    stdout,
    stderr,
    config: str = "config.json",
    ranks: int = 2,
    port: int | None = None,
    script: Path = TRAINING,
) -> list[Loaded]:
    """Start a training's processes as DeepSpeed's launcher would, which takes three times as long."""
    files = ("--config", config, "--deepspeed", "deepspeed_config.json")
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port or free_port())}
    sizes = dict.fromkeys(("WORLD_SIZE", "LOCAL_SIZE"), str(ranks))
    return [
        Loaded(
            [str(script), f"--local_rank={rank}", *files, *more],
            cwd=folder,
            env=environment(RANK=str(rank), LOCAL_RANK=str(rank), **sizes, **address),
            stdout=stdout,
            stderr=stderr,
        )
        for rank in range(ranks)
    ]


def train(folder: Path, *more: str, **options):
    """Run a training's processes to their end; returns the CompletedProcess. Options as `start_ranks` has them."""
    outputs = [_output(), _output()]
    ranks = start_ranks(folder, *more, stdout=outputs[0], stderr=outputs[1], **options)
    try:
        wait_for(lambda: all(rank.poll() == 0 for rank in ranks) or any(rank.poll() for rank in ranks))
        status = next(filter(None, (rank.poll() for rank in ranks)), 0)
    finally:
        for rank in ranks:  # one that fails ends the others, as under the launcher
            rank.kill()
            rank.wait()
    return subprocess.CompletedProcess(ranks[0].args, status, *map(_read, outputs))


def training_folder(
    folder: Path, *, steps: int, save_steps: int, training: dict | None = None, people: int = 10, **config
) -> Path:
    """Make a folder as the guide's project folder: data, tiny base model, configs; it trains into models/run.

    An epoch has 36 rows for each of the people: 23 steps of 16 unless they are fewer.
    """
    from made_answers import make_sample_data

    from socrates.files import write_json
    from socrates.rehearsal.base_model import make_base_model
    from socrates.rehearsal.rehearsal import rehearsal_config, rehearsal_deepspeed

    make_sample_data(folder / "data" / "set", people=people, train_studies=6, val_studies=2)
    make_base_model(folder / "models" / "base", folder / "data" / "set" / "train.jsonl", steps=2)
    value = rehearsal_config("models/base", "data/set", steps=steps, save_steps=save_steps)
    value |= {"output_dir": "models/run", **config}
    value["training"] |= {"global_batch_size": 16, **(training or {})}
    write_json(folder / "config.json", value)
    write_json(folder / "deepspeed_config.json", rehearsal_deepspeed())
    return folder


def train_and_kill(folder: Path, when: str, **options) -> str:
    """Start a training, kill -9 all of its ranks once ``when`` stands in its log; returns the log."""
    log = folder / "killed.log"
    with log.open("w") as file:
        ranks = start_ranks(folder, stdout=file, stderr=file, **options)
    wait_for(lambda: when in log.read_text() or any(rank.poll() is not None for rank in ranks), log.read_text)
    assert all(rank.poll() is None for rank in ranks), log.read_text()
    for rank in ranks:
        rank.kill()
    for rank in ranks:
        rank.wait()
    return log.read_text()


def rank_processes(folder: Path) -> list[int]:
    """Process ids of the ranks that train in a folder."""
    found = [p.info for p in psutil.process_iter(["pid", "cwd", "cmdline"]) if p.info["cwd"] == str(folder)]
    return [info["pid"] for info in found if any(part.startswith("--local_rank") for part in info["cmdline"] or ())]


def logged(folder: Path, checkpoint: str) -> list[dict]:
    """The full-precision log that the Trainer keeps in a checkpoint."""
    return json.loads((folder / checkpoint / "trainer_state.json").read_text())["log_history"]


def cosine_rate(step: int, steps: int, warmup_ratio: float, peak: float) -> float:
    """The learning rate of a step, counted from 1."""
    done, warmup = step - 1, math.ceil(warmup_ratio * steps)
    if done < warmup:
        return peak * done / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (steps - warmup)))


def in_a_fork(work, at_sync: int | None = None) -> bool:
    """Do some work in a process of its own, killed at its n-th fsync; whether it finished."""
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            tqdm.set_lock(threading.RLock())  # ours may have been held by a thread that is not in this process
            syncs, real = itertools.count(1), os.fsync
            os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL) if next(syncs) == at_sync else real(file)
            work()
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
            os._exit(3)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status == 0
