"""The ways of asking a model for the distribution of its answers that `bench_answers.py` compares, and the questions.

Each way takes the model, the questions and a token budget, and gives an `Outcome`. Those that compute the probability
of every valid answer give them as {question: {answer: log-probability}}, for comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import frame  # noqa: F401
import numpy as np

from socrates.config import DecodingSettings
from socrates.data.scales import Scale
from socrates.inference.engine import Engine, Question, plan_inference
from socrates.inference.trie import answer_trie
from socrates.model.chat import answer_token_ids

if TYPE_CHECKING:
    import torch

    from socrates.model.load import LoadedModel

PAPER = DecodingSettings(temperature=0.6, top_p=0.9)
# Counted on 6,069 real rows: tokens of a prompt (5, 25, 50, 75, 95% and the longest; 193 on average), tokens at the
# beginning that all share (21%), and how often a scale occurs, the rarer ones counted with those most like them.
_SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_LENGTHS = (105, 118, 142, 170, 225, 339, 488)
SHARED_TOKENS = 40
_SCALES = {(1, 7): 0.30, (1, 5): 0.27, (0, 100): 0.17, (0, 10): 0.12, (1, 2): 0.14}

LogProbabilities = dict[int, dict[int, float]]
Sequences = list[tuple[int, int, list[int], list[int]]]  # question, answer, prompt, the answer's tokens and the end


def row_lengths(count: int, mean: float | None = None) -> np.ndarray:
    """Tokens of so many prompts, ascending, spread as those of real rows; scaled to another mean, if one is given."""
    real = np.interp((np.arange(count) + 0.5) / count, _SHARES, _LENGTHS)
    return (real if mean is None else (real * mean / real.mean()).round()).astype(int)


def made_up_questions(count: int, seed: int) -> list[Question]:
    """Questions with the lengths, scales and shared beginning of real ones, in any order; their words are random.

    The rows of each scale have all lengths, so that how long they take does not hang on the seed.
    """
    rng = np.random.default_rng(seed)
    exact = np.array(list(_SCALES.values())) * count
    numbers = exact.astype(int)
    numbers[np.argsort(numbers - exact)[: count - numbers.sum()]] += 1  # largest remainders
    places = [
        ((i + 0.5) / number, scale) for scale, number in zip(_SCALES, numbers, strict=True) for i in range(number)
    ]
    beginning = rng.integers(300, 2000, size=SHARED_TOKENS).tolist()
    rows = list(zip(row_lengths(count).tolist(), (scale for _, scale in sorted(places)), strict=True))
    questions = []
    for key, row in enumerate(rng.permutation(count).tolist()):
        length, (low, high) = rows[row]
        words = rng.integers(300, 2000, size=length - SHARED_TOKENS).tolist()
        questions.append(Question((*beginning, *words), Scale(tuple(range(low, high + 1))), key))
    return questions


@dataclass(frozen=True)
class Outcome:
    """What a way gave, and what it could not do without."""

    tokens: int  # through the layers, without padding
    work: float = 0.0  # floating-point operations, 0 if not counted
    scores: LogProbabilities | None = None


Way = Callable[["LoadedModel", Sequence[Question], int], Outcome]


def work(config: Any, tokens: int, seen: int, asked: int) -> float:
    """Operations of ``tokens`` through the layers, ``seen`` pairs of a token and one it sees, ``asked`` rows of logits.

    No padding, no masked attention, no discarded logits.
    """
    size = config.hidden_size // config.num_attention_heads
    attention = 2 * config.hidden_size * (config.hidden_size + config.num_key_value_heads * size)
    layer = attention + 3 * config.hidden_size * config.intermediate_size
    weights = tokens * config.num_hidden_layers * layer + asked * config.vocab_size * config.hidden_size
    return 2.0 * weights + 4.0 * config.num_hidden_layers * config.hidden_size * seen


def pairs(lengths: Iterable[int]) -> int:
    """Pairs of a token and one that it sees, for sequences of these lengths."""
    return sum(length * (length + 1) // 2 for length in lengths)


def this(loaded: LoadedModel, questions: Sequence[Question], budget: int) -> Outcome:
    """`socrates.inference.engine`, as an evaluation calls it."""
    beginning, lengths = plan_inference(loaded.tokenizer, questions)
    batches = Engine(loaded, beginning, PAPER, max_batch_tokens=budget).answer_all(questions, lengths)
    results = dict(pair for batch, found in batches for pair in zip(batch, found, strict=True))
    tries = {scale: answer_trie(loaded.tokenizer, scale.values) for scale in {q.scale for q in questions}}
    prefix = len(beginning)
    tokens, seen = prefix, pairs([prefix])
    for question in questions:
        prompt, trie = len(question.prompt_ids), tries[question.scale]
        tokens += prompt - prefix + len(trie)
        seen += pairs([prompt]) - pairs([prefix]) + len(trie) * prompt + int(trie.depths.sum())
    asked = sum(1 + len(tries[question.scale]) for question in questions)
    scores = {
        index: {
            value: math.log(p) if p > 0 else -math.inf
            for value, p in zip(result.values.tolist(), result.probabilities.tolist(), strict=True)
        }
        for index, result in results.items()
    }
    return Outcome(tokens, work(loaded.causal_lm.config, tokens, seen, asked), scores)


def prefill(loaded: LoadedModel, questions: Sequence[Question], budget: int) -> Outcome:
    """Every prompt once through the model, sorted, plain causal attention, and the logits after its last token."""
    import torch

    hidden_of, logits_of = _halves(loaded)
    lengths = [len(question.prompt_ids) for question in questions]
    with torch.inference_mode():
        for batch in _batches(lengths, budget):
            ids, sizes = _right_padded(loaded, [list(questions[index].prompt_ids) for index in batch])
            logits_of(hidden_of(ids)[torch.arange(len(batch), device=ids.device), sizes - 1]).softmax(dim=1)
    operations = work(loaded.causal_lm.config, sum(lengths), pairs(lengths), len(questions))
    return Outcome(sum(lengths), operations)


def option_by_option(loaded: LoadedModel, questions: Sequence[Question], budget: int) -> Outcome:
    """Every option a sequence of its own with its end, sorted; the head only where it is needed, in float32."""
    import torch

    hidden_of, logits_of = _halves(loaded)
    sequences = _every_option(loaded, questions)
    lengths = [len(prompt) + len(answer) - 1 for _, _, prompt, answer in sequences]
    scores: LogProbabilities = {}
    with torch.inference_mode():
        for batch in _batches(lengths, budget):
            options = [sequences[number] for number in batch]
            ids, _ = _right_padded(loaded, [[*prompt, *answer[:-1]] for _, _, prompt, answer in options])
            hidden = hidden_of(ids)
            rows = torch.cat([hidden[n, len(p) - 1 : len(p) + len(a) - 1] for n, (_, _, p, a) in enumerate(options)])
            targets = torch.tensor([token for *_, answer in options for token in answer], device=ids.device)
            logs = logits_of(rows).log_softmax(dim=1)[torch.arange(len(rows)), targets].tolist()
            for index, value, _, answer in options:
                scores.setdefault(index, {})[value] = sum(logs[: len(answer)])
                del logs[: len(answer)]
    asked = sum(len(answer) for *_, answer in sequences)
    return Outcome(sum(lengths), work(loaded.causal_lm.config, sum(lengths), pairs(lengths), asked), scores)


def generate(new_tokens: int, *, batched: bool = False) -> Way:
    """`generate` of so many tokens with the paper's decoding: one draw a question, row by row or in padded batches."""

    def way(loaded: LoadedModel, questions: Sequence[Question], budget: int) -> Outcome:
        import torch

        lengths = [len(question.prompt_ids) for question in questions]
        for batch in _batches(lengths, budget) if batched else [[index] for index in range(len(questions))]:
            size = max(lengths[index] for index in batch)
            rows = [list(questions[index].prompt_ids) for index in batch]
            fill = [size - len(row) for row in rows]
            pad = loaded.tokenizer.pad_token_id
            ids = [[pad] * missing + row for missing, row in zip(fill, rows, strict=True)]
            mask = [[0] * missing + [1] * len(row) for missing, row in zip(fill, rows, strict=True)]
            output = loaded.model.generate(
                input_ids=torch.tensor(ids, device=loaded.device),
                attention_mask=torch.tensor(mask, device=loaded.device),
                max_new_tokens=new_tokens,
                do_sample=True,
                temperature=PAPER.temperature,
                top_p=PAPER.top_p,
                top_k=0,
                repetition_penalty=1.0,
            )
            assert output.shape[1] == size + new_tokens
        return Outcome(sum(lengths) + (new_tokens - 1) * len(questions))

    return way


def largest_difference(found: LogProbabilities, expected: LogProbabilities) -> float:
    """Of the log-probabilities of all answers to all questions, answer by answer; infinite if answers are missing."""
    if {i: set(a) for i, a in found.items()} != {i: set(a) for i, a in expected.items()}:
        return math.inf
    return max(abs(found[i][value] - expected[i][value]) for i in expected for value in expected[i])


def _every_option(loaded: LoadedModel, questions: Sequence[Question]) -> Sequences:
    (end,) = loaded.end_token_ids
    answers = {
        scale: [[*answer_token_ids(loaded.tokenizer, value), end] for value in scale.values]
        for scale in {question.scale for question in questions}
    }
    return [
        (index, value, list(question.prompt_ids), answer)
        for index, question in enumerate(questions)
        for value, answer in zip(question.scale.values, answers[question.scale], strict=True)
    ]


def _halves(loaded: LoadedModel) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """The decoder without the head, and the head in float32."""
    decoder, head = loaded.causal_lm.get_decoder(), loaded.causal_lm.get_output_embeddings().weight.float()
    return lambda ids: decoder(input_ids=ids, use_cache=False).last_hidden_state, lambda hidden: hidden.float() @ head.T


def _right_padded(loaded: LoadedModel, rows: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    size = max(map(len, rows))
    ids = torch.tensor([row + [0] * (size - len(row)) for row in rows], device=loaded.device)
    return ids, torch.tensor([len(row) for row in rows], device=loaded.device)


def _batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Longest first, cut where the budget is full or a sequence lacks a thirty-second of the batch's longest."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        longest = lengths[batches[-1][0]] if batches else 0
        if not batches or (len(batches[-1]) + 1) * longest > budget or (longest - lengths[index]) * 32 > longest:
            batches.append([])
        batches[-1].append(index)
    return batches
