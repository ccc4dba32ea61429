#!/usr/bin/env python3
r"""Score answers that were made elsewhere (another model, an API) with the metric of this project.

    python scripts/score_predictions.py answers.jsonl --output evaluation_results/another-model
    python scripts/score_predictions.py evaluation_results/baseline --temperature 1 --top-p 1 --output baseline-t1

FILE holds one JSON object a line: study_id, condition_num, task_num, response (the human answer), and either
prediction (the model's answer; null where it gave none) or predicted_distribution ({"1": 0.25, "2": 0.75},
summing to 1). With distributions the distance is what asking everybody in a cell is expected to give, as in an
evaluation; a cell with an answer that has none is scored by its answers as they are. Optional: participant and
sample_id, which name the row; scale ("1 to 7", "1, 2, 8"), the valid answers; demographic ({"age": 34}). The human side
of a cell (study, condition, task) is the responses in FILE, or where more people answered than stand there,
--human-answers: a data file, or the cells.jsonl of an evaluation. The predictions.jsonl of an evaluation is such a
file: the cells.jsonl beside it is taken, and what the metrics.json says of rows that the model may have been trained on
("seen") is kept. scripts/gate.py compares two results over the same rows.

With --temperature and --top-p the stored answers of an evaluation are scored under another decoding, without the model:
under temperature 1 with top-p 1 (what the model itself says), or the evaluation's own. Others cannot be told from what
is stored, and are refused. Such results compare with an evaluation that had that decoding.

Exit status: 0 done, 2 it cannot be scored.
"""

import _bootstrap  # noqa: F401

from collections.abc import Sequence
from pathlib import Path

from socrates.errors import EXIT_DONE, make_parser, run_entry_point


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, score, print."""
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("file", metavar="FILE", type=Path, help="the answers, as JSONL, or a results folder")
    add("--output", required=True, type=Path, metavar="DIR", help="folder for the results")
    add("--overwrite", action="store_true", help="replace other results in the folder")
    add(
        "--columns",
        type=Path,
        metavar="FILE",
        help="which column of a table is what (convert_data.py): converts it first",
    )
    add("--seed", type=int, metavar="N", help="for drawing answers (42, or the evaluation's)")
    add("--human-answers", type=Path, metavar="FILE", help="all human answers: a data file, or a cells.jsonl")
    add("--temperature", type=float, metavar="T", help="score under another decoding: its temperature")
    add("--top-p", type=float, metavar="P", help="... and its top-p")
    arguments = parser.parse_args(argv)
    if (arguments.seed or 0) < 0:
        parser.error(f"argument --seed: must be at least 0, not {arguments.seed}")
    if (arguments.temperature is None) != (arguments.top_p is None):
        parser.error("--temperature and --top-p go together")
    if arguments.top_p is not None and arguments.human_answers:
        parser.error("--temperature goes with the evaluation's own human answers, not with --human-answers")

    from socrates.console import coverage_notes, number_lines, worse_than_uniform
    from socrates.evaluation.score_predictions import score_predictions

    content = score_predictions(**vars(arguments))
    print("\n".join([*_coverage_lines(content), *number_lines(content)]))
    scope = content["scope"] and f"these numbers are {content['scope']}: they say nothing of other questions or studies"
    for note in filter(None, [scope, *coverage_notes(content["coverage"]), worse_than_uniform(content)]):
        print(f"Note: {note}")
    print(f"\nResults: {arguments.output / 'metrics.json'}")
    return EXIT_DONE


def _coverage_lines(content: dict) -> list[str]:
    coverage = content["coverage"]
    scored = (f"{coverage[f'{what}_scored']} of {coverage[what]} {what}" for what in ("rows", "cells", "studies"))
    unanswered = coverage["rows"] - coverage["rows_predicted"]
    skipped = [f"{count} with {reason}" for reason, count in coverage["skipped"].items() if count]
    mass = content["valid_mass"]
    return [
        f"Scored {', '.join(scored)}; {coverage['human_answers']} human answers",
        *([f"Rows without a prediction: {unanswered}"] if unanswered else []),
        *([f"Cells left out: {', '.join(skipped)}"] if skipped else []),
        *([] if mass is None else [f"Mass on valid answers: {mass:.4f}"]),
    ]


if __name__ == "__main__":
    run_entry_point(main)
