"""Health of a training: a loss that is no number, one that rises, GPUs that idle.

Covers: each is said once when it begins and once when it is over. Nothing is ever ended because of it. Pure: numbers
and times come in, sentences come out. Does not cover: a training without progress (`remote/status/run_status.py`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import NamedTuple

WINDOW = 5  # lines of the log whose median is checked
BLOCK = 20  # lines whose median is what is usual: of all such blocks so far, the lowest
FEWEST = 30  # lines before anything is said of a rise
SPREAD_LINES = 200  # lines before the window from which the spread is taken
RISE = 6.0  # in spreads; over again at half of that
SMALLEST_RISE = 0.01  # of the usual loss: a loss that hardly varies may move that much
TO_NORMAL = 1.4826  # times the median absolute deviation is a normal distribution's standard deviation

IDLE_BELOW = 5.0  # percent
IDLE_WINDOW = 300.0  # seconds
IDLE_SAMPLES = 20  # fewer in a window say nothing
IDLE_GAP = 60.0  # seconds without a sample, after which it begins again
IDLE_GRACE = 120.0  # seconds from the begin of the training in which nothing is checked

NOT_FINITE, RISEN, IDLE = "not finite", "risen", "idle"
_EARLIER = "stop it and go on from a checkpoint before that, or start over with a lower learning_rate"


class Usual(NamedTuple):
    """The loss as it usually is: its median, and its spread (like a standard deviation)."""

    loss: float
    spread: float

    def limit(self, spreads: float) -> float:
        """The loss so many spreads above."""
        return self.loss + max(spreads * self.spread, spreads / RISE * SMALLEST_RISE * abs(self.loss))


class LossWatch:
    """Judges the loss of one log line after the other.

    A loss has risen when the median of the last five lines lies more than six spreads above the lowest median of any
    20 consecutive lines before them. The spread is that of neighbouring lines (the median absolute deviation of their
    differences, over the last 200), so that a slow fall or rise is not taken for spread.

    False alarms in simulated full runs (1,130 lines; `tests/telemetry/test_health.py`): none in 1,800, whose loss falls
    or is level, with normal, heavy-tailed or skewed noise. Where half of the noise is carried on to the next line
    (lines of a training are means over other examples, and are not so): 3 of 300 that fall, 14 of 300 that are level.
    """

    def __init__(self) -> None:
        self.active: dict[str, str] = {}
        self._losses: deque[float] = deque(maxlen=SPREAD_LINES + WINDOW)
        self._lines = 0
        self._lowest = math.inf
        self._begun: Usual | None = None  # what was usual when the rise began

    def add(self, step: int, loss: float, grad_norm: float | None = None) -> list[str]:
        """Take one line's values; gives what is to be said: what began, what is over."""
        broken = [
            name
            for name, value in (("loss", loss), ("gradient norm", grad_norm))
            if value is not None and not math.isfinite(value)
        ]
        what = f"the {' and the '.join(broken)} {'are no numbers' if len(broken) > 1 else 'is not a number'}"
        said = self._set(NOT_FINITE, bool(broken), what, step)
        if math.isfinite(loss):
            self._losses.append(loss)
            self._lines += 1
            said += self._judge_rise(step)
        return said

    def _judge_rise(self, step: int) -> list[str]:
        losses = list(self._losses)
        before, recent = losses[:-WINDOW], median(losses[-WINDOW:])
        if len(before) >= BLOCK:
            self._lowest = min(self._lowest, median(before[-BLOCK:]))
        if self._lines < FEWEST:
            return []
        usual = self._begun or Usual(self._lowest, spread_of_neighbours(before))
        risen = recent > usual.limit(RISE / 2 if self._begun else RISE)
        self._begun = usual if risen else None
        what = f"the loss has risen to {recent:.4g} (median of {WINDOW} lines); usual is {usual.loss:.4g}, "
        return self._set(RISEN, risen, f"{what}give or take {usual.spread:.2g}", step)

    def _set(self, kind: str, holds: bool, what: str, step: int) -> list[str]:
        if holds == (kind in self.active):
            return []
        if holds:
            self.active[kind] = f"{what}, since step {step:,}: {_EARLIER}"
            return [f"WARNING: {self.active[kind]}"]
        del self.active[kind]
        return [f"Over at step {step:,}: {'the loss is a number' if kind == NOT_FINITE else 'the loss is usual'} again"]


def spread_of_neighbours(losses: list[float]) -> float:
    """How much neighbouring values vary, as a standard deviation, robustly and whatever their trend."""
    differences = [after - before for before, after in pairwise(losses)]
    if not differences:
        return 0.0
    middle = median(differences)
    return TO_NORMAL * median(abs(difference - middle) for difference in differences) / math.sqrt(2)


@dataclass
class _Idle:
    since: float
    last: float
    samples: int = 1


class GpuWatch:
    """Judges the samples of each GPU by itself: a mean or a maximum over GPUs would hide the one that idles."""

    def __init__(self, begun: float) -> None:
        """``begun``: when the training began; seconds on the clock of the samples."""
        self.active: dict[int, str] = {}
        self._from = begun + IDLE_GRACE
        self._idle: dict[int, _Idle] = {}

    def add(self, time: float, samples: Iterable[tuple[int, float | None]]) -> list[str]:
        """Take samples (GPU, percent in use) of one moment; gives what is to be said."""
        said = []
        for index, use in samples if time >= self._from else ():
            idle = self._idle.get(index)
            if use is None or use >= IDLE_BELOW:
                self._idle.pop(index, None)
                if self.active.pop(index, None):
                    said.append(f"Over: GPU {index} works again")
            elif idle is None or time - idle.last > IDLE_GAP:
                self._idle[index] = _Idle(time, time)
            else:
                idle.last, idle.samples = time, idle.samples + 1
                long = time - idle.since >= IDLE_WINDOW and idle.samples >= IDLE_SAMPLES
                if long and index not in self.active:
                    self.active[index] = (
                        f"GPU {index} has been idle (below {IDLE_BELOW:g}%) for {IDLE_WINDOW / 60:g} minutes: see "
                        "nvidia-smi, top and the disk; if no step gets done, stop it and start it again"
                    )
                    said.append(f"WARNING: {self.active[index]}")
        return said


class Watch:
    """Both, for one training."""

    def __init__(self, begun: float) -> None:
        self._loss, self._gpus = LossWatch(), GpuWatch(begun)

    def line(self, step: int, loss: float, grad_norm: float | None = None) -> list[str]:
        """A line of the log; see `LossWatch.add`."""
        return self._loss.add(step, loss, grad_norm)

    def gpus(self, time: float, samples: Iterable[tuple[int, float | None]]) -> list[str]:
        """A sample of the GPUs; see `GpuWatch.add`."""
        return self._gpus.add(time, samples)

    @property
    def active(self) -> tuple[str, ...]:
        """The warnings that hold now."""
        return (*self._loss.active.values(), *self._gpus.active.values())
