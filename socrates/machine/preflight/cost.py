"""Preflight of what a run takes: the memory of its smallest GPU, hours and dollars.

Both are estimates: of memory one from above (`model/memory.py`), of time one from operations and an assumed
utilisation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from socrates.config import RunConfig
from socrates.machine.preflight.checks import FAIL, GIB, PASS, WARN, Check
from socrates.machine.preflight.data import DataState
from socrates.machine.preflight.gpus import Gpu
from socrates.model.memory import MARGIN, MemoryPrediction, layers_to_checkpoint, memory_prediction, memory_settings
from socrates.model.sizing import ASSUMED_UTILISATION, ModelShape, expected_seconds, peak_flops, training_flops

# What a DeepSpeed file says where none is named: the guide's.
_USUAL = {"zero_optimization": {"reduce_bucket_size": 50_000_000}}
_SIZES = (24, 40, 48, 80, 96, 141, 180)  # GiB of GPUs that can be rented


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
    settings = memory_settings(config, deepspeed or _USUAL)
    room = min(gpu.memory_bytes for gpu in gpus)
    needed = layers_to_checkpoint(shape, config.lora, settings, room)
    # The training itself takes more than the config says, where that turns out to be too few.
    wanted = min(config.training.checkpointed_layers or 0, shape.layers)
    layers = shape.layers if needed is None else max(needed, wanted)
    estimate = memory_prediction(shape, config.lora, settings, layers)
    parts = {
        "weights": estimate.weights,
        "adapter, optimizer, gradients and buckets": estimate.adapter,
        "activations": estimate.activations,
        "CUDA and the allocator (assumed)": estimate.overhead,
    }
    text = (
        f"at most {estimate.total / GIB:.1f} of {room / GIB:.1f} GiB a GPU at {settings.tokens} tokens at once, "
        f"{layers} of {shape.layers} layers checkpointed: "
    ) + ", ".join(f"{name} {number / GIB:.1f}" for name, number in parts.items())
    if needed is not None:
        return Check("memory", PASS, text), layers
    hopeless = estimate.weights + estimate.adapter > room
    return Check("memory", FAIL if hopeless else WARN, text, "; or ".join(_remedies(config, estimate, room))), layers


def _remedies(config: RunConfig, estimate: MemoryPrediction, room: int) -> Iterator[str]:
    """What would make it fit, in numbers, the cheapest first."""
    free = room * (1 - MARGIN) - estimate.weights - estimate.adapter - estimate.overhead
    tokens = int(config.training.micro_batch_tokens * free / estimate.activations) // 128 * 128
    if tokens >= config.training.max_length:
        yield f'write "micro_batch_tokens": {tokens} in "training"'
    elif tokens > 0:
        yield (
            f'write "micro_batch_tokens": {tokens} and "max_length": {tokens} in "training" (longer rows get a shorter '
            "stimulus)"
        )
    needed = estimate.total / (1 - MARGIN) / GIB
    larger = next((size for size in _SIZES if size >= needed), None)
    yield f"rent GPUs of {larger} GiB or more" if larger else f"take a smaller model: no GPU has {needed:.0f} GiB"


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
    steps = "1 step takes" if data.steps == 1 else f"{data.steps:,} steps take"
    time = f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.0f} minutes"
    text = f"{steps} about {time}, at {ASSUMED_UTILISATION:.0%} of the GPUs' peak (assumed, not measured)"
    price, limit = config.price_per_hour, config.max_cost_usd
    if price is None:
        return Check("cost", WARN, f"{text}; what they cost is unknown", 'write "price_per_hour" into the config')
    cost = hours * price
    text += f": ${cost:,.2f} at ${price:.2f} an hour"
    if limit is None or cost <= limit:
        return Check("cost", PASS, text + (f", of at most ${limit:,.2f}" if limit is not None else ""))
    affordable = int((data.steps or 0) * limit / cost)
    remedy = f'write "max_cost_usd": {math.ceil(cost * 1.1)}'
    if affordable:
        remedy += f', or "max_steps": {affordable} in "training" for a run that ends by its schedule'
    return Check("cost", WARN, f"{text}; max_cost_usd = {limit:g} would stop it at about step {affordable:,}", remedy)


def _hours(config: RunConfig, shape: ModelShape | None, data: DataState, gpus: list[Gpu], layers: int) -> float | str:
    """Of the run, or why they are unknown."""
    if shape is None:
        return "the model's shape is not known here"
    if data.steps is None or data.tokens_a_row is None:
        return "the data is not there yet"
    if len(gpus) < config.training.num_processes:
        return "there are too few GPUs"
    peaks = {gpu.name: peak_flops(gpu.name) for gpu in gpus}
    known = [peak for peak in peaks.values() if peak is not None]
    if len(known) < len(peaks):
        return f"no peak is known of {', '.join(sorted(name for name, peak in peaks.items() if peak is None))}"
    tokens = data.steps * config.training.global_batch_size * data.tokens_a_row
    return expected_seconds(training_flops(shape, config.lora, tokens, layers), len(gpus), min(known)) / 3600
