#!/usr/bin/env python3
r"""Measure a training's tokens a second and peak memory: TRL, this project, and that with one thing otherwise.

    OMP_NUM_THREADS=1 venv/bin/python benchmarks/bench_training.py                              # CPU, fifteen minutes
    venv/bin/python benchmarks/bench_training.py --device cuda --shape 14b --rows-a-step 64     # a GPU of 80 GB

All ways train on the same rows, in the same steps, from the same random weights, one after another, each in a process
of its own. Speed and memory do not depend on the weights' values. Rows have the spread of real lengths, scaled to the
published data's mean.

Exit status: 0 measured, 1 ways that compute the same had other losses, 2 cannot.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import frame
import numpy as np
from answer_ways import row_lengths
from random_model import SHAPES
from training_ways import FULL, THIS, TRL, WARM_UP, WAYS, Job, Measured, Way, attempt

from socrates.errors import EXIT_DONE, EXIT_NO, SocratesError, run_entry_point
from socrates.model.sizing import peak_flops

_SAME_LOSS = 0.05  # relative: dropout draws other numbers where rows lie otherwise
_GIB = 2**30
_HEAD = ("way", "tokens a second", "times TRL's defaults", "padding", "FLOPs utilisation", "peak memory (GiB)")
_HEAD += ("estimated (GiB)", "layers computed again")
_NOTES = """
Tokens are the rows', without padding. FLOPs utilisation: operations that the rows need (no padding, the head on \
answers alone, nothing computed twice) in that time, by the measured peak. Estimated: what this project counts with \
before a run; it is of GPUs, and nothing to compare a CPU's memory with. TRL reads the rows' tokens and labels as this \
project made them; its padding_free is written for FlashAttention and takes a dense mask where that is not installed.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, measure, print."""
    parser = frame.arguments(__doc__, shapes=SHAPES, repeats=1)
    frame.add_count(parser, "--rows-a-step", 32, "of this one process, a multiple of 8")
    frame.add_count(parser, "--steps", 4, f"measured, after {WARM_UP} to warm up")
    frame.add_count(parser, "--micro-batch-tokens", 2048, "tokens at once, at most")
    frame.add_count(parser, "--mean-tokens", 370, "of a row")
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="after the first, begin no way that may not end in so many (no limit)",
    )
    a = parser.parse_args(argv)
    if a.rows_a_step % 8:
        parser.error("--rows-a-step is a multiple of 8")
    device = frame.usable_device(a.device)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # DeepSpeed's tools (ninja)
    if a.device == "cpu":
        os.environ |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    else:  # one GPU: with several, TRL's way would want a launcher
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    lengths = row_lengths(a.rows_a_step * (WARM_UP + a.steps), a.mean_tokens)
    lengths = tuple(np.random.default_rng(a.seed).permutation(lengths).tolist())
    job = Job(a.shape, a.device, lengths, a.rows_a_step, a.steps, a.micro_batch_tokens, a.seed)
    ways = frame.chosen({way.name: way for way in WAYS}, a.only, (THIS.name, TRL.name))
    found, refused = measure_all(list(ways.values()), job, a.repeats, a.seconds)
    this = next((run for way, run in found.items() if way.name == THIS.name), None)
    if this is None:
        raise SocratesError(f"{THIS.name}: {refused[THIS]}")
    agree = all(np.allclose(run.losses, this.losses, rtol=_SAME_LOSS) for run in found.values())
    frame.publish(report(job, found, refused, frame.matmul_peak(device), frame.machine(device), agree), a.output)
    return EXIT_DONE if agree else EXIT_NO


def measure_all(
    ways: Sequence[Way], job: Job, repeats: int, seconds: float | None
) -> tuple[dict[Way, Measured], dict[Way, str]]:
    """What was measured of each way, and why another was not."""
    started, longest = time.monotonic(), 0.0
    found: dict[Way, Measured] = {}
    refused: dict[Way, str] = {}
    for way in ways:
        begun = time.monotonic()
        if longest and seconds is not None and begun - started + longest > seconds:
            refused[way] = f"no time left of {seconds:.0f} s"
            continue
        runs = [measure(way, job) for _ in range(repeats)]
        if FULL in runs and not way.checkpointed:
            way = replace(way, checkpointed=True)
            runs = [measure(way, job)]
        measured = [run for run in runs if isinstance(run, Measured)]
        if measured:
            found[way] = min(measured, key=lambda run: run.seconds)
        else:
            refused[way] = str(runs[0])
        longest = max(longest, time.monotonic() - begun)
        print(f"{way.name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return found, refused


def measure(way: Way, job: Job) -> Measured | str:
    """Go a way in a process of its own; a text where it cannot be gone here."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(attempt, way, job).result()


def report(
    job: Job, found: Mapping[Way, Measured], refused: Mapping[Way, str], peak: float, machine: str, agree: bool
) -> str:
    """The table, what it was measured on, and what was not measured."""
    cuda, lengths = job.device == "cuda", np.array(job.lengths)
    sheet = peak_flops(machine.partition(";")[0]) if cuda else None
    sheet = f" (data sheet: {sheet / 1e12:.0f})" if sheet else ""
    text = (
        f"# Training: ways, speed and memory\n\nMachine: {machine}.{'' if cuda else ' Not measured on a GPU.'}\n"
        f"Model: random Qwen2, shape `{job.shape}`, {'bfloat16' if cuda else 'float32'}, LoRA r = 16 on all seven "
        f"projections, dropout 0.05. Rows: made up, {lengths.mean():.0f} tokens on average (longest {lengths.max()}); "
        f"{job.steps} steps of {job.rows_a_step} rows after the warm-up, micro-batches of at most "
        f"{job.micro_batch_tokens} tokens, one process.\n"
        f"Measured matmul peak: {peak / 1e12:.3g} TFLOP/s{sheet}. Seconds: "
        f"{'wall clock' if cuda else 'processor time'}. "
        f"Peak memory: {'all that is used of the GPU' if cuda else 'what training adds to the process'}.\n\n"
    )
    speed = {way: run.tokens / run.seconds for way, run in found.items()}
    trl = next((speed[way] for way in found if way.name == TRL.name), None)
    this = next(speed[way] for way in found if way.name == THIS.name)
    layers = SHAPES[job.shape]["num_hidden_layers"]
    rows = [
        (
            way.name,
            f"{speed[way]:,.0f}",
            f"{speed[way] / trl:.2f}" if trl else "",
            f"{1 - run.tokens / run.fed_tokens:.1%}",
            f"{run.flops / run.seconds / peak:.0%}",
            f"{run.peak_bytes / _GIB:.2f}",
            f"{run.estimated_bytes / _GIB:.1f}" if cuda and not way.trl else "",
            layers * way.checkpointed,
        )
        for way, run in found.items()
    ]
    text += frame.table(_HEAD, rows) + _NOTES + "\n"
    text += "".join(f"- not run: {way.name}: {why}\n" for way, why in refused.items())
    if trl:
        times = this / trl
        text += frame.aim("at least 3 times as fast as TRL's defaults", f"{times:.2f}", times >= 3)
    others = {way: value for way, value in speed.items() if way.trl}
    if others:
        best = max(others, key=lambda way: others[way])
        text += f"- {this / others[best]:.2f} times as fast as the quickest way of TRL here: {best.name}\n"
    same = f"losses of all ways agree within {_SAME_LOSS:.0%} (dropout differs)"
    return text + frame.aim(same, "yes" if agree else "NO", agree)


if __name__ == "__main__":
    run_entry_point(main)
