#!/usr/bin/env python3
r"""Measure what a data set takes to be made ready: rows a second and memory, here and in the plain way, in one run.

    OMP_NUM_THREADS=1 venv/bin/python benchmarks/bench_data.py --rows 5000 30000             # a minute
    OMP_NUM_THREADS=1 venv/bin/python benchmarks/bench_data.py --rows 100000 2901390         # ten minutes, 20 GB

Rows are made up in the published layout (`made_data.py`). The plain way (`datasets.load_dataset("json")`, then
SFTTrainer's own preparation) is measured on --plain-rows of them, and its ids and labels are compared with this
project's. Time is that of the processors, all processes together, so that a busy machine decides little; memory is
the most that all processes of a stage held at once (PSS, sampled ten times a second).

Exit status: 0 measured, 1 the two ways gave other ids or labels, 2 cannot.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from socrates.errors import EXIT_DONE, EXIT_NO, run_entry_point


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[5000, 30_000], metavar="N", help="made-up rows")
    parser.add_argument("--plain-rows", type=int, default=3000, metavar="N", help="of them, for the plain way")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="that tokenize (default: %(default)s)")
    parser.add_argument("--tokenizer", type=Path, metavar="FOLDER", help="a real one (default: made from the rows)")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="for the data, removed at the end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table there too (Markdown)")
    arguments = parser.parse_args(argv)
    if min(*arguments.rows, arguments.plain_rows, arguments.processes) < 1:
        parser.error("--rows, --plain-rows and --processes are at least 1")
    from bench_data_run import measure, report

    with tempfile.TemporaryDirectory(prefix="bench-data-", dir=arguments.work) as folder:
        run = measure(
            Path(folder),
            rows=sorted(arguments.rows),
            plain_rows=arguments.plain_rows,
            processes=arguments.processes,
            tokenizer=arguments.tokenizer,
            seed=arguments.seed,
        )
    text = report(run)
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text + "\n", encoding="utf-8")
    return EXIT_DONE if run.same else EXIT_NO


if __name__ == "__main__":
    run_entry_point(main)
