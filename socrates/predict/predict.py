"""An experiment and a model to predictions, and how far they may be believed by the model's results on people.

Read, plan, ask, estimate; the files come from `tables.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from socrates.config import UNDECODED, DecodingSettings, RunConfig
from socrates.console import count
from socrates.errors import SocratesError
from socrates.evaluation.effect_model import EffectModel
from socrates.evaluation.evaluate import recorded_config
from socrates.evaluation.results import METRICS
from socrates.files import sha256_json, write_jsonl
from socrates.inference.run import InferenceRequest, run_inference, settings_of
from socrates.predict.compare import Tables, read_compared
from socrates.predict.experiment import Experiment, read_experiment
from socrates.predict.files import ANSWERS, Asked, check_folder, read_finished, write_finished
from socrates.predict.outcomes import QuestionPrediction, Reading, predict_index, predict_question
from socrates.predict.pilot import estimate_pilot, read_pilot
from socrates.predict.prompts import PromptPlan, kept_answer, plan_prompts
from socrates.report.results_folders import Results, decoding_text, read_results
from socrates.schema import raise_problems, validate

if TYPE_CHECKING:
    from socrates.inference.engine import Question


@dataclass(frozen=True)
class Prediction:
    """All that files and page are made from."""

    file: Path  # that describes the experiment
    plan: PromptPlan  # what was asked, and who
    questions: Sequence[QuestionPrediction]
    seed: int  # of personas, sampled answers and intervals
    pilot: pd.DataFrame  # see `estimate_pilot`; empty: there is neither a pilot nor a plan
    mixed_subjects: pd.DataFrame  # likewise, for R
    facts: Mapping[str, Any]  # what else is recorded: of people, probabilities, effects, the model and the asking
    evidence: Results | None  # of the model's accuracy; None: nothing was given
    others: Mapping[str, Tables]  # predictions of other models, see `compare.py`

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
    humans: Path | None = None,
    width: float | None = None,
    compared: Sequence[Path] = (),
    overwrite: bool = False,
) -> Prediction:
    """Ask a model about an experiment, or take the answers that the output folder holds already.

    ``model``, ``base_model`` and ``processes`` are those of `InferenceRequest`; all else is as in the script.
    With ``overwrite`` the prediction that the folder holds stays until there are new answers to all prompts.

    Raises:
        SocratesError: experiment, model or results cannot be used, or the folder holds something else.
    """
    check_folder(output)
    experiment = read_experiment(experiment_file)
    personas = experiment.population.personas(experiment_file.parent, seed, people)
    pilot = read_pilot(humans, experiment, seed) if humans else None
    plan = plan_prompts(experiment, personas, seed, None if pilot is None else pilot.people)
    config = recorded_config(model)
    settings = settings_of(config)
    evidence = read_results(results) if results is not None else None
    known = () if evidence is None else (evidence.metrics["about"].get("base_model"),)
    revision = config.model_revision if config else None
    request = InferenceRequest(model, output, settings, base_model, revision, processes, overwrite, known)
    if evidence is not None:
        _check_evidence(evidence, model, request.identity["model"])
    asked = {"prompts": plan.fingerprint, **request.identity}
    of_people = _people(experiment_file, experiment, plan, seed)
    others = read_compared(compared, output, asked, of_people)
    effects = _find_effects(evidence, settings.decoding)
    questions = request.questions((text, scale, key) for key, (text, scale) in enumerate(plan.prompts))
    _check_lengths(experiment_file, plan, questions, request, config)
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
    reading = Reading(temperature, effects, seed)
    predicted = {name: predict_question(name, answers, plan, reading) for name in experiment.questions}
    predicted |= {name: predict_index(name, predicted, plan, reading) for name in experiment.indices}
    facts = {
        "people": of_people,
        "probabilities": {
            "undecoded": temperature is not None,
            **(settings.decoding if temperature is None else UNDECODED).model_dump(),
            "calibration": {
                "temperature": None if undecoded else temperature,
                "from": evidence and str(evidence.folder),
            },
            **settings.prompt.model_dump(mode="json"),
        },
        "pilot": pilot and {"file": str(humans), "people": len(pilot.people)},
        "plan": width,
        "effects": effects if isinstance(effects, str) else effects.model_dump(),
        "model": {"name": model, **record.about},
        "asked": asked,
        "seconds": record.seconds,
    }
    wanted = predicted.values() if pilot or width else ()
    found = [estimate_pilot(one, plan.weights[one.personas], pilot, width, seed) for one in wanted]
    few, mixed = map(pd.concat, zip(*found, strict=True)) if found else (pd.DataFrame(), pd.DataFrame())
    return Prediction(experiment_file, plan, [*predicted.values()], seed, few, mixed, facts, evidence, others)


def _people(file: Path, experiment: Experiment, plan: PromptPlan, seed: int) -> dict[str, Any]:
    """What is recorded of who is asked."""
    population = experiment.population
    source = str(file.parent / population.csv) if population.csv else str(file) if population.listed else "margins"
    counted = {"personas": len(plan.personas), "profiles": len(plan.profiles), "seed": seed}
    return {"source": source, "sha256": sha256_json(plan.personas.to_csv(index=False)), **counted}


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


def _check_lengths(
    file: Path, plan: PromptPlan, questions: Sequence[Question], request: InferenceRequest, config: RunConfig | None
) -> None:
    """SocratesError where a prompt is longer than what the model was trained on, or can read."""
    limit, why = request.longest_prompt, f"{request.files.base_name} can read beside an answer"
    if config is not None and config.training.max_length < limit:
        limit, why = config.training.max_length, f"{request.model} was trained on (max_length)"
    longest: Counter[str] = Counter()
    for question in questions:
        condition, asked = plan.cells[question.key % len(plan.cells)]
        place = f'"conditions.{condition}" with "questions.{asked}"'
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
