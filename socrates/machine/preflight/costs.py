"""Preflight of what a run takes: disk, memory of its smallest GPU, hours and dollars.

Estimates all of them: of memory from above (`model/memory.py`), of time from operations and an assumed utilisation.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from socrates.config import RunConfig
from socrates.console import duration
from socrates.machine.preflight.checks import FAIL, GIB, PASS, WARN, Check, gib
from socrates.machine.preflight.gpus import Gpu
from socrates.machine.preflight.inputs import DataState, ModelState
from socrates.model import memory
from socrates.model.sizing import ASSUMED_UTILISATION, ModelShape, adapter_parameters, peak_flops, training_flops

# Bytes of a checkpoint for each adapter parameter: bf16 weights twice (adapter, model states), both AdamW moments in
# bf16 (optimizer.pt), fp32 weights and both moments (the shards); and its small files, the tokenizer foremost.
_BYTES_PER_PARAMETER, _SMALL_FILES = 2 + 2 + 4 + 12, 20 * 2**20


def check_costs(
    config: RunConfig, deepspeed: Mapping[str, Any] | None, model: ModelState, data: DataState, gpus: list[Gpu]
) -> Iterator[Check]:
    """All that a run takes of the ``gpus`` that are its own; without a DeepSpeed file the guide's settings count."""
    if model.shape is None:
        text = f"{free_disk()}; what the run takes is unknown: the model's shape is not known here"
        yield Check("costs", WARN, _saving(config, data) + text, "look at the log's first lines, and at status")
        return
    yield from check_disk(config, model.shape, model.missing_bytes, data)
    if gpus:
        bucket = (deepspeed or {}).get("zero_optimization", {}).get("reduce_bucket_size", memory.BUCKET_ELEMENTS)
        check, layers = _check_memory(config, bucket, model.shape, min(gpu.memory_bytes for gpu in gpus))
        yield check
        yield _check_cost(config, model.shape, data, gpus, layers)


def free_disk() -> str:
    """How much disk is free in the current folder, in words."""
    return f"{gib(shutil.disk_usage(Path()).free)} free"


def check_disk(config: RunConfig, shape: ModelShape, download: int, data: DataState) -> Iterator[Check]:
    """Room for every checkpoint that is still to come (none is ever deleted), the download and the tokenized set.

    A line for each disk that is written to.
    """
    if data.steps is None:
        yield Check("disk", WARN, f"{free_disk()}; what the checkpoints need is unknown: the data is not ready")
        return
    output, cache = Path(config.output_dir), Path(constants.HF_HUB_CACHE)
    each = _BYTES_PER_PARAMETER * adapter_parameters(shape, config.lora) + _SMALL_FILES
    done = len(list(output.glob("checkpoint-*/manifest.json")))
    to_come = max(-(-data.steps // config.training.save_steps) - done, 0)
    needs = {
        output: (to_come * each, f"{to_come} checkpoints are to come, about {gib(each)} each"),
        cache: (download, f"the model's download of about {gib(download)}"),
        Path(config.dataset_path): (data.to_come, f"the tokenized set of about {gib(data.to_come)}"),
    }
    disks: dict[int, list[Path]] = {}
    for folder, (needed, _) in needs.items():
        if needed or folder == output:
            disks.setdefault(_device(_existing(folder)), []).append(folder)
    for folders in disks.values():
        free = shutil.disk_usage(_existing(folders[0])).free
        total = sum(needs[folder][0] for folder in folders)
        text = f"{gib(free)} free for {folders[0]}; {', and '.join(needs[folder][1] for folder in folders)}"
        if free >= total:
            yield Check("disk", PASS, text)
            continue
        remedy = f"free {gib(total - free)}, or rent a larger disk"
        if cache in folders:
            remedy += ", or write HF_HOME=FOLDER of a larger one into machine.env"
        if output in folders and to_come > 1:
            remedy += ', or write a larger "save_steps" in "training"'
        yield Check("disk", FAIL, f"{text}: {gib(total)}", remedy)


def _existing(folder: Path) -> Path:
    """The nearest folder above that is there: the disk on which this one will be."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _device(path: Path) -> int:
    return path.stat().st_dev


def _check_memory(config: RunConfig, bucket: int, shape: ModelShape, room: int) -> tuple[Check, int]:
    """The check, and how many layers are counted as checkpointed; ``room``: bytes of the smallest GPU."""
    needed = memory.layers_to_checkpoint(shape, config, room, bucket)
    # The training itself takes more than the config says, where that turns out to be too few.
    wanted = min(config.training.checkpointed_layers or 0, shape.layers)
    layers = shape.layers if needed is None else max(needed, wanted)
    parts, tokens = memory.memory_parts(shape, config, layers, bucket), config.training.micro_batch_tokens
    total = sum(parts.values())
    text = (
        f"at most {total / GIB:.1f} of {room / GIB:.1f} GiB a GPU at {tokens} tokens at once, "
        f"{layers} of {shape.layers} layers checkpointed: "
    ) + ", ".join(f"{name} {number / GIB:.1f}" for name, number in parts.items())
    if needed is not None:
        return Check("memory", PASS, text), layers
    remedy = f"rent GPUs of {math.ceil(total / (1 - memory.MARGIN) / GIB)} GiB or more"
    free = room * (1 - memory.MARGIN) - (total - parts[memory.ACTIVATIONS])
    fitting = int(tokens * free / parts[memory.ACTIVATIONS]) // 128 * 128
    if fitting > 0:
        remedy = f'write "micro_batch_tokens": {fitting}, and a "max_length" of no more, in "training"; or {remedy}'
    outcome = FAIL if parts[memory.WEIGHTS] + parts[memory.ADAPTER] > room else WARN
    return Check("memory", outcome, text, remedy), layers


def _check_cost(config: RunConfig, shape: ModelShape, data: DataState, gpus: list[Gpu], layers: int) -> Check:
    """What the run will take, ``layers`` of it computed twice, and whether `max_cost_usd` lets it end."""
    peaks = {gpu.name: peak_flops(gpu.name) for gpu in gpus}
    unknown = [name for name, peak in peaks.items() if peak is None]
    why = f"no peak is known of {', '.join(unknown)}" if unknown else None
    if len(gpus) < config.training.num_processes:
        why = "there are too few GPUs"
    if data.steps is None or data.tokens_a_row is None:
        why = "the data is not ready"
    if why:
        text = f"{_saving(config, data)}not predicted: {why}"
        return Check("cost", WARN, text, "look at the log's first lines, and at status")
    tokens = data.steps * config.training.global_batch_size * data.tokens_a_row
    speed = len(gpus) * min(peaks.values()) * ASSUMED_UTILISATION
    hours = training_flops(shape, config.lora, tokens, layers) / speed / 3600
    share = f"{ASSUMED_UTILISATION:.0%} of the GPUs' peak (assumed, not measured)"
    text = f"{_saving(config, data, hours)}{data.steps:,} steps take about {duration(3600 * hours)}, at {share}"
    price, limit = config.price_per_hour, config.max_cost_usd
    if price is None:
        return Check("cost", WARN, f"{text}; what they cost is unknown", 'write "price_per_hour" into the config')
    cost = hours * price
    text += f": ${cost:,.2f} at ${price:.2f} an hour"
    if limit is None or cost <= limit:
        return Check("cost", PASS, text + (f", of at most ${limit:,.2f}" if limit is not None else ""))
    affordable = int(data.steps * limit / cost)
    remedy = f'write "max_cost_usd": {math.ceil(cost * 1.1)}, or fewer "max_steps" in "training"'
    return Check("cost", WARN, f"{text}; max_cost_usd = {limit:g} would stop it at about step {affordable:,}", remedy)


def _saving(config: RunConfig, data: DataState, hours: float | None = None) -> str:
    """What `data.rows_per_cell` saves of what all rows would take; empty where it is not set."""
    if not data.sizes:
        return ""
    cap, rows, price = config.data.rows_per_cell, sum(data.sizes), config.price_per_hour
    steps, taken = config.planned_steps(rows), sum(min(size, cap) for size in data.sizes)
    text = f"rows_per_cell = {cap} takes {taken:,} of {rows:,} rows, of all {len(data.sizes):,} cells "
    text += f"(all rows: {steps:,} steps"
    if hours is not None:
        hours *= steps / data.steps
        text += f", {duration(3600 * hours)}" + (f", ${hours * price:,.2f}" if price else "")
    return f"{text}); "
