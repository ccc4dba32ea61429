"""A prediction as one page: what is predicted, what it is not, how far to believe it, and what it was made from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from socrates.data.demographics import NOT_KNOWN, Groups, find_groups
from socrates.evaluation.gate import LITTLE_MASS
from socrates.predict.compare import CELL, PAIR, Tables
from socrates.predict.estimates import DIFFERENCE, MEAN, PROBABILITY, SD, STANDARDIZED
from socrates.predict.experiment import Experiment
from socrates.predict.files import PROGRAM
from socrates.predict.outcomes import QuestionPrediction
from socrates.predict.personas import NARRATIVE, unseen
from socrates.predict.pictures import MOST, main_differences
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
    profiles = [{name: of for name, of in one.items() if name != NARRATIVE} for one in plan.profiles]
    groups = find_groups([profiles[place] for place in plan.profile_of])
    prompt = plan.prompts[0][0]
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    lines = [(one["role"], line) for one in messages for line in one["content"].split("\n") if line]
    return html.render(
        "prediction.html.j2",
        title=f"Prediction: {experiment.title}",
        generator=PROGRAM,
        when=when,
        prediction=prediction,
        experiment=experiment,
        personas=plan.personas,
        covers=COVERS,
        decoding=decoding_text(prediction.facts["probabilities"]),
        questions=[_question(*both, prediction) for both in zip(prediction.questions, plots, strict=True)],
        unseen=unseen(groups),
        people=[_people(prediction, *field) for field in groups.items()],
        texts=[
            Table(("condition", "text"), tuple(_told(experiment)), (0, 1), "Conditions"),
            Table(("who", "text"), tuple(lines), (0, 1), "One prompt, whole"),
        ],
        pilot=_pilot(prediction),
        compared=compared,
        made={"How it was made": Table(("what", "how"), tuple(html.flattened(prediction.facts).items()), (0, 1))},
    )


def _table(title: str, columns: Mapping[str, Iterable[str]], words: tuple[int, ...] = (0,)) -> Table:
    return Table(tuple(columns), tuple(zip(*columns.values(), strict=True)), words, title)


def _written(
    table: pd.DataFrame, numbers: Sequence[str], digits: int = 2, scale: float = 1, unit: str = ""
) -> list[str]:
    return [found.times(scale).written(digits, unit) for found in values_in(table, numbers)]


def _told(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Each condition and what is particular to it, a line each."""
    for name, condition in experiment.conditions.items():
        for turn in condition.before:
            yield f"{name}, before", turn.question + (f" → {turn.answer}" if turn.answer else "")
        if condition.text or not condition.before:
            yield name, condition.text or "(nothing but the question)"
        for question, wording in condition.questions.items():
            yield f"{name}, {question}", wording or "(not asked here)"


def _question(one: QuestionPrediction, plots: Sequence[Plot], prediction: Prediction) -> dict[str, Any]:
    nominal, index, differences = one.question.nominal, one.index, one.differences
    tables, folded = [], {}
    if index is None and len(one.question.answers.values) <= _MOST_ANSWERS:
        shares = _shares(one, one.distributions, "Share of each answer")
        (tables, folded) = ([shares], {}) if nominal else ([], {"The share of each answer": shares})
    if not nominal:
        numbers = {"mean": _written(one.means, MEAN), "standard deviation": _written(one.means, SD)}
        tables.append(
            _table("Answers by condition, scale points [95% over personas]", {"condition": one.conditions, **numbers})
        )
    if len(one.codes):
        tables.append(_shares(one, one.codes, "Share of everybody who gives no answer on the scale"))
    if one.is_factorial:
        folded["Pairs of conditions"] = _differences(one, differences[differences["effect"] == ""], "Differences")
    if len(differences):
        title = "Effects of factors" if one.is_factorial else "Differences"
        tables.append(_differences(one, main_differences(one), title))
    if one.expected:
        columns = {
            "conditions": differences["name"],
            "expected": [found.written(2) for found in one.expected],
            "from the decoded probabilities, which the evaluation judged": [
                fixed(difference, 2) for difference in differences["judged_difference"]
            ],
        }
        title = "Expected of people, scale points [90%, the true difference, as if everybody were asked]"
        tables.append(_table(title, columns))
    return {
        "name": one.name,
        "text": _asked(one, prediction.plan.experiment),
        "index": index,
        "what": one.headline[0],
        "range": _range(one),
        "answer": _answer(one, prediction.pilot),
        "left_out": len(prediction.plan.personas) - len(one.personas),
        "little_mass": 100 * one.least_mass if one.least_mass < LITTLE_MASS else None,
        "most": MOST if max(len(one.conditions), len(main_differences(one))) > MOST else None,
        "plots": plots,
        "tables": tables,
        "folded": folded,
    }


def _asked(one: QuestionPrediction, experiment: Experiment) -> str:
    """A question with its answer instruction, where any condition was given that; or what an index is."""
    if one.index is not None:
        items = [f"{item} (reversed)" if item in one.index.reversed else item for item in one.index.items]
        return f"The mean of {', '.join(items)}."
    text, instruction = one.question.text, one.question.instruction
    is_told = any(instruction in experiment.stimuli(name, one.name).replace(text, "") for name in one.conditions)
    return f"“{text}” {instruction if is_told else ''}".strip()


def _range(one: QuestionPrediction) -> str:
    """The lowest and the highest headline number, and in which conditions."""
    scale, digits, unit = (100, 0, "%") if one.question.nominal else (1, 2, "")
    known = sorted((number.value, name) for number, name in zip(one.headline[1], one.conditions, strict=True))
    low, high = (fixed(known[at][0] * scale, digits) + unit for at in (0, -1))
    if low == high:
        return f"{low} in every condition" if len(known) > 1 else low
    return f"from {low} ({known[0][1]}) to {high} ({known[-1][1]})"


def _answer(one: QuestionPrediction, pilot: pd.DataFrame) -> list[str]:
    """The differences that matter most, a line each: effects of factors, or else the largest of pairs."""
    main = main_differences(one)
    if not one.is_factorial:
        main = main.sort_values("difference", key=abs, ascending=False)
    nominal, lines = one.question.nominal, []
    predicted = _written(main, DIFFERENCE, *((1, 100) if nominal else ()))
    together = {}
    if "estimate" in pilot and not nominal:
        mine = pilot[pilot["question"] == one.name]
        together = dict(zip(mine["name"], zip(_written(mine, ESTIMATES[:3]), mine["people"], strict=True), strict=True))
    for place, name, told in zip(main.index, main["name"], predicted, strict=True):
        if nominal:
            told += " percentage points"
        if one.expected:
            told = f"{one.expected[place].written(2)} expected of people ({told} predicted)"
        if name in together:
            estimate, people = together[name]
            told = f"{estimate} with {people:.0f} people of the pilot; {told}{'' if one.expected else ' predicted'}"
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
            (", ".join(str(key) for key in cell if key != ""), *_written(one, numbers))
            for cell, one in table.groupby(keys, sort=False)
        ]
        found += [Table(("outcome", *models), tuple(rows), title=title)] if rows else []
    return found


def _pilot(prediction: Prediction) -> list[Table]:
    """What a pilot and predictions say together, and how many people a width takes."""
    table, tables = prediction.pilot, []
    told = {
        "outcome": [f"{one.question}, {one.measure}" for one in table.itertuples()],
        "condition or difference": table.get("name", ()),
    }
    if "estimate" in table:
        numbers = {
            "with predictions": _written(table, ESTIMATES[:3]),
            "pilot alone": _written(table, ESTIMATES[3:6]),
            "people": [fixed(value, 0) for value in table["people"]],
            "as good as": [fixed(value, 0) for value in table["effective_people"]],
        }
        tables.append(_table("Estimates [95%]", told | numbers, (0, 1)))
    if needed := [name for name in PLANNED if name in table]:
        numbers = {
            name.replace("people_", "") + " predictions": [fixed(value, 0) for value in table[name]] for name in needed
        }
        width = f"People in all conditions for a 95% interval {prediction.facts['plan']:g} wide"
        tables.append(_table(width, told | numbers, (0, 1)))
    return tables


def _shares(one: QuestionPrediction, shares: pd.DataFrame, title: str) -> Table:
    """A line an answer and a column a condition, or the other way round where that is narrower."""
    first = shares[shares["condition"] == one.conditions[0]]
    labels = [label if isinstance(label, str) else "" for label in first["label"]]
    answers = [f"{value} {label}".strip() for value, label in zip(first["answer"], labels, strict=True)]
    numbers = np.reshape(_written(shares, PROBABILITY, 1, 100, "%"), (len(one.conditions), -1))
    heads, names = ("answer", *one.conditions), answers
    if len(one.conditions) > len(answers):
        heads, names, numbers = ("condition", *answers), one.conditions, numbers.T
    return Table(heads, tuple(zip(names, *numbers.tolist(), strict=True)), title=f"{title} [95% over personas]")


def _differences(one: QuestionPrediction, chosen: pd.DataFrame, title: str) -> Table:
    digits, scale = (1, 100) if one.question.nominal else (2, 1)
    columns = {"conditions": chosen["name"], "difference": _written(chosen, DIFFERENCE, digits, scale)}
    if one.index is None:
        columns["by chance"] = [f"±{fixed(chance * scale, digits)}" for chance in chosen["by_chance"]]
        if not one.question.nominal:
            columns["in sd"] = _written(chosen, STANDARDIZED)
    what = "shares, percentage points" if one.question.nominal else "means, scale points"
    return _table(f"{title}, {what} [95% over personas]", columns)


def _people(prediction: Prediction, field: str, groups: Groups) -> Table:
    weights, rows = prediction.plan.weights, []
    for index, name in [*enumerate(groups.names), (NOT_KNOWN, "not known")]:
        mine = groups.of_rows == index
        if mine.any():
            rows.append((name, f"{int(mine.sum()):,}", f"{100 * weights[mine].sum() / weights.sum():.1f}%"))
    return Table((field.replace("_", " "), "personas", "share"), tuple(rows))
