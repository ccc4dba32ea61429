"""What a running training tells about itself, in files that anybody may read while it runs.

`.progress.json` in the output folder: how far it is, after every step. `training_log.jsonl`: a line every
`logging_steps`, with the loss, the speed and what the GPUs did. Both are rank 0's.

Covers: readers never see half a progress file; a line that a kill cut off does not spoil the next one; a disk that is
full does not end the training (that is told once). Does not cover: what the Trainer itself keeps in a checkpoint.
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from socrates.machine.gpus import GpuSampler

PROGRESS = ".progress.json"
TRAINING_LOG = "training_log.jsonl"
_FROM_THE_TRAINER = ("loss", "learning_rate", "grad_norm", "epoch")


@dataclass(frozen=True)
class Progress:
    """How far a training is. Times are seconds since 1970."""

    step: int
    max_steps: int
    time: float  # when that step was done
    started: float  # when this process began to train
    started_step: int  # and from which step


def read_progress(folder: Path | str) -> Progress | None:
    """The progress of the run with this output folder, or None where it has not told any."""
    try:
        value = json.loads((Path(folder) / PROGRESS).read_text(encoding="utf-8"))
        return Progress(
            int(value["step"]),
            int(value["max_steps"]),
            float(value["time"]),
            float(value["started"]),
            int(value["started_step"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Telemetry:
    """Writes the two files of one training; to be used by rank 0 alone."""

    def __init__(self, folder: Path, sampler: GpuSampler | None = None) -> None:
        self._folder = folder
        self._sampler = sampler or GpuSampler()
        self._told = False

    def begin(self, step: int, max_steps: int) -> None:
        """The training begins, or goes on from ``step``."""
        self._started, self._started_step = time.time(), step
        self._clock = self._last_clock = time.monotonic()
        self._last_tokens = 0.0
        self._sampler.start()
        self.step(step, max_steps)

    def step(self, step: int, max_steps: int) -> None:
        """Step ``step`` is done."""
        progress = Progress(step, max_steps, time.time(), self._started, self._started_step)
        self._try(lambda: _replace(self._folder / PROGRESS, json.dumps(asdict(progress)) + "\n"))

    def log(self, logs: dict[str, Any], step: int, max_steps: int) -> float | None:
        """Add a line to the log.

        Args:
            logs: what the Trainer logs; `num_tokens` counts those of all ranks since this process began.
            step: the step that was just done.
            max_steps: the last step of the run.

        Returns:
            Tokens a second, all ranks together, since the line before; None where that cannot be said.
        """
        now, tokens = time.monotonic(), _finite(logs.get("num_tokens"))
        speed = None
        if tokens is not None and now > self._last_clock:
            speed = round((tokens - self._last_tokens) / (now - self._last_clock), 1)
            self._last_tokens, self._last_clock = tokens, now
        line = {
            "time": round(time.time(), 3),
            "step": step,
            "max_steps": max_steps,
            **{name: _finite(logs.get(name)) for name in _FROM_THE_TRAINER},
            "tokens_per_second": speed,
            "elapsed_s": round(now - self._clock, 3),
            "gpu": self._sampler.take(),
        }
        self._try(lambda: _append_line(self._folder / TRAINING_LOG, json.dumps(line, allow_nan=False)))
        return speed

    def end(self) -> None:
        """The training is over."""
        self._sampler.stop()

    def _try(self, write: Any) -> None:
        try:
            write()
        except OSError as error:
            if not self._told:
                self._told = True
                where = f"{error.filename or self._folder}: {error.strerror or error}"
                print(f"Cannot write the progress of this run ({where}); the training goes on", flush=True)


def _replace(path: Path, text: str) -> None:
    """Put a whole file in the place of the old one; no flush to disk: the next step writes it anew."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _append_line(path: Path, line: str) -> None:
    with path.open("a+b") as file:
        end = file.seek(0, os.SEEK_END)
        cut_off = False
        if end:
            file.seek(end - 1)
            cut_off = file.read(1) != b"\n"
        file.write((b"\n" if cut_off else b"") + line.encode() + b"\n")


def _finite(value: Any) -> float | None:
    """A number that JSON can hold, else None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
