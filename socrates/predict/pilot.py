"""A few humans: a pilot's answers, and what they and predictions say together (prediction-powered inference).

The pilot's mean is moved by how far predictions of the personas lie from those of its people, as much as predictions
follow answers (PPI++: Angelopoulos, Duchi and Zrnic 2023, arXiv:2311.01453; of differences DiP++: Broska, Howes and van
Loon 2025). Assumes that the pilot's people are a sample of the population that the personas stand for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import stdtrit

from socrates.data.convert.tables import clean
from socrates.data.scales import Scale
from socrates.errors import SocratesError
from socrates.evaluation.effects import shown_pairs
from socrates.predict.experiment import Experiment
from socrates.predict.outcomes import QuestionPrediction
from socrates.predict.personas import WEIGHT, clean_personas, read_table
from socrates.schema import nearest, raise_problems, shown

Array = NDArray[np.float64]
Questions = Mapping[str, tuple[Scale, Collection[float]]]  # the answers that measure, and codes that do not (999)
_KEYS, _ANSWER = ["condition", "person", "question"], "answer"
_MOST_PROBLEMS, _MOST_PEOPLE = 10, 1e9
ESTIMATES = (
    *("estimate", "low", "high", "classical", "classical_low", "classical_high"),
    *("people", "effective_people", "correlation", "tuning"),
)
PLANNED = ("people_without", "people_with")


class Pilot(NamedTuple):
    """The people of a pilot, see `clean_personas`, and their answers, see `read_humans`."""

    people: pd.DataFrame
    answers: pd.DataFrame

    def answers_to(self, one: QuestionPrediction, measure: int) -> Array:
        """Shape (P, C): to a question, or the mean of those to an index; of options, 1 for the one that is measured."""
        index, ends = one.index, one.question.answers.values[0] + one.question.answers.values[-1]
        tables = [
            ends - self.answers[item] if index and item in index.reversed else self.answers[item]
            for item in (index.items if index else [one.name])
        ]
        answers = pd.concat(tables)[[*one.conditions]].groupby(level=0, sort=False).mean().to_numpy()
        if one.moments.shares:
            answers = np.where(np.isnan(answers), np.nan, answers == one.question.answers.values[measure])
        return answers


def read_pilot(path: Path, experiment: Experiment, seed: int) -> Pilot:
    """A pilot of an experiment; SocratesError as of `read_humans` and `clean_personas`."""
    questions = {name: (one.answers, [*one.codes]) for name, one in experiment.questions.items()}
    people, answers = read_humans(path, experiment.conditions, questions)
    return Pilot(clean_personas(people, path, seed), answers)


def estimate_pilot(
    one: QuestionPrediction, weights: Array, pilot: Pilot | None, width: float | None, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a pilot says of a question, see `estimate_contrasts`; and its answers and predictions, see `mixed_subjects`.

    ``weights`` are the personas'. A row a `measure` and condition, then a row a comparison, under its `name`. Without a
    pilot `people_without` alone, by the predicted spread of answers.
    """
    names, tables, exports = [*one.conditions, *one.contrasts.names["name"]], [], []
    contrasts = np.vstack([np.eye(len(one.conditions)), one.contrasts.weights])
    means, variances = one.moments.describe(weights)
    for place, measure in enumerate(one.moments.measures):
        if pilot is None:
            table = pd.DataFrame({PLANNED[0]: plan_contrasts(contrasts, variances[place], width)})
        elif np.isnan(answers := pilot.answers_to(one, place)).all():
            continue
        else:
            # Of whom nothing is predicted the mean is: any rule does that is the same for people and personas.
            of_personas, of_humans = (
                np.where(np.isnan(each := side.describe()[0][place].T), means[place], each) + side.centre
                for side in (one.moments, one.of_humans)
            )
            people = answers, pilot.people[WEIGHT].to_numpy(), of_humans
            table = estimate_contrasts(contrasts, people, (of_personas, weights), width)
            for a, b in zip(*shown_pairs(len(one.conditions)), strict=True):
                pair = mixed_subjects(answers[:, [a, b]], of_humans[:, [a, b]], of_personas[:, [a, b]], seed)
                named = f"{one.conditions[b]} − {one.conditions[a]}"
                exports.append(pair.assign(question=one.name, measure=measure, name=named))
        tables.append(pd.DataFrame({"question": one.name, "measure": measure, "name": names}).join(table))
    return pd.concat(tables or [pd.DataFrame()]), pd.concat(exports or [pd.DataFrame()])


def read_humans(path: Path, conditions: Collection[str], questions: Questions) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The people of a pilot and their answers, from a table of any usual format.

    A line is a person in a condition ("condition", a column a question), or an answer ("condition", "person",
    "question", "answer"). There may be "person" (else every line is another's), "weight", and what is known of people.

    Returns:
        By person, `WEIGHT` and all other columns as they first stand there; and answers, with columns (question,
        condition), NaN where there is none, or a code.

    Raises:
        SocratesError: no such table, lines that cannot be used, by number, or nobody answered.
    """
    frame = read_table(path)
    names, is_long = [*frame.columns], {"question", _ANSWER} <= {*frame.columns}
    asked = [name for name in names if name in questions and not is_long]
    raise_problems(path, [*_column_problems(names, asked, questions, is_long)])
    frame = frame.assign(**{name: given for name, given in (("person", frame.index), (WEIGHT, 1)) if name not in names})
    long = frame if is_long else frame.melt([*_KEYS[:2], WEIGHT], asked, "question", _ANSWER, ignore_index=False)
    texts = long[_KEYS].map(lambda value: "" if (text := clean(value)) is None else str(text))
    long = long.assign(**texts, answer=long[_ANSWER].map(clean))
    numbers = long[[_ANSWER, WEIGHT]].apply(pd.to_numeric, errors="coerce").astype(np.float64)
    numbers[_ANSWER] = numbers[_ANSWER].round(9)  # 0.1 * 3, as others write it
    problems = [*dict.fromkeys(_line_problems(long, numbers, conditions, questions))]
    problems[_MOST_PROBLEMS:] = ["and more below"] * (len(problems) > _MOST_PROBLEMS)
    raise_problems(path, problems)
    measures = [number in questions[name][0] for name, number in zip(long["question"], numbers[_ANSWER], strict=True)]
    if not any(measures) or not numbers[WEIGHT].any():
        raise SocratesError(f"{path}: {'all weights are 0, so nobody counts' if any(measures) else 'nobody answered'}")
    answers = long.assign(answer=numbers[_ANSWER].where(measures)).pivot(index="person", columns=_KEYS[::-2])[_ANSWER]
    first = texts["person"].groupby(level=0).first(), numbers[WEIGHT].groupby(level=0).first()
    people = frame.drop(columns=[*asked, *_KEYS, _ANSWER, WEIGHT], errors="ignore")
    people.insert(0, WEIGHT, first[1])
    people = people.set_index(first[0]).loc[lambda them: ~them.index.duplicated()]
    cells = pd.MultiIndex.from_product([[*questions], [*conditions]])
    return people, answers.reindex(index=people.index, columns=cells).astype(np.float64)


def _column_problems(names: list[str], asked: list[str], questions: Questions, is_long: bool) -> Iterator[str]:
    lacking = [name for name in _KEYS[: 1 + is_long] if name not in names]
    yield from (f'the column "{name}" is missing{nearest(name, names)}' for name in lacking)
    if is_long:
        return
    for name in sorted({*questions} & {*_KEYS, WEIGHT}):
        yield f'the question "{name}" has the name of a column that means something else; rename it'
    for name in sorted({*questions} - {*asked}):
        if close := get_close_matches(name, {*names} - {*asked}, 1, 0.8):
            yield f"the column {shown(close[0])} is no question; did you mean {shown(name)}?"
    if not asked:
        yield f'no column is a question ({", ".join(questions)}), nor are there "question" and "answer"'


def _line_problems(
    long: pd.DataFrame, numbers: pd.DataFrame, conditions: Collection[str], questions: Questions
) -> Iterator[str]:
    columns = (*(long[name] for name in (*_KEYS, _ANSWER, WEIGHT)), numbers[_ANSWER], numbers[WEIGHT])
    rows = zip(long.index, *columns, long.duplicated(_KEYS), strict=True)
    for line, condition, person, question, answer, weight, number, counted, is_twice in rows:
        for name, value, valid in (("condition", condition, conditions), ("question", question, questions)):
            if value not in valid:
                yield f"line {line}, {name}: {shown(value)} is not in the experiment{nearest(value, valid)}"
        if not person:
            yield f"line {line}, person: is empty, so that nobody knows whose answers go together"
        if not 0 <= counted < math.inf:
            yield f"line {line}, weight: must be a number of 0 or more, not {shown(weight)}"
        if is_twice:
            yield f"line {line}: person {shown(person)} answered {shown(question)} in {shown(condition)} above already"
        scale, codes = questions.get(question, (None, ()))
        if scale and answer is not None and answer == answer and number not in (*scale.values, *codes):
            also = "".join(f", or {code:g}" for code in codes)
            yield f"line {line}, {question}: {shown(answer)} is no valid answer; must be {scale}{also}, or empty"


def estimate_contrasts(
    contrasts: Array, people: tuple[Array, Array, Array], personas: tuple[Array, Array], width: float | None = None
) -> pd.DataFrame:
    """Contrasts of condition means by the pilot alone (classical) and with predictions.

    The error has a part for each person, so that several answers of one are paired, and for each persona, so that those
    in two conditions are. Student's 95% intervals, with Welch's degrees of freedom.

    Args:
        contrasts: shape (K, C): the coefficient of each condition's mean.
        people: answers, shape (P, C), NaN where there is none; weights (P,); means that are predicted of them (P, C).
        personas: means that are predicted of them (N, C); weights (N,).
        width: of an interval, for `PLANNED`: how many people it takes without and with predictions.

    Returns:
        A row a contrast, `ESTIMATES`: NaN with one person in a condition, or without spread. `effective_people`: as
        many would make the pilot alone as precise; `tuning`: how much predictions count, 0 to 1.
    """
    answers, weights, predicted = people
    weights = weights / weights.max()  # whose sums are then finite
    there = ~np.isnan(answers) & (weights > 0)[:, None]
    base = np.where(there, [answers, predicted], np.inf).min(axis=1)  # the errors of equal numbers are then exactly 0
    imputed, shares = personas[0] - base[1], personas[1][:, None] / personas[1].sum()
    found = []
    with np.errstate(invalid="ignore", divide="ignore"):  # nobody in a condition, or one, or no spread
        share = there * weights[:, None] / (there * weights[:, None]).sum(axis=0)
        sides = np.where(there, [answers, predicted] - base[:, None], 0.0)
        means = (share * sides).sum(axis=1)
        parts = share * (sides - means[:, None]) / np.sqrt(1 - share)  # HC2: n / (n - 1) where weights are equal
        missing = shares * (imputed - (shares * imputed).sum(axis=0)) / np.sqrt(1 - shares)
        further = (shares * imputed).sum(axis=0) - means[1]
        for needed, k in ((np.flatnonzero(contrast), contrast[contrast != 0]) for contrast in contrasts):
            at = np.ix_(there[:, needed].any(axis=1), needed)
            found.append(row := {"people": float(there[at].any(axis=1).sum())})
            if there[at].sum(axis=0).min() < 2:
                continue
            group = np.unique(there[at], axis=0, return_inverse=True)[1].ravel()  # who answered in the same conditions
            human, guess, unseen = parts[0][at] @ k, parts[1][at] @ k, missing[:, needed] @ k
            size = share[at].sum(axis=1)
            free = np.bincount(group, size) ** 2 / np.bincount(group, size**2) - 1
            free = np.maximum([*free, 1 / (shares**2).sum() - 1], 1)
            moments = human @ human, human @ guess, guess @ guess, unseen @ unseen
            known = len(human), group.max() + 1
            row["tuning"], variance = _tuned(moments, *known)
            row["correlation"] = moments[1] / np.sqrt(moments[0] * moments[2])
            row["effective_people"] = len(human) * moments[0] / variance
            row["classical"] = (means[0] + base[0])[needed] @ k
            row["estimate"] = row["classical"] + row["tuning"] * (further[needed] @ k)
            for name, tuning, error in (("", row["tuning"], variance), ("classical_", 0.0, moments[0])):
                squares = [*np.bincount(group, (human - tuning * guess) ** 2), tuning and tuning**2 * moments[3]]
                freedom = np.sum(squares) ** 2 / (np.square(squares) / free).sum()
                half, middle = -stdtrit(freedom, 0.025) * np.sqrt(error), row[name.rstrip("_") or "estimate"]
                row |= {f"{name}low": middle - half, f"{name}high": middle + half}
            for name, kept in zip(PLANNED, ((moments[0], 0.0, 0.0, 0.0), moments), strict=True) if width else ():
                row[name] = _people_for(width, *known, freedom, kept)
    return pd.DataFrame(found, columns=[*ESTIMATES, *PLANNED * bool(width)])


def plan_contrasts(contrasts: Array, variances: Array, width: float) -> list[float]:
    """How many people intervals of this width take without a pilot and its help: others, as many in each condition.

    Variances of answers, shape (C,), are those predicted, with what is open within personas: so this is a guess.
    """
    groups, spread = np.count_nonzero(contrasts, axis=1), contrasts**2 @ variances
    return [_people_for(width, n, n, 0, (v, 0.0, 0.0, 0.0)) for n, v in zip(groups, spread, strict=True)]


def _tuned(moments: Sequence[float], people: int, groups: int, times: float = 1) -> tuple[float, float]:
    """How much predictions count, and the contrast's variance, with so many times the people.

    Moments: variance of answers, covariance, variance of predictions of people, of personas. The fit is paid for as in
    regression, by some 2 / freedom of the variance; where it is not worth that, predictions are left out.
    """
    answers, both, predictions, unseen = moments
    known = predictions + times * unseen
    tuning = min(max(both / known, 0.0), 1.0) if known > 0 else 0.0
    paid = 1 + 2 / max(people * times - groups, 1)
    variance = (answers - 2 * tuning * both + tuning**2 * predictions) * paid / times + tuning**2 * unseen
    return (tuning, variance) if variance < answers / times else (0.0, answers / times)


def _people_for(width: float, people: int, groups: int, freedom: float, moments: Sequence[float]) -> float:
    """The least number of people, in the pilot's proportions, with whom an interval is no wider; NaN: too many."""

    def excess(log: float) -> float:
        t = -stdtrit(max((freedom + groups) * math.exp(log) - groups, 1), 0.025)
        return 2 * t * math.sqrt(_tuned(moments, people, groups, math.exp(log))[1]) - width

    low, high = math.log(2 * groups / people), math.log(_MOST_PEOPLE / people)
    if not moments[0] > 0 or excess(high) > 0:
        return math.nan
    return math.ceil(people * math.exp(brentq(excess, low, high) if excess(low) > 0 else low) - 1e-6)


def parse_plan(text: str) -> float:
    """The width, in scale points, of `--plan width=0.2`. ValueError: there is none."""
    found = re.fullmatch(r"width=([0-9]*\.?[0-9]+)", text.strip())
    if not found or not 0 < float(found[1]) < _MOST_PEOPLE:
        raise ValueError(f"must be such as width=0.2 (the full width of a 95% interval), not {shown(text)}")
    return float(found[1])


def mixed_subjects(answers: Array, predicted: Array, personas: Array, seed: int) -> pd.DataFrame:
    """Two conditions, control first, for R's `mixedsubjects`: `msd_dip_pp(msd_data(rows))`.

    Answers and predictions of people, shape (P, 2), and predictions of personas, (N, 2). It knows neither weights nor
    pairs: who answered in both conditions has two rows. Personas have no Y, and a condition at random: PPI++ wants one.
    """
    person, arm = np.nonzero(~np.isnan(answers))
    arms = np.random.default_rng(seed).permutation(len(personas)) % 2
    s0, s1 = np.vstack([predicted[person], personas]).T
    y = np.append(answers[person, arm], np.full(len(personas), np.nan))
    return pd.DataFrame({"D": np.append(arm, arms), "Y": y, "S0": s0, "S1": s1})
