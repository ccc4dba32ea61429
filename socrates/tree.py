"""Tree attention: one forward over a prompt and all tokens of all its valid answers.

The nodes of the answers' tree (`trie.py`) stand behind the prompt in one sequence. A node sees the prompt, the nodes
above it and itself, at the position that its token would have; so each node's output is what the model says after
that beginning of an answer, and one pass over the prompt serves every answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from socrates.decoding import Decoding, decoded_probabilities
from socrates.errors import SocratesError
from socrates.forward import NO_NUMBERS, Forward
from socrates.prompts import prompt_token_ids
from socrates.trie import AnswerTrie, answer_trie

if TYPE_CHECKING:
    import torch

    from socrates.models import LoadedModel

# Relative L2 distance of two ways of computing the same centred logits. In bf16 it leaves room for rounding: on random
# Qwen2 models of 48 layers, nine of them, it was 0.01 to 0.13 with the right mask, and with visible siblings 0.7 to 1.5
# (0.07 to 0.11 on three whose attention hardly mattered). A false alarm would cost an evaluation on a rented GPU.
_TOLERANCE_FLOAT32, _TOLERANCE_HALF = 1e-3, 0.25
# Total variation between the model's own next-token distribution and ours: only to notice logits scaled after the
# head, so it leaves room for a head in bf16.
_TOLERANCE_HEAD = 0.2


@dataclass(frozen=True)
class _Layout:
    """Where everything stands in a batch of B sequences, right-padded to length S.

    Its R rows are the positions at which the model is asked: each question's prompt end, then its nodes.
    """

    input_ids: np.ndarray  # (B, S) int64
    position_ids: np.ndarray  # (B, S) int64
    positions: np.ndarray  # (R,) int64, of each row in the flattened (B * S)
    starts: list[int]  # (B,) each question's first row
    step_rows: np.ndarray  # (P,) int64, for each node of the batch: the row that tells its token's probability
    step_tokens: np.ndarray  # (P,) int64, that token


def score_batch(
    forward: Forward,
    prompts: Sequence[Sequence[int]],
    tries: Sequence[AnswerTrie],
    end_ids: Sequence[int],
    decoding: Decoding,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each question's answer probabilities, from one forward.

    Args:
        forward: the model.
        prompts: token ids of each prompt, not empty.
        tries: the tree of each prompt's valid answers.
        end_ids: the tokens of which any ends an answer.
        decoding: for the second of the two results.

    Returns:
        For each question two (A,) float64 arrays in the order of its trie's values: the probability as the model
        gives it (temperature 1), and the probability that this decoding ends up with that answer.

    Raises:
        SocratesError: the model gave something that is no number.
    """
    import torch

    layout = _layout(prompts, tries)
    steps = np.empty((2, len(layout.step_rows)))
    ends = np.empty((2, len(layout.positions)))
    end_columns = torch.tensor(end_ids, device=forward.device)
    with torch.inference_mode():
        for rows, logits in forward.logits_in_chunks(_hidden_rows(forward, layout, prompts, tries)):
            inside = (layout.step_rows >= rows.start) & (layout.step_rows < rows.stop)
            step_rows = torch.from_numpy(layout.step_rows[inside] - rows.start).to(forward.device)
            step_tokens = torch.from_numpy(layout.step_tokens[inside]).to(forward.device)
            for which, table in enumerate((logits.softmax(dim=1), decoded_probabilities(logits, decoding))):
                steps[which, inside] = table[step_rows, step_tokens].cpu().numpy()
                ends[which, rows] = table[:, end_columns].sum(dim=1).cpu().numpy()
    if not (np.isfinite(steps).all() and np.isfinite(ends).all()):
        raise SocratesError(NO_NUMBERS)
    scores, first_step = [], 0
    for start, trie in zip(layout.starts, tries, strict=True):
        mine = slice(first_step, first_step + len(trie))
        nodes = slice(start + 1, start + 1 + len(trie))
        first_step = mine.stop
        exact, decoded = (trie.path_probabilities(steps[i, mine], ends[i, nodes]) for i in (0, 1))
        scores.append((exact, decoded))
    return scores


def check_tree_attention(loaded: LoadedModel, forward: Forward) -> None:
    """Compare tree attention with plain forwards on a small example, and the head with the model's own.

    Catches whatever in an architecture does not go with this: position ids that are ignored, masks that are not
    honoured, layers that are not attention, logits that are scaled after the head.

    Raises:
        SocratesError: they differ by more than rounding.
    """
    import torch

    trie = answer_trie(loaded.tokenizer, (1, 2, 10, 12, 100))
    prompts = prompt_token_ids(loaded.tokenizer, ["How many?", "How many apples do you eat in a week?"], None)
    tries = [trie, trie]
    layout = _layout(prompts, tries)
    worst = 0.0
    with torch.inference_mode():
        found = forward.logits(_hidden_rows(forward, layout, prompts, tries))
        for prompt, start in zip(prompts, layout.starts, strict=True):
            paths = [[], *(trie.tokens[seen].tolist() for seen in trie.visible)]
            for row, path in enumerate(paths, start):
                ids = torch.tensor([[*prompt, *path]], device=loaded.device)
                alone = forward.logits(forward.hidden(ids, use_cache=False).last_hidden_state[:, -1])[0]
                worst = max(worst, _relative_distance(found[row], alone))
        own = loaded.model(input_ids=ids, use_cache=False).logits[0, -1].float().softmax(dim=0)
        head = float((alone.softmax(dim=0) - own).abs().sum()) / 2
    tolerance = _TOLERANCE_FLOAT32 if loaded.causal_lm.dtype == torch.float32 else _TOLERANCE_HALF
    if not (worst <= tolerance and head <= _TOLERANCE_HEAD):  # NaN too
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
    import torch

    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    mask = causal.repeat(len(tries), 1, 1, 1)
    for sequence, (start, trie) in enumerate(zip(prompt_lengths, tries, strict=True)):
        nodes = slice(start, start + len(trie))
        mask[sequence, 0, nodes, nodes] = torch.from_numpy(trie.visible).to(device)
    return mask


def _hidden_rows(
    forward: Forward, layout: _Layout, prompts: Sequence[Sequence[int]], tries: Sequence[AnswerTrie]
) -> torch.Tensor:
    """(R, hidden size): what the decoder gives at the layout's rows."""
    import torch

    device = forward.device
    hidden = forward.hidden(
        torch.from_numpy(layout.input_ids).to(device),
        attention_mask=tree_mask([len(p) for p in prompts], tries, layout.input_ids.shape[1], device),
        position_ids=torch.from_numpy(layout.position_ids).to(device),
        use_cache=False,
    ).last_hidden_state
    return hidden.flatten(0, 1)[torch.from_numpy(layout.positions).to(device)]


def _layout(prompts: Sequence[Sequence[int]], tries: Sequence[AnswerTrie]) -> _Layout:
    length = max(len(prompt) + len(trie) for prompt, trie in zip(prompts, tries, strict=True))
    input_ids = np.zeros((len(prompts), length), dtype=np.int64)
    position_ids = np.zeros_like(input_ids)
    positions, starts, step_rows = [], [], []
    row = 0
    for sequence, (prompt, trie) in enumerate(zip(prompts, tries, strict=True)):
        before, used = len(prompt), len(prompt) + len(trie)
        input_ids[sequence, :used] = np.concatenate([prompt, trie.tokens])
        position_ids[sequence, :used] = np.concatenate([np.arange(before), before + trie.depths - 1])
        positions.append(sequence * length + np.arange(before - 1, used))
        step_rows.append(row + 1 + trie.parents)  # the root, -1, is the prompt's end: the question's first row
        starts.append(row)
        row += 1 + len(trie)
    return _Layout(
        input_ids,
        position_ids,
        np.concatenate(positions),
        starts,
        np.concatenate(step_rows),
        np.concatenate([trie.tokens for trie in tries]),
    )
