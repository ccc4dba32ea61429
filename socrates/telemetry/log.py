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
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from socrates.files import finite
from socrates.telemetry.cost import Account
from socrates.telemetry.reading import read_as

PROGRESS = ".progress.json"
TRAINING_LOG = "training_log.jsonl"
_LOOKED_BACK = 2**20  # bytes of the log that a status reads


@dataclass(frozen=True)
class Progress:
    """How far a training is. Times are seconds since 1970."""

    step: int  # the last one that was done, at ``time``
    max_steps: int
    time: float
    started: float  # when this process began to train, from step ``started_step``
    started_step: int
    stopped: str | None = None  # why it ended cleanly before its last step, once its checkpoint was complete
    warnings: tuple[str, ...] = ()  # what looks wrong now
    account: Account | None = None  # what all attempts have used


def read_log(path: Path, since: float = 0.0) -> list[dict[str, Any]]:
    """The lines at the end of a training log, written at ``since`` or later; half a line is left out."""
    lines = []
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - _LOOKED_BACK, 0))
        for text in file.read(_LOOKED_BACK).split(b"\n"):
            with suppress(ValueError, TypeError, KeyError, RecursionError):
                value = json.loads(text)
                if since <= finite(value["time"]):  # TypeError: None is no time
                    lines.append(value)
    return lines


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line to a training log, on a line of its own also after one that was cut off."""
    with path.open("a+b") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
        cut_off = file.read(1) not in (b"", b"\n")
        file.write((b"\n" if cut_off else b"") + json.dumps(line, allow_nan=False).encode() + b"\n")


def read_progress(folder: Path | str) -> Progress | None:
    """The progress of the run with this output folder, or None where there is none that is complete."""
    with suppress(OSError, ValueError, TypeError, RecursionError):
        value = json.loads((Path(folder) / PROGRESS).read_text(encoding="utf-8"))
        with suppress(ValueError, TypeError):
            return read_as(Progress, value, low=0)
        return read_as(Progress, {**value, "account": None}, low=0)  # a damaged one takes neither step nor time away
    return None


def write_progress(folder: Path, progress: Progress) -> None:
    """Replace a run's progress; it is not flushed to disk: the next step replaces it."""
    temporary = folder / f"{PROGRESS}.tmp"
    temporary.write_text(json.dumps(asdict(progress)) + "\n", encoding="utf-8")
    temporary.replace(folder / PROGRESS)
