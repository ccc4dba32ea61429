"""A part of the report, and the material of all parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from socrates.console import Table
from socrates.report import plot as drawing
from socrates.report.plot import Plot
from socrates.report.results_folders import Results

if TYPE_CHECKING:
    from socrates.report.calibration import AnswerCounts, Calibration
    from socrates.report.training import TrainingLog

PROGRAM = "scripts/report.py"
WIDTH = 4.5  # inches: on a phone of 390 pixels 10 points are 11 pixels
SMALL = 9  # points: the smallest text in a picture

picture = partial(drawing.drawn, width=WIDTH, software=PROGRAM)


@dataclass(frozen=True)
class Material:
    """All that a report is made from.

    Attributes:
        subject: the results that the report is about: the last of ``evaluated``.
        baseline: what they are compared with, or None.
        evaluated: all others; those before the subject by step.
        log: of the run that trained the subject, or None.
        calibrations: of the baseline and the subject, by label.
        answers: of the subject, in the cells that are shown and that do not record them themselves.
    """

    subject: Results
    baseline: Results | None
    evaluated: Sequence[Results]
    log: TrainingLog | None = None
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    answers: Mapping[tuple, AnswerCounts] = field(default_factory=dict)

    @property
    def all(self) -> list[Results]:
        """Baseline first."""
        return [*([self.baseline] if self.baseline else []), *self.evaluated]

    @property
    def main(self) -> list[Results]:
        """Baseline and subject."""
        return [*([self.baseline] if self.baseline else []), self.subject]


@dataclass(frozen=True)
class Part:
    """A question, answered.

    Attributes:
        key: its name in links and in the style sheet.
        title: its heading.
        lines: sentences, a paragraph each.
        plots: pictures.
        tables: tables.
        folded: more tables, under the words that unfold them.
        kind: classes of the style sheet, see `html.section`.
        most: rows of a table before the rest is folded away.
    """

    key: str
    title: str
    lines: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: Mapping[str, tuple[Table, ...]] = field(default_factory=dict)
    kind: str = ""
    most: int = 24
