"""Cells of the report: human and predicted distributions of the best, typical and worst, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from socrates.console import Table
from socrates.report.part import SMALL, Material, Part, picture
from socrates.report.plot import EDGE, LIGHT, LINE, Plot, make_bars, short
from socrates.report.results_folders import CellResult, fixed

EACH = 3  # cells of a kind
ENOUGH = 20  # human answers, below which a distribution is mostly chance; all cells where fewer hold so many
KINDS = {"best": "Lowest W", "typical": "W nearest to the median", "worst": "Highest W"}


def cells_part(material: Material) -> Part:
    """Small multiples of the chosen cells."""
    subject = material.subject
    title = "Distributions of answers"
    chosen = cells_to_show(subject.cells)
    filled = {kind: [cell for cell in map(_filler(material), cells) if cell] for kind, cells in chosen.items()}
    filled = {kind: cells for kind, cells in filled.items() if cells}
    if not filled:
        return Part("cells", title, (f"{subject.folder} records no distributions of scored cells, so none are shown.",))
    plots = tuple(_picture(kind, cells) for kind, cells in filled.items())
    lines = (
        f"Bars are people, the line is {subject.label}: the mean of its answer probabilities where these are "
        "recorded, else its sampled answers. W is of the sampled answers. Predictions beyond people's range "
        "count as its ends, as in W.",
        f"Chosen among the cells with {_enough(subject.cells)} human answers or more, from different studies where "
        "that is possible.",
    )
    rows = tuple(
        (f"{kind}: {_name(cell)}", fixed(cell.distance), f"{cell.n_human:,}", f"{cell.n_predicted:,}")
        for kind, cells in filled.items()
        for cell in cells
    )
    table = Table(("cell", "W", "people", "predictions"), rows, title="The cells shown")
    return Part("cells", title, lines, plots, (table,), kind="many")


def cells_to_show(cells: Sequence[CellResult]) -> dict[str, list[CellResult]]:
    """The best, typical and worst cells by W, at most `EACH` of a kind and none twice."""
    least = _enough(cells)
    ordered = sorted(
        (cell for cell in cells if cell.distance is not None and cell.n_human >= least),
        key=lambda cell: (cell.distance, *map(str, cell.cell)),
    )
    each = min(EACH, max(1, len(ordered) // len(KINDS)))
    if len(ordered) < len(KINDS):
        return {"typical": ordered} if ordered else {}
    middle = len(ordered) // 2
    best = _spread(ordered, each)
    worst = _spread([cell for cell in reversed(ordered) if cell not in best], each)
    nearest = sorted(range(len(ordered)), key=lambda index: (abs(index - middle), index))
    typical = _spread([ordered[index] for index in nearest if ordered[index] not in best + worst], each)
    return {"best": best, "typical": typical, "worst": worst}


def _enough(cells: Sequence[CellResult]) -> int:
    sizes = [cell.n_human for cell in cells if cell.distance is not None]
    return ENOUGH if sum(size >= ENOUGH for size in sizes) >= EACH * len(KINDS) else 2


def _spread(ordered: Sequence[CellResult], many: int) -> list[CellResult]:
    """The first ``many``, each of another study as far as these last; then in their order."""
    studies: set[str] = set()
    first = []
    for cell in ordered:
        if cell.cell.study_id not in studies:
            studies.add(cell.cell.study_id)
            first.append(cell)
    taken = [*first, *(cell for cell in ordered if cell not in first)][:many]
    return [cell for cell in ordered if cell in taken]


def _filler(material: Material) -> Callable[[CellResult], CellResult | None]:
    """Cells with their answers, taken from the predictions where `cells.jsonl` does not record them."""

    def fill(cell: CellResult) -> CellResult | None:
        if found := material.answers.get(cell.cell):
            cell = replace(cell, human=found.human, sampled=found.sampled, distribution=found.expected)
        return cell if cell.human and _predicted(cell) else None

    return fill


def _predicted(cell: CellResult) -> Mapping[float, float]:
    return cell.distribution or cell.sampled


def _name(cell: CellResult) -> str:
    study, condition, task = cell.cell
    return f"{short(study, 12)}, condition {condition}, task {short(str(task), 12)}"


def _picture(kind: str, cells: Sequence[CellResult]) -> Plot:
    def draw(axes) -> None:
        for one, cell in zip(axes if isinstance(axes, list) else [axes], cells, strict=True):
            bars = make_bars(cell.human, _predicted(cell), (min(cell.human), max(cell.human)))
            middle, width = (bars.edges[:-1] + bars.edges[1:]) / 2, np.diff(bars.edges)
            one.bar(middle, bars.human, width * 0.86, color=LIGHT, label="people", **EDGE)
            one.plot(
                middle, bars.predicted, "o-", color=LINE, markersize=3.5, linewidth=1.2, label="model", clip_on=False
            )
            one.set_title(f"{_name(cell)}\nW {fixed(cell.distance)}, {cell.n_human:,} people", fontsize=SMALL)
            one.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
            one.set_ylim(0, None)
            one.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
            if len(middle) == 1 or np.allclose(width, 1):
                _integer_ticks(one)
            one.tick_params(labelsize=SMALL)
        first = axes[0] if isinstance(axes, list) else axes
        handles, labels = first.get_legend_handles_labels()
        first.figure.legend(handles, labels, loc="outside lower left", ncols=2)

    words = "; ".join(f"{_name(cell)}, W {fixed(cell.distance)}, {cell.n_human:,} people" for cell in cells)
    alt = f"Bars of human answers with a line of predicted ones, cells of {KINDS[kind].lower()}: {words}."
    height = 0.65 + 1.6 * len(cells)
    return picture(KINDS[kind], height, draw, alt, rows=len(cells), name=f"cells-{kind}")


def _integer_ticks(axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(11, integer=True))
