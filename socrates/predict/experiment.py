"""An experiment as a person describes it: conditions, questions with their scales, and who is asked.

The model reads it in the words of the data set, so that it reads what it was trained to read: 'You read “…” and then
were asked: “…” Only return an integer from 1 to 7, where 1 means … and 7 means …, nothing else.'

Covers: unknown, missing and doubled keys with the nearest valid one, all problems together; and that the rendered
question states the very scale that was meant, as the rest of this project reads it.
Does not cover: whether it fits the model's length, which the model's tokenizer decides (`predict.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from socrates.data.scales import Scale
from socrates.data.scales.text import IN_QUESTION, parse_scale, read_scale
from socrates.files import read_json
from socrates.inference.engine import MAX_TREE_ANSWERS
from socrates.predict.population import Margins, Persona, draw_some, read_margins, read_personas
from socrates.schema import Problems, shown

_KEYS = ("title", "note", "conditions", "questions", "population")
_SCALE = '{"low": 1, "high": 7}, with "labels" if you like, or {"options": {"1": "Yes", "2": "No"}}'
_WHOLE = re.compile(r"-?[0-9]{1,9}")


@dataclass(frozen=True)
class OutcomeQuestion:
    """A question that everybody is asked in every condition.

    Attributes:
        name: what tables call it.
        text: its words, without the answer instruction.
        scale: its valid answers.
        labels: of all answers, or of some.
        options: whether the answers are options, so that their numbers are names; else they measure something.
    """

    name: str
    text: str
    scale: Scale
    labels: Mapping[int, str]
    options: bool = False

    @property
    def instruction(self) -> str:
        """How to answer, in the data set's words."""
        if self.options:
            return options_instruction(self.labels)
        return range_instruction(self.scale, self.labels)


@dataclass(frozen=True)
class Experiment:
    """What is to be predicted.

    Attributes:
        file: that describes it.
        title: of the page.
        note: what else the page is to say; may be empty.
        conditions: name -> what people of that condition read; None: nothing but the question.
        questions: at least one.
        population: the margins of those who are asked, or the CSV file that lists them.
    """

    file: Path
    title: str
    note: str
    conditions: Mapping[str, str | None]
    questions: tuple[OutcomeQuestion, ...]
    population: Margins | Path

    def stimuli(self, condition: str, question: OutcomeQuestion) -> str:
        """What a person of a condition reads, question and answer instruction included."""
        return render_stimuli(self.conditions[condition], question.text, question.instruction)

    def personas(self, seed: int, people: int | None = None) -> list[Persona]:
        """Who is asked: ``people`` of them, or as many as the file says.

        Raises:
            SocratesError: a CSV file that cannot be used, or that lists fewer.
        """
        if isinstance(self.population, Margins):
            return self.population.sample(seed, people)
        personas = read_personas(self.population)
        return personas if people is None else draw_some(personas, people, seed, self.population)


def read_experiment(path: Path) -> Experiment:
    """Read and check the description of an experiment.

    Raises:
        SocratesError: no such file, no JSON, or with every problem of it, a line each.
    """
    value = read_json(path, "experiment")
    problems = Problems(path)
    problems.check_keys(value, _KEYS)
    problems.check_present(value, ("title", "conditions", "questions", "population"))
    title = problems.read_text(value["title"], "title", "a text") if "title" in value else ""
    note = problems.read_text(value["note"], "note", "a text") if "note" in value else ""
    conditions = _conditions(value["conditions"], problems) if "conditions" in value else {}
    questions = _questions(value["questions"], problems) if "questions" in value else []
    population = _population(value["population"], path.parent, problems) if "population" in value else None
    _check_scales(conditions, questions, problems)
    problems.raise_any()
    assert population is not None and title is not None
    return Experiment(path, title, note or "", conditions, tuple(questions), population)


def _conditions(value: Any, problems: Problems) -> dict[str, str | None]:
    expected = 'an object, name -> what people read, such as {"control": null, "treatment": "…"}'
    found: dict[str, str | None] = {}
    for key, name, text in _named(value, "conditions", expected, problems):
        found[name] = None
        if text is not None:
            found[name] = problems.read_text(
                text, key, "what people of that condition read; null where that is nothing"
            )
    return found


def _questions(value: Any, problems: Problems) -> list[OutcomeQuestion]:
    expected = 'an object, name -> question, such as {"support": {"text": "…", "scale": {"low": 1, "high": 7}}}'
    found = []
    for key, name, question in _named(value, "questions", expected, problems):
        content = problems.read_object(question, key, 'an object with "text" and "scale"')
        if content is None:
            continue
        problems.check_keys(content, ("text", "scale"), f"{key}.")
        problems.check_present(content, ("text",), f"{key}.")
        text = problems.read_text(content["text"], f"{key}.text", "the question") if "text" in content else None
        if "scale" not in content:
            problems.add(f"{key}.scale", f"missing: which answers are valid: {_SCALE}")
            continue
        answers = _scale(content["scale"], f"{key}.scale", problems)
        if answers is not None and text is not None:
            found.append(OutcomeQuestion(name, text, *answers))
    return found


def _named(value: Any, key: str, expected: str, problems: Problems) -> Iterator[tuple[str, str, Any]]:
    """(key in the file, name, content) of each of an object's contents that has a name."""
    names: set[str] = set()
    for written, content in (problems.read_object(value, key, expected) or {}).items():
        name = problems.read_name(written, key)
        if name is None:
            continue
        if name in names:
            problems.add(f"{key}.{written}", "is there twice")
        names.add(name)
        yield f"{key}.{written}", name, content


def _scale(value: Any, key: str, problems: Problems) -> tuple[Scale, dict[int, str], bool] | None:
    """(the scale, its labels, whether these are options), or None after a problem."""
    content = problems.read_object(value, key, _SCALE)
    if content is None:
        return None
    before = len(problems)
    problems.check_keys(content, ("low", "high", "labels", "options"), f"{key}.")
    if "options" in content:
        if len(content) > 1:
            problems.add(key, 'takes either "options", or "low", "high" and "labels"')
        labels = _labels(content["options"], f"{key}.options", problems)
        if len(problems) == before and len(labels) < 2:
            problems.add(f"{key}.options", "one answer alone is no scale; give two or more")
        return (Scale(tuple(sorted(labels))), labels, True) if len(problems) == before else None
    problems.check_present(content, ("low", "high"), f"{key}.")
    ends = [content.get(end) for end in ("low", "high")]
    for end, number in zip(("low", "high"), ends, strict=True):
        if end in content and (isinstance(number, bool) or not isinstance(number, int) or abs(number) >= 10**9):
            problems.add(f"{key}.{end}", f"must be a whole number, not {shown(number)}")
    labels = _labels(content["labels"], f"{key}.labels", problems) if "labels" in content else {}
    if len(problems) > before:
        return None
    low, high = ends
    if low == high:
        problems.add(key, f"from {low} to {high} is one answer alone, and no scale")
    elif low > high:
        problems.add(key, f'"low" is {low} and "high" is {high}; exchange them')
    elif high - low >= MAX_TREE_ANSWERS:
        problems.add(
            key, f"has {high - low + 1:,} answers; at most {MAX_TREE_ANSWERS:,} are scored: ask in larger units"
        )
    for number in labels:
        if not low <= number <= high:
            problems.add(f"{key}.labels.{number}", f"lies outside {low} to {high}")
    return (Scale(tuple(range(low, high + 1))), labels, False) if len(problems) == before else None


def _labels(value: Any, key: str, problems: Problems) -> dict[int, str]:
    found: dict[int, str] = {}
    for answer, label in (problems.read_object(value, key, 'an object such as {"1": "Yes"}') or {}).items():
        if not _WHOLE.fullmatch(answer):
            problems.add(f"{key}.{answer}", 'the answer must be a whole number, such as "1"')
        elif int(answer) in found:
            problems.add(f"{key}.{answer}", "is there twice")
        elif text := problems.read_text(label, f"{key}.{answer}", "a label"):
            found[int(answer)] = " ".join(text.split())
    return found


def _population(value: Any, folder: Path, problems: Problems) -> Margins | Path | None:
    expected = 'an object, such as {"size": 200, "gender": {"Male": 0.49, "Female": 0.51}} or {"csv": "personas.csv"}'
    content = problems.read_object(value, "population", expected)
    if content is None:
        return None
    if "csv" not in content:
        return read_margins(content, "population.", problems)
    for key in content:
        if key != "csv":
            problems.add(f"population.{key}", 'does not go with "csv": the file says who is asked')
    name = problems.read_text(content["csv"], "population.csv", "the name of a CSV file")
    return None if name is None else folder / name


def _check_scales(conditions: Mapping[str, str | None], questions: list[OutcomeQuestion], problems: Problems) -> None:
    """What a person wrote may state another scale: a text with an instruction of its own, odd labels."""
    for question in questions:
        own = parse_scale(question.text)
        if own not in (None, question.scale):
            problems.add(
                f"questions.{question.name}.text",
                f'states the scale {own} itself, and not {question.scale}; leave the answers to "scale"',
            )
        for name, text in conditions.items():
            instructed, form = read_scale(text or "")
            if form and not form.endswith(IN_QUESTION) and instructed != question.scale:
                problems.add(
                    f"conditions.{name}",
                    f"tells to answer from {instructed}, and not from {question.scale}, which "
                    f'"questions.{question.name}" has; leave the instruction out',
                )
        for name, text in conditions.items():
            found = parse_scale(render_stimuli(text, question.text, question.instruction))
            if found != question.scale:
                problems.add(
                    f"questions.{question.name}",
                    f"with its answer instruction it reads as {f'the scale {found}' if found else 'no scale at all'}, "
                    f"not {question.scale} (condition {shown(name)}); reword its text or its labels: "
                    f"{shown(question.instruction)}",
                )
                break


def render_stimuli(read: str | None, question: str, instruction: str) -> str:
    """What a person is told: what they read (None: nothing), what they were asked, and how to answer."""
    before = "You were asked" if read is None else f"You read “{read}” and then were asked"
    return f"{before}: “{question}” {instruction}"


def range_instruction(scale: Scale, labels: Mapping[int, str]) -> str:
    """How to answer with a number of a range, of which some may have labels."""
    named = [f"{value} means {labels[value]}" for value in sorted(labels)]
    where = f", where {_listed(named)}" if named else ""
    return f"Only return an integer from {scale.low} to {scale.high}{where}, nothing else."


def options_instruction(labels: Mapping[int, str]) -> str:
    """How to answer with the number of one of several options."""
    named = [f"{value} for “{labels[value]}”" for value in sorted(labels)]
    return f"Only return {' or '.join(named) if len(named) == 2 else '; '.join(named)}, nothing else."


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
