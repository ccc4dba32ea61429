"""Pictures of a prediction: a question's distributions, one condition below the other, and its differences."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np

from socrates.predict.estimates import MEAN, Difference
from socrates.predict.experiment import OutcomeQuestion
from socrates.predict.predict import Prediction, QuestionPrediction
from socrates.report.plot import DARK, EDGE, LIGHT, SMALL, Plot, Point, draw_points, drawn, make_bars, percent, short
from socrates.report.results_folders import fixed

MOST = 24  # conditions, or differences, in one picture
_LINE = 58  # characters of small text in a picture's width


def make_plots(prediction: Prediction) -> list[list[Plot]]:
    """The pictures of each question."""
    names = list(prediction.experiment.conditions)
    plots = []
    for place, one in enumerate(prediction.questions, start=1):
        plots.append([_draw_distributions(one, names, f"distributions-{place}")])
        if known := [found for found in one.differences if found.difference.value is not None]:
            plots[-1].append(_draw_differences(one, known[:MOST], names, f"differences-{place}"))
    return plots


def difference_label(found: Difference, question: OutcomeQuestion, names: Sequence[str]) -> str:
    """Which conditions are compared, and of several options which one."""
    pair = f"{names[found.b]} − {names[found.a]}"
    alone = found.measure == MEAN or len(question.scale) == 2
    return pair if alone else f"{question.labels[found.measure]}: {pair}"


def _draw_distributions(one: QuestionPrediction, names: Sequence[str], name: str) -> Plot:
    """Bars of each condition's answers on common axes, with the mean as a line where numbers measure something."""
    question, chosen = one.question, list(zip(names, one.conditions, strict=True))[:MOST]
    values, below = question.scale.values, _answers_named(question)
    means = [": mean " + fixed(estimate.mean.value, 2) if not question.options else "" for _, estimate in chosen]
    highest = max(share.value for _, estimate in chosen for share in estimate.shares)

    def draw(axes) -> None:
        axes = np.atleast_1d(axes)
        for ax, (condition, estimate), mean in zip(axes, chosen, means, strict=True):
            shares = [share.value for share in estimate.shares]
            if question.options:  # side by side, whatever their numbers
                middle, width = np.arange(len(values)), 1.0
                step = -(-len(values) // 20)
                ax.set_xticks(middle[::step], values[::step])
            else:
                weights = dict(zip(map(float, values), shares, strict=True))
                edges, shares, _ = make_bars(weights, weights, (float(values[0]), float(values[-1])))
                middle, width = (edges[:-1] + edges[1:]) / 2, edges[1] - edges[0]
                ax.axvline(estimate.mean.value, color=DARK, linewidth=2, linestyle="--")
                ax.locator_params(axis="x", nbins=11, integer=True)
            ax.bar(middle, shares, width * 0.86, color=LIGHT, **EDGE)
            ax.set_title(f"{short(condition, 32)}{mean}")
            ax.set(xlim=(middle[0] - width / 2, middle[-1] + width / 2), ylim=(0, highest * 1.08))
            percent(ax.yaxis)
        axes[-1].set_xlabel(below, fontsize=SMALL)

    told = "; ".join(f"{condition}{mean}" for (condition, _), mean in zip(chosen, means, strict=True))
    alt = f"Bars of the predicted answers to {question.name}, {question.scale}, by condition. {told}."
    height = 0.55 + 1.25 * len(chosen) + 0.17 * (below.count("\n") + 1)
    return drawn(f"Predicted answers: {short(question.name, 28)}", height, draw, alt, rows=len(chosen), name=name)


def _draw_differences(one: QuestionPrediction, chosen: Sequence[Difference], names: Sequence[str], name: str) -> Plot:
    """Each difference as a point on its interval, and thin what chance adds where people are asked."""
    question = one.question
    scale, unit = (100.0, "percentage points") if question.options else (1.0, "scale points")
    points = [
        Point(
            difference_label(found, question, names),
            *found.difference.times(scale),
            around=found.by_chance * scale,
        )
        for found in chosen
    ]
    what = f"share of “{question.labels[question.scale.low]}”" if len(question.scale) == 2 else "shares"
    unit = f"{what if question.options else 'difference of means'}, {unit}\nthick: over personas; thin: by chance"
    title = f"Predicted differences: {short(question.name, 26)}"
    return draw_points(title, points, unit, lines={"no difference": 0.0}, digits=2, name=name)


def _answers_named(question: OutcomeQuestion) -> str:
    """What the numbers mean, in lines that fit."""
    named = "; ".join(f"{value}\u00a0=\u00a0{short(label, 50)}" for value, label in sorted(question.labels.items()))
    return "\n".join(textwrap.wrap(named, _LINE)[:6]) or "answer"
