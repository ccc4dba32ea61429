"""W of each study: before and after training, the largest gain first."""

from __future__ import annotations

from typing import Any

import pandas as pd

from socrates.report.html import Table
from socrates.report.plot import Point, draw_points
from socrates.report.results_folders import Material, Results, comparability_differences, fixed

_MOST = 44  # studies that fit one below the other in a picture that fits on a page
_EACH_END = 20  # of the gains and of the losses that are drawn where there are more


def studies_part(material: Material) -> dict[str, Any]:
    """A line a study in the picture, and the table of all."""
    subject, baseline = material.subject, material.baseline
    if baseline is not None and (comparability_differences(baseline, subject) or baseline.cells.empty):
        baseline = None
    if subject.cells.empty:
        return {"number": 0, "ends": 0, "plots": (), "tables": ()}
    studies = compare_studies(subject, baseline)
    shown, more = studies, len(studies) > _MOST
    if more:
        shown = pd.concat([studies[:_EACH_END], studies[-_EACH_END:]])
    before = shown["before"] if baseline else [None] * len(shown)
    plot = draw_points(
        "W of each study",
        [Point(study, w, before=old) for study, w, old in zip(shown.index, shown["W"], before, strict=True)],
        "W",
        names=(subject.label, baseline.label if baseline else ""),
        name="studies",
    )
    return {
        "number": len(studies),
        "baseline": baseline,
        "better": int((studies["change"] < 0).sum()) if baseline else 0,
        "ends": _EACH_END if more else 0,
        "plots": (plot,),
        "tables": (_table(studies, subject, baseline),),
    }


def compare_studies(subject: Results, baseline: Results | None) -> pd.DataFrame:
    """Means over each study's cells by `study_id`: `cells` (how many), `W`, `uniform`, `best`, and `before` and
    `change` where there is a baseline; the largest gain first, without a baseline the lowest W.
    """
    studies = _by_study(subject.cells)
    if baseline is None:
        return studies.sort_values("W", kind="stable")
    studies = studies.join(_by_study(baseline.cells)["W"].rename("before"), how="inner")
    studies["change"] = studies["W"] - studies["before"]
    return studies.sort_values("change", kind="stable")


def _by_study(cells: pd.DataFrame) -> pd.DataFrame:
    numbers = cells.astype({"uniform_guess": float, "empirical_best": float}).groupby("study_id")
    means = numbers[["wasserstein_distance", "uniform_guess", "empirical_best"]].mean()
    means.columns = ["W", "uniform", "best"]
    return means.assign(cells=numbers.size())


def _table(studies: pd.DataFrame, subject: Results, baseline: Results | None) -> Table:
    heads = {"before": "W before", "W": "W after", "change": "change"} if baseline else {"W": "W"}
    heads |= {"uniform": "uniform", "best": "at best"}
    columns = [studies[name].map("{:+z.3f}".format if name == "change" else fixed) for name in heads]
    rows = zip(studies.index, studies["cells"].map("{:,}".format), *columns, strict=True)
    what = f"{baseline.label} before, {subject.label} after" if baseline else subject.label
    return Table(("study", "cells", *heads.values()), tuple(rows), title=f"W by study: {what}")
