"""The benchmark's models: Qwen2's architecture with random weights that answer with numbers, and their work counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from socrates.model.chat import end_of_turn_id
from socrates.model.load import LoadedModel

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

SHAPES: dict[str, dict[str, int]] = {
    # As the 14B in its proportions: five heads to a key head, an MLP 2.7 times as wide, a head of some 8% of the
    # weights (there 6%).
    "tiny": {
        "vocab_size": 2112,
        "hidden_size": 640,
        "intermediate_size": 1728,
        "num_hidden_layers": 4,
        "num_attention_heads": 10,
        "num_key_value_heads": 2,
    },
    "smallest": {  # for the tests
        "vocab_size": 2112,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "14b": {
        "vocab_size": 152064,
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 48,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
    },
}


def random_model(
    shape: str, tokenizer: PreTrainedTokenizerBase, device: torch.device, dtype: torch.dtype, seed: int
) -> LoadedModel:
    """A model whose distributions are as uneven as a trained one's, mostly on digits and the end of the turn.

    A flat random model would be measured at what never happens: top-p keeping hundreds of tokens.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(max_position_embeddings=4096, tie_word_embeddings=False, **SHAPES[shape])
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = Qwen2ForCausalLM(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(default)
    model.set_attn_implementation("sdpa")
    model.generation_config.eos_token_id = None  # so that `generate` takes all its tokens, whatever they are
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    end = end_of_turn_id(tokenizer)
    _speak_numbers(model, [tokenizer.convert_tokens_to_ids(str(digit)) for digit in range(10)], end)
    return LoadedModel(model, tokenizer, (end,), f"random Qwen2 ({shape})")


def _speak_numbers(model: Any, digits: list[int], end: int) -> None:
    """Logits spread by 2.5, digits and end far higher, through a channel that only the embedding writes to."""
    import torch

    for layer in model.model.layers:
        layer.self_attn.o_proj.weight[0] = 0.0
        layer.mlp.down_proj.weight[0] = 0.0
    model.model.embed_tokens.weight[:, 0] = 0.05
    head = model.lm_head.weight
    ids = torch.arange(64, device=head.device)[None]
    with torch.inference_mode():
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[0, 8:].float()
        spread = float((hidden @ head[:2048].float().T).std())
    head.mul_(2.5 / spread)
    head[:, 0] = 0.0
    height = float(hidden[:, 0].mean())
    head[digits, 0], head[end, 0] = 14 / height, 16 / height


@dataclass(frozen=True)
class Work:
    """Floating-point operations that a way of asking cannot do without: no padding, no masked attention."""

    config: Any  # the model's

    def of(self, tokens: int, seen: int, asked: int) -> float:
        """Of ``tokens`` through the layers, ``seen`` pairs of a token and one it sees, ``asked`` rows of logits."""
        c = self.config
        size = c.hidden_size // c.num_attention_heads
        attention = 2 * c.hidden_size * c.hidden_size + 2 * c.hidden_size * c.num_key_value_heads * size
        layer = attention + 3 * c.hidden_size * c.intermediate_size
        weights = tokens * c.num_hidden_layers * layer + asked * c.vocab_size * c.hidden_size
        return 2.0 * weights + 4.0 * c.num_hidden_layers * c.hidden_size * seen


def pairs(lengths: Iterable[int]) -> int:
    """Pairs of a token and one that it sees, for sequences of these lengths."""
    return sum(length * (length + 1) // 2 for length in lengths)
