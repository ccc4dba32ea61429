"""Distances: W of the baseline and of each checkpoint, between uniform guess and empirical best; other numbers."""

from __future__ import annotations

from typing import Any

from socrates.report.html import Table
from socrates.report.plot import Point, draw_points
from socrates.report.results_folders import Material, comparability_differences

_NUMBERS = {
    "W, Wasserstein distance (0 best)": ("wasserstein_distance",),
    "W without a draw": ("wasserstein_expected",),
    "W on the stated scale": ("wasserstein_stated_scale",),
    "W of a uniform guess": ("bounds", "uniform_guess"),
    "W at best (people against people)": ("bounds", "empirical_best"),
    "share of the way to the best (1 best)": ("bounds", "share_of_the_way"),
    "individual accuracy (1 best)": ("accuracy",),
    "accuracy of each question's average": ("bounds", "marginal_accuracy"),
    "mean absolute error (0 best)": ("mae",),
    "root mean squared error (0 best)": ("rmse",),
    "correlation (1 best)": ("correlation",),
    "correlation within cells": ("correlation_within_cells",),
    "dispersion (model sd / human sd, 1 right)": ("dispersion",),
    "mass on valid answers (1 best)": ("valid_mass",),
}


def distances_part(material: Material) -> dict[str, Any]:
    """The picture of all results, in the order of their steps where they have some, and a table of all numbers."""
    subject, baseline = material.subject, material.baseline
    same = [one for one in material.all if not comparability_differences(one, subject)]
    steps = {one.label: 0 if one is baseline and one.step is None else one.step for one in same}
    ordered = same if None in steps.values() else sorted(same, key=lambda one: steps[one.label])
    bounds = {"uniform guess": "uniform_guess", "empirical best": "empirical_best"}
    plot = draw_points(
        "W, lower is better",
        [Point(one.label, *one.distance) for one in ordered],
        "W",
        lines={name: subject.value("bounds", key).value for name, key in bounds.items()},
        name="distances",
    )
    labels = [one.label for one in material.all]
    rows = [(name, *(str(one.value(*keys)) for one in material.all)) for name, keys in _NUMBERS.items()]
    return {
        "left_out": [one.label for one in material.all if one not in same],
        "plots": (plot,),
        "tables": (Table(("number [95% interval]", *labels), tuple(rows), title="All numbers"),),
    }
