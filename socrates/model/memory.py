"""What a LoRA training takes of a GPU's memory, at most: an estimate, by which preflight tells whether a run fits, and
with how many layers checkpointed. A training tries it before its first step (`training/fitting.py`) and believes that.

Of a layer that is not checkpointed autograd saves what `layer_bytes` counts, as if every projection had an adapter with
dropout and no kernel of Liger's saved any of it; of a checkpointed one its input. Beyond that two layers' worth is
counted, for the layer that is computed again and for the gradients on their way, and the logits of the answers.
Checkpointed layers are the first ones: when they are computed again, all that the others saved has been freed.

Covers: ZeRO stages 1 and 2. What CUDA, its libraries and the allocator take is assumed, not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from socrates.config import LoraSettings, RunConfig
from socrates.model.sizing import ModelShape, adapter_parameters

# Assumed: CUDA's context, the kernels of cuBLAS and NCCL's channels; what the allocator cannot use of the memory that
# it holds, as a share of all that comes and goes in a step.
ASSUMED_CONTEXT_BYTES = int(1.5 * 2**30)
ASSUMED_FRAGMENTATION = 0.05
MARGIN = 0.06  # of a GPU's memory, left free
ASSUMED_ANSWER_SHARE = 1 / 16  # of a micro-batch's tokens, at most; rows have some 200 tokens, 2 or 3 of the answer

_DEFAULT_BUCKET = 500_000_000  # elements; DeepSpeed's


@dataclass(frozen=True)
class MemorySettings:
    """What, beside model and adapter, decides how much memory a process needs."""

    tokens: int  # of a micro-batch, at most
    ranks: int = 1  # processes among which ZeRO divides the optimizer
    bucket_elements: int = _DEFAULT_BUCKET  # gradients that are sent at once
    bf16: bool = True

    @property
    def element(self) -> int:
        """Bytes of a weight or an activation."""
        return 2 if self.bf16 else 4


@dataclass(frozen=True)
class MemoryPrediction:
    """Bytes of one GPU at the worst moment of a step."""

    weights: int
    adapter: int  # its weights, their gradients, this rank's share of the optimizer, and DeepSpeed's buckets
    activations: int  # saved for the backward pass, or in use
    overhead: int  # assumed

    @property
    def total(self) -> int:
        """Of all parts."""
        return self.weights + self.adapter + self.activations + self.overhead


def memory_settings(config: RunConfig, deepspeed: Mapping[str, Any]) -> MemorySettings:
    """The settings of a run with this DeepSpeed file."""
    return MemorySettings(
        tokens=config.training.micro_batch_tokens,
        ranks=config.training.num_processes,
        bucket_elements=int(deepspeed["zero_optimization"].get("reduce_bucket_size", _DEFAULT_BUCKET)),
        bf16=config.training.bf16,
    )


def memory_prediction(
    shape: ModelShape, lora: LoraSettings, settings: MemorySettings, checkpointed_layers: int = 0
) -> MemoryPrediction:
    """What one process takes of its GPU.

    Args:
        shape: of the model.
        lora: the adapter.
        settings: of the run.
        checkpointed_layers: how many layers, from the first on, are computed again backwards; more than all are all.
    """
    size, layer, again = settings.element, layer_bytes(shape, lora, settings.element), checkpointed_layers
    kept = max(shape.layers - again, 0) * layer + min(again, shape.layers) * size * shape.hidden
    # The logits of an answer's token, their fp32 copy, exponentials and two gradients, or the sum in float64.
    logits = int(settings.tokens * ASSUMED_ANSWER_SHARE) * shape.vocabulary * (size + 16)
    activations = settings.tokens * (kept + 2 * layer) + logits
    # Weights and a micro-batch's gradients; those added up, in fp32 (stage 1 keeps all of them); master weights and
    # both moments in fp32, divided. Buckets: one is filled while the other is sent.
    adapter = adapter_parameters(shape, lora) * (2 * size + 4 + 12 / settings.ranks)
    return MemoryPrediction(
        weights=size * shape.parameters,
        adapter=int(adapter) + 2 * 4 * settings.bucket_elements,
        activations=activations,
        overhead=ASSUMED_CONTEXT_BYTES + int(ASSUMED_FRAGMENTATION * activations),
    )


def layer_bytes(shape: ModelShape, lora: LoraSettings, size: int) -> int:
    """What autograd saves of one decoder layer for each token, at most; ``size`` is an activation's, in bytes."""
    inputs = sum(width for width, _ in shape.projections.values())
    norms = 2 * 4 * (shape.hidden + 1)  # their inputs in fp32, and 1 / their size
    adapters = (size + 1) * inputs + size * lora.r * len(shape.projections)  # inputs after dropout, its masks; r each
    attention = size * 2 * (shape.queries + shape.keys) + 4 * shape.heads  # in and out, and the sums' logarithms
    return norms + adapters + attention + 3 * size * shape.inner


def layers_to_checkpoint(shape: ModelShape, lora: LoraSettings, settings: MemorySettings, gpu_bytes: int) -> int | None:
    """How many layers to checkpoint, as few as fit, since each costs time; None if not even all of them suffice.

    Args:
        shape: of the model.
        lora: the adapter.
        settings: of the run.
        gpu_bytes: all memory of the GPU; a margin of it is left free.
    """
    room = gpu_bytes * (1 - MARGIN)
    layers = range(shape.layers + 1)
    return next((n for n in layers if memory_prediction(shape, lora, settings, n).total <= room), None)
