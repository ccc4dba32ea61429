"""Progress and training log: the lines of `.progress.json` and `training_log.jsonl`, written and read.

`.progress.json` in the output folder: how far it is, what it has used, what is wrong, after every step.
`training_log.jsonl`: a line every `logging_steps`, with the loss, the speed, the money and what the GPUs did.

Covers: readers never see half a progress file; a line that a kill cut off does not spoil the next one; what is missing
or half written is None.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from socrates.files import finite
from socrates.telemetry.cost import Account, parse_account

PROGRESS = ".progress.json"
TRAINING_LOG = "training_log.jsonl"
_LOOKED_BACK = 2**20  # bytes of the log that a status reads


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
    """What others read of a line of `training_log.jsonl`; what is missing or no number is None."""

    time: float | None = None
    loss: float | None = None
    eval_loss: float | None = None
    tokens_per_second: float | None = None
    elapsed_s: float | None = None
    gpus: tuple[tuple[int, float | None], ...] = ()  # (index, mean utilization in percent)


def read_log(path: Path) -> list[LogLine]:
    """The lines at the end of a training log; none where it cannot be read, and half a line is left out."""
    names = [field.name for field in fields(LogLine) if field.name != "gpus"]
    lines = []
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _LOOKED_BACK, 0))
            texts = file.read(_LOOKED_BACK).split(b"\n")
    except OSError:
        return []
    for text in texts:
        try:
            value = json.loads(text, parse_constant=lambda name: None)
            gpus = tuple((int(gpu["index"]), finite(gpu["utilization"])) for gpu in value["gpu"])
            lines.append(LogLine(**{name: finite(value[name]) for name in names if name in value}, gpus=gpus))
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return lines


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line to a training log, on a line of its own also after one that was cut off."""
    with path.open("a+b") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
        cut_off = file.read(1) not in (b"", b"\n")
        file.write((b"\n" if cut_off else b"") + json.dumps(line, allow_nan=False).encode() + b"\n")


def read_progress(folder: Path | str) -> Progress | None:
    """The progress of the run with this output folder, or None where there is none that is complete."""
    try:
        value = json.loads((Path(folder) / PROGRESS).read_text(encoding="utf-8"))
        warnings, account = tuple(value.get("warnings", ())), parse_account(value.get("account"))
        return Progress(**{**value, "warnings": warnings, "account": account})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def write_progress(folder: Path, progress: Progress) -> None:
    """Replace a run's progress; it is not flushed to disk: the next step replaces it."""
    temporary = folder / f"{PROGRESS}.tmp"
    temporary.write_text(json.dumps(asdict(progress)) + "\n", encoding="utf-8")
    temporary.replace(folder / PROGRESS)
