"""A prediction as one page: what is predicted, what it is not, how far to believe it, and what it was made from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from socrates.data.demographics import NOT_KNOWN, Groups, find_groups
from socrates.evaluation.gate import LITTLE_MASS
from socrates.predict.compare import CELL, PAIR, Tables
from socrates.predict.estimates import DIFFERENCE, MEAN, PROBABILITY, SD, STANDARDIZED
from socrates.predict.experiment import Experiment
from socrates.predict.files import PROGRAM
from socrates.predict.outcomes import QuestionPrediction
from socrates.predict.personas import unseen
from socrates.predict.pictures import MOST
from socrates.predict.pilot import ESTIMATES, PLANNED
from socrates.predict.predict import Prediction
from socrates.report import html
from socrates.report.html import Table
from socrates.report.plot import Plot
from socrates.report.results_folders import decoding_text, fixed, values_in

COVERS = "which personas happened to be made or listed; not the model's error"
_MOST_LINES = 4  # of differences on the first screen, a question
_MOST_ANSWERS = 24  # of a scale, that get a line each in a table


def render(
    prediction: Prediction, plots: Sequence[Sequence[Plot]], compared: Mapping[str, Any] | None, when: datetime
) -> str:
    """The page as HTML; ``plots`` of each question, ``compared``: see `tables.py`; ``when`` it was made."""
    plan, experiment = prediction.plan, prediction.plan.experiment
    groups = find_groups([plan.profiles[index] for index in plan.profile_of])
    prompt = plan.prompts[0][0]
    lines = [("user", prompt)] if isinstance(prompt, str) else [(one["role"], one["content"]) for one in prompt]
    whole = tuple((role, line) for role, text in lines for line in text.split("\n") if line)
    return html.render(
        "prediction.html.j2",
        title=f"Prediction: {experiment.title}",
        generator=PROGRAM,
        when=when,
        prediction=prediction,
        experiment=experiment,
        conditions=len(experiment.conditions),
        personas=len(plan.personas),
        model=prediction.facts["model"],
        covers=COVERS,
        decoding=decoding_text(prediction.facts["probabilities"]),
        questions=[_question(*both, prediction) for both in zip(prediction.questions, plots, strict=True)],
        evidence=prediction.evidence,
        weighted=len(set(plan.weights)) > 1,
        unseen=unseen(groups),
        people=[_people(prediction, *field) for field in groups.items()],
        verbatim=[name for name, condition in experiment.conditions.items() if condition.verbatim],
        texts=(Table(("condition", "text"), tuple(_told(experiment)), (0, 1), "Conditions"),),
        prompt=(Table(("who", "text"), whole, (0, 1), "One prompt, whole"),),
        pilot=_pilot(prediction),
        compared=compared,
        made={"How it was made": Table(("what", "how"), tuple(html.flattened(prediction.facts).items()), (0, 1))},
    )


def _told(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Each condition and what is particular to it, a line each."""
    for name, condition in experiment.conditions.items():
        yield name, condition.text or "(nothing but the question)"
        for turn in condition.before:
            yield f"{name}, before", turn.question + (f" → {turn.answer}" if turn.answer else "")
        for question, wording in condition.questions.items():
            yield f"{name}, {question}", wording or "(not asked here)"


def _question(one: QuestionPrediction, plots: Sequence[Plot], prediction: Prediction) -> dict[str, Any]:
    nominal, names, index = one.question.nominal, one.means["condition"], one.index
    what, numbers = one.headline
    written = [f"{100 * n.value:.0f}%" if nominal else fixed(n.value, 2) for n in numbers]
    order = sorted(range(len(names)), key=lambda place: numbers[place].value)
    tables, folded = [], {}
    if index is None and len(one.question.answers.values) <= _MOST_ANSWERS:
        shares = _shares(one, one.distributions, "Share of each answer")
        (tables, folded) = ([shares], {}) if nominal else ([], {"The share of each answer": shares})
    if not nominal:
        columns = ([value.written(2) for value in values_in(one.means, of)] for of in (MEAN, SD))
        title = "Answers by condition, scale points [95% over personas]"
        rows = tuple(zip(names, *columns, strict=True))
        tables.append(Table(("condition", "mean", "standard deviation"), rows, title=title))
    if len(one.codes):
        tables.append(_shares(one, one.codes, "Share of everybody who gives no answer on the scale"))
    pairs = one.differences["effect"] == ""
    if one.is_factorial:
        tables.append(_differences(one, one.differences[~pairs], "Effects of factors"))
        folded["Pairs of conditions"] = _differences(one, one.differences[pairs], "Differences")
    elif len(one.differences):
        tables.append(_differences(one, one.differences, "Differences"))
    if expected := [found.written(2) for found in one.expected]:
        title = "Expected of people, scale points [90%, the true difference, as if everybody were asked]"
        heads = ("conditions", "expected", "from the decoded probabilities, which the evaluation judged")
        judged = (fixed(difference, 2) for difference in one.differences["judged_difference"])
        rows = tuple(zip(one.differences["name"], expected, judged, strict=True))
        tables.append(Table(heads, rows, title=title))
    items = index and [f"{item} (reversed)" if item in index.reversed else item for item in index.items]
    return {
        "name": one.name,
        "text": f"The mean of {', '.join(items)}." if items else f"“{one.question.text}” {one.question.instruction}",
        "what": what,
        "low": f"{written[order[0]]} ({names[order[0]]})",
        "high": f"{written[order[-1]]} ({names[order[-1]]})",
        "answer": _answer(one),
        "left_out": len(prediction.plan.personas) - len(one.personas),
        "little_mass": 100 * one.least_mass if one.least_mass < LITTLE_MASS else None,
        "most": MOST if max(len(names), len(one.differences)) > MOST else None,
        "plots": plots,
        "tables": tables,
        "folded": folded,
    }


def _answer(one: QuestionPrediction) -> list[str]:
    """The differences that matter most, a line each: effects of factors, or else the largest of pairs."""
    table, expected = one.differences.reset_index(drop=True), one.expected
    main = (
        table[table["effect"] != ""] if one.is_factorial else table.sort_values("difference", key=abs, ascending=False)
    )
    scale, digits, unit = (100, 1, " percentage points") if one.question.nominal else (1, 2, "")
    lines = []
    for place, name, found in zip(main.index, main["name"], values_in(main, DIFFERENCE), strict=True):
        told = f"{found.times(scale).written(digits)}{unit}"
        if expected:
            told = f"{expected[place].written(2)} expected of people ({told} predicted)"
        lines.append(f"{name}: {told}")
    return lines[:_MOST_LINES]


def compared_tables(tables: Tables, nominal: Collection[str]) -> list[Table]:
    """Numbers of all models side by side."""
    found, models = [], list(dict.fromkeys(tables["means"]["model"]))
    kinds = {
        "Means by condition [95% over personas]": (tables["means"], CELL, MEAN),
        "Shares of options [95% over personas]": (tables["distributions"], [*CELL, "answer"], PROBABILITY),
        "Differences [95% over personas]": (tables["differences"], PAIR, DIFFERENCE),
    }
    for title, (table, keys, numbers) in kinds.items():
        if numbers != DIFFERENCE:
            table = table[table["question"].isin(nominal) == (numbers == PROBABILITY)]
        rows = [
            (
                ", ".join(str(key) for key in found if key != ""),
                *(value.written(2) for value in values_in(one, numbers)),
            )
            for found, one in table.groupby(keys, sort=False)
        ]
        found += [Table(("outcome", *models), tuple(rows), title=title)] if rows else []
    return found


def _pilot(prediction: Prediction) -> list[Table]:
    """What a pilot and predictions say together, and how many people a width takes."""
    table = prediction.pilot
    told = [f"{one.question}, {one.measure}" for one in table.itertuples()]
    tables = []
    if "estimate" in table:
        both = ([value.written(2) for value in values_in(table, of)] for of in (ESTIMATES[:3], ESTIMATES[3:6]))
        people = ([fixed(value, 0) for value in table[of]] for of in ("people", "effective_people"))
        columns = (told, table["name"], *both, *people)
        heads = ("outcome", "condition or difference", "with predictions", "pilot alone", "people", "as good as")
        tables.append(Table(heads, tuple(zip(*columns, strict=True)), (0, 1), "Estimates [95%]"))
    needed = [name for name in PLANNED if name in table]
    if needed:
        heads = (
            "outcome",
            "condition or difference",
            *(name.replace("people_", "") + " predictions" for name in needed),
        )
        columns = ([fixed(value, 0) for value in table[name]] for name in needed)
        width = f"People in all conditions for a 95% interval {prediction.facts['plan']:g} wide"
        tables.append(Table(heads, tuple(zip(told, table["name"], *columns, strict=True)), (0, 1), width))
    return tables


def _shares(one: QuestionPrediction, shares: pd.DataFrame, title: str) -> Table:
    first = shares[shares["condition"] == one.conditions[0]]
    answers = [f"{value} {label or ''}".strip() for value, label in zip(first["answer"], first["label"], strict=True)]
    written = [share.times(100).written(1, "%") for share in values_in(shares, PROBABILITY)]
    columns = (written[start : start + len(answers)] for start in range(0, len(written), len(answers)))
    rows = tuple(zip(answers, *columns, strict=True))
    return Table(("answer", *one.conditions), rows, title=f"{title} [95% over personas]")


def _differences(one: QuestionPrediction, chosen: pd.DataFrame, title: str) -> Table:
    digits, scale = (1, 100) if one.question.nominal else (2, 1)
    columns = {
        "conditions": chosen["name"],
        "difference": [found.times(scale).written(digits) for found in values_in(chosen, DIFFERENCE)],
    }
    if one.index is None:
        columns["by chance"] = [f"±{chance * scale:.{digits}f}" for chance in chosen["by_chance"]]
    if not one.question.nominal and one.index is None:
        columns["in sd"] = [found.written(2) for found in values_in(chosen, STANDARDIZED)]
    what = "shares, percentage points" if one.question.nominal else "means, scale points"
    rows = tuple(zip(*columns.values(), strict=True))
    return Table(tuple(columns), rows, title=f"{title}, {what} [95% over personas]")


def _people(prediction: Prediction, field: str, groups: Groups) -> Table:
    weights, rows = prediction.plan.weights, []
    for index, name in [*enumerate(groups.names), (NOT_KNOWN, "not known")]:
        mine = groups.of_rows == index
        if mine.any():
            rows.append((name, f"{int(mine.sum()):,}", f"{100 * weights[mine].sum() / weights.sum():.1f}%"))
    return Table((field.replace("_", " "), "personas", "share"), tuple(rows))
