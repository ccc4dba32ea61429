"""Padding-free batches: which rows a step holds, how the ranks share them by tokens, and the flattened tensors.

The rows of step N depend on the seed and on N alone. How many processes there are, and how much each takes at once,
decides only who computes what: a run that goes on with other hardware sees the same examples in the same order, at any
step, without reading those before.

Covers: exactly the configured number of examples a step (the last of an epoch has what is left), each row once an
epoch, no micro-batch over its limit of tokens; the shapes that the model takes.
Does not cover: how the rows are made (`tokenize.py`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute
import torch
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from socrates.data.records import parse_answer
from socrates.errors import SocratesError
from socrates.model.chat import answer_token_ids, end_of_turn_id, prompt_token_ids

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


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


@dataclass(frozen=True)
class StepData:
    """One step of one process, and what all processes have in it together.

    Attributes:
        micro_batches: of this process.
        supervised_tokens: of all processes: what the step's loss is divided by.
        lengths: tokens of every row of the step.
        fed_tokens: that go through the model, fillers included.
    """

    micro_batches: tuple[FlatBatch, ...]
    supervised_tokens: int
    lengths: tuple[int, ...]
    fed_tokens: int


def flatten(rows: Sequence[Mapping[str, Any]], counts: bool = True) -> FlatBatch:
    """Put tokenized rows (`input_ids`, of which the last `answer_tokens` are predicted) one after another."""
    lengths = tuple(len(row["input_ids"]) for row in rows)
    ids = np.concatenate([row["input_ids"] for row in rows], dtype=np.int64)
    targets = np.concatenate(
        [np.arange(end - row["answer_tokens"], end) for row, end in zip(rows, np.cumsum(lengths), strict=True)]
    )
    return FlatBatch(
        torch.from_numpy(ids)[None], lengths, torch.from_numpy(targets - 1), torch.from_numpy(ids[targets]), counts
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
        shares = plan_step(lengths, self._processes, self._limit)
        shortest, mine = int(np.argmin(lengths)), shares[self._process]
        empty = sum(not batch for share in shares for batch in share)
        return StepData(
            tuple(flatten(self._read(rows[batch or [shortest]]), counts=bool(batch)) for batch in mine),
            int(self._answers[rows].sum()),
            tuple(lengths.tolist()),
            int(lengths.sum()) + empty * int(lengths[shortest]),
        )

    def largest(self) -> FlatBatch:
        """A micro-batch as large as any may be, with the most answers: the shortest row over and over, and a part."""
        [row] = self._read(np.array([np.argmin(self._lengths)]))
        whole, rest = divmod(self._limit, len(row["input_ids"]))
        rows = [row] * whole
        if rest > row["answer_tokens"]:
            rows.append({**row, "input_ids": row["input_ids"][-rest:]})
        return flatten(rows)

    def _read(self, numbers: np.ndarray) -> list[dict[str, Any]]:
        columns = self._rows[numbers.tolist()]
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


class _Steps(Sampler):
    """The numbers of an epoch's steps, each as a batch of one."""

    def __init__(self, steps_per_epoch: int) -> None:
        self._steps, self._epoch = steps_per_epoch, 0

    def set_epoch(self, epoch: int) -> None:
        """The Trainer calls it at the beginning of each epoch, through whatever it has wrapped around to skip steps."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        first = self._epoch * self._steps
        return iter([step] for step in range(first, first + self._steps))

    def __len__(self) -> int:
        return self._steps


class StepLoader(DataLoader):
    """Gives each step as {"step": `StepData`}; the Trainer can skip its first ones without reading them."""

    def __init__(self, steps: TrainingSteps) -> None:
        # A dictionary, as the Trainer looks for "labels" in what it is given.
        super().__init__(steps, batch_sampler=_Steps(len(steps)), collate_fn=lambda items: {"step": items[0]})

    def set_epoch(self, epoch: int) -> None:
        """From here on the steps of this epoch (from 0)."""
        self.batch_sampler.set_epoch(epoch)


def row_lengths(rows: Dataset) -> np.ndarray:
    """Tokens of each row, int64; read from the lists' offsets alone."""
    return pyarrow.compute.list_value_length(rows.data.column("input_ids")).to_numpy().astype(np.int64)


def answer_lengths(rows: Dataset) -> np.ndarray:
    """Supervised tokens of each row, int64."""
    return rows.data.column("answer_tokens").to_numpy().astype(np.int64)


Share = list[list[int]]  # the micro-batches of a process: positions of their rows among the step's


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

    @property
    def steps_per_epoch(self) -> int:
        """The last step of an epoch may be a small one."""
        return math.ceil(self.rows / self.global_batch_size)

    def rows_of(self, step: int) -> np.ndarray:
        """Row numbers of a step, which counts from 0 over all epochs; int64."""
        epoch, within = divmod(step, self.steps_per_epoch)
        start = within * self.global_batch_size
        return _permutation(self.rows, self.seed, epoch)[start : start + self.global_batch_size]


@lru_cache(maxsize=1)  # one epoch at a time: 8 bytes a row
def _permutation(rows: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(rows)


def plan_step(lengths: Sequence[int], processes: int, micro_batch_tokens: int) -> list[Share]:
    """Share the rows of a step among the processes.

    Each row goes, longest first, to the process that has the fewest tokens so far, and within a process in the same way
    to one of as few micro-batches as the limit allows (Graham 1969: "longest processing time first").

    Args:
        lengths: tokens of each row of the step.
        processes: that share them.
        micro_batch_tokens: most tokens of a micro-batch.

    Returns:
        A share for each process; all have equally many micro-batches, and some of these may be empty where a step has
        fewer rows than that.

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
    return packed


def _spread_out(items: Sequence[int], sizes: np.ndarray, bins: int) -> list[list[int]]:
    """Items, longest first, each into the bin that holds least."""
    filled: list[list[int]] = [[] for _ in range(bins)]
    totals = [0] * bins
    for item in items:
        least = totals.index(min(totals))
        filled[least].append(item)
        totals[least] += int(sizes[item])
    return filled


# --- held-out rows: a small fixed sample of the evaluation rows, on which the loss is taken while training -----------


def held_out_rows(
    path: Path, count: int, tokenizer: PreTrainedTokenizerBase, system_message: str | None, max_length: int
) -> list[dict[str, Any]]:
    """Tokenized rows (`input_ids`, `answer_tokens`) of lines at equal distances in the file, without too long ones.

    Raises:
        SocratesError: no such file, no rows, or a bad row among those that are taken.
    """
    end, rows = end_of_turn_id(tokenizer), []
    for start, line in _lines_at_equal_distances(path, count).items():
        try:
            answer = parse_answer(json.loads(line), path, 0)
        except (SocratesError, ValueError) as error:
            raise SocratesError(f"{path}: the row that begins at byte {start} is bad: {error}") from error
        (ids,) = prompt_token_ids(tokenizer, [answer.prompt], system_message)
        answer_ids = [*answer_token_ids(tokenizer, answer.response), end]
        if len(ids) + len(answer_ids) <= max_length:
            rows.append({"input_ids": [*ids, *answer_ids], "answer_tokens": len(answer_ids)})
    if not rows:
        raise SocratesError(
            f'{path}: no row of at most {max_length} tokens to watch; set "training.eval_steps" to null'
        )
    return rows


def held_out_batches(
    rows: Sequence[dict[str, Any]], process: int, processes: int, micro_batch_tokens: int
) -> tuple[FlatBatch, ...]:
    """This process's share of them; none of none."""
    if not rows:
        return ()
    shares = plan_step([len(row["input_ids"]) for row in rows], processes, micro_batch_tokens)
    return tuple(flatten([rows[i] for i in batch]) for batch in shares[process] if batch)


def _lines_at_equal_distances(path: Path, count: int) -> dict[int, bytes]:
    """The first complete line from each of ``count`` places on, by where it begins; fewer in a shorter file."""
    found: dict[int, bytes] = {}
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            for part in range(count):
                file.seek(part * size // count)
                if file.tell():
                    file.readline()  # of which the beginning is behind us
                start = file.tell()
                if (line := file.readline()).strip():
                    found[start] = line
    except OSError as error:
        raise SocratesError(
            f'{path}: cannot read: {error.strerror or error}; upload it, or set "training.eval_steps" to null'
        ) from error
    return found
