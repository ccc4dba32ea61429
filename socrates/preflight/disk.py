"""Room on the disk for all that a run will write: the model's download, the tokenized set, every checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

from socrates.config import RunConfig
from socrates.model_shape import adapter_parameters
from socrates.preflight.checks import FAIL, PASS, WARN, Check, size
from socrates.preflight.data import DataState
from socrates.preflight.model import ModelState

# Bytes of a checkpoint for each adapter parameter: bf16 weights twice (adapter, model states), both AdamW moments in
# bf16 (optimizer.pt), fp32 weights and both moments (the shards); and its small files, the tokenizer foremost.
_BYTES_PER_PARAMETER, _SMALL_FILES = 2 + 2 + 4 + 12, 20 * 2**20


def checkpoint_bytes(config: RunConfig, model: ModelState) -> int | None:
    """What one checkpoint takes on disk, about; None where the model's shape is not known here."""
    if model.shape is None:
        return None
    return _BYTES_PER_PARAMETER * adapter_parameters(model.shape, config.lora) + _SMALL_FILES


def check_free_disk(root: Path) -> Check:
    """How much disk is free, where no run says how much it needs."""
    return Check("disk", PASS, f"{size(shutil.disk_usage(root).free)} free")


def check_disk(config: RunConfig, root: Path, model: ModelState, data: DataState) -> Check:
    """Room for every checkpoint that is still to come (none is ever deleted), the download and the tokenized set."""
    free = shutil.disk_usage(root).free
    each = checkpoint_bytes(config, model)
    if each is None or data.steps is None:
        why = "the model's shape is not known here" if each is None else "the data is not there yet"
        return Check("disk", WARN, f"{size(free)} free; what the checkpoints need is unknown: {why}")
    output = root / config.output_dir
    done = sum(1 for _ in output.glob("checkpoint-*/manifest.json")) if output.is_dir() else 0
    to_come = max(-(-data.steps // config.training.save_steps) - done, 0)
    checkpoints = "1 checkpoint is" if to_come == 1 else f"{to_come} checkpoints are"
    text = f"{size(free)} free; {checkpoints} to come, about {size(each)} each"
    if model.missing_bytes:
        text += f", and the model's download of about {size(model.missing_bytes)}"
    if data.tokenized_bytes_to_come:
        text += f", and the tokenized set of about {size(data.tokenized_bytes_to_come)}"
    others = model.missing_bytes + data.tokenized_bytes_to_come
    need = to_come * each + others
    if free >= need:
        return Check("disk", PASS, text)
    remedy = f"free {size(need - free)}, or rent a larger disk"
    fitting = max((free - others) // each, 0)  # checkpoints
    if to_come > 1 and fitting:
        remedy += f', or write "save_steps": {-(-data.steps // (fitting + done))} in "training"'
    return Check("disk", FAIL, f"{text}: {size(need)}", remedy)
