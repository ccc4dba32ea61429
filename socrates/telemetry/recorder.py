"""Telemetry recorder: after every step the progress, every `logging_steps` a line of the training log.

Rank 0 alone writes them (`log`). A full disk does not end the training, and is reported once.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from socrates.console import duration
from socrates.files import finite
from socrates.telemetry.cost import Account
from socrates.telemetry.gpus import GpuSample, start_sampling, summarize
from socrates.telemetry.health import Watch
from socrates.telemetry.log import TRAINING_LOG, Progress, append_line, write_progress

_FROM_THE_TRAINER = ("loss", "learning_rate", "grad_norm", "epoch", "mean_token_accuracy")
_RECENT = 10  # log lines whose pace tells the time left
_RECENT_STEPS = 50  # of these the slowest counts when a cost limit is near


class Telemetry:
    """Writes the two files of one training; to be used by rank 0 alone.

    Set ``stopped`` to the reason where the training is to end before its last step.
    """

    def __init__(
        self,
        folder: Path,
        *,
        before: Account | None = None,
        price_per_hour: float | None = None,
        peak_flops: float | None = None,
    ) -> None:
        """The process counts as paid for from its start.

        Args:
            folder: the output folder.
            before: what earlier attempts have used, in dollars where there is a price.
            price_per_hour: US dollars for the machine.
            peak_flops: all GPUs' floating point operations a second at best, dense, in the type that is trained in.
        """
        self._folder, self._before = folder, before or Account()
        self._price, self._peak_flops = price_per_hour, peak_flops
        self._samples: list[GpuSample] = []  # since the last line
        self._clock = time.monotonic()  # until the training begins
        self._paid_from = self._clock - _process_age()
        self._reported = False
        self._lock = threading.Lock()  # the sampler's thread writes, too
        self._progress: Progress | None = None
        self._warnings: tuple[str, ...] = ()
        self._eval: dict[str, Any] = {"eval_loss": None, "eval_step": None}
        self._steps: deque[float] = deque(maxlen=_RECENT_STEPS)  # seconds
        self._save: float | None = None
        self._totals: dict[str, float] = {}  # of this process, as the Trainer counts them
        self.stopped: str | None = None

    def begin(self, step: int, max_steps: int) -> None:
        """The training begins, or goes on from ``step``."""
        now = time.time()
        self._progress = Progress(step, max_steps, now, now, step)
        self._clock = self._last_line = self._last_step = time.monotonic()
        self._pace: deque[tuple[float, int]] = deque([(self._clock, step)], maxlen=_RECENT + 1)
        self._watch = Watch()
        start_sampling(self._sampled)
        self._update(account=self.account())

    def step(self, step: int, max_steps: int) -> None:
        """Step ``step`` is done."""
        now = time.monotonic()
        self._steps.append(now - self._last_step)
        self._last_step = now
        self._update(step=step, max_steps=max_steps, time=time.time(), account=self.account())

    def saved(self) -> None:
        """A checkpoint was written, begun when the last step was done."""
        now = time.monotonic()
        self._save = max(self._save or 0.0, now - self._last_step)
        self._last_step = now

    def log(self, logs: dict[str, Any], step: int, max_steps: int) -> dict[str, Any]:
        """Add a line to the log; gives what of it is known and worth printing.

        Args:
            logs: what the Trainer logs; `num_tokens` and `model_flops` count all ranks' since this process began,
                `peak_memory_bytes` is the most that the tensors of any rank have taken, and an `eval_loss`, taken after
                this step, stands in the lines until the next one.
            step: the step that was just done.
            max_steps: the last step of the run.
        """
        now = time.monotonic()
        seconds, self._last_line = now - self._last_line, now
        speed, flops = (self._gained(name, logs, seconds) for name in ("num_tokens", "model_flops"))
        mfu = flops / self._peak_flops if flops is not None and self._peak_flops else None
        left, account = self._seconds_left(now, step, max_steps), self.account()
        expected = None if left is None or account.usd is None else account.usd + self._price * left / 3600
        if "eval_loss" in logs:
            self._eval = {"eval_loss": finite(logs["eval_loss"]), "eval_step": step}
        self._watch.line(step, logs.get("loss", math.nan), logs.get("grad_norm"))
        self._say_changes()
        with self._lock:
            gpus, self._samples = summarize(self._samples), []
        line = {
            "time": round(time.time(), 3),
            "step": step,
            "max_steps": max_steps,
            **{name: finite(logs.get(name)) for name in _FROM_THE_TRAINER},
            **self._eval,
            "tokens_per_second": _rounded(speed, 1),
            "mfu": _rounded(mfu, 4),
            "peak_memory_bytes": finite(logs.get("peak_memory_bytes")),
            "elapsed_s": round(now - self._clock, 3),
            "seconds_left": _rounded(left, 1),
            "cost_usd": _rounded(account.usd, 4),
            "expected_cost_usd": _rounded(expected, 2),
            "gpu": gpus,
            "warnings": list(self._warnings),
        }
        self._try(lambda: append_line(self._folder / TRAINING_LOG, line))
        uses = [gpu["utilization"] for gpu in gpus if gpu["utilization"] is not None]
        printed = {
            "tokens_per_second": line["tokens_per_second"],
            "mfu": line["mfu"],
            "gpu_utilization": min(uses, default=None),
            "peak_memory_gib": line["peak_memory_bytes"] and line["peak_memory_bytes"] / 2**30,
            "summary": _in_words(line, account.seconds),
        }
        return {name: value for name, value in printed.items() if value is not None}

    def account(self) -> Account:
        """What all attempts have used until now."""
        before, seconds = self._before, time.monotonic() - self._paid_from
        return replace(
            before,
            attempts=before.attempts + 1,
            seconds=round(before.seconds + seconds, 3),
            usd=None if self._price is None else (before.usd or 0.0) + self._price * seconds / 3600,
            step_seconds=max(self._steps, default=before.step_seconds),
            save_seconds=self._save,
        )

    def end(self) -> None:
        """The training is over: complete, or ``stopped``."""
        self._update(stopped=self.stopped, account=self.account())

    def _gained(self, name: str, logs: dict[str, Any], seconds: float) -> float | None:
        """How much a count that grows from 0 since this process began has grown a second since the last line."""
        if (total := finite(logs.get(name))) is None or not seconds:
            return None
        before, self._totals[name] = self._totals.get(name, 0.0), total
        return (total - before) / seconds

    def _seconds_left(self, now: float, step: int, max_steps: int) -> float | None:
        then, at = self._pace[0]
        self._pace.append((now, step))
        return (max_steps - step) * (now - then) / (step - at) if step > at else None

    def _sampled(self, samples: Sequence[GpuSample]) -> None:
        """The GPUs' state, from the sampler's thread: a training that hangs writes no line of its own."""
        with self._lock:
            self._samples += samples
        self._watch.gpus(time.monotonic(), [(sample.index, sample.utilization) for sample in samples])
        if self._say_changes():
            self._update()

    def _say_changes(self) -> bool:
        """Print the warnings that hold since now, and those that are over; whether there are any."""
        with self._lock:
            before, self._warnings = self._warnings, tuple(self._watch.active.values())
        began = [f"WARNING: {text}" for text in self._warnings if text not in before]
        over = [f"Over: {text.partition(':')[0]}" for text in before if text not in self._warnings]
        with suppress(OSError):  # the log's disk is full
            for text in began + over:
                print(text, flush=True)
        return bool(began or over)

    def _update(self, **changes: Any) -> None:
        """Write the progress with these changes; nothing before the training begins."""
        with self._lock:
            if self._progress:
                self._progress = replace(self._progress, warnings=self._warnings, **changes)
                self._try(lambda: write_progress(self._folder, self._progress))

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            if not self._reported:
                self._reported = True
                where = f"{error.filename or self._folder}: {error.strerror or error}"
                print(f"Cannot write the progress of this run ({where}); the training goes on", flush=True)


def _in_words(line: dict[str, Any], seconds: float) -> str | None:
    """Time and money of all attempts in one sentence; None without a price."""
    if line["cost_usd"] is None:
        return None
    spent = f"step {line['step']:,} of {line['max_steps']:,}: {duration(seconds)}, ${line['cost_usd']:,.2f} so far"
    if line["expected_cost_usd"] is None:
        return spent
    return f"{spent}, about ${line['expected_cost_usd']:,.2f} at the end ({duration(line['seconds_left'])} left)"


def _process_age() -> float:
    """Seconds since this process was started."""
    return max(time.time() - psutil.Process().create_time(), 0.0)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
