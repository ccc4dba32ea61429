"""A prediction to files: tables for a statistics program, a record of all of it, pictures and one page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from socrates.files import atomic_write, write_json
from socrates.predict.estimates import MEAN, METHOD, RESAMPLES, Difference, Number, sample_answers
from socrates.predict.experiment import OutcomeQuestion
from socrates.predict.files import PAGE, PROGRAM, RECORD, remove_pictures, write_csv
from socrates.predict.page import COVERS, render
from socrates.predict.pictures import make_plots
from socrates.predict.population import FIELDS
from socrates.predict.predict import Prediction, QuestionPrediction
from socrates.report.plot import styled

_PACKAGES = ("torch", "transformers", "peft", "numpy", "scipy")


def write_prediction(output: Path, prediction: Prediction) -> list[Path]:
    """Write all files that are made from the answers; returns the pictures' paths."""
    for name, heads, rows in (
        ("predictions.csv", *_predictions(prediction)),
        ("distributions.csv", _DISTRIBUTIONS, _distributions(prediction)),
        ("means.csv", _MEANS, _means(prediction)),
        ("differences.csv", _DIFFERENCES, _differences(prediction)),
    ):
        write_csv(output / name, heads, rows)
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


_DISTRIBUTIONS = ("condition", "question", "answer", "label", "probability", "low", "high")
_MEANS = ("condition", "question", "mean", "low", "high", "sd", "sd_low", "sd_high", "personas", "valid_mass")
_DIFFERENCES = (
    *("question", "condition_a", "condition_b", "measure", "a", "b"),
    *("difference", "low", "high", "by_chance", "standardized", "standardized_low", "standardized_high"),
)


def _predictions(prediction: Prediction) -> tuple[tuple[str, ...], Iterator[tuple[Any, ...]]]:
    """One line for each persona, condition and question; ``answer`` is sampled from the probabilities."""
    known = {field for persona in prediction.personas for field in persona.demographic}
    fields = [field for field in FIELDS if field in known]
    heads = ("persona", "weight", *fields, "condition", "question", "mean", "sd", "answer", "valid_mass")

    def rows() -> Iterator[tuple[Any, ...]]:
        rng = np.random.default_rng([prediction.seed, len(FIELDS)])  # apart from those that make personas
        names = list(prediction.experiment.conditions)
        for one in prediction.questions:
            answers = one.answers
            centre = answers.values.mean()
            place = {int(persona): row for row, persona in enumerate(answers.personas)}
            for condition, name in enumerate(names):
                table = answers.probabilities[condition]
                mean = table @ (answers.values - centre)
                sd = np.sqrt(np.maximum(table @ (answers.values - centre) ** 2 - mean**2, 0.0))
                sampled = sample_answers(answers.values, table, rng)
                for index, persona in enumerate(prediction.personas):
                    row = place.get(index)
                    numbers = (
                        (None, None, None)
                        if row is None
                        else (float(mean[row] + centre), float(sd[row]), int(sampled[row]))
                    )
                    yield (
                        index + 1,
                        persona.weight,
                        *(persona.demographic.get(field) for field in fields),
                        name,
                        answers.question.name,
                        *numbers,
                        float(answers.valid_mass[condition, index]),
                    )

    return heads, rows()


def _distributions(prediction: Prediction) -> Iterator[tuple[Any, ...]]:
    for one, condition, estimate in _by_condition(prediction):
        question = one.answers.question
        for value, share in zip(question.scale.values, estimate.shares, strict=True):
            yield condition, question.name, value, question.labels.get(value), *_flat(share)


def _means(prediction: Prediction) -> Iterator[tuple[Any, ...]]:
    for index, (one, condition, estimate) in enumerate(_by_condition(prediction)):
        mass = one.valid_mass[index % len(prediction.experiment.conditions)]
        yield (
            *(condition, one.answers.question.name),
            *(*_flat(estimate.mean), *_flat(estimate.sd)),
            *(len(one.answers.personas), float(mass)),
        )


def _differences(prediction: Prediction) -> Iterator[tuple[Any, ...]]:
    names = list(prediction.experiment.conditions)
    for one in prediction.questions:
        for found in one.differences:
            yield (
                *(one.answers.question.name, names[found.a], names[found.b]),
                *(measure_name(found, one.answers.question), found.of_a, found.of_b),
                *(*_flat(found.difference), found.by_chance, *_flat(found.standardized)),
            )


def measure_name(difference: Difference, question: OutcomeQuestion) -> str:
    """What is compared, in words."""
    if difference.measure == MEAN:
        return MEAN
    return f"share of {difference.measure} ({question.labels[int(difference.measure)]})"


def _by_condition(prediction: Prediction) -> Iterator[tuple[QuestionPrediction, str, Any]]:
    for one in prediction.questions:
        for condition, estimate in zip(prediction.experiment.conditions, one.conditions, strict=True):
            yield one, condition, estimate


def _flat(number: Number) -> tuple[float | None, float | None, float | None]:
    return number.value, *(number.limits or (None, None))


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
    names: Sequence[str] = list(prediction.experiment.conditions)
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
