"""The valid answers to a question as a tree of tokens: one node for each distinct beginning of an answer.

What counts as an answer is `str(value)` and then an end of the turn, in the tokens that the tokenizer makes of that
text: "7", not " 7", "07" or "7.0", nor the same digits in other tokens. The digits may be one token each (Qwen) or
several in one (Llama 3). `ANSWER_FORMS` are other ways to write a number that count as well where they are asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from socrates.errors import SocratesError
from socrates.prompts import (
    chat_messages,
    end_of_turn_id,
    end_of_turn_text,
    prompt_texts,
    prompt_token_ids,
    tokens_and_texts,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROOT = -1  # the parent of a first token: the prompt's last token
LEADING_SPACE, LEADING_ZEROS = "leading_space", "leading_zeros"
ANSWER_FORMS = (LEADING_SPACE, LEADING_ZEROS)  # " 7"; "07" and "007" up to the digits of the scale's widest value


@dataclass(frozen=True)
class AnswerTrie:
    """N nodes in level order (parents before children) for A answers, written in E ways in all (E is A or more).

    Attributes:
        values: (A,) int64, the answers, ascending.
        tokens: (N,) int64, each node's token id.
        parents: (N,) int64, index of each node's parent, `ROOT` for first tokens.
        depths: (N,) int64, number of tokens up to and including the node, from 1.
        ends: (E,) int64, the nodes at which an answer is complete, no two alike.
        ended_values: (E,) int64, ascending: the index into `values` of the answer that is complete there.
        visible: (N, N) bool, whether the row's node sees the column's: its ancestors and itself.
    """

    values: np.ndarray
    tokens: np.ndarray
    parents: np.ndarray
    depths: np.ndarray
    ends: np.ndarray
    ended_values: np.ndarray
    visible: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    def path_probabilities(self, steps: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Probability of each answer: the product of its tokens' and of the end after them, summed over its forms.

        Args:
            steps: (N,) float64, probability of each node's token after what stands before it.
            ends: (N,) float64, probability of an end of the answer right after each node.

        Returns:
            (A,) float64, in the order of `values`.
        """
        if steps.shape != (len(self),) or ends.shape != (len(self),):
            raise ValueError(f"expected two arrays of {len(self)} nodes, got {steps.shape} and {ends.shape}")
        paths = steps.astype(np.float64)
        for depth in range(2, int(self.depths[-1]) + 1):
            level = self.depths == depth
            paths[level] *= paths[self.parents[level]]
        complete = paths[self.ends] * ends[self.ends]
        return np.bincount(self.ended_values, weights=complete, minlength=len(self.values))


def build_trie(answers: Sequence[int], token_ids: Sequence[Collection[Sequence[int]]]) -> AnswerTrie:
    """The tree of the answers' token sequences.

    Args:
        answers: distinct integers, ascending.
        token_ids: for each of them its token sequences, one or more, none empty and without an end.

    Raises:
        ValueError: an answer without a sequence, or a sequence that is there twice: it would count twice, or for two
            answers.
    """
    sequences = [tuple(ids) for forms in token_ids for ids in forms]
    if len(answers) != len(token_ids) or not all(map(len, token_ids)) or not all(sequences):
        raise ValueError(f"{len(answers)} answers need a token sequence each, and none without tokens")
    if len(set(sequences)) < len(sequences):
        raise ValueError("the same tokens stand for two answers, or twice for one")
    prefixes = {ids[:depth] for ids in sequences for depth in range(1, len(ids) + 1)}
    nodes = sorted(prefixes, key=lambda prefix: (len(prefix), prefix))
    index = {prefix: number for number, prefix in enumerate(nodes)}
    parents = np.array([index.get(prefix[:-1], ROOT) for prefix in nodes], dtype=np.int64)
    return AnswerTrie(
        values=np.array(answers, dtype=np.int64),
        tokens=np.array([prefix[-1] for prefix in nodes], dtype=np.int64),
        parents=parents,
        depths=np.array([len(prefix) for prefix in nodes], dtype=np.int64),
        ends=np.array([index[ids] for ids in sequences], dtype=np.int64),
        ended_values=np.repeat(np.arange(len(answers), dtype=np.int64), [len(forms) for forms in token_ids]),
        visible=_visible(parents),
    )


def _visible(parents: np.ndarray) -> np.ndarray:
    visible = np.eye(len(parents), dtype=bool)
    nodes, ancestors = np.arange(len(parents)), parents
    while len(nodes):
        below = ancestors != ROOT
        nodes, ancestors = nodes[below], ancestors[below]
        visible[nodes, ancestors] = True
        ancestors = parents[ancestors]
    return visible


def answer_texts(value: int, width: int, forms: Collection[str] = ()) -> list[str]:
    """The texts that count as this answer, the plain one first. No text counts as two answers.

    Args:
        value: the answer.
        width: the most digits of a number with leading zeros (`answer_width` of the scale).
        forms: some of `ANSWER_FORMS`. Two together also count together: " 07".

    Raises:
        ValueError: a form that is not one of `ANSWER_FORMS`.
    """
    _check_forms(forms)
    sign, digits = "-" if value < 0 else "", str(abs(value))
    longest = max(len(digits), width) if LEADING_ZEROS in forms else len(digits)
    numbers = [sign + digits.zfill(length) for length in range(len(digits), longest + 1)]
    return [*numbers, *(f" {number}" for number in numbers)] if LEADING_SPACE in forms else numbers


def answer_width(answers: Sequence[int]) -> int:
    """Digits of the widest of the answers, signs not counted: leading zeros are added up to it."""
    return max(len(str(abs(value))) for value in answers)


def answer_trie(tokenizer: PreTrainedTokenizerBase, answers: Sequence[int], forms: Collection[str] = ()) -> AnswerTrie:
    """The tree of what the tokenizer makes of each answer.

    Args:
        tokenizer: with a chat template.
        answers: distinct integers, ascending.
        forms: some of `ANSWER_FORMS`: ways to write an answer that count besides the plain one. Forms of an answer that
            are the same tokens count once.

    Raises:
        ValueError: a form that is not one of `ANSWER_FORMS`.
        SocratesError: the tokenizer or its chat template writes an answer or a form of one otherwise than as prompt,
            answer and end in a row: it could not be scored right.
    """
    _check_forms(forms)
    width = answer_width(answers)
    texts = [answer_texts(value, width, forms) for value in answers]
    flat = [text for group in texts for text in group]
    tokenized = dict(zip(flat, tokens_and_texts(tokenizer, flat), strict=True))
    token_ids = [_distinct_token_ids(tokenizer, {text: tokenized[text] for text in group}) for group in texts]
    _check_conversations(tokenizer, {text: ids for text, (ids, _) in tokenized.items()})
    return build_trie(answers, token_ids)


def _distinct_token_ids(
    tokenizer: PreTrainedTokenizerBase, tokenized: dict[str, tuple[list[int], str]]
) -> list[tuple[int, ...]]:
    """The token sequences of one answer, from its texts, their token ids and what those stand for."""
    sequences: dict[tuple[int, ...], None] = {}
    for text, (ids, written) in tokenized.items():
        if tuple(ids) in sequences:
            continue
        if not ids or written != text:
            raise SocratesError(
                f"{tokenizer.name_or_path}: its tokenizer turns {text!r} into {written!r}; {_consequence(text)}"
            )
        sequences[tuple(ids)] = None
    return list(sequences)


def _check_conversations(tokenizer: PreTrainedTokenizerBase, token_ids: dict[str, list[int]]) -> None:
    """Prompt, answer and end, tokenized apart, begin the whole conversation tokenized at once.

    A plain answer's conversation is the chat template's, as in training. Other forms are put into it by hand: many
    templates strip what they are given (Llama 3's), but nobody strips what the model writes.
    """
    question = "How many?"
    (before,), (prompt,) = prompt_texts(tokenizer, [question], None), prompt_token_ids(tokenizer, [question], None)
    after, end = end_of_turn_text(tokenizer), end_of_turn_id(tokenizer)
    messages = chat_messages(question)
    plain = [text for text in token_ids if not _forms_of(text)]
    conversations = [[*messages, {"role": "assistant", "content": text}] for text in plain]
    whole = {text: before + text + after for text in token_ids}
    whole.update(zip(plain, tokenizer.apply_chat_template(conversations, tokenize=False), strict=True))
    together = tokenizer(list(whole.values()), add_special_tokens=False)["input_ids"]
    for text, conversation in zip(whole, together, strict=True):
        apart = [*prompt, *token_ids[text], end]
        if conversation[: len(apart)] != apart:
            raise SocratesError(
                f"{tokenizer.name_or_path}: prompt, answer {text!r} and end of turn are other tokens when they stand "
                f"together than on their own; {_consequence(text)}"
            )


def _check_forms(forms: Collection[str]) -> None:
    unknown = sorted(set(forms) - set(ANSWER_FORMS))
    if unknown or isinstance(forms, str):
        raise ValueError(f"unknown forms of an answer: {forms!r}; possible are {', '.join(ANSWER_FORMS)}")


def _forms_of(text: str) -> list[str]:
    space = [LEADING_SPACE] if text.startswith(" ") else []
    return [*space, LEADING_ZEROS] if text.strip() != str(int(text)) else space


def _consequence(text: str) -> str:
    forms = " with ".join(_forms_of(text))
    if not forms:
        return "answers of such a model cannot be scored exactly"
    return f"answers of the form {forms} cannot be scored exactly with such a model: leave that form out"
