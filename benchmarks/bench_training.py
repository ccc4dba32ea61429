#!/usr/bin/env python3
r"""Measure a training's tokens a second and peak memory: TRL's defaults, this project, and that with one thing off.

    OMP_NUM_THREADS=1 DS_ACCELERATOR=cpu venv/bin/python benchmarks/bench_training.py               # CPU, ten minutes
    venv/bin/python benchmarks/bench_training.py --device cuda --shape 14b --rows-a-step 64         # a GPU of 80 GB

All ways train on the same rows, in the same steps, from the same random weights, one after another, each in a process
of its own. Speed and memory do not depend on the weights' values. No row of a data set is needed: lengths are as
counted on real rows, scaled to the published data's mean; --data takes real rows.

Exit status: 0 measured, 1 ways that compute the same had other losses, 2 cannot.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from training_ways import THIS, TRL, WARM_UP, WAYS, WITH_LIGER, Job, Measured, Way, made_up_lengths

from socrates.errors import EXIT_DONE, EXIT_NO, SocratesError, run_entry_point

# The full run, as published: rows of the 170 studies, 370 tokens each (about: Qwen's tokenizer on 1,500 characters).
_ROWS, _TOKENS_A_ROW = 2_418_748, 370
_GPUS, _GPU, _PRICE = 4, "A100", 7.2  # US dollars an hour, all of them


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--shape", choices=("smallest", "tiny", "14b"), default="tiny", help="of the random model")
    parser.add_argument("--rows-a-step", type=int, default=32, metavar="N", help="of this one process (32)")
    parser.add_argument("--steps", type=int, default=4, metavar="N", help=f"measured, after {WARM_UP} to warm up (4)")
    parser.add_argument("--micro-batch-tokens", type=int, default=2048, metavar="N")
    parser.add_argument("--mean-tokens", type=float, default=_TOKENS_A_ROW, metavar="N", help="of a row (370)")
    parser.add_argument("--data", type=Path, metavar="FILE", help="real rows, JSONL, for their lengths")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="times, of which the quickest counts")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="only ways whose names hold one of these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table there too (Markdown)")
    a = parser.parse_args(argv)
    if min(a.rows_a_step, a.steps, a.repeat) < 1 or a.rows_a_step % 8:
        parser.error("--steps and --repeat are at least 1, --rows-a-step is a multiple of 8")
    import torch

    if a.device == "cuda" and not torch.cuda.is_available():
        raise SocratesError("--device cuda: there is no GPU that torch can use here")
    with tempfile.TemporaryDirectory(prefix="bench-training-") as folder:
        job = Job(a.shape, a.device, tuple(_lengths(a)), a.rows_a_step, a.steps, a.micro_batch_tokens, a.seed)
        _make_tokenizer(Path(folder))
        results = {}
        for way in _ways(a):
            runs = [measure(way, job, Path(folder)) for _ in range(a.repeat)]
            results[way] = min(runs, key=lambda run: run.seconds)
            print(f"{way.name}: {results[way].tokens / results[way].seconds:,.0f} tokens a second", file=sys.stderr)
    from training_report import report

    text, agree = report(job, results, a.data.name if a.data else None, (_ROWS, _TOKENS_A_ROW, _GPUS, _GPU, _PRICE))
    print(text)
    if a.output:
        a.output.parent.mkdir(parents=True, exist_ok=True)
        a.output.write_text(text + "\n", encoding="utf-8")
    return EXIT_DONE if agree else EXIT_NO


def measure(way: Way, job: Job, folder: Path) -> Measured:
    """Run a way in a process of its own.

    Raises:
        SocratesError: it did not end well; with the end of what it printed.
    """
    environment = {**os.environ, "BENCH_FOLDER": str(folder / "run"), "BENCH_TOKENIZER": str(folder / "model")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    if job.device == "cpu":
        environment |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    else:  # one GPU: with several, TRL's way would want a launcher
        environment["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("training_ways.py"))],
        input=json.dumps({"way": asdict(way), "job": asdict(job)}),
        capture_output=True,
        text=True,
        env=environment,
    )
    answers = [line for line in done.stdout.splitlines() if line.startswith("MEASURED ")]
    if done.returncode or not answers:
        raise SocratesError(f"{way.name}: failed (status {done.returncode}):\n{(done.stdout + done.stderr)[-3000:]}")
    value = json.loads(answers[0].removeprefix("MEASURED "))
    return Measured(**{**value, "losses": tuple(value["losses"])})


def _ways(a: argparse.Namespace) -> list[Way]:
    ways = [*WAYS, *([WITH_LIGER] if a.device == "cuda" and find_spec("liger_kernel") else [])]
    if not a.only:
        return ways
    return [way for way in ways if way in (THIS, TRL) or any(word in way.name for word in a.only)]


def _lengths(a: argparse.Namespace) -> list[int]:
    count = a.rows_a_step * (WARM_UP + a.steps)
    if a.data is None:
        return made_up_lengths(count, a.mean_tokens, a.seed).tolist()
    import numpy as np
    from bench_step_batches import row_lengths_of

    lengths = row_lengths_of(a.data, None, a.micro_batch_tokens)
    return np.random.default_rng(a.seed).choice(lengths, count).tolist()


def _make_tokenizer(folder: Path) -> None:
    from socrates.rehearsal.base_model import make_base_model
    from socrates.rehearsal.rehearsal import make_sample_data

    make_sample_data(folder / "data", people=4, train_studies=2, val_studies=2)
    make_base_model(folder / "model", folder / "data" / "train.jsonl", steps=0)


if __name__ == "__main__":
    run_entry_point(main)
