"""One pass over `predictions.jsonl`: how often people gave the answers that the model found so probable.

Covers: files of any size. Does not cover: answers without a distribution (sampled, or made elsewhere),
which are counted.
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

from socrates.console import progress
from socrates.data.records import Cell, read_cell, read_jsonl
from socrates.errors import SocratesError
from socrates.evaluation.bootstrap import Interval, Weights, intervals, sorted_units
from socrates.evaluation.lines import answers_of
from socrates.files import finite

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
