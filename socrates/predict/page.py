"""A prediction as one page: what is predicted, what it is not, how far to believe it, and what it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from socrates.data.demographics import NOT_KNOWN, Groups, find_groups
from socrates.evaluation.gate import LITTLE_MASS
from socrates.predict.estimates import DIFFERENCE, MEAN, PROBABILITY, SD, STANDARDIZED
from socrates.predict.files import PROGRAM
from socrates.predict.outcomes import QuestionPrediction
from socrates.predict.pictures import MOST
from socrates.predict.predict import Prediction
from socrates.report import html
from socrates.report.html import Table
from socrates.report.plot import Plot
from socrates.report.results_folders import decoding_text, fixed, values_in

COVERS = "which personas happened to be made or listed; not the model's error"
_MOST_ANSWERS = 24  # of a scale, that get a line each in a table


def render(prediction: Prediction, plots: Sequence[Sequence[Plot]], when: datetime) -> str:
    """The page as HTML; ``plots`` of each question, ``when`` it was made."""
    plan = prediction.plan
    conditions = plan.experiment.conditions.items()
    told = tuple((name, one.text or "(nothing but the question)") for name, one in conditions)
    prompt = tuple(enumerate(filter(None, plan.prompts[0][0].split("\n")), start=1))
    groups = find_groups([plan.profiles[index] for index in plan.profile_of])
    return html.render(
        "prediction.html.j2",
        title=f"Prediction: {plan.experiment.title}",
        generator=PROGRAM,
        when=when,
        prediction=prediction,
        experiment=plan.experiment,
        personas=len(plan.personas),
        model=prediction.facts["model"],
        covers=COVERS,
        decoding=decoding_text(prediction.facts["probabilities"]),
        questions=[_question(*both, prediction) for both in zip(prediction.questions, plots, strict=True)],
        evidence=prediction.evidence,
        weighted=len(set(plan.weights)) > 1,
        people=[_people(prediction, *field) for field in groups.items()],
        texts=(Table(("condition", "text"), told, (0, 1), "Conditions"),),
        prompt={"One prompt, whole": Table(("line", "text"), prompt, (0, 1))},
        made=(Table(("what", "how"), tuple(html.flattened(prediction.facts).items()), (0, 1)),),
    )


def _question(one: QuestionPrediction, plots: Sequence[Plot], prediction: Prediction) -> dict[str, Any]:
    nominal, names = one.question.nominal, one.means["condition"]
    what, numbers = one.headline
    written = [f"{100 * n.value:.0f}%" if nominal else fixed(n.value, 2) for n in numbers]
    order = sorted(range(len(names)), key=lambda index: numbers[index].value)
    tables, folded = [], {}
    if len(one.question.answers.values) <= _MOST_ANSWERS and nominal:
        tables = [_shares(one)]
    elif len(one.question.answers.values) <= _MOST_ANSWERS:
        folded = {"The share of each answer": _shares(one)}
    if not nominal:
        columns = ([value.written(2) for value in values_in(one.means, of)] for of in (MEAN, SD))
        title = "Answers by condition, scale points [95% over personas]"
        rows = tuple(zip(names, *columns, strict=True))
        tables.append(Table(("condition", "mean", "standard deviation"), rows, title=title))
    if len(one.differences):
        tables.append(_differences(one))
    if expected := [found.written(2) for found in one.expected]:
        title = "Expected of people, scale points [90%, the true difference, as if everybody were asked]"
        heads = ("conditions", "expected", "from the decoded probabilities, which the evaluation judged")
        judged = (fixed(difference, 2) for difference in one.differences["judged_difference"])
        rows = tuple(zip(one.differences["name"], expected, judged, strict=True))
        tables.append(Table(heads, rows, title=title))
    return {
        "name": one.name,
        "question": one.question,
        "what": what,
        "low": f"{written[order[0]]} ({names[order[0]]})",
        "high": f"{written[order[-1]]} ({names[order[-1]]})",
        "left_out": len(prediction.plan.personas) - len(one.personas),
        "little_mass": 100 * one.least_mass if one.least_mass < LITTLE_MASS else None,
        "most": MOST if max(len(names), len(one.differences)) > MOST else None,
        "plots": plots,
        "tables": tables,
        "folded": folded,
    }


def _shares(one: QuestionPrediction) -> Table:
    labels = one.question.labels
    answers = [f"{value} {labels.get(value, '')}".strip() for value in one.question.answers.values]
    written = [share.times(100).written(1, "%") for share in values_in(one.distributions, PROBABILITY)]
    columns = (written[start : start + len(answers)] for start in range(0, len(written), len(answers)))
    rows = tuple(zip(answers, *columns, strict=True))
    return Table(("answer", *one.means["condition"]), rows, title="Share of each answer [95% over personas]")


def _differences(one: QuestionPrediction) -> Table:
    digits, scale = (1, 100) if one.question.nominal else (2, 1)
    columns = {
        "conditions": one.differences["name"],
        "difference": [found.times(scale).written(digits) for found in values_in(one.differences, DIFFERENCE)],
        "by chance": [f"±{chance * scale:.{digits}f}" for chance in one.differences["by_chance"]],
    }
    if not one.question.nominal:
        columns["in sd"] = [found.written(2) for found in values_in(one.differences, STANDARDIZED)]
    what = "shares, percentage points" if one.question.nominal else "means, scale points"
    rows = tuple(zip(*columns.values(), strict=True))
    return Table(tuple(columns), rows, title=f"Differences of {what} [95%, which personas were made]")


def _people(prediction: Prediction, field: str, groups: Groups) -> Table:
    weights, rows = prediction.plan.weights, []
    for index, name in [*enumerate(groups.names), (NOT_KNOWN, "not known")]:
        mine = groups.of_rows == index
        if mine.any():
            rows.append((name, f"{int(mine.sum()):,}", f"{100 * weights[mine].sum() / weights.sum():.1f}%"))
    return Table((field.replace("_", " "), "personas", "share"), tuple(rows))
