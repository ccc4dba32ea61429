#!/usr/bin/env python3
r"""How a step's rows are put into batches, this project's way and the Trainer's: padding, and who waits for whom.

    venv/bin/python benchmarks/bench_step_batches.py --data data/socsci210_full/train.jsonl

Counts only, over one epoch of the file's rows: no model. Without --tokenizer one is made from the rows (digits one by
one, 2,048 tokens), so that a row has some more tokens than with Qwen's.

Exit status: 0 counted, 1 padding, or processes more than 5% apart, 2 cannot.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from socrates.errors import EXIT_DONE, EXIT_NO, run_entry_point
from socrates.training.batches import StepOrder, plan_step

_MOST_APART = 0.05
Batches = list[list[list[int]]]  # of each process, the tokens of each row of each batch


@dataclass(frozen=True)
class Counted:
    """A way of making batches, counted over an epoch. Per step: most and least tokens of a process that go through."""

    name: str
    padding: float
    apart_mean: float
    apart_most: float
    batches: float
    largest: int
    examples: tuple[int, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, count, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="rows, JSONL in either layout")
    parser.add_argument("--tokenizer", metavar="FOLDER", help="of a model (default: made from the rows)")
    parser.add_argument("--processes", type=int, default=4, metavar="N")
    parser.add_argument("--global-batch-size", type=int, default=256, metavar="N")
    parser.add_argument("--micro-batch-tokens", type=int, default=2048, metavar="N")
    parser.add_argument("--max-length", type=int, default=2048, metavar="N")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table there too (Markdown)")
    a = parser.parse_args(argv)
    lengths = row_lengths_of(a.data, a.tokenizer, a.max_length)
    order = StepOrder(len(lengths), a.global_batch_size, a.seed)
    steps = [lengths[order.rows_of(step)] for step in range(order.steps_per_epoch)]
    mine = counted("this project", (_planned(step, a.processes, a.micro_batch_tokens) for step in steps), padded=False)
    ways = [
        counted("the Trainer's default, 8 random rows", (_eights(step, a.processes) for step in steps)),
        counted("8 rows of like length within a step", (_eights(np.sort(step), a.processes) for step in steps)),
        counted("padding_free, 8 random rows", (_eights(step, a.processes) for step in steps), padded=False),
        mine,
    ]
    text = "\n".join(_report(a, lengths, ways))
    print(text)
    if a.output:
        a.output.parent.mkdir(parents=True, exist_ok=True)
        a.output.write_text(text + "\n", encoding="utf-8")
    return EXIT_DONE if mine.padding == 0 and mine.apart_most <= _MOST_APART else EXIT_NO


def row_lengths_of(data: Path, tokenizer: str | None, max_length: int) -> np.ndarray:
    """Tokens of each row, as a training takes them."""
    from socrates.data.tokenize import ensure_tokenized
    from socrates.data.tokenized import load_tokenized
    from socrates.files import sha256_file
    from socrates.model.load import load_tokenizer
    from socrates.rehearsal.base_model import make_base_model
    from socrates.training.batches import row_lengths

    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "train.jsonl"
        rows.symlink_to(data.resolve())
        if tokenizer is None:
            make_base_model(Path(folder) / "model", rows, steps=0)
            tokenizer = str(Path(folder) / "model")
        tokenized = ensure_tokenized(rows, sha256_file(rows), load_tokenizer(tokenizer), None, max_length)
        return row_lengths(load_tokenized(tokenized)[0])


def counted(name: str, steps: Iterator[Batches], padded: bool = True) -> Counted:
    """Count a way; ``padded`` makes each row of a batch as long as its longest."""
    real = fed = largest = 0
    apart, batches, examples = [], [], []
    for step in steps:
        sizes = [[max(batch) * len(batch) if padded else sum(batch) for batch in share] for share in step]
        totals = [sum(share) for share in sizes]
        real += sum(sum(batch) for share in step for batch in share)
        fed += sum(totals)
        largest = max(largest, *(size for share in sizes for size in share))
        apart.append((max(totals) - min(totals)) / max(totals))
        batches.append(len(step[0]))
        examples.append(sum(len(batch) for share in step for batch in share))
    apart = apart[:-1] or apart  # the last step of an epoch may have too few rows to share out evenly
    means = float(np.mean(apart)), max(apart), float(np.mean(batches))
    return Counted(name, 1 - real / fed, *means, largest, tuple(examples))


def _planned(lengths: np.ndarray, processes: int, limit: int) -> Batches:
    return [[[int(lengths[row]) for row in batch] for batch in share] for share in plan_step(lengths, processes, limit)]


def _eights(lengths: np.ndarray, processes: int) -> Batches:
    """Batches of 8 in order, dealt out to the processes in turn, as the Trainer does."""
    batches = [lengths[start : start + 8].tolist() for start in range(0, len(lengths), 8)]
    return [batches[process::processes] for process in range(processes)]


def _report(a: argparse.Namespace, lengths: np.ndarray, ways: list[Counted]) -> Iterator[str]:
    yield "# Batches of a step"
    yield ""
    yield (
        f"{len(lengths)} rows of `{a.data.name}`, {lengths.mean():.0f} tokens on average (95%: "
        f"{np.percentile(lengths, 95):.0f}, longest {lengths.max()}), one epoch in {len(ways[-1].examples)} steps of "
        f"{a.global_batch_size} examples on {a.processes} processes; micro-batches of at most "
        f"{a.micro_batch_tokens} tokens. Apart: (most - fewest tokens of a process) / most, in a step; the "
        "epoch's last step, which holds what is left, is not counted there."
    )
    yield ""
    yield "| way | padding | apart, mean | apart, worst | micro-batches a step | largest (tokens) | examples a step |"
    yield "|---|--:|--:|--:|--:|--:|---|"
    for way in ways:
        *full, last = way.examples
        examples = f"{'/'.join(map(str, sorted({*full})))}, the last {last}"
        yield (
            f"| {way.name} | {way.padding:.1%} | {way.apart_mean:.1%} | {way.apart_most:.1%} | {way.batches:.1f} | "
            f"{way.largest} | {examples} |"
        )


if __name__ == "__main__":
    run_entry_point(main)
