"""A model and a data file to a results folder: choose rows, ask, draw, score, write.

Covers: a checkpoint's files are verified against its manifest before they are loaded; a result that could not be
compared with a given baseline is refused before the model is loaded.
Does not cover: whether the checkpoint was trained on these very rows.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from socrates.checkpoints import MANIFEST, TRAINING_CONFIG, find_damage, read_training_config
from socrates.config import DecodingSettings, EvaluationSettings, PromptSettings, RunConfig, parse_config
from socrates.errors import SocratesError
from socrates.files import remove_file, sha256_file, write_json
from socrates.gate import decide
from socrates.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from socrates.predictions import draw_predictions, prediction_line, scored_row
from socrates.progress import progress
from socrates.prompts import prompt_fingerprint, prompt_token_ids
from socrates.records import Answer, read_answers
from socrates.results import Comparability, MetricsFile, comparability, write_results
from socrates.scales import parse_scale
from socrates.selection import Selection, select_cells

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from socrates.answers import AnswerDistribution
    from socrates.models import LoadedModel

PACKAGES = ("torch", "transformers", "peft", "numpy", "scipy")
# Files of a checkpoint that only resuming reads; whether they are whole is no matter here.
_FOR_RESUMING = ("optimizer.pt", "training_args.bin", "scheduler.pt", "global_step", "rng_state_")


@dataclass(frozen=True)
class Settings:
    """How a model is asked; from the run config, or from the checkpoint's own record of it."""

    prompt: PromptSettings = field(default_factory=PromptSettings)
    decoding: DecodingSettings = field(default_factory=DecodingSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    seed: int = 42


def settings_of(config: RunConfig) -> Settings:
    """The part of a run config that evaluation goes by."""
    return Settings(config.prompt, config.decoding, config.evaluation, config.seed)


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
    model: str,
    data_file: Path,
    output: Path,
    settings: Settings,
    *,
    base_model: str | None = None,
    revision: str | None = None,
    baseline: dict[str, Any] | None = None,
) -> MetricsFile:
    """Evaluate a model and write its results folder.

    Args:
        model: a model folder, a hub name, or a checkpoint folder with an adapter.
        data_file: JSONL with human answers.
        output: the results folder.
        settings: how the model is asked and which rows are chosen.
        base_model: an adapter's base model, instead of the one that it names.
        revision: of the hub's repository.
        baseline: the `metrics.json` to compare with later; what could not be compared is refused early.

    Returns:
        What stands in `metrics.json`.

    Raises:
        SocratesError: model, data or baseline cannot be used, or the results cannot be written.
    """
    from socrates.metrics import score
    from socrates.models import load_asking_tokenizer, quiet_libraries

    quiet_libraries()
    started = time.monotonic()
    check_checkpoint(model)
    selection = select_cells(
        progress(read_answers(data_file), "choosing rows"), settings.evaluation.max_examples, settings.seed
    )
    answers = [answer for answer in read_answers(data_file) if answer.cell in selection.cells]
    print(f"Rows: {_describe(selection)}", flush=True)
    tokenizer = load_asking_tokenizer(model, base_model=base_model, revision=revision)
    identity = _identity(answers, data_file, settings, tokenizer)
    if baseline is not None:
        # The gate's own checks, of the baseline's numbers and of what this evaluation will be, before hours are spent.
        decide(baseline, {**baseline, "comparability": identity}, names=("the baseline", "this evaluation"))
    _check_writable(output)
    about_model, lines, counts = _load_and_ask(model, answers, settings, base_model, revision)
    lines = draw_predictions(lines, settings.seed)
    about = {
        **about_model,
        "data_file": str(data_file),
        "settings": asdict(settings),
        "selection": {k: v for k, v in asdict(selection).items() if k != "cells"},
        **counts,
        "seconds": round(time.monotonic() - started, 1),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in PACKAGES},
    }
    scores = score(map(scored_row, lines))
    return write_results(output, scores=scores, predictions=lines, comparability=identity, about=about)


def ask(
    loaded: LoadedModel, answers: Sequence[Answer], settings: Settings
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Ask the model every question: lines of `predictions.jsonl` without a drawn answer, in the order of ``answers``.

    Where decoding leaves no valid answer at all (top-p cut them all off), the line has the undecoded probabilities, so
    that no model drops a question by being bad at it.

    Returns:
        The lines, and two counts of them: `drawn_rows` rest on draws, because the question states no (or too many)
        valid answers; `undecoded_rows` have the undecoded probabilities.
    """
    from socrates.answers import Question, answer_distributions
    from socrates.decoding import Decoding

    prompts = prompt_token_ids(loaded.tokenizer, [answer.prompt for answer in answers], settings.prompt.system_message)
    questions = [
        Question(tuple(ids), parse_scale(answer.stimuli), key=answer.line)
        for ids, answer in zip(prompts, answers, strict=True)
    ]
    decoding = Decoding(settings.decoding.temperature, settings.decoding.top_p)
    results: dict[int, AnswerDistribution] = dict(  # by index
        progress(
            answer_distributions(
                loaded, questions, decoding, max_batch_tokens=settings.evaluation.batch_tokens, seed=settings.seed
            ),
            "asking the model",
            total=len(questions),
        )
    )
    lines = [_line(answer, results[index]) for index, answer in enumerate(answers)]
    return lines, {
        "drawn_rows": sum(not result.exact for result in results.values()),
        "undecoded_rows": sum(result.exact and result.normalized() is None for result in results.values()),
    }


def check_checkpoint(model: str | Path) -> None:
    """Verify what evaluation reads of a checkpoint against its manifest; other software's folders have none, and pass.

    The adapter must be there; what else is there (a copy may leave out all that only resuming reads) must be whole.

    Raises:
        SocratesError: a file is missing or damaged, or the checkpoint was not finished.
    """
    folder = Path(model)
    if not (folder / MANIFEST).is_file():
        if (folder / TRAINING_CONFIG).is_file():
            raise SocratesError(f"{folder}: has no {MANIFEST} yet: not finished, or not copied whole")
        return
    damage = find_damage(
        folder,
        only=lambda path: (
            path in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
            or ((folder / path).exists() and not path.startswith(_FOR_RESUMING))
        ),
    )
    if damage:
        raise SocratesError(f"{folder}: damaged: {damage}; copy or download the checkpoint again")


def _load_and_ask(
    model: str, answers: Sequence[Answer], settings: Settings, base_model: str | None, revision: str | None
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, int]]:
    import torch

    from socrates.models import load_model

    try:
        loaded = load_model(model, base_model=base_model, revision=revision)
        return _about_model(model, loaded), *ask(loaded, answers, settings)
    except torch.OutOfMemoryError as error:
        raise SocratesError(
            f"{model}: the GPU's memory does not hold the model and one batch; lower evaluation.batch_tokens "
            f"(now {settings.evaluation.batch_tokens}), or take a larger GPU: {str(error).splitlines()[0]}"
        ) from error


def _check_writable(output: Path) -> None:
    """Write the smallest file into the results folder, before the model is asked for hours."""
    probe = output / ".writable"
    write_json(probe, {})
    remove_file(probe)


def _line(answer: Answer, result: AnswerDistribution) -> dict[str, Any]:
    distribution = result.normalized()
    if distribution is None and result.exact and result.valid_mass > 0:
        distribution = result.probabilities
    pairs = zip(result.values.tolist(), distribution.tolist(), strict=True) if distribution is not None else None
    return prediction_line(
        answer.keys(),
        answer.response,
        distribution={value: p for value, p in pairs if p > 0} if pairs is not None else None,
        # A drawn row knows only the share of valid draws after decoding: another quantity, not to be averaged with it.
        valid_mass=result.valid_mass if result.exact else None,
    )


def _identity(
    answers: Sequence[Answer], data_file: Path, settings: Settings, tokenizer: PreTrainedTokenizerBase
) -> Comparability:
    return comparability(
        [{**answer.keys(), "response": answer.response} for answer in answers],
        seed=settings.seed,
        data_sha256=sha256_file(data_file),
        prompt_fingerprint=prompt_fingerprint(tokenizer, settings.prompt.system_message),
        decoding=asdict(settings.decoding),
    )


def _about_model(model: str, loaded: LoadedModel) -> dict[str, Any]:
    adapter = loaded.adapter
    return {
        "model": model,
        "base_model": loaded.base_name,
        "base_commit": loaded.commit,
        "adapter_sha256": sha256_file(adapter / ADAPTER_WEIGHTS) if adapter else None,
        "dtype": str(loaded.causal_lm.dtype).removeprefix("torch."),
        "device": str(loaded.device),
    }


def _describe(selection: Selection) -> str:
    studies = len({cell.study_id for cell in selection.cells})
    return (
        f"{selection.rows} of {selection.file_rows} in {len(selection.cells)} of {selection.file_cells} cells, "
        f"{studies} of {selection.file_studies} studies "
        f"(not asked: {selection.one_answer_cells} cells of one answer, {selection.no_spread_cells} without spread)"
    )
