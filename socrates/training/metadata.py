"""`training_metadata.json`: what a run was and what it took, written when it ends, complete or stopped.

Of a crashed run its checkpoints, `training_log.jsonl` and `.progress.json` tell.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.environment import get_driver_version

from socrates.checkpoint import MANIFEST, list_checkpoints
from socrates.errors import SocratesError
from socrates.files import write_json
from socrates.telemetry.recorder import Telemetry

TRAINING_METADATA = "training_metadata.json"


def write_training_metadata(folder: Path, record: dict[str, Any], state: Any, telemetry: Telemetry) -> None:
    """Write the file; where that cannot be done, say so: the training itself is safe.

    Times are in seconds; tokens, cost and speed are of all attempts; None is unknown.

    Args:
        folder: the run's output folder.
        record: what `training_config.json` says (config, versions, data).
        state: the Trainer's, at the end.
        telemetry: what the run has used.
    """
    account, last = telemetry.account(), telemetry.last
    examples = record.get("config", {}).get("training", {}).get("global_batch_size")
    tokens, trained = account.tokens, account.training_seconds
    value = {
        **record,
        "machine": machine(),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "how_it_ended": f"stopped: {telemetry.stopped}" if telemetry.stopped else "complete",
        "steps": state.global_step,
        "max_steps": state.max_steps,
        "examples": None if examples is None else state.global_step * examples,
        "tokens": tokens,
        "attempts": account.attempts,
        "wall_time_s": account.seconds,
        "training_time_s": trained,
        "cost_usd": None if account.usd is None else round(account.usd, 4),
        "mean_tokens_per_second": round(tokens / trained, 1) if tokens is not None and trained > 0 else None,
        "mean_mfu": telemetry.utilization,
        "peak_memory_bytes": account.peak_memory_bytes,
        "final_loss": last.get("loss"),
        "last_eval_loss": last.get("eval_loss"),
        "last_eval_step": last.get("eval_step"),
        "warnings": last.get("warnings", []),
        "checkpoints": [path.name for path in reversed(list_checkpoints(folder)) if (path / MANIFEST).is_file()],
    }
    try:
        write_json(folder / TRAINING_METADATA, value)
    except SocratesError as error:
        print(f"Cannot write what the run was: {error}", flush=True)


def machine() -> dict[str, Any]:
    """The machine, without its name: GPUs, driver, processors, Python."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    driver = None
    with suppress(OSError, subprocess.SubprocessError):
        driver = get_driver_version() if gpus else None
    return {
        "gpus": gpus,
        "num_gpus": len(gpus),
        "driver": driver,
        "cuda": torch.version.cuda if gpus else None,
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": sys.version.split()[0],
    }
