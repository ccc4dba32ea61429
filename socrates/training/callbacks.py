"""Trainer callbacks: complete checkpoints, the run's progress, the guide's log lines, `training_metadata.json`.

Order of a save: the Trainer and DeepSpeed write their files in place, every rank; after a barrier rank 0 adds
`optimizer.pt`, `training_config.json`, `training_data.json` and `training_cost.json`, and last of all the manifest. A
kill at any moment before that leaves a folder without a manifest, which nobody takes for a checkpoint.
`training_metadata.json` (what a run was and what it took) is written when it ends, complete or stopped; of a crashed
run its checkpoints, `training_log.jsonl` and `.progress.json` tell.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from socrates.checkpoint import MANIFEST, TRAINING_CONFIG, TRAINING_DATA, list_checkpoints, write_manifest
from socrates.config import RunConfig
from socrates.errors import SocratesError
from socrates.files import write_json
from socrates.model.attention import check_examples_apart
from socrates.telemetry.cost import TRAINING_COST, Account
from socrates.telemetry.recorder import Telemetry
from socrates.training.distributed import barrier, errors_from_rank_zero, max_over_ranks, on_rank_zero
from socrates.training.fitting import fit_micro_batches
from socrates.training.optimizer_export import write_optimizer_export
from socrates.training.stopping import stop_cleanly

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from socrates.training.trainer import AdapterTrainer

_PRINTED = (
    "loss",
    "learning_rate",
    "grad_norm",
    "mean_token_accuracy",
    "eval_loss",
    "epoch",
    "tokens_per_second",
    "padding_share",
    "mfu",
    "gpu_utilization",
    "peak_memory_gib",
)


def run_callbacks(
    config: RunConfig,
    record: dict[str, Any],
    training_data: dict[str, Any],
    before: Account | None = None,
    peak_flops: float | None = None,
) -> list[TrainerCallback]:
    """The callbacks of a run, in the order in which they must be called; `guide_log` comes after them.

    Args:
        config: the run.
        record: what `training_config.json` says.
        training_data: what `training_data.json` says (`contamination.training_data_record`).
        before: what earlier attempts have used.
        peak_flops: a GPU's floating point operations a second at best, in the type that is trained in; None: unknown.
    """
    telemetry = Telemetry(
        Path(config.output_dir),
        before=before,
        price_per_hour=config.price_per_hour,
        peak_flops=peak_flops,
        num_gpus=config.training.num_processes,
    )
    return [
        complete_checkpoints(record, training_data, lambda: telemetry.account().to_dict()),
        tell_progress(telemetry, record),
        stop_cleanly(telemetry, config.price_per_hour, config.max_cost_usd),
    ]


def complete_checkpoints(
    record: dict[str, Any], training_data: dict[str, Any], cost: Callable[[], dict[str, Any]] = dict
) -> TrainerCallback:
    """A callback that turns what the Trainer saved into a checkpoint: the missing files, then the manifest.

    Args:
        record: what `training_config.json` says.
        training_data: what `training_data.json` says (`contamination.training_data_record`).
        cost: what `training_cost.json` says when it is written.
    """
    from transformers import TrainerCallback

    class CompleteCheckpoints(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            # On resume the Trainer takes these from the checkpoint, whatever the config says now.
            state.save_steps, state.logging_steps = args.save_steps, args.logging_steps

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            # Without the barrier rank 0 was seen here before another rank had written its files.
            barrier()
            on_rank_zero(lambda: _complete(folder, record, training_data, cost(), args.world_size))

    return CompleteCheckpoints()


def _complete(
    folder: Path, record: dict[str, Any], training_data: dict[str, Any], cost: dict[str, Any], num_processes: int
) -> None:
    write_optimizer_export(folder)
    write_json(folder / TRAINING_CONFIG, record)
    write_json(folder / TRAINING_DATA, training_data)
    write_json(folder / TRAINING_COST, cost)
    write_manifest(folder, num_processes)
    print(f"Checkpoint complete: {folder}", flush=True)


def before_training(trainer: AdapterTrainer, attention: str, checkpointed_layers: int) -> TrainerCallback:
    """A callback that makes the model ready once it is on its device, and proves that examples are kept apart."""
    from transformers import TrainerCallback

    class BeforeTraining(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            with errors_from_rank_zero():
                check_examples_apart(trainer.model.get_base_model(), attention, args.device)
            fit_micro_batches(trainer, checkpointed_layers)

    return BeforeTraining()


def watch_held_out(trainer: AdapterTrainer, every: int) -> TrainerCallback:
    """A callback that takes the loss on the held-out rows every so many steps, for the next line of the log."""
    from transformers import TrainerCallback

    class WatchHeldOut(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step % every == 0 or state.global_step >= state.max_steps:
                trainer.callback_handler.on_evaluate(args, state, control, trainer.held_out_loss())

    return WatchHeldOut()


def tell_progress(telemetry: Telemetry, record: dict[str, Any] | None = None) -> TrainerCallback:
    """A callback that keeps the run's `.progress.json` and `training_log.jsonl`, and writes its metadata at the end.

    It must come after `complete_checkpoints`, whose time it measures, and before `guide_log`.

    Args:
        telemetry: rank 0's writer.
        record: what `training_config.json` says, for `training_metadata.json`; None: no such file is written.
    """
    from transformers import TrainerCallback

    class TellProgress(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                telemetry.begin(state.global_step, state.max_steps)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step >= state.max_steps:
                control.should_log = True  # the Trainer leaves the last steps out where they fill no line
            if state.is_world_process_zero:
                telemetry.step(state.global_step, state.max_steps)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if not logs or "loss" not in logs:
                return
            peak = peak_memory()
            if state.is_world_process_zero:
                evaluates = bool(getattr(control, "should_evaluate", False))
                logged = telemetry.log(
                    logs, state.global_step, state.max_steps, peak_memory_bytes=peak, evaluates=evaluates
                )
                # for the lines that guide_log prints
                logs |= {name: value for name, value in asdict(logged).items() if value is not None}

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                telemetry.evaluated((metrics or {}).get("eval_loss"), state.global_step)

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                telemetry.saved()

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                telemetry.end()
                if record is not None:
                    write_training_metadata(Path(args.output_dir), record, state, telemetry)

    return TellProgress()


def peak_memory() -> int | None:
    """Bytes that the tensors of any rank have taken at most; None without a GPU. Every rank must ask."""
    import torch

    return max_over_ranks(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else None


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
            if not state.is_world_process_zero or not logs:
                return
            if "loss" in logs or "eval_loss" in logs:
                self._say(str(log_line(logs, state.global_step)))
            if summary := logs.pop("summary", None):  # trackers, which come later, want numbers
                self._say(summary)

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
    line = {name: float(f"{logs[name]:.4g}") for name in _PRINTED if logs.get(name) is not None}
    return {**line, "step": step}


TRAINING_METADATA = "training_metadata.json"


def write_training_metadata(folder: Path, record: dict[str, Any], state: Any, telemetry: Telemetry) -> None:
    """Write the file; where that cannot be done, say so: the training itself is safe.

    Args:
        folder: the run's output folder.
        record: what `training_config.json` says (config, versions, data).
        state: the Trainer's, at the end.
        telemetry: what the run has used.
    """
    try:
        write_json(folder / TRAINING_METADATA, training_metadata(folder, record, state, telemetry))
    except SocratesError as error:
        print(f"Cannot write what the run was: {error}", flush=True)


def training_metadata(folder: Path, record: dict[str, Any], state: Any, telemetry: Telemetry) -> dict[str, Any]:
    """What the file says. Times in seconds; tokens, cost and speed are of all attempts; None is unknown."""
    account, last = telemetry.account(), telemetry.last
    examples = record.get("config", {}).get("training", {}).get("global_batch_size")
    tokens = account.tokens
    trained = account.training_seconds
    return {
        **record,
        "machine": machine(),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "how_it_ended": f"stopped: {telemetry.stopped}" if telemetry.stopped else "complete",
        "steps": state.global_step,
        "max_steps": state.max_steps,
        "examples": None if examples is None else state.global_step * examples,
        "tokens": tokens,
        "attempts": account.attempts,
        "wall_time_s": account.seconds,
        "training_time_s": account.training_seconds,
        "cost_usd": None if account.usd is None else round(account.usd, 4),
        "mean_tokens_per_second": round(tokens / trained, 1) if tokens is not None and trained > 0 else None,
        "mean_mfu": telemetry.utilization,
        "peak_memory_bytes": account.peak_memory_bytes,
        "final_loss": last.get("loss"),
        "last_eval_loss": telemetry.last_eval.get("eval_loss"),
        "last_eval_step": telemetry.last_eval.get("eval_step"),
        "warnings": last.get("warnings", []),
        "checkpoints": [path.name for path in reversed(list_checkpoints(folder)) if (path / MANIFEST).is_file()],
    }


def machine() -> dict[str, Any]:
    """The machine, without its name: GPUs, driver, processors, Python."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "gpus": gpus,
        "num_gpus": len(gpus),
        "driver": _driver() if gpus else None,
        "cuda": torch.version.cuda if gpus else None,
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": sys.version.split()[0],
    }


def _driver() -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.split()), None)
