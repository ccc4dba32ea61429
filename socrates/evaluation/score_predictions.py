"""Scoring answers without their model: made elsewhere, or stored by an evaluation and perhaps decoded anew."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from socrates.config import DEFAULT_SEED, DecodingSettings
from socrates.data.convert.rows import converted
from socrates.data.dataset import RecordedPriors
from socrates.errors import SocratesError
from socrates.evaluation.cells import human_answers_of
from socrates.evaluation.gate import check_version
from socrates.evaluation.lines import read_human_answers, read_predictions, rows_sha256, scored_row, without_missing
from socrates.evaluation.metrics import score
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


def score_predictions(
    file: Path,
    output: Path,
    *,
    columns: Path | None = None,
    seed: int | None = None,
    human_answers: Path | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Score a file of answers, or those of a results folder; returns the `metrics.json` that it writes into ``output``.

    With temperature and top-p, an evaluation's answers are decoded anew, by its seed where none is given. Without
    ``human_answers`` (a data file or a `cells.jsonl`) they come from the evaluation, else from ``file``. With a
    `columns.json`, ``file`` is a table of another layout.

    Raises:
        SocratesError: the answers cannot be read, scored, or decoded so, or ``output`` cannot be written.
    """
    file = file / PREDICTIONS if file.is_dir() else file
    if file.resolve() == (output / PREDICTIONS).resolve():
        raise SocratesError(f"--output {output} would overwrite {file}; name another folder")
    with converted(file, columns) as rows:
        lines = read_predictions(rows, codes := Counter())
    beside = file.with_name(CELLS)  # of the evaluation whose answers these are
    people = human_answers or (beside if file.name == PREDICTIONS and beside.is_file() else None)
    missing = Counter(codes if people is None else dict.fromkeys(codes, 0))
    humans = None if people is None else read_human_answers(people, missing)
    evaluation = _read_evaluation(file)
    lines = [kept for line in lines if (kept := without_missing(line, missing)) is not None]
    if top_p is not None:
        wanted = validate(DecodingSettings, {"temperature": temperature, "top_p": top_p}, "--temperature, --top-p")
        lines, compared, about = _decode_anew(file, lines, evaluation, wanted, seed)
    else:
        seed = DEFAULT_SEED if seed is None else seed
        compared, about = external_comparability(lines, seed=seed, human_answers=humans), {}
    lines = sample_predictions(lines, compared["seed"])
    try:
        scores = score(map(scored_row, lines), humans, missing, evaluation["scale_priors"])
    except SocratesError as error:
        with_people = "" if people is None else f", with the human answers of {people}"
        raise SocratesError(f"{file}{with_people}: {error}") from error
    if recorded := evaluation.get("coverage"):  # its missing answers do not stand in its files
        left_out = max(recorded["missing_answers"], scores.coverage.missing_answers)
        scores = replace(scores, coverage=replace(scores.coverage, missing_answers=left_out))
    digest = {"scored_file_sha256": sha256_file(file)}
    digest |= {"columns_sha256": sha256_file(columns)} if columns else {}
    asked = {**digest, **compared}
    find_results(output, asked, predictions=lines, overwrite=overwrite)
    return write_results(
        output,
        scores=scores,
        predictions=lines,
        comparability=compared,
        about={"scored_file": str(file), **digest, "asked": asked, "human_answers": people and str(people), **about},
        seen=evaluation.get("seen"),
        humans=(humans or human_answers_of(map(scored_row, lines))) if evaluation.get("scope") else None,
    )


def _read_evaluation(file: Path) -> dict[str, Any]:
    """The `metrics.json` beside an evaluation's answers, with what is used of it checked; empty where there is none."""
    path = file.with_name(METRICS)
    known = read_metrics(path) if file.name == PREDICTIONS and path.is_file() else {}
    kinds = {"seen": RecordedContamination, "comparability": Comparability, "coverage": RecordedCoverage}
    for key, kind in kinds.items():
        if known.get(key) is not None:
            known[key] = validate(kind, known[key], f'{path}, "{key}"').model_dump()
    known |= validate(RecordedPriors, {"scale_priors": known.get("scale_priors")}, str(path)).model_dump()
    if of := known.get("comparability"):
        check_version(of["metric_version"], path)
    return known


def _decode_anew(
    file: Path, lines: list[dict[str, Any]], evaluation: dict[str, Any], wanted: DecodingSettings, seed: int | None
) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """An evaluation's lines under another decoding, what is compared of them, and what the results say about them."""
    of, about = evaluation.get("comparability") or {}, evaluation.get("about")
    known = isinstance(of.get("decoding"), dict) and isinstance(about, dict)
    if not known or of["rows_sha256"] != rows_sha256(lines):
        raise SocratesError(
            f"{file}: --temperature and --top-p need the results of an evaluation, whose {METRICS} says "
            "of which decoding these rows are"
        )
    answered = sum(line["predicted_distribution"] is not None for line in lines)
    evaluated = validate(DecodingSettings, of["decoding"], f'{file.with_name(METRICS)}, "decoding"')
    lines = under_decoding(lines, evaluated, wanted)
    if lost := answered - sum(line["predicted_distribution"] is not None for line in lines):
        print(f"Note: {lost} rows were answered by sampling under the other decoding, and are left out", flush=True)
    compared = {**of, "seed": of["seed"] if seed is None else seed, "decoding": wanted.model_dump()}
    model = {name: about.get(name) for name in ("model", "base_model")}
    return lines, compared, {**model, "evaluated_decoding": of["decoding"], "left_out_rows": lost, "evaluation": about}
