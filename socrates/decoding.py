"""What sampling does to a model's next-token distribution: temperature, then top-p."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# How many of the most probable tokens are looked at for those that top_p keeps; where that is too few, more are.
_LARGEST = (32, 1024)


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
    if decoding.top_p == 1:
        return (logits / decoding.temperature).softmax(dim=1)
    table = torch.zeros_like(logits)
    for rows, tokens, kept in _nuclei(logits, decoding):
        table[rows] = torch.zeros_like(table[rows]).scatter_(1, tokens, kept)
    return table


def probabilities_of(
    logits: torch.Tensor, rows: torch.Tensor, tokens: torch.Tensor, decoding: Decoding
) -> tuple[torch.Tensor, torch.Tensor]:
    """The probabilities of some tokens, without tables of the whole vocabulary.

    Args:
        logits: (rows, vocabulary), float32.
        rows: (P,) int64: after which row.
        tokens: (P,) int64: which token.
        decoding: temperature and top_p.

    Returns:
        Two (P,) tensors, float32: as the model gives them (temperature 1), and as `decoded_probabilities` would.
    """
    import torch

    chosen = logits[rows, tokens]
    exact = (chosen - _logsumexp(logits)[rows, 0]).exp()
    if decoding.temperature == 0:
        return exact, (logits.argmax(dim=1)[rows] == tokens).to(exact.dtype)
    if decoding.top_p == 1:
        t = decoding.temperature
        return exact, (chosen / t - _logsumexp(logits / t)[rows, 0]).exp()
    decoded = torch.zeros_like(exact)
    place = torch.empty(len(logits), dtype=torch.long, device=logits.device)
    for among, candidates, kept in _nuclei(logits, decoding):
        place.fill_(-1)[among] = torch.arange(len(among), device=logits.device)
        asked = place[rows]
        mine = asked >= 0
        same = candidates[asked[mine]] == tokens[mine, None]
        decoded[mine] = (kept[asked[mine]] * same).sum(dim=1)
    return exact, decoded


def _nuclei(logits: torch.Tensor, decoding: Decoding) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """The tokens that top_p keeps, by groups of rows: (their numbers (G,), tokens (G, K), probabilities (G, K)).

    A row's probabilities sum to 1; tokens that are not kept have 0.
    """
    import torch

    scaled = logits / decoding.temperature
    total = _logsumexp(scaled)
    rows = torch.arange(len(logits), device=logits.device)
    for size in (*(size for size in _LARGEST if size < logits.shape[1]), logits.shape[1]):
        largest, tokens = scaled.topk(size, dim=1) if size < logits.shape[1] else scaled.sort(dim=1, descending=True)
        largest = (largest - total).exp()
        # The mass of all tokens is 1 but for rounding: the last group has every row that is left.
        enough = (largest.sum(dim=1, dtype=torch.float64) >= decoding.top_p) | (size == logits.shape[1])
        yield rows[enough], tokens[enough], _keep(largest[enough], decoding.top_p)
        if enough.all():
            return
        rows, scaled, total = rows[~enough], scaled[~enough], total[~enough]


def _keep(descending: torch.Tensor, top_p: float) -> torch.Tensor:
    import torch

    before = torch.nn.functional.pad(descending.cumsum(dim=1, dtype=torch.float64)[:, :-1], (1, 0))
    kept = descending.masked_fill(before >= top_p, 0.0)
    return kept / _by_row(lambda table: table.sum(dim=1, keepdim=True), kept)


def _logsumexp(logits: torch.Tensor) -> torch.Tensor:
    return _by_row(lambda table: table.logsumexp(dim=1, keepdim=True), logits)


def _by_row(reduce: Callable[[torch.Tensor], torch.Tensor], table: torch.Tensor) -> torch.Tensor:
    """Reduce each row as one of many: torch splits a single long one over its threads, which rounds otherwise."""
    return reduce(table.repeat(2, 1))[:1] if len(table) == 1 else reduce(table)
