"""Evaluation: a model and data files to a results folder; choose rows, run inference, sample, score, write.

Covers: a checkpoint is verified before it is loaded; rows that it may have been trained on are refused, and so is a
result that could not be compared with a given baseline; an evaluation that was broken off goes on where it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from socrates.checkpoint import MANIFEST, TRAINING_CONFIG, TRAINING_DATA, find_damage, read_training_config
from socrates.config import RunConfig, parse_config
from socrates.console import progress
from socrates.data.contamination import Contamination, check_contamination, find_contamination
from socrates.data.dataset import judged_by_person, read_scale_priors, sha256_of_part
from socrates.data.records import Answer, read_files
from socrates.data.selection import Selection, select_cells
from socrates.errors import SocratesError, escaped
from socrates.evaluation.gate import check_comparable
from socrates.evaluation.lines import known_demographic, prediction_line, scored_row
from socrates.evaluation.metrics import score
from socrates.evaluation.results import CELLS, METRICS, PREDICTIONS, comparability, find_results, write_results
from socrates.evaluation.sampling import sample_predictions
from socrates.files import sha256_json, write_json
from socrates.inference.journal import UNFINISHED
from socrates.inference.run import InferenceRequest, run_inference
from socrates.model.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS

if TYPE_CHECKING:
    from socrates.data.scales import Scale
    from socrates.inference.engine import AnswerDistribution, Question
    from socrates.inference.run import Settings

PACKAGES = ("torch", "transformers", "peft", "numpy", "scipy")
# Files of a checkpoint that only resuming reads; whether they are complete is no matter here.
_FOR_RESUMING = ("optimizer.pt", "training_args.bin", "scheduler.pt", "global_step", "rng_state_")


def recorded_config(model: str | Path) -> RunConfig | None:
    """The run config that a checkpoint was trained with, or None where the folder records none.

    Raises:
        SocratesError: the checkpoint is not complete, or damaged (see `check_checkpoint`).
    """
    check_checkpoint(model)
    if not (Path(model) / TRAINING_CONFIG).is_file():
        return None
    record = read_training_config(model)
    return parse_config(record.get("config", {}), f'{Path(model) / TRAINING_CONFIG}, "config"')


def evaluate(
    request: InferenceRequest, data: Sequence[Path], *, baseline: dict[str, Any] | None = None, allow_seen: bool = False
) -> dict[str, Any]:
    """Evaluate a model and write its results folder; go on with what an earlier call has left unfinished there.

    Args:
        request: which model, how it is asked, which rows are chosen, and the results folder.
        data: JSONL files with human answers, evaluated together; their order does not matter.
        baseline: the `metrics.json` to compare with later; what could not be compared is refused early.
        allow_seen: whether a checkpoint may be evaluated on rows that it may have been trained on.

    Returns:
        What stands in `metrics.json`: of this call, or of an earlier one that was the same evaluation.

    Raises:
        SocratesError: model, data or baseline cannot be used, the checkpoint may have been trained on the data, the
            folder holds another evaluation, or the results cannot be written.
    """
    model, output, settings = request.model, request.output, request.settings
    check_checkpoint(model)
    hashes, data = zip(*sorted((sha256_of_part(file), file) for file in data), strict=True)  # whatever they are called
    data_sha256 = hashes[0] if len(hashes) == 1 else sha256_json(hashes)
    missing, folders = Counter(), {file.parent.resolve() for file in data}
    priors = read_scale_priors(*folders) if len(folders) == 1 else None  # of several sets none is the training set
    by_person = all(map(judged_by_person, folders))  # then val and test hold other people of the same cells
    selection, answers = _choose_rows(data, settings, missing, share_cells=by_person)
    scales = [answer.stated[0] for answer in answers]
    questions = request.questions(
        (answer.prompt, scale, answer.line) for answer, scale in zip(answers, scales, strict=True)
    )
    fits = _find_readable(request, questions)
    too_long = len(questions) - len(fits)
    answers, scales, questions = ([one[index] for index in fits] for one in (answers, scales, questions))
    files = request.files
    seen = find_contamination(
        files.adapter or files.base, (answer.cell for answer in answers), hashes, (a.participant for a in answers)
    )
    if not allow_seen:
        check_contamination(model, seen)
    if seen is None and files.adapter is not None:
        print(f"Note: {model} does not record what it was trained on; these rows may be among it", flush=True)
    compared = comparability(
        [prediction_line(answer.keys(), answer.response, own=answer.own) for answer in answers],
        seed=settings.seed,
        data_sha256=data_sha256,
        prompt_fingerprint=request.identity["prompt_fingerprint"],
        decoding=request.identity["decoding"],
    )
    if baseline is not None:  # before hours are spent
        coming = {**baseline, "comparability": compared}
        check_comparable(baseline, coming, names=("the baseline", "this evaluation"))
    asked = {"model": request.identity["model"], **compared}
    if (finished := _finished(request, asked, seen)) is not None:
        return finished
    with run_inference(
        request,
        questions,
        asked,
        key_of=lambda kept: kept["line"]["line"],
        keep=lambda index, result: _answered(answers[index], scales[index], result),
    ) as journal:
        by_line = {answer["line"]["line"]: answer for answer in journal.answers}
        answered = [by_line[answer.line] for answer in answers]
        about = {
            "model": model,
            **journal.header["about"],
            "asked": asked,
            "data_file": ", ".join(map(str, data)),  # "line" counts through them in this order
            "settings": settings.model_dump(mode="json"),
            "selection": selection.counts(),
            "drawn_rows": sum(answer["drawn"] for answer in answered),
            "undecoded_rows": sum(answer["undecoded"] for answer in answered),
            "too_long_rows": too_long,
            "seconds": round(journal.seconds, 1),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {name: version(name) for name in PACKAGES},
        }
        humans = {**selection.human_answers, **selection.other_conditions}
        lines = sample_predictions([answer["line"] for answer in answered], settings.seed)
        return write_results(
            output,
            scores=score(map(scored_row, lines), humans, missing, priors),
            predictions=lines,
            comparability=compared,
            about=about,
            seen=asdict(seen) if seen else None,
            humans=humans if by_person else None,
        )


def _choose_rows(
    files: Sequence[Path], settings: Settings, missing: Counter, *, share_cells: bool
) -> tuple[Selection, list[Answer]]:
    selection = select_cells(
        progress((answer for _, _, answer in read_files(files, missing, share_cells=share_cells)), "choosing rows"),
        settings.evaluation.max_examples,
        settings.seed,
        rows_per_cell=settings.evaluation.rows_per_cell,
    )
    answers = []
    for file, line, answer in read_files(files, share_cells=share_cells):
        if answer.line in selection.lines:
            try:  # before the model runs for hours, as they go into the results
                known_demographic(answer.demographic)
            except ValueError as error:
                raise SocratesError(f"{file}, line {line}: {error}") from error
            answers.append(answer)
    cells = selection.human_answers
    studies = len({cell.study_id for cell in cells})
    print(
        f"Rows: {selection.rows} of {selection.file_rows} in {len(cells)} of {selection.file_cells} cells, "
        f"{studies} of {selection.file_studies} studies; compared with {selection.human_rows} human answers "
        f"(not asked: {selection.one_answer_cells} cells of one answer, {selection.no_spread_cells} without spread)",
        flush=True,
    )
    return selection, answers


def _find_readable(request: InferenceRequest, questions: Sequence[Question]) -> list[int]:
    """The indices of those that the model can read; the others are told, and not shortened: people read them whole."""
    limit, rows = request.longest_prompt, len(questions)
    fits = [index for index, question in enumerate(questions) if len(question.prompt_ids) <= limit]
    told = f"{rows - len(fits)} of {rows} rows are longer than the {limit} tokens that {request.model} can read"
    if not fits:
        raise SocratesError(f"{told}; take a model that reads more")
    if len(fits) < rows:
        print(f"Note: {told}, and are left out", flush=True)
    return fits


def _finished(request: InferenceRequest, asked: Mapping[str, Any], seen: Contamination | None) -> dict[str, Any] | None:
    """The results that the folder holds, if they are whole; see `find_results`."""
    output, begun = request.output, (request.output / UNFINISHED).exists()
    if (metrics := find_results(output, asked, begun=begun, overwrite=request.overwrite)) is None:
        return None
    if not all((output / name).is_file() for name in (PREDICTIONS, CELLS)):
        print(f"{output}: some of its files are gone; asking again", flush=True)
        return None
    again = f"Already evaluated ({metrics['about'].get('created')}): nothing to ask; --overwrite asks again"
    print(escaped(again), flush=True)
    if seen is not None:  # what was not known, or not so, when it was evaluated
        metrics["seen"] = asdict(seen)
        write_json(output / METRICS, metrics)
    return metrics


def _answered(answer: Answer, scale: Scale | None, result: AnswerDistribution) -> dict[str, Any]:
    """What is kept of one answer: its line of `predictions.jsonl`, without a sampled answer, and how it came about.

    `drawn`: it rests on sampling, as the question states no valid answers, or too many. `undecoded`: decoding leaves no
    valid answer at all (top-p cut them all off), and the line has the undecoded probabilities, so that no model drops a
    question by being bad at it.
    """
    distribution = result.normalized()
    undecoded = result.exact and distribution is None
    if undecoded and result.valid_mass > 0:
        distribution = result.probabilities
    pairs = zip(result.values.tolist(), distribution.tolist(), strict=True) if distribution is not None else ()
    missing = answer.stated[2]
    line = prediction_line(
        answer.keys(),
        answer.response,
        distribution={value: p for value, p in pairs if p > 0 and value not in missing} or None,
        probabilities=result.probabilities / result.valid_mass if result.exact and result.valid_mass > 0 else None,
        # A sampled row knows the share of valid samples after decoding: another quantity, not to be averaged with it.
        valid_mass=result.valid_mass if result.exact else None,
        scale=scale,
        demographic=answer.demographic,
        own=answer.own,
    )
    return {"line": line, "drawn": not result.exact, "undecoded": undecoded}


def check_checkpoint(model: str | Path) -> None:
    """Verify what evaluation reads of a checkpoint against its manifest; other software's folders have none, and pass.

    The adapter and the record of what it was trained on must be there; what else is there (a copy may leave out all
    that only resuming reads) must be whole.

    Raises:
        SocratesError: a file is missing or damaged, or the checkpoint was not finished.
    """
    folder = Path(model)
    if not (folder / MANIFEST).is_file():
        if (folder / TRAINING_CONFIG).is_file():
            raise SocratesError(f"{folder}: has no {MANIFEST} yet: not finished, or not copied completely")
        return
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    read = {path for path in there if not path.startswith(_FOR_RESUMING)}
    if damage := find_damage(folder, only={ADAPTER_CONFIG, ADAPTER_WEIGHTS, TRAINING_DATA, *read}):
        raise SocratesError(f"{folder}: damaged: {damage}; copy or download the checkpoint again")
