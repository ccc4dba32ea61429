"""Tree attention: one forward over a prompt and all tokens of all its valid answers.

The nodes of the answers' tree (`trie.py`) stand behind the prompt in one sequence. A node sees the prompt, the nodes
above it and itself, at the position that its token would have; so each node's output is what the model says after
that beginning of an answer, and one pass over the prompt serves every answer. What all prompts begin with is not even
in that sequence: it was computed once (`forward.py`), and everything sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from socrates.config import DecodingSettings
from socrates.errors import SocratesError
from socrates.inference.decoding import probabilities_of
from socrates.inference.forward import NO_NUMBERS, Forward, SharedPrefix
from socrates.inference.trie import AnswerTrie, answer_trie
from socrates.model.chat import prompt_token_ids
from socrates.model.load import LoadedModel

# Relative L2 distance of two ways of computing the same centred logits. In bf16 it leaves room for rounding: on random
# Qwen2 models of 48 layers, nine of them, it was 0.01 to 0.13 with the right mask, and with visible siblings 0.7 to 1.5
# (0.07 to 0.11 on three whose attention hardly mattered). A false alarm would cost an evaluation on a rented GPU.
_TOLERANCE_FLOAT32, _TOLERANCE_HALF = 1e-3, 0.25
# Total variation between the model's own next-token distribution and ours: only to notice logits scaled after the
# head, so it leaves room for a head in bf16.
_TOLERANCE_HEAD = 0.2
_SHORT, _LONGER = "How many?", "How many apples do you eat in a week?"


@dataclass(frozen=True)
class _Layout:
    """Where everything stands in a batch of B sequences, right-padded to S tokens, after a prefix of L tokens or none.

    Its R rows are the positions at which the model is asked: each question's prompt end, then its nodes.
    """

    input_ids: np.ndarray  # (B, S) int64
    position_ids: np.ndarray  # (B, S) int64, from L
    prompt_lengths: list[int]  # (B,) without the prefix
    positions: np.ndarray  # (R,) int64, of each row in the flattened (B * S)
    starts: list[int]  # (B,) each question's first row
    step_rows: np.ndarray  # (P,) int64, for each node of the batch: the row that tells its token's probability
    step_tokens: np.ndarray  # (P,) int64, that token


def score_batch(
    forward: Forward,
    prompts: Sequence[Sequence[int]],
    tries: Sequence[AnswerTrie],
    end_ids: Sequence[int],
    decoding: DecodingSettings,
    prefix: SharedPrefix | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each question's answer probabilities, from one forward.

    Args:
        forward: the model.
        prompts: token ids of each prompt, not empty, and longer than the prefix.
        tries: the tree of each prompt's valid answers.
        end_ids: the tokens of which any ends an answer.
        decoding: for the second of the two results.
        prefix: what all prompts begin with, if it was computed before (`shared_prefix`).

    Returns:
        For each question two (A,) float64 arrays in the order of its trie's values: the probability as the model
        gives it (temperature 1), and the probability that this decoding ends up with that answer.

    Raises:
        SocratesError: the model gave something that is no number.
    """
    layout = _layout(prompts, tries, prefix)
    # What is asked of each row: the tokens of the nodes that follow it, and the end tokens.
    rows = np.concatenate([layout.step_rows, np.repeat(np.arange(len(layout.positions)), len(end_ids))])
    tokens = np.concatenate([layout.step_tokens, np.tile(np.asarray(end_ids), len(layout.positions))])
    found = np.empty((2, len(rows)))
    with torch.inference_mode():
        for chunk, logits in forward.logits_in_chunks(_hidden_rows(forward, layout, tries, prefix)):
            inside = (rows >= chunk.start) & (rows < chunk.stop)
            places = (torch.from_numpy(ids[inside]).to(forward.device) for ids in (rows - chunk.start, tokens))
            found[:, inside] = torch.stack(probabilities_of(logits, *places, decoding)).cpu().numpy()
    if not np.isfinite(found).all():
        raise SocratesError(NO_NUMBERS)
    steps, ends = np.split(found, [len(layout.step_rows)], axis=1)
    ends = ends.reshape(2, len(layout.positions), len(end_ids)).sum(axis=2)
    scores, first_step = [], 0
    for start, trie in zip(layout.starts, tries, strict=True):
        mine = slice(first_step, first_step + len(trie))
        nodes = slice(start + 1, start + 1 + len(trie))
        first_step = mine.stop
        exact, decoded = (trie.path_probabilities(steps[i, mine], ends[i, nodes]) for i in (0, 1))
        scores.append((exact, decoded))
    return scores


def check_tree_attention(loaded: LoadedModel, forward: Forward, prefix: SharedPrefix | None = None) -> None:
    """Compare tree attention with plain forwards on a small example, and the head with the model's own.

    The example goes the way that the questions will go: behind the same prefix, if there is one. Catches whatever in
    an architecture does not go with this: position ids that are ignored, masks that are not honoured, layers that are
    not attention, logits that are scaled after the head.

    Raises:
        SocratesError: they differ by more than rounding.
    """
    trie = answer_trie(loaded.tokenizer, (1, 2, 10, 12, 100))
    prompts = prompt_token_ids(loaded.tokenizer, [_SHORT, _LONGER])
    if prefix is not None:
        questions = loaded.tokenizer([_SHORT, _LONGER], add_special_tokens=False)["input_ids"]
        prompts = [[*prefix.token_ids, *question] for question in questions]
    tries = [trie, trie]
    layout = _layout(prompts, tries, prefix)
    worst = 0.0
    with torch.inference_mode():
        found = forward.logits(_hidden_rows(forward, layout, tries, prefix))
        for prompt, start in zip(prompts, layout.starts, strict=True):
            for end in set(range(len(trie))) - set(trie.parents.tolist()):
                path = np.flatnonzero(trie.visible[end])  # from a first token to one that nothing follows
                ids = torch.tensor([[*prompt, *trie.tokens[path]]], device=loaded.device)
                hidden = forward.hidden(ids, use_cache=False).last_hidden_state[0, len(prompt) - 1 :]
                alone = forward.logits(hidden)
                for row, expected in zip([start, *(start + 1 + path)], alone, strict=True):
                    worst = max(worst, _relative_distance(found[row], expected))
        own = loaded.model(input_ids=ids, use_cache=False).logits[0, -1].float().softmax(dim=0)
        head = float((alone[-1].softmax(dim=0) - own).abs().sum()) / 2
    if not own.isfinite().all():
        raise SocratesError(f"{loaded.base_name}: {NO_NUMBERS}")
    tolerance = _TOLERANCE_FLOAT32 if loaded.causal_lm.dtype == torch.float32 else _TOLERANCE_HALF
    if not (worst <= tolerance and head <= _TOLERANCE_HEAD):
        raise SocratesError(
            f"{loaded.base_name}: answers scored all at once and one by one differ (by {worst:.2g} of the logits, "
            f"allowed {tolerance:g}; {head:.2g} of the probability at the head, allowed {_TOLERANCE_HEAD:g}): "
            f"this architecture ({type(loaded.causal_lm).__name__}) cannot be evaluated exactly"
        )


def _relative_distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """L2 distance of two rows of logits, each centred (softmax does not see a shift), relative to the second."""
    found, expected = found - found.mean(), expected - expected.mean()
    return float((found - expected).norm() / expected.norm())


def tree_mask(
    prompt_lengths: Sequence[int], tries: Sequence[AnswerTrie], length: int, device: torch.device
) -> torch.Tensor:
    """(B, 1, length, length) bool: whether the row's position sees the column's.

    Padding positions see what stands before them: a row that sees nothing would be NaN, and NaN spreads.
    """
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    mask = causal.repeat(len(tries), 1, 1, 1)
    for sequence, (start, trie) in enumerate(zip(prompt_lengths, tries, strict=True)):
        nodes = slice(start, start + len(trie))
        mask[sequence, 0, nodes, nodes] = torch.from_numpy(trie.visible).to(device)
    return mask


def _hidden_rows(
    forward: Forward, layout: _Layout, tries: Sequence[AnswerTrie], prefix: SharedPrefix | None
) -> torch.Tensor:
    """(R, hidden size): what the decoder gives at the layout's rows."""
    device = forward.device
    mask = tree_mask(layout.prompt_lengths, tries, layout.input_ids.shape[1], device)
    if prefix is not None:
        mask = torch.nn.functional.pad(mask, (len(prefix), 0), value=True)
    hidden = forward.hidden(
        torch.from_numpy(layout.input_ids).to(device),
        attention_mask=mask,
        position_ids=torch.from_numpy(layout.position_ids).to(device),
        past_key_values=prefix.cache if prefix is not None else None,
        use_cache=False,
    ).last_hidden_state
    return hidden.flatten(0, 1)[torch.from_numpy(layout.positions).to(device)]


def _layout(prompts: Sequence[Sequence[int]], tries: Sequence[AnswerTrie], prefix: SharedPrefix | None) -> _Layout:
    shared = len(prefix) if prefix is not None else 0
    prompts = [prompt[shared:] for prompt in prompts]
    length = max(len(prompt) + len(trie) for prompt, trie in zip(prompts, tries, strict=True))
    input_ids = np.zeros((len(prompts), length), dtype=np.int64)
    position_ids = np.full_like(input_ids, shared)
    positions, starts, step_rows = [], [], []
    row = 0
    for sequence, (prompt, trie) in enumerate(zip(prompts, tries, strict=True)):
        before, used = len(prompt), len(prompt) + len(trie)
        input_ids[sequence, :used] = np.concatenate([prompt, trie.tokens])
        position_ids[sequence, :used] += np.concatenate([np.arange(before), before + trie.depths - 1])
        positions.append(sequence * length + np.arange(before - 1, used))
        step_rows.append(row + 1 + trie.parents)  # the root, -1, is the prompt's end: the question's first row
        starts.append(row)
        row += 1 + len(trie)
    return _Layout(
        input_ids,
        position_ids,
        [len(prompt) for prompt in prompts],
        np.concatenate(positions),
        starts,
        np.concatenate(step_rows),
        np.concatenate([trie.tokens for trie in tries]),
    )
