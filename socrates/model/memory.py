"""What a LoRA training takes of a GPU's memory, at most: an estimate, by which preflight tells whether a run fits, and
with how many layers checkpointed. A training tries it before its first step (`training/fitting.py`) and believes that.

Of a layer that is not checkpointed autograd saves what `_layer_bytes` counts, as if every projection had an adapter
with dropout and no kernel of Liger's saved any of it; of a checkpointed one its input. Beyond that two layers' worth is
counted, for the layer that is computed again and for the gradients on their way, and the logits of the answers.
What CUDA, its libraries and the allocator take is assumed, not measured.
"""

from __future__ import annotations

from socrates.config import LoraSettings, RunConfig
from socrates.model.sizing import ModelShape, adapter_parameters

# Assumed: CUDA's context, the kernels of cuBLAS and NCCL's channels; what the allocator cannot use of the memory that
# it holds, as a share of all that comes and goes in a step.
ASSUMED_CONTEXT_BYTES = int(1.5 * 2**30)
ASSUMED_FRAGMENTATION = 0.05
MARGIN = 0.06  # of a GPU's memory, left free
ASSUMED_ANSWER_SHARE = 1 / 16  # of a micro-batch's tokens, at most; rows have some 200 tokens, 2 or 3 of the answer
BUCKET_ELEMENTS = 50_000_000  # of gradients that are sent at once: `reduce_bucket_size` of the guide's DeepSpeed files

WEIGHTS, ADAPTER = "weights", "adapter, optimizer, gradients and buckets"
ACTIVATIONS, OVERHEAD = "activations", "CUDA and the allocator (assumed)"


def memory_parts(
    shape: ModelShape, config: RunConfig, checkpointed_layers: int = 0, bucket_elements: int = BUCKET_ELEMENTS
) -> dict[str, int]:
    """What one process takes of its GPU at the worst moment of a step: bytes by kind.

    Args:
        shape: of the model.
        config: the run.
        checkpointed_layers: how many layers, from the first on, are computed again backwards.
        bucket_elements: `reduce_bucket_size` of its DeepSpeed file.
    """
    training, size = config.training, 2 if config.training.bf16 else 4
    layer = _layer_bytes(shape, config.lora, size)
    kept = (shape.layers - checkpointed_layers) * layer + checkpointed_layers * size * shape.hidden
    # The logits of an answer's token, their fp32 copy, exponentials and two gradients, or the sum in float64.
    logits = int(training.micro_batch_tokens * ASSUMED_ANSWER_SHARE) * shape.vocabulary * (size + 16)
    activations = training.micro_batch_tokens * (kept + 2 * layer) + logits
    # Weights and a micro-batch's gradients; those added up, in fp32 (stage 1 keeps all of them); master weights and
    # both moments in fp32, divided. Buckets: one is filled while the other is sent.
    adapter = adapter_parameters(shape, config.lora) * (2 * size + 4 + 12 / training.num_processes)
    return {
        WEIGHTS: size * shape.parameters,
        ADAPTER: int(adapter) + 2 * 4 * bucket_elements,
        ACTIVATIONS: activations,
        OVERHEAD: ASSUMED_CONTEXT_BYTES + int(ASSUMED_FRAGMENTATION * activations),
    }


def layers_to_checkpoint(
    shape: ModelShape, config: RunConfig, gpu_bytes: int, bucket_elements: int = BUCKET_ELEMENTS
) -> int | None:
    """How many layers to checkpoint, as few as fit into a GPU, a margin left free; None if not all of them suffice."""
    for layers in range(shape.layers + 1):
        if sum(memory_parts(shape, config, layers, bucket_elements).values()) <= gpu_bytes * (1 - MARGIN):
            return layers
    return None


def _layer_bytes(shape: ModelShape, lora: LoraSettings, size: int) -> int:
    """What autograd saves of one decoder layer for each token, at most; ``size`` is an activation's, in bytes."""
    inputs = sum(width for width, _ in shape.projections.values())
    norms = 2 * 4 * (shape.hidden + 1)  # their inputs in fp32, and 1 / their size
    adapters = (size + 1) * inputs + size * lora.r * len(shape.projections)  # inputs after dropout, its masks; r each
    attention = size * 2 * (shape.queries + shape.keys) + 4 * shape.heads  # in and out, and the sums' logarithms
    return norms + adapters + attention + 3 * size * shape.inner
