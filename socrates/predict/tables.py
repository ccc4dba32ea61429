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
from socrates.files import atomic_write, remove_file, write_json
from socrates.predict.compare import compare, draw_compared
from socrates.predict.estimates import DIFFERENCE, EXPECTED, MEAN, METHOD, PROBABILITY, SD, STANDARDIZED, sample_answers
from socrates.predict.files import IF_ANY, PAGE, PROGRAM, RECORD, TABLES, pictures_in
from socrates.predict.page import COVERS, compared_tables, render
from socrates.predict.pictures import make_plots
from socrates.predict.population import FIELDS
from socrates.predict.predict import Prediction
from socrates.report.html import write_page
from socrates.report.plot import styled

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_COLUMNS = {
    "distributions": ("condition", "question", "answer", "label", *PROBABILITY),
    "means": ("condition", "question", *MEAN, *SD, "personas", "valid_mass"),
    "codes": ("condition", "question", "answer", "label", *PROBABILITY),
    "differences": (
        *("question", "effect", "condition_a", "condition_b", "measure", "name", "a", "b"),
        *(*DIFFERENCE, "by_chance", *STANDARDIZED, *EXPECTED),
    ),
}


def write_prediction(output: Path, prediction: Prediction) -> list[Path]:
    """Write all files that are made from the answers; returns the pictures' paths."""
    created = datetime.now(UTC)
    rng = np.random.default_rng([prediction.seed, len(FIELDS)])  # apart from those that make personas
    answers = _answers(prediction, rng)
    numbers = {name: _table(prediction, name) for name in _COLUMNS}
    written = dict(zip(TABLES, (answers, *numbers.values()), strict=True))
    written |= {"pilot.csv": prediction.pilot, "mixed_subjects.csv": prediction.mixed_subjects}
    for name, table in written.items():
        if name in IF_ANY and table.empty:
            remove_file(output / name)
            continue
        with atomic_write(output / name) as file:
            _shown_as_text(table).to_csv(
                file, index=False, float_format="%.9g", lineterminator="\n", na_rep="NA" * name.startswith("mixed")
            )
    record = {
        "program": PROGRAM,
        "experiment": {"file": str(prediction.file), **prediction.plan.experiment.model_dump(exclude_unset=True)},
        **prediction.facts,
        **{
            name: table.astype(object).where(table.notna(), None).to_dict("records")
            for name, table in {**numbers, "estimates": prediction.pilot}.items()
        },
        "intervals": {**METHOD, "seed": prediction.seed, "covers": COVERS},
        "evidence": prediction.evidence and str(prediction.evidence.folder),
        "created": created.isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in PACKAGES},
    }
    write_json(output / RECORD, record)
    names = [one.name for one in prediction.questions]
    nominal = [one.name for one in prediction.questions if one.question.nominal]
    with styled():
        plots = [make_plots(one, place) for place, one in enumerate(prediction.questions, start=1)]
        compared = None
        if prediction.others:
            tables, told = compare({**prediction.others, output.resolve().name: numbers}, nominal)
            drawn = [
                draw_compared(name, one, f"compared-{1 + names.index(name)}", "difference")
                for name, one in tables["differences"].groupby("question", sort=False)
                if name in names
            ]
            compared = {"tables": compared_tables(tables, nominal), "told": told, "plots": drawn}
    every = [plot for of_question in plots for plot in of_question] + (compared["plots"] if compared else [])
    pictures = {output / f"predict-{plot.name}.png": plot.png for plot in every}
    page = render(prediction, plots, compared, created.astimezone())
    write_page(output / PAGE, page, pictures, pictures_in(output))
    return list(pictures)


def _shown_as_text(table: pd.DataFrame) -> pd.DataFrame:
    """The table for a spreadsheet: a text that it would compute (`=…`) begins with an apostrophe, which it hides."""
    texts = table.select_dtypes(exclude="number").columns
    return table.assign(**{name: table[name].map(_cell, na_action="ignore") for name in texts})


def _cell(value: Any) -> Any:
    computed = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if computed and not _NUMBER.fullmatch(value) else value


def _answers(prediction: Prediction, rng: np.random.Generator) -> pd.DataFrame:
    """A line for each question, condition and persona; ``answer`` is sampled from the probabilities.

    Without codes; of an index ``answer`` is the mean of its items' sampled ones.
    """
    people, tables = prediction.plan.personas, []
    sampled: dict[tuple[str, str], pd.Series] = {}
    for one in prediction.questions:
        values, moments = np.array(one.question.answers.values, np.float64), one.moments
        means, variances = moments.describe()
        for place, condition in enumerate(one.conditions):
            if one.index is None:
                drawn = pd.Series(sample_answers(values, one.probabilities[place], rng), one.personas)
            else:
                turned = {item: values[0] + values[-1] - sampled[item, condition] for item in one.index.reversed}
                of_items = [turned.get(item, sampled[item, condition]) for item in one.index.items]
                drawn = pd.concat(of_items, axis=1).loc[one.personas].mean(axis=1)
            sampled[one.name, condition] = drawn
            numbers = pd.DataFrame({"mean": np.nan, "sd": np.nan, "answer": drawn}, index=one.personas)
            if not moments.shares:
                numbers["mean"], numbers["sd"] = means[0, place] + moments.centre, np.sqrt(variances[0, place])
            table = people.assign(condition=condition, question=one.name).join(numbers)
            tables.append(table.assign(valid_mass=one.valid_mass[place]))
    return pd.concat(tables).rename_axis("persona").rename(index=lambda place: place + 1).reset_index()


def _table(prediction: Prediction, name: str) -> pd.DataFrame:
    table = pd.concat([getattr(one, name).assign(question=one.name) for one in prediction.questions])
    unknown = dict.fromkeys(set(EXPECTED) - set(table), np.nan)  # where nothing is expected of people
    return table.assign(**unknown)[[*_COLUMNS[name]]]
