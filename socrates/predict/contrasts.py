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
    one's effect at one level of the second, b at another.

    Args:
        conditions: names of all C.
        factors: name -> levels; where a crossing of them is no condition, there are pairs alone.
        levels: of each condition, factor -> level.
    """
    places = {tuple(one[factor] for factor in factors): place for place, one in enumerate(levels) if factors}
    crossings = list(product(*factors.values()))
    rows, sides = [], []
    for compared in _effects(factors) if set(crossings) == set(places) else ():
        both = np.zeros((2, len(conditions)))
        both[:, [places[crossing] for crossing in crossings]] = _sides(factors, compared)
        *before, (last, low, high) = [
            (factor, factors[factor][low], factors[factor][high]) for factor, (low, high) in compared.items()
        ]
        name = ", by ".join(f"{factor}: {b} − {a}" for factor, a, b in [*before, (last, low, high)])
        rows.append((" × ".join(compared), f"{last}: {low}", f"{last}: {high}", name))
        sides.append(both)
    for first, second in zip(*shown_pairs(len(conditions)), strict=True):
        a, b = conditions[first], conditions[second]
        rows.append(("", a, b, f"{b} − {a}"))
        sides.append(np.eye(len(conditions))[[first, second]])
    a, b = np.array(sides).reshape(-1, 2, len(conditions)).swapaxes(0, 1)
    return Contrasts(pd.DataFrame(rows, columns=["effect", "condition_a", "condition_b", "name"]), a, b)


def _effects(factors: Mapping[str, Sequence[str]]) -> Iterator[dict[str, tuple[int, int]]]:
    """Of each effect: factor -> indices of the two levels that are compared; main effects first."""
    for chosen in chain.from_iterable(combinations(factors, size + 1) for size in range(len(factors))):
        first, second = shown_pairs(len(factors[chosen[0]]))
        pairs = [list(zip(first.tolist(), second.tolist(), strict=True))]
        if len(chosen) > 1:
            pairs = [[(0, level) for level in range(1, len(factors[factor]))] for factor in chosen]
        for picks in product(*pairs):
            yield dict(zip(chosen, picks, strict=True))


def _sides(factors: Mapping[str, Sequence[str]], compared: Mapping[str, tuple[int, int]]) -> Array:
    """Shape (2, crossings): the weights of side a and side b, crossings in the order of `product`."""
    sides, last = [], list(compared)[-1]
    for side in range(2):
        parts = []
        for factor, names in factors.items():
            one = np.eye(len(names))
            if factor not in compared:
                parts.append(np.full(len(names), 1 / len(names)))
            elif factor == last:
                parts.append(one[compared[factor][side]])
            else:
                parts.append(one[compared[factor][1]] - one[compared[factor][0]])
        sides.append(reduce(np.kron, parts))
    return np.array(sides)
