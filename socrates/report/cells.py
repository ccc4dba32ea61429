"""Cells of the report: human and predicted distributions of the best, typical and worst, side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from socrates.report.plot import EDGE, LIGHT, LINE, PERCENT, Plot, drawn, legend, make_bars, short, thousands
from socrates.report.results_folders import Material, fixed

EACH = 3  # cells of a kind
ENOUGH = 20  # human answers, below which a distribution is mostly chance; all cells where fewer hold so many
KINDS = {"best": "Lowest W", "typical": "W nearest to the median", "worst": "Highest W"}


def cells_part(material: Material) -> dict[str, Any]:
    """Small multiples of the chosen cells."""
    chosen = cells_to_show(material.subject.cells)
    plots = tuple(_picture(kind, cells) for kind, cells in chosen.items())
    return {"enough": _enough(material.subject.cells), "plots": plots}


def cells_to_show(cells: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The best, typical and worst cells by W, at most `EACH` of a kind, of different studies; of few cells some."""
    if cells.empty:
        return {}
    predicted = np.array([sum(_predicted(cell).values()) for cell in cells.itertuples()])
    shown = cells[(cells["n_human"] >= _enough(cells)) & (predicted > 0)]
    ordered = shown.sort_values("wasserstein_distance", kind="stable")
    if len(ordered) < EACH * len(KINDS):
        return {"typical": ordered[:EACH]} if len(ordered) else {}
    from_middle = np.argsort(np.abs(np.arange(len(ordered)) - len(ordered) // 2), kind="stable")
    by_kind = {"best": ordered, "typical": ordered.iloc[from_middle], "worst": ordered[::-1]}
    return {kind: some.drop_duplicates("study_id")[:EACH] for kind, some in by_kind.items()}


def _enough(cells: pd.DataFrame) -> int:
    return ENOUGH if not cells.empty and (cells["n_human"] >= ENOUGH).sum() >= EACH * len(KINDS) else 2


def _predicted(cell: Any) -> dict[float, float]:
    return cell.predicted_distribution or cell.predicted_answers


def _name(cell: Any) -> str:
    return f"{short(cell.study_id, 12)}, condition {cell.condition_num}, task {short(str(cell.task_num), 12)}"


def _picture(kind: str, cells: pd.DataFrame) -> Plot:
    def draw(axes) -> None:
        for ax, cell in zip(np.atleast_1d(axes), cells.itertuples(), strict=True):
            ends = min(cell.human_answers), max(cell.human_answers)
            edges, human, predicted = make_bars(cell.human_answers, _predicted(cell), ends)
            middle, width = (edges[:-1] + edges[1:]) / 2, np.diff(edges)
            ax.bar(middle, human, width * 0.86, color=LIGHT, label="people", **EDGE)
            ax.plot(middle, predicted, "o-", color=LINE, markersize=3.5, linewidth=1.2, label="model", clip_on=False)
            ax.set_title(f"{_name(cell)}\nW {fixed(cell.wasserstein_distance)}, {cell.n_human:,.0f} people")
            ax.set_ylim(0, None)
            ax.yaxis.set_major_formatter(PERCENT)
            ax.locator_params(axis="x", nbins=11, integer=bool(np.allclose(width, 1)))
            thousands(ax.xaxis)
        legend(np.atleast_1d(axes)[0])

    words = "; ".join(f"{_name(cell)}, W {fixed(cell.wasserstein_distance)}" for cell in cells.itertuples())
    alt = f"Bars of human answers with a line of predicted ones, cells of {KINDS[kind].lower()}: {words}."
    height = 0.65 + 1.6 * len(cells)
    return drawn(KINDS[kind], height, draw, alt, rows=len(cells), name=f"cells-{kind}")
