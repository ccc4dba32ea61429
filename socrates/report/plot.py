"""Plots: the style of all pictures, readable without colour, on paper, and as narrow as a phone."""

from __future__ import annotations

import base64
import io
import logging
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 4.5  # inches: on a phone of 390 pixels 10 points are 11 pixels
SMALL = 9  # points: the smallest text
DARK, LIGHT, LINE = "#2b5c8a", "#c9d8e6", "#1c1c1c"
PERCENT = "{x:.0%}"  # how an axis writes shares
EDGE = {"edgecolor": LINE, "linewidth": 0.7}
WRITER = "SOCRATES: scripts/report.py or scripts/predict.py"  # what PNG files say, see `html.check_page`
_PNG_DPI = 200
_MOST_BARS = 21  # answers that get a bar each
_MOST_CLASSES = 12  # of wider scales
_TOLD = 12  # points that a picture's text names
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#777777",
    "axes.linewidth": 0.8,
    "axes.titlesize": SMALL,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
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
    png: bytes = b""
    note: str = ""  # what the page says below it

    @property
    def base64(self) -> str:
        """As a page holds it."""
        return base64.b64encode(self.svg).decode()


@contextmanager
def styled() -> Iterator[None]:
    """The style in which everything is drawn meanwhile."""
    import matplotlib

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it would report a font that has no bold
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # A name in letters that no font has, which the page says (`_use_fonts`), or too long: the table has it.
        warnings.filterwarnings("ignore", message="Glyph|constrained_layout")
        yield


def drawn(title: str, height: float, draw: Callable[[Any], None], alt: str, *, rows: int = 1, name: str = "") -> Plot:
    """A picture from a function that fills its axes.

    Args:
        title: its first line.
        height: inches.
        draw: gets the axes; where there are several rows, an array of them.
        alt: what it shows, in words.
        rows: axes, one below the other.
        name: of the PNG file; empty: there is none.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    draw(figure.subplots(rows))
    figure.suptitle(short(title, 60), x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    note = _use_fonts(figure)
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    if name:
        figure.savefig(png, format="png", dpi=_PNG_DPI, facecolor="white", metadata={"Software": WRITER})
    return Plot(svg.getvalue(), alt, name, png.getvalue(), note)


def _use_fonts(figure: Any) -> str:
    """Let installed fonts, Noto Sans first, draw what the style's lacks; a sentence about what none has."""
    from matplotlib import font_manager as fonts
    from matplotlib.text import Text

    texts, families = figure.findobj(Text), ["sans-serif"]
    signs = dict.fromkeys(sign for text in texts for sign in text.get_text() if not sign.isspace())
    own = fonts.get_font(fonts.findfont(fonts.FontProperties()))
    lacking = [sign for sign in signs if not own.get_char_index(ord(sign))]
    files = fonts.findSystemFonts() if lacking else []
    for file in sorted(files, key=lambda file: ("NotoSans" not in file, "Regular" not in file, file)):
        with suppress(OSError, RuntimeError):  # no font that can be drawn
            font = fonts.get_font(file)
            left = [sign for sign in lacking if not font.get_char_index(ord(sign))]
            # A font of colour pictures draws nothing here, and one of last resort a box for everything.
            if left != lacking and not re.search("Color|LastResort", file):
                fonts.fontManager.addfont(file)  # it may be newer than matplotlib's list of fonts
                families, lacking = [*families, font.family_name], left
    for text in texts:
        text.set_fontfamily(families)
    return bool(lacking) * (
        f"This picture shows boxes for characters that no installed font has, such as {' '.join(lacking[:6])}. Install "
        "a font that has them, such as Noto, and run the same command again."
    )


class Point(NamedTuple):
    """A line of `draw_points`: a number with its interval; without a number, a heading."""

    name: str
    value: float | None = None
    limits: tuple[float, float] | None = None
    before: float | None = None  # an open square, joined with the point
    around: float = 0.0  # half the length of a thin line around it


def draw_points(
    title: str,
    points: Sequence[Point],
    unit: str,
    *,
    lines: Mapping[str, float | None] | None = None,
    names: tuple[str, str] = ("", ""),
    digits: int = 3,
    **options: Any,
) -> Plot:
    """Numbers and their intervals, one below the other.

    Args:
        title: its first line.
        points: from top to bottom.
        unit: of the axis, in words.
        lines: what to compare with: name -> where a vertical line stands; None: nowhere.
        names: in the legend, of points and of the squares before them.
        digits: decimals, in the picture's text.
        options: of `drawn`.
    """
    known = {name: value for name, value in (lines or {}).items() if value is not None}
    called = [textwrap.fill(short(point.name, 54), 28) for point in points]  # those of interactions begin alike

    def draw(axes: Axes) -> None:
        for place, point in enumerate(points):
            if point.value is None:
                continue
            axes.hlines(place, point.value - point.around, point.value + point.around, color=LINE, linewidth=0.9)
            if point.limits:
                axes.hlines(place, *point.limits, color=DARK, linewidth=2.5)
            if point.before is not None:
                axes.hlines(place, *sorted((point.before, point.value)), color=DARK, linewidth=1.6)
                axes.plot(point.before, place, "s", color=DARK, markerfacecolor="white", markersize=5.5)
            axes.plot(point.value, place, "o", color=DARK, markersize=6)
        for style, (name, value) in zip(("--", ":", "-."), known.items(), strict=False):
            axes.axvline(value, color=LINE, linewidth=1.2, linestyle=style, label=f"{name} {value:.{digits}f}")
        for marker, face, name in (("o", DARK, names[0]), ("s", "white", names[1])):
            if name:
                axes.plot([], [], marker, color=DARK, markerfacecolor=face, label=short(name))
        axes.set_yticks(range(len(points)), called)
        for label, point in zip(axes.get_yticklabels(), points, strict=True):
            label.set_fontweight("bold" if point.value is None else "normal")
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(points) - 0.4, -0.6)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel(unit, fontsize=SMALL, loc="right")  # it may be longer than the axis, but not than the picture
        legend(axes)

    told = [f"{p.name} {p.value:.{digits}f}" for p in points if p.value is not None][:_TOLD]
    told += [f"{name} at {value:.{digits}f}" for name, value in known.items()]
    alt = f"Points, with 95% intervals where they are known; {unit.splitlines()[0]}: {'; '.join(told)}."
    more_lines = unit.count("\n") + (len(known) > 2)  # of the legend
    line = 0.2 + 0.13 * max((name.count("\n") for name in called), default=0)
    return drawn(title, 1.0 + line * len(points) + 0.17 * more_lines, draw, alt, **options)


def legend(axes: Axes) -> None:
    """Below the plot, where it hides nothing; in one column if two would not fit."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 1 if max(map(len, labels), default=0) > 24 else 3 if sum(map(len, labels)) < 42 else 2
    axes.figure.legend(handles, labels, loc="outside lower left", ncols=columns, columnspacing=1.0, handletextpad=0.4)


def thousands(axis: Any) -> None:
    """Write an axis' numbers with commas between the thousands."""
    axis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def short(text: str, most: int = 22) -> str:
    """A text of at most ``most`` characters; what was cut shows as "…", half a character, which no font has, as "?"."""
    text = text.encode(errors="replace").decode()
    return text if len(text) <= most else f"{text[: most - 1]}…"


def make_bars(
    human: Mapping[float, float], predicted: Mapping[float, float], scale: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Two distributions in the same classes: an answer each where there are few, else equal classes.

    Args:
        human: answer -> how many.
        predicted: answer -> weight.
        scale: lowest and highest answer that is shown; predictions beyond count as these, as in the metric.

    Returns:
        The edges, shape (classes + 1,), in scale points; the shares of both, each of shape (classes,), summing to 1.
    """
    from matplotlib.ticker import MaxNLocator

    low, high = scale
    whole = all(float(answer).is_integer() for answer in (*human, *predicted, low, high))
    if whole and high - low < _MOST_BARS:
        edges = np.arange(low - 0.5, high + 1)
    else:  # people answer wide scales in round numbers: each shall lie within a class, not at its edge
        edges = MaxNLocator(_MOST_CLASSES, steps=[1, 2, 5, 10]).tick_values(low, high)
        edges = (edges if edges[-1] > high else [*edges, 2 * edges[-1] - edges[-2]]) - np.float64(whole) / 2
    shares = []
    for answers in (human, predicted):
        weights = np.array(list(answers.values()), dtype=np.float64)
        places = np.clip(np.array(list(answers), dtype=np.float64), low, high)
        shares.append(np.histogram(places, edges, weights=weights)[0] / weights.sum())
    return edges, *shares
