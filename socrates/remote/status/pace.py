"""How fast a training goes and where its loss goes, from the lines of its log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from socrates.remote.status.facts import LogLine, RunThere

_RECENT = 10  # lines of the training log that tell the pace
_TREND = 20  # lines of the training log that tell the trend


@dataclass(frozen=True)
class Trend:
    """The loss over the last lines of the log: means of their first and last quarter, and how many they were."""

    before: float
    after: float
    lines: int

    @property
    def word(self) -> str:
        """Falling, rising or level (within 1%)."""
        if abs(self.after - self.before) <= 0.01 * abs(self.before):
            return "level"
        return "falling" if self.after < self.before else "rising"


def current_lines(run: RunThere) -> tuple[LogLine, ...]:
    """The training log's lines of the last start that has any: steps and elapsed time grow within one."""
    lines = [line for line in run.lines if line.step is not None and line.time is not None]
    start = 0
    for at, (before, line) in enumerate(pairwise(lines), start=1):
        if starts_anew(before, line):
            start = at
    return tuple(lines[start:])


def starts_anew(before: LogLine, line: LogLine) -> bool:
    """Whether the second of two lines of a training log is another process's: it counts its time from its own begin."""
    if before.elapsed_s is not None and line.elapsed_s is not None and line.elapsed_s < before.elapsed_s:
        return True
    return any(
        b is not None and a is not None and a <= b for b, a in ((before.step, line.step), (before.time, line.time))
    )


def seconds_per_step(lines: Sequence[LogLine], run: RunThere) -> float | None:
    """Seconds a step by the last lines of one start; by the progress since its begin where there are none."""
    recent = lines[-_RECENT:]
    if len(recent) >= 2 and recent[-1].time > recent[0].time:
        return (recent[-1].time - recent[0].time) / (recent[-1].step - recent[0].step)
    p = run.progress
    if p is None or p.time is None or p.started is None or p.started_step is None:
        return None
    return (p.time - p.started) / (p.step - p.started_step) if p.step > p.started_step and p.time > p.started else None


def loss_trend(lines: Sequence[LogLine]) -> Trend | None:
    """Where the loss goes; None with fewer than four values."""
    losses = [line.loss for line in lines[-_TREND:] if line.loss is not None]
    if len(losses) < 4:
        return None
    part = len(losses) // 4
    return Trend(fmean(losses[:part]), fmean(losses[-part:]), len(losses))
