#!/usr/bin/env python3
r"""Score answers that were made elsewhere (another model, an API) with the metric of this project.

    python scripts/score_predictions.py answers.jsonl --output evaluation_results/another-model

FILE holds one JSON object a line: study_id, condition_num, task_num, response (the human answer), and either
prediction (the model's answer; null where it gave none) or predicted_distribution ({"1": 0.25, "2": 0.75},
summing to 1; one answer is drawn from it). Optional: participant and sample_id, which name the row. The
predictions.jsonl of an evaluation is such a file; what the metrics.json beside it says of rows that the model may have
been trained on ("seen") is kept. scripts/gate.py compares two results over the same rows.

Exit status: 0 done, 2 it cannot be scored.
"""

from __future__ import annotations

import _bootstrap  # noqa: F401

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from socrates.errors import EXIT_DONE, SocratesError, run_entry_point


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, score, write and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="the answers, as JSONL")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="for drawing answers (default: 0)")
    arguments = parser.parse_args(argv)

    from socrates.files import sha256_file
    from socrates.metrics import score
    from socrates.predictions import draw_predictions, read_predictions, scored_row
    from socrates.results import METRICS, PREDICTIONS, external_comparability, read_metrics, write_results

    if arguments.file.resolve() == (arguments.output / PREDICTIONS).resolve():
        raise SocratesError(f"--output {arguments.output} would overwrite {arguments.file}; name another folder")
    lines = draw_predictions(read_predictions(arguments.file), arguments.seed)
    try:
        scores = score(map(scored_row, lines))
    except SocratesError as error:
        raise SocratesError(f"{arguments.file}: {error}") from error
    metrics = arguments.file.with_name(METRICS)  # of the evaluation whose answers these are
    seen = read_metrics(metrics).get("seen") if arguments.file.name == PREDICTIONS and metrics.is_file() else None
    content = write_results(
        arguments.output,
        scores=scores,
        predictions=lines,
        comparability=external_comparability(lines, seed=arguments.seed),
        about={"scored_file": str(arguments.file), "scored_file_sha256": sha256_file(arguments.file)},
        seen=seen if isinstance(seen, Mapping) else None,
    )
    sys.stdout.reconfigure(encoding="utf-8")  # whatever the locale: a path may have signs beyond ASCII
    print(_summary(content))
    print(f"\nResults: {arguments.output / METRICS}")
    return EXIT_DONE


def _summary(content: Mapping[str, Any]) -> str:
    coverage = content["coverage"]
    names = {
        "wasserstein_distance": "Wasserstein distance",
        "wasserstein_expected": "  without a draw",
        "mae": "MAE",
        "rmse": "RMSE",
        "correlation": "Correlation",
        "accuracy": "Accuracy",
        "valid_mass": "Mass on valid answers",
    }
    values = {name: "N/A" if content[key] is None else f"{content[key]:.4f}" for key, name in names.items()}
    unanswered = coverage["rows"] - coverage["rows_predicted"]
    skipped = [f"{count} with {reason}" for reason, count in coverage["skipped"].items() if count]
    return "\n".join(
        [
            f"Scored {coverage['rows_scored']} of {coverage['rows']} rows, "
            f"{coverage['cells_scored']} of {coverage['cells']} cells, "
            f"{coverage['studies_scored']} of {coverage['studies']} studies",
            *([f"Rows without a prediction: {unanswered}"] if unanswered else []),
            *([f"Cells left out: {', '.join(skipped)}"] if skipped else []),
            *(f"{name + ':':<23}{value}" for name, value in values.items()),
        ]
    )


if __name__ == "__main__":
    run_entry_point(main)
