"""Distances: the gate's decision as recorded; W of the baseline and of each checkpoint, between its bounds.

The report decides nothing: where `decision.json` is of other numbers than `metrics.json`, it says so and shows none.
"""

from __future__ import annotations

from typing import Any

from socrates.console import DIGITS, NOMINAL, NUMBERS, all_numbers, people_worth
from socrates.report.html import Table
from socrates.report.plot import Point, draw_points
from socrates.report.results_folders import Material, Value, comparability_differences, limits_in_words, value_at

_SAME = 1e-9


def decision_part(material: Material) -> dict[str, Any]:
    """The decision, or why none is shown, and what must not be compared."""
    made, baseline, subject = material.subject.decision, material.baseline, material.subject
    differing = comparability_differences(baseline, subject) if baseline else []
    other = None
    for role, results in (("checkpoint", subject), ("baseline", baseline)) if made else ():
        recorded = getattr(made, f"{role}_distance")
        if results is not None and abs(recorded - results.distance.value) > _SAME:
            has = f"where {results.label} has {results.distance.value:.6g}"
            other = other or f"The recorded decision is of other numbers: a W of {recorded:.6g} for the {role}, {has}."
    if other or made is None:
        return {"made": None, "other": other, "differing": differing, "plots": ()}
    better, limits = made.improvement_percent >= 0, made.improvement_ci95
    plot = draw_points(
        f"{made.decision}: improvement and threshold",
        [Point(subject.label, made.improvement_percent, limits)],
        "improvement on the baseline, percent",
        lines={"no change": 0.0, "threshold": made.threshold_percent},
        digits=1,
        name="decision",
    )
    return {
        "made": made,
        "differing": differing,
        "change": f"{made.improvement_printed.removeprefix('-')} {'lower' if better else 'higher'} than",
        "interval": limits_in_words(Value(made.improvement_percent, limits).times(1 if better else -1).limits, 1, "%"),
        "straddles": limits is not None and limits[0] < made.threshold_percent <= limits[1],
        "plots": (plot,),
    }


def distances_part(material: Material) -> dict[str, Any]:
    """The picture of all results that may be compared, and a table of all numbers."""
    subject, labels = material.subject, [one.label for one in material.all]
    same = [one for one in material.all if not comparability_differences(one, subject)]
    bounds = {"uniform guess": "uniform_guess", "5 people": "people_5", "empirical best": "empirical_best"}
    plot = draw_points(
        "W, lower is better",
        [Point(one.label, *one.distance) for one in same],
        "W",
        lines={name: subject.guess(key).value for name, key in bounds.items()},
        name="distances",
    )
    numbers = [all_numbers(one.metrics) for one in material.all]
    named = {**NUMBERS, **NOMINAL, "valid_mass": "Mass on valid answers"}
    rows = tuple(
        (name.replace("  ", "… "), *(value_at(one, key).written(DIGITS.get(key, 3)) for one in numbers))
        for key, name in named.items()
        if any(key in one for one in numbers)
    )
    worth = subject.value("bounds", "worth_people").value
    return {
        "worth": None if worth is None else people_worth(worth),
        "left_out": [one.label for one in material.all if one not in same],
        "plots": (plot,),
        "tables": (Table(("number [95% interval]", *labels), tuple(rows), title="All numbers"),),
    }
