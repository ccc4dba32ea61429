"""A prediction as one page: what is predicted, what it is not, how far to believe it, and what it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from socrates.console import Table, count
from socrates.data.demographics import NOT_KNOWN, find_groups
from socrates.evaluation.gate import LITTLE_MASS
from socrates.predict.estimates import RESAMPLES, Number
from socrates.predict.files import PROGRAM
from socrates.predict.pictures import (
    MOST_CONDITIONS,
    MOST_DIFFERENCES,
)
from socrates.predict.predict import Prediction, QuestionPrediction
from socrates.report.html import document, section
from socrates.report.plot import Plot
from socrates.report.results_folders import NONE, fixed, limits_in_words

COVERS = "which personas happened to be made or listed; not the model's error"
_MOST_ANSWERS = 24  # of a scale, that get a line each in a table
_IS_NOT = (
    "Nobody was asked. These are predictions of a language model, and no substitute for asking people: use them to "
    "sharpen an experiment before it is run, not to report what people think.",
    "The model may be wrong about groups of people, questions and subjects that it saw little of, about what happened "
    "after it was made, and about texts written to persuade; it may repeat stereotypes. A difference between "
    "conditions that it predicts may not exist, and one that exists may be missing.",
    f"The 95% intervals hold only {COVERS}. That error is not known for this experiment and may be far larger.",
    "Every persona answers every condition, each time as if for the first time, so nothing has to be randomised and "
    "no one remembers another condition. In a real experiment other people are in each condition, and chance adds to "
    "differences what stands under “by chance”: half its 95% interval with as many people in each condition as there "
    "are personas, if the model were right.",
)


def render(prediction: Prediction, plots: Sequence[Sequence[Plot]], when: datetime) -> str:
    """The page as HTML; ``plots`` of each question, ``when`` it was made."""
    experiment = prediction.experiment
    conditions = len(experiment.conditions)
    note = [f"<p>{escape(experiment.note)}</p>"] if experiment.note else []
    header = [
        *note,
        f"<p>Predicted by {escape(str(prediction.model['name']))}: "
        f"{count(len(prediction.personas), 'persona')}, {count(conditions, 'condition')}, "
        f"{count(len(experiment.questions), 'question')}. Nobody was asked.</p>",
        f'<p class="small">{escape(str(experiment.file))}, written on {when:%Y-%m-%d at %H:%M %Z}</p>',
    ]
    sections = [
        section(
            "predicted", "What is predicted", [_lead(one, prediction) for one in prediction.questions], kind="lead"
        ),
        section("not", "What this is not", _IS_NOT, kind="bad"),
        *(
            _question(place, one, prediction, pictures)
            for place, (one, pictures) in enumerate(zip(prediction.questions, plots, strict=True), start=1)
        ),
        _believe(prediction),
        _people(prediction),
        _texts(prediction),
        _made(prediction),
    ]
    return document(f"Prediction: {experiment.title}", PROGRAM, header, sections)


def _lead(one: QuestionPrediction, prediction: Prediction) -> str:
    question = one.answers.question
    what, numbers = one.headline
    found = [(number.value, name) for number, name in zip(numbers, prediction.experiment.conditions, strict=True)]
    written = [f"{100 * value:.0f}%" if question.options else fixed(value, 2) for value, _ in found]
    if len(found) == 1:
        return f"{question.name}, {what}: {written[0]} ({found[0][1]})."
    order = sorted(range(len(found)), key=lambda index: found[index][0])
    low, high = order[0], order[-1]
    return f"{question.name}, {what}: from {written[low]} ({found[low][1]}) to {written[high]} ({found[high][1]})."


def _question(place: int, one: QuestionPrediction, prediction: Prediction, plots: Sequence[Plot]) -> str:
    question, names = one.answers.question, list(prediction.experiment.conditions)
    lines = [f"“{question.text}” {question.instruction}"]
    if left_out := len(prediction.personas) - len(one.answers.personas):
        lines.append(
            f"{count(left_out, 'persona')} got no valid answer from the model in some condition and are left out."
        )
    if one.least_mass < LITTLE_MASS:
        lines.append(
            f"The model puts only {100 * one.least_mass:.0f}% of its probability on valid answers here; what is shown "
            "is that part. Such a model was not trained to answer so; take a trained checkpoint."
        )
    if len(names) > MOST_CONDITIONS or len(one.differences) > MOST_DIFFERENCES:
        lines.append(
            f"The pictures show the first {MOST_CONDITIONS} conditions and {MOST_DIFFERENCES} differences; the tables "
            "show all."
        )
    tables = []
    if not question.options:
        rows = tuple(
            (name, _number(estimate.mean), _number(estimate.sd))
            for name, estimate in zip(names, one.conditions, strict=True)
        )
        heads = ("condition", "mean", "standard deviation")
        tables.append(Table(heads, rows, title="Answers by condition, scale points [95% over personas]"))
    elif len(question.scale) <= _MOST_ANSWERS:
        tables.append(_shares(one, names))
    if one.differences:
        tables.append(_differences(one, names))
    folded = {}
    if not question.options and len(question.scale) <= _MOST_ANSWERS:
        folded["The share of each answer"] = [_shares(one, names)]
    return section(f"question-{place}", question.name, lines, plots, tables, folded=folded, most=24)


def _shares(one: QuestionPrediction, names: Sequence[str]) -> Table:
    question = one.answers.question
    rows = tuple(
        (
            str(value) + (f" {question.labels[value]}" if value in question.labels else ""),
            *(_number(estimate.shares[index], 1, 100, "%") for estimate in one.conditions),
        )
        for index, value in enumerate(question.scale.values)
    )
    return Table(("answer", *names), rows, title="Share of each answer [95% over personas]")


def _differences(one: QuestionPrediction, names: Sequence[str]) -> Table:
    question = one.answers.question
    if question.options:
        rows = tuple(
            (
                f"{names[found.b]} − {names[found.a]}",
                question.labels[int(found.measure)],
                _number(found.difference, 1, 100),
                f"±{100 * found.by_chance:.1f}",
            )
            for found in one.differences
        )
        heads = ("conditions", "answer", "difference", "by chance")
        return Table(heads, rows, left=2, title="Differences of shares, percentage points [95% over personas]")
    rows = tuple(
        (
            f"{names[found.b]} − {names[found.a]}",
            _number(found.difference),
            f"±{found.by_chance:.2f}",
            _number(found.standardized),
        )
        for found in one.differences
    )
    heads = ("conditions", "difference", "by chance", "in sd")
    return Table(heads, rows, title="Differences of means, scale points [95% over personas]")


def _believe(prediction: Prediction) -> str:
    title, evidence = "How far to believe it", prediction.evidence
    if evidence is None:
        return section(
            "believe",
            title,
            [
                "Nothing is known here of how well this model predicts people: no evaluation of it was named. Evaluate "
                f"it on held-out studies (scripts/evaluate.py --model {prediction.model['name']} …), and name the "
                "results with --results."
            ],
        )
    distance, guess, best = (
        evidence.value(*keys)
        for keys in (("wasserstein_distance",), ("bounds", "uniform_guess"), ("bounds", "empirical_best"))
    )
    studies = evidence.count("coverage", "studies_scored")
    of = f"{count(studies, 'study', 'studies')}" if studies else "studies"
    lines = [
        f"Its predictions were compared with the answers of people in {of} ({evidence.folder}). Distributions are "
        f"apart by a Wasserstein distance of {distance.in_words(3)} on average, as a share of the range of answers; a "
        f"uniform guess has {fixed(guess.value, 3)}, people resampled {fixed(best.value, 3)}."
    ]
    if evidence.useless:
        lines.append("That is no better than guessing: do not believe what this model predicts.")
    clear, correlation = evidence.value("effects", "sign_agreement_clear"), evidence.value("effects", "correlation")
    pairs = evidence.count("effects", "clear_pairs")
    if clear.value is not None:
        lines.append(
            f"Of the differences between conditions that are clear among people ({count(pairs or 0, 'pair')}), it gets "
            f"{100 * clear.value:.0f}%{limits_in_words(clear.percent().limits, 0, '%')} in the right direction; half "
            "would be chance."
        )
    if correlation.value is not None:
        lines.append(
            f"Predicted and human differences correlate by {correlation.in_words(2)}; 0 would be chance, 1 the best."
        )
        if correlation.limits is None or correlation.limits[0] <= 0:
            lines.append("So it has not been shown that this model predicts differences between conditions at all.")
    if clear.value is None and correlation.value is None:
        lines.append("How well it predicts differences between conditions is not known.")
    if evidence.seen_rows:
        lines.append("Part of these studies it may have been trained on: they tell what it remembers.")
    elif evidence.seen_rows is None:
        lines.append("Whether it was trained on some of these studies is not recorded.")
    if evidence.decoding != (decoding := prediction.decoding):
        lines.append(
            f"That was judged with other probabilities ({evidence.decoding}) than are shown here ({decoding})."
        )
    lines.append("Your experiment may be unlike those studies; then less is known.")
    return section("believe", title, lines)


def _people(prediction: Prediction) -> str:
    personas, weights = prediction.personas, prediction.plan.weights
    source = prediction.experiment.population
    if isinstance(source, Path):
        lines = [f"{count(len(personas), 'persona')} from {source}."]
        if (weights != weights[0]).any():
            lines.append("They count by their weights.")
    else:
        lines = [
            f"{count(len(personas), 'persona')}, made from shares or counts of each field to exact numbers (largest "
            "remainder). Fields are independent of each other: who has which education does not depend on age. Where "
            "that matters, list personas in a CSV file."
        ]
        if any("-" in value or "–" in value for value in source.fields.get("age", {})):
            lines.append("A range of ages is spread evenly over its years.")
    tables = []
    for field, groups in find_groups([persona.demographic for persona in personas]).items():
        rows = []
        for index, name in [*enumerate(groups.names), (NOT_KNOWN, "not known")]:
            mine = groups.of_rows == index
            if mine.any():
                rows.append((name, f"{int(mine.sum()):,}", f"{100 * weights[mine].sum() / weights.sum():.1f}%"))
        tables.append(Table((field.replace("_", " "), "personas", "share"), tuple(rows)))
    return section("people", "Who is asked", lines, tables=tables)


def _texts(prediction: Prediction) -> str:
    experiment = prediction.experiment
    rows = tuple(
        (name, "(nothing but the question)" if text is None else text) for name, text in experiment.conditions.items()
    )
    parts = [part for part in prediction.plan.prompts[0][0].split("\n") if part]
    prompt = Table(("line", "text"), tuple((str(n), part) for n, part in enumerate(parts, start=1)), left=2)
    return section(
        "texts",
        "What they read",
        ["The words around these texts and the instruction how to answer are those of the data set."],
        tables=[Table(("condition", "text"), rows, left=2, title="Conditions")],
        folded={"One prompt, whole": [prompt]},
        kind="words",
        most=None,
    )


def _made(prediction: Prediction) -> str:
    model = prediction.model
    chosen = f"{prediction.decoding}: " + (
        "the model's own, not narrowed by any decoding (--undecoded)"
        if prediction.undecoded
        else "as the model is evaluated, so that what is known of its accuracy holds for them; they are narrower than "
        "the model's own (--undecoded)"
    )
    facts: Mapping[str, Any] = {
        "model": model["name"],
        "base model": model.get("base_model"),
        "checkpoint": f"step {model['checkpoint']['step']}, manifest {model['checkpoint']['manifest_sha256']}"
        if model.get("checkpoint")
        else None,
        "precision and device": " ".join(str(model[key]) for key in ("dtype", "device") if model.get(key)),
        "probabilities": chosen,
        "probability on valid answers": ", ".join(
            f"{one.answers.question.name} {100 * one.valid_mass.mean():.1f}%" for one in prediction.questions
        ),
        "seed": prediction.seed,
        "intervals": f"95%, from {RESAMPLES:,} resamples of the personas, the same ones in every condition",
        "prompts asked": f"{len(prediction.plan.prompts):,} in {prediction.seconds:,.0f} s",
        "files": "distributions.csv, means.csv, differences.csv; predictions.csv has a line for each persona, "
        "condition and question, with an answer drawn from the probabilities; answers.jsonl has the probabilities; "
        "predict.json has all of it",
    }
    rows = tuple((name, str(value)) for name, value in facts.items() if value not in (None, ""))
    return section("made", "How it was made", tables=[Table(("what", "how"), rows, left=2)], kind="words", most=None)


def _number(number: Number, digits: int = 2, scale: float = 1.0, unit: str = "") -> str:
    if number.value is None:
        return NONE
    limits = number.limits
    interval = "" if limits is None else " [{},\u00a0{}]".format(*(fixed(limit * scale, digits) for limit in limits))
    return fixed(number.value * scale, digits) + unit + interval
