"""Accuracy by demographic group, and how far the groups of a field are apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from socrates.report.html import Table
from socrates.report.plot import Point, draw_points
from socrates.report.results_folders import Material, fixed, value_at

_MOST_LINES = 44  # of the picture


def groups_part(material: Material) -> dict[str, Any]:
    """A picture of the groups by field, the field with the largest parity difference first, and tables."""
    fields = material.subject.metrics["groups"].items()
    fields = sorted(fields, key=lambda item: (-(value_at(item[1], "parity_difference").value or 0), item[0]))
    if not fields:
        return {"small": 0, "plots": (), "tables": ()}
    points, accuracies, differences = [], [], []
    for name, field in fields:
        name = name.replace("_", " ")
        points.append(Point(name))
        for group in (group for group in field["groups"] if isinstance(group, Mapping)):
            accuracy, called = value_at(group, "accuracy"), f"{group.get('group')} ({_rows(group, 'rows')})"
            points += [Point(called, *accuracy)] if accuracy.value else []
            accuracies.append((f"{name}: {called}", str(accuracy), str(value_at(group, "accuracy_within_cells"))))
        numbers = []
        for key in ("parity_difference", "parity_difference_within_cells"):
            numbers += [str(value_at(field, key)), fixed(value_at(field, f"{key}_by_chance").value)]
        differences.append((f"{name} ({_rows(field, 'rows_known')})", *numbers))
    plot = draw_points(
        "Accuracy by group (rows)",
        points[:_MOST_LINES],
        "individual accuracy",
        lines={"everybody": material.subject.value("accuracy").value},
        name="groups",
    )
    heads = ("field (rows)", "difference", "by chance", "within cells", "by chance")
    tables = (
        Table(heads, tuple(differences), title="Parity differences [95% interval]"),
        Table(
            ("group (rows)", "accuracy", "within cells"), tuple(accuracies), title="Accuracy by group [95% interval]"
        ),
    )
    small = sum(int(value_at(field, "small_groups").value or 0) for _, field in fields)
    return {"small": small, "plots": (plot,), "tables": tables}


def _rows(record: Mapping[str, Any], key: str) -> str:
    return value_at(record, key).written(0)
