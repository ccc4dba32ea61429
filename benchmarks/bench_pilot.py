#!/usr/bin/env python3
"""How often a 95% interval of a pilot with predictions holds the truth, and how wide it is.

    OMP_NUM_THREADS=1 venv/bin/python benchmarks/bench_pilot.py --output benchmarks/results/bench_pilot.md

Made pilots of known truth: answers from 1 to 7 of two conditions, by other people or by the same, in two groups that
differ; predictions that are useful, useless or adversarial; 200 personas. The intervals of `socrates.predict.pilot`,
beside the classical ones and those of ppi-python. Then the people that `--plan` names. Ten minutes on one core.

Exit status: 0 done, 1 with 50 people or more in each condition an interval holds the truth in less than 93.5% or more
than 96.5% of the pilots, or is in one of 100 more than 5% wider than the classical one; 2 cannot.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

import frame
import numpy as np
from numpy.typing import NDArray
from ppi_py import ppi_mean_ci
from scipy.stats import norm

from socrates.errors import EXIT_DONE, EXIT_NO, run_entry_point
from socrates.predict.pilot import estimate_contrasts

Array = NDArray[np.float64]

_COVERAGE = (0.935, 0.965)
_WIDER = 1.05
_PEOPLE = (25, 50, 200)  # in each condition
_JUDGED = 50  # people in each condition, from which on the exit status depends
_PLANNED = ("people_without", "people_with")
_PLANS = 200  # pilots of which a plan is made
_PERSONAS = 200
_EFFECT, _GROUPS, _SD, _MIDDLE = 0.5, 1.0, 1.3, 3.6  # scale points
_WITHIN = 0.5  # correlation of what a person feels in the two conditions
_CONTRASTS = np.array([[1.0, 0.0], [-1.0, 1.0]])
_WIDTH = 0.6  # that is planned


class Predictions(NamedTuple):
    """How a prediction follows what a person feels (in standard deviations): centre + scale * (r * it + noise)."""

    r: float
    centre: tuple[float, float]
    scale: float


PREDICTIONS = {
    "useful (r 0.7)": Predictions(0.7, (_MIDDLE, _MIDDLE + _EFFECT), _SD),
    "useless (r 0)": Predictions(0.0, (4.0, 4.0), 0.5),
    "adversarial (r -0.7, biased, three times too wide)": Predictions(-0.7, (6.0, 1.0), 3 * _SD),
}


class Sampling(NamedTuple):
    """Shares of the second group among the pilot's people and the personas; in the population it is half."""

    name: str
    people: float
    personas: float


SAMPLINGS = (Sampling("none", 0.5, 0.5), Sampling("0.7 to 1.7", 0.3, 0.4))


def draw(predictions: Predictions, share: float, people: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Answers (people, 2), weights (people,), predictions (people, 2)."""
    group = (rng.random(people) < share).astype(np.float64)
    weights = np.where(group == 1, 0.5 / share, 0.5 / (1 - share))
    person = rng.normal(size=(people, 1))
    feeling = np.sqrt(_WITHIN) * person + np.sqrt(1 - _WITHIN) * rng.normal(size=(people, 2))
    felt = _MIDDLE + np.array([0, _EFFECT]) + _GROUPS * (group[:, None] - 0.5) + _SD * feeling
    total = (_SD * feeling + _GROUPS * (group[:, None] - 0.5)) / np.hypot(_SD, _GROUPS / 2)
    noise = np.sqrt(1 - predictions.r**2) * rng.normal(size=(people, 2))
    predicted = np.array(predictions.centre) + predictions.scale * (predictions.r * total + noise)
    return np.clip(np.rint(felt), 1, 7), weights, predicted


def truths() -> Array:
    """The contrasts' values in the population: shape (2,)."""
    edges = np.array([-np.inf, *np.arange(1.5, 7), np.inf])
    centres = _MIDDLE + np.array([[0], [_EFFECT]]) + _GROUPS * np.array([[-0.5, 0.5]])
    chances = np.diff(norm.cdf((edges - centres[..., None]) / _SD), axis=-1)
    return _CONTRASTS @ (chances @ np.arange(1, 8)).mean(axis=1)


def simulate(
    predictions: Predictions, sampling: Sampling, people: int, paired: bool, pilots: int, rng: np.random.Generator
) -> Array:
    """Shape (pilots, 2, 9): by contrast estimate, limits, classical limits, ppi-python's limits, people to plan."""
    found = np.full((pilots, 2, 9), np.nan)
    for place, row in enumerate(found):
        answers, weights, predicted = draw(predictions, sampling.people, people * (2 - paired), rng)
        if not paired:
            answers[:people, 1] = answers[people:, 0] = np.nan
        _, persona_weights, of_personas = draw(predictions, sampling.personas, _PERSONAS, rng)
        them = (answers, weights, predicted), (of_personas, persona_weights)
        table = estimate_contrasts(_CONTRASTS, *them, _WIDTH if place < _PLANS else None)
        names = (*("estimate", "low", "high", "classical_low", "classical_high"), *_PLANNED * (place < _PLANS))
        row[:, [*range(5), 7, 8][: len(names)]] = np.column_stack([table[name] for name in names])
        first = ~np.isnan(answers[:, 0])
        columns = answers[first, 0], predicted[first, 0], of_personas[:, 0]
        row[0, 5:7] = np.ravel(ppi_mean_ci(*columns, alpha=0.05, w=weights[first], w_unlabeled=persona_weights))
        if paired:
            columns = (column @ _CONTRASTS[1] for column in (answers, predicted, of_personas))
            row[1, 5:7] = np.ravel(ppi_mean_ci(*columns, alpha=0.05, w=weights, w_unlabeled=persona_weights))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, simulate, print."""
    parser = frame.arguments(__doc__)
    frame.add_count(parser, "--pilots", 2000, "of each kind")
    a = parser.parse_args(argv)
    rng, true, rows, plans, met = np.random.default_rng(a.seed), truths(), [], [], True
    for people in _PEOPLE:
        for kind, predictions in PREDICTIONS.items():
            for sampling in SAMPLINGS:
                print(f"{people} people, {kind}, weights {sampling.name} ...", file=sys.stderr, flush=True)
                for paired in (True, False):
                    found = simulate(predictions, sampling, people, paired, a.pilots, rng)
                    names = ["mean", "difference, same people"] if paired else ["", "difference, other people"]
                    for place, name in enumerate(names):
                        if name:  # the mean of half the people says nothing new
                            numbers, good = judge(found[:, place], true[place])
                            met &= good or people < _JUDGED
                            rows.append((people, kind, sampling.name, name, *numbers))
                            if predictions.r > 0 and sampling is SAMPLINGS[0]:
                                plans.append((people, kind, name, *map(_spread, found[:, place, 7:].T)))
    frame.publish(report(a.pilots, rows, plans), a.output)
    return EXIT_DONE if met else EXIT_NO


def judge(found: Array, true: float) -> tuple[list[str], bool]:
    """A line's numbers of one contrast in all pilots, and whether they are as required."""
    estimate, low, high, classical_low, classical_high, their_low, their_high = found[:, :7].T
    ratio = (high - low) / (classical_high - classical_low)
    holds = [np.mean((below <= true) & (true <= above)) for below, above in (found[:, 1:3].T, found[:, 3:5].T)]
    theirs = np.mean((their_low <= true) & (true <= their_high))
    their_ratio = np.median((their_high - their_low) / (classical_high - classical_low))
    known = not np.isnan(their_low).any()
    numbers = [f"**{holds[0]:.1%}**", f"{holds[1]:.1%}", f"{np.mean(estimate) - true:+.3f}"]
    numbers += [f"{np.median(ratio):.2f}", f"{np.quantile(ratio, 0.99):.2f}", f"{ratio.max():.2f}"]
    numbers += [f"{theirs:.1%}" if known else "-", f"{their_ratio:.2f}" if known else "-"]
    return numbers, _COVERAGE[0] <= holds[0] <= _COVERAGE[1] and np.quantile(ratio, 0.99) <= _WIDER


def _spread(people: Array) -> str:
    low, middle, high = np.nanquantile(people, (0.1, 0.5, 0.9))
    return f"{middle:.0f} ({low:.0f} to {high:.0f})"


def report(pilots: int, rows: Sequence[Sequence[str]], plans: Sequence[Sequence[str]]) -> str:
    """Both tables."""
    head = ("people", "predictions", "weights", "of", "95% interval holds", "classical holds", "bias")
    head += ("width / classical: median", "99%", "widest", "ppi-python holds", "its width / classical")
    planned = ("people", "predictions", "of", "without predictions", "with them")
    return f"""\
# A pilot with predictions: how often a 95% interval holds the truth

Made by `benchmarks/bench_pilot.py` on {frame.machine(None, ("numpy", "scipy", "ppi-python"))}. {pilots:,} pilots of \
each line.

## Intervals

People in each condition. Answers from 1 to 7, a difference of about {_EFFECT}, two groups whose answers differ by \
{_GROUPS}. Weights make up for a group that is 30% of the pilot and 40% of the personas, where it is half the \
population. {_PERSONAS} personas, drawn anew each time. Required from {_JUDGED} people on: 93.5 to 96.5%, and the \
width's 99% quantile at most {_WIDER} of the classical one. ppi-python: `ppi_mean_ci` of the mean, and of differences \
within people; its intervals take the normal distribution, and with weights the spread of weight times answer, which \
depends on where the scale has its zero. It has none for differences between other people whose predictions are of the \
same personas.

{frame.table(head, rows, left=4)}
## People that a plan names

For a 95% interval {_WIDTH} scale points wide, by pilots of so many people in each condition: median, 10% and 90% \
quantile of {_PLANS} pilots. In all conditions together, with the same {_PERSONAS} personas.

{frame.table(planned, plans, left=3)}"""


if __name__ == "__main__":
    run_entry_point(main)
