#!/usr/bin/env python3
r"""How often the gate says GO, by true improvement and number of examples: simulated on the structure of the data.

    OMP_NUM_THREADS=1 venv/bin/python benchmarks/bench_gate.py --data train.jsonl val.jsonl --sample-share 0.01

Rows are chosen by `socrates.data.selection`, intervals made by `socrates.evaluation.bootstrap`; the threshold is the
gate's. No model.

Exit status: 0 with the recommended numbers GO comes in under 5% of cases at no true improvement and in over 90% at 10%,
whatever the differences between studies, 1 it does not, 2 cannot.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import frame
import numpy as np
from gate_simulation import RESAMPLES, Differences, Outcomes, Truth, Way, outcomes, untrained
from gate_studies import draw_cells, read_studies

from socrates.errors import EXIT_DONE, EXIT_NO, SocratesError, run_entry_point

STUDIES, ROWS = 40, 482_642  # of the published unseen studies
IMPROVEMENTS = (0, 2.5, 5, 7.5, 10, 15, 20, 26)
SHOWN = (0, 10, 26)  # in the tables of errors
EXAMPLES = (500, 1000, 2500, 5000, 10_000)
RECOMMENDED = Way(5000, 20)  # examples, rows of a cell: the config's defaults
MOST_FALSE_GO, LEAST_TRUE_GO = 0.05, 0.90  # at a true improvement of 0%, and of 10%
# Name, and the standard deviations of the share of the way over studies and over cells: assumed.
KINDS = (Differences("none", 0.0, 0.0), Differences("medium", 0.1, 0.2), Differences("large", 0.2, 0.4))

HEAD = """\
# The gate's error rates

{simulations} simulated evaluations for each number, on {sets} draws of {studies} studies from {real} real ones \
({files}); on average {cells:,.0f} cells, and {people:,.0f} people in them. {machine}.

W of the untrained model, everyone asked: {baseline:.3f} (published: 0.205). The *true improvement* is what asking \
everyone in every cell of these studies gives in expectation (a closed form). In a cell, everyone's answer to a model \
comes from one distribution. The untrained model's is half as wide as the humans' and off their mean; the checkpoint's \
has gone a share of the way from there to the humans'. The share differs between studies and cells, and where it is \
negative the checkpoint got worse. How much it differs is an assumption: by a standard deviation of 0 (none), 10 \
(medium) or 20 points (large) between studies, and of 0, 20 or 40 more between the cells of a study.

A cell's human distribution is the sample's, drawn towards its question's in all conditions (with the weight of 10 \
answers), which has 2 more answers, spread over the scale. Cells of which the sample holds no answer are missing; \
answers outside the scale count as its end. "all": whole cells.

## How often GO

In % of cases, by true improvement: at the threshold of 5% / with --require-significant.
"""
ERRORS = f"""
## How exact the estimated improvement is

By true improvement: bias and standard deviation in points; mean width of the 95% interval ({RESAMPLES:,} resamples) \
in points, and how many % of the intervals hold the true improvement. They allow for other studies too, so over 95 is \
right here; where it is fewer, that is the bias, or too few cells. W: how much it is too large, of the untrained model \
and of the checkpoints.
"""
OTHERS = """
## Other studies

The true improvement is here that of all studies of which {studies} were drawn: no number of examples tells more about \
it than asking everyone in these {studies}. In % of cases, as above; covered: intervals that hold it, at 10%.
"""
Found = Mapping[tuple[Way, str, float], Outcomes]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, simulate, print."""
    parser = frame.arguments(__doc__, seed=42)
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FILE", help="real rows, JSONL")
    parser.add_argument("--sample-share", type=float, default=1.0, metavar="S", help="share of each cell in --data")
    frame.add_count(parser, "--studies", STUDIES, "of a set")
    frame.add_count(parser, "--rows", ROWS, "people of all cells together")
    frame.add_count(parser, "--simulations", 500, "of each number")
    frame.add_count(parser, "--sets", 10, "sets of studies")
    a = parser.parse_args(argv)
    if not 0 < a.sample_share <= 1:
        raise SocratesError(f"--sample-share: must be above 0 and at most 1, not {a.sample_share}")
    studies = read_studies(a.data, a.sample_share)
    rng = np.random.default_rng(a.seed)
    drawn = [draw_cells(studies, a.studies, a.rows, rng) for _ in range(a.sets)]
    truths = [Truth.of(cells, untrained(cells, rng)) for cells in drawn]
    ways = [Way(examples, number) for examples in EXAMPLES for number in (RECOMMENDED.rows_per_cell, None)]
    everyone = [*(way for way in ways if way.rows_per_cell), Way(None, None)]
    found = outcomes(truths, ways, KINDS, IMPROVEMENTS, a.simulations, a.seed + 2)
    others = outcomes(truths, everyone, KINDS[1:], IMPROVEMENTS, a.simulations, a.seed + 3, other_studies=True)
    frame.publish(report(a, len(studies), truths, found, others), a.output)
    enough = [
        found[RECOMMENDED, kind.name, 0].go() < MOST_FALSE_GO and found[RECOMMENDED, kind.name, 10].go() > LEAST_TRUE_GO
        for kind in KINDS
    ]
    return EXIT_DONE if all(enough) else EXIT_NO


def report(a: argparse.Namespace, studies: int, truths: Sequence[Truth], found: Found, others: Found) -> str:
    """All tables."""
    text = HEAD.format(
        simulations=a.simulations,
        sets=a.sets,
        studies=a.studies,
        real=studies,
        files=", ".join(path.name for path in a.data),
        cells=np.mean([len(truth.cells.study) for truth in truths]),
        people=np.mean([truth.cells.people.sum() for truth in truths]),
        machine=frame.machine(None, ("numpy", "scipy")),
        baseline=np.mean([truth.baseline for truth in truths]),
    )
    for kind in KINDS:
        text += f"\n### GO, {kind.name} differences\n\n" + _table(_go(found, kind))
    text += ERRORS
    for kind in KINDS:
        text += f"\n### Exactness, {kind.name} differences\n\n" + _table(_errors(found, kind))
    text += OTHERS.format(studies=a.studies)
    for kind in KINDS[1:]:
        text += f"\n### Other studies, {kind.name} differences\n\n" + _table(_go(others, kind, covered=True))
    return text


def _table(rows: Iterator[list[str]]) -> str:
    return frame.table(next(rows), rows, left=0)


def _go(found: Found, kind: Differences, covered: bool = False) -> Iterator[list[str]]:
    yield ["examples", "rows of a cell", *(f"{value:g}%" for value in IMPROVEMENTS), *["covered"] * covered]
    for way in dict.fromkeys(way for way, _, _ in found):
        row = [found[way, kind.name, value] for value in IMPROVEMENTS]
        cells = [f"{_percent(one.go())} / {_percent(one.go(significant=True))}" for one in row]
        yield [*_named(way), *cells, *[_percent(found[way, kind.name, 10].covered)] * covered]


def _errors(found: Found, kind: Differences) -> Iterator[list[str]]:
    names = [f"{value:g}%: {what}" for value in SHOWN for what in ("bias, sd", "width, covered")]
    yield ["examples", "rows of a cell", "cells", *names, f"W: untrained, {', '.join(f'{v:g}%' for v in SHOWN)}"]
    for way in dict.fromkeys(way for way, _, _ in found):
        row = [found[way, kind.name, value] for value in SHOWN]
        cells = [f"{row[0].cells.mean():,.0f}"]
        for one in row:
            cells += [f"{one.bias:+.1f}, {one.sd:.1f}", f"{one.width:.1f}, {_percent(one.covered)}"]
        errors = [row[0].baseline_error.mean(), *(one.checkpoint_error.mean() for one in row)]
        yield [*_named(way), *cells, ", ".join(f"{error:+.3f}" for error in errors)]


def _named(way: Way) -> list[str]:
    examples = "everyone" if way.max_examples is None else f"{way.max_examples:,}"
    return [examples, "all" if way.rows_per_cell is None else str(way.rows_per_cell)]


def _percent(share: float) -> str:
    """Whole percent; a decimal where rounding would hide that it is not 0 or 100."""
    value = 100 * share
    return f"{value:.0f}" if value in (0, 100) or 1 <= value <= 99 else f"{value:.1f}"


if __name__ == "__main__":
    run_entry_point(main)
