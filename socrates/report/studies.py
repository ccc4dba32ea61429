"""W of each study: before and after training, the largest gain first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from socrates.console import Table
from socrates.report.part import SMALL, Material, Part, picture
from socrates.report.plot import DARK, LINE, Plot, short
from socrates.report.results_folders import CellResult, Results, comparability_differences, fixed, signed

_MOST = 44  # studies that fit one below the other in a picture that fits on a page
_EACH_END = 20  # of the gains and of the losses that are drawn where there are more


class StudyDistance(NamedTuple):
    """One study's means over its scored cells."""

    study_id: str
    cells: int
    before: float | None  # W of the baseline
    after: float  # W of the subject
    uniform: float | None
    best: float | None

    @property
    def change(self) -> float:
        """Below 0: better."""
        return 0.0 if self.before is None else self.after - self.before


def studies_part(material: Material) -> Part:
    """A dumbbell a study, and the table of all."""
    subject, baseline = material.subject, material.baseline
    if baseline is not None and (comparability_differences(baseline, subject) or not baseline.cells):
        baseline = None
    studies = compare_studies(subject, baseline)
    title = "Studies"
    if not studies:
        return Part("studies", title, (f"{subject.folder} has no cells.jsonl with scored cells, so none are shown.",))
    if baseline is None:
        lines = [f"W of {subject.label} in each of {len(studies)} studies, the lowest first."]
    else:
        better = sum(study.change < 0 for study in studies)
        lines = [
            f"{subject.label} is closer to people than {baseline.label} in {better} of {len(studies)} studies. The "
            "largest gain stands first. A study's W is the mean over its cells."
        ]
    shown = studies
    if len(studies) > _MOST:
        shown = [*studies[:_EACH_END], *studies[-_EACH_END:]]
        lines.append(f"The picture shows the first {_EACH_END} and the last {_EACH_END}; the table has all.")
    plot = _picture(shown, subject, baseline, gap=len(studies) > _MOST)
    return Part("studies", title, tuple(lines), (plot,), (_table(studies, subject, baseline),), most=12)


def compare_studies(subject: Results, baseline: Results | None) -> list[StudyDistance]:
    """The studies of the subject that have a W, the largest gain first; without a baseline the lowest W first."""
    after = _by_study(subject.cells)
    before = _by_study(baseline.cells) if baseline else {}
    studies = [
        StudyDistance(
            study_id,
            len(cells),
            _mean([cell.distance for cell in before.get(study_id, [])]),
            _mean([cell.distance for cell in cells]),
            _mean([cell.uniform_guess for cell in cells]),
            _mean([cell.empirical_best for cell in cells]),
        )
        for study_id, cells in after.items()
        if not baseline or study_id in before
    ]
    return sorted(studies, key=lambda study: (study.change if baseline else study.after, study.study_id))


def _by_study(cells: Sequence[CellResult]) -> dict[str, list[CellResult]]:
    studies: defaultdict[str, list[CellResult]] = defaultdict(list)
    for cell in cells:
        if cell.distance is not None:
            studies[cell.cell.study_id].append(cell)
    return studies


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _table(studies: Sequence[StudyDistance], subject: Results, baseline: Results | None) -> Table:
    two = baseline is not None
    bounds = any(study.uniform is not None for study in studies)
    heads = (
        "study",
        "cells",
        *(("W before", "W after", "change") if two else ("W",)),
        *(("uniform", "at best") if bounds else ()),
    )
    rows = tuple(
        (
            study.study_id,
            f"{study.cells:,}",
            *((fixed(study.before),) if two else ()),
            fixed(study.after),
            *((signed(study.change),) if two else ()),
            *((fixed(study.uniform), fixed(study.best)) if bounds else ()),
        )
        for study in studies
    )
    what = f"{baseline.label} before, {subject.label} after" if two else subject.label
    return Table(heads, rows, title=f"W by study: {what}")


def _picture(shown: Sequence[StudyDistance], subject: Results, baseline: Results | None, *, gap: bool) -> Plot:
    places = [place + (1 if gap and place >= _EACH_END else 0) for place in range(len(shown))]

    def draw(axes) -> None:
        for place, study in zip(places, shown, strict=True):
            if study.before is not None:
                axes.hlines(place, *sorted((study.before, study.after)), color=DARK, linewidth=1.6)
                axes.plot(study.before, place, "s", color=DARK, markerfacecolor="white", markersize=5.5)
            axes.plot(study.after, place, "o", color=DARK, markersize=5.5)
        if gap:
            axes.axhline(_EACH_END, color="#777777", linewidth=0.8, linestyle=":")
        axes.set_yticks(places, [short(study.study_id, 14) for study in shown], fontsize=SMALL)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(max(places) + 0.7, -0.7)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel("W")
        if baseline is not None:
            axes.plot([], [], "s", color=DARK, markerfacecolor="white", label=short(baseline.label))
        axes.plot([], [], "o", color=DARK, label=short(subject.label))
        if all(study.uniform is not None for study in shown):
            axes.plot([study.uniform for study in shown], places, "|", color=LINE, markersize=8, label="uniform guess")
        axes.figure.legend(loc="outside lower left", ncols=3, columnspacing=1.0, handletextpad=0.2)

    first, last = shown[0], shown[-1]
    if baseline is None:
        alt = f"Points: W of {len(shown)} studies, from {first.after:.3f} ({first.study_id}) to {last.after:.3f}."
    else:
        alt = (
            f"Pairs of points: W of {len(shown)} studies for {baseline.label} (squares) and {subject.label} (dots). "
            f"Largest gain {first.study_id}: {first.before:.3f} to {first.after:.3f}; last {last.study_id}: "
            f"{last.before:.3f} to {last.after:.3f}."
        )
    height = 0.95 + 0.185 * (max(places) + 1)
    return picture("W of each study", height, draw, alt, name="studies")
