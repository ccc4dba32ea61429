"""What a LoRA training computes: a model's sizes, operations, and the time at an assumed utilisation.

A multiplication and an addition are two operations. Where the base weights are frozen, a weight costs 2 operations a
token forwards and 2 backwards (the gradient of its input; none of its own): 4 N a token, N being the weights of all
layers and of the adapter (Kaplan et al. 2020, section 2.1, whose 6 N count the weights' own gradients too). The head
is left out: it is applied to answer tokens alone. So are the scores of attention. On the shape of the 14B that is 1 to
3% less than torch's FlopCounterMode counts, for rows of 200 to 800 tokens (tests/model/test_sizing.py).

Covers: decoders of Qwen2's architecture (its names, biases on queries, keys and values).
"""

from __future__ import annotations

from collections.abc import Mapping
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


def training_flops(shape: ModelShape, lora: LoraSettings, tokens: float, checkpointed_layers: int = 0) -> float:
    """Operations of forward and backward pass over so many tokens: 4 N a token (see the module).

    Checkpointed layers are computed a second time; with 0 these are model FLOPs, which leave that out.
    """
    passed = shape.layers * shape.layer_parameters + adapter_parameters(shape, lora)
    return (4 + 2 * checkpointed_layers / shape.layers) * passed * tokens


def peak_flops(gpu: str) -> float | None:
    """Dense bf16 operations a second of a GPU; None for one that is not in the list: never a guess."""
    words = gpu.replace("-", " ").split()
    return next((peak for name, peak in PEAK_FLOPS.items() if set(name.split()) <= set(words)), None)


_KEYS = {  # of config.json
    "hidden": "hidden_size",
    "inner": "intermediate_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "vocabulary": "vocab_size",
}


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
    def from_config(cls, config: Mapping[str, Any], name: str = "config.json") -> ModelShape | None:
        """The shape that a model's config.json tells; None of another architecture, whose costs are not known.

        Raises:
            SocratesError: a size is missing or no whole number above 0.
        """
        if config.get("model_type") != "qwen2":
            return None
        sizes = {field: config.get(key) for field, key in _KEYS.items()}
        for field, value in sizes.items():
            if type(value) is not int or value < 1:
                raise SocratesError(f'{name}: "{_KEYS[field]}" must be a whole number above 0, not {value!r}')
        head_size = config.get("head_dim") or sizes["hidden"] // sizes["heads"]
        return cls(**sizes, head_size=head_size, tied=bool(config.get("tie_word_embeddings", False)))

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
