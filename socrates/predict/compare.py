"""Predictions of one experiment by several models, side by side; each number has the interval of its own prediction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from socrates.console import count
from socrates.errors import SocratesError
from socrates.files import read_json
from socrates.inference.journal import differing
from socrates.predict.estimates import DIFFERENCE
from socrates.predict.files import RECORD
from socrates.report.plot import Plot, Point, draw_points, short
from socrates.report.results_folders import values_in

Tables = Mapping[str, pd.DataFrame]  # as `predict.json` has them
CELL, PAIR = ["question", "condition"], ["question", "name"]
_NUMBERS = {  # of each table: the number, and what says whose it is
    "means": ("mean", CELL),
    "distributions": ("probability", [*CELL, "answer"]),
    "differences": ("difference", PAIR),
}


def read_compared(
    folders: Sequence[Path], output: Path, asked: Mapping[str, Any], people: Mapping[str, Any]
) -> dict[str, Tables]:
    """The tables of finished predictions by their folders' names; the other arguments are the subject's.

    Raises:
        SocratesError: no or a malformed `predict.json`, with file and key; of other prompts or people; a name twice.
    """
    found: dict[str, Tables] = {}
    for folder in folders:
        record, part, tables = read_json(path := folder / RECORD, "prediction"), "asked", {}
        try:
            theirs = {**record["people"], "source": None, "prompts": record["asked"]["prompts"]}
            for part, (number, names) in _NUMBERS.items():
                table = pd.DataFrame(record[part], columns=[*names, number, "low", "high"])
                tables[part] = table.astype(dict.fromkeys((number, "low", "high"), float))
                if lacking := {*table.columns[table.isna().any()]} - {"low", "high", "mean"}:  # options have no mean
                    raise ValueError(f"lacks {', '.join(sorted(lacking))}")
        except (KeyError, TypeError, ValueError) as error:
            raise SocratesError(f'{path}, "{part}": not as scripts/predict.py writes it: {error}') from error
        if others := differing(theirs, {**people, "source": None, "prompts": asked["prompts"]}):
            remedy = "predict this with its model, the same --people, --seed and --humans, and --compare that --output"
            raise SocratesError(f"--compare {folder}: is of other texts or people: {others}; {remedy}")
        if (label := folder.resolve().name) in (*found, output.resolve().name):
            raise SocratesError(f"--compare {folder}: another folder is called {label}, too; rename one")
        found[label] = tables
    return found


def compare(models: Mapping[str, Tables], nominal: Collection[str]) -> tuple[Tables, list[str]]:
    """The tables of all models as one each, with a column `model`; and a sentence on what changed to the last model.

    In `means`, `distance` in [0, 1] is between a model's answers and the last one's: Wasserstein by the scale's range,
    or, of the ``nominal`` questions, total variation.

    Raises:
        SocratesError: conditions or questions do not have the same names.
    """
    stacked = {part: pd.concat([one[part].assign(model=name) for name, one in models.items()]) for part in _NUMBERS}
    (*others, own), apart = models, []
    for (question, condition), shares in stacked["distributions"].groupby(CELL, sort=False):
        table = shares.pivot(index="answer", columns="model", values="probability")
        if {*models} != {*table}:
            lacks = f'{min({*models} - {*table})} has no question "{question}" in a condition "{condition}"'
            raise SocratesError(f"--compare: {lacks}; make it again on this experiment: nothing is asked again")
        moved, steps = table.sub(table[own], axis=0), np.diff(table.index) / np.ptp(table.index)
        distance = moved.abs().sum() / 2 if question in nominal else steps @ moved.cumsum()[:-1].abs()
        apart.append(distance.rename("distance").reset_index().assign(question=question, condition=condition))
    stacked["means"] = stacked["means"].merge(pd.concat(apart), how="left")
    moved = stacked["means"].groupby("model")["distance"].mean()
    wide = stacked["differences"].pivot(index=PAIR, columns="model", values="difference").reindex(columns=[*models])
    return stacked, [
        f"From {other} to {own}, answers moved by {moved[other]:.2f} on average (0: not at all, 1: from end to end); "
        f"of {count(len(wide), 'difference')}, {(wide[other] * wide[own] < 0).sum()} changed direction."
        for other in others
    ]


def draw_compared(question: str, differences: pd.DataFrame, name: str, unit: str) -> Plot:
    """The differences of one question, at most 24, each with a point a model; ``unit`` in words."""
    points = []
    for compared, one in [*differences.groupby("name", sort=False)][:24]:
        points.append(Point(compared))
        points += [Point(model, *value) for model, value in zip(one["model"], values_in(one, DIFFERENCE), strict=True)]
    return draw_points(f"By model: {short(question)}", points, unit, lines={"no difference": 0.0}, digits=2, name=name)
