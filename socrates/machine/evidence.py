"""Evidence of the infrastructure test: what only the training machine knows of a run that has ended.

Covers: every byte of every checkpoint is read and compared with its manifest; only what belongs to the run's last start
counts, not what an earlier one left in the same folder. Does not cover: what it proves; see `remote/verify.py`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from socrates.checkpoint import MANIFEST, checkpoint_step, find_damage, list_checkpoints, read_manifest
from socrates.console import describe_exit
from socrates.errors import SocratesError
from socrates.files import finite, read_json, sha256_file, whole_number
from socrates.machine.run_state import SupervisorRecord
from socrates.telemetry.log import TRAINING_LOG, LogLine, read_log, read_progress
from socrates.telemetry.machine_report import CheckpointEvidence, GpuUse, RunEvidence

_ERROR = re.compile(r"(?:\[rank\d+\]: ?)?(?:error: |Traceback \(most recent call last\))")
_OUT_OF_MEMORY = re.compile(r"CUDA out of memory|OutOfMemoryError", re.IGNORECASE)
_ON_CPU = re.compile(r"\d CPU processes|ds_accelerator to cpu")


def find_evidence(run: str, log: str, record: SupervisorRecord | None) -> RunEvidence:
    """The evidence.

    Args:
        run: name of the run's folder in models/.
        log: its text log, where the record names no other.
        record: the supervisor's; left out where it is another run's.
    """
    folder = Path("models") / run
    if record and Path(record.output_dir).name != run:
        record = None
    log, offset = (record.log, record.log_offset) if record else (log, 0)
    text = _read_log(Path(log), offset)
    progress = read_progress(folder)
    started = seconds_of(record.started) if record else progress.started if progress else None
    lines = [line for line in read_log(folder / TRAINING_LOG) if (line.time or 0.0) >= (started or 0.0) - 5]
    checkpoints = list_checkpoints(folder)
    trainer: dict[str, Any] = {}
    with suppress(OSError, ValueError, IndexError):  # a loss may be NaN
        trainer = json.loads((checkpoints[0] / "trainer_state.json").read_text(), parse_constant=lambda name: None)
    sampled = any(line.gpus for line in lines)
    return RunEvidence(
        found=bool(checkpoints or progress or record or text is not None),
        log_name=log,
        log=text is not None,
        error=first_error(text or []),
        out_of_memory=next((line for line in text or [] if _OUT_OF_MEMORY.search(line)), None),
        supervisor=record.state if record else None,
        restarts=restarts_in_words(record),
        from_step=record.attempts[0].from_step if record and record.attempts else None,
        started=started,
        global_step=whole_number(trainer.get("global_step")),
        max_steps=whole_number(trainer.get("max_steps")),
        losses=tuple((item["step"], finite(item["loss"])) for item in trainer.get("log_history", ()) if "loss" in item),
        gpus=_gpu_use(lines),
        sampled=sampled,
        has_gpu=sampled or (shutil.which("nvidia-smi") is not None and not any(map(_ON_CPU.search, text or []))),
        checkpoints=tuple(_checkpoint(path) for path in checkpoints),
    )


def first_error(lines: list[str]) -> str | None:
    """The first line of a log that tells of an error, or None; what Python ignored at its exit is none."""
    for before, line in pairwise(["", *lines]):
        if _ERROR.match(line) and not before.startswith("Exception ignored"):
            return line
    return None


def restarts_in_words(record: SupervisorRecord | None) -> str:
    """How often a run was started again, and after what the last time; an empty text if never."""
    if record is None or not record.restarts:
        return ""
    times = "1 restart" if record.restarts == 1 else f"{record.restarts} restarts"
    crashed = [attempt for attempt in record.attempts[:-1] if attempt.exit_status is not None]
    if not crashed:
        return times
    return f"{times} (the last after step {crashed[-1].reached_step}: {describe_exit(crashed[-1].exit_status or 0)})"


def seconds_of(moment: str) -> float:
    """Seconds since 1970 of a time on record."""
    return datetime.fromisoformat(moment).timestamp()


def _read_log(path: Path, offset: int) -> list[str] | None:
    with suppress(OSError), path.open("rb") as file:
        file.seek(offset if offset <= file.seek(0, os.SEEK_END) else 0)
        return file.read().decode(errors="replace").splitlines()
    return None


def _gpu_use(lines: list[LogLine]) -> tuple[GpuUse, ...]:
    """Without the first line of each process, whose samples include the loading of the model."""
    uses: dict[int, list[float]] = {}
    for before, line in pairwise(lines):
        for index, use in line.gpus if (line.elapsed_s or 0.0) > (before.elapsed_s or 0.0) else ():
            if use is not None:
                uses.setdefault(index, []).append(use)
    return tuple(GpuUse(index, fmean(found), len(found)) for index, found in sorted(uses.items()))


def _checkpoint(folder: Path) -> CheckpointEvidence:
    step, damage = checkpoint_step(folder) or 0, find_damage(folder)
    try:
        manifest, created = read_manifest(folder), read_json(folder / MANIFEST).get("created")
    except SocratesError:
        return CheckpointEvidence(step, damage, None, None, {})
    sizes = {name: size for name, (size, _) in manifest.files.items() if "/" not in name}
    created = seconds_of(created) if isinstance(created, str) else None
    return CheckpointEvidence(step, damage, sha256_file(folder / MANIFEST), created, sizes)
