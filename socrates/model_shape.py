"""A model's shape, from its config.json: sizes of its layers, and how many parameters it and its adapter have.

Covers: decoders of Qwen2's architecture (its names, biases on the queries, keys and values). Pure; nothing is loaded.
Does not cover: other architectures, which `ModelShape.from_config` refuses by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from socrates.config import LoraSettings
from socrates.errors import SocratesError


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
