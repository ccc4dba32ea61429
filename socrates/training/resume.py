"""Resume: which checkpoint a run goes on from, and whether its output folder is its own.

The newest checkpoint that verifies is taken, and whatever is passed over is named and kept; a run with other settings,
prompt or data never goes on from it; a lossy way is only taken when it was asked for, and its losses are reported; no
two trainings write into one folder. How the state gets into the training: `convert_state.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO, Any

from socrates.checkpoint import (
    WEIGHTS_ONLY,
    checkpoint_step,
    list_checkpoints,
    newest_complete,
    read_manifest,
    read_training_config,
    set_aside,
    why_not_from_weights,
    why_not_resumable,
)
from socrates.config import RunConfig, describe_difference
from socrates.errors import SocratesError
from socrates.files import cannot_write, sha256_json, take_lock

# Config keys that may differ between a checkpoint and the run that resumes it: they do not change what is learned.
_FREE_ON_RESUME = (
    "evaluation.",
    "decoding.",
    "output_dir",
    "dataset_path",
    "price_per_hour",
    "max_cost_usd",
    "prompt.date",  # what it changes, the prompt's fingerprint tells
    "training.logging_steps",
    "training.save_steps",
    "training.eval_steps",
    "training.eval_examples",
    "training.report_to",
)
# Those that say how a step's examples are spread over the hardware, and not which examples they are.
_OF_THE_HARDWARE = (
    "training.num_processes",
    "training.micro_batch_tokens",
    "training.checkpointed_layers",
    "training.attn_implementation",
    "training.liger_kernels",
)

_OTHER_ROWS = (
    "\n(tokenized: the tokenizer or this program is of another version, so that the token ids, or which rows fit into "
    "max_length, may be others; the version that made the checkpoint can go on from it)"
)


class Way(Enum):
    """How a training goes on from a checkpoint."""

    EXACT = "exact"  # every digit, as if it had not been interrupted
    OTHER_RANKS = "other ranks"  # all of the optimizer's state, spread over another number of processes
    WEIGHTS = "weights"  # the weights, with a fresh optimizer at the checkpoint's step


@dataclass(frozen=True)
class Resumption:
    """What a training goes on from: `checkpoint-N` or a copy of it, its N, and how."""

    checkpoint: Path
    step: int
    way: Way
    notes: tuple[str, ...] = ()  # for the log: what is other than in the run that saved it, and what is lost


def choose_checkpoint(
    config: RunConfig, record: dict[str, Any], resume: str, weights_only: bool = False
) -> Resumption | None:
    """What to go on from, or None to start from the base model.

    Every newer folder that is no complete checkpoint is named, with the reason, and moved to `set-aside/`, and so is
    every complete one that is newer than a checkpoint asked for by path: nothing is deleted or written over.

    Args:
        config: the run.
        record: what `training_config.json` would say of it.
        resume: "auto", or a checkpoint's path.
        weights_only: a checkpoint will do of which the weights alone are complete: the newest one, where several are.

    Raises:
        SocratesError: the checkpoint asked for is damaged, light or does not exist, or was made with another config,
            prompt or data: the difference is reported. Or all that could be gone on from is weights, and
            ``weights_only`` was not asked for: what would be lost is reported.
    """
    folder = Path(config.output_dir)
    if resume == "auto":
        checkpoint, passed_over = newest_complete(folder, weights_only=weights_only)
    else:
        checkpoint = Path(resume)
        if not checkpoint.is_dir():
            raise SocratesError(f"{checkpoint}: cannot resume from it: no such folder")
        same_folder = checkpoint.resolve().parent == folder.resolve()
        step = (checkpoint_step(checkpoint) or 0) if same_folder else -1
        newer = [path for path in list_checkpoints(folder) if (checkpoint_step(path) or 0) > step]
        passed_over = dict.fromkeys(newer, f"resuming from {checkpoint} was asked for")
    if checkpoint is None:
        for path, reason in passed_over.items():
            if hint := _weights_hint(path):
                raise SocratesError(
                    f"{path}: cannot resume from it: {reason}{hint}\n"
                    "  no other checkpoint is complete; to start from the base model, move the folder away"
                )
    resumption = _resumption(checkpoint, config, record, weights_only) if checkpoint else None
    for path, reason in passed_over.items():
        print(f"Passed over {path}: {reason}{_weights_hint(path)}", flush=True)
        print(f"  moved to {set_aside(path)}", flush=True)
    return resumption


def _resumption(checkpoint: Path, config: RunConfig, record: dict[str, Any], weights_only: bool) -> Resumption:
    damage = why_not_resumable(checkpoint)
    if damage and not (weights_only and why_not_from_weights(checkpoint) is None):
        raise SocratesError(f"{checkpoint}: cannot resume from it: {damage}{_weights_hint(checkpoint)}")
    notes = _check_same_run(checkpoint, record)
    manifest = read_manifest(checkpoint)
    now, before = config.training.num_processes, manifest.num_processes
    way = Way.EXACT if before == now else Way.OTHER_RANKS
    if damage:
        way = Way.WEIGHTS
        notes.append(f"{WEIGHTS_ONLY}: {checkpoint}: {damage}\n  lost: {_LOST}")
    elif way is Way.OTHER_RANKS:
        notes.append(
            f"Resuming on {now} process{'es' if now != 1 else ''} a run of {before}: step, learning rate, the "
            "optimizer's state and the examples of each step go on; each process takes new random numbers (dropout) "
            "from seed, step and rank, so the losses may differ a little from those of an undisturbed run"
        )
    return Resumption(checkpoint, manifest.step, way, tuple(notes))


_LOST = (
    "the optimizer's state: AdamW starts afresh, with coarser first steps; the float32 digits of the weights (the "
    "adapter is their rounding to bf16); the state of the random numbers (dropout), which are taken anew from seed, "
    "step and rank. Kept: weights, step, learning rate and the examples of each step"
)


def _weights_hint(folder: Path) -> str:
    """What to do about a checkpoint that only its weights are left of; empty for any other."""
    if why_not_resumable(folder) is None or why_not_from_weights(folder) is not None:
        return ""
    return f"\n  its weights are intact: {WEIGHTS_ONLY} goes on from them; lost would be {_LOST}"


def _check_same_run(checkpoint: Path, record: dict[str, Any]) -> list[str]:
    """SocratesError if a checkpoint is of another run; lines about what else is spread otherwise over the hardware."""
    lines = describe_difference(_learned_from(read_training_config(checkpoint)), _learned_from(record))
    differences = [line for line in lines if not line.startswith(_OF_THE_HARDWARE)]
    if differences:
        raise SocratesError(
            f"{checkpoint}: cannot resume from it: it was made with another configuration:\n  "
            + "\n  ".join(differences)
            + (_OTHER_ROWS if any(line.startswith("tokenized:") for line in differences) else "")
            + '\nset "output_dir" to a new folder, or move the old one away'
        )
    return [
        f"Resuming with {line}: the examples of each step stay, their losses may differ a little (dropout, rounding)"
        for line in lines
        if not line.startswith("training.num_processes")
    ]


def run_identity(record: dict[str, Any]) -> str:
    """A name for all runs that learn the same: of two that may go on from each other's checkpoints it is one."""
    learned = _learned_from(record)
    return sha256_json({key: value for key, value in learned.items() if not key.startswith(_OF_THE_HARDWARE)})[:16]


def _learned_from(record: dict[str, Any]) -> dict[str, Any]:
    """What `training_config.json` says of what is learned: one level deep, as "training.learning_rate"."""
    flat: dict[str, Any] = {}
    for key, value in record.get("config", {}).items():
        flat |= {f"{key}.{name}": item for name, item in value.items()} if isinstance(value, dict) else {key: value}
    return {
        **{key: value for key, value in flat.items() if not key.startswith(_FREE_ON_RESUME)},
        "prompt_fingerprint": record.get("prompt_fingerprint"),
        "train_sha256": record.get("data", {}).get("train_sha256"),
        "tokenized": record.get("data", {}).get("tokenized"),  # the same text may have become other ids
        **({"chosen": chosen["sha256"]} if (chosen := record.get("data", {}).get("chosen")) else {}),
        "zero_stage": record.get("deepspeed", {}).get("zero_optimization", {}).get("stage"),
    }


_locks: list[IO[bytes]] = []  # open for as long as the process lives, which is what holds the lock


def lock_output(folder: Path) -> None:
    """SocratesError if another training writes into the output folder; the kernel frees the lock however we end."""
    try:
        taken, remedy = f"{folder}: another training is running into this folder", "; wait for it or stop it"
        _locks.append(take_lock(folder / ".training.lock", taken, remedy))
    except OSError as error:
        raise cannot_write(folder, error) from error
