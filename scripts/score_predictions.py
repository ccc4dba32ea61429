#!/usr/bin/env python3
r"""Score answers that were made elsewhere (another model, an API) with the metric of this project.

    python scripts/score_predictions.py answers.jsonl --output evaluation_results/another-model

FILE holds one JSON object a line: study_id, condition_num, task_num, response (the human answer), and either
prediction (the model's answer; null where it gave none) or predicted_distribution ({"1": 0.25, "2": 0.75},
summing to 1; one answer is drawn from it). Optional: participant and sample_id, which name the row; scale ("1 to 7",
"1, 2, 8"), the valid answers; demographic ({"age": 34}). The human side of a cell (study, condition, task) is the
responses in FILE, or where more people answered than stand there, --human-answers: a data file, or the cells.jsonl of
an evaluation. The predictions.jsonl of an evaluation is such a file: the cells.jsonl beside it is taken, and what the
metrics.json says of rows that the model may have been trained on ("seen") is kept. scripts/gate.py compares two results
over the same rows.

Exit status: 0 done, 2 it cannot be scored.
"""

from __future__ import annotations

import _bootstrap  # noqa: F401

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from socrates.errors import EXIT_DONE, SocratesError, make_parser, run_entry_point


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, score, write and print."""
    parser = make_parser(__doc__)
    parser.add_argument("file", metavar="FILE", type=Path, help="the answers, as JSONL")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument("--overwrite", action="store_true", help="replace other results in the folder")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="for drawing answers (default: 0)")
    parser.add_argument(
        "--human-answers", type=Path, metavar="FILE", help="all human answers: a data file, or a cells.jsonl"
    )
    arguments = parser.parse_args(argv)
    if arguments.seed < 0:
        parser.error(f"argument --seed: must be at least 0, not {arguments.seed}")

    from socrates.console import number_lines, worse_than_uniform
    from socrates.evaluation.lines import read_human_answers, read_predictions, sample_predictions, scored_row
    from socrates.evaluation.metrics import score
    from socrates.evaluation.results import (
        CELLS,
        METRICS,
        PREDICTIONS,
        RecordedContamination,
        external_comparability,
        find_results,
        read_metrics,
        write_results,
    )
    from socrates.files import sha256_file
    from socrates.schema import validate

    if arguments.file.resolve() == (arguments.output / PREDICTIONS).resolve():
        raise SocratesError(f"--output {arguments.output} would overwrite {arguments.file}; name another folder")
    lines = sample_predictions(read_predictions(arguments.file), arguments.seed)
    beside = arguments.file.with_name(CELLS)  # of the evaluation whose answers these are
    of_evaluation = arguments.file.name == PREDICTIONS and beside.is_file()
    people = arguments.human_answers or (beside if of_evaluation else None)
    human_answers = None if people is None else read_human_answers(people)
    try:
        scores = score(map(scored_row, lines), human_answers)
    except SocratesError as error:
        with_people = "" if people is None else f", with the human answers of {people}"
        raise SocratesError(f"{arguments.file}{with_people}: {error}") from error
    metrics = arguments.file.with_name(METRICS)  # of the evaluation whose answers these are
    known = read_metrics(metrics) if arguments.file.name == PREDICTIONS and metrics.is_file() else {}
    if known.get("seen") is not None:
        validate(RecordedContamination, known["seen"], f'{metrics}, "seen"')
    compared = external_comparability(lines, seed=arguments.seed, human_answers=human_answers)
    asked = {"scored_file_sha256": sha256_file(arguments.file), **compared}
    find_results(arguments.output, asked, predictions=lines, overwrite=arguments.overwrite)
    content = write_results(
        arguments.output,
        scores=scores,
        predictions=lines,
        comparability=compared,
        about={
            "scored_file": str(arguments.file),
            "scored_file_sha256": asked["scored_file_sha256"],
            "asked": asked,
            "human_answers": None if people is None else str(people),
        },
        seen=known.get("seen"),
    )
    print("\n".join([*_coverage_lines(content), *number_lines(content)]))
    if useless := worse_than_uniform(content):
        print(f"Note: {useless}")
    print(f"\nResults: {arguments.output / METRICS}")
    return EXIT_DONE


def _coverage_lines(content: Mapping[str, Any]) -> list[str]:
    coverage = content["coverage"]
    unanswered = coverage["rows"] - coverage["rows_predicted"]
    skipped = [f"{count} with {reason}" for reason, count in coverage["skipped"].items() if count]
    mass = content["valid_mass"]
    return [
        f"Scored {coverage['rows_scored']} of {coverage['rows']} rows, "
        f"{coverage['cells_scored']} of {coverage['cells']} cells, "
        f"{coverage['studies_scored']} of {coverage['studies']} studies; {coverage['human_answers']} human answers",
        *([f"Rows without a prediction: {unanswered}"] if unanswered else []),
        *([f"Cells left out: {', '.join(skipped)}"] if skipped else []),
        *([] if mass is None else [f"Mass on valid answers: {mass:.4f}"]),
    ]


if __name__ == "__main__":
    run_entry_point(main)
