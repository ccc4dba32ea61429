"""One run of the benchmark: every way on the same questions, timed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import answer_ways as ways
import numpy as np
from answer_model import random_model
from answer_rows import made_up_questions, real_questions
from measuring import machine, matmul_peak, seconds_of

from socrates.inference.batching import token_budget
from socrates.inference.forward import common_prefix
from socrates.inference.trie import answer_trie

if TYPE_CHECKING:
    import torch

    from socrates.inference.engine import Question
    from socrates.model.load import LoadedModel

THIS, PREFILL, OPTIONS, LM_EVAL = "this", "prefill alone", "option by option", "lm-evaluation-harness, with end token"
# Rounding of float32, and of bf16 layers (a few percent of a probability; measured on deep random models).
_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.5}


@dataclass(frozen=True)
class Measured:
    """One line of the table."""

    name: str
    rows: int
    seconds: float
    this_seconds: float  # `this` on the same rows
    outcome: ways.Outcome
    difference: float | None  # from `this`, in log-probability; None where it computes something else


@dataclass(frozen=True)
class Run:
    """All that the report tells."""

    machine: str
    shape: str
    data: str
    lengths: tuple[float, float, int]  # of prompts: mean, 95%, longest
    shared: int  # tokens that all prompts begin with
    nodes: float  # of the answers' tree, mean
    budget: int
    dtype: str
    peak: float  # floating-point operations a second
    peak_memory: float | None  # GiB, of `this`, on a GPU
    lines: list[Measured]

    @property
    def agree(self) -> bool:
        """Whether the ways that compute the same gave the same numbers."""
        return all(line.difference is None or line.difference <= _TOLERANCE[self.dtype] for line in self.lines)


def measure(
    *,
    device: torch.device,
    shape: str,
    data: Path | None,
    rows: int,
    sample: int,
    budget: int | None,
    repeat: int,
    with_lm_eval: bool,
    seed: int,
) -> Run:
    """Time every way; the slow ones on ``sample`` of the rows, where `this` is timed again."""
    import torch

    tokenizer, questions = made_up_questions(rows, seed) if data is None else real_questions(data, rows, seed)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    loaded = random_model(shape, tokenizer, device, dtype, seed)
    budget = budget or token_budget(device, loaded.causal_lm.config, dtype.itemsize)
    part = _evenly(questions, sample)
    fast = {
        THIS: ways.this,
        "this, without the shared prefix": ways.this_without_prefix,
        PREFILL: ways.prefill,
    }
    slow = {
        "generate row by row, 2 tokens": ways.generate(2),
        "generate row by row, 6 tokens": ways.generate(6),
        "generate row by row, 100 tokens": ways.generate(100),
        "generate in batches, 6 tokens": ways.generate(6, batched=True),
        OPTIONS: ways.option_by_option,
        LM_EVAL: ways.lm_eval_algorithm,
        **({f"{LM_EVAL}: the package": ways.lm_eval_package} if with_lm_eval else {}),
    }
    peaks = [matmul_peak(device, dtype)]
    ways.this(loaded, questions[: max(2, len(questions) // 8)], budget)  # the first call of anything is slower
    peak_memory = None
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    best: dict[str, tuple[float, ways.Outcome]] = {}
    for _ in range(repeat):  # in turns, so that a change of the machine's clock meets all of them
        for name, way in fast.items():
            best[name] = min(best.get(name, (np.inf,)), _timed(name, way, loaded, questions, budget), key=_seconds)
            if device.type == "cuda" and name == THIS:
                peak_memory = peak_memory or torch.cuda.max_memory_allocated(device) / 2**30
        peaks.append(matmul_peak(device, dtype))
    seconds, reference = best[THIS]
    lines = [_line(name, questions, *best[name], seconds, reference) for name in fast]
    if len(part) < len(questions):
        times = [_timed(f"{THIS}, on {len(part)} rows", ways.this, loaded, part, budget) for _ in range(repeat)]
        seconds, reference = min(times, key=_seconds)
    for name, way in slow.items():
        lines.append(_line(name, part, *_timed(name, way, loaded, part, budget), seconds, reference))
    peaks.append(matmul_peak(device, dtype))
    prompts = [len(question.prompt_ids) for question in questions]
    return Run(
        machine=machine(device, ["lm_eval"] if with_lm_eval else []),
        shape=shape,
        data="made up" if data is None else data.name,
        lengths=(float(np.mean(prompts)), float(np.percentile(prompts, 95)), max(prompts)),
        shared=len(common_prefix([question.prompt_ids for question in questions])),
        nodes=_mean_nodes(loaded, questions),
        budget=budget,
        dtype=str(dtype).removeprefix("torch."),
        peak=max(peaks),
        peak_memory=peak_memory,
        lines=lines,
    )


def _evenly(questions: Sequence[Question], count: int) -> list[Question]:
    """``count`` of the questions, with the same mix of scales and lengths, in their order."""
    if count >= len(questions):
        return list(questions)
    order = sorted(range(len(questions)), key=lambda i: (len(questions[i].scale), len(questions[i].prompt_ids)))
    places = ((np.arange(count) + 0.5) / count * len(order)).astype(int)
    return [questions[i] for i in sorted(order[place] for place in places)]


def _timed(
    name: str, way: ways.Way, loaded: LoadedModel, questions: Sequence[Question], budget: int
) -> tuple[float, ways.Outcome]:
    seconds, outcome = seconds_of(lambda: way(loaded, questions, budget), loaded.device)
    print(f"{name}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return seconds, outcome


def _line(
    name: str,
    questions: Sequence[Question],
    seconds: float,
    outcome: ways.Outcome,
    this_seconds: float,
    reference: ways.Outcome,
) -> Measured:
    difference = None if outcome.scores is None else ways.largest_difference(outcome.scores, reference.scores)
    # The scores are compared; the rest of the run need not hold them.
    return Measured(name, len(questions), seconds, this_seconds, replace(outcome, scores=None), difference)


def _mean_nodes(loaded: LoadedModel, questions: Sequence[Question]) -> float:
    sizes = {scale: len(answer_trie(loaded.tokenizer, scale.values)) for scale in {q.scale for q in questions}}
    return float(np.mean([sizes[question.scale] for question in questions]))


def _seconds(timed: tuple[float, ...]) -> float:
    return timed[0]
