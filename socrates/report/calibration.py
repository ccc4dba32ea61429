"""Calibration: how often people gave the answers that the model found so probable, from one pass over predictions.

Does not cover: answers without a distribution (sampled, or made elsewhere), which are counted.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from socrates.console import Table, progress, share
from socrates.data.records import Cell, read_cell, read_jsonl
from socrates.errors import SocratesError
from socrates.evaluation.bootstrap import Interval, Weights, intervals, sorted_units
from socrates.evaluation.lines import answers_of
from socrates.files import finite
from socrates.report.part import SMALL, Material, Part, picture
from socrates.report.plot import DARK, EDGE, LIGHT, LINE, Plot, short
from socrates.report.results_folders import Results, Value, section_of

BINS = 10  # of probability, equally wide
_ROWS_AT_ONCE = 20_000


@dataclass
class AnswerCounts:
    """The answers in one cell, from its evaluated rows: answer -> how many."""

    human: Counter[float] = field(default_factory=Counter)
    sampled: Counter[float] = field(default_factory=Counter)
    expected: Counter[float] = field(default_factory=Counter)  # sum of the persons' distributions


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


def count_answers(
    path: Path, wanted: Collection[Cell] = (), seed: int = 0
) -> tuple[Calibration | None, dict[Cell, AnswerCounts]]:
    """Read a `predictions.jsonl`.

    Args:
        path: of the file.
        wanted: cells whose answers are to be counted.
        seed: of the resampling.

    Returns:
        The calibration, None where no row has a distribution; and the answers in the wanted cells.

    Raises:
        SocratesError: a line that is no prediction; names file, line and field.
    """
    wanted = set(wanted)
    tally = _Tally(path)
    cells: defaultdict[Cell, AnswerCounts] = defaultdict(AnswerCounts)
    for line, row in progress(read_jsonl(path), f"reading {path.parent.name}"):
        where = f"{path}, line {line}"
        cell = read_cell(row, where)
        response, distribution = finite(row.get("response")), row.get("predicted_distribution")
        if response is None:
            raise SocratesError(f'{where}: "response" must be a number, not {row.get("response")!r}')
        if distribution is not None:
            tally.add(line, cell.study_id, response, distribution)
        else:
            tally.rows_without += 1
        if cell in wanted:
            answers = cells[cell]
            answers.human[response] += 1
            if (prediction := finite(row.get("prediction"))) is not None:
                answers.sampled[prediction] += 1
            if distribution is not None:
                for answer, probability in zip(answers_of(tuple(distribution)), distribution.values(), strict=True):
                    answers.expected[answer] += probability
    return tally.calibration(seed), dict(cells)


class _Tally:
    """Sums by study and bin, a batch of rows at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._studies: dict[str, int] = {}
        self._sums = np.zeros((0, 3, BINS))  # of each study: answers, sums of their probability, given by people
        self._lines, self._rows_studies, self._lengths = array("q"), array("q"), array("q")
        self._probabilities, self._given = array("d"), array("q")
        self.rows, self.rows_without, self._missed = 0, 0, 0

    def add(self, line: int, study: str, response: float, distribution: Any) -> None:
        """A row with a distribution."""
        self.rows += 1
        start = len(self._probabilities)
        try:
            self._probabilities.extend(distribution.values())
            answers = answers_of(tuple(distribution))
        except (AttributeError, TypeError, ValueError) as error:
            raise self._bad(line) from error
        place = answers.index(response) if response in answers else None
        if place is None or not self._probabilities[start + place]:
            self._missed += 1
        else:
            self._given.append(start + place)
        self._lines.append(line)
        self._rows_studies.append(self._studies.setdefault(study, len(self._studies)))
        self._lengths.append(len(distribution))
        if len(self._lines) >= _ROWS_AT_ONCE:
            self._flush()

    def calibration(self, seed: int) -> Calibration | None:
        """The sums of all rows as shares."""
        self._flush()
        if not self.rows:
            return None
        answers, probability, given = self._sums.sum(axis=0)
        with np.errstate(invalid="ignore"):
            mean, frequency = probability / answers, given / answers
        units = sorted_units(list(map(str, range(len(self._studies)))))

        def frequencies(weights: Weights) -> NDArray[np.float64]:
            with np.errstate(invalid="ignore"):
                return weights.pooled_sum(self._sums[:, 2]) / weights.pooled_sum(self._sums[:, 0])

        limits = intervals(units, frequencies, seed)
        return Calibration(
            answers.astype(np.int64), mean, frequency, limits, self.rows, self.rows_without, self._missed
        )

    def _flush(self) -> None:
        if not len(self._lines):
            return
        probability = np.frombuffer(self._probabilities, np.float64)
        lengths = np.frombuffer(self._lengths, np.int64)
        if not ((probability >= 0) & (probability <= 1)).all():
            first = int(np.flatnonzero(~((probability >= 0) & (probability <= 1)))[0])
            raise self._bad(self._lines[int(np.searchsorted(np.cumsum(lengths), first, side="right"))])
        study = np.repeat(np.frombuffer(self._rows_studies, np.int64), lengths)
        place = study * BINS + np.minimum((probability * BINS).astype(np.int64), BINS - 1)
        some = probability > 0  # top-p leaves answers out, or at 0: these say nothing about how sure the model was
        size = len(self._studies) * BINS
        given = np.frombuffer(self._given, np.int64)
        counts = (
            np.bincount(place[some], minlength=size),
            np.bincount(place[some], probability[some], minlength=size),
            np.bincount(place[given], minlength=size),
        )
        sums = np.stack([part.reshape(-1, BINS) for part in counts], axis=1).astype(np.float64)
        sums[: len(self._sums)] += self._sums
        self._sums = sums
        self._lines, self._rows_studies, self._lengths = array("q"), array("q"), array("q")
        self._probabilities, self._given = array("d"), array("q")

    def _bad(self, line: int) -> SocratesError:
        return SocratesError(
            f'{self._path}, line {line}: "predicted_distribution" must be an object, answer -> probability'
        )


def calibration_part(material: Material) -> Part:
    """The curve of the subject and of the baseline, how many answers each bin holds, and a table."""
    subject, title = material.subject, "Calibration"
    calibration = material.calibrations.get(subject.label)
    if calibration is None:
        why = "has no predictions.jsonl" if not subject.predictions.exists() else "has no rows with a distribution"
        return Part("calibration", title, (f"{subject.folder} {why}, so calibration is not shown.",))
    lines = [
        "For each answer that the model may give: the probability that it has, against how often the person gave it. "
        "On the dashed line both are equal; below it the model is too sure. Vertical lines are 95% intervals, studies "
        "resampled.",
        decoding_in_words(subject),
        f"In {share(calibration.missed, calibration.rows)} of {calibration.rows:,} rows the person's answer has no "
        "probability at all.",
    ]
    if calibration.rows_without:
        lines.append(f"{calibration.rows_without:,} rows without a distribution are not counted.")
    shown = [(one, found) for one in material.main if (found := material.calibrations.get(one.label))]
    lines.append(
        "Calibration error (mean distance from the line, each answer weighted by its probability): "
        + ", ".join(f"{one.label} {found.error:.3f}" for one, found in shown)
        + "."
    )
    tables = (_table(subject, calibration),)
    folded = {f"that of {one.label}": (_table(one, found),) for one, found in shown if one is not subject}
    return Part("calibration", title, tuple(lines), (_picture(material, shown),), tables, folded)


def decoding_in_words(subject: Results) -> str:
    """What was done to the probabilities that are shown."""
    decoding = section_of(subject.metrics, "comparability").get("decoding")
    temperature, top_p = (
        finite(decoding.get(key)) if isinstance(decoding, dict) else None for key in ("temperature", "top_p")
    )
    if temperature is not None and top_p is not None:
        paper = ", as the paper asks its models" if (temperature, top_p) == (0.6, 0.9) else ""
        words = f"The probabilities are those after decoding (temperature {temperature:g}, top-p {top_p:g}){paper}."
        if temperature < 1 or top_p < 1:
            words += (
                " That sharpens them, so a curve flatter than the line is expected even of a model that is calibrated "
                "before decoding."
            )
        return words
    return "Decoding may have sharpened these probabilities; how they were made is not recorded."


def _bin_names() -> list[str]:
    return [f"{100 * low // BINS}–{100 * (low + 1) // BINS}%" for low in range(BINS)]


def _table(results: Results, calibration: Calibration) -> Table:
    rows = tuple(
        (
            name,
            f"{answers:,}",
            Value(probability if answers else None).percent().written(1),
            Value(frequency if answers else None, limits).percent().written(1),
        )
        for name, answers, probability, frequency, limits in zip(
            _bin_names(),
            calibration.answers.tolist(),
            calibration.probability.tolist(),
            calibration.frequency.tolist(),
            calibration.limits,
            strict=True,
        )
    )
    heads = ("probability", "answers", "mean, %", "given, % [95% interval]")
    return Table(heads, rows, title=f"Calibration: {results.label}")


def _picture(material: Material, shown: list[tuple[Results, Calibration]]) -> Plot:
    own = material.calibrations[material.subject.label]

    def draw(axes) -> None:
        upper, lower = axes
        upper.plot([0, 1], [0, 1], color=LINE, linewidth=1, linestyle="--")
        for one, found in shown:
            some = found.answers > 0
            main = one is material.subject
            if main:
                for place, limits in zip(found.probability, found.limits, strict=True):
                    if limits is not None:
                        upper.vlines(place, *limits, color=DARK, linewidth=1.3)
            upper.plot(
                found.probability[some],
                found.frequency[some],
                "o-" if main else "s:",
                color=DARK if main else LINE,
                markerfacecolor=DARK if main else "white",
                markersize=5,
                linewidth=1.4 if main else 1,
                label=short(one.label),
            )
        _percent_axes(upper.yaxis)
        upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="people gave it")
        upper.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1], [])
        upper.figure.legend(loc="outside lower left", ncols=2)
        middles = (np.arange(BINS) + 0.5) / BINS
        lower.bar(middles, np.maximum(own.answers, 0.8), 0.09, bottom=0, color=LIGHT, **EDGE)
        lower.set_yscale("log")
        lower.set(xlim=(0, 1), ylim=(0.8, None), ylabel="answers", xlabel="the model's probability of an answer")
        _percent_axes(lower.xaxis)
        lower.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        for one in axes:
            one.tick_params(labelsize=SMALL)

    words = ", ".join(
        f"{name} {100 * frequency:.0f}%"
        for name, answers, frequency in zip(_bin_names(), own.answers, own.frequency, strict=True)
        if answers
    )
    alt = f"Curve: how often people gave answers by the probability that {material.subject.label} gave them: {words}."
    return picture("Probability against frequency", 4.6, draw, alt, rows=2, ratios=(3, 1), name="calibration")


def _percent_axes(axis) -> None:
    axis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
