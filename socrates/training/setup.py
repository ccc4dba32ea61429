"""Setup: a run config and a model to a trainer: the Trainer's arguments, the adapter, the callbacks in their order."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import PreTrainedTokenizerBase
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl import SFTConfig

from socrates.config import RunConfig
from socrates.errors import SocratesError
from socrates.model.kernels import Fit
from socrates.model.sizing import peak_flops, training_flops
from socrates.telemetry.cost import Account
from socrates.telemetry.recorder import Telemetry
from socrates.training.batches import StepOrder, TrainingSteps, held_out_batches
from socrates.training.callbacks import BeforeTraining, CompleteCheckpoints, ProgressBar, TellProgress, WatchHeldOut
from socrates.training.stopping import StopCleanly
from socrates.training.trainer import AdapterTrainer


def trainer_arguments(config: RunConfig, deepspeed: dict[str, Any] | None) -> SFTConfig:
    """A run config in the Trainer's words; from here on there is a process group.

    Args:
        config: the run.
        deepspeed: DeepSpeed's config; None trains without it, in one process.

    Raises:
        SocratesError: the processes cannot meet.
    """
    t = config.training
    try:
        return SFTConfig(
            output_dir=config.output_dir,
            deepspeed=deepspeed,
            per_device_train_batch_size=t.global_batch_size // t.num_processes,
            learning_rate=t.learning_rate,
            num_train_epochs=t.num_train_epochs,
            max_steps=t.max_steps or -1,
            lr_scheduler_type=t.lr_scheduler_type,
            warmup_steps=t.warmup_ratio,  # below 1 it is a share of all steps
            weight_decay=t.weight_decay,
            max_grad_norm=t.max_grad_norm,
            bf16=t.bf16,
            activation_checkpointing=False,  # TRL's default is True; see fit_micro_batches
            logging_steps=t.logging_steps,
            logging_nan_inf_filter=False,  # it would log the mean of the losses before in the place of a NaN
            save_steps=t.save_steps,
            save_total_limit=None,  # no checkpoint is ever deleted
            seed=config.seed,
            report_to=t.report_to,
            use_cpu=not torch.cuda.is_available(),
            disable_tqdm=not sys.stderr.isatty(),
            # Rows are tokenized and put into steps by this project.
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
            max_length=None,
        )
    except torch.distributed.DistNetworkError as error:
        raise SocratesError(
            f"the processes cannot meet on port {os.environ.get('MASTER_PORT')}: {str(error).splitlines()[0]}\n"
            "is another training running on this machine? If it should: deepspeed --master_port=29501 …"
        ) from error


def make_trainer(
    config: RunConfig,
    args: SFTConfig,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Any,
    record: dict[str, Any],
    training_data: dict[str, Any],
    fit: Fit,
    watched: Sequence[dict[str, Any]] = (),
    before: Account | None = None,
) -> AdapterTrainer:
    """The trainer of a run, with its adapter and its callbacks.

    Args:
        config: the run.
        args: from `trainer_arguments`.
        model: the base model, with the kernels of ``fit``.
        tokenizer: the model's.
        dataset: what `load_tokenized` gives.
        record: what `training_config.json` says.
        training_data: what `training_data.json` says.
        fit: how the run uses its machine.
        watched: rows that the loss is watched on, from `held_out_rows`.
        before: what earlier attempts have used.
    """
    t = config.training
    order = StepOrder(len(dataset), t.global_batch_size, config.seed)
    trainer = AdapterTrainer(
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
        steps=TrainingSteps(dataset, order, t.micro_batch_tokens, args.process_index, args.world_size),
        attention=fit.attention,
        held_out=held_out_batches(watched, args.process_index, args.world_size, t.micro_batch_tokens),
        flops_a_token=training_flops(fit.shape, config.lora, 1) if fit.shape else None,
    )
    # While saving, PEFT would ask the hub whether the vocabulary has grown; no layer of ours is an embedding.
    trainer.model.save_pretrained = partial(trainer.model.save_pretrained, save_embedding_layers=False)
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    known_gpu = torch.cuda.is_available() and t.bf16
    telemetry = Telemetry(
        Path(config.output_dir),
        before=before,
        price_per_hour=config.price_per_hour,
        peak_flops=(peak_flops(torch.cuda.get_device_name()) or 0.0) * t.num_processes if known_gpu else None,
    )
    # After the Trainer's own, which says when to log and to save; before trackers, so that they get all values.
    trainer.callback_handler.callbacks[1:1] = [
        BeforeTraining(trainer, fit.attention, t.checkpointed_layers or 0),
        *([WatchHeldOut(trainer, t.eval_steps)] if watched else []),
        CompleteCheckpoints(record, training_data, telemetry),
        *([TellProgress(telemetry)] if args.process_index == 0 else []),
        StopCleanly(telemetry, config.price_per_hour, config.max_cost_usd),
        *([] if args.disable_tqdm else [ProgressBar()]),
    ]
    return trainer


def leave_out_compiled_cpu_kernels() -> None:
    """On a CPU, let gloo carry the gradients: DeepSpeed's own kernel would be compiled first, for a minute."""
    if not torch.cuda.is_available():
        import deepspeed.ops  # late: it looks for its accelerator at once, and `check_processes` comes before

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
