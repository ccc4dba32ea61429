"""Progress and training log: the lines of `.progress.json` and `training_log.jsonl`, written and read.

`.progress.json` in the output folder: how far it is, what it has used, what is wrong, after every step.
`training_log.jsonl`: a line every `logging_steps`, with the loss, the speed, the money and what the GPUs did.

Covers: readers never see half a progress file; a line that a kill cut off does not spoil the next one; what is missing,
half written or of a wrong type is None. Does not cover: what the Trainer itself keeps in a checkpoint.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from socrates.files import finite, whole_number
from socrates.telemetry.cost import Account, parse_account

PROGRESS = ".progress.json"
TRAINING_LOG = "training_log.jsonl"
_LOOKED_BACK = 2**20  # bytes of the log that a status reads
_WHOLE = ("step", "max_steps", "eval_step")


@dataclass(frozen=True)
class Progress:
    """How far a training is. Times are seconds since 1970.

    Attributes:
        step: the last one that was done, at ``time``.
        started: when this process began to train, from step ``started_step``.
        stopped: why it ended cleanly before its last step, once its checkpoint was complete.
        warnings: what looks wrong now.
        account: what all attempts have used.
    """

    step: int
    max_steps: int
    time: float
    started: float
    started_step: int
    stopped: str | None = None
    warnings: tuple[str, ...] = ()
    account: Account | None = None


@dataclass(frozen=True)
class LogLine:
    """A line of `training_log.jsonl`, or of a Trainer's history; what is missing or no number is None."""

    time: float | None = None
    step: int | None = None
    max_steps: int | None = None
    loss: float | None = None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    elapsed_s: float | None = None
    seconds_left: float | None = None
    padding_share: float | None = None
    mfu: float | None = None  # model FLOPs utilisation, a share
    eval_loss: float | None = None
    eval_step: int | None = None
    gpus: tuple[tuple[int, float | None], ...] = ()  # (index, mean utilization in percent)

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> LogLine:
        """A line from its JSON."""
        names = [name for name in cls.__dataclass_fields__ if name != "gpus"]
        numbers = {name: (whole_number if name in _WHOLE else finite)(value.get(name)) for name in names}
        samples = value.get("gpu") if isinstance(value.get("gpu"), list) else []
        gpus = [(gpu.get("index"), finite(gpu.get("utilization"))) for gpu in samples if isinstance(gpu, dict)]
        return cls(**numbers, gpus=tuple(gpus))


def parse_log(data: bytes) -> list[LogLine]:
    """The lines of a training log that name their step; half a line and anything else is left out."""
    lines = []
    for text in data.split(b"\n"):
        try:
            value = json.loads(text, parse_constant=lambda name: None)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and (line := LogLine.parse(value)).step is not None:
            lines.append(line)
    return lines


def read_log(path: Path, limit: int = _LOOKED_BACK) -> list[LogLine]:
    """The lines in the last ``limit`` bytes of a training log; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - limit, 0))
            return parse_log(file.read(limit))
    except OSError:
        return []


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line to a training log, on a line of its own also after one that was cut off."""
    with path.open("a+b") as file:
        end = file.seek(0, os.SEEK_END)
        cut_off = False
        if end:
            file.seek(end - 1)
            cut_off = file.read(1) != b"\n"
        file.write((b"\n" if cut_off else b"") + json.dumps(line, allow_nan=False).encode() + b"\n")


def read_progress(folder: Path | str) -> Progress | None:
    """The progress of the run with this output folder, or None where there is none that is complete."""
    try:
        value = json.loads((Path(folder) / PROGRESS).read_text(encoding="utf-8"))
        return Progress(
            int(value["step"]),
            int(value["max_steps"]),
            float(value["time"]),
            float(value["started"]),
            int(value["started_step"]),
            value.get("stopped"),
            tuple(value.get("warnings", ())),
            parse_account(value.get("account")),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_progress(folder: Path, progress: Progress) -> None:
    """Replace a run's progress; it is not flushed to disk: the next step replaces it."""
    temporary = folder / f"{PROGRESS}.tmp"
    temporary.write_text(json.dumps(asdict(progress)) + "\n", encoding="utf-8")
    temporary.replace(folder / PROGRESS)
