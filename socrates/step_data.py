"""The training set as one item a step: this process's micro-batches of it, flattened, with what they are judged on.

Covers: the shapes that the model takes; resuming at any step without reading those before. Does not cover: which rows
these are (`step_batches.py`), and how they are made (`tokenizing.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from socrates.step_batches import StepOrder, plan_step
from socrates.tokenized import IGNORED

if TYPE_CHECKING:
    import torch
    from datasets import Dataset


@dataclass(frozen=True)
class FlatBatch:
    """Examples one after another, and which of their tokens are to be predicted.

    Attributes:
        input_ids: [1, tokens], int64.
        lengths: tokens of each example.
        before: [targets], int64: the positions whose next token carries loss.
        targets: [targets], int64: these tokens.
        counts: False for a filler, which a process runs through when it has fewer micro-batches than the others.
    """

    input_ids: torch.Tensor
    lengths: tuple[int, ...]
    before: torch.Tensor
    targets: torch.Tensor
    counts: bool = True

    def to(self, device: Any) -> FlatBatch:
        """The same on another device."""
        moved = (tensor.to(device, non_blocking=True) for tensor in (self.input_ids, self.before, self.targets))
        ids, before, targets = moved
        return FlatBatch(ids, self.lengths, before, targets, self.counts)


@dataclass(frozen=True)
class StepData:
    """One step of one process, and what all processes have in it together.

    Attributes:
        micro_batches: of this process.
        supervised_tokens: of all processes: what the step's loss is divided by.
        lengths: tokens of every row of the step.
        fed_tokens: that go through the model, fillers included.
        spread: see `StepPlan`.
    """

    micro_batches: tuple[FlatBatch, ...]
    supervised_tokens: int
    lengths: tuple[int, ...]
    fed_tokens: int
    spread: float


def flatten(rows: Sequence[dict[str, Any]], counts: bool = True) -> FlatBatch:
    """Put tokenized rows (`input_ids`, `labels`) one after another; a row's first token is never predicted."""
    import torch

    before, targets, start = [], [], 0
    for row in rows:
        labels = np.asarray(row["labels"])
        places = np.flatnonzero(labels[1:] != IGNORED)
        before.append(places + start)
        targets.append(labels[places + 1])
        start += len(labels)
    return FlatBatch(
        torch.from_numpy(np.concatenate([np.asarray(row["input_ids"], dtype=np.int64) for row in rows]))[None],
        tuple(len(row["input_ids"]) for row in rows),
        torch.from_numpy(np.concatenate(before)),
        torch.from_numpy(np.concatenate(targets).astype(np.int64)),
        counts,
    )


class TrainingSteps(TorchDataset):
    """Item N is step N of this process, N counted from 0 over all epochs."""

    def __init__(
        self, rows: Dataset, order: StepOrder, micro_batch_tokens: int, process: int = 0, processes: int = 1
    ) -> None:
        """``rows`` is what `load_tokenized` gives; ``process`` is this one's number of ``processes``."""
        self.order = order
        self._rows, self._limit = rows, micro_batch_tokens
        self._process, self._processes = process, processes
        self._lengths, self._answers = row_lengths(rows), answer_lengths(rows)

    def __len__(self) -> int:
        return self.order.steps_per_epoch

    def __getitem__(self, step: int) -> StepData:
        rows = self.order.rows_of(step)
        lengths = self._lengths[rows]
        plan = plan_step(lengths, self._processes, self._limit)
        shortest = int(np.argmin(lengths))
        mine = plan.shares[self._process]
        empty = sum(not batch for batches in plan.shares for batch in batches)
        return StepData(
            tuple(flatten(self._read(rows[list(batch or (shortest,))]), counts=bool(batch)) for batch in mine),
            int(self._answers[rows].sum()),
            tuple(lengths.tolist()),
            int(lengths.sum()) + empty * int(lengths[shortest]),
            plan.spread,
        )

    def _read(self, numbers: np.ndarray) -> list[dict[str, Any]]:
        columns = self._rows[numbers.tolist()]
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


class _Steps(Sampler):
    """The numbers of an epoch's steps, each as a batch of one."""

    def __init__(self, steps_per_epoch: int) -> None:
        self._steps, self._epoch = steps_per_epoch, 0

    def set_epoch(self, epoch: int) -> None:
        """The Trainer calls it at the beginning of each epoch, through whatever it has wrapped around."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        first = self._epoch * self._steps
        return iter([step] for step in range(first, first + self._steps))

    def __len__(self) -> int:
        return self._steps


class StepLoader(DataLoader):
    """Gives each step as {"step": `StepData`}; the Trainer can skip its first ones without reading them."""

    def __init__(self, steps: TrainingSteps) -> None:
        super().__init__(steps, batch_sampler=_Steps(len(steps)), collate_fn=_only)

    def set_epoch(self, epoch: int) -> None:
        """From here on the steps of this epoch (from 0)."""
        self.batch_sampler.set_epoch(epoch)


def row_lengths(rows: Dataset) -> np.ndarray:
    """Tokens of each row, int64; read from the lists' offsets alone."""
    return _column(rows, "input_ids", lambda chunk: np.diff(chunk.offsets.to_numpy()))


def answer_lengths(rows: Dataset) -> np.ndarray:
    """Supervised tokens of each row, int64."""
    return _column(rows, "answer_tokens", lambda chunk: chunk.to_numpy())


def _column(rows: Dataset, name: str, read: Callable[[Any], np.ndarray]) -> np.ndarray:
    chunks = rows.data.table.column(name).chunks
    return np.concatenate([np.asarray(read(chunk), dtype=np.int64) for chunk in chunks])


def _only(items: list[StepData]) -> dict[str, StepData]:
    (step,) = items
    return {"step": step}  # a dictionary, as the Trainer looks for "labels" in what it is given
