"""Plots: the style of all pictures, readable without colour, on paper, and as narrow as a phone."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 5.0  # inches, of 72 points: text keeps its size where a page is 360 pixels wide
DARK, LIGHT, LINE = "#2b5c8a", "#c9d8e6", "#1c1c1c"
FILLS = ((DARK, ""), (LIGHT, "////"), ("#ffffff", ""), ("#8fa9c2", "xxx"), ("#e8e8e8", "---"))
EDGE = {"edgecolor": LINE, "linewidth": 0.7}
_PNG_DPI = 200
_LONG_LABEL = 24  # characters
_MOST_BARS = 21  # answers that get a bar each
_MOST_CLASSES = 12  # of wider scales
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#777777",
    "axes.linewidth": 0.8,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "path",
    "svg.hashsalt": "socrates",
    "text.parse_math": False,  # a "$" in a label is a dollar
}


@dataclass(frozen=True)
class Plot:
    """A picture, and what it shows in words; ``png`` and ``name`` where it is to be a file of its own, too."""

    svg: bytes
    alt: str
    name: str = ""
    png: bytes | None = None


@contextmanager
def styled() -> Iterator[None]:
    """The style in which everything is drawn meanwhile."""
    import matplotlib

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in letters that the font lacks: the table has it
        yield


def drawn(
    title: str,
    height: float,
    draw: Callable[[Any], None],
    alt: str,
    *,
    width: float = WIDTH,
    rows: int = 1,
    ratios: tuple[float, ...] | None = None,
    name: str = "",
    software: str | None = None,
) -> Plot:
    """A picture from a function that fills its axes.

    Args:
        title: its first line.
        height: inches.
        draw: gets the axes; where there are several rows, a list of them.
        alt: what it shows, in words.
        width: inches.
        rows: axes, one below the other.
        ratios: their heights, relative to each other.
        name: what the picture is called as a PNG file.
        software: what a PNG file is to say that it was written by; None: no PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, height_ratios=ratios)
    draw(axes if rows == 1 else list(axes))
    figure.suptitle(short(title, 64), x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    svg = _saved(figure, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    png = None
    if software:
        png = _saved(figure, format="png", dpi=_PNG_DPI, facecolor="white", metadata={"Software": software})
    return Plot(svg, alt, name, png)


def legend(axes: Axes) -> None:
    """Below the plot, where it hides nothing; in one column if two would not fit."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 1 if max(map(len, labels)) > _LONG_LABEL else 2 if len(labels) != 3 else 3
    axes.figure.legend(handles, labels, loc="outside lower left", ncols=columns, handleheight=1.1)


def thousands(axis: object) -> None:
    """Write an axis' numbers with commas between the thousands."""
    axis.set_major_formatter(lambda value, _: f"{value:,.0f}" if float(value).is_integer() else f"{value:g}")


def short(text: str, most: int = 22) -> str:
    """A text of at most ``most`` characters; what was cut shows as "…"."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _saved(figure: Figure, **options: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, **options)
    return file.getvalue()


class Bars(NamedTuple):
    """Shares of the answers in equal classes.

    Attributes:
        edges: shape (classes + 1,), in scale points.
        human: shape (classes,), summing to 1; likewise ``predicted``.
        beyond: whether predictions outside the edges were put into the outer classes.
    """

    edges: NDArray[np.float64]
    human: NDArray[np.float64]
    predicted: NDArray[np.float64]
    beyond: bool


def make_bars(human: Mapping[float, float], predicted: Mapping[float, float], scale: tuple[float, float]) -> Bars:
    """Two distributions in the same classes: an answer each where there are few, else equal classes.

    Args:
        human: answer -> how many.
        predicted: answer -> weight.
        scale: lowest and highest answer that is shown; predictions beyond count as these, as in the metric.
    """
    low, high = scale
    answers = [*human, *(answer for answer in predicted if low <= answer <= high)]
    whole = all(float(answer).is_integer() for answer in answers)
    if whole and high - low < _MOST_BARS:
        edges = np.arange(low - 0.5, high + 1)
    else:
        width = _round_width((high - low) / _MOST_CLASSES)
        start = math.floor(low / width) * width - (0.5 if whole else 0.0)
        edges = start + width * np.arange(math.floor((high - start) / width) + 2)
    beyond = any(not low <= answer <= high for answer in predicted)
    return Bars(edges, _shares(human, edges, scale), _shares(predicted, edges, scale), beyond)


def _round_width(least: float) -> float:
    """The first of 1, 2, 5, 10, 20, … that is at least so much: people answer wide scales in round numbers."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(width * power for width in (1, 2, 5, 10) if width * power >= least * (1 - 1e-12))


def _shares(answers: Mapping[float, float], edges: NDArray[np.float64], scale: tuple[float, float]):
    values = np.clip(np.array(list(answers), dtype=np.float64), *scale)
    weights = np.array(list(answers.values()), dtype=np.float64)
    return np.histogram(values, edges, weights=weights)[0] / weights.sum()
