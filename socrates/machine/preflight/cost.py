"""Preflight of what a run takes: the memory of its smallest GPU, hours and dollars.

Both are estimates: of memory one from above (`model/memory.py`), of time one from operations and an assumed
utilisation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from socrates.config import RunConfig
from socrates.machine.preflight.checks import FAIL, GIB, PASS, WARN, Check
from socrates.machine.preflight.data import DataState
from socrates.machine.preflight.gpus import Gpu
from socrates.model.memory import (
    ACTIVATIONS,
    ADAPTER,
    BUCKET_ELEMENTS,
    MARGIN,
    WEIGHTS,
    layers_to_checkpoint,
    memory_parts,
)
from socrates.model.sizing import ASSUMED_UTILISATION, ModelShape, peak_flops, training_flops


def check_memory(
    config: RunConfig, deepspeed: Mapping[str, Any] | None, shape: ModelShape | None, gpus: list[Gpu]
) -> tuple[Check, int]:
    """The check, and how many layers are counted as checkpointed.

    Args:
        config: the run.
        deepspeed: its DeepSpeed file; the guide's settings if None.
        shape: of the model; None where it is not known.
        gpus: that the run takes.
    """
    if shape is None:
        return Check("memory", WARN, "not estimated: the model's shape is not known here"), 0
    bucket = (deepspeed or {}).get("zero_optimization", {}).get("reduce_bucket_size", BUCKET_ELEMENTS)
    room = min(gpu.memory_bytes for gpu in gpus)
    needed = layers_to_checkpoint(shape, config, room, bucket)
    # The training itself takes more than the config says, where that turns out to be too few.
    wanted = min(config.training.checkpointed_layers or 0, shape.layers)
    layers = shape.layers if needed is None else max(needed, wanted)
    parts, tokens = memory_parts(shape, config, layers, bucket), config.training.micro_batch_tokens
    total = sum(parts.values())
    text = (
        f"at most {total / GIB:.1f} of {room / GIB:.1f} GiB a GPU at {tokens} tokens at once, "
        f"{layers} of {shape.layers} layers checkpointed: "
    ) + ", ".join(f"{name} {number / GIB:.1f}" for name, number in parts.items())
    if needed is not None:
        return Check("memory", PASS, text), layers
    remedy = f"rent GPUs of {math.ceil(total / (1 - MARGIN) / GIB)} GiB or more"
    free = room * (1 - MARGIN) - (total - parts[ACTIVATIONS])
    fitting = int(tokens * free / parts[ACTIVATIONS]) // 128 * 128
    if fitting > 0:
        remedy = f'write "micro_batch_tokens": {fitting}, and a "max_length" of no more, in "training"; or {remedy}'
    outcome = FAIL if parts[WEIGHTS] + parts[ADAPTER] > room else WARN
    return Check("memory", outcome, text, remedy), layers


def check_cost(config: RunConfig, shape: ModelShape | None, data: DataState, gpus: list[Gpu], layers: int) -> Check:
    """What the run will take, and whether `max_cost_usd` lets it end.

    Args:
        config: the run.
        shape: of the model; None where it is not known.
        data: its rows.
        gpus: that the run takes.
        layers: that are computed twice.
    """
    hours = _hours(config, shape, data, gpus, layers)
    if isinstance(hours, str):
        return Check("cost", WARN, f"not predicted: {hours}", "look at the log's first lines, and at status")
    time = f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.0f} minutes"
    share = f"{ASSUMED_UTILISATION:.0%} of the GPUs' peak (assumed, not measured)"
    text = f"{data.steps:,} steps take about {time}, at {share}"
    price, limit = config.price_per_hour, config.max_cost_usd
    if price is None:
        return Check("cost", WARN, f"{text}; what they cost is unknown", 'write "price_per_hour" into the config')
    cost = hours * price
    text += f": ${cost:,.2f} at ${price:.2f} an hour"
    if limit is None or cost <= limit:
        return Check("cost", PASS, text + (f", of at most ${limit:,.2f}" if limit is not None else ""))
    affordable = int((data.steps or 0) * limit / cost)
    remedy = f'write "max_cost_usd": {math.ceil(cost * 1.1)}, or fewer "max_steps" in "training"'
    return Check("cost", WARN, f"{text}; max_cost_usd = {limit:g} would stop it at about step {affordable:,}", remedy)


def _hours(config: RunConfig, shape: ModelShape | None, data: DataState, gpus: list[Gpu], layers: int) -> float | str:
    """Of the run, or why they are unknown."""
    if shape is None:
        return "the model's shape is not known here"
    if data.steps is None or data.tokens_a_row is None:
        return "the data is not ready"
    if len(gpus) < config.training.num_processes:
        return "there are too few GPUs"
    peaks = {gpu.name: peak_flops(gpu.name) for gpu in gpus}
    unknown = sorted(name for name, peak in peaks.items() if peak is None)
    if unknown:
        return f"no peak is known of {', '.join(unknown)}"
    slowest = min(peak for peak in peaks.values() if peak is not None)
    tokens = data.steps * config.training.global_batch_size * data.tokens_a_row
    flops = training_flops(shape, config.lora, tokens, layers)
    return flops / (len(gpus) * slowest * ASSUMED_UTILISATION) / 3600
