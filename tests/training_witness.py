"""scripts/train_full_dataset.py, watched: what it has loaded before its first step, and which examples each step sees.

Takes the same arguments, and writes into witness/ of the current folder: `loaded/`, DeepSpeed's own save of what it
holds before the first step, and `rank-R.jsonl`, a line a step: its number, its examples (token ids), and the learning
rate that the optimizer uses. Where the current folder has a file `needed`, rank 1 runs out of memory until so many
layers are checkpointed. Where it has a file `infinite`, no gradient is finite.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import torch  # noqa: E402
import train_full_dataset  # noqa: E402
from transformers import TrainerCallback  # noqa: E402

from socrates.errors import run_entry_point  # noqa: E402
from socrates.training import train as training  # noqa: E402
from socrates.training.distributed import rank  # noqa: E402

WITNESS, NEEDED, INFINITE = Path("witness"), Path("needed"), Path("infinite")
_make_trainer = training.make_trainer


def make_watched_trainer(*arguments, **named):
    """The trainer, with a note of every step."""
    trainer = _make_trainer(*arguments, **named)
    training_step = trainer.training_step

    def watched_step(model, inputs, *more, **others):
        line = {
            "step": trainer.state.global_step + 1,
            "examples": examples_of(inputs),
            "rate": trainer.optimizer.param_groups[0]["lr"],
        }
        with (WITNESS / f"rank-{rank()}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        return training_step(model, inputs, *more, **others)

    class SaveLoaded(TrainerCallback):
        done = False

        def on_step_begin(self, args, state, control, **kwargs):
            if not self.done:
                self.done = True
                trainer.model_wrapped.save_checkpoint(str(WITNESS / "loaded"), exclude_frozen_parameters=True)

    WITNESS.mkdir(exist_ok=True)
    trainer.training_step = watched_step
    trainer.add_callback(SaveLoaded())
    if rank() == 1 and NEEDED.exists():
        shorten_memory(trainer.model.get_base_model().model.layers, int(NEEDED.read_text()))
    if INFINITE.exists():
        first = next(parameter for name, parameter in trainer.model.named_parameters() if "lora_B" in name)
        first.register_hook(lambda gradient: gradient * torch.inf)
    return trainer


def examples_of(inputs):
    """The token ids of each example of this process's micro-batches."""
    batches = [batch for batch in inputs["step"].micro_batches if batch.counts]
    return [part.tolist() for batch in batches for part in batch.input_ids[0].split(list(batch.lengths))]


def shorten_memory(layers, needed):
    """Let the backward pass fail in its middle, as it does where memory is short."""

    def run_out(_gradient):
        if sum(layer.gradient_checkpointing for layer in layers) < needed:
            raise torch.OutOfMemoryError("made up")

    def watch(_layer, _inputs, hidden):
        if hidden.requires_grad:
            hidden.register_hook(run_out)

    layers[0].register_forward_hook(watch)


if __name__ == "__main__":
    training.make_trainer = make_watched_trainer
    run_entry_point(train_full_dataset.main)
