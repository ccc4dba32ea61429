"""A run of bench_training.py as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from measuring import machine, matmul_peak
from training_ways import THIS, TRL, Job, Measured, Way

_SAME_LOSS = 0.05  # relative: dropout draws other numbers where rows lie otherwise
_GIB = 2**30


def report(
    job: Job, results: Mapping[Way, Measured], data: str | None, full: tuple[int, int, int, str, float]
) -> tuple[str, bool]:
    """The table, and whether all ways had the same losses.

    Args:
        job: what was done.
        results: how it went.
        data: the name of the file with real rows, if their lengths were taken.
        full: rows of the full run, tokens of one, GPUs, their name, dollars an hour.
    """
    import torch

    device = torch.device(job.device)
    peak = matmul_peak(device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    losses = {way: run.losses for way, run in results.items()}
    agree = all(np.allclose(run, losses[THIS], rtol=_SAME_LOSS) for run in losses.values())
    return "\n".join(_lines(job, results, data, full, peak, agree, machine(device))), agree


def _lines(
    job: Job,
    results: Mapping[Way, Measured],
    data: str | None,
    full: tuple[int, int, int, str, float],
    peak: float,
    agree: bool,
    where: str,
) -> Iterator[str]:
    cuda = job.device == "cuda"
    lengths = np.array(job.lengths)
    yield "# Training: ways, speed and memory"
    yield ""
    yield f"Machine: {where}. {'' if cuda else 'Not measured on a GPU.'}".rstrip()
    yield (
        f"Model: random Qwen2, shape `{job.shape}`, {'bfloat16' if cuda else 'float32'}, LoRA r = 16 on all seven "
        f"projections, dropout 0.05. Rows: {data or 'made up'}, {lengths.mean():.0f} tokens on average (longest "
        f"{lengths.max()}); {job.steps} steps of {job.rows_a_step} rows after the warm-up, micro-batches of at most "
        f"{job.micro_batch_tokens} tokens, one process."
    )
    yield (
        f"Measured matmul peak: {peak / 1e12:.3g} TFLOP/s. Seconds: {'wall clock' if cuda else 'processor time'}. "
        f"Peak memory: {'reserved by torch' if cuda else 'what training adds to the process'}."
    )
    yield ""
    yield "| way | tokens a second | times TRL | padding | FLOPs utilisation | peak memory (GiB) | layers again |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for way, run in results.items():
        speed, trl = run.tokens / run.seconds, results[TRL].tokens / results[TRL].seconds
        yield (
            f"| {way.name} | {speed:,.0f} | {speed / trl:.2f} | {1 - run.tokens / run.fed_tokens:.1%} | "
            f"{run.model_flops / run.seconds / peak:.0%} | {run.peak_bytes / _GIB:.2f} | {run.layers_again} |"
        )
    mine = results[THIS]
    yield ""
    yield (
        "Tokens are the rows', without padding. FLOPs utilisation: operations that the rows need (no padding, the head "
        "on answers alone, nothing computed twice) in that time, by the measured peak."
    )
    if mine.predicted_bytes:
        yield (
            f"Predicted peak memory of `{THIS.name}`: {mine.predicted_bytes / _GIB:.1f} GiB, measured "
            f"{mine.peak_bytes / _GIB:.1f} GiB ({mine.predicted_bytes / mine.peak_bytes - 1:+.0%}); CUDA's own context "
            "is in neither."
        )
    yield f"Losses of all ways agree within {_SAME_LOSS:.0%} (dropout differs): {'yes' if agree else 'NO'}."
    yield ""
    yield from _full_run(job, full, mine.model_flops / mine.seconds, peak)


def _full_run(job: Job, full: tuple[int, int, int, str, float], speed: float, measured_peak: float) -> Iterator[str]:
    """``speed``: model FLOPs a second. The data sheet's peak is what the other GPU's is known by; so it is here too."""
    import torch
    from answer_model import SHAPES

    from socrates.config import LoraSettings
    from socrates.model.sizing import ModelShape, expected_seconds, peak_flops, training_flops

    rows, tokens, gpus, name, price = full
    lora = LoraSettings(r=16, alpha=32, dropout=0.05)
    flops = training_flops(ModelShape.from_config(SHAPES["14b"]), lora, rows * tokens)
    sheet = peak_flops(torch.cuda.get_device_name()) if job.device == "cuda" else None
    utilisation = speed / (sheet or measured_peak)
    seconds = expected_seconds(flops, gpus, peak_flops(name), utilisation)
    of = "its data sheet's peak" if sheet else "the measured peak"
    small = "" if job.device == "cuda" and job.shape == "14b" else ", by a small model on a CPU: no forecast for a GPU"
    yield (
        f"The full run at the same share of the peak ({utilisation:.0%} of {of}{small}): {rows:,} rows of "
        f"{tokens} tokens through the 14B are {flops:.2e} operations, on {gpus} {name} of "
        f"{peak_flops(name) / 1e12:.0f} TFLOP/s {seconds / 3600:.0f} hours, ${seconds / 3600 * price:.0f} at "
        f"${price:.2f} an hour."
    )
