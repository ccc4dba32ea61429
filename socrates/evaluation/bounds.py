"""What guesses, and people themselves, would score on a cell: the bounds that a distance is read between.

Each is the exact expectation of the first Wasserstein distance when k answers are drawn from a distribution function G:
at each point x their empirical one is Binomial(k, G(x)) / k, so it is the integral of E|Binomial(k, G(x)) / k - F(x)|
over x, F being the human one, which has a closed form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from socrates.data.scales import Scale
from socrates.evaluation.full_size import binomial_deviation

if TYPE_CHECKING:
    from socrates.data.dataset import ScalePriors

Array = NDArray[np.float64]

# Numbers of people that are resampled, 1 to 10,000; 5 and 20 are among them.
PEOPLE = np.unique(np.geomspace(1, 10_000, 41).round()).astype(int)
_MOST_VALUES = 10_001  # of a scale, before it is thinned: 1e-4 of its width apart


def bounds_of_cell(
    human_answers: Mapping[float, float],
    scale: Sequence[float] | None,
    draws: int,
    pooled: Mapping[float, float],
    priors: ScalePriors | None,
) -> dict[str, Any]:
    """Expected distances between all human answers of a cell and drawn ones, in units of the human range.

    Args:
        human_answers: how often each was given, ascending, at least two different ones.
        scale: the valid answers that the question states; None: it states none.
        draws: how many are drawn, but from people.
        pooled: how often each answer was given in all conditions of the question, this one included.
        priors: how people answer on each scale; None: not known.

    Returns:
        "uniform_guess": drawn uniformly from the scale, or from the whole numbers of the human range. "scale_prior":
        from how people answer other questions with that scale; where no such question is known, it is the uniform
        guess; None without ``priors``. "pooled_conditions": from ``pooled``. "empirical_best": from the human answers
        themselves. "people": likewise, shape (len(PEOPLE),), drawn for so many people instead of ``draws``.
    """
    low, high = min(human_answers), max(human_answers)
    human = standardise(np.array(list(human_answers), np.float64), low, high), np.array(list(human_answers.values()))

    def expected(answers: Sequence[float] | Array, weights: Sequence[float] | Array) -> float:
        answers, weights = np.asarray(answers, np.float64), np.asarray(weights, np.float64)
        order = np.argsort(answers)
        return expected_distance(*human, standardise(answers[order], low, high), weights[order], draws)

    values = uniform_answers(scale, low, high)
    uniform = expected(values, np.ones(len(values)))
    prior = priors.get(str(Scale(tuple(scale)))) if priors and scale else None
    return {
        "uniform_guess": uniform,
        "scale_prior": expected([*map(float, prior)], [*prior.values()]) if prior else uniform if priors else None,
        "pooled_conditions": expected([*pooled], [*pooled.values()]),
        "empirical_best": expected_distance(*human, *human, draws),
        "people": expected_distance(*human, *human, PEOPLE),
    }


def nominal_bounds(human_answers: Mapping[float, float], scale: Sequence[float] | None, draws: int) -> dict[str, float]:
    """Expected total variation between all human answers of a nominal cell and drawn ones.

    Args:
        human_answers: how often each was given.
        scale: the valid answers; None: those that were given.
        draws: how many are drawn.

    Returns:
        "uniform_guess": drawn uniformly from the valid answers. "empirical_best": from the human answers themselves.
    """
    options = np.union1d([*human_answers], scale or ())
    human = np.array([human_answers.get(option, 0.0) for option in options.tolist()]) / sum(human_answers.values())
    uniform = np.isin(options, scale or options) / len(scale or options)
    guesses = {"uniform_guess": uniform, "empirical_best": human}
    return {name: 0.5 * math.fsum(binomial_deviation(draws, guess, human)) for name, guess in guesses.items()}


def worth_people(distances: Array, people: Array) -> Array:
    """The number of people who, resampled, score the same: as good as that many people of the very population.

    Args:
        distances: shape (R,).
        people: shape (R, len(PEOPLE)), what so many people score; falls along the second axis.

    Returns:
        shape (R,), interpolated between the logarithms; 0 where one person scores less already, and the last of
        `PEOPLE` where so many do not score less.
    """
    rows, place = np.arange(len(distances)), np.clip((people > distances[:, None]).sum(axis=1), 1, len(PEOPLE) - 1)
    above, below = (np.log(people[rows, place - step]) for step in (1, 0))
    with np.errstate(divide="ignore"):
        share = np.clip((above - np.log(distances)) / (above - below), None, 1.0)
    few, many = np.log(PEOPLE[place - 1]), np.log(PEOPLE[place])
    return np.where(share < 0, 0.0, np.minimum(np.exp(few + share * (many - few)), PEOPLE[-1]))


def standardise(answers: Array, low: float, high: float) -> Array:
    """Scale points to units of a range. Clipping first is the same, and 1e97 cannot overflow."""
    return (np.clip(answers, low, high) - low) / (high - low)


def expected_distance(human: Array, weights: Array, guess: Array, probabilities: Array, draws: Any) -> Any:
    """E[first Wasserstein distance] between human answers and ``draws`` independent answers from a guess.

    Args:
        human: shape (n,), distinct human answers, ascending.
        weights: shape (n,), how often each was given (any positive scale).
        guess: shape (m,), distinct answers of the guess, ascending, in the same units.
        probabilities: shape (m,), of each (any positive scale).
        draws: answers drawn, at least 1; () or shape (k,).

    Returns:
        The expectation, in the units of ``human``; for each of ``draws``.
    """
    points = np.union1d(human, guess)
    at_human, at_guess = distribution_at(human, weights, points), distribution_at(guess, probabilities, points)
    return binomial_deviation(np.asarray(draws)[..., None], at_guess[:-1], at_human[:-1]) @ np.diff(points)


def uniform_answers(scale: Sequence[int] | None, low: float, high: float) -> Array:
    """The answers of a uniform guess, ascending: those of the stated scale, or the whole numbers of the human range."""
    if scale is not None:
        values = np.asarray(scale, dtype=np.float64)
    elif high - low < _MOST_VALUES:
        values = np.arange(np.ceil(low), np.floor(high) + 1)
    else:
        values = np.linspace(low, high, _MOST_VALUES)
    if len(values) > _MOST_VALUES:
        values = values[np.linspace(0, len(values) - 1, _MOST_VALUES).round().astype(int)]
    return values if len(values) else np.array([low, high])


def distribution_at(values: Array, weights: Array, points: Array) -> Array:
    """The distribution functions of weighted samples of the same values at ``points``: shape (..., points)."""
    cumulative = np.cumsum(weights, axis=-1)
    cumulative = np.concatenate([np.zeros_like(cumulative[..., :1]), cumulative], axis=-1)
    return cumulative[..., np.searchsorted(values, points, side="right")] / cumulative[..., -1:]
