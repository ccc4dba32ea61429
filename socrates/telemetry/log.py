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
YEAR_3000 = 32503680000.0  # seconds since 1970
_LOOKED_BACK = 2**20  # bytes of the log that a resumed run reads


@dataclass(frozen=True)
class Progress:
    """How far a training is. Times are seconds since 1970; None where a record of an earlier version does not say.

    Attributes:
        step: the last one that was done, at ``time``.
        started: when this process began to train, from step ``started_step``.
        stopped: why it ended cleanly before its last step, once its checkpoint was complete.
        warnings: what looks wrong now.
        account: what all attempts have used.
    """

    step: int
    max_steps: int | None
    time: float | None
    started: float | None
    started_step: int | None
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
    padding_share: float | None = None
    mfu: float | None = None  # model FLOPs utilisation, a share
    eval_loss: float | None = None
    eval_step: int | None = None
    cost_usd: float | None = None  # of all attempts, on any machine, idle time not counted
    gpus: tuple[tuple[int, float | None], ...] = ()  # (index, mean utilization in percent)

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> LogLine:
        """A line from its JSON."""
        samples = value.get("gpu") if isinstance(value.get("gpu"), list) else []
        return cls(
            time=finite(value.get("time"), 0, YEAR_3000),
            step=whole_number(value.get("step")),
            max_steps=whole_number(value.get("max_steps"), 1),
            loss=finite(value.get("loss"), -1e9, 1e9),
            learning_rate=finite(value.get("learning_rate"), 0, 1e3),
            tokens_per_second=finite(value.get("tokens_per_second"), 0, 1e15),
            elapsed_s=finite(value.get("elapsed_s"), 0, 1e10),
            padding_share=finite(value.get("padding_share"), 0, 1),
            mfu=finite(value.get("mfu"), 0, 10),
            eval_loss=finite(value.get("eval_loss"), -1e9, 1e9),
            eval_step=whole_number(value.get("eval_step")),
            cost_usd=finite(value.get("cost_usd"), 0, 1e9),
            gpus=tuple(
                (index, finite(gpu.get("utilization"), 0, 100))
                for gpu in samples
                if isinstance(gpu, dict) and (index := whole_number(gpu.get("index"), 0, 1023)) is not None
            ),
        )

    def is_of_new_process(self, before: LogLine) -> bool:
        """Whether it was written by another process than the line before: that one counts its time from its start."""
        if before.elapsed_s is not None and self.elapsed_s is not None and self.elapsed_s < before.elapsed_s:
            return True
        pairs = ((before.step, self.step), (before.time, self.time))
        return any(b is not None and a is not None and a <= b for b, a in pairs)


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


def parse_progress(value: Any) -> Progress | None:
    """Progress from its JSON; None where it names no step."""
    if not isinstance(value, Mapping) or (step := whole_number(value.get("step"))) is None:
        return None
    stopped, warnings = value.get("stopped"), value.get("warnings")
    return Progress(
        step,
        whole_number(value.get("max_steps"), 1),
        finite(value.get("time"), 0, YEAR_3000),
        finite(value.get("started"), 0, YEAR_3000),
        whole_number(value.get("started_step")),
        stopped if isinstance(stopped, str) else None,
        tuple(text for text in warnings if isinstance(text, str)) if isinstance(warnings, list) else (),
        parse_account(value.get("account")),
    )


def read_progress(folder: Path | str) -> Progress | None:
    """The progress of the run with this output folder, or None where there is none that is complete."""
    try:
        progress = parse_progress(json.loads((Path(folder) / PROGRESS).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
    if progress is None or None in (progress.max_steps, progress.time, progress.started, progress.started_step):
        return None
    return progress


def write_progress(folder: Path, progress: Progress) -> None:
    """Replace a run's progress; it is not flushed to disk: the next step replaces it."""
    temporary = folder / f"{PROGRESS}.tmp"
    temporary.write_text(json.dumps(asdict(progress)) + "\n", encoding="utf-8")
    temporary.replace(folder / PROGRESS)
