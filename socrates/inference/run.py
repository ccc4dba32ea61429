"""Inference run: a model's answer distributions to all questions, on one or several GPUs, resumed where it ended.

All questions decide together how each is answered, so that an interruption changes no answer; it costs the batches that
are being answered. What is kept of an answer, the caller decides.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoConfig, PreTrainedTokenizerBase

from socrates.config import DecodingSettings, EvaluationSettings, PromptSettings, RunConfig
from socrates.data.scales import Scale
from socrates.errors import LIBRARY_ERRORS, SocratesError, first_line
from socrates.inference.engine import AnswerDistribution, Question, load_engine, longest_prompt, plan_inference
from socrates.inference.journal import Journal, open_journal
from socrates.inference.parallel import open_engine
from socrates.model.chat import Prompt, prompt_fingerprint, prompt_token_ids
from socrates.model.hub import ModelFiles, fingerprint, locate_model
from socrates.model.load import quiet_libraries, tokenizer_of
from socrates.schema import Schema


class Settings(Schema):
    """How a model is asked; from the run config, or from the checkpoint's own record of it."""

    prompt: PromptSettings = PromptSettings()
    decoding: DecodingSettings = DecodingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    seed: int = 42


def settings_of(config: RunConfig | None) -> Settings:
    """The part of a run config that inference goes by; the defaults where there is no config."""
    return Settings(**{name: getattr(config, name) for name in Settings.model_fields} if config else {})


@dataclass(frozen=True)
class InferenceRequest:
    """Which model answers and how, and the folder that its answers are for.

    Attributes:
        model: a model folder, a hub name, or a checkpoint folder with an adapter.
        output: the results folder; the answers so far are kept in it until all are there.
        settings: how the model is asked.
        base_model: an adapter's base model, instead of the one that it names.
        revision: of the hub's repository.
        processes: how many run the model; None: one a GPU, and one where there is none.
        overwrite: whether answers and results of another run in the folder may be replaced.
        known_bases: as of `locate_model`.
    """

    model: str
    output: Path
    settings: Settings
    base_model: str | None = None
    revision: str | None = None
    processes: int | None = None
    overwrite: bool = False
    known_bases: Collection[str | None] = ()

    @cached_property
    def files(self) -> ModelFiles:
        """Where the model is; SocratesError where there is none."""
        quiet_libraries()
        return locate_model(self.model, self.revision, self.base_model, self.known_bases)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's; SocratesError where there is none."""
        return tokenizer_of(self.files)

    @cached_property
    def longest_prompt(self) -> float:
        """The most tokens, beside an answer's, that the model can read."""
        try:
            config = AutoConfig.from_pretrained(self.files.base, local_files_only=True, trust_remote_code=False)
            return longest_prompt(config.get_text_config())
        except (*LIBRARY_ERRORS, ImportError) as error:
            raise SocratesError(f"{self.files.base}: cannot load the model: {first_line(error)}") from error

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What decides the answers beside the questions, as JSON values; has to be equal to go on with them."""
        return {
            "model": fingerprint(self.files),
            "prompt_fingerprint": prompt_fingerprint(self.tokenizer, self.settings.prompt),
            "decoding": self.settings.decoding.model_dump(),
        }

    def questions(self, rows: Iterable[tuple[Prompt, Scale | None, int]]) -> list[Question]:
        """Prompts through the chat template: of each its text, its valid answers if it states any, and its key."""
        texts, scales, keys = zip(*rows, strict=True)
        ids = prompt_token_ids(self.tokenizer, texts, self.settings.prompt)
        return [Question(tuple(one), scale, key) for one, scale, key in zip(ids, scales, keys, strict=True)]


@contextmanager
def run_inference(
    request: InferenceRequest,
    questions: Sequence[Question],
    identity: Mapping[str, Any],
    *,
    key_of: Callable[[Mapping[str, Any]], int],
    keep: Callable[[int, AnswerDistribution], dict[str, Any]],
) -> Iterator[Journal]:
    """Get all answers that are not there yet; the journal has them all, and is removed if the block ends well.

    Args:
        request: which model, and where.
        questions: all of them, those that were answered before an interruption included.
        identity: what decides the answers, as JSON values; with the kind of device it has to be equal to go on.
        key_of: the key of the question that a kept answer is to.
        keep: what is kept, as JSON values, of the answer to the question with this index.

    Raises:
        SocratesError: another run is in the folder, the model cannot be loaded or does not answer, or an answer cannot
            be written.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with closing(open_journal(request.output, {**identity, "device": device}, discard=request.overwrite)) as journal:
        if journal.damaged:
            print(f"{request.output}: {journal.damaged} of its answers so far are damaged; asking again", flush=True)
        answered = {key_of(answer) for answer in journal.answers}
        done = {index for index, question in enumerate(questions) if question.key in answered}
        if done:
            print(f"Going on: {len(done)} of {len(questions)} rows are answered already", flush=True)
        if len(done) < len(questions):
            _answer_the_rest(request, questions, done, journal, keep)
        yield journal
        journal.remove()


def _answer_the_rest(
    request: InferenceRequest,
    questions: Sequence[Question],
    done: set[int],
    journal: Journal,
    keep: Callable[[int, AnswerDistribution], dict[str, Any]],
) -> None:
    settings = request.settings
    beginning, lengths = plan_inference(request.tokenizer, questions)
    load = partial(
        load_engine,
        request.files,
        beginning=beginning,
        decoding=settings.decoding,
        seed=settings.seed,
        max_batch_tokens=settings.evaluation.batch_tokens,
    )
    with open_engine(load, request.processes) as engine:
        if journal.header is None:
            journal.begin(engine.about)
        left = {index: length for index, length in lengths.items() if index not in done}
        silent = not sys.stderr.isatty()
        with tqdm(desc="inference", total=len(questions), initial=len(done), unit=" rows", disable=silent) as bar:
            started = time.monotonic()
            for batch, results in engine.answer_all(questions, left):
                answers = [keep(index, result) for index, result in zip(batch, results, strict=True)]
                now = time.monotonic()
                journal.append(answers, now - started)
                started = now
                bar.update(len(batch))
