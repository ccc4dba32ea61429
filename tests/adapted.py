"""Small random Qwen2 models with a LoRA adapter on frozen weights, as a training holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from socrates.config import PROJECTIONS, LoraSettings
from socrates.model.sizing import ModelShape

SHAPES = (
    ModelShape(hidden=64, inner=176, layers=3, heads=4, kv_heads=2, head_size=16, vocabulary=128),
    ModelShape(hidden=128, inner=176, layers=3, heads=4, kv_heads=4, head_size=32, vocabulary=64, tied=True),
    ModelShape(hidden=96, inner=352, layers=4, heads=6, kv_heads=1, head_size=24, vocabulary=200),
)


def lora(r: int = 4, dropout: float = 0.05, target_modules: Sequence[str] = PROJECTIONS) -> LoraSettings:
    return LoraSettings(r=r, alpha=8.0, dropout=dropout, target_modules=tuple(target_modules))


def adapted_model(shape: ModelShape, settings: LoraSettings, dtype: str = "float32") -> Any:
    """The PEFT model in training mode."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        tie_word_embeddings=shape.tied,
        attn_implementation="sdpa",
    )
    model = Qwen2ForCausalLM(config).to(getattr(torch, dtype)).requires_grad_(False)
    adapter = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.target_modules),
    )
    # DeepSpeed brings the adapter to the model's type; PEFT alone would leave it in float32.
    return get_peft_model(model, adapter, autocast_adapter_dtype=False).train()
