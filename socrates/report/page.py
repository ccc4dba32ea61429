"""The report page: one HTML file with its pictures in it, and the same pictures as PNGs beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from socrates.console import progress
from socrates.errors import SocratesError
from socrates.evaluation.results import PREDICTIONS
from socrates.report.calibration import calibration_part, read_calibration
from socrates.report.cells import KINDS, cells_part
from socrates.report.decision import decision_part
from socrates.report.distances import distances_part
from socrates.report.effects import effects_part
from socrates.report.groups import groups_part
from socrates.report.html import Table, check_page, flattened, render, write_page
from socrates.report.plot import Plot, styled
from socrates.report.results_folders import NONE, Material, Results, read_results
from socrates.report.studies import studies_part
from socrates.report.training import find_log, training_part

PROGRAM, PAGE = "scripts/report.py", "report.html"
PARTS = {
    "decision": decision_part,
    "distances": distances_part,
    "studies": studies_part,
    "cells": cells_part,
    "effects": effects_part,
    "calibration": calibration_part,
    "groups": groups_part,
    "training": training_part,
}
_PROVENANCE = ("coverage", "seen", "about", "comparability", "intervals")
PICTURES = (*(f"cells-{kind}" for kind in KINDS), *(key for key in PARTS if key != "cells"))


def read_material(folders: Sequence[Path]) -> Material:
    """Read all that a report is made from: the last folder is its subject, the first of several the baseline.

    Raises:
        SocratesError: a folder is named twice, or a file is there and bad; one that is missing only leaves out a part.
    """
    results = [read_results(folder) for folder in folders]
    paths, labels = [one.folder.resolve() for one in results], [one.label for one in results]
    for index, path in enumerate(paths):
        if path in paths[:index]:
            raise SocratesError(f"{folders[index]}: is named twice")
        if labels.count(labels[index]) > 1:
            results[index] = replace(results[index], label=f"{path.parent.name}/{path.name}")
    found = {one.label: read_calibration(one.folder / PREDICTIONS) for one in (results[0], results[-1])}
    return Material(results, find_log(results[-1]), {label: one for label, one in found.items() if one is not None})


def make_report(material: Material, when: datetime) -> tuple[str, list[Plot]]:
    """The page as HTML, and its pictures; ``when`` it was made."""
    with styled():
        parts = {key: PARTS[key](material) for key in progress(PARTS, "drawing", unit=" parts")}
    text = render(
        "report.html.j2",
        title=f"Report on {material.subject.label}",
        generator=PROGRAM,
        when=when,
        subject=material.subject,
        baseline=material.baseline,
        main=material.main,
        basis=(_basis(material.main),),
        **parts,
    )
    return text, [plot for part in parts.values() for plot in part["plots"]]


def _basis(results: Sequence[Results]) -> Table:
    """What is recorded of rows, model, settings, versions and dates, under the names in `metrics.json`."""
    columns = []
    for one in results:
        about = {**one.metrics["about"], "asked": None}  # it stands in comparability
        columns.append(flattened({key: about if key == "about" else one.metrics[key] for key in _PROVENANCE}))
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = tuple((name, *(column.get(name, NONE) for column in columns)) for name in names)
    heads = ("what", *(one.label for one in results))
    return Table(heads, rows, tuple(range(len(heads))), "What the numbers rest on")


def check_report(page: Path) -> None:
    """SocratesError unless page and pictures may be written: under new names, or over an earlier report."""
    check_page(page, picture_paths(page).values(), PROGRAM, "--output")


def write_report(text: str, plots: Sequence[Plot], page: Path) -> list[Path]:
    """Write the page and its pictures in place of an earlier report's; returns the pictures' paths.

    Raises:
        SocratesError: something cannot be written.
    """
    paths = picture_paths(page)
    write_page(page, text, {paths[plot.name]: plot.png for plot in plots}, paths.values())
    return [paths[plot.name] for plot in plots]


def picture_paths(page: Path) -> dict[str, Path]:
    """Where each picture that a report may have lies beside its page."""
    return {name: page.with_name(f"{page.stem}-{name}.png") for name in PICTURES}
