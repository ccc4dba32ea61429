#!/usr/bin/env python3
r"""Measure ways of asking a model for the distribution of its answers: same rows, same model, same machine, one run.

    OMP_NUM_THREADS=1 venv/bin/python benchmarks/bench_answers.py                       # CPU, five minutes
    venv/bin/python benchmarks/bench_answers.py --device cuda --shape 14b --rows 5000   # a GPU of 48 GB or more

On a CPU, time is that of one thread, so that a busy machine does not decide. Weights are random: speed does not
depend on them. No row of a data set and no model is needed; --data takes real rows.

Exit status: 0 measured, 1 two ways that compute the same gave different numbers, 2 cannot.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from socrates.errors import EXIT_DONE, EXIT_NO, SocratesError, run_entry_point


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--shape", choices=("tiny", "smallest", "14b"), default="tiny", help="of the random model")
    parser.add_argument("--rows", type=int, default=200, metavar="N", help="questions (default: %(default)s)")
    parser.add_argument(
        "--sample", type=int, default=48, metavar="N", help="of them, for the slow ways (default: %(default)s)"
    )
    parser.add_argument("--data", type=Path, metavar="FILE", help="real rows, JSONL (default: made up)")
    parser.add_argument("--budget", type=int, metavar="TOKENS", help="in one forward (default: finds itself)")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="times for the fast ways, the best counts")
    parser.add_argument("--with-lm-eval", action="store_true", help="also the installed lm-evaluation-harness itself")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table there too (Markdown)")
    arguments = parser.parse_args(argv)
    if min(arguments.rows, arguments.repeat, arguments.sample, arguments.budget or 1) < 1:
        parser.error("--rows, --sample, --budget and --repeat are at least 1")

    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SocratesError("--device cuda: there is no GPU that torch can use here")
    if arguments.with_lm_eval:
        try:
            import lm_eval  # noqa: F401
        except ImportError as error:
            raise SocratesError(f"--with-lm-eval: {error}; install it: pip install lm_eval") from error
    from bench_report import report
    from bench_run import measure

    logging.disable(logging.WARNING)
    if arguments.device == "cpu":
        torch.set_num_threads(1)  # more would compute outside the thread whose time is taken
    run = measure(
        device=torch.device(arguments.device),
        shape=arguments.shape,
        data=arguments.data,
        rows=arguments.rows,
        sample=arguments.sample,
        budget=arguments.budget,
        repeat=arguments.repeat,
        with_lm_eval=arguments.with_lm_eval,
        seed=arguments.seed,
    )
    text = report(run)
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text + "\n", encoding="utf-8")
    return EXIT_DONE if run.agree else EXIT_NO


if __name__ == "__main__":
    run_entry_point(main)
