"""Health of a training: a loss that is no number, GPUs that idle.

Nothing is ever ended because of it. Pure: numbers and times come in, warnings come out. Does not cover: a training
without progress (`machine/status.py`), and whether the loss falls as it should, which a tracker's curve shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

IDLE_BELOW = 5.0  # percent
IDLE_WINDOW = 300.0  # seconds


class Watch:
    """Judges the lines of the log and the samples of the GPUs of one training."""

    def __init__(self) -> None:
        self._idle_since: dict[int, float] = {}
        self.active: dict[str, str] = {}  # the warnings that hold now, by what they are about

    def line(self, step: int, loss: float, grad_norm: float | None = None) -> None:
        """Take the values of one line of the log."""
        if math.isfinite(loss) and (grad_norm is None or math.isfinite(grad_norm)):
            self.active.pop("loss", None)
        elif "loss" not in self.active:
            self.active["loss"] = (
                f"the {'gradient norm' if math.isfinite(loss) else 'loss'} is not a number, since step {step:,}: stop "
                "it and go on from a checkpoint before that, or start over with a lower learning_rate"
            )

    def gpus(self, time: float, samples: Iterable[tuple[int, float | None]]) -> None:
        """Take samples (GPU, percent in use) of one moment, in seconds.

        Each GPU by itself: a mean or a maximum over GPUs would hide the one that idles.
        """
        for index, use in samples:
            name = f"GPU {index}"
            if use is None or use >= IDLE_BELOW:
                self._idle_since.pop(index, None)
                self.active.pop(name, None)
            elif time - self._idle_since.setdefault(index, time) >= IDLE_WINDOW:
                self.active[name] = (
                    f"{name} has been idle (below {IDLE_BELOW:g}%) for {IDLE_WINDOW / 60:g} minutes: see nvidia-smi, "
                    "top and the disk; if no step gets done, stop it and start it again"
                )
