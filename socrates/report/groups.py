"""Accuracy by demographic group, and how far the groups of a field are apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from socrates.console import Table
from socrates.files import finite
from socrates.report.part import SMALL, Material, Part, picture
from socrates.report.plot import DARK, LINE, Plot, short
from socrates.report.results_folders import Results, Value, fixed, section_of, value_at

_MOST_LINES = 44  # of the picture


class Group(NamedTuple):
    """One group of a field."""

    name: str
    rows: int
    accuracy: Value
    within: Value  # its accuracy minus that of the other people in the same cells


class GroupedField(NamedTuple):
    """One demographic field; differences are between its best and its worst predicted group."""

    name: str
    rows: int
    difference: Value
    by_chance: float | None
    within: Value
    within_by_chance: float | None
    small_groups: int
    groups: tuple[Group, ...]


def groups_part(material: Material) -> Part:
    """A picture of the groups by field, and tables."""
    subject, title = material.subject, "Accuracy by demographic group"
    fields = read_fields(subject)
    if not fields:
        return Part("groups", title, (f"{subject.folder}/metrics.json has no groups, so none are shown.",))
    lines = [
        "Individual accuracy is 1 minus the absolute error in units of the cell's human range. The demographic parity "
        "difference is that between a field's best and worst predicted group. Noise alone makes it larger than 0: what "
        "it would be if people were dealt to the groups by chance stands beside it.",
        "Groups answer different questions in part. Within cells, people are compared with others who answered the "
        "same question.",
    ]
    if small := sum(field.small_groups for field in fields):
        lines.append(f"{small:,} groups of too few rows are left out.")
    of_groups = tuple(
        (f"{_title(field.name)}: {group.name} ({group.rows:,})", str(group.accuracy), str(group.within))
        for field in fields
        for group in field.groups
    )
    heads = ("group (rows)", "accuracy", "within cells")
    tables = (_differences(subject, fields), Table(heads, of_groups, title="Accuracy by group [95% interval]"))
    folded = {}
    if material.baseline and (before := read_fields(material.baseline)):
        folded[f"parity differences of {material.baseline.label}"] = (_differences(material.baseline, before),)
    drawn = _fitting(fields)
    if len(drawn) < len(fields):
        lines.append("The picture shows the fields with the largest differences; the tables have all.")
    plots = (_picture(drawn, subject),) if drawn else ()
    return Part("groups", title, tuple(lines), plots, tables, folded, most=12)


def read_fields(results: Results) -> list[GroupedField]:
    """The fields that `metrics.json` records, the largest parity difference first."""
    fields = []
    for name, record in section_of(results.metrics, "groups").items():
        groups = record.get("groups") if isinstance(record, Mapping) else None
        if isinstance(groups, list):
            fields.append(
                GroupedField(
                    str(name),
                    _count(record, "rows_known"),
                    value_at(record, "parity_difference"),
                    finite(record.get("parity_difference_by_chance")),
                    value_at(record, "parity_difference_within_cells"),
                    finite(record.get("parity_difference_within_cells_by_chance")),
                    _count(record, "small_groups"),
                    tuple(_group(group) for group in groups if isinstance(group, Mapping)),
                )
            )
    return sorted(fields, key=lambda field: (-(field.difference.value or -1), field.name))


def _group(record: Mapping[str, Any]) -> Group:
    values = (value_at(record, key) for key in ("accuracy", "accuracy_within_cells"))
    return Group(str(record.get("group")), _count(record, "rows"), *values)


def _count(record: Mapping[str, Any], key: str) -> int:
    return int(finite(record.get(key)) or 0)


def _differences(results: Results, fields: Sequence[GroupedField]) -> Table:
    rows = tuple(
        (
            f"{_title(field.name)} ({field.rows:,})",
            str(field.difference),
            fixed(field.by_chance),
            str(field.within),
            fixed(field.within_by_chance),
        )
        for field in fields
    )
    heads = ("field (rows)", "difference", "by chance", "within cells", "by chance")
    return Table(heads, rows, title=f"Parity differences [95% interval]: {results.label}")


def _fitting(fields: Sequence[GroupedField]) -> list[GroupedField]:
    """As many of the first fields as fit one below the other; groups without accuracy are not drawn."""
    shown: list[GroupedField] = []
    lines = 0
    for field in fields:
        groups = tuple(group for group in field.groups if group.accuracy.value is not None)[: _MOST_LINES - 2]
        lines += len(groups) + 2
        if not groups or (shown and lines > _MOST_LINES):
            continue
        shown.append(field._replace(groups=groups))
    return shown


def _picture(fields: Sequence[GroupedField], subject: Results) -> Plot:
    overall = subject.value("accuracy").value
    places: list[tuple[float, Group]] = []
    heads: list[tuple[float, str]] = []
    at = 0.0
    for field in fields:
        heads.append((at, _title(field.name)))
        for group in field.groups:
            at += 1
            places.append((at, group))
        at += 1.6

    def draw(axes) -> None:
        for place, group in places:
            if group.accuracy.limits:
                axes.hlines(place, *group.accuracy.limits, color=DARK, linewidth=1.3)
            axes.plot(group.accuracy.value, place, "o", color=DARK, markersize=5)
        if overall is not None:
            axes.axvline(overall, color=LINE, linewidth=1, linestyle="--")
            axes.annotate(
                f"all {overall:.3f}",
                (overall, 1),
                (0, 2),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="center",
                fontsize=SMALL,
            )
        axes.set_yticks(
            [place for place, _ in (*heads, *places)],
            [*(name for _, name in heads), *(short(f"{group.name} ({group.rows:,})", 30) for _, group in places)],
            fontsize=SMALL,
        )
        for label in axes.get_yticklabels()[: len(heads)]:
            label.set_fontweight("bold")
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(at - 0.9, -0.8)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel("individual accuracy")

    words = "; ".join(
        f"{_title(field.name)}: " + ", ".join(f"{group.name} {group.accuracy.value:.3f}" for group in field.groups)
        for field in fields[:3]
    )
    alt = f"Points with 95% intervals: accuracy of {subject.label} by group. {words}."
    return picture("Accuracy by group (rows)", 1.0 + 0.185 * at, draw, alt, name="groups")


def _title(name: str) -> str:
    return name.replace("_", " ")
