"""A run config and its data to a running `SFTTrainer` under DeepSpeed, and checkpoints that are whole.

Order of a save: the Trainer and DeepSpeed write their files in place, every rank; after a barrier rank 0 adds
`optimizer.pt` and `training_config.json`, and last of all the manifest. A kill at any moment before that leaves a
folder without a manifest, which nobody takes for a checkpoint.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from socrates.checkpoints import (
    TRAINING_CONFIG,
    PassedOver,
    checkpoint_step,
    find_damage,
    list_checkpoints,
    newest_complete,
    read_training_config,
    set_aside,
    write_manifest,
)
from socrates.config import RunConfig, describe_difference
from socrates.errors import EXIT_CANNOT, SocratesError
from socrates.files import read_json, sha256_file, write_json
from socrates.optimizer_export import write_optimizer_export
from socrates.prompts import prompt_fingerprint
from socrates.records import read_answers
from socrates.tokenized import ensure_tokenized, load_tokenized

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, TrainerCallback
    from trl import SFTConfig, SFTTrainer

# Packages whose versions may change what a run computes; recorded in every checkpoint.
PACKAGES = ("torch", "transformers", "trl", "peft", "deepspeed", "accelerate", "tokenizers")
_LITTLE_SPACE = 2**20  # bytes; with less, a save that failed failed for want of space
# Config keys that may differ between a checkpoint and the run that resumes it: they do not change what is learned.
_FREE_ON_RESUME = (
    "evaluation.",
    "decoding.",
    "output_dir",
    "dataset_path",
    "training.logging_steps",
    "training.save_steps",
)


@dataclass(frozen=True)
class DataSummary:
    """What a data file holds."""

    rows: int
    studies: int
    sha256: str


def check_data(path: Path, progress: bool = False) -> DataSummary:
    """Read every row of a data file once.

    Raises:
        SocratesError: no file, no rows, or a bad line (file and line are named).
    """
    from tqdm import tqdm

    studies, rows = set(), 0
    for answer in tqdm(read_answers(path), desc=f"checking {path}", unit=" rows", disable=not progress):
        studies.add(answer.cell.study_id)
        rows += 1
    return DataSummary(rows, len(studies), sha256_file(path))


def steps_planned(config: RunConfig, rows: int) -> int:
    """Optimizer steps of a run over ``rows`` training rows."""
    steps = math.ceil(config.training.num_train_epochs * math.ceil(rows / config.training.global_batch_size))
    return config.training.max_steps or max(1, steps)


def train(config: RunConfig, deepspeed: dict[str, Any], resume: str | None) -> Path:
    """Run (or go on with) a training; to be called by every rank.

    Args:
        config: the run.
        deepspeed: DeepSpeed's config, checked against the run config.
        resume: "auto", the path of a checkpoint, or None. None behaves like "auto" where the output folder already
            holds checkpoints of this very config: the same command, run again, goes on where it stopped.

    Returns:
        The last checkpoint.

    Raises:
        SocratesError: see `choose_checkpoint`, `check_processes`; no model, no data.
    """
    rank = _rank()
    with errors_from_rank_zero():
        check_processes(config)
        check_gpus(config)
        if rank == 0:
            _lock_output(Path(config.output_dir))
        if not config.train_file.is_file():
            raise SocratesError(f"{config.train_file}: no such data file; dataset_path must hold train.jsonl")
        import transformers

        from socrates.models import load_base_model, load_tokenizer, quiet_libraries

        tokenizer = load_tokenizer(config.model_name, config.model_revision)
        data_sha256 = sha256_file(config.train_file)
        tokenized = ensure_tokenized(
            config.train_file,
            data_sha256,
            tokenizer,
            config.prompt.system_message,
            config.training.max_length,
        )
    dataset, info = load_tokenized(tokenized)
    quiet_libraries(bars=rank == 0)
    _leave_out_compiled_cpu_kernels()
    args = _trainer_arguments(config, deepspeed)  # from here on there is a process group
    record = training_record(config, deepspeed, tokenizer, data_sha256, tokenized.name)
    checkpoint = _on_rank_zero(lambda: choose_checkpoint(config, record, resume))
    if rank == 0:
        _print_start(config, len(dataset), info, checkpoint)
    if checkpoint is not None and _is_finished(checkpoint):  # the Trainer would take one step more
        if rank == 0:
            print(f"Training complete already: last checkpoint {checkpoint}", flush=True)
        return checkpoint
    transformers.set_seed(config.seed)
    with errors_from_rank_zero():
        model = load_base_model(
            config.model_name,
            config.model_revision,
            dtype="bfloat16" if config.training.bf16 else "float32",
            attn_implementation=config.training.attn_implementation,
        )
    model.name_or_path = config.model_name  # what the adapter's config will call its base: the name, not a cache path
    trainer = _make_trainer(config, args, model, tokenizer, dataset, record)
    with _full_disk_told(Path(config.output_dir)):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    last = Path(config.output_dir) / f"checkpoint-{trainer.state.global_step}"
    if rank == 0:
        print(f"Training complete: {trainer.state.global_step} steps, last checkpoint {last}", flush=True)
    return last


def check_processes(config: RunConfig) -> None:
    """SocratesError unless the launcher started as many processes as the config's batch arithmetic counts on."""
    if "LOCAL_RANK" not in os.environ:
        raise SocratesError(
            f"start it with DeepSpeed's launcher: deepspeed --num_gpus={config.training.num_processes} "
            "scripts/train_full_dataset.py …"
        )
    world = int(os.environ.get("WORLD_SIZE", "1"))
    wanted = config.training.num_processes
    if world != wanted:
        raise SocratesError(
            f"{world} process{'es' if world != 1 else ''} started, but the config has "
            f'"training.num_processes": {wanted}; start with deepspeed --num_gpus={wanted}, or change num_processes '
            f"and gradient_accumulation_steps so that the global batch stays {config.training.global_batch_size}"
        )


def check_gpus(config: RunConfig) -> None:
    """SocratesError where torch finds too few GPUs, unless CPUs are meant: libraries would fall back without a word."""
    if os.environ.get("DS_ACCELERATOR") == "cpu":
        return
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found < int(os.environ.get("LOCAL_SIZE", config.training.num_processes)):
        raise SocratesError(
            f"torch can use {found} GPUs here, {config.training.num_processes} processes need one each; look at "
            "nvidia-smi and the driver's version. To train on CPUs on purpose: export DS_ACCELERATOR=cpu"
        )


def training_record(
    config: RunConfig,
    deepspeed: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    data_sha256: str,
    tokenized: str,
) -> dict[str, Any]:
    """What `training_config.json` says in every checkpoint."""
    metadata = Path(config.dataset_path) / "metadata.json"
    return {
        "config": config.to_dict(),
        "deepspeed": deepspeed,
        "prompt_fingerprint": prompt_fingerprint(tokenizer, config.prompt.system_message),
        "data": {
            "train_sha256": data_sha256,
            "split": read_json(metadata, "data set's metadata").get("split") if metadata.is_file() else None,
            "tokenized": tokenized,
        },
        "versions": {name: version(name) for name in PACKAGES},
    }


def choose_checkpoint(config: RunConfig, record: dict[str, Any], resume: str | None) -> Path | None:
    """The checkpoint to go on from, or None to start anew; folders that would be written over are set aside.

    Every newer folder that is no complete checkpoint is named, with the reason, and moved to `set-aside/`, and so is
    every complete one that is newer than a checkpoint asked for by path: nothing is deleted or written over.

    Raises:
        SocratesError: the checkpoint asked for is damaged or does not exist, or was made with another config, prompt
            or data: the difference is told.
    """
    folder = Path(config.output_dir)
    if resume in (None, "auto"):
        checkpoint, passed_over = newest_complete(folder)
    else:
        checkpoint = Path(resume)
        damage = find_damage(checkpoint) if checkpoint.is_dir() else "no such folder"
        if damage:
            raise SocratesError(f"{checkpoint}: cannot resume from it: {damage}")
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


_locks: list[IO[str]] = []  # open for as long as the process lives, which is what holds the lock


def _lock_output(folder: Path) -> None:
    """SocratesError if another training writes into the output folder; the kernel frees the lock however we end."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".training.lock").open("a+")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        raise SocratesError(
            f"{folder}: another training is running into this folder ({lock.read().strip() or 'process unknown'}); "
            "wait for it or stop it"
        ) from error
    except OSError as error:
        raise SocratesError(f"{folder}: cannot write there: {error.strerror or error}") from error
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {platform.node()}\n")
    lock.flush()
    _locks.append(lock)


def _is_finished(checkpoint: Path) -> bool:
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
            + '\nset "output_dir" to a new folder, or move the old one away'
        )


def _learned_from(record: dict[str, Any]) -> dict[str, Any]:
    return {
        **record.get("config", {}),
        "prompt_fingerprint": record.get("prompt_fingerprint"),
        "train_sha256": record.get("data", {}).get("train_sha256"),
        "zero_stage": record.get("deepspeed", {}).get("zero_optimization", {}).get("stage"),
    }


def _trainer_arguments(config: RunConfig, deepspeed: dict[str, Any]) -> SFTConfig:
    import torch
    from trl import SFTConfig

    t = config.training
    make_arguments = partial(
        SFTConfig,
        output_dir=config.output_dir,
        deepspeed=deepspeed,
        per_device_train_batch_size=t.per_device_train_batch_size,
        gradient_accumulation_steps=t.gradient_accumulation_steps,
        learning_rate=t.learning_rate,
        num_train_epochs=t.num_train_epochs,
        max_steps=t.max_steps or -1,
        lr_scheduler_type=t.lr_scheduler_type,
        warmup_steps=t.warmup_ratio,  # below 1 it is a share of all steps
        weight_decay=t.weight_decay,
        max_grad_norm=t.max_grad_norm,
        bf16=t.bf16,
        activation_checkpointing=t.gradient_checkpointing,
        logging_steps=t.logging_steps,
        save_strategy="steps",
        save_steps=t.save_steps,
        save_total_limit=None,  # no checkpoint is ever deleted
        seed=config.seed,
        data_seed=config.seed,
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=not sys.stderr.isatty(),
        # Rows are tokenized by this project and flattened: no padding, and a step holds the configured examples.
        dataset_kwargs={"skip_prepare_dataset": True},
        padding_free=True,
        max_length=None,
        packing=False,
    )
    try:
        return make_arguments()
    except torch.distributed.DistNetworkError as error:
        raise SocratesError(
            f"the processes cannot meet on port {os.environ.get('MASTER_PORT')}: {str(error).splitlines()[0]}\n"
            "is another training running on this machine? If it should: deepspeed --master_port=29501 …"
        ) from error


def _make_trainer(
    config: RunConfig,
    args: SFTConfig,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Any,
    record: dict[str, Any],
) -> SFTTrainer:
    from peft import LoraConfig
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    trainer = _adapter_trainer_class()(
        model=model,
        args=args,
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=LoraConfig(
            task_type="CAUSAL_LM",
            r=config.lora.r,
            lora_alpha=config.lora.alpha,
            lora_dropout=config.lora.dropout,
            target_modules=list(config.lora.target_modules),
        ),
        callbacks=[complete_checkpoints(record)],
    )
    # While saving, PEFT would ask the hub whether the vocabulary has grown; no layer of ours is an embedding.
    trainer.model.save_pretrained = partial(trainer.model.save_pretrained, save_embedding_layers=False)
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(guide_log())
    return trainer


def _adapter_trainer_class() -> type[SFTTrainer]:
    from trl import SFTTrainer

    class AdapterTrainer(SFTTrainer):
        def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
            """Save the adapter from rank 0's own memory.

            The Trainer's way under DeepSpeed first clones the whole state, the frozen base model included, to host
            memory on every rank: 4 x 30 GB a save for the 14B model. Under ZeRO 1 and 2 (all that the config allows)
            rank 0 holds the adapter whole.
            """
            if self.args.should_save:
                print(f"Saving model checkpoint to {output_dir or self.args.output_dir}", flush=True)
                self._save(output_dir)

    return AdapterTrainer


def _leave_out_compiled_cpu_kernels() -> None:
    """On a CPU, let gloo carry the gradients: DeepSpeed's own kernel would be compiled first, for a minute."""
    import torch

    if not torch.cuda.is_available():
        import deepspeed.ops

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def complete_checkpoints(record: dict[str, Any]) -> TrainerCallback:
    """A callback that turns what the Trainer saved into a checkpoint: the missing files, then the manifest."""
    from transformers import TrainerCallback

    class CompleteCheckpoints(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            # On resume the Trainer takes these from the checkpoint, whatever the config says now.
            state.save_steps, state.logging_steps = args.save_steps, args.logging_steps

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            # Without the barrier rank 0 was seen here before another rank had written its files.
            _barrier()
            _on_rank_zero(lambda: _complete(folder, record, args.world_size))

    return CompleteCheckpoints()


def _complete(folder: Path, record: dict[str, Any], num_processes: int) -> None:
    write_optimizer_export(folder)
    write_json(folder / TRAINING_CONFIG, record)
    write_manifest(folder, num_processes)
    print(f"Checkpoint complete: {folder}", flush=True)


def guide_log() -> TrainerCallback:
    """A callback that prints the guide's log lines, and a progress bar where there is a terminal."""
    from transformers.trainer_callback import ProgressCallback

    class GuideLog(ProgressCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if not args.disable_tqdm:
                super().on_train_begin(args, state, control, **kwargs)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if self.training_bar is not None:
                super().on_step_end(args, state, control, **kwargs)

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if self.training_bar is not None:
                super().on_train_end(args, state, control, **kwargs)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if state.is_world_process_zero and logs and "loss" in logs:
                self._say(str(log_line(logs, state.global_step)))

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            pass

        def _say(self, text: str) -> None:
            if self.training_bar is not None:
                self.training_bar.write(text)
            else:
                print(text, flush=True)

    return GuideLog()


def log_line(logs: dict[str, Any], step: int) -> dict[str, Any]:
    """What is printed of the Trainer's log: the guide's keys first, numbers short; full precision is in the state."""
    names = ("loss", "learning_rate", "grad_norm", "mean_token_accuracy", "epoch")
    line = {name: float(f"{logs[name]:.4g}") for name in names if name in logs}
    return {**line, "step": step}


def _print_start(config: RunConfig, rows: int, info: dict[str, Any], checkpoint: Path | None) -> None:
    import torch

    t, steps = config.training, steps_planned(config, rows)
    device = f"GPUs ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else "CPU processes"
    print("Resolved config:", json.dumps(config.to_dict(), indent=2), sep="\n")
    if info["too_long"]:
        print(f"Left out {info['too_long']} rows longer than max_length = {t.max_length} tokens")
    print(
        f"Training on {rows} rows ({info['tokens']} tokens, the longest {info['longest']}): {steps} steps of "
        f"{t.global_batch_size} examples on {t.num_processes} {device}, a checkpoint every {t.save_steps} steps"
    )
    print(f"Resuming from {checkpoint}" if checkpoint else "Starting from the base model", flush=True)


@contextmanager
def errors_from_rank_zero() -> Iterator[None]:
    """For errors that every rank meets alike: rank 0 raises its SocratesError, the others leave with 2 in silence."""
    try:
        yield
    except SocratesError:
        if _rank() == 0:
            raise
        time.sleep(10)  # the launcher stops all ranks at the first exit: let rank 0 speak first
        sys.exit(EXIT_CANNOT)


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


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _on_rank_zero(work: Callable[[], Any]) -> Any:
    """Run ``work`` on rank 0 and give its result, or its SocratesError, to every rank."""
    import torch.distributed as dist

    if not dist.is_initialized():
        return work()
    box: list[Any] = [None, None]
    if _rank() == 0:
        try:
            box[0] = work()
        except SocratesError as error:
            box[1] = str(error)
        except OSError as error:
            box[1] = f"{error.filename or 'cannot write'}: {error.strerror or error}"
    dist.broadcast_object_list(box, src=0)
    with errors_from_rank_zero():
        if box[1] is not None:
            raise SocratesError(box[1])
    return box[0]


def _barrier() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.barrier()
