"""The benchmarks' models: Qwen2's architecture with random weights, which speed does not depend on."""

from __future__ import annotations

import tempfile
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frame import training_dtype

from socrates.model.chat import end_of_turn_id
from socrates.model.load import LoadedModel

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

_SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
_SIZES += ("num_attention_heads", "num_key_value_heads")
SHAPES = {
    # As the 14B in its proportions: five heads to a key head, an MLP 2.7 times as wide, a head of some 8% of the
    # weights (there 6%).
    "tiny": dict(zip(_SIZES, (2112, 640, 1728, 4, 10, 2), strict=True)),
    "smallest": dict(zip(_SIZES, (2112, 64, 128, 2, 4, 2), strict=True)),  # for the tests
    "14b": dict(zip(_SIZES, (152064, 5120, 13824, 48, 40, 8), strict=True)),  # Qwen2.5-14B's
}


def made_tokenizer(seed: int = 0) -> PreTrainedTokenizerBase:
    """Qwen2's kind (digits one by one, ChatML) with 2,048 tokens: the head is as small a part as that of the 14B."""
    from socrates.files import write_jsonl
    from socrates.model.load import load_tokenizer
    from socrates.rehearsal.base_model import make_base_model
    from socrates.rehearsal.rehearsal import made_studies

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_jsonl(folder / "train.jsonl", chain.from_iterable(made_studies(2, seed, people=4)))
        make_base_model(folder / "model", folder / "train.jsonl", seed, steps=0)
        return load_tokenizer(str(folder / "model"))


def random_qwen2(shape: str, device: torch.device, seed: int, attention: str = "sdpa") -> Any:
    """A model of a shape, nothing of it on the CPU first; ``attention`` is the models library's name of a kernel."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(max_position_embeddings=4096, tie_word_embeddings=False, **SHAPES[shape])
    config._attn_implementation = attention
    default = torch.get_default_dtype()
    torch.set_default_dtype(training_dtype(device))
    try:
        with device:
            return Qwen2ForCausalLM(config)
    finally:
        torch.set_default_dtype(default)


def answering_model(shape: str, tokenizer: PreTrainedTokenizerBase, device: torch.device, seed: int) -> LoadedModel:
    """A model whose distributions are as uneven as a trained one's, mostly on digits and the end of the turn.

    A flat random model would be measured at what never happens: top-p keeping hundreds of tokens.
    """
    model = random_qwen2(shape, device, seed).eval().requires_grad_(False)
    model.generation_config.eos_token_id = None  # so that `generate` takes all its tokens, whatever they are
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    end = end_of_turn_id(tokenizer)
    _speak_numbers(model, tokenizer.convert_tokens_to_ids(list("0123456789")), end)
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
