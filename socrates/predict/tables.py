"""A prediction to files: tables for a statistics program, a record of all of it, pictures and one page."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from socrates.files import atomic_write, write_json
from socrates.predict.estimates import MEAN, METHOD, RESAMPLES, Difference, Number, sample_answers
from socrates.predict.experiment import OutcomeQuestion
from socrates.predict.files import PAGE, PROGRAM, RECORD, remove_pictures
from socrates.predict.page import COVERS, render
from socrates.predict.pictures import make_plots
from socrates.predict.population import FIELDS
from socrates.predict.predict import Prediction, QuestionPrediction
from socrates.report.plot import styled

_PACKAGES = ("torch", "transformers", "peft", "numpy", "scipy")


def write_prediction(output: Path, prediction: Prediction) -> list[Path]:
    """Write all files that are made from the answers; returns the pictures' paths."""
    rng = np.random.default_rng([prediction.seed, len(FIELDS)])  # apart from those that make personas
    tables = {
        "predictions.csv": pd.concat([_answers(one, prediction, rng) for one in prediction.questions]),
        "distributions.csv": pd.DataFrame(_distributions(prediction)),
        "means.csv": pd.DataFrame(_means(prediction)),
        "differences.csv": pd.DataFrame(_differences(prediction), columns=_DIFFERENCES),
    }
    for name, table in tables.items():
        with atomic_write(output / name) as file:
            table.to_csv(file, index=False, float_format="%.9g", lineterminator="\n")
    created = datetime.now(UTC)
    write_json(output / RECORD, _record(prediction, created))
    with styled():
        plots = make_plots(prediction)
    remove_pictures(output)
    pictures = []
    for plot in (plot for of_question in plots for plot in of_question):
        path = output / f"predict-{plot.name}.png"
        with atomic_write(path, "wb") as file:
            file.write(plot.png)
        pictures.append(path)
    with atomic_write(output / PAGE) as file:
        file.write(render(prediction, plots, created.astimezone()))
    return pictures


_DIFFERENCES = (  # the table has these columns with a single condition, too
    *("question", "condition_a", "condition_b", "measure", "a", "b"),
    *("difference", "low", "high", "by_chance", "standardized", "standardized_low", "standardized_high"),
)


def _answers(one: QuestionPrediction, prediction: Prediction, rng: np.random.Generator) -> pd.DataFrame:
    """A line for each condition and persona; ``answer`` is sampled from the probabilities."""
    answers, personas = one.answers, prediction.personas
    known = {field for persona in personas for field in persona.demographic}
    people = pd.DataFrame({"persona": range(1, len(personas) + 1), "weight": [persona.weight for persona in personas]})
    for field in (field for field in FIELDS if field in known):
        people[field] = [persona.demographic.get(field) for persona in personas]
    centre = answers.values.mean()
    tables = []
    for condition, name in enumerate(prediction.experiment.conditions):
        shares = answers.probabilities[condition]
        mean = shares @ (answers.values - centre)
        sd = np.sqrt(np.maximum(shares @ (answers.values - centre) ** 2 - mean**2, 0.0))
        sampled = sample_answers(answers.values, shares, rng)
        numbers = pd.DataFrame({"mean": mean + centre, "sd": sd, "answer": sampled}, index=answers.personas)
        table = people.assign(condition=name, question=answers.question.name).join(numbers)
        tables.append(table.assign(valid_mass=answers.valid_mass[condition]))
    return pd.concat(tables)


def _distributions(prediction: Prediction) -> Iterator[dict[str, Any]]:
    for one, condition, estimate in _by_condition(prediction):
        question = one.answers.question
        for value, share in zip(question.scale.values, estimate.shares, strict=True):
            names = {"condition": condition, "question": question.name}
            yield {**names, "answer": value, "label": question.labels.get(value), **_flat("probability", share)}


def _means(prediction: Prediction) -> Iterator[dict[str, Any]]:
    for index, (one, condition, estimate) in enumerate(_by_condition(prediction)):
        yield {
            "condition": condition,
            "question": one.answers.question.name,
            **_flat("mean", estimate.mean),
            **_flat("sd", estimate.sd, "sd_"),
            "personas": len(one.answers.personas),
            "valid_mass": one.valid_mass[index % len(prediction.experiment.conditions)],
        }


def _differences(prediction: Prediction) -> Iterator[dict[str, Any]]:
    names = list(prediction.experiment.conditions)
    for one in prediction.questions:
        for found in one.differences:
            yield {
                "question": one.answers.question.name,
                "condition_a": names[found.a],
                "condition_b": names[found.b],
                "measure": measure_name(found, one.answers.question),
                "a": found.of_a,
                "b": found.of_b,
                **_flat("difference", found.difference),
                "by_chance": found.by_chance,
                **_flat("standardized", found.standardized, "standardized_"),
            }


def measure_name(difference: Difference, question: OutcomeQuestion) -> str:
    """What is compared, in words."""
    if difference.measure == MEAN:
        return MEAN
    return f"share of {difference.measure} ({question.labels[int(difference.measure)]})"


def _by_condition(prediction: Prediction) -> Iterator[tuple[QuestionPrediction, str, Any]]:
    for one in prediction.questions:
        for condition, estimate in zip(prediction.experiment.conditions, one.conditions, strict=True):
            yield one, condition, estimate


def _flat(name: str, number: Number, prefix: str = "") -> dict[str, float | None]:
    low, high = number.limits or (None, None)
    return {name: number.value, f"{prefix}low": low, f"{prefix}high": high}


def _both(name: str, number: Number) -> dict[str, Any]:
    return {name: number.value, f"{name}_ci95": None if number.limits is None else list(number.limits)}


def _record(prediction: Prediction, created: datetime) -> dict[str, Any]:
    experiment, decoding = prediction.experiment, prediction.settings.decoding
    return {
        "program": PROGRAM,
        "experiment": {
            "file": str(experiment.file),
            "title": experiment.title,
            "note": experiment.note,
            "conditions": dict(experiment.conditions),
            "questions": {
                question.name: {
                    "text": question.text,
                    "scale": str(question.scale),
                    "labels": {str(value): label for value, label in sorted(question.labels.items())},
                    "options": question.options,
                    "instruction": question.instruction,
                }
                for question in experiment.questions
            },
        },
        "people": {
            "source": str(experiment.population) if isinstance(experiment.population, Path) else "margins",
            "personas": len(prediction.personas),
            "profiles": len(prediction.plan.profiles),
            "seed": prediction.seed,
        },
        "probabilities": {
            "undecoded": prediction.undecoded,
            "temperature": 1.0 if prediction.undecoded else decoding.temperature,
            "top_p": 1.0 if prediction.undecoded else decoding.top_p,
            "system_message": prediction.settings.prompt.system_message,
        },
        "model": dict(prediction.model),
        "questions": {one.answers.question.name: _question(one, prediction) for one in prediction.questions},
        "intervals": {"method": METHOD, "resamples": RESAMPLES, "seed": prediction.seed, "covers": COVERS},
        "evidence": _evidence(prediction),
        "asked": dict(prediction.asked),
        "seconds": prediction.seconds,
        "created": created.isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in _PACKAGES},
    }


def _question(one: QuestionPrediction, prediction: Prediction) -> dict[str, Any]:
    names = list(prediction.experiment.conditions)
    question = one.answers.question
    return {
        "personas": len(one.answers.personas),
        "without_an_answer": len(prediction.personas) - len(one.answers.personas),
        "conditions": {
            name: {
                **_both("mean", estimate.mean),
                **_both("sd", estimate.sd),
                "distribution": {
                    str(value): _both("probability", share)
                    for value, share in zip(question.scale.values, estimate.shares, strict=True)
                },
            }
            for name, estimate in zip(names, one.conditions, strict=True)
        },
        "differences": [
            {
                "condition_a": names[found.a],
                "condition_b": names[found.b],
                "measure": measure_name(found, question),
                "a": found.of_a,
                "b": found.of_b,
                **_both("difference", found.difference),
                "by_chance": found.by_chance,
                **_both("standardized", found.standardized),
            }
            for found in one.differences
        ],
    }


def _evidence(prediction: Prediction) -> dict[str, Any] | None:
    evidence = prediction.evidence
    if evidence is None:
        return None
    return {
        "results": str(evidence.folder),
        "studies": evidence.count("coverage", "studies_scored"),
        "wasserstein_distance": evidence.value("wasserstein_distance").value,
        "uniform_guess": evidence.value("bounds", "uniform_guess").value,
        "empirical_best": evidence.value("bounds", "empirical_best").value,
        "effect_correlation": evidence.value("effects", "correlation").value,
        "effect_sign_agreement_clear": evidence.value("effects", "sign_agreement_clear").value,
        "seen_rows": evidence.seen_rows,
    }
