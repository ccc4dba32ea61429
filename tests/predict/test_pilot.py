"""A pilot of people: its answers as a file has them, and what they and predictions say together."""

import numpy as np
import pandas as pd
import ppi_py
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from socrates.data.scales import Scale
from socrates.errors import SocratesError
from socrates.predict.pilot import estimate_contrasts, mixed_subjects, parse_plan, plan_contrasts, read_humans

QUESTIONS = {"warmth": (Scale((1, 2, 3, 4, 5, 6, 7)), (99,)), "yes": (Scale((0, 1)), ())}
CONDITIONS = ("control", "late", "NA 2")
WIDE = "condition,warmth,yes,person,weight,age\ncontrol,4,1,a,2,34\nlate,7,,a,2,34\nlate,99,0,b,0.5,\n"
CONTRASTS = np.array([[1, 0], [0, 1], [-1, 1.0]])


def assert_close(found, expected, rtol=1e-10):
    found, expected = (np.asarray(values, np.float64).ravel() for values in (found, expected))
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-12)


def read(folder, text, name="answers.csv", encoding="utf-8"):
    (folder / name).write_bytes(text.encode(encoding))
    return read_humans(folder / name, CONDITIONS, QUESTIONS)


def pilot(seed=0, people=40, personas=90, paired=False):
    """People's answers, equal weights and predictions, and personas, with the answers' signal in the predictions."""
    rng = np.random.default_rng(seed)
    answers = rng.integers(1, 8, (people, 2)).astype(float)
    predicted = 0.4 * answers + rng.normal(2, 1, (people, 2))
    if not paired:
        answers[: people // 3, 1] = answers[people // 3 :, 0] = np.nan
    return (answers, np.ones(people), predicted), (rng.normal(4, 1, (personas, 2)), np.ones(personas))


def test_a_wide_table_is_people_and_their_answers_in_conditions(tmp_path):
    people, answers = read(tmp_path, WIDE)
    assert people.to_dict("index") == {"a": {"weight": 2.0, "age": "34"}, "b": {"weight": 0.5, "age": ""}}
    assert [*answers.index] == ["a", "b"]
    assert_close(answers["warmth"].to_numpy(), [[4, 7, np.nan], [np.nan, np.nan, np.nan]])  # 99 is a code
    assert_close(answers["yes"].to_numpy(), [[1, np.nan, np.nan], [np.nan, 0, np.nan]])


def test_other_layouts_separators_and_encodings_say_the_same(tmp_path):
    expected = read(tmp_path, WIDE)
    lines = [f"a;control;34;2;{rest}" for rest in ("warmth;4", "yes;1")]
    lines += ["a;late;34;2;warmth;7", "b;late;;0.5;warmth;99", "b;late;;0.5;yes;0"]
    long = "\n".join(["person;condition;age;weight;question;answer", *lines])
    for text, encoding in (
        (long, "utf-8-sig"),
        (WIDE.replace(",", "\t"), "utf-16"),
        (WIDE.replace("4,1", "4.0,1"), "cp1252"),
    ):
        for found, wanted in zip(read(tmp_path, text, encoding=encoding), expected, strict=True):
            pd.testing.assert_frame_equal(found, wanted, check_column_type=False)


def test_without_person_and_weight_every_line_is_another_person_who_counts_once(tmp_path):
    people, answers = read(tmp_path, "condition,warmth\nlate,3\nlate,5\n")
    assert len(people) == 2 and set(people["weight"]) == {1.0}
    assert_close(answers["warmth", "late"].to_numpy(), [3, 5])


MALFORMED = {
    "no condition": ("warmth\n4\n", 'the column "condition" is missing'),
    "its name misspelt": ("Condition,warmth\nlate,4\n", 'the column "condition" is missing; did you mean "Condition"?'),
    "no question": ("condition,age\nlate,4\n", 'no column is a question (warmth, yes), nor are there "question" and'),
    "a question misspelt": (
        "condition,warmht,yes\nlate,4,1\n",
        'the column "warmht" is no question; did you mean "warmth"',
    ),
    "another condition": (
        "condition,warmth\nLate!,4\n",
        'line 2, condition: "Late!" is not in the experiment; did you mean "la',
    ),
    "no condition in a line": (
        "condition,warmth\n,4\n",
        'line 2, condition: "" is not in the experiment; valid: control',
    ),
    "words": (
        "condition,warmth\nlate,4\nlate,hot\n",
        'line 3, warmth: "hot" is no valid answer; must be 1 to 7, or 99, or',
    ),
    "off the scale": ("condition,yes\nlate,2\n", "line 2, yes: 2 is no valid answer; must be 0, 1, or empty"),
    "half an answer": ("condition,warmth\nlate,4.5\n", 'line 2, warmth: "4.5" is no valid answer'),
    "a weight below 0": (WIDE.replace("2,34", "-2,34"), 'line 2, weight: must be a number of 0 or more, not "-2"'),
    "no weight": (WIDE.replace("0.5", ""), 'line 4, weight: must be a number of 0 or more, not ""'),
    "twice": (WIDE.replace("late", "control"), 'line 3: person "a" answered "warmth" in "control" above already'),
    "nobody's": (WIDE.replace(",b,", ",,"), "line 4, person: is empty"),
    "long without person": ("condition,question,answer\nlate,yes,1\n", 'the column "person" is missing'),
    "long, another question": (
        "condition,person,question,answer\nlate,1,yess,1\n",
        'line 2, question: "yess" is not in the experiment; did you mean "yes"?',
    ),
    "nobody answered": ("condition,warmth\nlate,\nlate,99\n", "answers.csv: nobody answered"),
    "nobody counts": ("condition,warmth,weight\nlate,3,0\n", "answers.csv: all weights are 0, so nobody counts"),
    "nothing": ("", "answers.csv: is empty"),
}


def test_decimals_are_read_as_computers_write_them_and_a_question_is_called_as_no_other_column(tmp_path):
    (tmp_path / "answers.csv").write_text("condition,weight\nlate,0.30000000000000004\n")
    scale = Scale((0, 0.1, 0.2, 0.3))
    with pytest.raises(SocratesError, match='the question "weight" has the name of a column that means something else'):
        read_humans(tmp_path / "answers.csv", CONDITIONS, {"weight": (scale, ())})
    (tmp_path / "answers.csv").write_text("condition,pay\nlate,0.30000000000000004\n")
    assert read_humans(tmp_path / "answers.csv", CONDITIONS, {"pay": (scale, ())})[1]["pay", "late"].tolist() == [0.3]


@pytest.mark.parametrize(("text", "message"), MALFORMED.values(), ids=MALFORMED)
def test_what_is_wrong_with_a_file_is_said_where(tmp_path, text, message):
    with pytest.raises(SocratesError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)


def test_a_file_of_the_wrong_kind_has_no_endless_message(tmp_path):
    with pytest.raises(SocratesError, match="and more below") as caught:
        read(tmp_path, "condition,warmth\n" + "late,9\n" * 50)
    assert len(str(caught.value).splitlines()) == 12


def test_classical_means_and_differences_are_those_of_student_and_welch():
    people, personas = pilot()
    table = estimate_contrasts(CONTRASTS, people, personas)
    a, b = (column[~np.isnan(column)] for column in people[0].T)
    for row, values in enumerate((a, b)):
        limits = stats.ttest_1samp(values, 0).confidence_interval()
        assert_close(table.loc[row, ["classical", "classical_low", "classical_high"]], [values.mean(), *limits])
    welch = CompareMeans(DescrStatsW(b), DescrStatsW(a)).tconfint_diff(usevar="unequal")
    assert_close(table.loc[2, ["classical_low", "classical_high"]], welch)
    assert [*table["people"]] == [13, 27, 40]


def test_answers_of_the_same_people_are_paired():
    people, personas = pilot(paired=True)
    table = estimate_contrasts(CONTRASTS, people, personas)
    paired = stats.ttest_rel(people[0][:, 1], people[0][:, 0]).confidence_interval()
    assert_close(table.loc[2, ["classical_low", "classical_high"]], paired)
    difference = people[0] @ CONTRASTS[2], people[2] @ CONTRASTS[2]
    assert table.loc[2, "people"] == 40
    assert_close(table.loc[2, "correlation"], np.corrcoef(*difference)[0, 1])


def test_weights_count_as_in_a_weighted_regression():
    (answers, _, predicted), personas = pilot(paired=True)
    weights = np.random.default_rng(3).uniform(0.3, 3, len(answers))
    table = estimate_contrasts(CONTRASTS, (answers, weights, predicted), personas)
    fit = sm.WLS(answers[:, 0], np.ones(len(answers)), weights).fit(cov_type="HC2")
    student = stats.t.isf(0.025, weights.sum() ** 2 / (weights @ weights) - 1)
    half = (table["classical_high"] - table["classical_low"])[0] / 2
    assert_close([table["classical"][0], half], [fit.params[0], student * fit.bse[0]])
    for factor in (10, 5e307):
        more = estimate_contrasts(CONTRASTS, (answers, factor * weights, predicted), personas)
        pd.testing.assert_frame_equal(more, table)


def test_with_predictions_means_are_those_of_ppi_python():
    people, (them, weights) = pilot()
    table = estimate_contrasts(CONTRASTS, people, (them, weights))
    there = ~np.isnan(people[0][:, 1])
    answers, predicted = people[0][there, 1], people[2][there, 1]
    tuning = table["tuning"][1]
    assert 0.1 < tuning < 1
    assert_close(table["estimate"][1], ppi_py.ppi_mean_pointestimate(answers, predicted, them[:, 1], lam=tuning))
    low, high = ppi_py.ppi_mean_ci(answers, predicted, them[:, 1], alpha=2 * stats.norm.sf(1), lam=tuning)
    n, m = len(answers), len(them)  # its variances have divisors n and m, and its tuning costs nothing
    variance = np.var(answers - tuning * predicted, ddof=1) / n, tuning**2 * np.var(them[:, 1], ddof=1) / m
    assert_close(np.ravel(high - low) / 2, np.sqrt(variance[0] * (n - 1) / n + variance[1] * (m - 1) / m))
    paid = variance[0] * (1 + 2 / (n - 1)) + variance[1]
    assert_close(table["effective_people"][1], n * np.var(answers, ddof=1) / n / paid)


def test_the_difference_of_the_same_personas_is_taken_person_by_person():
    people, (them, weights) = pilot()
    alike = np.column_stack([them[:, 0], them[:, 0] + 1])  # everybody's difference is 1: nothing of it is open
    row = estimate_contrasts(CONTRASTS, people, (alike, weights)).iloc[2]
    arms = [[side[~np.isnan(people[0][:, arm]), arm] for side in people[::2]] for arm in (0, 1)]
    total = sum(np.cov(*arm) / len(arm[0]) for arm in arms)
    assert_close(row["tuning"], total[0, 1] / total[1, 1])
    predicted = arms[1][1].mean() - arms[0][1].mean()
    assert_close(row["estimate"], row["classical"] + row["tuning"] * (1 - predicted))


@pytest.mark.parametrize("kind", ["against", "constant", "one persona"])
def test_predictions_that_say_nothing_leave_the_classical_interval(kind):
    (answers, weights, predicted), (them, many) = pilot()
    if kind == "one persona":
        them, many = them[:1], many[:1]
    else:
        predicted = -answers if kind == "against" else np.full_like(predicted, 3.3)
    table = estimate_contrasts(CONTRASTS, (answers, weights, np.nan_to_num(predicted)), (them, many))
    assert [*table["tuning"]] == [0, 0, 0]
    for name in ("low", "high"):
        assert_close(table[name], table[f"classical_{name}"])
    assert_close(table["effective_people"], table["people"])


def test_no_interval_where_nothing_is_known_of_spread():
    (answers, weights, predicted), personas = pilot()
    answers[:, 0], answers[0, 0] = np.nan, 4.1  # one person
    answers[:, 1] = 2.3  # no spread
    table = estimate_contrasts(CONTRASTS, (answers, weights, predicted), personas, width=0.5)
    assert table[["low", "high", "classical_low", "effective_people", "people_with"]].isna().all(axis=None)
    assert_close(table["estimate"], [np.nan, 2.3, np.nan])
    assert [*table["people"]] == [1, 40, 40]
    alone = estimate_contrasts(CONTRASTS[:1], (answers, weights, predicted), personas)
    assert alone[["estimate", "low", "classical_high"]].isna().all(axis=None)


def test_who_gave_no_answer_or_has_no_weight_does_not_count():
    (answers, weights, predicted), personas = pilot()
    more = (
        np.vstack([answers, [[np.nan, np.nan], [7, 1]]]),
        np.append(weights, [1, 0]),
        np.vstack([predicted, predicted[:2]]),
    )
    wanted = estimate_contrasts(CONTRASTS, (answers, weights, predicted), personas)
    pd.testing.assert_frame_equal(estimate_contrasts(CONTRASTS, more, personas), wanted)


@pytest.mark.parametrize("paired", [False, True])
def test_planned_people_are_the_least_that_reach_the_width(paired):
    people, personas = pilot(paired=paired)
    row = estimate_contrasts(CONTRASTS, people, personas, width=1.0).iloc[2]
    n = len(people[0])
    variance = ((row["classical_high"] - row["classical_low"]) / 2) ** 2
    if paired:
        variance /= stats.t.isf(0.025, n - 1) ** 2
        widths = [2 * stats.t.isf(0.025, m - 1) * np.sqrt(variance * n / m) for m in row["people_without"] - [1, 0]]
        assert widths[0] > 1 >= widths[1]
    assert 2 < row["people_with"] < row["people_without"]
    many = tuple(np.repeat(column, 5, axis=0) for column in people)  # the pilot five times over
    again = estimate_contrasts(CONTRASTS, many, personas, width=1.0).iloc[2]
    assert_close(again[["people_without", "people_with"]], row[["people_without", "people_with"]], rtol=0.1)
    wide = again["classical_high"] - again["classical_low"], again["high"] - again["low"]
    reached = estimate_contrasts(CONTRASTS, many, personas, width=wide[1]).iloc[2]
    assert_close([reached["people"], reached["people_with"]], [5 * n, 5 * n], rtol=0.01)
    reached = estimate_contrasts(CONTRASTS, many, personas, width=wide[0]).iloc[2]
    assert_close(reached["people_without"], 5 * n, rtol=0.01)


def test_without_a_pilot_people_are_planned_from_predicted_variances():
    mean, _, difference = plan_contrasts(CONTRASTS, np.array([2.0, 3.0]), 0.5)
    for people, freedom, error in ((mean, 1, lambda m: 2 / m), (difference, 2, lambda m: 2 / (m / 2) + 3 / (m / 2))):
        widths = [2 * stats.t.isf(0.025, m - freedom) * np.sqrt(error(m)) for m in (people - 1, people)]
        assert widths[0] > 0.5 >= widths[1]


@pytest.mark.parametrize(
    "text", ["", "0.2", "width=", "width=0", "width=-1", "width=nan", "width=1e9999", "people=3", "width=" + "9" * 400]
)
def test_a_plan_names_a_width(text):
    assert parse_plan("width=0.25") == 0.25
    with pytest.raises(ValueError, match="must be such as width=0"):
        parse_plan(text)


def test_the_table_for_mixedsubjects_has_an_arm_for_everybody_and_answers_of_people_alone(tmp_path):
    (answers, _, predicted), (them, _) = pilot()
    table = mixed_subjects(answers, predicted, them, seed=1)
    assert [*table] == ["D", "Y", "S0", "S1"]
    people, personas = table[table["Y"].notna()], table[table["Y"].isna()]
    assert_close(people.groupby("D")["Y"].mean(), np.nanmean(answers, axis=0))
    assert (len(people), len(personas), *personas["D"].value_counts()) == (40, 90, 45, 45)
    assert_close(personas[["S0", "S1"]].to_numpy(), them)
    of_one = people[people["D"] == 1]
    there = ~np.isnan(answers[:, 1])
    assert_close(of_one[["Y", "S0", "S1"]].to_numpy(), np.column_stack([answers[there, 1], predicted[there]]))
