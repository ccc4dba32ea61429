"""Trainer callbacks: complete checkpoints, the run's progress, the guide's log lines; `setup.py` puts them in order.

Order of a save: the Trainer and DeepSpeed write their files in place, every rank; once rank 0 sees them all it adds
`optimizer.pt`, `training_config.json`, `training_data.json` and `training_cost.json`, and last of all the manifest. A
kill at any moment before that leaves a folder without a manifest, which nobody takes for a checkpoint.
"""

from __future__ import annotations

import io
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import TrainerCallback
from transformers.trainer_callback import ProgressCallback

from socrates.checkpoint import TRAINING_CONFIG, TRAINING_DATA, write_manifest
from socrates.files import atomic_write, write_json
from socrates.model.attention import check_examples_apart
from socrates.telemetry.cost import TRAINING_COST
from socrates.telemetry.recorder import Telemetry
from socrates.training.distributed import errors_from_rank_zero, on_rank_zero, wait_for_files
from socrates.training.fitting import fit_micro_batches
from socrates.training.trainer import AdapterTrainer

_MOMENTS = ("exp_avg", "exp_avg_sq")
_PRINTED = (
    *("loss", "learning_rate", "grad_norm", "mean_token_accuracy", "eval_loss", "epoch"),
    *("tokens_per_second", "mfu", "gpu_utilization", "peak_memory_gib"),
)


class CompleteCheckpoints(TrainerCallback):
    """Turns what the Trainer saved into a checkpoint: the missing files, then the manifest."""

    def __init__(self, record: dict[str, Any], training_data: dict[str, Any], telemetry: Telemetry) -> None:
        """What `training_config.json` and `training_data.json` say, and who knows what the run has cost."""
        self._record, self._training_data, self._telemetry = record, training_data, telemetry

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # On resume the Trainer takes these from the checkpoint, whatever the config says now.
        state.save_steps, state.logging_steps = args.save_steps, args.logging_steps

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        moments = _gather_moments(kwargs["model"], kwargs["optimizer"].optimizer, state.global_step)
        wait_for_files(folder)  # rank 0 was seen here before another rank had written its own
        on_rank_zero(lambda: self._complete(folder, moments, args.world_size))

    def _complete(self, folder: Path, moments: dict[str, Any], num_processes: int) -> None:
        for script in folder.rglob("*.py"):  # DeepSpeed's: code that others would run
            script.unlink()
        buffer = io.BytesIO()  # torch reports a full disk as an error of its own
        torch.save(moments, buffer)
        with atomic_write(folder / "optimizer.pt", "wb") as file:
            file.write(buffer.getbuffer())
        write_json(folder / TRAINING_CONFIG, self._record)
        write_json(folder / TRAINING_DATA, self._training_data)
        write_json(folder / TRAINING_COST, asdict(self._telemetry.account()))
        write_manifest(folder, num_processes)
        print(f"Checkpoint complete: {folder}", flush=True)


def _gather_moments(model: Any, optimizer: Any, step: int) -> dict[str, Any]:
    """What `optimizer.pt` holds: both AdamW moments of every adapter weight, by its name and in its shape, in bf16.

    The guide lists this file, and DeepSpeed writes none: each rank saves its part of one flat vector.
    """
    from deepspeed.utils import safe_get_full_optimizer_state  # late: see `leave_out_compiled_cpu_kernels`

    begun = any(optimizer.state.values())  # not before the first update
    if begun:
        optimizer._lazy_init_hp_params_optimizer_state()  # done after an update; none need have come since a resumption
    moment_of = safe_get_full_optimizer_state if begun else lambda p, moment: torch.zeros_like(p)
    state = {
        name: {moment: moment_of(p, moment).to("cpu", torch.bfloat16) for moment in _MOMENTS}
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    return {"format": "socrates.adamw_moments.1", "step": step, "state": state}


class BeforeTraining(TrainerCallback):
    """Makes the model ready once it is on its device, and proves that examples are kept apart."""

    def __init__(self, trainer: AdapterTrainer, attention: str, checkpointed_layers: int) -> None:
        self._trainer, self._attention, self._checkpointed_layers = trainer, attention, checkpointed_layers

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        with errors_from_rank_zero():
            check_examples_apart(self._trainer.model.get_base_model(), self._attention, args.device)
        fit_micro_batches(self._trainer, self._checkpointed_layers)


class WatchHeldOut(TrainerCallback):
    """Takes the loss on the held-out rows every so many steps, for the next line of the log."""

    def __init__(self, trainer: AdapterTrainer, every: int) -> None:
        self._trainer, self._every = trainer, every

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self._every == 0 or state.global_step >= state.max_steps:
            self._trainer.held_out_loss()


class TellProgress(TrainerCallback):
    """Keeps the run's `.progress.json` and `training_log.jsonl`, and prints the guide's log lines; for rank 0 alone.

    It must come after `CompleteCheckpoints`, whose time it measures.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._telemetry.begin(state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._telemetry.step(state.global_step, state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        told = self._telemetry.log(logs, state.global_step, state.max_steps)
        summary = told.pop("summary", None)  # trackers, which come later, want numbers
        logs |= told
        line = {name: float(f"{logs[name]:.4g}") for name in _PRINTED if logs.get(name) is not None}
        tqdm.write(str({**line, "step": state.global_step}))  # above the progress bar, where there is one
        if summary:
            tqdm.write(summary)
        sys.stdout.flush()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._telemetry.saved()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._telemetry.end()


class ProgressBar(ProgressCallback):
    """The Trainer's progress bar, without its lines."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """See `TellProgress`."""
