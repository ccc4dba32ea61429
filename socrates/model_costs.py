"""What a LoRA training computes: operations a batch, and the time that they take at an assumed utilisation.

A multiplication and an addition are two operations. Where the base weights are frozen, a weight costs 2 operations a
token forwards and 2 backwards (the gradient of its input), not 4 (none of its own); below the first adapted projection
it costs nothing backwards. The head is applied to answer tokens alone. *Model FLOPs* leave recomputation out.

Covers: matrix products. Does not cover: norms, activations, softmax and dropout, some percent of the time on a GPU.
Agreement with torch's FlopCounterMode, to the last operation: tests/test_model_costs.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from socrates.config import LoraSettings
from socrates.gradient_flow import gradient_flow
from socrates.model_shape import ModelShape

# Share of the peak that a training reaches in model FLOPs: an assumption, not a measurement.
ASSUMED_UTILISATION = 0.45

# Dense bf16 operations a second, by a part of the name that nvidia-smi prints; NVIDIA's data sheets (the figures "with
# sparsity" are twice these). In this order: the first that fits counts.
PEAK_FLOPS = {
    "B200": 2.25e15,
    "GH200": 989e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A40": 149.7e12,
    "A30": 165e12,
    "A10G": 70e12,
    "A10": 125e12,
    "RTX A6000": 154.8e12,
    "RTX 6000 Ada": 364e12,
}


@dataclass(frozen=True)
class TrainingFlops:
    """Operations of forward and backward pass over the same tokens."""

    model: float  # without recomputation: the numerator of model FLOPs utilisation
    with_recomputation: float  # of checkpointed layers, and of the attention's scores by a fused kernel


def training_flops(
    shape: ModelShape,
    lora: LoraSettings,
    tokens: float,
    *,
    attended: float,
    answer_tokens: float,
    checkpointed_layers: int = 0,
) -> TrainingFlops:
    """Operations of a training batch (or, with means, of a token).

    Args:
        shape: of the model.
        lora: the adapter; all base weights are frozen.
        tokens: of the batch.
        attended: pairs of tokens of which the first attends to the second: `attended_pairs` of the examples' lengths.
        answer_tokens: tokens that carry a label: the head is applied to these.
        checkpointed_layers: how many layers, from the first on, are recomputed backwards.
    """
    forward = _layer_forward(shape, lora, tokens, attended)
    head = 2 * shape.vocabulary * shape.hidden * answer_tokens
    model = shape.layers * forward + 2 * head
    for first, count in ((True, 1), (False, shape.layers - 1)):
        model += count * _layer_backward(shape, lora, tokens, attended, first)
    scores = 2 * shape.queries * attended  # a fused kernel keeps no scores and computes them again backwards
    adapted = set(lora.target_modules)
    fused = sum(scores for layer in range(shape.layers) if gradient_flow(adapted, layer == 0).attention)
    return TrainingFlops(model, model + fused + min(checkpointed_layers, shape.layers) * forward)


def attended_pairs(lengths: Iterable[int]) -> int:
    """How many pairs causal attention computes in examples of these lengths, no example seeing another."""
    return sum(length * (length + 1) // 2 for length in lengths)


def peak_flops(gpu: str) -> float | None:
    """Dense bf16 operations a second of a GPU; None for one that is not in the list: never a guess."""
    words = gpu.replace("-", " ").split()
    for name, peak in PEAK_FLOPS.items():
        if set(name.split()) <= set(words):
            return peak
    return None


def expected_seconds(
    flops: float, gpus: int, peak: float | None, utilisation: float = ASSUMED_UTILISATION
) -> float | None:
    """How long so many model FLOPs take on so many GPUs; None where their peak is unknown.

    Args:
        flops: operations in all, recomputation left out.
        gpus: that share them.
        peak: of one, operations a second.
        utilisation: share of the peak; the default is assumed.
    """
    return None if peak is None else flops / (gpus * peak * utilisation)


def _layer_forward(shape: ModelShape, lora: LoraSettings, tokens: float, attended: float) -> float:
    products = sum(inputs * outputs for inputs, outputs in shape.projections.values())
    adapter = sum(lora.r * sum(shape.projections[name]) for name in lora.target_modules)
    return 2 * tokens * (products + adapter) + 4 * shape.queries * attended  # scores, then values


def _layer_backward(shape: ModelShape, lora: LoraSettings, tokens: float, attended: float, first: bool) -> float:
    adapted = set(lora.target_modules)
    flow = gradient_flow(adapted, first)
    weights = 0
    for name, (inputs, outputs) in shape.projections.items():
        if flow.into(name):
            weights += inputs * outputs
        if name in adapted:  # its own gradients; what flows on into B's input always, into A's only where it must
            weights += lora.r * (2 * outputs + inputs * (2 if flow.into(name) else 1))
    return 2 * tokens * weights + (8 * shape.queries * attended if flow.attention else 0)
