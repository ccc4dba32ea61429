"""95% intervals over people, for data split by person: what other people of the same study would have given.

A jackknife: people are put into groups at random, each group with all its answers is left out once, and every number is
computed again from the others, predicted and human side alike. The variance is (G - 1) / G times the sum of squared
differences to the mean of the G numbers (Efron and Stein 1981, Annals of Statistics 9, 586-596); the interval is
Student's with G - 1 degrees of freedom. Groups depend on the seed and the people's names alone, so that two models are
compared with the same people left out.

Does not cover: people who answered and were not asked about (they stay on the human side of each replicate), other
questions, other studies.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import stdtrit

from socrates.data.records import Cell
from socrates.errors import SocratesError
from socrates.evaluation.bootstrap import Array, Interval
from socrates.evaluation.cells import ScoredRow, human_answers_of
from socrates.evaluation.intervals import by_name
from socrates.evaluation.lines import scored_row
from socrates.evaluation.metrics import NAMES, Scores, score

if TYPE_CHECKING:
    from socrates.data.dataset import ScalePriors

METHOD = "jackknife of people within this study (Student's)"
SCOPE = "of new people of this study only"
_GROUPS = 60
FEWEST = 10  # people

Humans = Mapping[Cell, Mapping[float, float]]


def numbers_of(scores: Scores) -> Array:
    """The numbers of `Metrics`, `Bounds` and `Nominal`, NaN where not defined."""
    nominal = vars(scores.nominal_metrics).values() if scores.nominal_metrics else (None,) * 3
    found = {**vars(scores.metrics), **vars(scores.bounds)}
    return np.array([*(found[name] for name in NAMES), *nominal], dtype=np.float64)


def replicates(
    lines: Sequence[Mapping[str, Any]],
    humans: Humans,
    seed: int,
    priors: ScalePriors | None = None,
    numbers: Callable[[Scores], Array] = numbers_of,
) -> Array | None:
    """Numbers with each group of people left out: shape (G, K); None where there are too few people.

    Args:
        lines: of `predictions.jsonl`, with predictions.
        humans: all human answers of their cells.
        seed: of the groups.
        priors: as `score` takes them.
        numbers: from scores to K numbers.
    """
    people = sorted({_person(line) for line in lines})
    if len(people) < FEWEST:
        return None
    number = min(_GROUPS, len(people))
    order = np.random.default_rng([seed, len(people)]).permutation(len(people))
    group_of = {people[index]: rank % number for rank, index in enumerate(order.tolist())}
    groups: defaultdict[int, list[ScoredRow]] = defaultdict(list)
    for line in lines:
        groups[group_of[_person(line)]].append(scored_row(line))
    asked = human_answers_of(row for rows in groups.values() for row in rows)
    # Whom the model was not asked about.
    others = {cell: Counter(humans[cell]) - Counter(asked[cell]) for cell in asked}
    try:
        return np.array([numbers(_without(groups, left_out, others, priors)) for left_out in range(number)])
    except SocratesError:  # no cell can be scored without one of the groups
        return None


def _without(groups: Mapping[int, Sequence[ScoredRow]], left_out: int, others: Humans, priors: Any) -> Scores:
    rows = [row for group, rows in groups.items() if group != left_out for row in rows]
    humans = {cell: Counter(kept) + others[cell] for cell, kept in human_answers_of(rows).items()}
    return score(rows, humans, priors=priors)


def _person(line: Mapping[str, Any]) -> tuple[str, str]:
    named = line["participant"] if line["participant"] is not None else f"line {line['line']}"
    return line["study_id"], str(named)


def people_intervals(scores: Scores, lines: Sequence[Mapping[str, Any]], humans: Humans, seed: int) -> dict[str, Any]:
    """As `metric_intervals`, over people; all None where there are too few."""
    points, found = numbers_of(scores), replicates(lines, humans, seed, scores.priors)
    limits = [None] * len(points) if found is None else map(interval_of, points.tolist(), found.T)
    return by_name(scores, [*limits])


def interval_of(point: float, found: Array) -> Interval | None:
    """The interval of one number from its value in each replicate, shape (G,); None where one is not defined."""
    if not np.isfinite([point, *found]).all():
        return None
    number = len(found)
    half = stdtrit(number - 1, 0.975) * math.sqrt((number - 1) / number * ((found - found.mean()) ** 2).sum())
    return Interval(float(f"{point - half:.6g}"), float(f"{point + half:.6g}"))
