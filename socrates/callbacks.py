"""What a running Trainer is made to do besides: whole checkpoints, word of its progress, and the guide's log lines.

Order of a save: the Trainer and DeepSpeed write their files in place, every rank; after a barrier rank 0 adds
`optimizer.pt`, `training_config.json` and `training_data.json`, and last of all the manifest. A kill at any moment
before that leaves a folder without a manifest, which nobody takes for a checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from socrates.checkpoints import TRAINING_CONFIG, write_manifest
from socrates.files import write_json
from socrates.machine.telemetry import Telemetry
from socrates.optimizer_export import write_optimizer_export
from socrates.ranks import barrier, on_rank_zero
from socrates.seen import TRAINING_DATA
from socrates.spreading import gathered

if TYPE_CHECKING:
    from transformers import TrainerCallback


def complete_checkpoints(record: dict[str, Any], training_data: dict[str, Any]) -> TrainerCallback:
    """A callback that turns what the Trainer saved into a checkpoint: the missing files, then the manifest.

    Args:
        record: what `training_config.json` says.
        training_data: what `training_data.json` says (`seen.training_data_record`).
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
            with gathered(folder):  # of hosts that have disks of their own
                on_rank_zero(lambda: _complete(folder, record, training_data, args.world_size))

    return CompleteCheckpoints()


def _complete(folder: Path, record: dict[str, Any], training_data: dict[str, Any], num_processes: int) -> None:
    write_optimizer_export(folder)
    write_json(folder / TRAINING_CONFIG, record)
    write_json(folder / TRAINING_DATA, training_data)
    write_manifest(folder, num_processes)
    print(f"Checkpoint complete: {folder}", flush=True)


def tell_progress(telemetry: Telemetry) -> TrainerCallback:
    """A callback that keeps the run's `.progress.json` and `training_log.jsonl`; it must come before `guide_log`."""
    from transformers import TrainerCallback

    class TellProgress(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                telemetry.begin(state.global_step, state.max_steps)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                telemetry.step(state.global_step, state.max_steps)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if state.is_world_process_zero and logs and "loss" in logs:
                speed = telemetry.log(logs, state.global_step, state.max_steps)
                if speed is not None:
                    logs["tokens_per_second"] = speed  # for the line that guide_log prints

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                telemetry.end()

    return TellProgress()


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
    names = ("loss", "learning_rate", "grad_norm", "mean_token_accuracy", "epoch", "tokens_per_second")
    line = {name: float(f"{logs[name]:.4g}") for name in names if name in logs}
    return {**line, "step": step}
