#!/usr/bin/env python3
r"""Show results as one page with pictures: the decision, distances, studies, answers, effects, calibration, training.

    python scripts/report.py evaluation_results/baseline \
        evaluation_results/socrates-qwen-500step-validation/checkpoint-500

RESULTS are results folders: one, or several. The page is about the last and lies in its folder as report.html, unless
--output names another file. The first is the baseline that it is compared with; those between are other checkpoints of
the run, in their order. The page needs nothing else, and the same pictures lie beside it as report-NAME.png. What a
folder lacks is named on the page. The training's curves are those of the newest checkpoint's trainer_state.json in
models/RUN, which is found through the results.

Exit status: 0 done, 2 it cannot be made.
"""

from __future__ import annotations

import _bootstrap  # noqa: F401

from pathlib import Path

from socrates.errors import EXIT_DONE, make_parser, run_entry_point


def main() -> int:
    """Parse the arguments, read, draw and write."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "results", metavar="RESULTS", type=Path, nargs="+", help="results folder; the last is what the page is about"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="the page, ending in .html")
    arguments = parser.parse_args()

    from datetime import datetime

    from socrates.report.page import write_report

    page, pictures = write_report(arguments.results, arguments.output, datetime.now().astimezone())
    print(f"Report: {page}\nPictures: {len(pictures)}, {pictures[0].parent / (page.stem + '-*.png')}")
    return EXIT_DONE


if __name__ == "__main__":
    run_entry_point(main)
