"""Pictures of a prediction: a question's distributions, one condition below the other, and its differences."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np

from socrates.drawing import DARK, EDGE, LIGHT, LINE, Plot, drawn, short
from socrates.prediction.estimates import MEAN, Difference
from socrates.prediction.experiment import OutcomeQuestion
from socrates.prediction.output_folder import PROGRAM
from socrates.prediction.predicting import QuestionPrediction
from socrates.report.cells import make_bars
from socrates.report.values import fixed

WIDTH = 4.5  # inches: on a phone of 390 pixels 10 points are 11 pixels
SMALL = 9  # points: the smallest text
MOST_CONDITIONS, MOST_DIFFERENCES = 24, 40  # in one picture
_LINE = 58  # characters of small text in a picture's width


def draw_distributions(one: QuestionPrediction, names: Sequence[str], name: str) -> Plot:
    """Bars of each condition's answers on common axes, with the mean as a line where numbers measure something.

    Args:
        one: the prediction.
        names: of the conditions.
        name: of the picture as a file.
    """
    question = one.answers.question
    chosen = list(zip(names, one.conditions, strict=True))[:MOST_CONDITIONS]
    ends = (float(question.scale.low), float(question.scale.high))
    bars = []
    for _, estimate in chosen:
        shares = {
            float(value): share.value for value, share in zip(question.scale.values, estimate.shares, strict=True)
        }
        bars.append(make_bars(shares, shares, ends))
    highest = max(float(found.predicted.max()) for found in bars)
    below = _answers_named(question)

    def draw(axes) -> None:
        axes = axes if isinstance(axes, list) else [axes]
        for ax, (condition, estimate), found in zip(axes, chosen, bars, strict=True):
            middle, width = (found.edges[:-1] + found.edges[1:]) / 2, np.diff(found.edges)
            ax.bar(middle, found.predicted, width * 0.86, color=LIGHT, **EDGE)
            mean = ""
            if not question.options:
                ax.axvline(estimate.mean.value, color=DARK, linewidth=2, linestyle="--")
                mean = f": mean {fixed(estimate.mean.value, 2)}"
            ax.set_title(f"{short(condition, 44)}{mean}", fontsize=SMALL + 0.5)
            ax.set(xlim=(found.edges[0], found.edges[-1]), ylim=(0, highest * 1.08))
            ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
            ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
            if np.allclose(width, 1):
                ax.set_xticks(_ticks(question))
            ax.tick_params(labelsize=SMALL)
        axes[-1].set_xlabel(below, fontsize=SMALL)

    told = "; ".join(
        f"{condition}: "
        + (_most_likely(question, estimate) if question.options else f"mean {fixed(estimate.mean.value, 2)}")
        for condition, estimate in chosen
    )
    alt = f"Bars of the predicted answers to {question.name}, {question.scale}, by condition. {told}."
    height = 0.55 + 1.25 * len(chosen) + 0.17 * (below.count("\n") + 1)
    return drawn(
        f"Predicted answers: {question.name}",
        height,
        draw,
        alt,
        width=WIDTH,
        rows=len(chosen),
        name=name,
        software=PROGRAM,
    )


def draw_differences(one: QuestionPrediction, names: Sequence[str], name: str) -> Plot:
    """Each difference as a point on its interval, and thin what chance adds where people are asked.

    Args:
        one: the prediction, with differences.
        names: of the conditions.
        name: of the picture as a file.
    """
    question, chosen = one.answers.question, one.differences[:MOST_DIFFERENCES]
    scale = 100.0 if question.options else 1.0
    unit = "percentage points" if question.options else "scale points"
    what = f"share of “{question.labels[question.scale.low]}”" if len(question.scale) == 2 else "shares"
    title = f"Predicted differences: {question.name}"
    shown = [found for found in chosen if found.difference.value is not None]

    def draw(axes) -> None:
        for row, found in enumerate(reversed(shown)):
            value, chance = found.difference.value * scale, found.by_chance * scale
            axes.hlines(row, value - chance, value + chance, color=LINE, linewidth=0.9)
            if found.difference.limits:
                low, high = (limit * scale for limit in found.difference.limits)
                axes.hlines(row, low, high, color=DARK, linewidth=2.5)
                axes.plot([low, high], [row, row], "|", color=DARK, markersize=9, markeredgewidth=1.8)
            axes.plot(value, row, "o", color=DARK, markersize=7)
            axes.annotate(
                f"{_label(found, question, names)}:  {value:+.{1 if question.options else 2}f}",
                (0, row),
                (2, 8),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                fontsize=SMALL,
            )
        axes.axvline(0, color=LINE, linewidth=1, linestyle=":")
        axes.set(ylim=(-0.6, len(shown) - 0.1), yticks=[])
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.06)
        axes.set_xlabel(
            f"{what if question.options else 'difference of means'}, {unit}\n"
            "thick: 95% over personas; thin: what chance adds among\n"
            f"{len(one.answers.personas):,} people in each condition",
            fontsize=SMALL,
        )
        axes.tick_params(labelsize=SMALL)

    told = "; ".join(f"{_label(found, question, names)} {fixed(found.difference.value * scale, 2)}" for found in shown)
    alt = f"Points with 95% intervals: predicted differences in {question.name}, {unit}. {told}."
    return drawn(title, 1.1 + 0.46 * len(shown), draw, alt, width=WIDTH, name=name, software=PROGRAM)


def _label(found: Difference, question: OutcomeQuestion, names: Sequence[str]) -> str:
    pair = f"{short(names[found.b], 26)} − {short(names[found.a], 26)}"
    if found.measure == MEAN or len(question.scale) == 2:
        return pair
    return (
        f"{short(question.labels[int(found.measure)], 14)}: {short(names[found.b], 18)} − {short(names[found.a], 18)}"
    )


def _most_likely(question: OutcomeQuestion, estimate) -> str:
    share, value = max(
        (share.value, value) for value, share in zip(question.scale.values, estimate.shares, strict=True)
    )
    return f"most often {question.labels[value]} ({100 * share:.0f}%)"


def _ticks(question: OutcomeQuestion) -> list[int]:
    values = question.scale.values
    step = 1 if len(values) <= 11 else 2
    return list(values[::step])


def _answers_named(question: OutcomeQuestion) -> str:
    """What the numbers mean, in lines that fit."""
    if not question.labels:
        return "answer"
    named = ";  ".join(f"{value} = {short(label, 60)}" for value, label in sorted(question.labels.items()))
    return "\n".join(textwrap.wrap(named, _LINE)[:6])
