"""Padding-free batches: which rows a step holds, how the ranks share them by tokens, and the flattened tensors.

The rows of step N depend on the seed and on N alone. How many processes there are, and how much each takes at once,
decides only who computes what: a run that goes on with other hardware sees the same examples in the same order, at any
step, without reading those before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute
import torch
from datasets import Dataset
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset
from transformers import PreTrainedTokenizerBase

from socrates.config import RunConfig
from socrates.data.records import parse_answer
from socrates.errors import SocratesError
from socrates.model.chat import answer_token_ids, end_of_turn_id, prompt_token_ids


@dataclass(frozen=True)
class FlatBatch:
    """Examples one after another, and which of their tokens are to be predicted; int64."""

    input_ids: torch.Tensor  # [1, tokens]
    lengths: tuple[int, ...]  # tokens of each example
    before: torch.Tensor  # [targets]: the positions whose next token carries loss
    targets: torch.Tensor  # [targets]: these tokens
    counts: bool = True  # False for a filler, for a process that has fewer micro-batches than the others


@dataclass(frozen=True)
class StepData:
    """One step of one process, and what all processes have in it together."""

    micro_batches: tuple[FlatBatch, ...]  # of this process
    supervised_tokens: int  # what the step's loss is divided by
    tokens: int  # of all rows of the step


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
        # Of all rows, from the columns alone: reading the token ids would take minutes.
        chosen = slice(None) if rows._indices is None else rows._indices.column(0).to_numpy()  # by `Dataset.select`
        lengths = pyarrow.compute.list_value_length(rows.data.column("input_ids"))
        self._lengths = lengths.to_numpy().astype(np.int64)[chosen]
        self._answers = rows.data.column("answer_tokens").to_numpy().astype(np.int64)[chosen]

    def __len__(self) -> int:
        return self.order.steps_per_epoch

    def __getitem__(self, step: int) -> StepData:
        rows = self.order.rows_of(step)
        lengths = self._lengths[rows]
        shares = plan_step(lengths, self._processes, self._limit)
        filler = [int(np.argmin(lengths))]
        micro_batches = (
            flatten(self._read(rows[batch or filler]), counts=bool(batch)) for batch in shares[self._process]
        )
        return StepData(tuple(micro_batches), int(self._answers[rows].sum()), int(lengths.sum()))

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


@dataclass(frozen=True)
class StepOrder:
    """The order in which a run takes its rows: a new permutation each epoch, cut into steps."""

    rows: int  # of the training set
    global_batch_size: int  # rows of a step
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


def plan_step(lengths: Sequence[int], processes: int, micro_batch_tokens: int) -> list[list[list[int]]]:
    """Share the rows of a step among the processes: longest first, each to the one that has least so far (Graham 1969).

    Within a process they go in the same way to as few micro-batches as the limit allows.

    Args:
        lengths: tokens of each row of the step.
        processes: that share them.
        micro_batch_tokens: most tokens of a micro-batch.

    Returns:
        For each process equally many micro-batches, as positions of their rows; some are empty where there are few.

    Raises:
        SocratesError: a row alone is longer than that.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
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


def held_out_rows(config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """A fixed sample of the evaluation rows, tokenized, on which the loss is taken while training; none if never.

    They are of lines at equal distances in the file; missing answers and those that are too long are left out.

    Raises:
        SocratesError: no such file, no rows, or a bad row among those that are taken.
    """
    if config.training.eval_steps is None:
        return []
    path, max_length = config.evaluation_file, config.training.max_length
    try:
        lines = _lines_at_equal_distances(path, config.training.eval_examples)
    except OSError as error:
        raise SocratesError(
            f'{path}: cannot read: {error.strerror or error}; upload it, or set "training.eval_steps" to null'
        ) from error
    end, rows = end_of_turn_id(tokenizer), []
    for start, line in lines.items():
        try:
            answer = parse_answer(json.loads(line), path, 0)
        except (SocratesError, ValueError) as error:
            raise SocratesError(f"{path}: the row that begins at byte {start} is bad: {error}") from error
        if answer.response is None:  # of many people
            continue
        (ids,) = prompt_token_ids(tokenizer, [answer.prompt], config.prompt)
        answer_ids = [*answer_token_ids(tokenizer, answer.response), end]
        if len(ids) + len(answer_ids) <= max_length and not answer.is_missing:
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
    with path.open("rb") as file:
        for part in range(count):
            if file.seek(part * path.stat().st_size // count):
                file.readline()  # of which the beginning is behind us
            start = file.tell()
            if (line := file.readline()).strip():
                found[start] = line
    return found
