"""Calibration: how often people gave the answers that the model found so probable, from one pass over predictions.

Does not cover: answers without a distribution (sampled, or made elsewhere) or of many people, which are counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from socrates.console import progress, share
from socrates.evaluation.bootstrap import Units, Weights, intervals
from socrates.evaluation.results import PREDICTIONS
from socrates.report.html import Table
from socrates.report.plot import DARK, LINE, PERCENT, Plot, drawn, legend, short
from socrates.report.results_folders import Material, fixed, read_lines, values_in

BINS = 10  # of probability, equally wide
_NAMES = [f"{100 * low // BINS}–{100 * (low + 1) // BINS}%" for low in range(BINS)]


class _Line(BaseModel):
    """What is read of a line of `predictions.jsonl`."""

    model_config = ConfigDict(allow_inf_nan=False)

    study_id: str
    response: float | None  # None: of many people
    predicted_distribution: dict[float, Annotated[float, Field(ge=0, le=1)]] | None = None


class Calibration(NamedTuple):
    """Probabilities of single answers, in bins of probability.

    A bin is a row: how many `answers` lie in it, their mean `probability`, `frequency`, the share of them that the
    person gave, and its 95% interval, `low` and `high`, studies resampled; NaN where there is none.
    """

    bins: pd.DataFrame
    rows: int  # with a distribution
    rows_without: int
    missed: int  # rows whose human answer has no probability at all

    @property
    def error(self) -> float:
        """Mean distance of frequency and probability over the bins, weighted by the probability that a bin holds.

        Weighted by answers, as usual for classes, the many answers of wide scales that nobody gives would hide all.
        """
        some = self.bins[self.bins["answers"] > 0]
        gaps = np.abs(some["frequency"] - some["probability"])
        return float(np.average(gaps, weights=some["answers"] * some["probability"]))


def read_calibration(path: Path, seed: int = 0) -> Calibration | None:
    """Read a `predictions.jsonl`; None where there is none, or no row has a distribution; ``seed`` of the resampling.

    Raises:
        SocratesError: a line that is no prediction; names file, line and field.
    """
    studies: defaultdict[str, NDArray] = defaultdict(lambda: np.zeros((3, BINS)))  # answers, probability, given
    rows = rows_without = missed = 0
    for line in progress(read_lines(path, _Line), f"reading {path.parent.name}"):
        if line.response is None or not line.predicted_distribution:
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

    def frequencies(weights: Weights) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            return weights.pooled_sum(counts[:, 2]) / weights.pooled_sum(counts[:, 0])

    limits = intervals(Units(np.arange(len(counts))), frequencies, seed)
    bins = pd.DataFrame(counts.sum(axis=0).T, columns=["answers", "probability", "frequency"])
    bins[["probability", "frequency"]] = bins[["probability", "frequency"]].div(bins["answers"], axis=0)
    bins[["low", "high"]] = [one or (np.nan, np.nan) for one in limits]
    return Calibration(bins.astype({"answers": int}), rows, rows_without, missed)


def _bins(probability: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.minimum((probability * BINS).astype(np.int64), BINS - 1)


def calibration_part(material: Material) -> dict[str, Any]:
    """The curve of the subject and of the baseline, and a table."""
    subject = material.subject
    every = {one.label: read_calibration(one.folder / PREDICTIONS) for one in material.main}
    shown = {label: found for label, found in every.items() if found}
    own = shown.get(subject.label)
    return {
        "own": own,
        "missed": own and share(own.missed, own.rows),
        "errors": ", ".join(f"{label} {found.error:.3f}" for label, found in shown.items()),
        "plots": (_picture(subject.label, shown),) if own else (),
        "tables": (_table(own.bins),) if own else (),
    }


def _table(bins: pd.DataFrame) -> Table:
    given = [value.times(100).written(1) for value in values_in(bins, ("frequency", "low", "high"))]
    answers, means = bins["answers"].map("{:,}".format), (100 * bins["probability"]).map(lambda mean: fixed(mean, 1))
    rows = tuple(zip(_NAMES, answers, means, given, strict=True))
    return Table(("probability", "answers", "mean, %", "given, % [95% interval]"), rows, title="Calibration")


def _picture(subject: str, shown: Mapping[str, Calibration]) -> Plot:
    own = shown[subject].bins

    def draw(axes) -> None:
        axes.plot([0, 1], [0, 1], color=LINE, linewidth=1, linestyle="--")
        known = own.dropna()
        axes.vlines(known["probability"], known["low"], known["high"], color=DARK, linewidth=1.3)
        for label, found in shown.items():
            style, color, face = ("o-", DARK, DARK) if label == subject else ("s:", LINE, "white")
            curve = found.bins[["probability", "frequency"]].dropna()
            axes.plot(*curve.to_numpy().T, style, color=color, markerfacecolor=face, markersize=5, label=short(label))
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="the model's probability of an answer", ylabel="people gave it")
        axes.xaxis.set_major_formatter(PERCENT)
        axes.yaxis.set_major_formatter(PERCENT)
        legend(axes)

    words = ", ".join(f"{_NAMES[bin]} {100 * frequency:.0f}%" for bin, frequency in own["frequency"].dropna().items())
    alt = f"Curve: how often people gave answers by the probability that {subject} gave them: {words}."
    return drawn("Probability against frequency", 4.0, draw, alt, name="calibration")
