"""The simulated outcomes as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from gate_models import Differences, Truth
from gate_simulation import RESAMPLES, Outcomes, Way

MOST_FALSE_GO, LEAST_TRUE_GO = 0.05, 0.90  # at a true improvement of 0%, and of 10%
SHOWN = (0, 10, 26)  # true improvements in the tables of errors

HEAD = """\
# The gate's error rates

**With {examples:,} examples, {rows} rows of a cell, the gate says GO at a true improvement of 0% in {false_go}% of \
cases, and at 10% in {true_go}%; with {examples:,} examples in whole cells in {whole_false_go}% and {whole_true_go}%** \
({names} differences between studies, see below).

{simulations} simulated evaluations for each number, on {sets} draws of {studies} studies from {source}; on average \
{cells:,} cells, and {people:,} people in them. {machine}.

W of the untrained model, everyone asked: {baseline:.3f} (published: 0.205). The *true improvement* is what asking \
everyone in every cell of these studies gives in expectation (a closed form). In a cell, everyone's answer to a model \
comes from one distribution. The untrained model's is half as wide as the humans' and off their mean; the checkpoint's \
has gone a share of the way from there to the humans'. The share differs between studies and cells, and where it is \
negative the checkpoint got worse. How much it differs is an assumption, so there are three:

{kinds}

A cell's human distribution is the sample's, drawn towards its question's in all conditions (with the weight of 10 \
answers), which has 2 more answers, spread over the scale. Cells of which the sample holds no answer are missing; \
answers outside the scale count as its end.
"""
PER_CELL = """
## How many rows of a cell

{examples:,} examples. GO in % of cases at a true improvement of 0% and 10%; at 10% bias, standard deviation and root \
mean square error of the estimated improvement, in points. W: how much the untrained model's is too large, against \
asking everyone. Few rows of a cell make W larger, and the more so the better the model: the improvement reads too \
small. Many rows of a cell are few cells, and cells differ. "all": whole cells.

"""
GO = """
## How often GO

In % of cases, by true improvement: at the threshold of 5% / with --require-significant. Under 5% at 0% and over 90% \
at 10%, without --require-significant, with these numbers of examples:

"""
ERRORS = """
## How exact the estimated improvement is

By true improvement: bias and standard deviation in points; mean width of the 95% interval ({resamples:,} resamples) \
in points, and how many % of the intervals hold the true improvement. They allow for other studies too, so over 95 is \
right here; where it is fewer, that is the bias, or too few cells. W: how much it is too large, of the untrained model \
and of the checkpoints.
"""
OTHERS = """
## Other studies

The true improvement is here that of all studies of which {studies} were drawn: no number of examples tells more about \
it than asking everyone in these {studies}. In % of cases, as above; covered: intervals that hold it, at 10%.
"""
VARIANTS = """
## What it rests on

With one assumption changed: {examples:,} examples, {rows} rows of a cell, {kind} differences.

"""
Found = Mapping[tuple[Way, str, float], Outcomes]


@dataclass(frozen=True)
class Results:
    """All that was simulated.

    Attributes:
        truths: the sets of studies.
        kinds: sizes of the differences between studies.
        recommended: how rows are best chosen.
        by_rows: ways that differ in the rows of a cell.
        found: by examples and rows of a cell.
        others: where the truth is that of other studies too.
        variants: what is assumed otherwise -> outcomes at 0% and at 10%, for the last of the kinds.
    """

    truths: Sequence[Truth]
    kinds: Sequence[Differences]
    recommended: Way
    by_rows: Found
    found: Found
    others: Found
    variants: Mapping[str, tuple[Outcomes, Outcomes]]


def is_enough(found: Found, way: Way, kind: Differences) -> bool:
    """Whether the gate errs seldom enough."""
    return found[way, kind.name, 0].go < MOST_FALSE_GO and found[way, kind.name, 10].go > LEAST_TRUE_GO


def report(results: Results, source: str, simulations: int) -> str:
    """The whole report."""
    import torch
    from measuring import machine

    cells = [truth.cells for truth in results.truths]
    studies = int(cells[0].study[-1]) + 1
    whole = Way(results.recommended.max_examples, None)

    def rates(way: Way, improvement: float) -> str:
        return ", ".join(_percent(results.found[way, kind.name, improvement].go) for kind in results.kinds)

    text = HEAD.format(
        simulations=simulations,
        sets=len(cells),
        studies=studies,
        source=source,
        cells=round(np.mean([len(c.study) for c in cells])),
        people=round(np.mean([c.people.sum() for c in cells])),
        machine=machine(torch.device("cpu"), ("scipy",)),
        baseline=np.mean([truth.baseline for truth in results.truths]),
        kinds="\n".join(map(_described, results.kinds)),
        examples=results.recommended.max_examples,
        rows=results.recommended.rows_per_cell,
        names=", ".join(kind.name for kind in results.kinds),
        false_go=rates(results.recommended, 0),
        true_go=rates(results.recommended, 10),
        whole_false_go=rates(whole, 0),
        whole_true_go=rates(whole, 10),
    )
    text += PER_CELL.format(examples=whole.max_examples) + _table(_by_rows(results))
    text += GO + "\n".join(_enough(results)) + "\n"
    for kind in results.kinds:
        text += f"\n### GO, {kind.name} differences\n\n" + _table(_go(results.found, kind))
    text += ERRORS.format(resamples=RESAMPLES)
    for kind in results.kinds:
        text += f"\n### Exactness, {kind.name} differences\n\n" + _table(_errors(results.found, kind, SHOWN))
    text += OTHERS.format(studies=studies)
    for kind in results.kinds[1:]:
        text += f"\n### Other studies, {kind.name} differences\n\n" + _table(_go(results.others, kind, covered=True))
    text += VARIANTS.format(
        examples=whole.max_examples, rows=results.recommended.rows_per_cell, kind=results.kinds[-1].name
    )
    return text + _table(_variants(results.variants))


def _described(kind: Differences) -> str:
    if not kind.studies:
        return f"- {kind.name}: every cell's share is the same."
    return (
        f"- {kind.name}: a study's own share has a standard deviation of {100 * kind.studies:.0f} points around the "
        f"common one, a cell's of {100 * kind.cells:.0f} more around its study's."
    )


def _by_rows(results: Results) -> Iterator[Sequence[str]]:
    names = [f"{kind.name}: {what}" for kind in results.kinds for what in ("GO at 0%, 10%", "bias, sd, RMSE")]
    yield ["rows of a cell", "cells", "W", *names]
    for way in _ways(results.by_rows):
        some = results.by_rows[way, results.kinds[0].name, 0]
        row = [_rows(way), f"{some.cells.mean():,.0f}", f"{some.baseline_error.mean():.4f}"]
        for kind in results.kinds:
            none, ten = results.by_rows[way, kind.name, 0], results.by_rows[way, kind.name, 10]
            error = (ten.bias**2 + ten.sd**2) ** 0.5
            row += [f"{_percent(none.go)}, {_percent(ten.go)}", f"{ten.bias:+.1f}, {ten.sd:.1f}, {error:.1f}"]
        yield row


def _enough(results: Results) -> Iterator[str]:
    ways = _ways(results.found)
    for kind in results.kinds:
        for rows in dict.fromkeys(way.rows_per_cell for way in ways):
            enough = [way for way in ways if way.rows_per_cell == rows and is_enough(results.found, way, kind)]
            name = "whole cells" if rows is None else f"{rows} rows of a cell"
            yield f"- {kind.name} differences, {name}: {'; '.join(map(_examples, enough)) or 'none of these numbers'}"


def _go(found: Found, kind: Differences, covered: bool = False) -> Iterator[Sequence[str]]:
    values = dict.fromkeys(value for _, _, value in found)
    yield ["examples", "rows of a cell", *(f"{value:g}%" for value in values), *(["covered"] if covered else [])]
    for way in _ways(found):
        row = [found[way, kind.name, value] for value in values]
        cells = [f"{_percent(outcomes.go)} / {_percent(outcomes.go_significant)}" for outcomes in row]
        last = [_percent(found[way, kind.name, 10].covered)] if covered else []
        yield [_examples(way), _rows(way), *cells, *last]


def _errors(found: Found, kind: Differences, values: Sequence[float]) -> Iterator[Sequence[str]]:
    names = [f"{value:g}%: {what}" for value in values for what in ("bias, sd", "width, covered")]
    yield ["examples", "rows of a cell", *names, f"W: untrained, {', '.join(f'{value:g}%' for value in values)}"]
    for way in _ways(found):
        row = [found[way, kind.name, value] for value in values]
        cells = [
            text
            for outcomes in row
            for text in (
                f"{outcomes.bias:+.1f}, {outcomes.sd:.1f}",
                f"{outcomes.width:.1f}, {_percent(outcomes.covered)}",
            )
        ]
        errors = [row[0].baseline_error.mean(), *(outcomes.checkpoint_error.mean() for outcomes in row)]
        yield [_examples(way), _rows(way), *cells, ", ".join(f"{error:+.3f}" for error in errors)]


def _variants(variants: Mapping[str, tuple[Outcomes, Outcomes]]) -> Iterator[Sequence[str]]:
    yield ["changed", "GO at 0%", "GO at 10%", "at 10%: bias, sd", "width, covered", "W: untrained, 10%"]
    for name, (none, ten) in variants.items():
        errors = ten.baseline_error.mean(), ten.checkpoint_error.mean()
        yield [
            name,
            *(f"{_percent(outcomes.go)} / {_percent(outcomes.go_significant)}" for outcomes in (none, ten)),
            f"{ten.bias:+.1f}, {ten.sd:.1f}",
            f"{ten.width:.1f}, {_percent(ten.covered)}",
            ", ".join(f"{error:+.3f}" for error in errors),
        ]


def _ways(found: Found) -> list[Way]:
    return list(dict.fromkeys(way for way, _, _ in found))


def _examples(way: Way) -> str:
    return "everyone" if way.max_examples is None else f"{way.max_examples:,}"


def _rows(way: Way) -> str:
    return "all" if way.rows_per_cell is None else str(way.rows_per_cell)


def _percent(share: float) -> str:
    """Whole percent; a decimal where rounding would hide that it is not 0 or 100."""
    value = 100 * share
    return f"{value:.0f}" if value in (0, 100) or 1 <= value <= 99 else f"{value:.1f}"


def _table(rows: Iterable[Sequence[str]]) -> str:
    first, *others = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (first, ["--:"] * len(first), *others)) + "\n"
