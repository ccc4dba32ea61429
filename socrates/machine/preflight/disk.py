"""Preflight of the disk: room for the model's download, the tokenized set, every checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import constants

from socrates.config import RunConfig
from socrates.machine.preflight.checks import FAIL, PASS, WARN, Check, gib
from socrates.machine.preflight.data import DataState
from socrates.machine.preflight.model import ModelState
from socrates.model.sizing import adapter_parameters

# Bytes of a checkpoint for each adapter parameter: bf16 weights twice (adapter, model states), both AdamW moments in
# bf16 (optimizer.pt), fp32 weights and both moments (the shards); and its small files, the tokenizer foremost.
_BYTES_PER_PARAMETER, _SMALL_FILES = 2 + 2 + 4 + 12, 20 * 2**20


def check_free_disk(unknown: str = "") -> Check:
    """How much disk is free, where it is not known how much a run needs; ``unknown`` says why, if there is a run."""
    free = f"{gib(shutil.disk_usage(Path()).free)} free"
    if not unknown:
        return Check("disk", PASS, free)
    return Check("disk", WARN, f"{free}; what the checkpoints need is unknown: {unknown}")


def check_disk(config: RunConfig, model: ModelState, data: DataState) -> Iterator[Check]:
    """Room for every checkpoint that is still to come (none is ever deleted), the download and the tokenized set.

    A line for each disk that is written to.
    """
    if model.shape is None or data.steps is None:
        yield check_free_disk("the data is not ready" if model.shape else "the model's shape is not known here")
        return
    output, cache = Path(config.output_dir), Path(constants.HF_HUB_CACHE)
    each = _BYTES_PER_PARAMETER * adapter_parameters(model.shape, config.lora) + _SMALL_FILES
    done = len(list(output.glob("checkpoint-*/manifest.json")))
    to_come = max(-(-data.steps // config.training.save_steps) - done, 0)
    needs = {
        output: (to_come * each, f"{to_come} checkpoints are to come, about {gib(each)} each"),
        cache: (model.missing_bytes, f"the model's download of about {gib(model.missing_bytes)}"),
        Path(config.dataset_path): (data.to_come, f"the tokenized set of about {gib(data.to_come)}"),
    }
    disks: dict[int, list[Path]] = {}
    for folder, (needed, _) in needs.items():
        if needed or folder == output:
            disks.setdefault(_device(_existing(folder)), []).append(folder)
    for folder, *others in disks.values():
        free = shutil.disk_usage(_existing(folder)).free
        total = sum(needs[item][0] for item in (folder, *others))
        text = f"{gib(free)} free for {folder}; {', and '.join(needs[item][1] for item in (folder, *others))}"
        if free >= total:
            yield Check("disk", PASS, text)
            continue
        remedy = f"free {gib(total - free)}, or rent a larger disk"
        if folder == cache:
            remedy += ", or write HF_HOME=FOLDER of a larger one into machine.env"
        if folder == output and to_come > 1:
            remedy += ', or write a larger "save_steps" in "training"'
        yield Check("disk", FAIL, f"{text}: {gib(total)}", remedy)


def _existing(folder: Path) -> Path:
    """The nearest folder above that is there: the disk on which this one will be."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _device(path: Path) -> int:
    return path.stat().st_dev
