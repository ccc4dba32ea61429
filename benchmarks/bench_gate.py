#!/usr/bin/env python3
r"""How exact an estimated improvement is, and how often the gate says GO: simulated on the structure of the data.

    OMP_NUM_THREADS=1 venv/bin/python benchmarks/bench_gate.py --data train.jsonl val.jsonl --sample-share 0.01

Rows are chosen by `socrates.data.selection`, distances estimated by `socrates.evaluation.full_size`, intervals made by
`socrates.evaluation.bootstrap`; the threshold is the gate's. No model.

Exit status: 0 the metric's estimator is within 0.0005 of literal draws, and with the recommended numbers, of the
studies at hand, GO comes in under 5% of cases at no true improvement and in over 90% at 10%, 1 it does not, 2 cannot.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import frame
import numpy as np
from gate_simulation import (
    ESTIMATORS,
    RESAMPLES,
    SPREAD,
    Differences,
    Key,
    Outcomes,
    Truth,
    Way,
    outcomes,
    own_improvements,
    person_by_person,
    untrained,
)
from gate_studies import draw_cells, read_studies

from socrates.errors import EXIT_DONE, EXIT_NO, SocratesError, run_entry_point
from socrates.evaluation.full_size import binomial_deviation, full_size_deviation

STUDIES, ROWS = (20, 40), 482_642  # those judged: half of the published unseen studies, and all; people of all
IMPROVEMENTS = (0, 5, 7.5, 10, 26)
SHOWN = (10, 26)  # in the tables of errors
EXAMPLES = (500, 1000, 2500, 5000, 10_000)
RECOMMENDED = Way(5000, 20)  # examples, rows of a cell: the config's defaults
CHOSEN = "jackknifed"  # what `wasserstein_distance` is
MOST_FALSE_GO, LEAST_TRUE_GO, MOST_BIAS = 0.05, 0.90, 0.0005
# Name, and the standard deviations of the share of the way over studies and over cells: assumed.
KINDS = (Differences("none", 0.0, 0.0), Differences("medium", 0.1, 0.2), Differences("large", 0.2, 0.4))
SPREADS = (0.1, SPREAD, 0.5)
_MOST_SETS = 25  # of 40 studies, looked through for one that is enough

HEAD = """\
# The gate's error rates

{simulations} simulated evaluations for each number, on {sets} draws of 20 and {sets} of 40 studies from {real} real \
ones ({files}); on average {cells:,.0f} cells, and {people:,.0f} people in 40 studies' cells. With as many, a share \
of 5% is good for ±{five:.1f} points. {machine}.

W of the untrained model, everyone asked: {baseline:.3f} (published: 0.205). The *true improvement* is what asking \
everyone in every cell of these studies gives in expectation (a closed form). A model's distribution differs from \
person to person: {spread:.0%} of the variance of its (latent) answers is between persons, which is an assumption; \
their mean is the cell's. The untrained model's is half as wide as the humans' and off their mean; the checkpoint's \
has gone a share of the way from there to the humans'. The share differs between studies and cells, and where it is \
negative the checkpoint got worse. How much it differs is an assumption: by a standard deviation of 0 (none), 10 \
(medium) or 20 points (large) between studies, and of 0, 20 or 40 more between the cells of a study.

A cell's human distribution is the sample's, drawn towards its question's in all conditions (with the weight of 10 \
answers), which has 2 more answers, spread over the scale. Cells of which the sample holds no answer are missing; \
answers outside the scale count as its end. At most {rows_per_cell} people of a cell are asked.

*Drawn*: one sampled answer of each person who was asked. *Full*: what asking everybody gives, from the \
probabilities of those asked (`socrates/evaluation/full_size.py`). *Jackknifed*: the same, less the bias by those \
not asked. `wasserstein_distance` is {chosen}.

## Against literal draws

200 cells of 5 to 500 people, all asked: mean W of {draws:,} times one answer of everybody, and how far the estimate \
is from it, by the share of variance between persons. *Binomial*: as if everybody had the mean distribution.

"""
ERRORS = f"""
## Bias, error, coverage and power

By true improvement of the studies at hand. Bias of W in thousandths, of the baseline and of the checkpoint that is \
10% better; bias and root mean squared error of the improvement in points; intervals ({RESAMPLES:,} resamples) that \
hold it, in %: they allow for other studies too, so over 95 is right; GO in % at 0%, 5%, 7.5%, 10%.
"""
OTHERS = """
## Other studies

The true improvement is here that of all studies of which these were drawn. With {examples:,} examples, {chosen}: GO \
in % at 0% and 10%, intervals that hold the 10% and 26%, and with how many studies (of 40, 80, 120, …; {examples:,} \
examples in all) GO comes in 90% at 10%.

"""
Found = Mapping[Key, Outcomes]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, simulate, print."""
    parser = frame.arguments(__doc__, seed=42)
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FILE", help="real rows, JSONL")
    parser.add_argument("--sample-share", type=float, default=1.0, metavar="S", help="share of each cell in --data")
    frame.add_count(parser, "--rows", ROWS, "people of all cells of 40 studies together")
    frame.add_count(parser, "--simulations", 100, "of each number")
    frame.add_count(parser, "--sets", 10, "sets of studies")
    frame.add_count(parser, "--draws", 20_000, "literal ones")
    a = parser.parse_args(argv)
    if not 0 < a.sample_share <= 1:
        raise SocratesError(f"--sample-share: must be above 0 and at most 1, not {a.sample_share}")
    studies = read_studies(a.data, a.sample_share)
    rng = np.random.default_rng(a.seed)
    drawn = literal(a.draws, rng)
    truths: dict[int, list[Truth]] = {}
    for number in STUDIES:
        sets = [draw_cells(studies, number, a.rows * number // max(STUDIES), rng) for _ in range(a.sets)]
        truths[number] = [Truth.of(cells, untrained(cells, rng)) for cells in sets]
    ways = [Way(examples, RECOMMENDED.rows_per_cell) for examples in EXAMPLES]
    found = {n: outcomes(truths[n], ways, KINDS, IMPROVEMENTS, a.simulations, a.seed + n) for n in STUDIES}
    frame.publish(report(a, len(studies), truths, found, drawn, rng), a.output)
    enough = [
        one[CHOSEN, RECOMMENDED, kind.name, 0].go() < MOST_FALSE_GO
        and one[CHOSEN, RECOMMENDED, kind.name, 10].go() > LEAST_TRUE_GO
        for one in found.values()
        for kind in KINDS
    ]
    exact = [abs(estimate - truth) < MOST_BIAS for truth, estimate, _ in drawn]
    return EXIT_DONE if all([*enough, *exact]) else EXIT_NO


def literal(draws: int, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Mean W over 200 cells of 5 to 500 people: drawn for everybody, estimated, and as if draws were binomial."""
    table = []
    for spread in SPREADS:
        rows = []
        for people in np.exp(rng.uniform(np.log(5), np.log(500), 200)).astype(int):
            points = int(rng.integers(2, 8))
            population, other = rng.dirichlet(np.full(points, 2.0), 2)
            way = rng.random()
            model = (way * population + (1 - way) * other).cumsum()[:-1]
            human = rng.multinomial(people, population).cumsum()[:-1] / people
            persons = person_by_person(model, rng.standard_normal(people), spread)
            total = 0.0
            for first in range(0, draws, 1000):
                luck = rng.random((min(1000, draws - first), people), dtype=np.float32)
                total += sum(np.abs((luck < p).mean(axis=1) - f).sum() for p, f in zip(persons, human, strict=True))
            mean = persons.mean(axis=1)
            found = full_size_deviation(persons, human, people), binomial_deviation(people, mean, human)
            rows.append((total / draws / (points - 1), *(one.mean() for one in found)))
        table.append(tuple(np.mean(rows, axis=0).tolist()))
    return table


def report(
    a: argparse.Namespace,
    studies: int,
    truths: Mapping[int, Sequence[Truth]],
    found: Mapping[int, Found],
    drawn: Sequence[tuple[float, float, float]],
    rng: np.random.Generator,
) -> str:
    """All tables."""
    most = truths[max(STUDIES)]
    text = HEAD.format(
        simulations=a.simulations,
        five=196 * np.sqrt(0.05 * 0.95 / a.simulations),
        sets=a.sets,
        real=studies,
        files=", ".join(path.name for path in a.data),
        cells=np.mean([len(truth.cells.study) for truth in most]),
        people=np.mean([truth.cells.people.sum() for truth in most]),
        machine=frame.machine(None, ("numpy", "scipy")),
        baseline=np.mean([truth.baseline for truth in most]),
        spread=SPREAD,
        chosen=CHOSEN,
        draws=a.draws,
        rows_per_cell=RECOMMENDED.rows_per_cell,
    )
    rows = (
        [f"{s:.0%}", f"{w:.4f}", f"{e - w:+.5f}", f"{b - w:+.5f}"] for s, (w, e, b) in zip(SPREADS, drawn, strict=True)
    )
    text += frame.table(["between persons", "W", "estimate", "binomial"], rows, left=0) + ERRORS
    for number in STUDIES:
        for kind in KINDS:
            text += f"\n### {number} studies, {kind.name} differences\n\n" + _table(_errors(found[number], kind))
    text += OTHERS.format(examples=RECOMMENDED.max_examples, chosen=CHOSEN)
    return text + _table(_others(truths, found, rng))


def _table(rows: Iterator[list[str]]) -> str:
    return frame.table(next(rows), rows, left=0)


def _errors(found: Found, kind: Differences) -> Iterator[list[str]]:
    names = [f"{value:g}%: bias, RMSE, covered" for value in SHOWN]
    yield ["examples", "estimate", "bias of W", *names, "GO"]
    for way in dict.fromkeys(way for _, way, _, _ in found):
        for estimator in ESTIMATORS:
            at = {value: found[estimator, way, kind.name, value] for value in IMPROVEMENTS}
            w = [1000 * error.mean() for error in (at[10].baseline_error, at[10].checkpoint_error)]
            shown = [f"{at[v].bias:+.1f}, {at[v].rmse:.1f}, {_percent(at[v].covered)}" for v in SHOWN]
            go = " / ".join(_percent(one.go()) for value, one in at.items() if value <= 10)
            yield [f"{way.max_examples:,}", estimator, "{:+.1f}, {:+.1f}".format(*w), *shown, go]


def _others(
    truths: Mapping[int, Sequence[Truth]], found: Mapping[int, Found], rng: np.random.Generator
) -> Iterator[list[str]]:
    yield ["studies", "differences", "GO at 0% / 10%", "covered at 10% / 26%", "studies for 90%"]
    most = max(STUDIES)
    for kind in KINDS[1:]:
        for number in STUDIES:
            none, ten = (found[number][CHOSEN, RECOMMENDED, kind.name, value] for value in (0, 10))
            false, _ = none.elsewhere(own_improvements(truths[number], kind, 0, 1, rng))
            go, covered = ten.elsewhere(own_improvements(truths[number], kind, 10, 1, rng))
            better = found[number][CHOSEN, RECOMMENDED, kind.name, 26]
            _, held = better.elsewhere(own_improvements(truths[number], kind, 26, 1, rng))
            at_most = found[most][CHOSEN, RECOMMENDED, kind.name, 10]
            own = (own_improvements(truths[most], kind, 10, sets, rng) for sets in range(1, _MOST_SETS + 1))
            enough = (most * sets for sets, one in enumerate(own, 1) if at_most.elsewhere(one)[0] > LEAST_TRUE_GO)
            needed = number if go > LEAST_TRUE_GO else next(enough, f"over {most * _MOST_SETS}")
            yield [
                str(number),
                kind.name,
                f"{_percent(false)} / {_percent(go)}",
                f"{_percent(covered)} / {_percent(held)}",
                str(needed),
            ]


def _percent(share: float) -> str:
    """Whole percent; a decimal where rounding would hide that it is not 0 or 100."""
    value = 100 * share
    return f"{value:.0f}" if value in (0, 100) or 1 <= value <= 99 else f"{value:.1f}"


if __name__ == "__main__":
    run_entry_point(main)
