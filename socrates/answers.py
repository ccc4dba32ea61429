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

from socrates.decoding import Decoding
from socrates.errors import SocratesError
from socrates.forward import Forward
from socrates.sampling import sample_token_ids
from socrates.scales import Scale
from socrates.tree import check_tree_attention, score_batch
from socrates.trie import AnswerTrie, answer_trie

if TYPE_CHECKING:
    from socrates.models import LoadedModel

__all__ = ["AnswerDistribution", "Decoding", "Question", "answer_distributions"]

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
    max_batch_tokens: int = 8192,
    draws: int = 32,
    seed: int = 0,
) -> Iterator[tuple[int, AnswerDistribution]]:
    """The model's distribution over the valid answers to each question.

    A question's result does not depend on which others are asked, nor on the sizes of batches, but for rounding.

    Args:
        loaded: the model (`models.load_model`).
        questions: in any order.
        decoding: of `AnswerDistribution.decoded`, and of the draws.
        max_batch_tokens: most tokens in one forward: prompts, nodes and padding. A longer question goes alone.
        draws: how many texts are drawn for a question that cannot be answered exactly.
        seed: of the draws, together with each question's key.

    Yields:
        (index into ``questions``, its distribution) as batches finish: longest first, so that memory runs out at
        once if it does; then the questions answered by draws.

    Raises:
        SocratesError: a prompt that is empty or too long for the model; a tokenizer or an architecture that cannot
            be scored exactly; a model that returns no numbers.
    """
    if max_batch_tokens < 1 or draws < 1 or seed < 0:
        raise ValueError(f"max_batch_tokens={max_batch_tokens}, draws={draws}, seed={seed}: out of range")
    tries = _tries(loaded, questions)
    _check_lengths(loaded, questions, tries)
    return _distributions(loaded, questions, tries, decoding, max_batch_tokens, draws, seed)


def make_batches(lengths: Mapping[int, int], max_batch_tokens: int) -> Iterator[list[int]]:
    """Group items, longest first, so that (items x longest of them) stays within a budget.

    Args:
        lengths: tokens of each item, by its index.
        max_batch_tokens: the budget; an item that is longer makes a batch of its own.
    """
    batch: list[int] = []
    for index in sorted(lengths, key=lambda item: (-lengths[item], item)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > max_batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _distributions(
    loaded: LoadedModel,
    questions: Sequence[Question],
    tries: Mapping[Scale | None, AnswerTrie],
    decoding: Decoding,
    max_batch_tokens: int,
    draws: int,
    seed: int,
) -> Iterator[tuple[int, AnswerDistribution]]:
    forward = Forward(loaded)
    check_tree_attention(loaded, forward)
    lengths = {
        index: len(question.prompt_ids) + len(tries[question.scale])
        for index, question in enumerate(questions)
        if question.scale in tries
    }
    for batch in make_batches(lengths, max_batch_tokens):
        prompts = [questions[index].prompt_ids for index in batch]
        chosen = [tries[questions[index].scale] for index in batch]
        scores = score_batch(forward, prompts, chosen, loaded.end_token_ids, decoding)
        for index, trie, (probabilities, decoded) in zip(batch, chosen, scores, strict=True):
            yield index, AnswerDistribution(trie.values, probabilities, decoded, exact=True, draws=0)
    drawn = [index for index in range(len(questions)) if index not in lengths]
    for index in sorted(drawn, key=lambda index: (-len(questions[index].prompt_ids), index)):
        yield index, _drawn_distribution(loaded, forward, questions[index], decoding, max_batch_tokens, draws, seed)


def _drawn_distribution(
    loaded: LoadedModel,
    forward: Forward,
    question: Question,
    decoding: Decoding,
    max_batch_tokens: int,
    draws: int,
    seed: int,
) -> AnswerDistribution:
    """The question is asked alone, so that nothing but its own seed and key decides the draws."""
    uniforms = _generator(seed, question.key).random((draws, MAX_NEW_TOKENS))
    # Each draw has a cache of its own, so the budget holds for all that go together.
    at_once = max(1, max_batch_tokens // (len(question.prompt_ids) + MAX_NEW_TOKENS))
    drawn = [
        ids
        for start in range(0, draws, at_once)
        for ids in sample_token_ids(
            forward, question.prompt_ids, loaded.end_token_ids, decoding, uniforms[start : start + at_once]
        )
    ]
    numbers = [parse_answer_text(loaded.tokenizer.decode(ids)) for ids in drawn if ids is not None]
    allowed = None if question.scale is None else frozenset(question.scale.values)
    valid = [number for number in numbers if number is not None and (allowed is None or number in allowed)]
    values, counts = np.unique(np.array(valid, dtype=np.int64), return_counts=True)
    return AnswerDistribution(values, None, counts / draws, exact=False, draws=draws)


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
