"""Engine: the exact probability of every valid answer to each question, in one forward pass over its prompt.

Exact: a question that states at most `MAX_TREE_ANSWERS` valid answers (`trie.py`, `tree_attention.py`); the decoding is
applied to the probabilities at each step (`decoding.py`). By sampling, and marked as such: any other question.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from socrates.config import DecodingSettings
from socrates.data.scales import Scale
from socrates.errors import SocratesError
from socrates.files import sha256_file
from socrates.inference.batching import BatchQueue, run_batches, token_budget
from socrates.inference.decoding import sample_token_ids
from socrates.inference.forward import Forward, common_prefix, shared_prefix
from socrates.inference.tree_attention import check_tree_attention, score_batch
from socrates.inference.trie import answer_trie
from socrates.model.adapter import ADAPTER_WEIGHTS
from socrates.model.hub import ModelFiles
from socrates.model.load import LoadedModel, load_model

Result = TypeVar("Result")

MAX_TREE_ANSWERS = 4096  # a tree of so many nodes costs about as much as ten prompts
MAX_NEW_TOKENS = 12  # of a sampled answer, its end included
SAMPLES = 32  # of each question that is answered by sampling
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")
LARGEST_INTEGER = 2**53  # a sampled number beyond it cannot be averaged as a float and does not count as an answer
# As `str` writes an answer: the same rule as for exact answers.
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,15})\.[0-9]{0,3}[1-9]")


@dataclass(frozen=True)
class Question:
    """One prompt, and the answers that count."""

    prompt_ids: Sequence[int]  # up to where the answer begins (`chat.prompt_token_ids`)
    scale: Scale | None  # None where the question states no valid answers: then any integer counts
    key: int  # of the row, 0 or more: with the seed it decides what is sampled


@dataclass(frozen=True, eq=False)
class AnswerDistribution:
    """What the model answers to one question; the mass that is missing from 1 is on texts that do not count."""

    values: np.ndarray  # (A,) int64, or float64 where the scale has decimals; ascending
    probabilities: np.ndarray | None  # (A,) float64 at temperature 1, summing to `valid_mass`; None if sampled
    decoded: np.ndarray  # (A,) float64 after decoding; frequencies if sampled
    exact: bool

    @property
    def valid_mass(self) -> float:
        """Probability that the answer is a valid one: at temperature 1 if exact, else the share of samples."""
        return float((self.decoded if self.probabilities is None else self.probabilities).sum())

    def normalized(self) -> np.ndarray | None:
        """`decoded` given that the answer is valid: (A,) float64 summing to 1; None if no valid answer is possible."""
        mass = self.decoded.sum()
        return self.decoded / mass if mass > 0 else None


def plan_inference(
    tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question]
) -> tuple[tuple[int, ...], dict[int, int | None]]:
    """How questions are answered, decided from all of them: so what is left after an interruption changes nothing.

    Args:
        tokenizer: the model's.
        questions: all that are asked, also those that were answered before an interruption.

    Returns:
        The tokens that the prompts of all begin with that are answered exactly; they are computed once. And the tokens
        that go through the model for each question, by its index; None: it is answered by sampling.

    Raises:
        SocratesError: the tokenizer's answers cannot be scored exactly.
    """
    nodes = {
        scale: len(answer_trie(tokenizer, scale.values))
        for scale in {question.scale for question in questions}
        if _has_tree(scale)
    }
    beginning = common_prefix([question.prompt_ids for question in questions if question.scale in nodes])
    return beginning, {
        index: len(question.prompt_ids) - len(beginning) + nodes[question.scale] if question.scale in nodes else None
        for index, question in enumerate(questions)
    }


def longest_prompt(config: Any) -> float:
    """The most tokens, beside an answer's, that a model with this config (the library's) can read."""
    limit = getattr(config, "max_position_embeddings", None) or math.inf
    # In such layers a token sees only the last so many; our mask would let it see everything.
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    return (limit if window is None or kinds == {"full_attention"} else min(window, limit)) - MAX_NEW_TOKENS


class Engine:
    """A model made ready for questions that begin alike.

    Attributes:
        budget: the most tokens in one forward: prompts, nodes and padding, without what all prompts share.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        beginning: Sequence[int],
        decoding: DecodingSettings,
        *,
        max_batch_tokens: int | None = None,
        seed: int = 0,
    ) -> None:
        """Compute the beginning, and check on an example that this model can be asked so.

        Args:
            loaded: the model (`load.load_model`).
            beginning: token ids with which every prompt begins, or none.
            decoding: of `AnswerDistribution.decoded`, and of the samples.
            max_batch_tokens: the budget at first; None: what the free memory allows.
            seed: of the samples, together with each question's key.

        Raises:
            SocratesError: an architecture that cannot be scored exactly.
        """
        self._loaded, self._decoding, self._seed = loaded, decoding, seed
        self._forward = Forward(loaded)
        self._prefix = shared_prefix(self._forward, beginning)
        check_tree_attention(loaded, self._forward, self._prefix)
        self._trie = cache(lambda scale: answer_trie(loaded.tokenizer, scale.values))
        config = loaded.causal_lm.config
        self.budget = max_batch_tokens or token_budget(loaded.device, config, loaded.causal_lm.dtype.itemsize)

    @property
    def about(self) -> dict[str, Any]:
        """What is asked, for the record, as JSON values."""
        loaded = self._loaded
        return {
            "base_model": loaded.base_name,
            "base_commit": loaded.commit,
            "adapter_sha256": sha256_file(loaded.adapter / ADAPTER_WEIGHTS) if loaded.adapter else None,
            "dtype": str(loaded.causal_lm.dtype).removeprefix("torch."),
            "device": str(loaded.device),
        }

    def answer(self, questions: Sequence[Question]) -> list[AnswerDistribution] | None:
        """The distributions of several questions from one forward; a question that needs sampling comes alone.

        No prompt may be longer than `longest_prompt`.

        Returns:
            None where memory does not hold so many; give fewer.

        Raises:
            SocratesError: a model that returns no numbers.
        """
        if all(_has_tree(question.scale) for question in questions):
            return unless_out_of_memory(self._answer_exactly, questions)
        (question,) = questions
        return [self._sample(question)]

    def answer_all(
        self, questions: Sequence[Question], lengths: Mapping[int, int | None]
    ) -> Iterator[tuple[list[int], list[AnswerDistribution]]]:
        """Answer some of a plan's questions in batches, then those that need sampling.

        Args:
            questions: of the plan.
            lengths: as of `plan_inference`, of those that are not answered yet.

        Yields:
            (indices into ``questions``, their distributions) as they come.
        """
        queue = BatchQueue(lengths, self.budget)
        for batch, results in run_batches(queue, lambda batch: self.answer([questions[index] for index in batch])):
            self.budget = min(self.budget, queue.budget)  # a sampled answer may have lowered it
            yield batch, results

    def _answer_exactly(self, questions: Sequence[Question]) -> list[AnswerDistribution]:
        tries = [self._trie(question.scale) for question in questions]
        prompts = [question.prompt_ids for question in questions]
        ends = self._loaded.end_token_ids
        scores = score_batch(self._forward, prompts, tries, ends, self._decoding, self._prefix)
        return [
            AnswerDistribution(trie.values, probabilities, decoded, exact=True)
            for trie, (probabilities, decoded) in zip(tries, scores, strict=True)
        ]

    def _sample(self, question: Question) -> AnswerDistribution:
        """Answered alone, so that nothing but the seed and the question's key decides the samples."""
        seed = np.random.SeedSequence(self._seed, spawn_key=(question.key,))
        uniforms = np.random.default_rng(seed).random((SAMPLES, MAX_NEW_TOKENS))
        ends = self._loaded.end_token_ids

        def sample(together: list[int]) -> list[list[int] | None]:
            return sample_token_ids(self._forward, question.prompt_ids, ends, self._decoding, uniforms[together])

        # Each sample has a cache of its own, so the budget holds for all that go together.
        lengths = dict.fromkeys(range(SAMPLES), len(question.prompt_ids) + MAX_NEW_TOKENS)
        queue = BatchQueue(lengths, self.budget)
        sampled = [ids for _, part in run_batches(queue, partial(unless_out_of_memory, sample)) for ids in part]
        self.budget = queue.budget
        texts = self._loaded.tokenizer.batch_decode([ids for ids in sampled if ids is not None])
        given = [number for text in texts if (number := parse_answer_text(text)) is not None]
        if question.scale is None:  # then any whole number counts
            numbers = np.array([number for number in given if isinstance(number, int)], np.int64)
        else:
            numbers = np.array([number for number in given if number in question.scale])
        values, counts = np.unique(numbers, return_counts=True)
        return AnswerDistribution(values, None, counts / SAMPLES, exact=False)


def load_engine(files: ModelFiles, *, device: str | None = None, **options: Any) -> Engine:
    """Load a model and make an engine of it (``options``: as of `Engine`); raises what `load_model` and that raise."""
    loaded = load_model(files, device)
    engine = unless_out_of_memory(partial(Engine, **options), loaded)
    if engine is None:
        raise SocratesError(
            f"{files.adapter or files.base_name}: memory holds the model, but not one question; use a GPU with more "
            "memory, or end what else uses it"
        )
    return engine


def unless_out_of_memory(run: Callable[[Any], Result], batch: Any) -> Result | None:
    """What ``run`` gives; None where memory runs out. The error is let go here: it holds on to the batch's tensors."""
    try:
        return run(batch)
    except MemoryError:
        pass
    except RuntimeError as error:
        if not any(words in str(error) for words in _OUT_OF_MEMORY):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def _has_tree(scale: Scale | None) -> bool:
    return scale is not None and len(scale.values) <= MAX_TREE_ANSWERS


def parse_answer_text(text: str) -> float | None:
    """The number that an answer without its end is as a whole, as `str` writes it; None for any other text."""
    if _DECIMAL.fullmatch(text):
        return float(text)
    return int(text) if _INTEGER.fullmatch(text) and abs(int(text)) <= LARGEST_INTEGER else None
