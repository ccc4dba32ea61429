"""What a LoRA training takes of a GPU's memory, part by part, and how many layers need activation checkpointing.

What autograd saves of a decoder layer follows from its operations (transformers' Qwen2DecoderLayer under PEFT's LoRA,
frozen base weights): see `saved_layer_bytes`. The tests compare it, byte by byte, with what torch saves on a CPU, where
the flash attention kernel saves what the GPU's does (queries, keys, values, output, logarithms of the sums); Liger's
kernels and the dropout's mask of one byte, which are the GPU's alone, are read off their sources.

Checkpointed layers are the first ones: when they are recomputed, all that the others saved has been freed, so that the
working space of a recomputation takes room that is free by then.

Covers: ZeRO stages 1 and 2. Does not cover: what CUDA, its libraries and the allocator take, which is assumed (see
`ASSUMED_CONTEXT_BYTES`); not measured on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from socrates.config import LoraSettings, RunConfig
from socrates.model.sizing import ModelShape, adapter_parameters, gradient_flow

# Assumed, not measured: CUDA's context, the kernels of cuBLAS and NCCL's channels; what the allocator cannot use of
# the memory that it holds, as a share of all that comes and goes in a step.
ASSUMED_CONTEXT_BYTES = int(1.5 * 2**30)
ASSUMED_FRAGMENTATION = 0.05
MARGIN = 0.06  # of a GPU's memory, left free: predictions miss
ASSUMED_ANSWER_SHARE = 1 / 16  # of a micro-batch's tokens, at most; rows have some 200 tokens, 2 or 3 of the answer

_DEFAULT_BUCKET = 500_000_000  # elements; DeepSpeed's


@dataclass(frozen=True)
class MemorySettings:
    """What, beside model and adapter, decides how much memory a process needs."""

    tokens: int  # of a micro-batch, at most
    answer_tokens: int  # of these, with a label
    ranks: int  # processes among which ZeRO divides
    zero_stage: int = 2
    bucket_elements: int = _DEFAULT_BUCKET  # gradients that are sent at once
    overlap: bool = False  # a second bucket is filled while the first is sent
    bf16: bool = True
    liger: bool = False  # Liger's RMSNorm and SwiGLU
    dense_mask: bool = False  # sdpa with a block-diagonal mask: keys and values for all heads, a bias for all pairs
    mask_bytes: int = 1  # of an element of dropout's mask, on a GPU; a CPU keeps it in the inputs' type

    @property
    def element(self) -> int:
        """Bytes of a weight or an activation."""
        return 2 if self.bf16 else 4


@dataclass(frozen=True)
class MemoryPrediction:
    """Bytes on one GPU at the worst moment of a step; `total` is the sum of the others."""

    weights: int
    adapter: int
    optimizer: int  # this rank's part of the fp32 master weights and both moments
    gradients: int
    buckets: int
    activations: int  # saved for the backward pass
    working: int  # of one layer's recomputation and backward pass, or of the logits, beyond what is saved
    overhead: int  # assumed

    @property
    def total(self) -> int:
        """Of all parts."""
        return sum(getattr(self, field.name) for field in fields(self))


def memory_settings(
    config: RunConfig,
    deepspeed: Mapping[str, Any],
    *,
    liger: bool = False,
) -> MemorySettings:
    """The settings of a run.

    Args:
        config: the run.
        deepspeed: its DeepSpeed file.
        liger: whether Liger's kernels are used.
    """
    zero, tokens = deepspeed["zero_optimization"], config.training.micro_batch_tokens
    return MemorySettings(
        tokens=tokens,
        answer_tokens=int(tokens * ASSUMED_ANSWER_SHARE),
        ranks=config.training.num_processes,
        zero_stage=zero["stage"],
        bucket_elements=int(zero.get("reduce_bucket_size", _DEFAULT_BUCKET)),
        overlap=bool(zero.get("overlap_comm", False)),
        bf16=config.training.bf16,
        liger=liger,
    )


def memory_prediction(
    shape: ModelShape, lora: LoraSettings, settings: MemorySettings, checkpointed_layers: int = 0
) -> MemoryPrediction:
    """What one process will take of its GPU.

    Args:
        shape: of the model.
        lora: the adapter.
        settings: of the run.
        checkpointed_layers: how many layers, from the first on, are recomputed backwards; more than all are all.
    """
    size, parameters = settings.element, adapter_parameters(shape, lora)
    mine = -(-parameters // settings.ranks)
    # DeepSpeed 0.19, where it adds up micro-batches: stage 1 keeps all gradients in fp32 and sends them so, stage 2
    # keeps its own alone. Beside them the gradients of a micro-batch.
    sent = 4 if settings.zero_stage == 1 else size
    gradients = size * parameters + (4 * parameters if settings.zero_stage == 1 else size * mine)
    activations, working = _activations(shape, lora, settings, min(checkpointed_layers, shape.layers))
    return MemoryPrediction(
        weights=size * shape.parameters,
        adapter=size * parameters,
        optimizer=12 * mine,
        gradients=gradients,
        buckets=sent * settings.bucket_elements * (2 if settings.overlap else 1),
        activations=activations,
        working=working,
        overhead=ASSUMED_CONTEXT_BYTES + int(ASSUMED_FRAGMENTATION * (activations + working)),
    )


def layers_to_checkpoint(
    shape: ModelShape, lora: LoraSettings, settings: MemorySettings, gpu_bytes: int, margin: float = MARGIN
) -> int | None:
    """How many layers to checkpoint: as few as fit, since each costs time; None if not even all of them suffice.

    Args:
        shape: of the model.
        lora: the adapter.
        settings: of the run.
        gpu_bytes: all memory of the GPU.
        margin: share of it that is to stay free.
    """
    for layers in range(shape.layers + 1):
        if memory_prediction(shape, lora, settings, layers).total <= gpu_bytes * (1 - margin):
            return layers
    return None


def saved_layer_bytes(shape: ModelShape, lora: LoraSettings, settings: MemorySettings, *, first: bool = False) -> int:
    """What autograd saves of one decoder layer that is not checkpointed, for each token of the micro-batch.

    A frozen matrix saves nothing of its input; an adapted one saves what goes into each factor: the input, after its
    dropout (a copy of its own, and the mask) or, without dropout, as it is, shared by all that read it.

    Args:
        shape: of the model.
        lora: the adapter.
        settings: of the run.
        first: the first layer, whose input needs no gradient.
    """
    size, adapted = settings.element, set(lora.target_modules)
    flow = gradient_flow(adapted, first)
    norm = size * shape.hidden + 4 if settings.liger else 4 * shape.hidden + 4  # its input (in fp32), 1 / its size
    saved = norm * (flow.input + flow.middle)
    for name in adapted:
        inputs, _ = shape.projections[name]
        saved += size * lora.r
        if lora.dropout:
            saved += size * inputs + (settings.mask_bytes * inputs if flow.into(name) else 0)
    if not lora.dropout:
        saved += size * shape.hidden * bool(adapted & {"q_proj", "k_proj", "v_proj"})
        saved += size * shape.hidden * bool(adapted & {"gate_proj", "up_proj"})
        saved += size * shape.inner * ("down_proj" in adapted)
        saved += size * shape.queries * ("o_proj" in adapted and not flow.attention)  # else the attention's output
    if flow.attention:
        # With a mask, keys and values are copied for all heads; those of a single head are only looked at again.
        keys = shape.queries if settings.dense_mask and shape.kv_heads > 1 else shape.keys
        saved += size * (2 * shape.queries + 2 * keys) + 4 * shape.heads
        saved += size * settings.tokens if settings.dense_mask else 0
    if settings.liger:  # it computes SiLU again
        saved += 2 * size * shape.inner * (flow.gate or flow.up)
    else:  # SiLU's input; both factors of the product, each for the other's gradient
        saved += size * shape.inner * (2 * flow.gate + flow.up)
    return saved


def _activations(shape: ModelShape, lora: LoraSettings, settings: MemorySettings, checkpointed: int) -> tuple[int, int]:
    """Bytes saved when the backward pass begins, and what is taken beyond them at the worst moment after that."""
    size, tokens = settings.element, settings.tokens
    layer = saved_layer_bytes(shape, lora, settings)
    others = max(shape.layers - checkpointed - (checkpointed == 0), 0)
    first = saved_layer_bytes(shape, lora, settings, first=True) if checkpointed == 0 else 0
    norm = (size if settings.liger else 4) * shape.hidden + 4  # the last one
    positions = 2 * size * shape.head_size  # cosines and sines, for all layers; and the mask
    kept = size * shape.hidden * checkpointed + positions + (tokens if settings.dense_mask else 0)
    saved = tokens * (kept + others * layer + first + norm)
    # The logits, as the caller may keep them; in fp32 their copy, exponentials and two gradients, or the float64 sum.
    logits = settings.answer_tokens * shape.vocabulary * (size + 4 + 4 + 8)
    # A norm's gradient takes five fp32 tensors; an MLP's, two as wide as it is, and one more forwards.
    backward = tokens * max(20 * shape.hidden, 2 * size * shape.inner + size * shape.hidden)
    moments = [max(logits, backward)]
    if checkpointed:  # the last of the checkpointed ones: whole, among the inputs of the others
        moments.append(tokens * (kept + layer) + backward - saved)
    return saved, max(moments)
