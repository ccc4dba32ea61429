"""Evidence of the infrastructure test: what only the training machine knows of a run that has ended.

Covers: every byte of every checkpoint is read and compared with its manifest; only what belongs to the run's last start
counts, not what an earlier one left in the same folder. Does not cover: what it proves; see `remote/verify.py`.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from os.path import isfile  # Path's fails on a name that no file can have
from pathlib import Path
from statistics import fmean
from typing import Any

from socrates.checkpoint import MANIFEST, checkpoint_step, find_damage, list_checkpoints, read_manifest
from socrates.errors import SocratesError
from socrates.files import finite, read_json, sha256_file, whole_number
from socrates.machine.run_state import SupervisorRecord, read_end
from socrates.telemetry.log import TRAINING_LOG, read_log, read_progress
from socrates.telemetry.machine_report import CheckpointEvidence, RunEvidence

_ERROR = re.compile(r"(?:\[rank\d+\]: ?)?(?:error: |Traceback \(most recent call last\))")
_OUT_OF_MEMORY = re.compile(r"CUDA out of memory|OutOfMemoryError", re.IGNORECASE)
_LOG_BYTES = 2**28


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
    text = read_end(log, offset, _LOG_BYTES).splitlines()
    progress, checkpoints = read_progress(folder), list_checkpoints(folder)
    started = seconds_of(record.started) if record else progress.started if progress else None
    lines = read_log(folder / TRAINING_LOG, (started or 0.0) - 5)
    trainer, losses, log_found = {}, (), isfile(log)  # noqa: PTH113
    with suppress(SocratesError, LookupError, TypeError):  # there is none, or no trainer of ours wrote it
        trainer = read_json(checkpoints[0] / "trainer_state.json", nan_is_null=True)
        losses = tuple((whole_number(x["step"]) or 0, finite(x["loss"])) for x in trainer["log_history"] if "loss" in x)
    return RunEvidence(
        found=bool(checkpoints or progress or record or log_found),
        log_name=log,
        log=log_found,
        error=first_error(text),
        out_of_memory=next(filter(_OUT_OF_MEMORY.search, text), None),
        supervisor=record.state if record else None,
        restarts=record.restarts if record else 0,
        started=started,
        global_step=whole_number(trainer.get("global_step")),
        max_steps=whole_number(trainer.get("max_steps")),
        losses=losses,
        gpus=_gpu_use(lines),
        has_gpu=any(line.get("gpu") for line in lines),
        checkpoints=tuple(map(_checkpoint, checkpoints)),
    )


def first_error(lines: list[str]) -> str | None:
    """The first line of a log that tells of an error, or None; what Python ignored at its exit is none."""
    for before, line in pairwise(["", *lines]):
        if _ERROR.match(line) and not before.startswith("Exception ignored"):
            return line
    return None


def seconds_of(moment: str) -> float:
    """Seconds since 1970 of a time on record."""
    return datetime.fromisoformat(moment).timestamp()


def _gpu_use(lines: list[dict[str, Any]]) -> tuple[tuple[int, float, int], ...]:
    """Without the first line of each process, whose samples include the loading of the model."""
    uses: dict[int, list[float]] = {}
    for before, line in pairwise(lines):
        with suppress(LookupError, TypeError, ValueError, OverflowError):  # a line that is none of ours
            for gpu in line["gpu"] if line["elapsed_s"] > before["elapsed_s"] else ():
                if (use := finite(gpu["utilization"])) is not None:
                    uses.setdefault(int(gpu["index"]), []).append(use)
    return tuple((index, fmean(found), len(found)) for index, found in sorted(uses.items()))


def _checkpoint(folder: Path) -> CheckpointEvidence:
    step, damage, path = checkpoint_step(folder) or 0, find_damage(folder), folder / MANIFEST
    try:
        sizes = {name: size for name, (size, _) in read_manifest(folder).files.items() if "/" not in name}
    except SocratesError:
        return CheckpointEvidence(step, damage, None, None, {})
    return CheckpointEvidence(step, damage, sha256_file(path), path.stat().st_mtime, sizes)
