"""Batches: which questions go together through the model, and smaller ones where they do not fit into memory.

Right-padded to its longest, a batch wastes what the others are shorter. A batch also costs something by itself
(starting its operations, reading the weights). `make_batches` finds the cheapest cut of the sorted questions.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from socrates.errors import SocratesError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

Result = TypeVar("Result")

# A batch's own cost, in tokens. CPU: measured (`benchmarks/`); GPU: 48 layers' launches and weights, by calculation.
OVERHEAD_CPU, OVERHEAD_GPU = 8, 128
CPU_TOKENS = 2048  # measured: 15% faster than 8192, whose activations leave the caches
# More than that makes no GPU faster: already a few thousand tokens keep it at work.
_GPU_TOKENS = (512, 32768)
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")


def make_batches(
    lengths: Mapping[int, int],
    max_batch_tokens: int,
    *,
    overhead: int = OVERHEAD_CPU,
) -> list[list[int]]:
    """Group items, longest first, so that (items x longest of them) stays within a budget, at the least cost.

    Args:
        lengths: tokens of each item, by its index.
        max_batch_tokens: the budget; an item that is longer makes a batch of its own.
        overhead: what a batch costs beyond its tokens and padding, in tokens.

    Returns:
        Batches of indices; of all ways to cut the sorted items, the one with the fewest tokens, padding and overheads.
    """
    order = sorted(lengths, key=lambda item: (-lengths[item], item))
    sizes = np.array([lengths[item] for item in order], dtype=np.int64)
    # For the first `end` items: their least cost, and where their last batch begins. The earliest beginning that the
    # budget allows moves only forward, because later items are shorter: (end - first) * sizes[first] <= budget.
    costs, begins = np.zeros(len(order) + 1, dtype=np.int64), np.zeros(len(order) + 1, dtype=np.int64)
    for end in range(1, len(order) + 1):
        window = slice(_first(sizes, end, max_batch_tokens), end)
        tokens = sizes[window] * (end - np.arange(window.start, end))
        cost = costs[window] + tokens + overhead
        cost[:-1][tokens[:-1] > max_batch_tokens] = np.iinfo(np.int64).max
        best = int(cost.argmin())
        costs[end], begins[end] = cost[best], window.start + best
    batches = []
    end = len(order)
    while end:
        batches.append(order[begins[end] : end])
        end = int(begins[end])
    return batches[::-1]


def _first(sizes: np.ndarray, end: int, budget: int) -> int:
    """An item before which no batch up to ``end`` can begin: all its items are at least as long as the last."""
    return max(0, end - max(1, budget // max(1, int(sizes[end - 1]))))


@dataclass
class Budget:
    """The most tokens in one forward: one for all that use the same memory, because it shrinks where that runs out."""

    tokens: int


class BatchQueue:
    """Batches that wait to be run, longest items first; smaller ones from when memory ran out."""

    def __init__(
        self,
        lengths: Mapping[int, int],
        budget: Budget,
        *,
        overhead: int = OVERHEAD_CPU,
        done: Collection[int] = (),
    ) -> None:
        """Cut items into batches.

        Args:
            lengths: tokens of each item, by its index.
            budget: the most tokens at once; halved here where memory runs out.
            overhead: as of `make_batches`.
            done: items that need not be run any more; the others' batches are as they would be with them.
        """
        self._lengths, self.budget = lengths, budget
        self._cut = partial(make_batches, overhead=overhead)
        batches = ([item for item in batch if item not in done] for batch in self._cut(lengths, budget.tokens))
        self._waiting = deque(filter(None, batches))

    def run(self, run: Callable[[list[int]], Result]) -> Iterator[tuple[list[int], Result]]:
        """Run all that waits, here: (batch, its result); where memory runs out, go on with smaller batches.

        Raises:
            SocratesError: a batch of one item does not fit.
        """
        while batch := self.take():
            fits, result = attempt(run, batch)
            if fits:
                yield batch, result
            else:
                self.put_back(batch)

    def take(self) -> list[int] | None:
        """The next batch; None where none waits."""
        return self._waiting.popleft() if self._waiting else None

    def put_back(self, batch: Sequence[int]) -> None:
        """Memory did not hold this batch: halve the budget, say so, and cut all that waits again.

        Raises:
            SocratesError: it is of one item.
        """
        tokens = len(batch) * max(self._lengths[item] for item in batch)
        if len(batch) == 1:
            raise SocratesError(
                f"out of memory with one question of {tokens} tokens: nothing smaller can be tried; use a GPU with "
                "more memory, or end what else uses it"
            )
        if tokens <= self.budget.tokens:  # else it was halved since this batch was cut, for another process's
            self.budget.tokens = tokens // 2
            print(
                f"out of memory with {tokens} tokens at once; going on with {self.budget.tokens}",
                file=sys.stderr,
                flush=True,
            )
        left = {item: self._lengths[item] for waiting in (batch, *self._waiting) for item in waiting}
        self._waiting = deque(self._cut(left, self.budget.tokens))


def in_batches(
    lengths: Mapping[int, int],
    budget: Budget,
    run: Callable[[list[int]], Result],
    *,
    overhead: int = OVERHEAD_CPU,
) -> Iterator[tuple[list[int], Result]]:
    """Run every item, batch by batch; where memory runs out, go on with half the budget and say so.

    Args:
        lengths: tokens of each item, by its index.
        budget: the most tokens at once; halved here where memory runs out.
        run: a batch of indices to its result; called again with smaller batches if it runs out of memory.
        overhead: as of `make_batches`.

    Yields:
        (batch, its result), longest items first.

    Raises:
        SocratesError: a batch of one item does not fit.
    """
    return BatchQueue(lengths, budget, overhead=overhead).run(run)


def attempt(run: Callable[[Any], Result], batch: Any) -> tuple[bool, Any]:
    """(whether it fitted into memory, its result). The error is let go here: it holds on to the batch's tensors."""
    try:
        return True, run(batch)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False, None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU or this machine had no room: the libraries say so in several ways."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def token_budget(device: torch.device, config: PretrainedConfig, bytes_per_number: int) -> int:
    """How many tokens may go through the model at once: on a GPU from its free memory, else `CPU_TOKENS`.

    An estimate, on the low side; `in_batches` halves it where it is too high.

    Args:
        device: where the weights already are.
        config: of the model: its sizes.
        bytes_per_number: of its activations.
    """
    if device.type != "cuda":
        return CPU_TOKENS
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # free too, but held by torch
    return tokens_that_fit(free + kept, config, bytes_per_number)


def tokens_that_fit(free_bytes: int, config: PretrainedConfig, bytes_per_number: int) -> int:
    """The budget for so much free memory: half of it, within reason.

    A layer holds of each token some twelve vectors of the hidden size and four of the MLP's at its widest moment.
    """
    hidden = config.hidden_size
    widest = 12 * hidden + 4 * (getattr(config, "intermediate_size", None) or 4 * hidden)
    low, high = _GPU_TOKENS
    return int(min(high, max(low, free_bytes // 2 // (widest * bytes_per_number))))
