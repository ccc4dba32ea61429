"""Pictures of a prediction: a question's distributions, one condition below the other, and its differences."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from socrates.predict.estimates import MEAN, ConditionEstimate, Difference
from socrates.predict.experiment import OutcomeQuestion
from socrates.predict.files import PROGRAM
from socrates.predict.predict import Prediction, QuestionPrediction
from socrates.report.plot import DARK, EDGE, LIGHT, LINE, Plot, drawn, make_bars, short
from socrates.report.results_folders import fixed

WIDTH = 4.5  # inches: on a phone of 390 pixels 10 points are 11 pixels
SMALL = 9  # points: the smallest text
MOST_CONDITIONS, MOST_DIFFERENCES = 24, 24  # in one picture
_LINE = 58  # characters of small text in a picture's width


class _Bars(NamedTuple):
    """Where bars stand, how high and how wide they are; ticks as (places, texts), None: where matplotlib likes."""

    middle: NDArray[np.float64]
    shares: NDArray[np.float64]
    width: float
    ticks: tuple[Sequence[float], list[str]] | None


def make_plots(prediction: Prediction) -> list[list[Plot]]:
    """The pictures of each question."""
    names = list(prediction.experiment.conditions)
    plots = []
    for place, one in enumerate(prediction.questions, start=1):
        plots.append([draw_distributions(one, names, f"distributions-{place}")])
        if any(found.difference.value is not None for found in one.differences):
            plots[-1].append(draw_differences(one, names, f"differences-{place}"))
    return plots


def draw_distributions(one: QuestionPrediction, names: Sequence[str], name: str) -> Plot:
    """Bars of each condition's answers on common axes, with the mean as a line where numbers measure something.

    Args:
        one: the prediction.
        names: of the conditions.
        name: of the picture as a file.
    """
    question = one.answers.question
    chosen = list(zip(names, one.conditions, strict=True))[:MOST_CONDITIONS]
    bars = [_bars(question, estimate) for _, estimate in chosen]
    highest = max(float(found.shares.max()) for found in bars)
    below = _answers_named(question)

    def draw(axes) -> None:
        axes = axes if isinstance(axes, list) else [axes]
        for ax, (condition, estimate), found in zip(axes, chosen, bars, strict=True):
            ax.bar(found.middle, found.shares, found.width * 0.86, color=LIGHT, **EDGE)
            mean = ""
            if not question.options:
                ax.axvline(estimate.mean.value, color=DARK, linewidth=2, linestyle="--")
                mean = f": mean {fixed(estimate.mean.value, 2)}"
            ax.set_title(f"{short(condition, 32)}{mean}", fontsize=SMALL + 0.5)
            ends = found.middle[0] - found.width / 2, found.middle[-1] + found.width / 2
            ax.set(xlim=ends, ylim=(0, highest * 1.08))
            ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
            if found.ticks is None:
                ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
            else:
                ax.set_xticks(*found.ticks)
            ax.tick_params(labelsize=SMALL)
        axes[-1].set_xlabel(below, fontsize=SMALL)

    told = "; ".join(
        f"{condition}: "
        + (_most_likely(question, estimate) if question.options else f"mean {fixed(estimate.mean.value, 2)}")
        for condition, estimate in chosen
    )
    alt = f"Bars of the predicted answers to {question.name}, {question.scale}, by condition. {told}."
    height = 0.55 + 1.25 * len(chosen) + 0.17 * (below.count("\n") + 1)
    title = f"Predicted answers: {short(question.name, 28)}"
    return drawn(title, height, draw, alt, width=WIDTH, rows=len(chosen), name=name, software=PROGRAM)


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
    title = f"Predicted differences: {short(question.name, 26)}"
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
                f"{_label(found, question, names)}:  {_signed(value, 1 if question.options else 2)}",
                (0, row),
                (2, 8),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                fontsize=SMALL,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
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


def _most_likely(question: OutcomeQuestion, estimate: ConditionEstimate) -> str:
    share, value = max(
        (share.value, value) for value, share in zip(question.scale.values, estimate.shares, strict=True)
    )
    return f"most often {question.labels[value]} ({100 * share:.0f}%)"


def _bars(question: OutcomeQuestion, estimate: ConditionEstimate) -> _Bars:
    """Options stand side by side, whatever their numbers; answers that measure something stand where they are."""
    values = question.scale.values
    shares = np.array([share.value for share in estimate.shares])
    if question.options:
        step = -(-len(values) // 20)
        places = np.arange(len(values))
        return _Bars(places, shares, 1.0, (places[::step], [str(value) for value in values[::step]]))
    by_answer = dict(zip(map(float, values), shares.tolist(), strict=True))
    found = make_bars(by_answer, by_answer, (float(question.scale.low), float(question.scale.high)))
    width = float(found.edges[1] - found.edges[0])
    step = 1 if len(values) <= 11 else 2
    ticks = (values[::step], [f"{value:,}" for value in values[::step]]) if width == 1 else None
    return _Bars((found.edges[:-1] + found.edges[1:]) / 2, found.predicted, width, ticks)


def _signed(value: float, digits: int) -> str:
    text = fixed(value, digits)
    return text if text.startswith("-") or not text.strip("0.") else f"+{text}"


def _answers_named(question: OutcomeQuestion) -> str:
    """What the numbers mean, in lines that fit."""
    if not question.labels:
        return "answer"
    named = "; ".join(f"{value}\u00a0=\u00a0{short(label, 50)}" for value, label in sorted(question.labels.items()))
    return "\n".join(textwrap.wrap(named, _LINE)[:6])
