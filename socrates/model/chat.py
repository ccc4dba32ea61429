"""How a row becomes a conversation, and a conversation token ids: one way, for training and for evaluation.

The user's turn is the row's `prompt`, the assistant's turn the bare integer; a system message stands there only where
the config gives one (a chat template may add one of its own: Qwen2.5's does).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from socrates.errors import SocratesError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def chat_messages(prompt: str, system_message: str | None = None) -> list[dict[str, str]]:
    """The conversation up to the assistant's turn."""
    system = [{"role": "system", "content": system_message}] if system_message is not None else []
    return [*system, {"role": "user", "content": prompt}]


def prompt_texts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], system_message: str | None) -> list[str]:
    """The prompts as the model reads them: through the chat template, up to where the answer begins."""
    if not prompts:
        return []
    if not tokenizer.chat_template:
        raise SocratesError(
            f"{tokenizer.name_or_path}: its tokenizer has no chat template; use an instruction-tuned model"
        )
    conversations = [chat_messages(prompt, system_message) for prompt in prompts]
    return tokenizer.apply_chat_template(conversations, tokenize=False, add_generation_prompt=True)


def prompt_token_ids(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], system_message: str | None
) -> list[list[int]]:
    """Token ids of each prompt, special tokens of the chat template included, none added."""
    texts = prompt_texts(tokenizer, prompts, system_message)
    return tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []


def prompt_frame(tokenizer: PreTrainedTokenizerBase, system_message: str | None) -> tuple[str, str] | None:
    """What the chat template puts before and after every prompt; None where that depends on the prompt.

    Found on prompts that begin and end in all the ways that templates are known to treat: white space (which some
    trim), line breaks, special tokens.
    """
    probes = ["How many?", "  How many? ", "\nHow many?\n\n", "7", "<think>\nHow?\n</think>\n\nmany", "{{ 'a' }} & <b>"]
    texts = prompt_texts(tokenizer, probes, system_message)
    before, found, after = texts[0].rpartition(probes[0])
    same = found and all(text == f"{before}{probe}{after}" for probe, text in zip(probes, texts, strict=True))
    return (before, after) if same else None


def answer_token_ids(tokenizer: PreTrainedTokenizerBase, value: int) -> list[int]:
    """As `answers_token_ids`, of one."""
    return answers_token_ids(tokenizer, [value])[0]


def answers_token_ids(tokenizer: PreTrainedTokenizerBase, values: Sequence[int]) -> list[list[int]]:
    """Token ids of each bare integer, as it stands right after the prompt.

    Raises:
        SocratesError: the tokenizer does not give the same text back (it adds a space, or lacks a digit).
    """
    texts = [str(value) for value in values]
    token_ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    for text, ids, written in zip(texts, token_ids, tokenizer.batch_decode(token_ids), strict=True):
        if not ids or written != text:
            raise SocratesError(
                f"{tokenizer.name_or_path}: its tokenizer turns {text!r} into {written!r}; "
                "answers of such a model cannot be scored exactly"
            )
    return token_ids


def end_of_turn_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that the chat template puts right after the assistant's answer (`<|im_end|>` in Qwen's).

    Raises:
        SocratesError: the template changes the answer, or what follows it is not one special token.
    """
    (before,) = prompt_texts(tokenizer, ["How many?"], None)
    answered = [*chat_messages("How many?"), {"role": "assistant", "content": "7"}]
    whole = tokenizer.apply_chat_template(answered, tokenize=False)
    if not whole.startswith(before + "7"):
        raise SocratesError(
            f"{tokenizer.name_or_path}: its chat template does not put the answer right after the prompt, "
            "so that training and evaluation would see different texts; this model is not supported"
        )
    rest = tokenizer(whole[len(before) + 1 :], add_special_tokens=False)["input_ids"]
    if not rest or (rest[0] not in tokenizer.all_special_ids and rest[0] not in tokenizer.added_tokens_decoder):
        raise SocratesError(
            f"{tokenizer.name_or_path}: its chat template does not end the assistant's turn with a special token"
        )
    return rest[0]


def prompt_fingerprint(tokenizer: PreTrainedTokenizerBase, system_message: str | None) -> str:
    """SHA-256 over what a made-up row becomes, text and token ids: template, system message and tokenizer.

    Two models whose fingerprints differ were asked in different words; their results are not compared.
    """
    probe = (
        "You are a survey respondent with the following demographic profile:\n- Age: 34\n\n"
        "Read the question below. “How much?” Only return an integer from 0 to 100, nothing else."
    )
    (text,) = prompt_texts(tokenizer, [probe], system_message)
    (ids,) = prompt_token_ids(tokenizer, [probe], system_message)
    ids = [*ids, *answer_token_ids(tokenizer, 1234567890), end_of_turn_id(tokenizer)]
    return hashlib.sha256(f"{text}\n{ids}".encode()).hexdigest()
