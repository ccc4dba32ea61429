"""Which checkpoint a run goes on from, and that its output folder is its own.

Covers: the newest checkpoint that verifies is taken, and whatever is passed over is named and kept; a run with other
settings, prompt or data never goes on from it; no two trainings write into one folder.
Does not cover: another number of processes (the settings differ, so it is refused).
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from socrates.checkpoints import (
    PassedOver,
    checkpoint_step,
    list_checkpoints,
    newest_complete,
    read_training_config,
    set_aside,
    why_not_resumable,
)
from socrates.config import RunConfig, describe_difference
from socrates.errors import SocratesError
from socrates.files import read_json, sha256_json
from socrates.locks import try_lock

# Config keys that may differ between a checkpoint and the run that resumes it: they do not change what is learned.
_FREE_ON_RESUME = (
    "evaluation.",
    "decoding.",
    "output_dir",
    "dataset_path",
    "price_per_hour",
    "max_cost_usd",
    "training.logging_steps",
    "training.save_steps",
    "training.eval_steps",
    "training.eval_examples",
    "training.report_to",
    "training.checkpointed_layers",  # recomputed to the same bits; how many must fit the GPU at hand
)


_OTHER_ROWS = (
    "\n(tokenized: the tokenizer or this program is of another version, so that the token ids, or which rows fit into "
    "max_length, may be others; the version that made the checkpoint can go on from it)"
)


def choose_checkpoint(config: RunConfig, record: dict[str, Any], resume: str | None) -> Path | None:
    """The checkpoint to go on from, or None to start anew; folders that would be written over are set aside.

    Every newer folder that is no complete checkpoint is named, with the reason, and moved to `set-aside/`, and so is
    every complete one that is newer than a checkpoint asked for by path: nothing is deleted or written over.

    Raises:
        SocratesError: the checkpoint asked for is damaged, light or does not exist, or was made with another config,
            prompt or data: the difference is told.
    """
    folder = Path(config.output_dir)
    if resume in (None, "auto"):
        checkpoint, passed_over = newest_complete(folder)
    else:
        checkpoint = Path(resume)
        reason = why_not_resumable(checkpoint) if checkpoint.is_dir() else "no such folder"
        if reason:
            raise SocratesError(f"{checkpoint}: cannot resume from it: {reason}")
        step = checkpoint_step(checkpoint) or 0
        same_folder = checkpoint.resolve().parent == folder.resolve()
        newer = [p for p in list_checkpoints(folder) if not same_folder or (checkpoint_step(p) or 0) > step]
        passed_over = [PassedOver(p, f"resuming from {checkpoint} was asked for") for p in newer]
    if checkpoint is not None:
        _check_same_run(checkpoint, record, asked=resume is not None)
    for item in passed_over:
        print(f"Passed over {item.path}: {item.reason}", flush=True)
        print(f"  moved to {set_aside(item.path)}", flush=True)
    return checkpoint


def is_finished(checkpoint: Path) -> bool:
    """Whether a checkpoint is the last one of its run."""
    state = read_json(checkpoint / "trainer_state.json", "trainer's state")
    return state["global_step"] >= state["max_steps"]


def _check_same_run(checkpoint: Path, record: dict[str, Any], asked: bool) -> None:
    before = read_training_config(checkpoint)
    differences = [
        line
        for line in describe_difference(_learned_from(before), _learned_from(record))
        if not line.startswith(_FREE_ON_RESUME)
    ]
    if differences:
        start = "cannot resume from it" if asked else "the output folder holds this checkpoint of another run"
        raise SocratesError(
            f"{checkpoint}: {start}: it was made with another configuration:\n  "
            + "\n  ".join(differences)
            + (_OTHER_ROWS if any(line.startswith("tokenized:") for line in differences) else "")
            + '\nset "output_dir" to a new folder, or move the old one away'
        )


def _learned_from(record: dict[str, Any]) -> dict[str, Any]:
    return {
        **record.get("config", {}),
        "prompt_fingerprint": record.get("prompt_fingerprint"),
        "train_sha256": record.get("data", {}).get("train_sha256"),
        "tokenized": record.get("data", {}).get("tokenized"),  # the same text may have become other ids
        "zero_stage": record.get("deepspeed", {}).get("zero_optimization", {}).get("stage"),
    }


def run_identity(record: dict[str, Any]) -> str:
    """A name for all runs that learn the same: of two that may go on from each other's checkpoints it is one."""
    learned = {key: value for key, value in _flat(_learned_from(record)) if not key.startswith(_FREE_ON_RESUME)}
    return sha256_json(learned)[:16]


def _flat(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


_locks: list[IO[str]] = []  # open for as long as the process lives, which is what holds the lock


def lock_output(folder: Path) -> None:
    """SocratesError if another training writes into the output folder; the kernel frees the lock however we end."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".training.lock").open("a+")
        taken = not try_lock(lock)
    except OSError as error:
        raise SocratesError(f"{folder}: cannot write there: {error.strerror or error}") from error
    if taken:
        lock.seek(0)
        raise SocratesError(
            f"{folder}: another training is running into this folder ({lock.read().strip() or 'process unknown'}); "
            "wait for it or stop it"
        )
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {platform.node()}\n")
    lock.flush()
    _locks.append(lock)
