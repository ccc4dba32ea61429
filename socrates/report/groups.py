"""Accuracy by demographic group, and how far the groups of a field are apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from socrates.report.html import Table
from socrates.report.plot import Plot, Point, draw_points
from socrates.report.results_folders import Material, Results, fixed, value_at

_MOST_LINES = 44  # of the picture


def groups_part(material: Material) -> dict[str, Any]:
    """A picture of the groups by field, and tables."""
    subject, baseline, fields = material.subject, material.baseline, sorted_fields(material.subject)
    tables, folded = [], {}
    if fields:
        rows = tuple(
            (
                f"{_title(name)}: {_group_name(group)}",
                *(str(value_at(group, key)) for key in ("accuracy", "accuracy_within_cells")),
            )
            for name, record in fields.items()
            for group in _groups(record)
        )
        heads = ("group (rows)", "accuracy", "within cells")
        tables = [_differences(subject), Table(heads, rows, title="Accuracy by group [95% interval]")]
    if fields and baseline and baseline.metrics["groups"]:
        folded = {f"parity differences of {baseline.label}": _differences(baseline)}
    return {
        "small": sum(int(value_at(record, "small_groups").value or 0) for record in fields.values()),
        "plots": (_picture(subject, fields),) if fields else (),
        "tables": tables,
        "folded": folded,
    }


def sorted_fields(results: Results) -> dict[str, Mapping[str, Any]]:
    """The fields that `metrics.json` records, the largest parity difference first."""
    fields = {name: record for name, record in results.metrics["groups"].items() if isinstance(record, Mapping)}
    differences = {name: value_at(record, "parity_difference").value or 0.0 for name, record in fields.items()}
    return {name: fields[name] for name in sorted(fields, key=lambda name: (-differences[name], name))}


def _groups(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    groups = record.get("groups")
    return [group for group in groups if isinstance(group, Mapping)] if isinstance(groups, list) else []


def _group_name(group: Mapping[str, Any]) -> str:
    return f"{group.get('group')} ({value_at(group, 'rows').written(0)})"


def _differences(results: Results) -> Table:
    rows = tuple(
        (
            f"{_title(name)} ({value_at(record, 'rows_known').written(0)})",
            str(value_at(record, "parity_difference")),
            fixed(value_at(record, "parity_difference_by_chance").value),
            str(value_at(record, "parity_difference_within_cells")),
            fixed(value_at(record, "parity_difference_within_cells_by_chance").value),
        )
        for name, record in sorted_fields(results).items()
    )
    heads = ("field (rows)", "difference", "by chance", "within cells", "by chance")
    return Table(heads, rows, title=f"Parity differences [95% interval]: {results.label}")


def _picture(subject: Results, fields: Mapping[str, Mapping[str, Any]]) -> Plot:
    points: list[Point] = []
    for name, record in fields.items():
        groups = [(group, value_at(group, "accuracy")) for group in _groups(record)]
        points += [Point(_title(name)), *(Point(_group_name(group), *value) for group, value in groups if value.value)]
    return draw_points(
        "Accuracy by group (rows)",
        points[:_MOST_LINES],
        "individual accuracy",
        lines={"everybody": subject.value("accuracy").value},
        name="groups",
    )


def _title(name: str) -> str:
    return name.replace("_", " ")
