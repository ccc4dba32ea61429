"""The ways of asking a model for the distribution of its answers that the benchmark compares.

Each takes the model, the questions and a token budget, and gives an `Outcome`. Those that compute the probability of
every valid answer give them as {question: {answer: log-probability}}, for comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from answer_model import Work, pairs

from socrates.inference.batching import BatchQueue
from socrates.inference.decoding import Decoding
from socrates.inference.engine import Question, answer_distributions, plan_inference
from socrates.inference.forward import Forward
from socrates.inference.trie import answer_trie
from socrates.model.chat import answer_token_ids

if TYPE_CHECKING:
    import torch

    from socrates.model.load import LoadedModel

PAPER = Decoding(temperature=0.6, top_p=0.9)
LogProbabilities = dict[int, dict[int, float]]
Sequences = list[tuple[int, int, list[int], list[int]]]  # question, answer, prompt, the answer's tokens and the end


@dataclass(frozen=True)
class Outcome:
    """What a way gave, and what it cost."""

    tokens: int  # through the layers, without padding
    padded: int  # with padding
    work: float  # floating-point operations that it could not do without, 0 if not counted
    scores: LogProbabilities | None = None


Way = Callable[["LoadedModel", Sequence[Question], int], Outcome]


def this(loaded: LoadedModel, questions: Sequence[Question], budget: int, *, shared: bool = True) -> Outcome:
    """`socrates.inference.engine`, as an evaluation calls it."""
    results = dict(answer_distributions(loaded, questions, PAPER, max_batch_tokens=budget, share_beginning=shared))
    plan = plan_inference(loaded.tokenizer, questions, share_beginning=shared)
    lengths, prefix = plan.lengths, len(plan.beginning)
    tries = {question.scale: None for question in questions}
    tries = {scale: answer_trie(loaded.tokenizer, scale.values) for scale in tries}
    seen = pairs([prefix])
    for question in questions:
        prompt, trie = len(question.prompt_ids), tries[question.scale]
        seen += pairs([prompt]) - pairs([prefix]) + len(trie) * prompt + int(trie.depths.sum())
    asked = sum(1 + len(tries[question.scale]) for question in questions)
    tokens = prefix + sum(lengths.values())
    return Outcome(
        tokens,
        prefix + _padded(lengths, budget, loaded),
        Work(loaded.causal_lm.config).of(tokens, seen, asked),
        {
            index: {
                value: math.log(p) if p > 0 else -math.inf
                for value, p in zip(result.values.tolist(), result.probabilities.tolist(), strict=True)
            }
            for index, result in results.items()
        },
    )


def this_without_prefix(loaded: LoadedModel, questions: Sequence[Question], budget: int) -> Outcome:
    """The same, with nothing computed beforehand."""
    return this(loaded, questions, budget, shared=False)


def prefill(loaded: LoadedModel, questions: Sequence[Question], budget: int) -> Outcome:
    """Every prompt once through the model, sorted, plain causal attention, and the logits after its last token."""
    import torch

    forward = Forward(loaded)
    lengths = {index: len(question.prompt_ids) for index, question in enumerate(questions)}
    with torch.inference_mode():
        for batch in _batches(lengths, budget):
            ids, sizes = _right_padded(loaded, [list(questions[index].prompt_ids) for index in batch])
            hidden = forward.hidden(ids, use_cache=False).last_hidden_state
            forward.logits(hidden[torch.arange(len(batch), device=ids.device), sizes - 1]).softmax(dim=1)
    tokens = sum(lengths.values())
    work = Work(loaded.causal_lm.config).of(tokens, pairs(lengths.values()), len(questions))
    return Outcome(tokens, _padded(lengths, budget, loaded), work)


def option_by_option(loaded: LoadedModel, questions: Sequence[Question], budget: int) -> Outcome:
    """Every option a sequence of its own with its end, sorted; the head only where it is needed, in float32."""
    import torch

    forward = Forward(loaded)
    sequences = _every_option(loaded, questions)
    lengths = {number: len(prompt) + len(answer) - 1 for number, (_, _, prompt, answer) in enumerate(sequences)}
    scores: LogProbabilities = {}
    with torch.inference_mode():
        for batch in _batches(lengths, budget):
            chosen = [sequences[number] for number in batch]
            ids, _ = _right_padded(loaded, [[*prompt, *answer[:-1]] for _, _, prompt, answer in chosen])
            hidden = forward.hidden(ids, use_cache=False).last_hidden_state
            rows = torch.cat([hidden[n, len(p) - 1 : len(p) + len(a) - 1] for n, (_, _, p, a) in enumerate(chosen)])
            targets = torch.tensor([token for *_, answer in chosen for token in answer], device=ids.device)
            logs = forward.logits(rows).log_softmax(dim=1)[torch.arange(len(rows)), targets].tolist()
            for index, value, _, answer in chosen:
                scores.setdefault(index, {})[value] = sum(logs[: len(answer)])
                del logs[: len(answer)]
    asked = sum(len(answer) for *_, answer in sequences)
    work = Work(loaded.causal_lm.config).of(sum(lengths.values()), pairs(lengths.values()), asked)
    return Outcome(sum(lengths.values()), _padded(lengths, budget, loaded), work, scores)


def lm_eval_algorithm(loaded: LoadedModel, questions: Sequence[Question], budget: int) -> Outcome:
    """The calls of lm-evaluation-harness 0.4's `HFLM._loglikelihood_tokens`, for options with their end token.

    Its order (longest first), its batches (a fixed number of sequences), its right padding, the model's logits at all
    positions, its log_softmax over all of them in the model's dtype, its greedy check and its gather. It reuses a
    sequence only for continuations of one token, which these are not: each has its end.
    """
    import torch

    sequences = sorted(_every_option(loaded, questions), key=lambda s: (-len(s[2] + s[3]), s[2] + s[3]))
    together = _sequences_together(sequences, budget)
    scores: LogProbabilities = {}
    padded = 0
    with torch.no_grad():
        for start in range(0, len(sequences), together):
            chunk = sequences[start : start + together]
            ids, sizes = _right_padded(loaded, [(prompt + answer)[:-1] for _, _, prompt, answer in chunk])
            padded += ids.numel()
            multi_logits = torch.nn.functional.log_softmax(loaded.model(ids).logits, dim=-1)
            for (index, value, _, answer), logits, size in zip(chunk, multi_logits, sizes.tolist(), strict=True):
                logits = logits[size - len(answer) : size].unsqueeze(0)
                tokens = torch.tensor(answer, device=ids.device).unsqueeze(0)
                bool((logits.argmax(dim=-1) == tokens).all())
                scores.setdefault(index, {})[value] = float(torch.gather(logits, 2, tokens.unsqueeze(-1)).sum())
    return Outcome(sum(len(p) + len(a) - 1 for _, _, p, a in sequences), padded, 0.0, scores)


def lm_eval_package(loaded: LoadedModel, questions: Sequence[Question], budget: int) -> Outcome:
    """The same through the installed package itself."""
    from lm_eval.models.huggingface import HFLM

    sequences = _every_option(loaded, questions)
    together = _sequences_together(sequences, budget)
    harness = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=together, device=str(loaded.device))
    requests = [((str(n), str(value)), p, a) for n, (_, value, p, a) in enumerate(sequences)]
    scores: LogProbabilities = {}
    for (index, value, *_), (log, _) in zip(
        sequences, harness._loglikelihood_tokens(requests, disable_tqdm=True), strict=True
    ):
        scores.setdefault(index, {})[value] = log
    tokens = sum(len(prompt) + len(answer) - 1 for _, _, prompt, answer in sequences)
    return Outcome(tokens, 0, 0.0, scores)


def generate(new_tokens: int, *, batched: bool = False) -> Way:
    """`generate` of so many tokens with the paper's decoding: one draw a question, row by row or in padded batches."""

    def way(loaded: LoadedModel, questions: Sequence[Question], budget: int) -> Outcome:
        import torch

        lengths = {index: len(question.prompt_ids) for index, question in enumerate(questions)}
        batches = _batches(lengths, budget) if batched else [[index] for index in lengths]
        padded = 0
        for batch in batches:
            size = max(lengths[index] for index in batch)
            rows = [list(questions[index].prompt_ids) for index in batch]
            fill = loaded.tokenizer.pad_token_id
            output = loaded.model.generate(
                input_ids=torch.tensor([[fill] * (size - len(row)) + row for row in rows], device=loaded.device),
                attention_mask=torch.tensor(
                    [[0] * (size - len(row)) + [1] * len(row) for row in rows], device=loaded.device
                ),
                max_new_tokens=new_tokens,
                do_sample=True,
                temperature=PAPER.temperature,
                top_p=PAPER.top_p,
                top_k=0,
                repetition_penalty=1.0,
            )
            assert output.shape[1] == size + new_tokens
            padded += output.numel()
        return Outcome(sum(lengths.values()) + new_tokens * len(questions), padded, 0.0)

    return way


def largest_difference(found: LogProbabilities, expected: LogProbabilities) -> float:
    """Of the log-probabilities of all answers to all questions, answer by answer; infinite if answers are missing."""
    if {i: set(a) for i, a in found.items()} != {i: set(a) for i, a in expected.items()}:
        return math.inf
    return max(abs(found[i][value] - expected[i][value]) for i in expected for value in expected[i])


def _every_option(loaded: LoadedModel, questions: Sequence[Question]) -> Sequences:
    (end,) = loaded.end_token_ids
    tokens = {
        scale: [[*answer_token_ids(loaded.tokenizer, value), end] for value in scale.values]
        for scale in {question.scale for question in questions}
    }
    return [
        (index, value, list(question.prompt_ids), answer)
        for index, question in enumerate(questions)
        for value, answer in zip(question.scale.values, tokens[question.scale], strict=True)
    ]


def _sequences_together(sequences: Sequences, budget: int) -> int:
    return max(1, int(budget // np.mean([len(prompt) + len(answer) for _, _, prompt, answer in sequences])))


def _right_padded(loaded: LoadedModel, rows: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    size = max(map(len, rows))
    ids = torch.tensor([row + [0] * (size - len(row)) for row in rows], device=loaded.device)
    return ids, torch.tensor([len(row) for row in rows], device=loaded.device)


def _padded(lengths: Mapping[int, int], budget: int, loaded: LoadedModel) -> int:
    batches = _batches(lengths, budget)
    return sum(len(batch) * lengths[batch[0]] for batch in batches)


def _batches(lengths: dict[int, int], budget: int) -> list[list[int]]:
    return list(iter(BatchQueue(lengths, budget).take, []))
