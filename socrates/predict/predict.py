"""An experiment and a model to predictions, and how far they may be believed by the model's results on people.

Read, plan, ask, estimate; the files come from `tables.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from socrates.checkpoint import MANIFEST, read_manifest
from socrates.config import RunConfig
from socrates.console import count
from socrates.errors import SocratesError
from socrates.evaluation.evaluate import recorded_config
from socrates.evaluation.results import METRICS, read_metrics
from socrates.files import finite, read_json, sha256_file
from socrates.inference.run import InferenceRequest, Settings, run_inference, settings_of
from socrates.model.chat import answers_token_ids
from socrates.predict.estimates import (
    ConditionEstimate,
    Difference,
    Number,
    estimate_conditions,
    estimate_differences,
)
from socrates.predict.experiment import Experiment, read_experiment
from socrates.predict.files import Finished, check_folder, read_finished, write_answers, write_finished
from socrates.predict.population import Persona
from socrates.predict.prompts import PromptPlan, QuestionAnswers, gather_answers, kept_answer, plan_prompts
from socrates.report.results_folders import Value, value_at

if TYPE_CHECKING:
    from socrates.inference.engine import Question


@dataclass(frozen=True)
class QuestionPrediction:
    """What is predicted for one question.

    Attributes:
        answers: of every persona.
        conditions: in the order of the experiment.
        differences: between conditions.
        valid_mass: shape (C,): probability of any valid answer, before decoding, on average.
    """

    answers: QuestionAnswers
    conditions: Sequence[ConditionEstimate]
    differences: Sequence[Difference]
    valid_mass: NDArray[np.float64]

    @property
    def headline(self) -> tuple[str, list[Number]]:
        """One number a condition, and what it is: the mean, or the share of an option.

        Of two options the first one's, of more that of the option that differs most between conditions.
        """
        question = self.answers.question
        if not question.options:
            return f"mean, {question.scale}", [estimate.mean for estimate in self.conditions]
        shares = np.array([[share.value for share in estimate.shares] for estimate in self.conditions])
        spread = np.ptp(shares, axis=0) if len(shares) > 1 else shares[0]
        index = 0 if len(question.scale) == 2 else int(spread.argmax())
        what = f"share of “{question.labels[question.scale.values[index]]}”"
        if len(question.scale) > 2:
            what += ", the option that differs most" if len(shares) > 1 else ", the most frequent option"
        return what, [estimate.shares[index] for estimate in self.conditions]

    @property
    def least_mass(self) -> float:
        """In the condition where it is least."""
        return float(self.valid_mass.min())


@dataclass(frozen=True)
class Prediction:
    """All that files and page are made from.

    Attributes:
        experiment: what was described.
        personas: who was asked.
        plan: what they were asked.
        questions: what is predicted.
        settings: how the model was asked.
        undecoded: whether its probabilities are taken as they are.
        seed: of personas, sampled answers and intervals.
        model: facts about it, as JSON values.
        seconds: that asking took.
        asked: what makes the answers what they are.
        evidence: what is known of the model's accuracy; None: nothing was given.
    """

    experiment: Experiment
    personas: Sequence[Persona]
    plan: PromptPlan
    questions: Sequence[QuestionPrediction]
    settings: Settings
    undecoded: bool
    seed: int
    model: Mapping[str, Any]
    seconds: float
    asked: Mapping[str, Any]
    evidence: Evidence | None

    @property
    def decoding(self) -> str:
        """What was done to the model's probabilities, in words."""
        decoding = self.settings.decoding
        return decoding_text(1.0, 1.0) if self.undecoded else decoding_text(decoding.temperature, decoding.top_p)


def predict(
    model: str,
    experiment_file: Path,
    output: Path,
    *,
    base_model: str | None = None,
    processes: int | None = None,
    seed: int = 42,
    people: int | None = None,
    undecoded: bool = False,
    results: Path | None = None,
    overwrite: bool = False,
) -> Prediction:
    """Ask a model about an experiment, or take the answers that the output folder holds already.

    Args:
        model: a model folder, a hub name, or a checkpoint folder with an adapter.
        experiment_file: JSON (`experiment.py`).
        output: the folder; gets `answers.jsonl` and `asked.json`.
        base_model: an adapter's base model, instead of the one that it names.
        processes: how many run the model; None: one a GPU, and one where there is none.
        seed: of personas, sampled answers and intervals.
        people: how many are asked, instead of the experiment's number.
        undecoded: whether the model's probabilities are taken as they are, instead of after the decoding that the
            checkpoint was judged with.
        results: folder of an evaluation of this model.
        overwrite: whether to ask again where the folder holds a prediction, this one or another; it stays until
            there are new answers to all prompts.

    Raises:
        SocratesError: experiment, model or results cannot be used, or the folder holds something else.
    """
    check_folder(output)
    experiment = read_experiment(experiment_file)
    personas = experiment.personas(seed, people)
    plan = plan_prompts(experiment, personas)
    config = recorded_config(model)
    settings = settings_of(config)
    request = InferenceRequest(
        model, output, settings, base_model, config.model_revision if config else None, processes, overwrite
    )
    evidence = read_evidence(results, model, request.identity["model"]) if results is not None else None
    questions = request.questions((text, scale, key) for key, (text, scale) in enumerate(plan.prompts))
    _check_lengths(plan, questions, request, config)
    asked = {"prompts": plan.fingerprint, **request.identity}
    finished = None if overwrite else read_finished(output, asked, len(plan.prompts))
    if finished is None:
        print(
            f"Asking {count(len(personas), 'persona')} in {count(len(experiment.conditions), 'condition')} "
            f"{count(len(experiment.questions), 'question')} each: {count(len(plan.prompts), 'prompt')} that differ",
            flush=True,
        )
        with run_inference(
            request,
            questions,
            asked,
            key_of=lambda kept: kept["key"],
            keep=kept_answer,
        ) as journal:
            answers = sorted(journal.answers, key=lambda answer: answer["key"])
            finished = Finished(answers, journal.header["about"], round(journal.seconds, 1))
            write_finished(output, finished, asked, plan.keys)
    else:
        write_answers(output, finished, plan.keys)
        print("Already asked: tables, pictures and page are made from the answers in the folder", flush=True)
    return Prediction(
        experiment=experiment,
        personas=personas,
        plan=plan,
        questions=[
            _estimate(answers, plan, seed) for answers in gather_answers(plan, finished.answers, undecoded=undecoded)
        ],
        settings=settings,
        undecoded=undecoded,
        seed=seed,
        model={"name": model, **finished.about, "checkpoint": _checkpoint(Path(model))},
        seconds=finished.seconds,
        asked=asked,
        evidence=evidence,
    )


def _estimate(answers: QuestionAnswers, plan: PromptPlan, seed: int) -> QuestionPrediction:
    weights = plan.weights[answers.personas]
    if not weights.any():
        raise SocratesError(
            f'the model gives no valid answer to the question "{answers.question.name}", whoever is asked: it was not '
            "trained to answer such questions with a number alone; take a trained checkpoint"
        )
    given = (answers.values, answers.probabilities, weights, seed)
    return QuestionPrediction(
        answers,
        estimate_conditions(*given),
        estimate_differences(*given, options=answers.question.options),
        np.average(answers.valid_mass, axis=1, weights=plan.weights),
    )


def _check_lengths(
    plan: PromptPlan, questions: Sequence[Question], request: InferenceRequest, config: RunConfig | None
) -> None:
    """SocratesError where a prompt and its answer are longer than the model was trained on, or can read."""
    if config is not None:
        limit, why = config.training.max_length, f"{request.model} was trained on (max_length)"
    else:
        base = read_json(request.files.base.path / "config.json", "model's config")
        limit, why = base.get("max_position_embeddings"), f"{request.files.base_name} can read"
    if not isinstance(limit, int):  # not known before the model is loaded
        return
    answers = {
        scale: max(map(len, answers_token_ids(request.tokenizer, (scale.low, scale.high)))) + 1
        for scale in {question.scale for question in questions}
    }
    longest: dict[tuple[str, str], int] = {}
    for question in questions:
        keys = plan.keys(question.key)
        place = (keys["condition"], keys["question"])
        longest[place] = max(longest.get(place, 0), len(question.prompt_ids) + answers[question.scale])
    problems = [
        f'"conditions.{condition}" with "questions.{question}": {tokens:,} tokens with its answer, more than the '
        f"{limit:,} that {why}; shorten it"
        for (condition, question), tokens in longest.items()
        if tokens > limit
    ]
    if problems:
        raise SocratesError("\n  ".join([f"{plan.experiment.file}: too long", *problems]))


def _checkpoint(folder: Path) -> dict[str, Any] | None:
    """Which checkpoint it was; None where the model is none."""
    if not (folder / MANIFEST).is_file():
        return None
    return {"step": read_manifest(folder).step, "manifest_sha256": sha256_file(folder / MANIFEST)}


@dataclass(frozen=True)
class Evidence:
    """An evaluation of the model that predicts.

    Attributes:
        folder: of its results.
        metrics: the content of `metrics.json`.
    """

    folder: Path
    metrics: Mapping[str, Any]

    def value(self, *keys: str) -> Value:
        """A number of it, with its interval; without a value where it is not recorded."""
        return value_at(self.metrics, *keys)

    def count(self, *keys: str) -> int | None:
        """A whole number of it."""
        value = self.value(*keys).value
        return None if value is None else int(value)

    @property
    def seen_rows(self) -> int | None:
        """Judging rows that the model may have been trained on; None: not recorded."""
        return self.count("seen", "rows")

    @property
    def decoding(self) -> str:
        """What was done to the model's probabilities, in words."""
        temperature, top_p = (self.value("comparability", "decoding", key).value for key in ("temperature", "top_p"))
        return "not recorded" if temperature is None or top_p is None else decoding_text(temperature, top_p)

    @property
    def useless(self) -> bool:
        """Whether it did no better than a uniform guess."""
        distance, guess = self.value("wasserstein_distance").value, self.value("bounds", "uniform_guess").value
        return distance is not None and guess is not None and distance >= guess


def decoding_text(temperature: float, top_p: float) -> str:
    """A decoding in words."""
    return f"temperature {temperature:g}, top-p {top_p:g}"


def read_evidence(folder: Path, model: str, fingerprint: str) -> Evidence:
    """Read the results of an evaluation of this very model.

    Args:
        folder: results folder.
        model: what the user calls the model.
        fingerprint: of its files (`hub.fingerprint`).

    Raises:
        SocratesError: no results there, or those of another model.
    """
    file = folder if folder.name == METRICS else folder / METRICS
    metrics = read_metrics(file)
    about = metrics.get("about")
    about = about if isinstance(about, Mapping) else {}
    asked = about.get("asked")
    if not isinstance(asked, Mapping) or not isinstance(asked.get("model"), str):
        raise SocratesError(f"--results {folder}: {file} does not record which model it judged; evaluate {model} again")
    if asked["model"] != fingerprint:
        raise SocratesError(
            f"--results {folder}: are results of another model ({about.get('model')}), not of {model}; name those of "
            "this model, or leave --results out"
        )
    if finite(metrics.get("wasserstein_distance")) is None:
        raise SocratesError(f'--results {folder}: {file}: "wasserstein_distance" is no number; evaluate again')
    return Evidence(file.parent, metrics)
