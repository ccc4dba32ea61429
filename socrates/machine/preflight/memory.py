"""Whether a run fits into its GPUs' memory: what `memory.py` predicts, against what nvidia-smi tells.

Covers: one GPU of the run, the smallest. Does not cover: other programs on it, and the machine's own memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from socrates.config import RunConfig
from socrates.machine.preflight.checks import FAIL, GIB, PASS, WARN, Check
from socrates.machine.preflight.gpus import Gpu
from socrates.machine.preflight.software import is_installed
from socrates.model.memory import (
    MARGIN,
    MemoryPrediction,
    MemorySettings,
    layers_to_checkpoint,
    memory_prediction,
    memory_settings,
)
from socrates.model.sizing import ModelShape

# Of what nvidia-smi calls a GPU's memory, programs get so much; assumed (an A100 with 80 GiB offers torch 79.2).
_OFFERED = 0.985
# What a DeepSpeed file says where none is named: the guide's.
_USUAL = {"zero_optimization": {"stage": 2, "reduce_bucket_size": 50_000_000, "overlap_comm": True}}
_SIZES = (24, 40, 48, 80, 96, 141, 180)  # GiB of GPUs that can be rented


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
    asked = config.training.checkpointed_layers
    fitting = layers_to_checkpoint(shape, config.lora, settings, room)
    layers = min(asked if asked is not None else shape.layers if fitting is None else fitting, shape.layers)
    predicted = memory_prediction(shape, config.lora, settings, layers)
    chosen = ", as few as fit" if asked is None and fitting is not None else ""
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
    told = ", ".join(f"{name} {number / GIB:.1f}" for name, number in parts.items())
    return (
        f"{predicted.total / GIB:.1f} of {room / GIB:.1f} GiB a GPU predicted at {config.training.micro_batch_tokens} "
        f"tokens at once, {layers}: {told}"
    )


def _remedies(
    config: RunConfig, shape: ModelShape, settings: MemorySettings, room: int, layers: int, fitting: int | None
) -> Iterator[str]:
    """What would make it fit, in numbers, the cheapest first."""
    asked = config.training.checkpointed_layers
    if asked is not None and fitting is not None and fitting > asked:
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
