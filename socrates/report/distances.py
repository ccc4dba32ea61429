"""Distances: W of the baseline and of each checkpoint, between uniform guess and empirical best; other numbers."""

from __future__ import annotations

from typing import Any

from socrates.console import NUMBERS
from socrates.report.html import Table
from socrates.report.plot import Point, draw_points
from socrates.report.results_folders import Material, comparability_differences, value_at


def distances_part(material: Material) -> dict[str, Any]:
    """The picture of all results that may be compared, and a table of all numbers."""
    subject, labels = material.subject, [one.label for one in material.all]
    same = [one for one in material.all if not comparability_differences(one, subject)]
    bounds = {"uniform guess": "uniform_guess", "empirical best": "empirical_best"}
    plot = draw_points(
        "W, lower is better",
        [Point(one.label, *one.distance) for one in same],
        "W",
        lines={name: subject.value("bounds", key).value for name, key in bounds.items()},
        name="distances",
    )
    numbers = [{**one.metrics, **one.metrics["bounds"]} for one in material.all]
    named = {**NUMBERS, "valid_mass": "Mass on valid answers"}
    rows = tuple(
        (name.replace("  ", "… "), *(str(value_at(one, key)) for one in numbers)) for key, name in named.items()
    )
    return {
        "left_out": [one.label for one in material.all if one not in same],
        "plots": (plot,),
        "tables": (Table(("number [95% interval]", *labels), tuple(rows), title="All numbers"),),
    }
