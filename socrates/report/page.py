"""The report page: one HTML file with its pictures in it, and the same pictures as PNGs beside it.

Covers: earlier reports are replaced, pictures that a new one has no more included; what another program wrote is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from html import escape
from pathlib import Path

from socrates.console import progress
from socrates.errors import SocratesError
from socrates.files import atomic_write, remove_file
from socrates.report.basis import basis_part
from socrates.report.calibration import calibration_part, count_answers
from socrates.report.cells import KINDS, cells_part, cells_to_show
from socrates.report.decision import decision_part
from socrates.report.distances import distances_part
from socrates.report.effects import effects_part
from socrates.report.groups import groups_part
from socrates.report.html import check_name, document, read_start, section
from socrates.report.part import PROGRAM, Material, Part
from socrates.report.plot import styled
from socrates.report.results_folders import Results, in_order, read_results, with_details
from socrates.report.studies import studies_part
from socrates.report.training import find_log, training_part

PAGE = "report.html"
PICTURES = (
    "decision",
    "distances",
    "studies",
    *(f"cells-{kind}" for kind in KINDS),
    "effects",
    "calibration",
    "groups",
    "training",
)
PARTS: tuple[Callable[[Material], Part], ...] = (
    decision_part,
    distances_part,
    studies_part,
    cells_part,
    effects_part,
    calibration_part,
    groups_part,
    training_part,
    basis_part,
)


def read_all(folders: Sequence[Path]) -> tuple[Results | None, list[Results]]:
    """(the baseline or None, the others in order) of these results folders; the last one is what a report is about."""
    baseline, evaluated = in_order([read_results(folder) for folder in folders])
    return baseline and with_details(baseline), [*evaluated[:-1], with_details(evaluated[-1])]


def read_material(baseline: Results | None, evaluated: Sequence[Results], run: Path | None = None) -> Material:
    """Read what else a report of these results is made from: every answer, and the trainer's log.

    Args:
        baseline: what they are compared with, or None.
        evaluated: the others; the last one is what the report is about.
        run: the folder of the training run; None: found through the results.

    Raises:
        SocratesError: a file that is there and bad; one that is missing only leaves out a part.
    """
    subject = evaluated[-1]
    wanted = {
        cell.cell
        for cells in cells_to_show(subject.cells).values()
        for cell in cells
        if not (cell.human and cell.sampled)
    }
    calibrations, answers = {}, {}
    for one in [*([baseline] if baseline else []), subject]:
        if one.predictions.exists():
            calibration, found = count_answers(one.predictions, wanted if one is subject else ())
            answers |= found
            if calibration is not None:
                calibrations[one.label] = calibration
    return Material(subject, baseline, evaluated, find_log(subject, run), calibrations, answers)


def make_parts(material: Material) -> list[Part]:
    """All parts, drawn."""
    with styled():
        return [make(material) for make in progress(PARTS, "drawing", unit=" parts")]


def report_html(parts: Sequence[Part], material: Material, when: datetime) -> str:
    """The page as HTML; ``when`` it was made."""
    subject = material.subject
    compared = f"compared with {material.baseline.label}" if material.baseline else ""
    header = [
        f'<p class="small">{escape(str(subject.folder))} {escape(compared)}</p>',
        f'<p class="small">Written on {when:%Y-%m-%d at %H:%M %Z}</p>',
    ]
    sections = [
        section(
            part.key,
            part.title,
            part.lines,
            part.plots,
            part.tables,
            folded=part.folded,
            kind=part.kind,
            most=part.most,
        )
        for part in parts
    ]
    return document(f"Report on {subject.label}", PROGRAM, header, sections)


def check_report(page: Path) -> None:
    """SocratesError unless page and pictures may be written: under new names, or over an earlier report."""
    check_name(page, "--output")
    for path in [page, *(picture_path(page, name) for name in PICTURES)]:
        start = read_start(path)
        if start is not None and PROGRAM.encode() not in start:
            raise SocratesError(
                f"{path}: {PROGRAM} did not write this file; name another page with --output FILE, or move it away"
            )


def write_report(parts: Sequence[Part], page: Path, text: str) -> list[Path]:
    """Write the page and its pictures, each whole or not at all; returns the pictures' paths.

    Pictures of an earlier report that this one does not have are removed.

    Raises:
        SocratesError: something cannot be written.
    """
    pictures = {picture_path(page, plot.name): plot.png for part in parts for plot in part.plots if plot.png}
    for path in [path for name in PICTURES if (path := picture_path(page, name)) not in pictures]:
        remove_file(path)
    for path, png in pictures.items():
        with atomic_write(path, "wb") as file:
            file.write(png)
    with atomic_write(page) as file:
        file.write(text)
    return list(pictures)


def picture_path(page: Path, name: str) -> Path:
    """Where a picture lies beside its page."""
    return page.with_name(f"{page.stem}-{name}.png")
