"""A causal language model without its head, and the head on chosen positions only, in float32.

The head of a 14B model gives 152,000 numbers a position: on all positions of a batch they would take more memory than
the model's activations. With the head in bf16 a probability is off by up to 3%, in float32 by up to 1.3% (measured;
the rest is the rounding of the bf16 layers).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from socrates.errors import SocratesError

if TYPE_CHECKING:
    import torch

    from socrates.models import LoadedModel

NO_NUMBERS = (
    "the model returned NaN or infinity instead of probabilities: its weights are damaged, or its numbers do not fit "
    "into this dtype (try float32 or bfloat16)"
)
_HEAD_ELEMENTS = 2**25  # logits at a time: 128 MiB in float32


class Forward:
    """A loaded model as two steps: token ids to hidden states, hidden states to logits.

    It holds the head's weights in float32 (14B: 3.1 GB), so keep it no longer than needed.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        import torch

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
        import torch

        return torch.nn.functional.linear(hidden.float(), self._weight, self._bias)

    def logits_in_chunks(self, hidden: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        """The same, a few rows at a time: (which rows, their logits)."""
        size = max(1, _HEAD_ELEMENTS // self._weight.shape[0])
        for start in range(0, len(hidden), size):
            rows = slice(start, min(start + size, len(hidden)))
            yield rows, self.logits(hidden[rows])
