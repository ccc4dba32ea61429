"""Which rows make up an optimizer step, and how the processes share them: equal tokens, none waits for another.

The rows of step N depend on the seed and on N alone. How many processes there are, and how much each takes at once,
decides only who computes what: a run that goes on with other hardware sees the same examples in the same order.

Covers: exactly the configured number of examples a step (the last of an epoch has what is left), each row once an
epoch, no micro-batch over its limit of tokens. Pure: from lengths to row numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from socrates.errors import SocratesError

MicroBatch = tuple[int, ...]  # positions of its rows among the step's


@dataclass(frozen=True)
class StepOrder:
    """The order in which a run takes its rows: a new permutation each epoch, cut into steps.

    Attributes:
        rows: of the training set.
        global_batch_size: rows of a step.
        seed: of the permutations.
    """

    rows: int
    global_batch_size: int
    seed: int
    _epochs: dict[int, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @property
    def steps_per_epoch(self) -> int:
        """The last step of an epoch may be a small one."""
        return math.ceil(self.rows / self.global_batch_size)

    def rows_of(self, step: int) -> np.ndarray:
        """Row numbers of a step, which counts from 0 over all epochs; int64."""
        epoch, within = divmod(step, self.steps_per_epoch)
        if epoch not in self._epochs:
            self._epochs.clear()  # one epoch at a time: 8 bytes a row
            self._epochs[epoch] = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        start = within * self.global_batch_size
        return self._epochs[epoch][start : start + self.global_batch_size]


@dataclass(frozen=True)
class StepPlan:
    """Who computes what in one step.

    Attributes:
        shares: for each process, its micro-batches; all processes have equally many, and some may be empty where a
            step has fewer rows than that.
        tokens: for each process, the tokens of its rows.
    """

    shares: tuple[tuple[MicroBatch, ...], ...]
    tokens: tuple[int, ...]

    @property
    def spread(self) -> float:
        """How much more the busiest process has to do than the idlest, as a share of the busiest one's tokens."""
        return (max(self.tokens) - min(self.tokens)) / max(self.tokens)


def plan_step(lengths: Sequence[int], processes: int, micro_batch_tokens: int) -> StepPlan:
    """Share the rows of a step.

    Each row goes, longest first, to the process that has the fewest tokens so far, and within a process in the same way
    to one of as few micro-batches as the limit allows (Graham 1969: "longest processing time first").

    Args:
        lengths: tokens of each row of the step.
        processes: that share them.
        micro_batch_tokens: most tokens of a micro-batch.

    Raises:
        SocratesError: a row alone is longer than that.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    if len(sizes) == 0:
        raise ValueError("a step without rows")
    if sizes.max() > micro_batch_tokens:
        raise SocratesError(
            f"a row of {sizes.max()} tokens does not fit into a micro-batch of {micro_batch_tokens}; raise "
            '"training.micro_batch_tokens"'
        )
    order = np.argsort(-sizes, kind="stable").tolist()
    shares = _spread_out(order, sizes, processes)
    count = max(max(1, math.ceil(sizes[share].sum() / micro_batch_tokens)) for share in shares)
    while True:
        packed = [_spread_out(share, sizes, count) for share in shares]
        if all(sizes[batch].sum() <= micro_batch_tokens for batches in packed for batch in batches):
            break
        count += 1
    for batches in packed:  # each process's largest first: those that run side by side are alike
        batches.sort(key=lambda batch: -int(sizes[batch].sum()))
    return StepPlan(
        tuple(tuple(tuple(batch) for batch in batches) for batches in packed),
        tuple(int(sizes[share].sum()) for share in shares),
    )


def _spread_out(items: Sequence[int], sizes: np.ndarray, bins: int) -> list[list[int]]:
    """Items, longest first, each into the bin that holds least."""
    filled: list[list[int]] = [[] for _ in range(bins)]
    totals = [0] * bins
    for item in items:
        least = totals.index(min(totals))
        filled[least].append(item)
        totals[least] += int(sizes[item])
    return filled
