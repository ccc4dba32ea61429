"""An experiment and a model to predictions, and how far they may be believed by the model's results on people.

Read, plan, ask, estimate; the files come from `tables.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from socrates.config import UNDECODED, DecodingSettings, RunConfig
from socrates.console import count
from socrates.errors import SocratesError
from socrates.evaluation.calibration import calibrated
from socrates.evaluation.effect_model import EffectModel
from socrates.evaluation.evaluate import recorded_config
from socrates.evaluation.results import METRICS
from socrates.files import write_jsonl
from socrates.inference.run import InferenceRequest, run_inference, settings_of
from socrates.predict import estimates
from socrates.predict.contrasts import find_contrasts
from socrates.predict.estimates import EXPECTED, MEAN, PROBABILITY, Array, Moments, index_of, moments_of
from socrates.predict.experiment import Index, OutcomeQuestion, read_experiment
from socrates.predict.files import ANSWERS, Asked, check_folder, read_finished, write_finished
from socrates.predict.prompts import PromptPlan, kept_answer, plan_prompts
from socrates.report.results_folders import Results, Value, decoding_text, read_results, values_in
from socrates.schema import raise_problems, validate

if TYPE_CHECKING:
    from socrates.inference.engine import Question

_Answers = Sequence[Mapping[str, Any]]  # see `kept_answer`


@dataclass(frozen=True)
class QuestionPrediction:
    """What is predicted for one question, or for an index of several."""

    name: str
    question: OutcomeQuestion  # of an index one of its items, whose scale it has
    index: Index | None
    conditions: tuple[str, ...]  # in which it is asked
    probabilities: (
        Array  # shape (C, N, A): of each answer, by persona that has one in every condition; of an index A = 0
    )
    moments: Moments  # likewise by persona
    judged: Moments  # likewise, of decoded probabilities, which the evaluation judges
    personas: NDArray[np.int64]  # shape (N,): their indices among all
    valid_mass: Array  # shape (C, all personas): probability of any valid answer, before decoding
    distributions: pd.DataFrame  # see `estimate_distributions`; empty of an index
    codes: pd.DataFrame  # likewise, of codes such as "don't know", of everybody
    means: pd.DataFrame  # see `estimate_means`, with the number of `personas` and the mean of `valid_mass`
    differences: pd.DataFrame  # see `estimate_differences`; with `EXPECTED` where it is known what to expect of people

    @property
    def shares(self) -> Array:
        """Shape (C, A): of each answer."""
        return self.distributions["probability"].to_numpy().reshape(len(self.means), -1)

    @property
    def headline(self) -> tuple[str, list[Value]]:
        """One number a condition, and what it is: the mean, or the share of an option.

        Of two options the first one's, of more that of the option that differs most between conditions.
        """
        question, shares = self.question, self.shares
        if not question.nominal:
            return f"mean, {question.answers}", values_in(self.means, MEAN)
        spread = np.ptp(shares, axis=0) if len(shares) > 1 else shares[0]
        option = question.answers.values[0 if len(spread) == 2 else spread.argmax()]
        what = f"share of “{question.labels[option]}”"
        if len(spread) > 2:
            what += ", the option that differs most" if len(shares) > 1 else ", the most frequent option"
        return what, values_in(self.distributions[self.distributions["answer"] == option], PROBABILITY)

    @property
    def expected(self) -> list[Value]:
        """Of people, of each difference; none where it is not known, or without its interval."""
        return values_in(self.differences.reindex(columns=EXPECTED).dropna(), EXPECTED[1:])

    @property
    def least_mass(self) -> float:
        """In the condition where it is least."""
        return float(self.means["valid_mass"].min())


@dataclass(frozen=True)
class Prediction:
    """All that files and page are made from."""

    file: Path  # that describes the experiment
    plan: PromptPlan  # what was asked, and who
    questions: Sequence[QuestionPrediction]
    seed: int  # of personas, sampled answers and intervals
    facts: Mapping[str, Any]  # what else is recorded: of people, probabilities, effects, the model and the asking
    evidence: Results | None  # of the model's accuracy; None: nothing was given

    @property
    def calibrated(self) -> str:
        """Whether the probabilities are, in a sentence."""
        temperature, results = self.facts["probabilities"]["calibration"].values()
        if temperature is not None:
            fitted = f"temperature {temperature:.3g}, which fits people best ({results})"
            return f"Calibrated: own probabilities at {fitted}."
        lacking = self.evidence is not None and self.evidence.value("calibration", "temperature").value is None
        return f"Not calibrated: {results} has no temperature that fits people." if lacking else "Not calibrated."


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
    uncalibrated: bool = False,
    results: Path | None = None,
    overwrite: bool = False,
) -> Prediction:
    """Ask a model about an experiment, or take the answers that the output folder holds already.

    Args:
        model: as of `InferenceRequest`; likewise base_model and processes.
        experiment_file: JSON (`experiment.py`).
        output: the folder; gets `answers.jsonl` and `asked.json`.
        base_model: see there.
        processes: see there.
        seed: of personas, sampled answers and intervals.
        people: how many are asked, instead of the experiment's number.
        undecoded: whether the model's own probabilities are taken as they are.
        uncalibrated: whether those after the decoding that the checkpoint was judged with are taken, as they are
            without a temperature in ``results``, instead of its own at that temperature.
        results: folder of an evaluation of this model.
        overwrite: whether to ask again where the folder holds a prediction, this one or another; it stays until
            there are new answers to all prompts.

    Raises:
        SocratesError: experiment, model or results cannot be used, or the folder holds something else.
    """
    check_folder(output)
    experiment = read_experiment(experiment_file)
    personas = experiment.population.personas(experiment_file.parent, seed, people)
    plan = plan_prompts(experiment, personas, seed)
    config = recorded_config(model)
    settings = settings_of(config)
    evidence = read_results(results) if results is not None else None
    known = () if evidence is None else (evidence.metrics["about"].get("base_model"),)
    request = InferenceRequest(
        model, output, settings, base_model, config.model_revision if config else None, processes, overwrite, known
    )
    if evidence is not None:
        _check_evidence(evidence, model, request.identity["model"])
    effects = _find_effects(evidence, settings.decoding)
    questions = request.questions((text, scale, key) for key, (text, scale) in enumerate(plan.prompts))
    _check_lengths(experiment_file, plan, questions, request, config)
    asked = {"prompts": plan.fingerprint, **request.identity}
    if not overwrite and (finished := read_finished(output, asked)):
        record, answers = finished
        answers = [answer | plan.keys(answer["key"]) for answer in answers]  # names may change: they are not asked
        write_jsonl(output / ANSWERS, answers)
        print("Already asked: tables, pictures and page are made from the answers in the folder", flush=True)
    else:
        print(
            f"Asking {count(len(personas), 'persona')} in {count(len(experiment.conditions), 'condition')} "
            f"{count(len(experiment.questions), 'question')} each: {count(len(plan.prompts), 'prompt')} that differ",
            flush=True,
        )
        with run_inference(request, questions, asked, key_of=itemgetter("key"), keep=kept_answer) as journal:
            by_key = {answer["key"]: answer for answer in journal.answers}
            answers = [by_key[key] | plan.keys(key) for key in sorted(by_key)]
            record = Asked(asked=asked, about=journal.header["about"], seconds=round(journal.seconds, 1))
            write_finished(output, record, answers)
    fitted = evidence.value("calibration", "temperature").value if evidence else None
    temperature = 1.0 if undecoded else None if uncalibrated else fitted
    predicted = {name: _estimate(name, answers, plan, seed, temperature, effects) for name in experiment.questions}
    predicted |= {name: _estimate_index(name, predicted, plan, seed, effects) for name in experiment.indices}
    listed = experiment.population.csv
    facts = {
        "people": {
            "source": str(experiment_file.parent / listed) if listed else "margins",
            "personas": len(personas),
            "profiles": len(plan.profiles),
            "seed": seed,
        },
        "probabilities": {
            "undecoded": temperature is not None,
            **(settings.decoding if temperature is None else UNDECODED).model_dump(),
            "calibration": {
                "temperature": None if undecoded else temperature,
                "from": evidence and str(evidence.folder),
            },
            **settings.prompt.model_dump(mode="json"),
        },
        "effects": effects if isinstance(effects, str) else effects.model_dump(),
        "model": {"name": model, **record.about},
        "asked": asked,
        "seconds": record.seconds,
    }
    return Prediction(experiment_file, plan, [*predicted.values()], seed, facts, evidence)


def _find_effects(evidence: Results | None, decoding: DecodingSettings) -> EffectModel | str:
    """How human differences follow predicted ones under this decoding; a text: why that is not known."""
    if evidence is None:
        return "no evaluation of this model was named"
    if (model := (recorded := evidence.metrics["effects"]).get("prediction")) is None:
        why = recorded.get("no_prediction")
        return f"in its evaluation, {why}" if why else "its evaluation is of an older version; evaluate again"
    if (judged := evidence.decoding or "a decoding that is not recorded") != decoding_text(decoding.model_dump()):
        return f"its evaluation is of differences under {judged}, which are not predicted here"
    return validate(EffectModel, model, f'{evidence.folder / METRICS}, "effects.prediction"')


def _estimate(
    name: str, answers: _Answers, plan: PromptPlan, seed: int, temperature: float | None, effects: EffectModel | str
) -> QuestionPrediction:
    """What is predicted for a question from the answers to all prompts, by key; ``temperature`` as of `_take`.

    The model of effects was fitted to decoded predictions, whose differences have another size than calibrated ones: it
    is given decoded ones, whatever is shown.
    """
    experiment, places = plan.experiment, plan.places(name)
    question, conditions = (
        experiment.questions[name],
        [list(experiment.conditions)[at] for at in experiment.asked_in(name)],
    )
    mine = [answers[key] for key in places.ravel()]
    table, decoded = (_take(mine, question.valid.values, at).reshape(*places.shape, -1) for at in (temperature, None))
    mass = np.array([answer["valid_mass"] for answer in mine]).reshape(places.shape)[plan.profile_of].T
    personas = np.flatnonzero(~np.isnan(table).any(axis=(1, 2))[plan.profile_of])
    weights = plan.weights[personas]
    if not weights.any():
        raise SocratesError(
            f'the model gives no valid answer to the question "{name}", whoever is asked: it was not '
            "trained to answer such questions with a number alone; take a trained checkpoint"
        )
    is_code = np.isin(question.valid.values, list(question.codes))
    table, decoded = (one[plan.profile_of[personas]].transpose(1, 0, 2) for one in (table, decoded))
    shares, codes = table[..., ~is_code], table[..., is_code]
    moments, judged = moments_of(question, shares), moments_of(question, decoded[..., ~is_code])
    labels = {answer: question.labels.get(answer) for answer in question.answers.values}
    return QuestionPrediction(
        name,
        question,
        None,
        tuple(conditions),
        shares,
        moments,
        judged,
        personas,
        mass,
        estimates.estimate_distributions(labels, conditions, shares, weights, seed, of_all=False),
        estimates.estimate_distributions(question.codes, conditions, codes, weights, seed, of_all=True),
        *_summarise(plan, name, moments, judged, personas, mass, seed, effects),
    )


def _estimate_index(
    name: str, predicted: Mapping[str, QuestionPrediction], plan: PromptPlan, seed: int, effects: EffectModel | str
) -> QuestionPrediction:
    """What is predicted for an index from its items' predictions, of the personas that answer every item."""
    index = plan.experiment.indices[name]
    items = [predicted[item] for item in index.items]
    personas = reduce(np.intersect1d, [item.personas for item in items])
    mass = np.min([item.valid_mass for item in items], axis=0)
    both = []
    for of in ("moments", "judged"):
        sides = [getattr(item, of).of(np.isin(item.personas, personas)) for item in items]
        both.append(index_of(sides, [item in index.reversed for item in index.items]))
    means, differences = _summarise(plan, index.items[0], *both, personas, mass, seed, effects)
    return replace(
        items[0],
        name=name,
        index=index,
        probabilities=items[0].probabilities[:, :, :0],
        moments=both[0],
        judged=both[1],
        personas=personas,
        valid_mass=mass,
        distributions=items[0].distributions[:0],
        codes=items[0].codes[:0],
        means=means,
        differences=differences,
    )


def _summarise(
    plan: PromptPlan,
    asked: str,
    moments: Moments,
    judged: Moments,
    personas: NDArray[np.int64],
    mass: Array,
    seed: int,
    effects: EffectModel | str,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means and differences in the conditions of the question ``asked``."""
    experiment, weights = plan.experiment, plan.weights[personas]
    asked_in = experiment.asked_in(asked)
    names, conditions = zip(*[list(experiment.conditions.items())[at] for at in asked_in], strict=True)
    contrasts = find_contrasts(names, experiment.factors, [condition.levels for condition in conditions])
    means = estimates.estimate_means(moments, names, weights, seed)
    means = means.assign(personas=len(personas), valid_mass=np.average(mass, axis=1, weights=plan.weights))
    people_of = experiment.people_of[list(asked_in)]
    differences = estimates.estimate_differences(moments, contrasts, people_of, weights, seed)
    if len(differences) and not (moments.shares or isinstance(effects, str)):
        differences[[*EXPECTED]] = estimates.expect_differences(judged, contrasts, weights, effects)
    return means, differences


def _take(answers: _Answers, values: Sequence[int], temperature: float | None) -> Array:
    """Shape (answers, A): the model's own probabilities at a temperature; None: decoded. NaN where none is valid.

    Where decoding leaves no valid answer at all, its own are taken, as the evaluation does.
    """
    table = np.full((len(answers), len(values)), np.nan)
    for row, answer in zip(table, answers, strict=True):
        if chosen := (temperature is None and answer["decoded"]) or answer["undecoded"]:
            chosen = calibrated(chosen, temperature or 1.0)
            row[:] = [chosen.get(str(value), 0.0) for value in values]
    return table


def _check_lengths(
    file: Path, plan: PromptPlan, questions: Sequence[Question], request: InferenceRequest, config: RunConfig | None
) -> None:
    """SocratesError where a prompt is longer than what the model was trained on, or can read."""
    limit, why = request.longest_prompt, f"{request.files.base_name} can read beside an answer"
    if config is not None and config.training.max_length < limit:
        limit, why = config.training.max_length, f"{request.model} was trained on (max_length)"
    longest: Counter[str] = Counter()
    for question in questions:
        keys = plan.keys(question.key)
        place = f'"conditions.{keys["condition"]}" with "questions.{keys["question"]}"'
        longest[place] = max(longest[place], len(question.prompt_ids))
    problems = [
        f"{place}: {tokens:,} tokens, more than the {limit:,} that {why}; shorten it"
        for place, tokens in longest.items()
        if tokens > limit
    ]
    raise_problems(f"{file}: too long", problems)


def _check_evidence(evidence: Results, model: str, fingerprint: str) -> None:
    """SocratesError unless results are of this very model: ``fingerprint`` is that of its files (`hub.fingerprint`)."""
    folder, about = evidence.folder, evidence.metrics["about"]
    if not (judged := (about.get("asked") or {}).get("model")):
        raise SocratesError(f"--results {folder}: does not record which model was judged; evaluate {model} again")
    if judged != fingerprint:
        raise SocratesError(
            f"--results {folder}: are results of another model ({about.get('model')}), not of {model}; name those of "
            "this model, or leave --results out"
        )
