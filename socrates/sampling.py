"""Answers by drawing tokens one after another: for questions that state no valid answers, or too many to list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from socrates.decoding import Decoding, decoded_probabilities
from socrates.errors import SocratesError
from socrates.forward import NO_NUMBERS, Forward

if TYPE_CHECKING:
    import torch


def sample_token_ids(
    forward: Forward,
    prompt: Sequence[int],
    end_ids: Sequence[int],
    decoding: Decoding,
    uniforms: np.ndarray,
) -> list[list[int] | None]:
    """Draw K answers to one prompt: one forward over the prompt, then one for each further token of all K.

    Args:
        forward: the model.
        prompt: its token ids.
        end_ids: the tokens of which any ends an answer.
        decoding: how a token is drawn.
        uniforms: (K, T) numbers in [0, 1), one for each token of each draw; T is the most tokens an answer may have,
            its end included.

    Returns:
        For each draw its tokens without the end, or None where it had not ended after T tokens.
    """
    import torch

    device = forward.device
    count, limit = uniforms.shape
    drawn: list[list[int]] = [[] for _ in range(count)]
    ended = [False] * count
    going = list(range(count))  # the draws that have not ended, in the order of the cache's sequences
    with torch.inference_mode():
        output = forward.hidden(torch.tensor([list(prompt)], device=device), use_cache=True)
        cache = output.past_key_values
        cache.batch_repeat_interleave(count)
        table = decoded_probabilities(forward.logits(output.last_hidden_state[:, -1]), decoding)
        table = table.expand(count, -1)
        for step in range(limit):
            tokens = _choose(table, torch.from_numpy(uniforms[going, step]).to(device)).tolist()
            still = []
            for place, (draw, token) in enumerate(zip(going, tokens, strict=True)):
                if token in end_ids:
                    ended[draw] = True
                else:
                    drawn[draw].append(token)
                    still.append(place)
            if not still or step == limit - 1:
                break
            if len(still) < len(going):
                cache.batch_select_indices(torch.tensor(still, device=device))
                going = [going[place] for place in still]
            output = forward.hidden(
                torch.tensor([[drawn[draw][-1]] for draw in going], device=device),
                past_key_values=cache,
                position_ids=torch.full((len(going), 1), len(prompt) + step, device=device),
                use_cache=True,
            )
            table = decoded_probabilities(forward.logits(output.last_hidden_state[:, -1]), decoding)
    return [tokens if done else None for tokens, done in zip(drawn, ended, strict=True)]


def _choose(table: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """(rows, vocabulary) probabilities and (rows,) numbers in [0, 1) to (rows,) token ids."""
    import torch

    cumulative = table.double().cumsum(dim=1)
    total = cumulative[:, -1:]
    if not torch.isfinite(total).all():
        raise SocratesError(NO_NUMBERS)
    return torch.searchsorted(cumulative, uniforms[:, None] * total, right=True)[:, 0]
