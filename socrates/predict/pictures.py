"""Pictures of a prediction: a question's distributions, one condition below the other, and its differences."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd

from socrates.predict.estimates import DIFFERENCE
from socrates.predict.experiment import OutcomeQuestion
from socrates.predict.outcomes import QuestionPrediction
from socrates.report.plot import DARK, EDGE, LIGHT, PERCENT, SMALL, Plot, Point, draw_points, drawn, make_bars, short
from socrates.report.results_folders import fixed, values_in

MOST = 24  # conditions, or differences, in one picture
_LINE = 58  # characters of small text in a picture's width


def make_plots(one: QuestionPrediction, place: int) -> list[Plot]:
    """The pictures of the question that is the ``place``-th."""
    differences = [_draw_differences(one, f"differences-{place}")] if len(one.differences) else []
    return differences if one.index else [_draw_distributions(one, f"distributions-{place}"), *differences]


def main_differences(one: QuestionPrediction) -> pd.DataFrame:
    """Effects of factors, or, without factors, pairs of conditions."""
    return one.differences[(one.differences["effect"] != "") == one.is_factorial]


def _draw_distributions(one: QuestionPrediction, name: str) -> Plot:
    """Bars of each condition's answers on common axes, with the mean as a line where numbers measure something."""
    question, chosen = one.question, one.means[:MOST]
    values, below = question.answers.values, _answers_named(question)
    names = chosen["condition"]
    means = ["" if question.nominal else f": mean {fixed(mean, 2)}" for mean in chosen["mean"]]

    def draw(axes) -> None:
        axes = np.atleast_1d(axes)
        for ax, condition, written, mean, shares in zip(axes, names, means, chosen["mean"], one.shares, strict=False):
            if question.nominal:  # side by side, whatever their numbers
                middle, width = np.arange(len(values)), 1.0
                step = -(-len(values) // 20)
                ax.set_xticks(middle[::step], values[::step])
            else:
                weights = dict(zip(map(float, values), shares, strict=True))
                edges, shares, _ = make_bars(weights, weights, (float(values[0]), float(values[-1])))
                middle, width = (edges[:-1] + edges[1:]) / 2, edges[1] - edges[0]
                ax.axvline(mean, color=DARK, linewidth=2, linestyle="--")
                ax.locator_params(axis="x", nbins=11, integer=True)
            ax.bar(middle, shares, width * 0.86, color=LIGHT, **EDGE)
            ax.set_title(f"{short(condition, 32)}{written}")
            ax.set_xlim(middle[0] - width / 2, middle[-1] + width / 2)
            ax.yaxis.set_major_formatter(PERCENT)
        for ax in axes:
            ax.set_ylim(0, 1.08 * max(bar.get_height() for ax in axes for bar in ax.patches))
        axes[-1].set_xlabel(below, fontsize=SMALL)

    told = "; ".join(names + means)
    alt = f"Bars of the predicted answers to {one.name}, {question.answers}, by condition. {told}."
    height = 0.55 + 1.25 * len(chosen) + 0.17 * (below.count("\n") + 1)
    return drawn(f"Predicted answers: {short(one.name, 28)}", height, draw, alt, rows=len(chosen), name=name)


def _draw_differences(one: QuestionPrediction, name: str) -> Plot:
    """Each difference as a point on its interval, and thin what chance adds where people are asked."""
    labels, chosen = one.question.labels, main_differences(one)[:MOST]
    scale, unit = (100.0, "percentage points") if one.question.nominal else (1.0, "scale points")
    numbers = (found.times(scale) for found in values_in(chosen, DIFFERENCE))
    points = [
        Point(called, *number, around=chance * scale)
        for called, number, chance in zip(chosen["name"], numbers, chosen["by_chance"], strict=True)
    ]
    what = f"share of “{labels[min(labels)]}”" if len(labels) == 2 else "shares"
    unit = f"{what if one.question.nominal else 'difference of means'}, {unit}\nthick: over personas; thin: by chance"
    title = f"Predicted differences: {short(one.name, 26)}"
    return draw_points(title, points, unit, lines={"no difference": 0.0}, digits=2, name=name)


def _answers_named(question: OutcomeQuestion) -> str:
    """What the numbers mean, in lines that fit."""
    named = "; ".join(f"{value}\u00a0=\u00a0{short(label, 50)}" for value, label in sorted(question.labels.items()))
    return "\n".join(textwrap.wrap(named, _LINE)[:6]) or "answer"
