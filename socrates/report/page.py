"""The report page: one HTML file with its pictures in it, and the same pictures as PNGs beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from socrates.errors import SocratesError
from socrates.report.calibration import calibration_part
from socrates.report.cells import KINDS, cells_part
from socrates.report.distances import decision_part, distances_part
from socrates.report.effects import effects_part
from socrates.report.groups import groups_part
from socrates.report.html import Table, check_page, flattened, render, write_page
from socrates.report.plot import Plot, styled
from socrates.report.results_folders import NONE, Material, Results, read_results
from socrates.report.studies import studies_part
from socrates.report.training import training_part

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


def write_report(folders: Sequence[Path], page: Path | None, when: datetime) -> tuple[Path, list[Path]]:
    """Write the page on results folders and its pictures in place of an earlier report's; returns their paths.

    Args:
        folders: the last one's results are what the page is about, those of the first of several their baseline.
        page: where it goes; None: into the last folder.
        when: it is made.

    Raises:
        SocratesError: a folder is named twice; a file is there and bad, or not an earlier report's; something cannot be
            written. A file that is missing only leaves out a part.
    """
    material = read_material(folders)
    page = page or material.subject.folder / PAGE
    paths = {name: page.with_name(f"{page.stem}-{name}.png") for name in PICTURES}
    check_page(page, paths.values(), PROGRAM, "--output")
    text, plots = make_report(material, when)
    write_page(page, text, {paths[plot.name]: plot.png for plot in plots}, paths.values())
    return page, [paths[plot.name] for plot in plots]


def read_material(folders: Sequence[Path]) -> Material:
    """The results of all folders; see `write_report`."""
    results = [read_results(folder) for folder in folders]
    paths, labels = [one.folder.resolve() for one in results], [one.label for one in results]
    for index, path in enumerate(paths):
        if path in paths[:index]:
            raise SocratesError(f"{folders[index]}: is named twice")
        if labels.count(labels[index]) > 1:
            results[index] = replace(results[index], label=f"{path.parent.name}/{path.name}")
    return Material(results)


def make_report(material: Material, when: datetime) -> tuple[str, list[Plot]]:
    """The page as HTML, and its pictures."""
    with styled():
        parts = {key: part(material) for key, part in PARTS.items()}
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
