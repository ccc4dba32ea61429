"""The benchmark's questions: made up with the lengths and scales of real rows, or read from real ones."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from socrates.data.records import read_answers, render_prompt
from socrates.data.scales import Scale
from socrates.data.scales.text import parse_scale
from socrates.errors import SocratesError
from socrates.files import write_jsonl
from socrates.inference.engine import Question
from socrates.inference.forward import common_prefix
from socrates.model.chat import end_of_turn_id, prompt_token_ids
from socrates.rehearsal.base_model import make_base_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Counted on 6,069 real rows: tokens of a prompt (5, 25, 50, 75, 95% and the longest; 193 on average), tokens at the
# beginning that all share (21%), and how often a scale occurs, the rarer ones counted with those most like them.
_SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_LENGTHS = (105, 118, 142, 170, 225, 339, 488)
_SHARED_TOKENS = 40
_SCALES = {(1, 7): 0.30, (1, 5): 0.27, (0, 100): 0.17, (0, 10): 0.12, (1, 2): 0.14}
_SYSTEM_MESSAGE = (
    "You are simulating a survey respondent. Answer exactly as instructed, following the specified response format "
    "without additional commentary."
)
_TEXT = (
    "the town council voted on a new park by the river and some people said that it would cost more than they want to "
    "pay while others hope for a market with local food or a library that is open late in the evening for everyone"
)


def made_up_questions(count: int, seed: int) -> tuple[PreTrainedTokenizerBase, list[Question]]:
    """``count`` questions as real ones are, in any order, and the tokenizer that they were made with."""
    rng = np.random.default_rng(seed)
    rows = [_row(rng, number) for number in range(max(count, 200))]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        write_jsonl(file, rows)
        tokenizer = _tokenizer_from(file, Path(folder), seed)
    wanted = np.interp((np.arange(count) + 0.5) / count, _SHARES, _LENGTHS).astype(int)
    scales = _shared_out(list(_SCALES), list(_SCALES.values()), count)
    rng.shuffle(wanted)
    rng.shuffle(scales)
    prompts = prompt_token_ids(tokenizer, [row["prompt"] for row in rows[:count]], _SYSTEM_MESSAGE)
    alike = len(common_prefix(prompts)) if count > 1 else _SHARED_TOKENS
    shared = _cut(prompts[0], _SHARED_TOKENS)
    # From the end of the user's turn on, as the chat template has it.
    closing = prompts[0][::-1].index(end_of_turn_id(tokenizer)) + 1
    end = prompts[0][-closing:]
    questions = []
    for key, (ids, length, (low, high)) in enumerate(zip(prompts, wanted, scales, strict=True)):
        middle = ids[alike:-closing]
        body = (middle * (1 + length // len(middle)))[: length - len(shared) - len(end)]
        questions.append(Question((*shared, *body, *end), Scale(tuple(range(low, high + 1))), key))
    return tokenizer, questions


def real_questions(file: Path, count: int, seed: int) -> tuple[PreTrainedTokenizerBase, list[Question]]:
    """Up to ``count`` rows of a JSONL file whose questions state their valid answers, in random order."""
    answers = [(answer, parse_scale(answer.stimuli)) for answer in read_answers(file)]
    stated = [(answer, scale) for answer, scale in answers if scale is not None and len(scale) <= 101]
    if not stated:
        raise SocratesError(f"{file}: no row states its valid answers")
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = _tokenizer_from(file, Path(folder), seed)
    chosen = [stated[i] for i in np.random.default_rng(seed).permutation(len(stated))[:count]]
    prompts = prompt_token_ids(tokenizer, [answer.prompt for answer, _ in chosen], _SYSTEM_MESSAGE)
    return tokenizer, [
        Question(tuple(ids), scale, answer.line) for ids, (answer, scale) in zip(prompts, chosen, strict=True)
    ]


def _tokenizer_from(file: Path, folder: Path, seed: int) -> PreTrainedTokenizerBase:
    """2,048 tokens, digits one by one, ChatML: the head is then as small a part of the tiny model as of the 14B."""
    from transformers import AutoTokenizer

    make_base_model(folder / "model", file, seed, steps=0)
    return AutoTokenizer.from_pretrained(folder / "model")


def _row(rng: np.random.Generator, number: int) -> dict[str, object]:
    demographic = {"age": int(rng.integers(18, 90)), "gender": str(rng.choice(["Female", "Male"]))}
    text = " ".join(rng.choice(_TEXT.split(), size=int(rng.integers(30, 120))))
    stimuli = f'You read that {text} and then were asked: "How much?" Only return an integer from 1 to 5, nothing else.'
    return {
        "study_id": f"made{number % 40}",
        "condition_num": 0,
        "task_num": number % 7,
        "participant": number,
        "sample_id": number,
        "demographic": demographic,
        "stimuli": stimuli,
        "prompt": render_prompt(demographic, stimuli),
        "response": 1,
    }


def _shared_out(kinds: Sequence[tuple[int, int]], shares: Sequence[float], count: int) -> list[tuple[int, int]]:
    """``count`` of the kinds, each as often as its share says (largest remainders)."""
    exact = np.array(shares) / sum(shares) * count
    numbers = np.floor(exact).astype(int)
    numbers[np.argsort(numbers - exact)[: count - numbers.sum()]] += 1
    return [kind for kind, number in zip(kinds, numbers, strict=True) for _ in range(number)]


def _cut(ids: Sequence[int], length: int) -> tuple[int, ...]:
    if len(ids) < length:
        raise ValueError(f"a prompt of {len(ids)} tokens is too short to share {length}")
    return tuple(ids[:length])
