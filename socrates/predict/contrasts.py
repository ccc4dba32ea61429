"""What is compared in an experiment: main effects and interactions of its factors, and pairs of conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from itertools import chain, combinations, product
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from socrates.evaluation.effects import shown_pairs

Array = NDArray[np.float64]


class Contrasts(NamedTuple):
    """E comparisons of C conditions: side b minus side a, which are weighted sums of the conditions' means."""

    names: pd.DataFrame  # a row each: `effect` ("" of a pair), `condition_a`, `condition_b`, `name`
    a: Array  # shape (E, C)
    b: Array

    @property
    def weights(self) -> Array:
        """Shape (E, C): of each condition in the difference; they sum to 0."""
        return self.b - self.a


def find_contrasts(
    conditions: Sequence[str], factors: Mapping[str, Sequence[str]], levels: Sequence[Mapping[str, str]]
) -> Contrasts:
    """The comparisons of an experiment: effects of its factors, then pairs of conditions (`shown_pairs`).

    Other factors are averaged over with equal weights, as by sum-to-zero coding. A main effect compares a factor's
    levels in pairs, an interaction each level with the first one; of the interaction of two factors, a is the first
    one's effect at one level of the second, b at another. Where a crossing is no condition, there are pairs alone.
    ``factors`` are names and their levels; ``levels`` those of each condition.
    """
    places = {tuple(one[factor] for factor in factors): place for place, one in enumerate(levels) if factors}
    crossings = list(product(*factors.values()))
    rows, sides = [], []
    for compared in _effects(factors) if set(crossings) == set(places) else ():
        both = np.zeros((2, len(conditions)))
        both[:, [places[crossing] for crossing in crossings]] = _sides(factors, compared)
        *_, (last, (low, high)) = compared.items()
        changes = (f"{factor}: {factors[factor][b]} − {factors[factor][a]}" for factor, (a, b) in compared.items())
        ends = (f"{last}: {factors[last][level]}" for level in (low, high))
        rows.append((" × ".join(compared), *ends, ", by ".join(changes)))
        sides.append(both)
    for first, second in zip(*shown_pairs(len(conditions)), strict=True):
        a, b = conditions[first], conditions[second]
        rows.append(("", a, b, f"{b} − {a}"))
        sides.append(np.eye(len(conditions))[[first, second]])
    a, b = np.array(sides).reshape(-1, 2, len(conditions)).swapaxes(0, 1)
    return Contrasts(pd.DataFrame(rows, columns=["effect", "condition_a", "condition_b", "name"]), a, b)


def _effects(factors: Mapping[str, Sequence[str]]) -> Iterator[dict[str, tuple[int, int]]]:
    """Of each effect: factor -> indices of the two levels that are compared; main effects first."""
    for factor, levels in factors.items():
        yield from ({factor: pair} for pair in zip(*shown_pairs(len(levels)), strict=True))
    for chosen in chain.from_iterable(combinations(factors, size) for size in range(2, len(factors) + 1)):
        for picks in product(*(range(1, len(factors[factor])) for factor in chosen)):
            yield {factor: (0, pick) for factor, pick in zip(chosen, picks, strict=True)}


def _sides(factors: Mapping[str, Sequence[str]], compared: Mapping[str, tuple[int, int]]) -> Array:
    """Shape (2, crossings): the weights of side a and side b, crossings in the order of `product`."""
    parts = {}
    for factor, levels in factors.items():
        one, (a, b) = np.eye(len(levels)), compared.get(factor, (0, 0))
        parts[factor] = one[b] - one[a] if factor in compared else one.mean(axis=0)
    last = [*compared][-1]
    ends = np.eye(len(factors[last]))[[*compared[last]]]
    return np.array([reduce(np.kron, {**parts, last: end}.values()) for end in ends])
