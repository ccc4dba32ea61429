#!/usr/bin/env python3
r"""Measure ways of asking a model for the distribution of its answers: same rows, same model, same machine, one run.

    OMP_NUM_THREADS=1 venv/bin/python benchmarks/bench_answers.py                       # CPU, ten minutes
    venv/bin/python benchmarks/bench_answers.py --device cuda --shape 14b --rows 5000   # a GPU of 48 GB or more

Weights and words are random: speed does not depend on them. The slow ways run once, on --sample of the rows with the
same mix of scales and lengths, and are compared with `this` on those rows.

Exit status: 0 measured, 1 two ways that compute the same gave different numbers, 2 cannot.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import answer_ways as ways
import frame
import numpy as np
from random_model import SHAPES, answering_model, made_tokenizer

from socrates.errors import EXIT_DONE, EXIT_NO, run_entry_point
from socrates.inference.forward import common_prefix

if TYPE_CHECKING:
    import torch

    from socrates.inference.engine import Question
    from socrates.model.load import LoadedModel

Timed = tuple[float, tuple[ways.Outcome, int]]  # seconds, and what `Run.of` gives
THIS, PREFILL, OPTIONS = "this", "prefill alone", "option by option"
FAST = {THIS: ways.this, PREFILL: ways.prefill}
SLOW = {
    "generate row by row, 2 tokens": ways.generate(2),
    "generate row by row, 6 tokens": ways.generate(6),
    "generate row by row, 100 tokens": ways.generate(100),
    "generate in batches, 6 tokens": ways.generate(6, batched=True),
    OPTIONS: ways.option_by_option,
}
_HEAD = ("way", "rows", "seconds", "ms a row", f"times `{THIS}`", "padding", "share of peak", "largest difference")
# Rounding of float32, and of bf16 layers (a few percent of a probability; measured on deep random models).
_TOLERANCE = {"cpu": 1e-3, "cuda": 0.5}
_NOTES = f"""
Padding: of the tokens that went through the layers. Share of peak: operations that the way \
cannot do without (no padding, no masked attention, no discarded logits), in that time. Largest difference: of the \
log-probability of any answer to any row, from `{THIS}`; the ways without one compute something else: `generate` draws \
one answer a row, `{PREFILL}` gives none.

"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, measure, print."""
    parser = frame.arguments(__doc__, shapes=SHAPES, repeats=3)
    frame.add_count(parser, "--rows", 200, "questions")
    frame.add_count(parser, "--sample", 48, "of them, for the slow ways")
    frame.add_count(parser, "--budget", None, "tokens in one forward; on a CPU 2048, on a GPU 16384: ")
    a = parser.parse_args(argv)
    device = frame.usable_device(a.device)
    logging.disable(logging.WARNING)
    run = Run(a, device)
    fast, slow, this = measure(run)
    apart = differences(slow, this)
    agree = all(difference <= _TOLERANCE[device.type] for difference in apart.values())
    rows = [_row(name, len(run.questions), fast[name], fast[THIS], run.peak, "") for name in fast]
    for name, timed in slow.items():
        difference = f"{apart[name]:.0e}" if name in apart else ""
        rows.append(_row(name, len(run.part), timed, this, run.peak, difference))
    frame.publish(report(run, rows, fast, {name: slow[name][0] / this[0] for name in slow}, agree), a.output)
    return EXIT_DONE if agree else EXIT_NO


class Run:
    """The questions, the model, and what both take."""

    def __init__(self, a: argparse.Namespace, device: torch.device) -> None:
        """Make them."""
        self.device, self.shape, self.repeats = device, a.shape, a.repeats
        self.budget = a.budget or (2048 if device.type == "cpu" else 16384)
        self.questions = ways.made_up_questions(a.rows, a.seed)
        self.part = _evenly(self.questions, a.sample)
        self.slow = frame.chosen(SLOW, a.only, ())
        self.loaded: LoadedModel = answering_model(a.shape, made_tokenizer(a.seed), device, a.seed)
        self.peak = 0.0  # operations a second
        self.memory = 0.0  # GiB, of `this`, on a GPU
        self.fed = self.check = 0  # tokens through the layers: of a way, and of what the engine tries before it begins
        self.loaded.model.get_input_embeddings().register_forward_pre_hook(self._count)
        one = self.questions[0]
        other = replace(
            one, prompt_ids=(*one.prompt_ids[: ways.SHARED_TOKENS], *one.prompt_ids[: ways.SHARED_TOKENS - 1 : -1])
        )
        outcome, fed = self.of(ways.this, [one, other])  # of one length and scale: nothing is padded
        self.check = fed - outcome.tokens

    def _count(self, module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        self.fed += inputs[0].numel()

    def of(self, way: ways.Way, questions: Sequence[Question]) -> tuple[ways.Outcome, int]:
        """What a way gives, and the tokens that it sent through the layers, the engine's check left out."""
        import torch

        on_gpu = self.device.type == "cuda" and way is ways.this
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        self.fed = 0
        outcome = way(self.loaded, questions, self.budget)
        if on_gpu:
            self.memory = max(self.memory, torch.cuda.max_memory_allocated(self.device) / 2**30)
        return outcome, self.fed - self.check * (way is ways.this)

    def find_peak(self) -> None:
        """Measure what the machine could do at most, again."""
        self.peak = max(self.peak, frame.matmul_peak(self.device))


def measure(run: Run) -> tuple[dict[str, Timed], dict[str, Timed], Timed]:
    """The fast ways, the slow ones on a part of the rows, and `this` on that part."""
    run.find_peak()
    run.of(ways.this, run.questions[: max(2, len(run.questions) // 8)])  # the first call of anything is slower
    calls = {name: partial(run.of, way, run.questions) for name, way in FAST.items()}
    fast = frame.in_turns(calls, run.repeats, run.device)
    run.find_peak()
    this = fast[THIS]
    if len(run.part) < len(run.questions) and run.slow:
        this = frame.in_turns({THIS: partial(run.of, ways.this, run.part)}, run.repeats, run.device)[THIS]
    calls = {name: partial(run.of, way, run.part) for name, way in run.slow.items()}
    slow = frame.in_turns(calls, 1, run.device)
    run.find_peak()
    return fast, slow, this


def differences(found: Mapping[str, Timed], this: Timed) -> dict[str, float]:
    """How far a way's numbers are from those of `this` on the same rows; ways that compute something else left out."""
    reference = this[1][0].scores
    scores = {name: outcome.scores for name, (_, (outcome, _)) in found.items() if name != THIS}
    return {name: ways.largest_difference(mine, reference) for name, mine in scores.items() if mine is not None}


def _evenly(questions: Sequence[Question], count: int) -> list[Question]:
    """``count`` of the questions, with the same mix of scales and lengths, in their order."""
    if count >= len(questions):
        return list(questions)
    order = sorted(range(len(questions)), key=lambda i: (len(questions[i].scale.values), len(questions[i].prompt_ids)))
    places = ((np.arange(count) + 0.5) / count * len(order)).astype(int)
    return [questions[i] for i in sorted(order[place] for place in places)]


def report(
    run: Run, rows: Sequence[Sequence[str]], fast: Mapping[str, Timed], times: Mapping[str, float], agree: bool
) -> str:
    """The table, what it was measured on, and each aim with what was reached."""
    prompts = [len(question.prompt_ids) for question in run.questions]
    shared = len(common_prefix([question.prompt_ids for question in run.questions]))
    dtype = str(frame.training_dtype(run.device)).removeprefix("torch.")
    clock = "processor time" if run.device.type == "cpu" else "wall clock"
    text = (
        f"# Answer distributions: ways and times\n\nMachine: {frame.machine(run.device)}.\n"
        f"Model: random Qwen2, shape `{run.shape}`, {dtype}. Rows: {len(prompts)}, made up; prompts of "
        f"{np.mean(prompts):.0f} tokens on average (95%: {np.percentile(prompts, 95):.0f}, longest {max(prompts)}), "
        f"{shared} of them ({shared / np.mean(prompts):.0%}) the same in all; "
        f"{np.mean([len(question.scale.values) for question in run.questions]):.1f} valid answers a row. At most "
        f"{run.budget} tokens in one forward.\n"
        f"Measured matmul peak ({dtype}): {run.peak / 1e9:,.1f} GFLOP/s. Seconds: {clock}.\n"
    )
    text += f"Peak memory of `{THIS}`: {run.memory:.1f} GiB.\n" if run.memory else ""
    text += "\n" + frame.table(_HEAD, rows) + _NOTES
    seconds, (outcome, fed) = fast[THIS]
    share, padding = outcome.work / seconds / run.peak, 1 - outcome.tokens / fed
    against = seconds / fast[PREFILL][0]
    if OPTIONS in times:
        text += frame.aim(f"at least 12 times as fast as {OPTIONS}", f"{times[OPTIONS]:.1f}", times[OPTIONS] >= 12)
    text += frame.aim("within 1.25 times the prefill alone", f"{against:.2f}", against <= 1.25)
    text += frame.aim("at least 70% of the measured matmul peak", f"{share:.0%}", share >= 0.7)
    text += frame.aim("padding under 1.5%", f"{padding:.2%}", padding < 0.015)
    return text + frame.aim("the ways that compute the same agree", "yes" if agree else "NO", agree)


def _row(name: str, rows: int, timed: Timed, this: Timed, peak: float, difference: str) -> list[str]:
    seconds, (outcome, fed) = timed
    share = f"{outcome.work / seconds / peak:.0%}" if outcome.work else ""
    times, padding = f"{seconds / this[0]:.2f}", f"{1 - outcome.tokens / fed:.1%}"
    return [name, str(rows), f"{seconds:.2f}", f"{1000 * seconds / rows:.1f}", times, padding, share, difference]


if __name__ == "__main__":
    run_entry_point(main)
