"""A causal language model without its head, the head on chosen positions only, and the prefix that all prompts share.

The head of a 14B model gives 152,000 numbers a position: on all positions of a batch they would take more memory than
the model's activations. With the head in bf16 a probability is off by up to 3%, in float32 by up to 1.3% (measured).

What all prompts begin with (a fifth of all tokens) sees nothing that follows it: its keys and values are computed once
and serve every batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from socrates.errors import SocratesError
from socrates.model.load import LoadedModel

NO_NUMBERS = (
    "the model returned NaN or infinity instead of probabilities: its weights are damaged, or its numbers do not fit "
    "into this dtype (try float32 or bfloat16)"
)
_HEAD_ELEMENTS = 2**23  # logits at a time: 32 MiB in float32, and up to ten times that in decoding


class Forward:
    """A loaded model as two steps: token ids to hidden states, hidden states to logits.

    It holds the head's weights in float32 (14B: 3.1 GB), so keep it no longer than needed.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        head = loaded.causal_lm.get_output_embeddings()
        if type(head) is not torch.nn.Linear:
            raise SocratesError(
                f"{loaded.adapter or loaded.base_name}: its output layer is a {type(head).__name__}, not a plain "
                "linear layer; such a model cannot be evaluated, nor an adapter that trains lm_head"
            )
        self.device = loaded.device
        self.decoder = loaded.causal_lm.get_decoder()
        self._weight = head.weight.float()
        self._bias = head.bias.float() if head.bias is not None else None

    def hidden(self, input_ids: torch.Tensor, **options: Any) -> Any:
        """The decoder's output for (batch, length) token ids; ``options`` as of the library's forward."""
        return self.decoder(input_ids=input_ids, **options)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(rows, hidden size) to (rows, vocabulary), float32."""
        return torch.nn.functional.linear(hidden.float(), self._weight, self._bias)

    def logits_in_chunks(self, hidden: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        """The same, a few rows at a time: (which rows, their logits)."""
        size = max(1, _HEAD_ELEMENTS // self._weight.shape[0])
        for start in range(0, len(hidden), size):
            rows = slice(start, min(start + size, len(hidden)))
            yield rows, self.logits(hidden[rows])


@dataclass(frozen=True, eq=False)
class SharedPrefix:
    """Token ids, and what every layer of the model keeps of them, for forwards over what goes on behind them."""

    token_ids: tuple[int, ...]
    cache: Cache

    def __len__(self) -> int:
        return len(self.token_ids)


class _KeptLayer(DynamicLayer):
    """The keys and values of a prefix, in front of those of a batch, which are not kept: 196 KB a token in the 14B."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(self, keys: torch.Tensor, values: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        pairs = (self.keys, keys), (self.values, values)
        return tuple(torch.cat([mine.expand(len(new), -1, -1, -1), new], dim=-2) for mine, new in pairs)


def common_prefix(prompts: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The token ids with which all prompts begin, each prompt's last token left out."""
    if not prompts:
        return ()
    shortest = min(map(len, prompts))
    return commonprefix([tuple(prompt) for prompt in prompts])[: shortest - 1]  # noqa: RUF071


def shared_prefix(forward: Forward, token_ids: Sequence[int]) -> SharedPrefix | None:
    """Compute a prefix; None if it is empty, or if the model keeps something else than keys and values."""
    if not token_ids:
        return None
    with torch.inference_mode():
        ids = torch.tensor([list(token_ids)], device=forward.device)
        computed = forward.hidden(ids, use_cache=True).past_key_values
    layers = getattr(computed, "layers", [])
    if not layers or any(type(layer) is not DynamicLayer for layer in layers):
        return None
    return SharedPrefix(tuple(token_ids), Cache(layers=[_KeptLayer(layer.keys, layer.values) for layer in layers]))
