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

from __future__ import annotations

import _bootstrap  # noqa: F401

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from socrates.errors import EXIT_DONE, SocratesError, make_parser, run_entry_point


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, score, write and print."""
    from socrates.config import DEFAULT_SEED

    parser = make_parser(__doc__)
    parser.add_argument("file", metavar="FILE", type=Path, help="the answers, as JSONL, or a results folder")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument("--overwrite", action="store_true", help="replace other results in the folder")
    parser.add_argument(
        "--seed", type=int, metavar="N", help=f"for drawing answers ({DEFAULT_SEED}, or the evaluation's)"
    )
    parser.add_argument(
        "--human-answers", type=Path, metavar="FILE", help="all human answers: a data file, or a cells.jsonl"
    )
    parser.add_argument("--temperature", type=float, metavar="T", help="score under another decoding: its temperature")
    parser.add_argument("--top-p", type=float, metavar="P", help="... and its top-p")
    arguments = parser.parse_args(argv)
    if (arguments.seed or 0) < 0:
        parser.error(f"argument --seed: must be at least 0, not {arguments.seed}")
    if (arguments.temperature is None) != (arguments.top_p is None):
        parser.error("--temperature and --top-p go together")
    if arguments.top_p is not None and arguments.human_answers:
        parser.error("--temperature goes with the evaluation's own human answers, not with --human-answers")

    from socrates.config import DecodingSettings
    from socrates.console import coverage_notes, number_lines, worse_than_uniform
    from socrates.evaluation.gate import REMEDIES
    from socrates.evaluation.lines import (
        read_human_answers,
        read_predictions,
        rows_sha256,
        scored_row,
        without_missing,
    )
    from socrates.evaluation.metrics import METRIC_VERSION, score
    from socrates.evaluation.results import (
        CELLS,
        METRICS,
        PREDICTIONS,
        Comparability,
        RecordedContamination,
        RecordedCoverage,
        external_comparability,
        find_results,
        read_metrics,
        write_results,
    )
    from socrates.evaluation.sampling import sample_predictions, under_decoding
    from socrates.files import sha256_file
    from socrates.schema import validate

    if arguments.file.is_dir():
        arguments.file /= PREDICTIONS
    if arguments.file.resolve() == (arguments.output / PREDICTIONS).resolve():
        raise SocratesError(f"--output {arguments.output} would overwrite {arguments.file}; name another folder")
    lines, missing = read_predictions(arguments.file), Counter()
    beside = arguments.file.with_name(CELLS)  # of the evaluation whose answers these are
    of_evaluation = arguments.file.name == PREDICTIONS and beside.is_file()
    people = arguments.human_answers or (beside if of_evaluation else None)
    human_answers = None if people is None else read_human_answers(people, missing)
    metrics = arguments.file.with_name(METRICS)  # of the evaluation whose answers these are
    known = read_metrics(metrics) if arguments.file.name == PREDICTIONS and metrics.is_file() else {}
    kinds = {"seen": RecordedContamination, "comparability": Comparability, "coverage": RecordedCoverage}
    recorded = {
        key: validate(kind, known[key], f'{metrics}, "{key}"')
        for key, kind in kinds.items()
        if known.get(key) is not None
    }
    if (of := recorded.get("comparability")) and of.metric_version != METRIC_VERSION:
        raise SocratesError(f'{metrics}: "metric_version" is {of.metric_version}: {REMEDIES["metric_version"]}')
    kept = (line for line in (without_missing(line, missing) for line in lines) if line is not None)
    lines, about = list(kept), {}
    seed = DEFAULT_SEED if arguments.seed is None else arguments.seed
    if arguments.top_p is not None:
        wanted = validate(
            DecodingSettings, {"temperature": arguments.temperature, "top_p": arguments.top_p}, "--temperature, --top-p"
        )
        of = recorded.get("comparability")
        if (
            of is None
            or not (isinstance(of.decoding, dict) and isinstance(known.get("about"), dict))
            or of.rows_sha256 != rows_sha256(lines)
        ):
            raise SocratesError(
                f"{arguments.file}: --temperature and --top-p need the results of an evaluation, whose {METRICS} says "
                "of which decoding these rows are"
            )
        answered = sum(line["prediction"] is not None for line in lines)
        lines = under_decoding(lines, validate(DecodingSettings, of.decoding, f'{metrics}, "decoding"'), wanted)
        lost = answered - sum(line["predicted_distribution"] is not None for line in lines)
        seed = of.seed if arguments.seed is None else seed
        model = {name: known["about"].get(name) for name in ("model", "base_model")}
        about = {**model, "evaluated_decoding": of.decoding, "left_out_rows": lost, "evaluation": known["about"]}
        compared = {**of.model_dump(), "seed": seed, "decoding": wanted.model_dump()}
        if lost:
            print(f"Note: {lost} rows were answered by sampling under the other decoding, and are left out", flush=True)
    else:
        compared = external_comparability(lines, seed=seed, human_answers=human_answers)
    lines = sample_predictions(lines, seed)
    try:
        scores = score(map(scored_row, lines), human_answers, missing)
    except SocratesError as error:
        with_people = "" if people is None else f", with the human answers of {people}"
        raise SocratesError(f"{arguments.file}{with_people}: {error}") from error
    if of := recorded.get("coverage"):  # its missing answers do not stand in its files
        left_out = max(of.missing_answers, scores.coverage.missing_answers)
        scores = replace(scores, coverage=replace(scores.coverage, missing_answers=left_out))
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
            **about,
        },
        seen=known.get("seen"),
    )
    print("\n".join([*_coverage_lines(content), *number_lines(content)]))
    for note in filter(None, [*coverage_notes(content["coverage"]), worse_than_uniform(content)]):
        print(f"Note: {note}")
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
