"""A prediction to files: a record of all of it, tables for a statistics program, pictures and one page."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from socrates.evaluation.evaluate import PACKAGES
from socrates.files import atomic_write, write_json
from socrates.predict.estimates import DIFFERENCE, EXPECTED, MEAN, METHOD, PROBABILITY, SD, STANDARDIZED, sample_answers
from socrates.predict.files import PAGE, PROGRAM, RECORD, TABLES, pictures_in
from socrates.predict.page import COVERS, render
from socrates.predict.pictures import make_plots
from socrates.predict.population import FIELDS
from socrates.predict.predict import Prediction, QuestionPrediction
from socrates.report.html import write_page
from socrates.report.plot import styled

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_COLUMNS = {
    "distributions": ("condition", "question", "answer", "label", *PROBABILITY),
    "means": ("condition", "question", *MEAN, *SD, "personas", "valid_mass"),
    "differences": (
        *("question", "condition_a", "condition_b", "measure", "a", "b"),
        *(*DIFFERENCE, "by_chance", *STANDARDIZED, *EXPECTED),
    ),
}


def write_prediction(output: Path, prediction: Prediction) -> list[Path]:
    """Write all files that are made from the answers; returns the pictures' paths."""
    created = datetime.now(UTC)
    rng = np.random.default_rng([prediction.seed, len(FIELDS)])  # apart from those that make personas
    answers = pd.concat([_answers(one, prediction, rng) for one in prediction.questions])
    numbers = {name: _table(prediction, name) for name in _COLUMNS}
    for name, table in zip(TABLES, (answers, *numbers.values()), strict=True):
        with atomic_write(output / name) as file:
            _shown_as_text(table).to_csv(file, index=False, float_format="%.9g", lineterminator="\n")
    record = {
        "program": PROGRAM,
        "experiment": {"file": str(prediction.file), **prediction.plan.experiment.model_dump(exclude_unset=True)},
        **prediction.facts,
        **{name: table.astype(object).where(table.notna(), None).to_dict("records") for name, table in numbers.items()},
        "intervals": {**METHOD, "seed": prediction.seed, "covers": COVERS},
        "evidence": prediction.evidence and str(prediction.evidence.folder),
        "created": created.isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in PACKAGES},
    }
    write_json(output / RECORD, record)
    with styled():
        plots = [make_plots(one, place) for place, one in enumerate(prediction.questions, start=1)]
    pictures = {output / f"predict-{plot.name}.png": plot.png for of_question in plots for plot in of_question}
    write_page(output / PAGE, render(prediction, plots, created.astimezone()), pictures, pictures_in(output))
    return list(pictures)


def _shown_as_text(table: pd.DataFrame) -> pd.DataFrame:
    """The table for a spreadsheet: a text that it would compute (`=…`) begins with an apostrophe, which it hides."""
    texts = table.select_dtypes(exclude="number").columns
    return table.assign(**{name: table[name].map(_cell, na_action="ignore") for name in texts})


def _cell(value: Any) -> Any:
    computed = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if computed and not _NUMBER.fullmatch(value) else value


def _answers(one: QuestionPrediction, prediction: Prediction, rng: np.random.Generator) -> pd.DataFrame:
    """A line for each condition and persona; ``answer`` is sampled from the probabilities."""
    values, people = np.array(one.question.answers.values, np.float64), prediction.plan.personas
    centre = values.mean()
    tables = []
    for condition, name in enumerate(prediction.plan.experiment.conditions):
        shares = one.probabilities[condition]
        mean = shares @ (values - centre)
        sd = np.sqrt(np.maximum(shares @ (values - centre) ** 2 - mean**2, 0.0))
        sampled = sample_answers(values, shares, rng)
        numbers = pd.DataFrame({"mean": mean + centre, "sd": sd, "answer": sampled}, index=one.personas)
        table = people.assign(condition=name, question=one.name).join(numbers)
        tables.append(table.assign(valid_mass=one.valid_mass[condition]))
    return pd.concat(tables).rename_axis("persona").rename(index=lambda place: place + 1).reset_index()


def _table(prediction: Prediction, name: str) -> pd.DataFrame:
    table = pd.concat([getattr(one, name).assign(question=one.name) for one in prediction.questions])
    unknown = dict.fromkeys(set(EXPECTED) - set(table), np.nan)  # where nothing is expected of people
    return table.assign(**unknown)[[*_COLUMNS[name]]]
