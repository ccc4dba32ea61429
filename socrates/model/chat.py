"""How a row becomes a conversation, and a conversation token ids: one way, for training and for evaluation.

The user's turn is the row's `prompt`, the assistant's turn the bare integer; a system message stands there only where
the config gives one (a chat template may add one of its own: Qwen2.5's does).

A template comes with a checkpoint, and nobody has read it: whatever is wrong with it is one line, a date in it is the
config's, and time, memory and length of the text are limited. What Python cannot interrupt (to compare lists that hold
one another a hundred times over) the kernel ends, with the process (SIGXCPU). Does not cover: a hole in the library's
sandbox; a template that is random, which jinja's can be.
"""

from __future__ import annotations

import datetime
import hashlib
import resource
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psutil

from socrates.config import PromptSettings
from socrates.errors import SocratesError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Prompt = str | Sequence[dict[str, str]]  # one text of the user's, or messages in turn, the last one theirs
_SECONDS, _CPU_SECONDS, _BYTES = 5, 100, 2**29  # the template's; all threads', others may be busy; beyond what we have


def chat_messages(prompt: Prompt, system_message: str | None = None) -> list[dict[str, str]]:
    """The conversation up to the assistant's turn."""
    system = [{"role": "system", "content": system_message}] if system_message is not None else []
    return [*system, *([{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt)]


def conversation_texts(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Any], today: datetime.date, *, answer_follows: bool
) -> list[str]:
    """What the chat template makes of each conversation, a list of messages; in the main thread only.

    ``answer_follows``: the text ends where it begins. SocratesError: the template fails, goes beyond a limit or leaves
    a system message out.
    """
    # `apply_chat_template` takes no functions from its caller, and so no other clock.
    from transformers.utils.chat_template_utils import _compile_jinja_template

    texts = []
    clock = {"strftime_now": lambda form: today.strftime(form), "date_string": today.strftime("%d %b %Y")}  # Llama 3's
    known = {**tokenizer.special_tokens_map, **clock, "raise_exception": _refuse, "tools": None, "documents": None}
    try:
        with _limits(1 + len(conversations) / 1000):
            template = _compile_jinja_template(tokenizer.chat_template)
            for messages in conversations:
                text = template.render(known, messages=messages, add_generation_prompt=answer_follows)
                if len(text.encode()) > 100_000 + 8 * sum(len(message["content"]) for message in messages):
                    raise ValueError(f"it makes {len(text):,} characters of a conversation")
                if messages[0]["role"] == "system" and messages[0]["content"].strip() not in text:
                    raise ValueError("it leaves the system message out")
                texts.append(text)
    except Exception as error:  # every kind: jinja's own, and those of what a template calls
        why = f"it takes over {_BYTES >> 20} MiB" if isinstance(error, MemoryError) else first_line(error)[:200]
        why = f"{tokenizer.name_or_path}: its chat template cannot be used: {why}"
        if conversations[0][0]["role"] == "system":
            why += '; if it has no system role, set "prompt.system_message" to null, for baseline and checkpoint alike'
        raise SocratesError(why) from error
    return texts


def _refuse(why: object) -> None:
    raise ValueError(str(why))  # within the limits: what it holds may be large


@contextmanager
def _limits(share: float) -> Iterator[None]:
    def check(*_: object) -> None:
        if time.thread_time() > end:
            raise TimeoutError(f"it takes over {_SECONDS * share:.0f} s")

    end = time.thread_time() + _SECONDS * share
    memory, cpu = psutil.Process().memory_info().vms + _BYTES * share, time.process_time() + _CPU_SECONDS * share
    before = {kind: resource.getrlimit(kind) for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU)}
    handler = signal.signal(signal.SIGALRM, check)
    signal.setitimer(signal.ITIMER_REAL, 1, 1)  # seconds; again where jinja has swallowed the error
    try:
        for (kind, (soft, hard)), limit in zip(before.items(), (memory, cpu), strict=True):
            resource.setrlimit(kind, (int(limit) if soft < 0 else min(int(limit), soft), hard))  # below 0: none
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler or signal.SIG_DFL)
        for kind, limits in before.items():
            resource.setrlimit(kind, limits)


def prompt_texts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], settings: PromptSettings | None = None
) -> list[str]:
    """The prompts as the model reads them: through the chat template, up to where the answer begins."""
    settings = settings or PromptSettings()
    if not tokenizer.chat_template:
        why = "no chat template, or several and none that is named default; use an instruction-tuned model"
        raise SocratesError(f"{tokenizer.name_or_path}: its tokenizer has {why}")
    conversations = [chat_messages(prompt, settings.system_message) for prompt in prompts]
    return conversation_texts(tokenizer, conversations, settings.date, answer_follows=True)


def prompt_token_ids(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], settings: PromptSettings | None = None
) -> list[list[int]]:
    """Token ids of each prompt, special tokens of the chat template included, none added."""
    texts = prompt_texts(tokenizer, prompts, settings)
    return tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []


def prompt_frame(tokenizer: PreTrainedTokenizerBase, settings: PromptSettings | None = None) -> tuple[str, str] | None:
    """What the chat template puts before and after every prompt; None where that depends on the prompt.

    Found on prompts that begin and end in all the ways that templates are known to treat: white space (which some
    trim), line breaks, special tokens.
    """
    probes = ["How many?", "  How many? ", "\nHow many?\n\n", "7", "<think>\nHow?\n</think>\n\nmany", "{{ 'a' }} & <b>"]
    texts = prompt_texts(tokenizer, probes, settings)
    before, found, after = texts[0].rpartition(probes[0])
    same = found and all(text == f"{before}{probe}{after}" for probe, text in zip(probes, texts, strict=True))
    return (before, after) if same else None


def answer_token_ids(tokenizer: PreTrainedTokenizerBase, value: int) -> list[int]:
    """As `answers_token_ids`, of one."""
    return answers_token_ids(tokenizer, [value])[0]


def answers_token_ids(tokenizer: PreTrainedTokenizerBase, values: Sequence[int]) -> list[list[int]]:
    """Token ids of each bare answer, as it stands right after the prompt.

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


def answered_texts(tokenizer: PreTrainedTokenizerBase, prompt: str, values: Sequence[int]) -> list[str]:
    """The whole conversation with each answer, through the chat template."""
    conversations = [[*chat_messages(prompt), {"role": "assistant", "content": str(value)}] for value in values]
    return conversation_texts(tokenizer, conversations, PromptSettings().date, answer_follows=False)


def end_of_turn_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that the chat template puts right after the assistant's answer (`<|im_end|>` in Qwen's).

    Raises:
        SocratesError: the template changes the answer, or what follows it is not one special token.
    """
    (before,) = prompt_texts(tokenizer, ["How many?"])
    (whole,) = answered_texts(tokenizer, "How many?", [7])
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


def prompt_fingerprint(tokenizer: PreTrainedTokenizerBase, settings: PromptSettings | None = None) -> str:
    """SHA-256 over what a made-up row becomes, text and token ids: template, system message, date and tokenizer.

    Two models whose fingerprints differ were asked in different words; their results are not compared.
    """
    probe = (
        "You are a survey respondent with the following demographic profile:\n- Age: 34\n\n"
        "Read the question below. “How much?” Only return an integer from 0 to 100, nothing else."
    )
    (text,) = prompt_texts(tokenizer, [probe], settings)
    (ids,) = prompt_token_ids(tokenizer, [probe], settings)
    ids = [*ids, *answer_token_ids(tokenizer, 1234567890), end_of_turn_id(tokenizer)]
    return hashlib.sha256(f"{text}\n{ids}".encode()).hexdigest()
