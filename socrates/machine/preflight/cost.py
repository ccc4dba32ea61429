"""Hours and dollars of a whole run, from its operations and an assumed utilisation of the GPUs."""

from __future__ import annotations

import math

from socrates.config import RunConfig
from socrates.machine.preflight.checks import PASS, WARN, Check
from socrates.machine.preflight.data import DataState
from socrates.machine.preflight.gpus import Gpu
from socrates.model.sizing import ASSUMED_UTILISATION, ModelShape, expected_seconds, peak_flops, training_flops


def check_cost(config: RunConfig, shape: ModelShape | None, data: DataState, gpus: list[Gpu], recomputed: int) -> Check:
    """What the run will take, and whether `max_cost_usd` lets it end.

    Args:
        config: the run.
        shape: of the model; None where it is not known.
        data: its rows.
        gpus: of the machine, in the order in which the run takes them.
        recomputed: layers that are computed twice.
    """
    hours = _hours(config, shape, data, gpus, recomputed)
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
    text += f"; max_cost_usd = {limit:g} would stop it at about step {affordable:,}"
    return Check("cost", WARN, text, remedy)


def _hours(
    config: RunConfig, shape: ModelShape | None, data: DataState, gpus: list[Gpu], recomputed: int
) -> float | str:
    """Of the whole run, or why they cannot be told."""
    if shape is None:
        return "the model's shape is not known here"
    if data.steps is None or data.tokens_a_row is None:
        return "the data is not there yet"
    used = gpus[: config.training.num_processes]
    if len(used) < config.training.num_processes:
        return "there are too few GPUs"
    peaks = [peak_flops(gpu.name) for gpu in used]
    unknown = sorted({gpu.name for gpu, peak in zip(used, peaks, strict=True) if peak is None})
    if unknown:
        return f"no peak is known of {', '.join(unknown)}"
    rows = data.steps * config.training.global_batch_size
    flops = training_flops(
        shape,
        config.lora,
        rows * data.tokens_a_row,
        attended=rows * data.tokens_a_row * (data.tokens_a_row + 1) / 2,
        answer_tokens=rows * data.answer_tokens_a_row,
        checkpointed_layers=recomputed,
    )
    slowest = min(peak for peak in peaks if peak is not None)
    seconds = expected_seconds(flops.with_recomputation, len(used), slowest)
    return (seconds or 0.0) / 3600
