"""The valid answers to a question as a tree of tokens: one node for each distinct beginning of an answer.

What counts as an answer is `str(value)` and then an end of the turn, in the tokens that the tokenizer makes of that
text: "7", not " 7", "07" or "7.0", nor the same digits in other tokens. The digits may be one token each (Qwen) or
several in one (Llama 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from socrates.errors import SocratesError
from socrates.model.chat import answered_texts, answers_token_ids, end_of_turn_id, prompt_token_ids

ROOT = -1  # the parent of a first token: the prompt's last token


@dataclass(frozen=True)
class AnswerTrie:
    """N nodes in level order (parents before children) for A answers.

    Attributes:
        values: (A,) int64, or float64 where some have decimals: the answers, ascending.
        tokens: (N,) int64, each node's token id.
        parents: (N,) int64, index of each node's parent, `ROOT` for first tokens.
        depths: (N,) int64, number of tokens up to and including the node, from 1.
        ends: (A,) int64, the node at which each answer is complete, no two alike.
        visible: (N, N) bool, whether the row's node sees the column's: its ancestors and itself.
    """

    values: np.ndarray
    tokens: np.ndarray
    parents: np.ndarray
    depths: np.ndarray
    ends: np.ndarray
    visible: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    def path_probabilities(self, steps: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Probability of each answer: the product of its tokens' and of the end after them.

        Args:
            steps: (N,) float64, probability of each node's token after what stands before it.
            ends: (N,) float64, probability of an end of the answer right after each node.

        Returns:
            (A,) float64, in the order of `values`.
        """
        paths = steps.astype(np.float64)
        for depth in range(2, int(self.depths[-1]) + 1):
            level = self.depths == depth
            paths[level] *= paths[self.parents[level]]
        return paths[self.ends] * ends[self.ends]


def _build_trie(answers: Sequence[float], token_ids: Sequence[Sequence[int]]) -> AnswerTrie:
    sequences = [tuple(ids) for ids in token_ids]
    prefixes = {ids[:depth] for ids in sequences for depth in range(1, len(ids) + 1)}
    nodes = sorted(prefixes, key=lambda prefix: (len(prefix), prefix))
    index = {prefix: number for number, prefix in enumerate(nodes)}
    parents = np.array([index.get(prefix[:-1], ROOT) for prefix in nodes], dtype=np.int64)
    visible = np.eye(len(nodes), dtype=bool)
    for node in np.flatnonzero(parents != ROOT):  # parents come before their children
        visible[node] |= visible[parents[node]]
    return AnswerTrie(
        values=np.array(answers),
        tokens=np.array([prefix[-1] for prefix in nodes], dtype=np.int64),
        parents=parents,
        depths=np.array([len(prefix) for prefix in nodes], dtype=np.int64),
        ends=np.array([index[ids] for ids in sequences], dtype=np.int64),
        visible=visible,
    )


def answer_trie(tokenizer: PreTrainedTokenizerBase, answers: Sequence[float]) -> AnswerTrie:
    """The tree of what the tokenizer makes of each answer.

    Args:
        tokenizer: with a chat template.
        answers: distinct, ascending.

    Raises:
        SocratesError: the tokenizer or its chat template writes an answer otherwise than as prompt, answer and end in a
            row: it could not be scored right.
    """
    token_ids = answers_token_ids(tokenizer, answers)
    question = "How many?"
    (prompt,), end = prompt_token_ids(tokenizer, [question]), end_of_turn_id(tokenizer)
    together = tokenizer(answered_texts(tokenizer, question, answers), add_special_tokens=False)["input_ids"]
    for answer, ids, conversation in zip(answers, token_ids, together, strict=True):
        apart = [*prompt, *ids, end]
        if conversation[: len(apart)] != apart:
            raise SocratesError(
                f"{tokenizer.name_or_path}: prompt, answer '{answer}' and end of turn are other tokens when they stand "
                "together than on their own; answers of such a model cannot be scored exactly"
            )
    return _build_trie(answers, token_ids)
