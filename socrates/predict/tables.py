"""A prediction to files: a record of all of it, tables for a statistics program, pictures and one page."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from socrates.files import atomic_write, write_json
from socrates.predict.estimates import MEAN, METHOD, RESAMPLES, sample_answers
from socrates.predict.files import PAGE, PROGRAM, RECORD, TABLES, pictures_in
from socrates.predict.page import COVERS, render
from socrates.predict.pictures import make_plots
from socrates.predict.population import FIELDS
from socrates.predict.predict import Prediction, QuestionPrediction
from socrates.report.html import write_page
from socrates.report.plot import styled
from socrates.report.results_folders import Value

_PACKAGES = ("torch", "transformers", "peft", "numpy", "scipy")
_DIFFERENCES = (  # the table has these columns with a single condition, too
    *("question", "condition_a", "condition_b", "measure", "a", "b"),
    *("difference", "low", "high", "by_chance", "standardized", "standardized_low", "standardized_high"),
)


def write_prediction(output: Path, prediction: Prediction) -> list[Path]:
    """Write all files that are made from the answers; returns the pictures' paths."""
    created = datetime.now(UTC)
    record = _record(prediction, created)
    rng = np.random.default_rng([prediction.seed, len(FIELDS)])  # apart from those that make personas
    answers = pd.concat([_answers(one, prediction, rng) for one in prediction.questions])
    for name, table in zip(TABLES, (answers, *_tables(prediction, record["questions"])), strict=True):
        with atomic_write(output / name) as file:
            table.to_csv(file, index=False, float_format="%.9g", lineterminator="\n")
    write_json(output / RECORD, record)
    with styled():
        plots = make_plots(prediction)
    pictures = {output / f"predict-{plot.name}.png": plot.png for of_question in plots for plot in of_question}
    write_page(output / PAGE, render(prediction, plots, created.astimezone()), pictures, pictures_in(output))
    return list(pictures)


def _answers(one: QuestionPrediction, prediction: Prediction, rng: np.random.Generator) -> pd.DataFrame:
    """A line for each condition and persona; ``answer`` is sampled from the probabilities."""
    values, personas = np.array(one.question.scale.values, np.float64), prediction.personas
    known = {field for persona in personas for field in persona.demographic}
    people = pd.DataFrame({"persona": range(1, len(personas) + 1), "weight": [persona.weight for persona in personas]})
    for field in (field for field in FIELDS if field in known):
        people[field] = [persona.demographic.get(field) for persona in personas]
    centre = values.mean()
    tables = []
    for condition, name in enumerate(prediction.experiment.conditions):
        shares = one.probabilities[condition]
        mean = shares @ (values - centre)
        sd = np.sqrt(np.maximum(shares @ (values - centre) ** 2 - mean**2, 0.0))
        sampled = sample_answers(values, shares, rng)
        numbers = pd.DataFrame({"mean": mean + centre, "sd": sd, "answer": sampled}, index=one.personas)
        table = people.assign(condition=name, question=one.question.name).join(numbers)
        tables.append(table.assign(valid_mass=one.valid_mass[condition]))
    return pd.concat(tables)


def _tables(prediction: Prediction, recorded: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Distributions, means and differences as the record has them, an interval in two columns."""
    distributions, means, differences = [], [], []
    for one in prediction.questions:
        question, record = one.question, recorded[one.question.name]
        for (condition, numbers), mass in zip(record["conditions"].items(), one.mean_mass, strict=True):
            names = {"condition": condition, "question": question.name}
            for answer, share in numbers["distribution"].items():
                label = question.labels.get(int(answer))
                distributions.append({**names, "answer": int(answer), "label": label, **_columns(share)})
            means.append({**names, **_columns(numbers), "personas": record["personas"], "valid_mass": mass})
        differences += [{"question": question.name, **_columns(numbers)} for numbers in record["differences"]]
    return pd.DataFrame(distributions), pd.DataFrame(means), pd.DataFrame(differences, columns=_DIFFERENCES)


def _columns(numbers: dict[str, Any]) -> dict[str, Any]:
    columns = {}
    for name, value in numbers.items():
        if name.endswith("_ci95"):
            of = name.removesuffix("ci95")
            prefix = of if of in ("sd_", "standardized_") else ""  # a second number of the line
            columns[f"{prefix}low"], columns[f"{prefix}high"] = value or (None, None)
        elif name != "distribution":
            columns[name] = value
    return columns


def _number(name: str, number: Value) -> dict[str, Any]:
    return {name: number.value, f"{name}_ci95": number.limits and list(number.limits)}


def _record(prediction: Prediction, created: datetime) -> dict[str, Any]:
    experiment = prediction.experiment
    return {
        "program": PROGRAM,
        "experiment": {"file": str(experiment.file), **experiment.described},
        **prediction.facts,
        "questions": {one.question.name: _question(one, prediction) for one in prediction.questions},
        "intervals": {"method": METHOD, "resamples": RESAMPLES, "seed": prediction.seed, "covers": COVERS},
        "evidence": _evidence(prediction),
        "created": created.isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in _PACKAGES},
    }


def _question(one: QuestionPrediction, prediction: Prediction) -> dict[str, Any]:
    names, question = list(prediction.experiment.conditions), one.question
    conditions = {
        name: {
            **_number("mean", estimate.mean),
            **_number("sd", estimate.sd),
            "distribution": {
                str(value): _number("probability", share)
                for value, share in zip(question.scale.values, estimate.shares, strict=True)
            },
        }
        for name, estimate in zip(names, one.conditions, strict=True)
    }
    differences = [
        {
            "condition_a": names[found.a],
            "condition_b": names[found.b],
            "measure": f"share of {found.measure} ({question.labels[found.measure]})" if question.options else MEAN,
            "a": found.of_a,
            "b": found.of_b,
            **_number("difference", found.difference),
            "by_chance": found.by_chance,
            **_number("standardized", found.standardized),
        }
        for found in one.differences
    ]
    return {
        "personas": len(one.personas),
        "without_an_answer": len(prediction.personas) - len(one.personas),
        "conditions": conditions,
        "differences": differences,
    }


def _evidence(prediction: Prediction) -> dict[str, Any] | None:
    if (evidence := prediction.evidence) is None:
        return None
    names = {
        "studies": ("coverage", "studies_scored"),
        "wasserstein_distance": ("wasserstein_distance",),
        "uniform_guess": ("bounds", "uniform_guess"),
        "empirical_best": ("bounds", "empirical_best"),
        "effect_correlation": ("effects", "correlation"),
        "effect_sign_agreement_clear": ("effects", "sign_agreement_clear"),
        "seen_rows": ("seen", "rows"),
    }
    found = {name: evidence.value(*keys).value for name, keys in names.items()}
    whole = {name: int(found[name]) for name in ("studies", "seen_rows") if found[name] is not None}
    return {"results": str(evidence.folder), **found, **whole}
