"""Calibration: how often people gave the answers that the model found so probable, from one pass over predictions.

Does not cover: answers without a distribution (sampled, or made elsewhere), which are counted.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from socrates.console import progress, share
from socrates.evaluation.bootstrap import Interval, Units, Weights, intervals
from socrates.report.html import Table
from socrates.report.plot import DARK, LINE, Plot, drawn, legend, percent, short
from socrates.report.results_folders import Material, Results, Value, fixed, read_lines

BINS = 10  # of probability, equally wide
_NAMES = [f"{100 * low // BINS}–{100 * (low + 1) // BINS}%" for low in range(BINS)]


class _Line(BaseModel):
    """What is read of a line of `predictions.jsonl`."""

    model_config = ConfigDict(allow_inf_nan=False)

    study_id: str
    response: float
    predicted_distribution: dict[float, Annotated[float, Field(ge=0, le=1)]] | None = None


@dataclass(frozen=True)
class Calibration:
    """Probabilities of single answers, in bins of probability.

    Attributes:
        answers: shape (BINS,): answers whose probability lies in the bin.
        probability: shape (BINS,): their mean probability; NaN where there are none.
        frequency: shape (BINS,): the share of them that the person gave; NaN likewise.
        limits: 95% intervals of the frequency, studies resampled; None where there is none.
        rows: with a distribution.
        rows_without: one.
        missed: rows whose human answer has no probability at all.
    """

    answers: NDArray[np.int64]
    probability: NDArray[np.float64]
    frequency: NDArray[np.float64]
    limits: list[Interval | None]
    rows: int
    rows_without: int
    missed: int

    @property
    def error(self) -> float:
        """Mean distance of frequency and probability over the bins, weighted by the probability that a bin holds.

        Weighted by answers, as usual for classes, the many answers of wide scales that nobody gives would hide all.
        """
        some = self.answers > 0
        gaps = np.abs(self.frequency[some] - self.probability[some])
        return float(np.average(gaps, weights=self.answers[some] * self.probability[some]))


def read_calibration(path: Path, seed: int = 0) -> Calibration | None:
    """Read a `predictions.jsonl`; None where there is none, or no row has a distribution; ``seed`` of the resampling.

    Raises:
        SocratesError: a line that is no prediction; names file, line and field.
    """
    studies: defaultdict[str, NDArray] = defaultdict(lambda: np.zeros((3, BINS)))  # answers, probability, given
    rows = rows_without = missed = 0
    for _, _, line in progress(read_lines(path, _Line), f"reading {path.parent.name}"):
        if not line.predicted_distribution:
            rows_without += 1
            continue
        rows += 1
        # What has no probability says nothing about how sure the model was: top-p leaves it out, or at 0.
        probability = np.array([p for p in line.predicted_distribution.values() if p > 0])
        sums, places = studies[line.study_id], _bins(probability)
        sums[0] += np.bincount(places, minlength=BINS)
        sums[1] += np.bincount(places, probability, minlength=BINS)
        if given := line.predicted_distribution.get(line.response):
            sums[2, _bins(np.array(given))] += 1
        else:
            missed += 1
    if not rows:
        return None
    counts = np.array(list(studies.values()))
    answers, probability, given = counts.sum(axis=0)

    def frequencies(weights: Weights) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            return weights.pooled_sum(counts[:, 2]) / weights.pooled_sum(counts[:, 0])

    limits = intervals(Units(np.arange(len(counts))), frequencies, seed)
    with np.errstate(invalid="ignore"):
        mean, frequency = probability / answers, given / answers
    return Calibration(answers.astype(np.int64), mean, frequency, limits, rows, rows_without, missed)


def _bins(probability: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.minimum((probability * BINS).astype(np.int64), BINS - 1)


def calibration_part(material: Material) -> dict[str, Any]:
    """The curve of the subject and of the baseline, and a table."""
    subject = material.subject
    shown = [(one, found) for one in material.main if (found := material.calibrations.get(one.label))]
    own = material.calibrations.get(subject.label)
    return {
        "own": own,
        "missed": own and share(own.missed, own.rows),
        "errors": ", ".join(f"{one.label} {found.error:.3f}" for one, found in shown),
        "plots": (_picture(subject, shown),) if own else (),
        "tables": (_table(own),) if own else (),
    }


def _table(found: Calibration) -> Table:
    columns = (_NAMES, found.answers.tolist(), found.probability.tolist(), found.frequency.tolist(), found.limits)
    rows = tuple(
        (name, f"{answers:,}", fixed(100 * probability, 1), Value(frequency, limits).times(100).written(1))
        for name, answers, probability, frequency, limits in zip(*columns, strict=True)
    )
    return Table(("probability", "answers", "mean, %", "given, % [95% interval]"), rows, title="Calibration")


def _picture(subject: Results, shown: list[tuple[Results, Calibration]]) -> Plot:
    own = next(found for one, found in shown if one is subject)

    def draw(axes) -> None:
        axes.plot([0, 1], [0, 1], color=LINE, linewidth=1, linestyle="--")
        for place, limits in zip(own.probability, own.limits, strict=True):
            if limits is not None:
                axes.vlines(place, *limits, color=DARK, linewidth=1.3)
        for one, found in shown:
            some = found.answers > 0
            style, color, face = ("o-", DARK, DARK) if one is subject else ("s:", LINE, "white")
            curve = (found.probability[some], found.frequency[some])
            axes.plot(*curve, style, color=color, markerfacecolor=face, markersize=5, label=short(one.label))
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="the model's probability of an answer", ylabel="people gave it")
        percent(axes.xaxis)
        percent(axes.yaxis)
        legend(axes)

    words = ", ".join(
        f"{name} {100 * frequency:.0f}%"
        for name, answers, frequency in zip(_NAMES, own.answers, own.frequency, strict=True)
        if answers
    )
    alt = f"Curve: how often people gave answers by the probability that {subject.label} gave them: {words}."
    return drawn("Probability against frequency", 4.0, draw, alt, name="calibration")
