"""What a LoRA training computes: a model's sizes, operations a batch, and the time at an assumed utilisation.

A multiplication and an addition are two operations. Where the base weights are frozen, a weight costs 2 operations a
token forwards and 2 backwards (the gradient of its input), not 4 (none of its own); below the first adapted projection
it costs nothing backwards, and autograd saves nothing there, which memory (`memory.py`) follows too. The head is
applied to answer tokens alone. *Model FLOPs* leave recomputation out.

Covers: matrix products of decoders of Qwen2's architecture (its names, biases on queries, keys and values); others are
refused by name. Does not cover: norms, activations, softmax and dropout, some percent of the time on a GPU.
Agreement with torch's FlopCounterMode, to the last operation: tests/model/test_sizing.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from socrates.config import LoraSettings
from socrates.errors import SocratesError

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


@dataclass(frozen=True)
class GradientFlow:
    """For one decoder layer (Qwen2's: attention, then gate, up and down), whether these need a gradient."""

    input: bool  # of the layer
    attention: bool  # its queries, keys or values
    middle: bool  # the residual stream between attention and MLP
    gate: bool  # output of the gate projection
    up: bool

    def into(self, projection: str) -> bool:
        """Whether the input of a projection needs a gradient."""
        if projection in ("q_proj", "k_proj", "v_proj"):
            return self.input
        if projection in ("gate_proj", "up_proj"):
            return self.middle
        return self.attention if projection == "o_proj" else self.gate or self.up


def gradient_flow(adapted: Collection[str], first: bool) -> GradientFlow:
    """The flow in a layer.

    Args:
        adapted: names of its projections with an adapter.
        first: the first layer, whose input comes from the frozen embedding.
    """
    start = not first
    attention = start or any(name in adapted for name in ("q_proj", "k_proj", "v_proj"))
    middle = attention or "o_proj" in adapted
    return GradientFlow(start, attention, middle, middle or "gate_proj" in adapted, middle or "up_proj" in adapted)


@dataclass(frozen=True)
class ModelShape:
    """What a decoder's operations and memory follow from."""

    hidden: int
    inner: int  # of the MLP
    layers: int
    heads: int  # of the queries
    kv_heads: int
    head_size: int
    vocabulary: int
    tied: bool = False  # embedding and head are one matrix

    @classmethod
    def from_config(cls, config: Mapping[str, Any], name: str = "config.json") -> ModelShape:
        """The shape that a model's config.json tells.

        Raises:
            SocratesError: a size is missing or no whole number above 0, or the architecture is another one.
        """
        architectures = config.get("architectures") or ["Qwen2ForCausalLM"]
        if architectures != ["Qwen2ForCausalLM"]:
            raise SocratesError(f"{name}: costs are known for Qwen2ForCausalLM, not for {', '.join(architectures)}")
        keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        hidden, inner, layers, heads = (_size(config, key, name) for key in keys)
        return cls(
            hidden=hidden,
            inner=inner,
            layers=layers,
            heads=heads,
            kv_heads=_size(config, "num_key_value_heads", name),
            head_size=_size(config, "head_dim", name) if config.get("head_dim") else hidden // heads,
            vocabulary=_size(config, "vocab_size", name),
            tied=bool(config.get("tie_word_embeddings", False)),
        )

    @property
    def queries(self) -> int:
        """Width of a token's queries, over all heads."""
        return self.heads * self.head_size

    @property
    def keys(self) -> int:
        """Width of a token's keys (its values are as wide)."""
        return self.kv_heads * self.head_size

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of each linear layer of a decoder layer."""
        return {
            "q_proj": (self.hidden, self.queries),
            "k_proj": (self.hidden, self.keys),
            "v_proj": (self.hidden, self.keys),
            "o_proj": (self.queries, self.hidden),
            "gate_proj": (self.hidden, self.inner),
            "up_proj": (self.hidden, self.inner),
            "down_proj": (self.inner, self.hidden),
        }

    @property
    def layer_parameters(self) -> int:
        """Of one decoder layer: matrices, the biases of queries, keys and values, two norms."""
        matrices = sum(inputs * outputs for inputs, outputs in self.projections.values())
        return matrices + self.queries + 2 * self.keys + 2 * self.hidden

    @property
    def parameters(self) -> int:
        """Of the whole model."""
        tables = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return self.layers * self.layer_parameters + tables + self.hidden


def adapter_parameters(shape: ModelShape, lora: LoraSettings) -> int:
    """Parameters of a LoRA adapter: r x (inputs + outputs) for each adapted layer (Hu et al. 2021, section 4.1)."""
    return shape.layers * lora.r * sum(sum(shape.projections[name]) for name in lora.target_modules)


QWEN2_14B = ModelShape(
    hidden=5120, inner=13824, layers=48, heads=40, kv_heads=8, head_size=128, vocabulary=152064
)  # its config.json
# Models that the guide names, for a machine that has not downloaded them yet.
KNOWN_SHAPES = {"Qwen/Qwen2.5-14B-Instruct": QWEN2_14B, "Qwen/Qwen2.5-14B": QWEN2_14B}


def _size(config: Mapping[str, Any], key: str, name: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SocratesError(f'{name}: "{key}" must be a whole number above 0, not {value!r}')
    return value
