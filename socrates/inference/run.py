"""Prompts to a model's answers, on one or several GPUs; each batch is on disk before the next is asked for.

Covers: all prompts decide together how each is asked, so that an interruption changes no answer.
Does not cover: what is kept of an answer, which the caller decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from socrates.config import DecodingSettings, EvaluationSettings, PromptSettings, RunConfig
from socrates.console import inference_progress
from socrates.inference.parallel import EngineSettings, ModelSource, open_engines
from socrates.model.chat import prompt_token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from socrates.data.scales import Scale
    from socrates.inference.engine import AnswerDistribution
    from socrates.inference.journal import Unfinished


@dataclass(frozen=True)
class Settings:
    """How a model is asked; from the run config, or from the checkpoint's own record of it."""

    prompt: PromptSettings = field(default_factory=PromptSettings)
    decoding: DecodingSettings = field(default_factory=DecodingSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    seed: int = 42


def settings_of(config: RunConfig) -> Settings:
    """The part of a run config that asking goes by."""
    return Settings(config.prompt, config.decoding, config.evaluation, config.seed)


@dataclass(frozen=True)
class Prompt:
    """What the model is asked."""

    text: str  # persona, stimulus and question, before the chat template
    scale: Scale | None  # the answers that count; None where the question states none
    key: int  # 0 or more, each once


def ask(
    source: ModelSource,
    prompts: Sequence[Prompt],
    tokenizer: PreTrainedTokenizerBase,
    settings: Settings,
    unfinished: Unfinished,
    processes: int | None,
    *,
    key_of: Callable[[Mapping[str, Any]], int],
    keep: Callable[[int, AnswerDistribution], dict[str, Any]],
) -> None:
    """Ask the model all that is not answered yet; the answers are in ``unfinished`` then.

    Args:
        source: which model.
        prompts: all of them, those that were answered before an interruption included.
        tokenizer: the model's.
        settings: how it is asked.
        unfinished: what was answered before; gets the rest.
        processes: how many ask the model; None: one a GPU, and one where there is none.
        key_of: the key of the prompt that a kept answer is to.
        keep: what is kept, as JSON values, of the answer to the prompt with this index.

    Raises:
        SocratesError: the model cannot be loaded or asked, or an answer cannot be written.
    """
    from socrates.inference.batching import BatchQueue, Budget
    from socrates.inference.decoding import Decoding
    from socrates.inference.engine import Question, plan_questions

    kept = {key_of(answer) for answer in unfinished.answers}
    done = {index for index, prompt in enumerate(prompts) if prompt.key in kept}
    if done:
        print(f"Going on: {len(done)} of {len(prompts)} rows are answered already", flush=True)
    if len(done) == len(prompts):
        return
    texts = prompt_token_ids(tokenizer, [prompt.text for prompt in prompts], settings.prompt.system_message)
    questions = [Question(tuple(ids), prompt.scale, key=prompt.key) for ids, prompt in zip(texts, prompts, strict=True)]
    plan = plan_questions(tokenizer, questions)
    decoding = Decoding(settings.decoding.temperature, settings.decoding.top_p)
    recorded = unfinished.header["batch_tokens"] if unfinished.header else None
    most = settings.evaluation.batch_tokens or recorded  # who sets it anew may have run out of memory
    engines = open_engines(EngineSettings(source, plan.beginning, decoding, settings.seed, most), processes)
    with closing(engines):
        ready = engines.ready
        if unfinished.header is None:
            unfinished.begin(about=ready.about, batch_tokens=ready.batch_tokens)
        budget = Budget(ready.batch_tokens)
        queue = BatchQueue(plan.lengths, budget, overhead=ready.overhead, done=done)
        drawn = [index for index in plan.drawn if index not in done]
        tokens = [len(question.prompt_ids) for question in questions]
        with inference_progress(tokens, done) as advance:
            before = time.monotonic()
            for batch, results in engines.ask(questions, queue, drawn):
                answered = [keep(index, result) for index, result in zip(batch, results, strict=True)]
                now = time.monotonic()
                unfinished.append(answered, now - before)
                before = now
                advance(batch)
