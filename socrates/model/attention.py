"""Attention in a flattened batch: many examples one after another, each attending to itself alone.

Two kernels: FlashAttention's, where the package is installed; else torch's `scaled_dot_product_attention`, called for
one example after another: no mask that could be wrong, no work on pairs of different examples (the library's dense mask
costs tokens squared).

Covers: `check_examples_apart` proves on the loaded model, with the kernel and the device that train, that an example's
result does not depend on its neighbours. Does not cover: padding, caches, decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from socrates.errors import SocratesError

if TYPE_CHECKING:
    import torch

SDPA = "sdpa_per_example"  # what the models library is told
FLASH = "flash_attention_2"
# Of what a neighbour that is seen would change. Rounding was found to change a bf16 model of 48 layers by 0.13 of its
# logits, a leak changes them by about their own size; in float32 rounding is below 1e-5 of it.
_TOLERANCE = 0.25
_EXAMPLES = (23, 7, 41)  # tokens of the examples that the check is made on


def choose_attention(wanted: str) -> str:
    """The models library's name of the kernel to train with, ready to be used; ``wanted``: `attn_implementation`."""
    import torch
    from transformers import AttentionInterface

    if wanted == FLASH or (wanted == "auto" and torch.cuda.is_available() and find_spec("flash_attn") is not None):
        return FLASH
    AttentionInterface.register(SDPA, attend_per_example)
    # On newer GPUs torch would take cuDNN's kernel first and build a plan for each length and micro-batch anew, kept
    # for good: some 30 ms and some memory every time. Its flash kernel, next in order, needs none.
    torch.backends.cuda.enable_cudnn_sdp(False)
    return SDPA


def flat_inputs(lengths: Sequence[int], attention: str, device: torch.device | str) -> dict[str, Any]:
    """What a model is told besides the token ids, [1, sum of lengths], so that each example is on its own.

    `position_ids`, [1, sum], begin at 0 for each example; the rest is what the kernel ``attention`` needs to know.
    """
    import torch

    lengths = list(lengths)
    positions = torch.cat([torch.arange(length, device=device) for length in lengths])
    told: dict[str, Any] = {"position_ids": positions[None]}
    if attention != FLASH:
        return told | {"example_lengths": lengths}
    starts = torch.tensor([0, *lengths], device=device).cumsum(0, dtype=torch.int32)
    longest = {"max_length_q": max(lengths), "max_length_k": max(lengths)}
    return told | {"cu_seq_lens_q": starts, "cu_seq_lens_k": starts, **longest}


def attend_per_example(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    example_lengths: Sequence[int] | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each example of a flattened batch: what the models library calls in each layer.

    ``query`` is [1, heads, tokens, head size]; ``key`` and ``value`` are [1, key heads, tokens, head size], and heads
    are a multiple of key heads. ``example_lengths`` add up to tokens, and none is above ``sliding_window``, how far
    back a layer of some models looks.

    Returns:
        [1, tokens, heads, head size], and no weights.

    Raises:
        ValueError: without the lengths, or with others than the batch's, attention would cross examples.
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    lengths = _checked_lengths(query, attention_mask, example_lengths, sliding_window)
    grouped = query.shape[1] != key.shape[1]
    parts = zip(*(states.split(lengths, 2) for states in (query, key, value)), strict=True)
    options = {"is_causal": True, "dropout_p": dropout, "scale": scaling, "enable_gqa": grouped}
    outs = [scaled_dot_product_attention(*part, **options) for part in parts]
    return torch.cat(outs, dim=2).transpose(1, 2), None


def _checked_lengths(
    query: torch.Tensor, mask: torch.Tensor | None, lengths: Sequence[int] | None, window: int | None
) -> list[int]:
    rows, _, tokens, _ = query.shape
    if lengths is None or sum(lengths) != tokens or rows != 1 or mask is not None:
        raise ValueError(
            f"{tokens} tokens of {rows} rows, example lengths {lengths}, mask {'given' if mask is not None else 'none'}"
            ": one flattened row with its lengths and no mask is wanted, else attention would cross examples"
        )
    if window is not None and max(lengths) > window:
        raise ValueError(f"an example of {max(lengths)} tokens, and a layer that looks back {window} only")
    return list(lengths)


def check_examples_apart(model: Any, attention: str, device: torch.device | str) -> None:
    """Refuse to train where an example's result depends on the examples beside it.

    Three made-up examples go through the model beside each other and alone; as a control they go through it as one long
    example, which is what a kernel that does not keep them apart would make of them.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    words = model.get_input_embeddings().weight.shape[0]
    examples = [torch.randint(min(words, 256), (1, n), generator=generator).to(device) for n in _EXAMPLES]
    together = torch.cat(examples, dim=1)

    def logits(ids: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        out = model(input_ids=ids, use_cache=False, **flat_inputs(lengths, attention, device)).logits[0].float()
        return out - out.mean(-1, keepdim=True)

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            alone = torch.cat([logits(ids, [ids.shape[1]]) for ids in examples])
            beside = (logits(together, _EXAMPLES) - alone).norm().item()
            leaking = (logits(together, [sum(_EXAMPLES)]) - alone).norm().item()
    finally:
        model.train(was_training)
    if not leaking < float("inf"):  # NaN too
        raise SocratesError(
            "the model gives NaN or infinity on a short example: its weights are damaged, or not for bf16"
        )
    if not beside <= _TOLERANCE * leaking:
        raise SocratesError(
            f"attention with {attention}: attention crosses the examples of a flattened batch: beside others an "
            f"example's logits differ by {beside:.3g} from what they are alone (a full leak would make {leaking:.3g}); "
            'write "training.attn_implementation": "sdpa"'
        )
