"""Which tensors of a decoder layer need a gradient when all weights are frozen but the adapter's.

Autograd saves a tensor, and computes a gradient, only where something before it is trained. In the first layer that is
less than in the others: below its first adapted projection nothing is trained. Operations (`model_costs.py`) and memory
(`model_memory.py`) both follow from this.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


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
