"""A model and a data file to a results folder: choose rows, ask, draw, score, write.

Covers: a checkpoint's files are verified against its manifest before they are loaded; a result that could not be
compared with a given baseline is refused before the model is loaded.
Does not cover: whether the checkpoint was trained on these very rows.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from socrates.checkpoints import MANIFEST, TRAINING_CONFIG, find_damage, read_training_config
from socrates.config import DecodingSettings, EvaluationSettings, PromptSettings, RunConfig, parse_config
from socrates.errors import SocratesError
from socrates.files import sha256_file
from socrates.gate import decide
from socrates.predictions import draw_predictions, prediction_line, scored_row
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
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


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
    """The run config that a checkpoint was trained with, or None where the folder records none."""
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
    from socrates.models import load_asking_tokenizer, load_model, quiet_libraries

    quiet_libraries()
    started = time.monotonic()
    check_checkpoint(model)
    selection = select_cells(
        _progress(read_answers(data_file), "choosing rows"), settings.evaluation.max_examples, settings.seed
    )
    answers = [answer for answer in read_answers(data_file) if answer.cell in selection.cells]
    print(f"Rows: {_describe(selection)}", flush=True)
    tokenizer = load_asking_tokenizer(model, base_model=base_model, revision=revision)
    identity = _identity(answers, data_file, settings, tokenizer)
    if baseline is not None:
        # The gate's own checks, of the baseline's numbers and of what this evaluation will be, before hours are spent.
        decide(baseline, {**baseline, "comparability": identity}, names=("the baseline", "this evaluation"))
    loaded = load_model(model, base_model=base_model, revision=revision)
    lines, sampled = ask(loaded, answers, settings)
    lines = draw_predictions(lines, settings.seed)
    about = {
        **_about_model(model, loaded),
        "data_file": str(data_file),
        "settings": asdict(settings),
        "selection": {k: v for k, v in asdict(selection).items() if k != "cells"},
        "sampled_rows": sampled,
        "seconds": round(time.monotonic() - started, 1),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in PACKAGES},
    }
    from socrates.metrics import score

    scores = score(map(scored_row, lines))
    return write_results(output, scores=scores, predictions=lines, comparability=identity, about=about)


def ask(loaded: LoadedModel, answers: Sequence[Answer], settings: Settings) -> tuple[list[dict[str, Any]], int]:
    """Ask the model every question: lines of `predictions.jsonl` without a drawn answer, in the order of ``answers``.

    Returns:
        The lines, and how many of them rest on draws, because the question states no (or too many) valid answers.
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
        _progress(
            answer_distributions(
                loaded, questions, decoding, max_batch_tokens=settings.evaluation.batch_tokens, seed=settings.seed
            ),
            "asking the model",
            len(questions),
        )
    )
    lines = [_line(answer, results[index]) for index, answer in enumerate(answers)]
    return lines, sum(not result.exact for result in results.values())


def check_checkpoint(model: str) -> None:
    """Verify the adapter's files against the checkpoint's manifest, where there is one.

    Raises:
        SocratesError: a file is missing or damaged.
    """
    folder = Path(model)
    if (folder / MANIFEST).is_file():
        damage = find_damage(folder, only=lambda path: path in _ADAPTER_FILES)
        if damage:
            raise SocratesError(f"{folder}: damaged: {damage}; copy or download the checkpoint again")


def _line(answer: Answer, result: AnswerDistribution) -> dict[str, Any]:
    distribution = result.normalized()
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
        "adapter_sha256": sha256_file(adapter / "adapter_model.safetensors") if adapter else None,
        "dtype": str(loaded.causal_lm.dtype).removeprefix("torch."),
        "device": str(loaded.device),
    }


def _describe(selection: Selection) -> str:
    studies = len({cell.study_id for cell in selection.cells})
    return (
        f"{selection.rows} of {selection.file_rows} in {len(selection.cells)} of {selection.file_cells} cells, "
        f"{studies} of {selection.file_studies} studies "
        f"({selection.scorable_cells} cells hold human answers that differ)"
    )


def _progress(items: Iterator[Any], what: str, total: int | None = None) -> Iterator[Any]:
    from tqdm import tqdm

    return tqdm(items, desc=what, total=total, unit=" rows", disable=not sys.stderr.isatty())
