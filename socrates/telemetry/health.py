"""Health of a training: a loss that is no number, GPUs that idle.

Covers: each is said once when it begins and once when it is over. Nothing is ever ended because of it. Pure: numbers
and times come in, sentences come out. Does not cover: a training without progress (`machine/status.py`), and whether
the loss falls as it should, which a tracker's curve shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

IDLE_BELOW = 5.0  # percent
IDLE_WINDOW = 300.0  # seconds
IDLE_GAP = 60.0  # seconds without a sample, after which it begins again
IDLE_GRACE = 120.0  # seconds from the begin of the training in which nothing is checked


class Watch:
    """Judges the lines of the log and the samples of the GPUs of one training."""

    def __init__(self, begun: float) -> None:
        """``begun``: when the training began; seconds on the clock of the samples."""
        self._not_finite: str | None = None
        self._from, self._last = begun + IDLE_GRACE, begun
        self._idle_since: dict[int, float] = {}
        self._idle: dict[int, str] = {}

    @property
    def active(self) -> tuple[str, ...]:
        """The warnings that hold now."""
        return (*([self._not_finite] if self._not_finite else []), *self._idle.values())

    def line(self, step: int, loss: float, grad_norm: float | None = None) -> list[str]:
        """Take one line's values; gives what is to be said: what began, what is over."""
        values = {"loss": loss, "gradient norm": grad_norm}
        broken = [f"the {name}" for name, value in values.items() if value is not None and not math.isfinite(value)]
        if bool(broken) == bool(self._not_finite):
            return []
        if not broken:
            self._not_finite = None
            return [f"Over at step {step:,}: the loss is a number again"]
        what = f"{' and '.join(broken)} {'are no numbers' if len(broken) > 1 else 'is not a number'}"
        self._not_finite = (
            f"{what}, since step {step:,}: stop it and go on from a checkpoint before that, or start over with a lower "
            "learning_rate"
        )
        return [f"WARNING: {self._not_finite}"]

    def gpus(self, time: float, samples: Iterable[tuple[int, float | None]]) -> list[str]:
        """Take samples (GPU, percent in use) of one moment; gives what is to be said.

        Each GPU by itself: a mean or a maximum over GPUs would hide the one that idles.
        """
        if time - self._last > IDLE_GAP:
            self._idle_since.clear()
        self._last = time
        said = []
        for index, use in samples:
            if use is None or use >= IDLE_BELOW or time < self._from:
                self._idle_since.pop(index, None)
                if self._idle.pop(index, None):
                    said.append(f"Over: GPU {index} works again")
            elif time - self._idle_since.setdefault(index, time) >= IDLE_WINDOW and index not in self._idle:
                self._idle[index] = (
                    f"GPU {index} has been idle (below {IDLE_BELOW:g}%) for {IDLE_WINDOW / 60:g} minutes: see "
                    "nvidia-smi, top and the disk; if no step gets done, stop it and start it again"
                )
                said.append(f"WARNING: {self._idle[index]}")
        return said
