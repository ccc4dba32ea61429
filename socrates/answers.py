"""The exact probability of every valid answer to each prompt, from the model, in one pass over the prompt.

Exact: a question that states at most `MAX_TREE_ANSWERS` valid answers. Every one of them is scored with all its
tokens and the end after them, so "1", "10" and "100" are told apart (`trie.py`, `tree.py`), and the decoding is applied
to the probabilities at each step instead of drawing from it (`decoding.py`).

By draws: a question that states no valid answers, or more than that. Its distribution is that of a number of draws
(`sampling.py`), marked as such.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from socrates.batches import OVERHEAD_CPU, OVERHEAD_GPU, Budget, in_batches, make_batches, token_budget
from socrates.decoding import Decoding
from socrates.errors import SocratesError
from socrates.forward import Forward
from socrates.prefix import common_prefix, shared_prefix
from socrates.sampling import sample_token_ids
from socrates.scales import Scale
from socrates.tree import check_tree_attention, score_batch
from socrates.trie import AnswerTrie, answer_trie

if TYPE_CHECKING:
    from socrates.models import LoadedModel

__all__ = ["AnswerDistribution", "Decoding", "Question", "answer_distributions", "make_batches"]

MAX_TREE_ANSWERS = 4096  # a tree of so many nodes costs about as much as ten prompts
MAX_NEW_TOKENS = 12  # of a drawn answer, its end included
LARGEST_INTEGER = 2**53  # a drawn number beyond it cannot be averaged as a float and does not count as an answer
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")  # what str() makes of an integer: the same rule as for exact answers


@dataclass(frozen=True)
class Question:
    """One prompt, and the answers that count."""

    prompt_ids: Sequence[int]  # up to where the answer begins (`prompts.prompt_token_ids`)
    scale: Scale | None  # None where the question states no valid answers: then any integer counts
    key: int  # of the row, 0 or more: with the seed it decides what is drawn


@dataclass(frozen=True, eq=False)
class AnswerDistribution:
    """What the model answers to one question; the mass that is missing from 1 is on texts that do not count."""

    values: np.ndarray  # (A,) int64, ascending
    probabilities: np.ndarray | None  # (A,) float64 at temperature 1, summing to `valid_mass`; None if drawn
    decoded: np.ndarray  # (A,) float64 after decoding, summing to `decoded_mass`; frequencies if drawn
    exact: bool
    draws: int  # how many texts were drawn; 0 if exact

    @property
    def valid_mass(self) -> float:
        """Probability that the answer is a valid one: at temperature 1 if exact, else the share of draws."""
        return float((self.decoded if self.probabilities is None else self.probabilities).sum())

    @property
    def decoded_mass(self) -> float:
        """Probability that decoding ends up with a valid answer."""
        return float(self.decoded.sum())

    def normalized(self) -> np.ndarray | None:
        """`decoded` given that the answer is valid: (A,) float64 summing to 1; None if no valid answer is possible."""
        mass = self.decoded_mass
        return self.decoded / mass if mass > 0 else None


def answer_distributions(
    loaded: LoadedModel,
    questions: Sequence[Question],
    decoding: Decoding,
    *,
    max_batch_tokens: int | None = None,
    draws: int = 32,
    seed: int = 0,
    prefix_tokens: int | None = None,
) -> Iterator[tuple[int, AnswerDistribution]]:
    """The model's distribution over the valid answers to each question.

    A question's result does not depend on which others are asked, nor on the sizes of batches, but for rounding.

    Args:
        loaded: the model (`models.load_model`).
        questions: in any order.
        decoding: of `AnswerDistribution.decoded`, and of the draws.
        max_batch_tokens: most tokens in one forward: prompts, nodes and padding, without what all prompts share. A
            longer question goes alone. None: what the free memory allows. Where memory runs out nevertheless, it is
            halved, with a line on standard error.
        draws: how many texts are drawn for a question that cannot be answered exactly.
        seed: of the draws, together with each question's key.
        prefix_tokens: how many tokens at the beginning of every prompt are the same and computed once. None: as many
            as there are. State it where ``questions`` are a part of what is asked (one of several processes, the rest
            of an interrupted evaluation), so that every part is computed in the same way.

    Yields:
        (index into ``questions``, its distribution) as batches finish: longest first, so that memory runs out at
        once if it does; then the questions answered by draws.

    Raises:
        SocratesError: a prompt that is empty or too long for the model; a tokenizer or an architecture that cannot
            be scored exactly; a model that returns no numbers; memory that does not hold one question.
    """
    if (max_batch_tokens is not None and max_batch_tokens < 1) or draws < 1 or seed < 0:
        raise ValueError(f"max_batch_tokens={max_batch_tokens}, draws={draws}, seed={seed}: out of range")
    tries = _tries(loaded, questions)
    _check_lengths(loaded, questions, tries)
    exact = [question.prompt_ids for question in questions if question.scale in tries]
    beginning = common_prefix(exact) if prefix_tokens is None else _stated_prefix(exact, prefix_tokens)
    return _distributions(loaded, questions, tries, beginning, decoding, max_batch_tokens, draws, seed)


def _distributions(
    loaded: LoadedModel,
    questions: Sequence[Question],
    tries: Mapping[Scale | None, AnswerTrie],
    beginning: Sequence[int],
    decoding: Decoding,
    max_batch_tokens: int | None,
    draws: int,
    seed: int,
) -> Iterator[tuple[int, AnswerDistribution]]:
    forward = Forward(loaded)
    prefix = shared_prefix(forward, beginning)
    check_tree_attention(loaded, forward, prefix)
    beginning = prefix.token_ids if prefix is not None else ()
    budget = Budget(
        max_batch_tokens or token_budget(loaded.device, loaded.causal_lm.config, loaded.causal_lm.dtype.itemsize)
    )

    def score(batch: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        prompts = [questions[index].prompt_ids for index in batch]
        chosen = [tries[questions[index].scale] for index in batch]
        return score_batch(forward, prompts, chosen, loaded.end_token_ids, decoding, prefix)

    lengths = {
        index: len(question.prompt_ids) - len(beginning) + len(tries[question.scale])
        for index, question in enumerate(questions)
        if question.scale in tries
    }
    overhead = OVERHEAD_GPU if loaded.device.type == "cuda" else OVERHEAD_CPU
    for batch, scores in in_batches(lengths, budget, score, overhead=overhead):
        for index, (probabilities, decoded) in zip(batch, scores, strict=True):
            values = tries[questions[index].scale].values
            yield index, AnswerDistribution(values, probabilities, decoded, exact=True, draws=0)
    drawn = [index for index in range(len(questions)) if index not in lengths]
    for index in sorted(drawn, key=lambda index: (-len(questions[index].prompt_ids), index)):
        yield index, _drawn_distribution(loaded, forward, questions[index], decoding, budget, draws, seed)


def _drawn_distribution(
    loaded: LoadedModel,
    forward: Forward,
    question: Question,
    decoding: Decoding,
    budget: Budget,
    draws: int,
    seed: int,
) -> AnswerDistribution:
    """The question is asked alone, so that nothing but its own seed and key decides the draws."""
    uniforms = _generator(seed, question.key).random((draws, MAX_NEW_TOKENS))

    def draw(together: list[int]) -> list[list[int] | None]:
        return sample_token_ids(
            forward, question.prompt_ids, loaded.end_token_ids, decoding, uniforms[sorted(together)]
        )

    # Each draw has a cache of its own, so the budget holds for all that go together.
    lengths = dict.fromkeys(range(draws), len(question.prompt_ids) + MAX_NEW_TOKENS)
    drawn = [ids for _, part in in_batches(lengths, budget, draw) for ids in part]
    numbers = [parse_answer_text(loaded.tokenizer.decode(ids)) for ids in drawn if ids is not None]
    allowed = None if question.scale is None else frozenset(question.scale.values)
    valid = [number for number in numbers if number is not None and (allowed is None or number in allowed)]
    values, counts = np.unique(np.array(valid, dtype=np.int64), return_counts=True)
    return AnswerDistribution(values, None, counts / draws, exact=False, draws=draws)


def _stated_prefix(prompts: Sequence[Sequence[int]], length: int) -> tuple[int, ...]:
    if not prompts or length == 0:
        return ()
    beginning = tuple(prompts[0][:length])
    if length < 0 or any(len(prompt) <= length or tuple(prompt[:length]) != beginning for prompt in prompts):
        raise ValueError(f"prefix_tokens={length}: not every prompt begins with the same {length} tokens and goes on")
    return beginning


def parse_answer_text(text: str) -> int | None:
    """The integer that a text is, as a whole and as `str` writes it; None for any other text."""
    if not _INTEGER.fullmatch(text) or abs(int(text)) > LARGEST_INTEGER:
        return None
    return int(text)


def _tries(loaded: LoadedModel, questions: Sequence[Question]) -> dict[Scale | None, AnswerTrie]:
    """The tree of each scale that is small enough for one."""
    scales = dict.fromkeys(question.scale for question in questions)
    return {
        scale: answer_trie(loaded.tokenizer, scale.values)
        for scale in scales
        if scale is not None and len(scale.values) <= MAX_TREE_ANSWERS
    }


def _check_lengths(
    loaded: LoadedModel, questions: Sequence[Question], tries: Mapping[Scale | None, AnswerTrie]
) -> None:
    config = loaded.causal_lm.config
    limit = getattr(config, "max_position_embeddings", None)
    # In such layers a token sees only the last so many; our mask would let it see everything.
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    if window is not None and kinds != {"full_attention"}:
        limit = min(window, limit or window)
    for question in questions:
        if not question.prompt_ids:
            raise SocratesError(f"the prompt of row {question.key} is empty")
        trie = tries.get(question.scale)
        length = len(question.prompt_ids) + (int(trie.depths[-1]) if trie is not None else MAX_NEW_TOKENS)
        if limit is not None and length > limit:
            raise SocratesError(
                f"the prompt of row {question.key} has {len(question.prompt_ids)} tokens; with its answer that is "
                f"more than {loaded.base_name} can read ({limit})"
            )


def _generator(seed: int, key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(key,)))
