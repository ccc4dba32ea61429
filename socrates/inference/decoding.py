"""Logits to probabilities (softmax, temperature, top-p) and to answers that are sampled token by token.

Answers are sampled for questions that state no valid answers, or too many to list. Sums over the vocabulary are
accumulated in float64: in float32 they depend on the processor's kernels, and with those for AVX2 the probabilities of
Qwen's 152,064 tokens sum to 1 within 2e-5 only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from socrates.config import UNDECODED, DecodingSettings
from socrates.errors import SocratesError
from socrates.inference.forward import NO_NUMBERS, Forward

# How many of the most probable tokens are looked at for those that top_p keeps; where that is too few, more are.
_LARGEST = (32, 1024)


def log_normalizer(logits: torch.Tensor) -> torch.Tensor:
    """The logarithm of the sum of exp(logits) over the vocabulary; differentiable.

    Args:
        logits: (rows, vocabulary), float32.

    Returns:
        (rows,), float64.
    """
    largest = logits.detach().amax(dim=1, keepdim=True)
    return largest[:, 0].double() + _sum((logits - largest).exp_())[:, 0].log()


def decoded_probabilities(logits: torch.Tensor, decoding: DecodingSettings) -> torch.Tensor:
    """The probability with which each token would be sampled.

    softmax(logits / temperature); a token is kept if the mass strictly before it, in descending order, is below top_p
    (so the most probable one always is); the kept ones are scaled to sum to 1. The same as transformers'
    TemperatureLogitsWarper, then TopPLogitsWarper.

    Args:
        logits: (rows, vocabulary), float32.
        decoding: temperature (0 is greedy: the most probable token) and top_p; the paper's (arXiv 2509.05830): 0.6, 0.9

    Returns:
        (rows, vocabulary), float64, each row summing to 1.
    """
    if decoding.top_p == 1 and decoding.temperature > 0:
        weights = _scaled(logits, decoding.temperature).exp_()
        return weights / _sum(weights)
    table = torch.zeros_like(logits, dtype=torch.float64)
    if decoding.temperature == 0:
        return table.scatter_(1, logits.argmax(dim=1, keepdim=True), 1.0)
    scaled = _scaled(logits, decoding.temperature)
    total = _sum(scaled.exp())
    rows = torch.arange(len(logits), device=logits.device)  # of which not all kept tokens are found yet
    for size in (*(size for size in _LARGEST if size < logits.shape[1]), logits.shape[1]):
        largest, tokens = scaled.topk(size, dim=1) if size < logits.shape[1] else scaled.sort(dim=1, descending=True)
        probabilities = largest.double().exp() / total
        # The mass of all tokens is 1 but for rounding: the last size is enough for every row that is left.
        enough = (probabilities.sum(dim=1) >= decoding.top_p) | (size == logits.shape[1])
        probabilities = probabilities[enough]
        before = torch.nn.functional.pad(probabilities.cumsum(dim=1)[:, :-1], (1, 0))
        kept = probabilities.masked_fill(before >= decoding.top_p, 0.0)
        table[rows[enough, None], tokens[enough]] = kept / kept.sum(dim=1, keepdim=True)
        if enough.all():
            break
        rows, scaled, total = rows[~enough], scaled[~enough], total[~enough]
    return table


def probabilities_of(
    logits: torch.Tensor, rows: torch.Tensor, tokens: torch.Tensor, decoding: DecodingSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """The probabilities of some tokens.

    Args:
        logits: (rows, vocabulary), float32.
        rows: (P,) int64: after which row.
        tokens: (P,) int64: which token.
        decoding: temperature and top_p.

    Returns:
        Two (P,) tensors, float64: as the model gives them (temperature 1), and as `decoded_probabilities` would; the
        very same numbers where the decoding is `UNDECODED`.
    """
    scaled = _scaled(logits, 1.0)
    exact = scaled[rows, tokens].double().exp() / _sum(scaled.exp_())[rows, 0]
    del scaled
    if decoding == UNDECODED:
        return exact, exact
    return exact, decoded_probabilities(logits, decoding)[rows, tokens]


def _scaled(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """(logits - their largest) / temperature: the rounding of what is left is small where probabilities are not."""
    return (logits - logits.amax(dim=1, keepdim=True)).div_(temperature)


def _sum(table: torch.Tensor) -> torch.Tensor:
    """Over the vocabulary, (rows, 1) float64."""
    return table.sum(dim=1, keepdim=True, dtype=torch.float64)


def sample_token_ids(
    forward: Forward, prompt: Sequence[int], end_ids: Sequence[int], decoding: DecodingSettings, uniforms: np.ndarray
) -> list[list[int] | None]:
    """Sample K answers to one prompt: one forward over the prompt, then one for each further token of all K.

    Args:
        forward: the model.
        prompt: its token ids.
        end_ids: the tokens of which any ends an answer.
        decoding: how a token is chosen.
        uniforms: (K, T) numbers in [0, 1), one for each token of each sample; T is the most tokens an answer may have,
            its end included.

    Returns:
        For each sample its tokens without the end, or None where it had not ended after T tokens.
    """
    count, limit = uniforms.shape
    numbers, ends = torch.from_numpy(uniforms).to(forward.device), torch.tensor(list(end_ids), device=forward.device)
    columns: list[torch.Tensor] = []
    with torch.inference_mode():
        output = forward.hidden(torch.tensor([list(prompt)], device=forward.device), use_cache=True)
        cache = output.past_key_values
        cache.batch_repeat_interleave(count)
        hidden = output.last_hidden_state[:, -1].expand(count, -1)
        ended = torch.zeros(count, dtype=torch.bool, device=forward.device)
        while True:
            tokens = _choose(decoded_probabilities(forward.logits(hidden), decoding), numbers[:, len(columns)])
            columns.append(tokens)
            ended |= torch.isin(tokens, ends)
            if ended.all() or len(columns) == limit:
                break
            output = forward.hidden(tokens[:, None], past_key_values=cache, use_cache=True)
            hidden = output.last_hidden_state[:, -1]
    return [_before_end(tokens, end_ids) for tokens in torch.stack(columns, dim=1).tolist()]


def _before_end(tokens: list[int], end_ids: Sequence[int]) -> list[int] | None:
    end = next((place for place, token in enumerate(tokens) if token in end_ids), None)
    return None if end is None else tokens[:end]


def _choose(table: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """(rows, vocabulary) probabilities, float64, and (rows,) numbers in [0, 1) to (rows,) token ids."""
    cumulative = table.cumsum(dim=1)
    total = cumulative[:, -1:]
    if not torch.isfinite(total).all():
        raise SocratesError(NO_NUMBERS)
    return torch.searchsorted(cumulative, uniforms[:, None] * total, right=True)[:, 0]
