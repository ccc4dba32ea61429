#!/usr/bin/env python3
"""How often the prediction interval of a new experiment's effect holds it, and a p-value of effects misleads.

    OMP_NUM_THREADS=1 venv/bin/python benchmarks/bench_effects.py --output benchmarks/results/bench_effects.md

Made studies with known slopes, spreads and noise: the interval by `socrates.evaluation.effect_model` for effects in
studies that it has not seen. Then studies whose predictions know nothing, and how often the p-value of
`socrates.evaluation.effects` is below 0.05. Five minutes on one core.

Exit status: 0 done, 1 with 20 or 40 studies a 90% interval holds the effect in less than 87% or more than 93%, 2
cannot.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import frame
import numpy as np
from numpy.typing import NDArray

from socrates.errors import EXIT_DONE, EXIT_NO, run_entry_point
from socrates.evaluation.effect_model import EffectModel, fit_model, prediction_interval
from socrates.evaluation.effects import ComparedQuestion, Moments, p_value

Array = NDArray[np.float64]

LEVEL, OFF = 0.9, 0.03
STUDIES, JUDGED = (6, 10, 20, 40), (20, 40)
CONDITIONS, QUESTIONS = (2, 2, 3, 4, 6, 12), (1, 1, 2, 3, 6, 12)  # what a study's are drawn from
NEW = 10  # experiments for each data set
CONTRASTS = np.array([[-0.5, -0.5, 0.5, 0.5], [1, -1, -1, 1]])  # main effect and interaction of two factors
PREDICTION_ERROR = 0.02  # of the range: a prediction from few personas


@dataclass(frozen=True)
class Assumption:
    """What studies are like; effects and standard deviations in shares of the range.

    Attributes:
        together: share of the variance of residuals (and of people's luck) that all outcomes of a study have in common.
        uneven: slopes have Student's tails (4 degrees of freedom) and studies' residuals differ (lognormal, 0.6).
    """

    name: str
    slope: float
    slope_sd: float
    residual_sd: float
    together: float = 0.0
    uneven: bool = False


ASSUMPTIONS = (
    Assumption("medium", 0.5, 0.3, 0.05),
    Assumption("one slope", 0.5, 0.0, 0.05),
    Assumption("slopes very different", 0.4, 0.8, 0.03),
    Assumption("slopes alone differ", 0.5, 0.3, 0.0),
    Assumption("outcomes fail together", 0.5, 0.3, 0.05, together=0.7),
    Assumption("uneven studies", 0.5, 0.3, 0.05, uneven=True),
)
NOTHING = (
    Assumption("outcomes of a study apart", 0.0, 0.0, 0.05),
    Assumption("outcomes fail together", 0.0, 0.0, 0.05, together=0.7),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, simulate, print."""
    parser = frame.arguments(__doc__)
    frame.add_count(parser, "--data-sets", 1000, "of each assumption and number of studies")
    a = parser.parse_args(argv)
    rows, held = [], []
    for studies in STUDIES:
        for assumption in ASSUMPTIONS:
            print(f"{studies} studies, {assumption.name} ...", file=sys.stderr, flush=True)
            coverage, row = simulate(assumption, studies, a.data_sets, a.seed)
            rows.append([str(studies), assumption.name, *row])
            held += coverage if studies in JUDGED else []
    tests = [[str(studies), *false_alarms(one, studies, a.data_sets, a.seed)] for studies in JUDGED for one in NOTHING]
    frame.publish(report(a.data_sets, rows, tests), a.output)
    return EXIT_DONE if all(abs(one - LEVEL) <= OFF for one in held) else EXIT_NO


def draw_study(name: str, truth: Assumption, rng: np.random.Generator) -> list[tuple[ComparedQuestion, Array]]:
    """A study's questions, and of each the true human means: shape (conditions,)."""
    slope = truth.slope + truth.slope_sd * (rng.standard_t(4) / np.sqrt(2) if truth.uneven else rng.normal())
    residual = truth.residual_sd / np.sqrt(2) * (np.exp(rng.normal(-0.36, 0.6)) if truth.uneven else 1.0)
    conditions, questions = rng.choice(CONDITIONS), rng.choice(QUESTIONS)
    people = np.clip(np.exp(rng.normal(4.3, 0.8, conditions)), 8, 1500).round()
    width = rng.uniform(0.03, 0.12)
    alike, together = rng.normal(size=(3, conditions)), np.array([0.5, truth.together, truth.together])[:, None]
    found = []
    for task in range(questions):
        own = rng.normal(size=(3, conditions))
        predicted, missed, luck = np.sqrt(together) * alike + np.sqrt(1 - together) * own
        predicted = 0.5 + width * predicted
        true = 0.2 + slope * predicted + residual * missed
        sd = rng.uniform(0.2, 0.35)
        variance = sd**2 * rng.chisquare(people - 1) / (people - 1)
        human = Moments(people, true + sd / np.sqrt(people) * luck, variance)
        sides = human, Moments(people, predicted, variance)
        found.append((ComparedQuestion(name, task, 1.0, tuple(range(conditions)), *sides, predicted), true))
    return found


def draw_questions(studies: int, truth: Assumption, rng: np.random.Generator) -> list[ComparedQuestion]:
    """All questions of so many studies."""
    return [question for study in range(studies) for question, _ in draw_study(f"s{study:03}", truth, rng)]


def draw_factorial(truth: Assumption, rng: np.random.Generator) -> Array:
    """Predicted and true human means of a new 2 x 2 experiment: shape (2, 4)."""
    while True:
        question, true = draw_study("new", truth, rng)[0]
        if len(true) >= 4:
            return np.stack([question.expected[:4], true[:4]])


def simulate(truth: Assumption, studies: int, data_sets: int, seed: int) -> tuple[list[float], list[str]]:
    """The interval's coverage of a difference, a main effect and an interaction; and the cells of its line."""
    rng = np.random.default_rng(seed)
    held, widths, models = [], [], []
    for _ in range(data_sets):
        model = fit_model(draw_questions(studies, truth, rng))
        if not isinstance(model, EffectModel):
            continue
        models.append(model)
        for _ in range(NEW):
            question, true = draw_study("new", truth, rng)[0]
            exact = question.expected[1] - question.expected[0]
            for error in (0.0, PREDICTION_ERROR):
                low, high = prediction_interval(exact + rng.normal(0, error), error, model, LEVEL)
                held.append(low <= true[1] - true[0] <= high)
                widths.append(high - low)
            for weights in CONTRASTS:
                predicted, effect = draw_factorial(truth, rng) @ weights
                low, high = prediction_interval(predicted, 0.0, model, LEVEL, weights=weights @ weights)
                held.append(low <= effect <= high)
    coverage, wide = np.mean(np.reshape(held, (-1, 4)), axis=0), np.mean(widths[::2])
    slopes = np.array([model.slope for model in models])
    limits = np.array([model.slope_ci95 for model in models])
    known = np.mean((limits[:, 0] <= truth.slope) & (truth.slope <= limits[:, 1]))
    spreads = [f"{np.median([getattr(one, key) for one in models]):.3f}" for key in ("slope_sd", "residual_sd")]
    row = [
        *(f"**{one:.1%}**" for one in coverage[[0, 2, 3]]),
        f"{coverage[1]:.1%}",
        f"{wide:.3f}",
        f"{slopes.mean():.3f} ({truth.slope:g})",
    ]
    true_spreads = (truth.slope_sd, truth.residual_sd)
    row += [f"{known:.1%}", *(f"{spread} ({true:g})" for spread, true in zip(spreads, true_spreads, strict=True))]
    return coverage[[0, 2, 3]].tolist(), [*row, str(data_sets - len(models))]


def false_alarms(truth: Assumption, studies: int, data_sets: int, seed: int) -> list[str]:
    """How often predictions that know nothing have p < 0.05: studies turned, and predictions shuffled by question."""
    rng = np.random.default_rng(seed)
    low = []
    for index in range(data_sets):
        questions = draw_questions(studies, truth, rng)
        low.append((p_value(questions, seed + index, 999) < 0.05, _p_of_shuffles(questions, rng) < 0.05))
    turned, shuffled = np.mean(low, axis=0)
    return [truth.name, f"**{turned:.1%}**", f"{shuffled:.1%}"]


def _p_of_shuffles(questions: Sequence[ComparedQuestion], rng: np.random.Generator, times: int = 199) -> float:
    """Predictions shuffled among the conditions of each question; the same mean of means."""
    totals = np.zeros(1 + times)
    names = [question.study_id for question in questions]
    for question in questions:
        shuffled = rng.permuted(np.tile(question.expected, (1 + times, 1)), axis=1)
        shuffled[0] = question.expected
        human = question.human.mean - question.human.mean.mean()
        totals += shuffled @ human / (len(human) - 1) / names.count(question.study_id)
    return float((totals >= totals[0] - 1e-12).mean())


def report(data_sets: int, rows: Sequence[Sequence[str]], tests: Sequence[Sequence[str]]) -> str:
    """Both tables."""
    head = (
        "studies",
        "assumption",
        "90% interval holds",
        "a main effect",
        "an interaction",
        f"with an error of {PREDICTION_ERROR}",
        "width",
    )
    head += ("slope (true)", "its 95% interval holds", "slope_sd (true)", "residual_sd (true)", "no model")
    return f"""\
# Effects: how often a prediction interval holds a new experiment's effect

Made by `benchmarks/bench_effects.py` on {frame.machine(None, ("numpy", "scipy"))}. {data_sets:,} data sets of each \
line, {NEW} new experiments for each.

## Prediction intervals

Studies of {min(CONDITIONS)} to {max(CONDITIONS)} conditions, {min(QUESTIONS)} to {max(QUESTIONS)} outcomes and 8 to \
1,500 people a condition, predicted effects of 4 to 17% of the range (standard deviation, by study); all drawn anew \
each time. The new experiment is a study of the same kind, its effect the true one, without the luck of people. A \
main effect and an interaction are of an experiment with two factors of two levels. Required: 87 to 93% with 20 and \
40 studies. With an error: of the new prediction, known to the interval. Fail \
together: 70% of the variance of residuals and of people's luck is common to a study's outcomes. Uneven: slopes with \
Student's tails (4 degrees of freedom), residuals that differ between studies (lognormal, 0.6). Width, slope: means; \
standard deviations: medians.

{frame.table(head, rows, left=2)}
## p-value: predictions that know nothing

How often p is below 0.05, which should be 5%: with the signs of whole studies turned (`effects.p_value`), and with \
predictions shuffled among the conditions of each question, as if the outcomes of a study were independent.

{frame.table(("studies", "assumption", "studies turned", "shuffled by question"), tests, left=2)}"""


if __name__ == "__main__":
    run_entry_point(main)
