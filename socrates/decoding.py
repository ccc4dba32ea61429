"""What sampling does to a model's next-token distribution: temperature, then top-p."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_LARGEST = 256  # tokens that hold the mass top_p nearly always; where they do not, all are sorted


@dataclass(frozen=True)
class Decoding:
    """How one token is chosen. The paper's (arXiv 2509.05830) is temperature 0.6, top_p 0.9."""

    temperature: float  # 0 is greedy: the most probable token
    top_p: float  # share of the mass that is kept, from the most probable token down; 1 keeps all

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature must be 0 or more, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}")


def decoded_probabilities(logits: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """The probability with which each token would be sampled.

    softmax(logits / temperature); a token is kept if the mass strictly before it, in descending order, is below top_p
    (so the most probable one always is); the kept ones are scaled to sum to 1. The same as transformers'
    TemperatureLogitsWarper, then TopPLogitsWarper.

    Args:
        logits: (rows, vocabulary), float32.
        decoding: temperature and top_p.

    Returns:
        (rows, vocabulary), float32, each row summing to 1.
    """
    import torch

    if decoding.temperature == 0:
        return torch.zeros_like(logits).scatter_(1, logits.argmax(dim=1, keepdim=True), 1.0)
    probabilities = (logits / decoding.temperature).softmax(dim=1)
    if decoding.top_p == 1:
        return probabilities
    largest, tokens = probabilities.topk(min(_LARGEST, logits.shape[1]), dim=1)
    nucleus = torch.zeros_like(probabilities).scatter_(1, tokens, _keep(largest, decoding.top_p))
    flat = largest.sum(dim=1) < decoding.top_p  # these rows' nucleus is larger than _LARGEST tokens
    if flat.any():
        ordered, tokens = probabilities[flat].sort(dim=1, descending=True)
        nucleus[flat] = torch.zeros_like(ordered).scatter_(1, tokens, _keep(ordered, decoding.top_p))
    return nucleus


def _keep(descending: torch.Tensor, top_p: float) -> torch.Tensor:
    import torch

    before = torch.nn.functional.pad(descending.cumsum(dim=1, dtype=torch.float64)[:, :-1], (1, 0))
    kept = descending.masked_fill(before >= top_p, 0.0)
    return kept / kept.sum(dim=1, keepdim=True)
