"""scripts/train_full_dataset.py, whose rank 1 runs out of memory until as many layers are checkpointed as it needs.

Takes the same arguments; how many it needs stands in the file `needed` of the current folder.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import torch  # noqa: E402
import train_full_dataset  # noqa: E402

from socrates.errors import run_entry_point  # noqa: E402
from socrates.training import train as training  # noqa: E402
from socrates.training.distributed import rank  # noqa: E402

NEEDED = int(Path("needed").read_text())
_make_trainer = training.make_trainer


def make_short_trainer(*arguments, **named):
    """The trainer; on rank 1 the backward pass fails in its middle, as it does where memory is short."""
    trainer = _make_trainer(*arguments, **named)
    layers = trainer.model.get_base_model().model.layers

    def run_out(_gradient):
        if sum(layer.gradient_checkpointing for layer in layers) < NEEDED:
            raise torch.OutOfMemoryError("made up")

    def watch(_layer, _inputs, hidden):
        if hidden.requires_grad:
            hidden.register_hook(run_out)

    if rank() == 1:
        layers[0].register_forward_hook(watch)
    return trainer


if __name__ == "__main__":
    training.make_trainer = make_short_trainer
    run_entry_point(train_full_dataset.main)
