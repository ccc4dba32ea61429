"""Preflight of the GPUs: number, bf16, driver, memory, and the hours and dollars of the run.

Covers: memory of the run's smallest GPU; hours and dollars from its operations and an assumed utilisation.
Does not cover: other programs on a GPU, and the machine's own memory.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from socrates.config import RunConfig
from socrates.errors import SocratesError
from socrates.machine.preflight.checks import (
    FAIL,
    GIB,
    PASS,
    WARN,
    Check,
    check_driver,
    driver_cuda,
    is_installed,
    output_of,
    torch_cuda,
)
from socrates.machine.preflight.data import DataState
from socrates.model.memory import (
    MARGIN,
    MemoryPrediction,
    MemorySettings,
    layers_to_checkpoint,
    memory_prediction,
    memory_settings,
)
from socrates.model.sizing import ASSUMED_UTILISATION, ModelShape, expected_seconds, peak_flops, training_flops
from socrates.telemetry.gpus import gpu_numbers, named_gpus, numbers_of

_FIELDS = "index,name,memory.total,driver_version"
_AMPERE = (8, 0)  # the first compute capability whose tensor cores know bf16
# Of what nvidia-smi calls a GPU's memory, programs get so much; assumed (an A100 with 80 GiB offers torch 79.2).
_OFFERED = 0.985
# What a DeepSpeed file says where none is named: the guide's.
_USUAL = {"zero_optimization": {"stage": 2, "reduce_bucket_size": 50_000_000, "overlap_comm": True}}
_SIZES = (24, 40, 48, 80, 96, 141, 180)  # GiB of GPUs that can be rented


@dataclass(frozen=True)
class Gpu:
    """One GPU, as nvidia-smi names it."""

    index: int
    name: str
    memory_mib: int
    driver: str
    capability: tuple[int, int] | None = None  # None: this nvidia-smi does not tell

    @property
    def memory_bytes(self) -> int:
        """All of its memory."""
        return self.memory_mib * 2**20


def uses_cpus() -> bool:
    """Whether the training is to run on CPUs on purpose."""
    return os.environ.get("DS_ACCELERATOR") == "cpu"


def find_gpus() -> list[Gpu]:
    """The GPUs that nvidia-smi lists and CUDA_VISIBLE_DEVICES leaves; none where there is no nvidia-smi."""
    gpus = []
    for fields in (f"{_FIELDS},compute_cap", _FIELDS):  # old ones do not know compute_cap and list nothing then
        text = output_of(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"])
        gpus = [gpu for line in text.splitlines() if (gpu := _parse(line))]
        if gpus:
            break
    names = named_gpus(os.environ)
    if names is None:
        return gpus
    visible = [int(name) for name in names] if all(name.isdecimal() for name in names) else numbers_of(names)
    return [gpu for gpu in gpus if gpu.index in visible]


def check_gpu_count(gpus: list[Gpu], config: RunConfig | None) -> Iterator[Check]:
    """As many GPUs as the config has processes, that know bf16, and a driver that the installed torch can use."""
    wanted = config.training.num_processes if config else 0
    if uses_cpus():
        yield Check("GPUs", WARN, "DS_ACCELERATOR=cpu: trains on CPUs on purpose", "unset it to use GPUs")
        return
    kinds = sorted({f"{gpu.name} ({gpu.memory_mib / 1024:.0f} GiB)" for gpu in gpus})
    found = f"{len(gpus)} x {', '.join(kinds)}, driver {gpus[0].driver}" if gpus else "none"
    if not gpus or len(gpus) < wanted:
        needs = f"; the config has {wanted} processes" if wanted else ""
        yield Check("GPUs", FAIL, found + needs, _remedy(len(gpus), config))
        return
    try:
        gpu_numbers(os.environ, wanted)
        yield Check("GPUs", PASS, found + (f"; {wanted} are used" if wanted else ""))
    except SocratesError as error:  # the training would refuse it
        problem, _, remedy = str(error).partition("; ")
        yield Check("GPUs", FAIL, f"{found}; {problem}", remedy)
    yield check_driver(driver_cuda(), torch_cuda())
    if config is not None and config.training.bf16:
        yield _check_bf16(gpus[:wanted])


def _check_bf16(gpus: list[Gpu]) -> Check:
    unknown = [gpu for gpu in gpus if gpu.capability is None]
    without = sorted(
        {f"{gpu.name} ({_dotted(gpu.capability)})" for gpu in gpus if gpu.capability and gpu.capability < _AMPERE}
    )
    if without:
        remedy = (
            "rent GPUs with compute capability 8.0 or more (A100, L40S, H100), or write "
            '"bf16": false in "training" (fp32: twice the memory, and slow)'
        )
        return Check("bf16", FAIL, f"not on {', '.join(without)}", remedy)
    if unknown:
        return Check("bf16", WARN, "nvidia-smi does not tell the compute capability", "8.0 or more is needed")
    return Check("bf16", PASS, f"compute capability {_dotted(min(g.capability for g in gpus if g.capability))}")


def _remedy(found: int, config: RunConfig | None) -> str:
    remedy = "look at nvidia-smi, CUDA_VISIBLE_DEVICES, or rent another machine"
    if config is None or not found:
        return remedy
    batch = config.training.global_batch_size
    fitting = max(number for number in range(1, found + 1) if batch % number == 0)
    return f'{remedy}; or write "num_processes": {fitting} in "training" (a step stays {batch} examples)'


def _parse(line: str) -> Gpu | None:
    fields = [field.strip() for field in line.split(",")]
    if len(fields) not in (4, 5) or not fields[0].isdigit() or not fields[2].isdigit():
        return None
    match = re.fullmatch(r"(\d+)\.(\d+)", fields[4]) if len(fields) == 5 else None
    capability = (int(match[1]), int(match[2])) if match else None
    return Gpu(int(fields[0]), fields[1], int(fields[2]), fields[3], capability)


def _dotted(capability: tuple[int, int] | None) -> str:
    return f"{capability[0]}.{capability[1]}" if capability else "unknown"


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
    """Of the run, or why they are unknown."""
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


@dataclass(frozen=True)
class MemoryState:
    """What was predicted, and how many layers are recomputed."""

    layers: int
    prediction: MemoryPrediction


def check_memory(
    config: RunConfig, deepspeed: Mapping[str, Any] | None, shape: ModelShape | None, gpus: list[Gpu]
) -> tuple[Check, MemoryState | None]:
    """The check, and what was predicted (None where nothing can be).

    Args:
        config: the run.
        deepspeed: its DeepSpeed file; the guide's settings if None.
        shape: of the model; None where it is not known.
        gpus: of the machine, in the order in which the run takes them.
    """
    used = gpus[: config.training.num_processes]
    if shape is None or not used:
        why = "the model's shape is not known here" if shape is None else "there is no GPU to compare with"
        return Check("memory", WARN, f"not predicted: {why}"), None
    settings = memory_settings(config, deepspeed or _USUAL, liger=_uses_liger(config))
    room = int(min(gpu.memory_bytes for gpu in used) * _OFFERED)
    wanted = config.training.checkpointed_layers
    fitting = layers_to_checkpoint(shape, config.lora, settings, room)
    layers = min(wanted if wanted is not None else shape.layers if fitting is None else fitting, shape.layers)
    predicted = memory_prediction(shape, config.lora, settings, layers)
    chosen = ", as few as fit" if wanted is None and fitting is not None else ""
    text = _text(config, predicted, room, f"{layers} of {shape.layers} layers recomputed{chosen}")
    state = MemoryState(layers, predicted)
    if predicted.total <= room * (1 - MARGIN):
        return Check("memory", PASS, text), state
    remedies = list(_remedies(config, shape, settings, room, layers, fitting))
    outcome = FAIL if predicted.total > room else WARN
    return Check("memory", outcome, text, "; or ".join(remedies)), state


def _text(config: RunConfig, predicted: MemoryPrediction, room: int, layers: str) -> str:
    few = predicted.adapter + predicted.optimizer + predicted.gradients + predicted.buckets
    parts = {
        "weights": predicted.weights,
        "adapter, optimizer, gradients and buckets": few,
        "saved activations": predicted.activations,
        "working space": predicted.working,
        "CUDA and the allocator (assumed)": predicted.overhead,
    }
    parts_text = ", ".join(f"{name} {number / GIB:.1f}" for name, number in parts.items())
    return (
        f"{predicted.total / GIB:.1f} of {room / GIB:.1f} GiB a GPU predicted at {config.training.micro_batch_tokens} "
        f"tokens at once, {layers}: {parts_text}"
    )


def _remedies(
    config: RunConfig, shape: ModelShape, settings: MemorySettings, room: int, layers: int, fitting: int | None
) -> Iterator[str]:
    """What would make it fit, in numbers, the cheapest first."""
    wanted = config.training.checkpointed_layers
    if wanted is not None and fitting is not None and fitting > wanted:
        yield f'write "checkpointed_layers": {fitting} or null in "training"'
    tokens = _tokens_that_fit(config, shape, settings, room, layers)
    if tokens is not None and tokens >= config.training.max_length:
        yield f'write "micro_batch_tokens": {tokens} in "training"'
    elif tokens is not None:
        yield (
            f'write "micro_batch_tokens": {tokens} and "max_length": {tokens} in "training" (longer rows get a shorter '
            "stimulus)"
        )
    needed = memory_prediction(shape, config.lora, settings, layers).total / (1 - MARGIN) / _OFFERED / GIB
    larger = next((size for size in _SIZES if size >= needed), None)
    yield f"rent GPUs of {larger} GiB or more" if larger else f"take a smaller model: no GPU has {needed:.0f} GiB"


def _tokens_that_fit(
    config: RunConfig, shape: ModelShape, settings: MemorySettings, room: int, layers: int
) -> int | None:
    """The most tokens at once, in steps of 128; None where not even 128 fit."""
    for tokens in range(config.training.micro_batch_tokens // 128 * 128, 0, -128):
        answers = -(-settings.answer_tokens * tokens // settings.tokens)
        fewer = replace(settings, tokens=tokens, answer_tokens=answers)
        if memory_prediction(shape, config.lora, fewer, layers).total <= room * (1 - MARGIN):
            return tokens
    return None


def _uses_liger(config: RunConfig) -> bool:
    return config.training.liger_kernels is not False and is_installed("liger_kernel")
