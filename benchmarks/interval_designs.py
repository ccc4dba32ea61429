"""Made data sets with known truth, for `bench_intervals.py`: studies, cells and answers, drawn person by person.

A study's and a cell's question shift a latent opinion; cut into 2, 4, 5, 7 or 11 answers it is the human distribution.
A model's distribution is narrower and shifted by an error of its own, which studies share in part; the checkpoint's
error is a part of the baseline's plus some of its own. Both models share a person's random number, as the drawn
predictions of two evaluations do. The distance of a cell is computed from the answers alone, as
`socrates.evaluation.metrics` computes it: n human answers, k predictions, the range that the human answers happen to
have.

Does not cover: people who answer several questions of a study, which makes its cells alike in their luck. Studies are
resampled whole, so that this is seen; with one study an interval does not see it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

# Cells of each of the 20 studies of a 1% sample (2,780 real rows): a study of the made data sets has one of these.
REAL_CELLS = (2, 3, 4, 5, 5, 6, 6, 9, 12, 12, 12, 18, 21, 28, 30, 34, 65, 74, 98, 118)
POINTS = 11  # columns of a table of answers: the longest scale
_MODEL_SD = 0.7  # of the model's opinion, the human one's being 1: prompted models are too narrow
_KEPT = 0.6  # share of the baseline's error that the checkpoint keeps


@dataclass(frozen=True)
class Design:
    """How data sets are made.

    Attributes:
        studies: of each data set.
        cells: what a study's number of cells is drawn from.
        scale_up: human answers of a cell, times those of a 1% sample (a lognormal number from 1 to 100).
        asked: predictions of a cell at most; None: as many as human answers.
        points: what a study's number of possible answers is drawn from.
        differ: standard deviation, between studies, of opinions and of the models' errors.
        fixed: every data set has the same studies' sizes and cells' sizes.
        times: as many data sets as of the others, where the coverage is near a limit.
    """

    name: str
    studies: int
    cells: tuple[int, ...] = REAL_CELLS
    scale_up: int = 1
    asked: int | None = None
    points: tuple[int, ...] = (2, 4, 5, 7, 11)
    differ: float = 0.5
    fixed: bool = False
    times: int = 1


DESIGNS = (
    Design("40 studies, every row of a 1% sample", 40),
    Design("40 studies, the same sizes in each data set", 40, fixed=True),
    Design("40 studies, all rows human, 20 asked a cell", 40, scale_up=100, asked=20),
    Design("170 studies, 20 asked a cell", 170, scale_up=100, asked=20),
    Design("6 studies, 20 asked a cell", 6, scale_up=100, asked=20, times=5),
    Design("40 studies of one cell each", 40, cells=(1,), scale_up=100, asked=50),
    Design("1 study of 60 cells", 1, cells=(60,), scale_up=100, asked=20, points=(7,), differ=0.0),
)


@dataclass(frozen=True)
class Distances:
    """Scored cells of many data sets, ordered by data set, then by study; arrays of shape (cells,)."""

    data_set: Counts
    study: Counts  # numbered through all data sets
    baseline: Array  # Wasserstein distance, in units of the observed human range
    checkpoint: Array

    def each(self) -> Iterator[tuple[Counts, Array, Array]]:
        """Study (from 0 without a gap), baseline and checkpoint of each data set."""
        bounds = np.flatnonzero(np.diff(self.data_set)) + 1
        for study, baseline, checkpoint in zip(
            *(np.split(column, bounds) for column in (self.study, self.baseline, self.checkpoint)), strict=True
        ):
            yield np.cumsum(np.diff(study, prepend=study[0]) > 0), baseline, checkpoint


def draw(design: Design, data_sets: int, seed: int) -> Distances:
    """Make data sets, ask both models and measure every cell."""
    rng = np.random.default_rng(seed)
    parts = []
    for first in range(0, data_sets, 10):
        number = min(10, data_sets - first) * design.studies
        study, human = _sizes(design, number, rng)
        study += first * design.studies
        distances = np.stack(distances_of(*answers(design, study, human, rng)))
        scored = ~np.isnan(distances).any(axis=0)
        parts.append((study[scored] // design.studies, study[scored], *distances[:, scored]))
    return Distances(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def truth(design: Design, seed: int, studies: int) -> tuple[Array, Array]:
    """Expected W of baseline and checkpoint under the design, over so many studies, and its standard errors."""
    drawn = draw(design, max(1, studies // design.studies), seed)
    if design.studies == 1:  # its cells are what is resampled
        means = np.stack([drawn.baseline, drawn.checkpoint])
    else:
        starts = np.flatnonzero(np.diff(drawn.study, prepend=-1))
        sizes = np.diff(starts, append=len(drawn.study))
        means = np.stack([np.add.reduceat(side, starts) / sizes for side in (drawn.baseline, drawn.checkpoint)])
    return means.mean(axis=1), means.std(axis=1) / np.sqrt(means.shape[1])


def answers(design: Design, study: Counts, human: Counts, rng: np.random.Generator) -> tuple[Counts, Counts, Counts]:
    """Counts of human answers, baseline's and checkpoint's predictions: shape (cells, POINTS) each."""
    number, cells = int(study[-1] - study[0]) + 1, len(study)
    of_study = study - study[0]

    def shift(between: float, within: float) -> Array:
        return rng.normal(0, between, number)[of_study] + rng.normal(0, within, cells)

    points = rng.choice(design.points, number)[of_study]
    opinion = shift(design.differ, 0.5)
    error = 0.25 + shift(design.differ, 0.6)
    other_error = _KEPT * error + shift(design.differ / 5, 0.3)
    counts = rng.multinomial(human, probabilities(opinion, 1.0, points))
    asked = human if design.asked is None else np.minimum(human, design.asked)
    person = np.repeat(np.arange(cells), asked)
    luck = rng.random(len(person))
    predicted = []
    for shifted in (error, other_error):
        cumulative = np.cumsum(probabilities(opinion + shifted, _MODEL_SD, points), axis=1)
        answer = (luck[:, None] >= cumulative[person, :-1]).sum(axis=1)
        flat = np.bincount(person * POINTS + answer, minlength=cells * POINTS)
        predicted.append(flat.reshape(cells, POINTS))
    return counts, predicted[0], predicted[1]


def probabilities(mean: Array, sd: float, points: Counts) -> Array:
    """A normal opinion cut into ``points`` answers, evenly between -1.8 and 1.8: shape (cells, POINTS)."""
    column = np.arange(1, POINTS)
    with np.errstate(divide="ignore", invalid="ignore"):
        cuts = np.where(points[:, None] == 2, 0.0, -1.8 + 3.6 * (column - 1) / (points[:, None] - 2))
    cumulative = np.where(column < points[:, None], ndtr((cuts - mean[:, None]) / sd), 1.0)
    return np.diff(cumulative, axis=1, prepend=0.0, append=1.0)


def distances_of(human: Counts, *predicted: Counts) -> list[Array]:
    """First Wasserstein distance of each cell to each model's answers, from counts: shape (cells,), NaN: skipped.

    Clipping moves what lies beyond the human range to its ends, so that only the cumulative shares between them count.
    """
    column = np.arange(human.shape[1])
    low = (human > 0).argmax(axis=1)
    high = human.shape[1] - 1 - (human[:, ::-1] > 0).argmax(axis=1)
    inside = (column >= low[:, None]) & (column < high[:, None])
    width = np.where(high > low, high - low, np.nan)
    share = np.cumsum(human, axis=1) / np.maximum(1, human.sum(axis=1, keepdims=True))
    return [
        (np.abs(share - np.cumsum(model, axis=1) / model.sum(axis=1, keepdims=True)) * inside).sum(axis=1) / width
        for model in predicted
    ]


def _sizes(design: Design, studies: int, rng: np.random.Generator) -> tuple[Counts, Counts]:
    """Study and number of human answers of each cell; a fixed design repeats those of its first data set."""
    if design.fixed:
        repeats = studies // design.studies
        rng, studies = np.random.default_rng(0), design.studies
    cells = rng.choice(design.cells, studies)
    study = np.repeat(np.arange(studies), cells)
    # Half of the cells of a 1% sample hold one or two answers, a tenth more than 20.
    human = np.clip(np.rint(np.exp(rng.normal(0.9, 1.3, len(study)))), 1, 100).astype(np.int64)
    if design.fixed:
        study = (study + studies * np.arange(repeats)[:, None]).ravel()
        human = np.tile(human, repeats)
    return study, human * design.scale_up
