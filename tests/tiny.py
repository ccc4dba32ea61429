"""Tiny models and tokenizers for the tests: Qwen2 shapes, random weights, made on the spot, no network."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from socrates.config import PROJECTIONS, DecodingSettings, LoraSettings
from socrates.inference.engine import AnswerDistribution, Engine, Question, plan_inference
from socrates.model.load import LoadedModel, end_token_ids
from socrates.model.sizing import ModelShape
from socrates.rehearsal.base_model import CHAT_TEMPLATE as CHATML

PAPER = DecodingSettings()
IM_START, IM_END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
# The rule that Qwen2.5 (each digit on its own) and Llama 3 (up to three digits together) share.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,DIGITS}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SENTENCES = (
    "You are a survey respondent with the following demographic profile:",
    "- Age: 34\n- Gender: Female\n- Education: College degree",
    "Read the question below and answer exactly as this person would.",
    "How warm do you feel about the harbour festival? Only return an integer from 0 to 100, nothing else.",
    "The ferry to the island was late again, and the bakery had no bread left.",
    "How many dollars would you give to the town library?",
)

SHAPES = (
    ModelShape(hidden=64, inner=176, layers=3, heads=4, kv_heads=2, head_size=16, vocabulary=128),
    ModelShape(hidden=128, inner=176, layers=3, heads=4, kv_heads=4, head_size=32, vocabulary=64, tied=True),
    ModelShape(hidden=96, inner=352, layers=4, heads=6, kv_heads=1, head_size=24, vocabulary=200),
)


@functools.cache
def tiny_tokenizer(digits: int = 1) -> Any:
    """A byte-level BPE tokenizer with a ChatML template; ``digits`` is how many digits may share a token (1 or 3)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT.replace("DIGITS", str(digits))), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    numbers = [str(number) for number in range(10**digits)] if digits > 1 else []
    trainer = trainers.BpeTrainer(
        vocab_size=360 + len(numbers), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([*_SENTENCES * 2, *numbers * 30], trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (END_OF_TEXT, IM_START, IM_END)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        extra_special_tokens=[IM_START, IM_END],
        chat_template=CHATML,
    )


def tiny_model(tokenizer: Any, seed: int = 0) -> Any:
    """A random two-layer Qwen2 in float32 whose distributions are far from uniform."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer) + 5,  # padded, as Qwen's is
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.2,
        attn_implementation="sdpa",
    )
    model = Qwen2ForCausalLM(config).eval().requires_grad_(False)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def survey_model(digits: int = 1, seed: int = 5) -> tuple[Any, Any]:
    """A random model that mostly answers with a number, then an end, as an instructed one does; and its tokenizer.

    Two channels of the residual stream are left to the embedding: the first is the same for every token, the second
    tells whether the last token was a number. The head reads them for number and end tokens. With the paper's
    decoding about 90% of the mass is on some 15 answers from 0 to 100.
    """
    tokenizer = tiny_tokenizer(digits)
    model = tiny_model(tokenizer, seed)
    head, embedding = model.lm_head.weight, model.model.embed_tokens.weight
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight[:2] = 0.0
        layer.mlp.down_proj.weight[:2] = 0.0
    head[:, :2] = 0.0
    embedding[:, 0], embedding[:, 1] = 3.0, -3.0
    for number in map(str, range(10**digits)):
        token = tokenizer.convert_tokens_to_ids(number)
        embedding[token, 1] = 3.0
        head[token, 0] = 13.0 if digits == 1 else 14.0 - 4.0 * len(number)  # 1,000 long numbers outweigh 10 short ones
    head[tokenizer.convert_tokens_to_ids("-"), 0] = 10.0
    for end in tokenizer.convert_tokens_to_ids([IM_END, END_OF_TEXT]):
        head[end, 0], head[end, 1] = (10.0, 8.0) if digits == 1 else (8.0, 8.0)
    return model, tokenizer


def with_adapter(model: Any, seed: int = 0, size: float = 0.2) -> Any:
    """``model`` with a LoRA adapter; ``size`` is the spread of its second factors (0: does nothing)."""
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=list(PROJECTIONS))
    adapted = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0.0, size, generator=generator) if size else parameter.data.zero_()
    return adapted.eval().requires_grad_(False)


def loaded(model: Any, tokenizer: Any, adapter: Path | None = None) -> Any:
    """What `load_model` would return for a model in memory; ``adapter`` is any path if it is a PEFT model."""
    ends = end_token_ids(tokenizer, model.generation_config.eos_token_id)
    return LoadedModel(model, tokenizer, ends, "tiny", adapter)


def ask(
    model: LoadedModel, questions: list[Question], decoding: DecodingSettings = PAPER, **options: Any
) -> list[AnswerDistribution]:
    """The model's answers to all questions, in their order, as an evaluation asks them; ``options``: as of `Engine`."""
    beginning, lengths = plan_inference(model.tokenizer, questions)
    found = {}
    for batch, results in Engine(model, beginning, decoding, **options).answer_all(questions, lengths):
        assert not found.keys() & set(batch)
        found |= zip(batch, results, strict=True)
    return [found[index] for index in range(len(questions))]


def save_model(model: Any, tokenizer: Any, folder: Path) -> Path:
    """Write a model or adapter folder with its tokenizer, as the Trainer does."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# --- as a training holds them ----------------------------------------------------------------------------------------


def lora(r: int = 4, dropout: float = 0.05, target_modules: Sequence[str] = PROJECTIONS) -> LoraSettings:
    return LoraSettings(r=r, alpha=8.0, dropout=dropout, target_modules=tuple(target_modules))


def adapted_model(shape: ModelShape, settings: LoraSettings, dtype: str = "float32") -> Any:
    """The PEFT model in training mode."""
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
