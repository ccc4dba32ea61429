"""The tiny base model of a rehearsal: a tokenizer and a Qwen2, made from a seed and a data file's prompts.

It is trained for some seconds to answer in the required format, with every valid answer equally likely: like an
instruction-tuned model it knows how to answer and nothing about people, so a rehearsal's baseline is no better than
guessing, as the real one is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, pre_tokenizers
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from socrates.console import progress
from socrates.data.records import Answer, read_answers
from socrates.data.scales.text import parse_scale, question_text
from socrates.errors import SocratesError
from socrates.model.chat import answer_token_ids, end_of_turn_id, prompt_token_ids

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_base_model(folder: Path, data_file: Path, seed: int = 0, *, steps: int = 250) -> None:
    """Make a tiny Qwen2 chat model and its tokenizer from the prompts of a data file.

    Args:
        folder: gets config, weights, tokenizer; usable wherever a model's name is.
        data_file: its prompts train the tokenizer and, with random valid answers, the answer format.
        seed: of weights, batches and answers.
        steps: of training the format.

    Raises:
        SocratesError: a bad data file, or one in which no question states its valid answers.
    """
    answers = list(read_answers(data_file))
    closed = _mixed_questions(answers, seed)
    if not closed:
        raise SocratesError(f"{data_file}: no question states its valid answers; a rehearsal needs some that do")
    tokenizer = _train_tokenizer([answer.prompt for answer in answers])
    torch.manual_seed(seed)
    model = _tiny_qwen2(tokenizer)
    _teach_format(model, tokenizer, closed, steps, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _mixed_questions(answers: list[Answer], seed: int, count: int = 3000) -> list[tuple[str, tuple[int, ...]]]:
    """Prompts that end in the question of another row, with that question's valid answers.

    What went before a question then tells nothing about its scale: the model has to read the answer instruction.
    """
    scales = {text: parse_scale(text) for text in {question_text(answer.stimuli) for answer in answers}}
    endings = sorted((text, scale.values) for text, scale in scales.items() if scale is not None)
    if not endings:
        return []
    rng = np.random.default_rng([seed, 1])
    questions = []
    for i, j in zip(rng.integers(len(answers), size=count), rng.integers(len(endings), size=count), strict=True):
        prompt, (ending, values) = answers[i].prompt, endings[j]
        questions.append((f"{prompt[: -len(question_text(answers[i].stimuli))]}{ending}", values))
    return questions


def _train_tokenizer(texts: list[str]) -> Qwen2Tokenizer:
    """Qwen2's tokenizer (digits one by one, ChatML's special tokens) with a small vocabulary made from the texts."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    untrained = Qwen2Tokenizer(vocab={character: i for i, character in enumerate(alphabet)}, merges=[])
    tokenizer = untrained.train_new_from_iterator(
        [*texts, "system user assistant\n"], vocab_size=2048, show_progress=False
    )
    tokenizer.add_tokens([AddedToken(text, special=True) for text in ("<|im_start|>", "<|im_end|>")])
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.model_max_length = 4096
    return tokenizer


def _tiny_qwen2(tokenizer: Qwen2Tokenizer) -> Any:
    end, padding = tokenizer.eos_token_id, tokenizer.pad_token_id
    config = Qwen2Config(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=padding,
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=[end, padding], pad_token_id=padding)
    return model


def _teach_format(
    model: Any, tokenizer: Qwen2Tokenizer, questions: list[tuple[str, tuple[int, ...]]], steps: int, seed: int
) -> None:
    """Train all weights to answer each question with a valid answer, each equally likely.

    The target at each token of a random valid answer is the share of the valid answers that go on with each token
    (not that one answer's token alone): the same lesson, learned in far fewer steps.
    """
    rng = np.random.default_rng(seed)
    prompts = prompt_token_ids(tokenizer, [prompt for prompt, _ in questions], None)
    end = end_of_turn_id(tokenizer)
    paths = {
        values: [(*answer_token_ids(tokenizer, value), end) for value in values]
        for values in {values for _, values in questions}
        if len(values) <= 1000  # the few with longer scales would take long to list and teach nothing new
    }
    taught = [i for i, (_, values) in enumerate(questions) if values in paths]
    shares = {values: _next_token_shares(answers) for values, answers in paths.items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=max(steps, 1))
    model.train()
    for _ in progress(range(steps), "making the base model", unit=" steps"):
        rows, where, targets = [], [], []
        for n, i in enumerate(rng.choice(taught, size=32)):
            values = questions[i][1]
            answer = paths[values][rng.integers(len(values))]
            rows.append([*prompts[i], *answer[:-1]])
            for depth in range(len(answer)):
                where.append((n, len(prompts[i]) - 1 + depth))
                targets.append(shares[values][answer[:depth]])
        length = max(map(len, rows))
        ids = torch.tensor([row + [end] * (length - len(row)) for row in rows])  # the padding is never looked at
        n, position = torch.tensor(where).T
        logits = model.lm_head(model.model(input_ids=ids, use_cache=False).last_hidden_state[n, position])
        wanted = torch.zeros_like(logits)
        for row, target in enumerate(targets):
            wanted[row, list(target)] = torch.tensor(list(target.values()))
        torch.nn.functional.cross_entropy(logits, wanted).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()


def _next_token_shares(answers: list[tuple[int, ...]]) -> dict[tuple[int, ...], dict[int, float]]:
    """For each beginning of an answer: which tokens go on from there, and for what share of the answers."""
    counts: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for answer in answers:
        for depth, token in enumerate(answer):
            counts[answer[:depth]][token] += 1
    return {
        beginning: {token: count / following.total() for token, count in following.items()}
        for beginning, following in counts.items()
    }
