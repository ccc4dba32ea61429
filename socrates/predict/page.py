"""A prediction as one page: what is predicted, what it is not, how far to believe it, and what it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from socrates.data.demographics import NOT_KNOWN, find_groups
from socrates.evaluation.gate import LITTLE_MASS
from socrates.predict.files import PROGRAM
from socrates.predict.pictures import MOST, difference_label
from socrates.predict.predict import Prediction, QuestionPrediction
from socrates.report import html
from socrates.report.html import Table
from socrates.report.plot import Plot
from socrates.report.results_folders import fixed

COVERS = "which personas happened to be made or listed; not the model's error"
_MOST_ANSWERS = 24  # of a scale, that get a line each in a table


def render(prediction: Prediction, plots: Sequence[Sequence[Plot]], when: datetime) -> str:
    """The page as HTML; ``plots`` of each question, ``when`` it was made."""
    experiment, personas = prediction.experiment, prediction.personas
    conditions = tuple((name, text or "(nothing but the question)") for name, text in experiment.conditions.items())
    prompt = tuple(enumerate(filter(None, prediction.plan.prompts[0][0].split("\n")), start=1))
    return html.render(
        "prediction.html.j2",
        title=f"Prediction: {experiment.title}",
        generator=PROGRAM,
        when=when,
        prediction=prediction,
        model=prediction.facts["model"],
        covers=COVERS,
        questions=[_question(*both, prediction) for both in zip(prediction.questions, plots, strict=True)],
        evidence=prediction.evidence,
        listed=isinstance(experiment.population, Path),
        weighted=bool((prediction.plan.weights != prediction.plan.weights[0]).any()),
        people=[_people(prediction, *field) for field in find_groups([one.demographic for one in personas]).items()],
        texts=(Table(("condition", "text"), conditions, (0, 1), "Conditions"),),
        prompt={"One prompt, whole": Table(("line", "text"), prompt, (0, 1))},
        made=(Table(("what", "how"), tuple(html.flattened(prediction.facts).items()), (0, 1)),),
    )


def _question(one: QuestionPrediction, plots: Sequence[Plot], prediction: Prediction) -> dict[str, Any]:
    question, names = one.question, list(prediction.experiment.conditions)
    what, numbers = one.headline
    written = [f"{100 * n.value:.0f}%" if question.options else fixed(n.value, 2) for n in numbers]
    order = sorted(range(len(names)), key=lambda index: numbers[index].value)
    tables, folded = [], {}
    if len(question.scale) <= _MOST_ANSWERS and question.options:
        tables = [_shares(one, names)]
    elif len(question.scale) <= _MOST_ANSWERS:
        folded = {"The share of each answer": _shares(one, names)}
    if not question.options:
        rows = tuple((name, e.mean.written(2), e.sd.written(2)) for name, e in zip(names, one.conditions, strict=True))
        title = "Answers by condition, scale points [95% over personas]"
        tables.append(Table(("condition", "mean", "standard deviation"), rows, title=title))
    if one.differences:
        tables.append(_differences(one, names))
    return {
        "question": question,
        "what": what,
        "low": f"{written[order[0]]} ({names[order[0]]})",
        "high": f"{written[order[-1]]} ({names[order[-1]]})",
        "left_out": len(prediction.personas) - len(one.personas),
        "little_mass": 100 * one.least_mass if one.least_mass < LITTLE_MASS else None,
        "most": MOST if max(len(names), len(one.differences)) > MOST else None,
        "plots": plots,
        "tables": tables,
        "folded": folded,
    }


def _shares(one: QuestionPrediction, names: Sequence[str]) -> Table:
    rows = []
    for index, value in enumerate(one.question.scale.values):
        label = f"{value} {one.question.labels.get(value, '')}".strip()
        rows.append((label, *(estimate.shares[index].times(100).written(1, "%") for estimate in one.conditions)))
    return Table(("answer", *names), tuple(rows), title="Share of each answer [95% over personas]")


def _differences(one: QuestionPrediction, names: Sequence[str]) -> Table:
    question = one.question
    digits, scale = (1, 100) if question.options else (2, 1)
    rows = tuple(
        (
            difference_label(found, question, names),
            found.difference.times(scale).written(digits),
            f"±{found.by_chance * scale:.{digits}f}",
            *([] if question.options else [found.standardized.written(2)]),
        )
        for found in one.differences
    )
    heads = ("conditions", "difference", "by chance", *([] if question.options else ["in sd"]))
    what = "shares, percentage points" if question.options else "means, scale points"
    return Table(heads, rows, title=f"Differences of {what} [95% over personas]")


def _people(prediction: Prediction, field: str, groups: Any) -> Table:
    weights, rows = prediction.plan.weights, []
    for index, name in [*enumerate(groups.names), (NOT_KNOWN, "not known")]:
        mine = groups.of_rows == index
        if mine.any():
            rows.append((name, f"{int(mine.sum()):,}", f"{100 * weights[mine].sum() / weights.sum():.1f}%"))
    return Table((field.replace("_", " "), "personas", "share"), tuple(rows))
