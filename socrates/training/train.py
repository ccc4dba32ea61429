"""Training: a run config and its data to a running `SFTTrainer` under DeepSpeed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, set_seed

from socrates.checkpoint import is_finished
from socrates.config import RunConfig
from socrates.data.dataset import METADATA, sha256_of_part
from socrates.data.people import choose_people
from socrates.data.tokenize import tokenize_for
from socrates.data.tokenized import load_tokenized, read_contents, read_table
from socrates.errors import SocratesError
from socrates.files import read_json
from socrates.model.chat import prompt_fingerprint
from socrates.model.kernels import Fit, fit_to_machine, use_liger_kernels
from socrates.model.load import load_base_model, load_tokenizer, quiet_libraries
from socrates.telemetry.cost import account_before
from socrates.training.batches import held_out_rows
from socrates.training.convert_state import loadable
from socrates.training.distributed import check_shared, errors_from_rank_zero, on_rank_zero, rank
from socrates.training.resume import Resumption, choose_checkpoint, lock_output, run_identity
from socrates.training.setup import leave_out_compiled_cpu_kernels, make_trainer, trainer_arguments
from socrates.training.stopping import refuse_if_spent

# Packages whose versions may change what a run computes; recorded in every checkpoint.
PACKAGES = ("torch", "transformers", "trl", "peft", "deepspeed", "accelerate", "tokenizers")
_LITTLE_SPACE = 2**20  # bytes; with less, a save that failed failed for want of space


def train(config: RunConfig, deepspeed: dict[str, Any], resume: str, weights_only: bool) -> None:
    """Run (or go on with) a training; to be called by every rank.

    Args:
        config: the run.
        deepspeed: DeepSpeed's config, checked against the run config.
        resume: "auto", or a checkpoint's path.
        weights_only: a checkpoint will do of which the weights alone are complete.

    Raises:
        SocratesError: no model, no data, no GPUs, nothing left to spend; see `choose_checkpoint` and `loadable`.
    """
    output, first, t = Path(config.output_dir), rank() == 0, config.training
    with errors_from_rank_zero():
        check_processes(config)
        if first:
            lock_output(output)
        tokenizer = load_tokenizer(config.model_name, config.model_revision)
        tokenized = tokenize_for(config, tokenizer)
        record = training_record(config, deepspeed, tokenizer, tokenized.name)
        dataset, info = load_tokenized(tokenized)
        contents = read_contents(tokenized)
        if config.data.rows_per_cell:
            chosen = choose_people(read_table(tokenized), config.data.rows_per_cell, config.seed)
            dataset = dataset.select(chosen)
            record["data"]["chosen"] = {"rows": len(chosen), "sha256": hashlib.sha256(chosen.tobytes()).hexdigest()}
        watched = held_out_rows(config, tokenizer)
        fit = fit_to_machine(config)
    quiet_libraries(bars=first)
    leave_out_compiled_cpu_kernels()
    args = trainer_arguments(config, deepspeed)  # from here on there is a process group
    check_shared(output, " ".join([tokenized.name, *map(str, record["data"].get("chosen", {}).values())]))
    resumption = on_rank_zero(lambda: choose_checkpoint(config, record, resume, weights_only))
    checkpoint = resumption.checkpoint if resumption else None
    if first:
        _print_start(config, len(dataset), info, resumption, fit)
    if checkpoint and is_finished(checkpoint):  # the Trainer would take one step more
        if first:
            print(f"Training complete already: last checkpoint {checkpoint}", flush=True)
        return
    price, run = config.price_per_hour, run_identity(record)
    before = on_rank_zero(
        lambda: refuse_if_spent(account_before(output, checkpoint, run, price), price, config.max_cost_usd)
    )
    set_seed(config.seed)
    with errors_from_rank_zero():
        model = load_base_model(
            config.model_name,
            config.model_revision,
            dtype="bfloat16" if t.bf16 else "float32",
            attn_implementation=fit.attention,
            device=args.device if args.device.type == "cuda" else None,
        )
        if fit.liger:
            use_liger_kernels(model)
    model.name_or_path = config.model_name  # what the adapter's config will call its base: the name, not a cache path
    training_data = {"train_sha256": record["data"]["train_sha256"], "split": record["data"]["split"], **contents}
    trainer = make_trainer(config, args, model, tokenizer, dataset, record, training_data, fit, watched, before)
    with loadable(resumption, trainer, output) as folder, _full_disk_told(output):
        trainer.train(resume_from_checkpoint=folder)
    steps = trainer.state.global_step
    if first and steps >= trainer.state.max_steps:  # else it was stopped, and that is printed
        print(f"Training complete: {steps} steps, last checkpoint {output / f'checkpoint-{steps}'}", flush=True)


def check_processes(config: RunConfig) -> None:
    """SocratesError unless there are as many processes as the config counts on, and a GPU for each.

    Without GPUs the libraries would take CPUs without a word; DS_ACCELERATOR=cpu asks for that.
    """
    if "LOCAL_RANK" not in os.environ:
        raise SocratesError(
            f"start it with DeepSpeed's launcher: deepspeed --num_gpus={config.training.num_processes} "
            "scripts/train_full_dataset.py … (or torchrun, or Slurm: examples/cluster/README.md)"
        )
    world = int(os.environ.get("WORLD_SIZE", "1"))
    wanted = config.training.num_processes
    if world != wanted:
        raise SocratesError(
            f"{world} process{'es' if world != 1 else ''} started, but the config has "
            f'"training.num_processes": {wanted}; start with deepspeed --num_gpus={wanted}, or change num_processes '
            f"(a step stays {config.training.global_batch_size} examples, whatever their number)"
        )
    if os.environ.get("DS_ACCELERATOR") == "cpu":
        return
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    here = int(os.environ.get("LOCAL_SIZE") or os.environ.get("LOCAL_WORLD_SIZE") or wanted)
    if found < here:
        raise SocratesError(
            f"torch can use {found} GPUs here, {here} processes need one each; look at "
            "nvidia-smi and the driver's version. To train on CPUs on purpose: export DS_ACCELERATOR=cpu"
        )


def training_record(
    config: RunConfig, deepspeed: dict[str, Any], tokenizer: PreTrainedTokenizerBase, tokenized: str
) -> dict[str, Any]:
    """What `training_config.json` says in every checkpoint."""
    metadata = Path(config.dataset_path) / METADATA
    return {
        "config": config.to_dict(),
        "deepspeed": deepspeed,
        "prompt_fingerprint": prompt_fingerprint(tokenizer, config.prompt),
        "data": {
            "train_sha256": sha256_of_part(config.train_file),
            "split": read_json(metadata, "data set's metadata").get("split") if metadata.is_file() else None,
            "tokenized": tokenized,
        },
        "versions": {name: version(name) for name in PACKAGES},
    }


def _print_start(config: RunConfig, rows: int, info: dict[str, Any], resumption: Resumption | None, fit: Fit) -> None:
    t = config.training
    device = f"GPUs ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else "CPU processes"
    print("Resolved config:", json.dumps(config.to_dict(), indent=2), sep="\n")
    if info["shortened"] or info["dropped"]:
        print(
            f"Of rows longer than max_length = {t.max_length} tokens, {info['shortened']} have a shortened stimulus "
            f"and {info['dropped']} are left out"
        )
    if missing := info["missing_answers"]:
        print(f"{missing} rows of missing answers (refused, don't know, …) are left out")
    of = f" (at most {config.data.rows_per_cell} of a cell) of {info['rows']}" if config.data.rows_per_cell else ""
    print(
        f"Training on {rows}{of} rows ({info['tokens']} tokens, the longest {info['longest']}): "
        f"{config.planned_steps(rows)} steps of {t.global_batch_size} examples on {t.num_processes} {device}, "
        f"a checkpoint every {t.save_steps} steps"
    )
    print(fit.text)
    if resumption is None:
        print("Starting from the base model", flush=True)
    else:
        print(f"Resuming from {resumption.checkpoint}", *resumption.notes, sep="\n", flush=True)


@contextmanager
def _full_disk_told(folder: Path) -> Iterator[None]:
    """Say so where the disk is full: the libraries report a failed write in words of their own, or none."""
    try:
        yield
    except Exception as error:  # each library has its own: OSError, RuntimeError, SafetensorError
        free = shutil.disk_usage(folder).free
        if "No space left" in str(error) or free < _LITTLE_SPACE:
            raise SocratesError(
                f"{folder}: no space left ({free / 2**20:.0f} MiB free) while a checkpoint was saved; free some space "
                "and run the same command again: it goes on from the newest complete checkpoint"
            ) from error
        raise
