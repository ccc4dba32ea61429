"""Treatment effects against SciPy's Welch intervals, sums over single pairs, and simulated models of known quality."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from scipy import linalg, stats

from socrates.data.records import Cell
from socrates.errors import SocratesError
from socrates.evaluation.cells import CellScore
from socrates.evaluation.effect_model import EffectModel, fit_model, prediction_interval
from socrates.evaluation.effects import (
    ALL_PAIRS,
    NUMBERS,
    ComparedQuestion,
    Moments,
    effect_lines,
    find_questions,
    summarize_effects,
)

SCALE = np.arange(1, 8)


def cell(study, condition, task, human, predicted, scale=(1, 7)):
    return CellScore(
        Cell(study, condition, task),
        *(len(human), len(predicted), len(predicted), min(human), max(human), scale),
        *(Counter(human), Counter(predicted)),
    )


def agreement(cells, resamples=50):
    return summarize_effects(find_questions(cells), seed=1, resamples=resamples)


def random_cells(seed, studies=4, most_conditions=6):
    rng = np.random.default_rng(seed)
    return [
        cell(f"s{study}", condition, task, rng.choice(SCALE, rng.integers(2, 9)), rng.integers(-3, 12, 20))
        for study in range(studies)
        for task in range(rng.integers(1, 4))
        for condition in range(rng.integers(2, most_conditions + 1))
    ]


def answers_of(cells):
    """Study -> task -> condition -> (human answers, clipped predictions), standardised by the question's range."""
    studies = {}
    for one in cells:
        human, predicted = (
            np.array(list(counts.elements()), float) for counts in (one.human_answers, one.predicted_answers)
        )
        question = studies.setdefault(one.cell.study_id, {}).setdefault(one.cell.task_num, {})
        question[one.cell.condition_num] = human, predicted
    for questions in studies.values():
        for question in questions.values():
            low = min(human.min() for human, _ in question.values())
            high = max(human.max() for human, _ in question.values())
            for condition, sides in question.items():
                question[condition] = tuple((np.clip(side, low, high) - low) / (high - low) for side in sides)
    return studies


def test_each_pair_has_the_differences_and_intervals_of_scipys_welch_test():
    cells = random_cells(0)
    studies = answers_of(cells)
    lines = list(effect_lines(find_questions(cells)))
    assert len(lines) == sum(len(list(combinations(q, 2))) for task in studies.values() for q in task.values())
    for line in lines:
        a, b = (studies[line["study_id"]][line["task_num"]][line[f"condition_{side}"]] for side in "ab")
        assert line["condition_a"] < line["condition_b"]
        for index, side in enumerate(("human", "predicted")):
            welch = stats.ttest_ind(b[index], a[index], equal_var=False).confidence_interval()
            effect = b[index].mean() - a[index].mean()
            assert line[f"{side}_effect_standardized"] == pytest.approx(effect, abs=1e-9)
            assert line[f"{side}_effect"] == pytest.approx(effect * line["human_range"], abs=1e-8)
            assert line[f"{side}_effect_ci95"] == pytest.approx(np.array(welch) * line["human_range"], abs=1e-7)
        low, high = line["human_effect_ci95"]
        assert line["human_effect_clear"] == (low > 0 or high < 0)


def test_the_summary_is_the_mean_over_pairs_then_questions_then_studies():
    cells = random_cells(1)
    lines = pd.DataFrame(effect_lines(find_questions(cells)))
    human, predicted = lines["human_effect_standardized"], lines["predicted_effect_standardized"]
    clear = lines["human_effect_clear"].astype(bool)

    def mean_of_means(values):
        return values.groupby([lines["study_id"], lines["task_num"]]).mean().groupby("study_id").mean().mean()

    assert (human == 0).any() and (predicted == 0).any()
    agrees = (1 + np.sign(human * predicted)) / 2
    together, spread, other = map(mean_of_means, (human * predicted, human**2, predicted**2))
    result = agreement(cells)
    assert result["correlation"] == pytest.approx(together / np.sqrt(spread * other), abs=1e-7)
    assert result["slope"] == pytest.approx(together / spread, abs=1e-7)
    assert result["sign_agreement"] == pytest.approx(mean_of_means(agrees[human != 0]), abs=1e-8)
    assert result["sign_agreement_clear"] == pytest.approx(mean_of_means(agrees[clear]), abs=1e-8)
    assert (result["pairs"], result["clear_pairs"]) == (len(lines), clear.sum())


def test_the_order_of_cells_and_the_numbering_of_conditions_do_not_matter():
    cells = random_cells(2)
    renumbered = [replace(one, cell=one.cell._replace(condition_num=-one.cell.condition_num)) for one in cells]
    result, other = agreement(cells), agreement(renumbered[::-1])
    assert {name: result[name] for name in NUMBERS} == pytest.approx({name: other[name] for name in NUMBERS})


@pytest.mark.parametrize(("shrunk", "knows"), [(1.0, True), (0.5, True), (1.0, False)])
def test_simulated_models_get_what_they_deserve_in_spite_of_the_noise(shrunk, knows):
    """60 people a condition against true effects of about their mean's standard error; 20 answers of the model."""
    rng = np.random.default_rng(3)

    def draw(shift, size):
        weights = np.exp(-0.5 * ((SCALE - 4 - shift) / 1.5) ** 2)
        return rng.choice(SCALE, size, p=weights / weights.sum())

    cells = []
    for study in range(30):
        for task in range(30):
            for condition in range(4):
                shift = rng.normal(0, 0.25)
                model = shift * shrunk if knows else rng.normal(0, 0.25)
                cells.append(cell(f"s{study:02}", condition, task, draw(shift, 60), draw(model, 20)))
    result = agreement(cells, resamples=300)
    best = result["correlation_empirical_best"]
    assert 0.4 < best < result["correlation_ceiling"] < 0.85
    assert result["slope_corrected"] == pytest.approx(shrunk if knows else 0.0, abs=0.1)
    assert result["slope_corrected_ci95"][0] <= result["slope_corrected"] <= result["slope_corrected_ci95"][1]
    if knows and shrunk == 1.0:
        assert result["correlation"] == pytest.approx(best, abs=0.04)
        assert result["sign_agreement_clear"] > result["sign_agreement"] + 0.1
    elif not knows:
        assert result["correlation"] == pytest.approx(0, abs=0.05)
        assert result["sign_agreement"] == pytest.approx(0.5, abs=0.03)
        assert result["correlation_ci95"][0] < 0 < result["correlation_ci95"][1]


def test_without_treatment_effects_there_is_no_ceiling_and_no_corrected_slope():
    rng = np.random.default_rng(17)  # its variance of means is just above what noise explains: ceiling 0.04, slope -126
    cells = [
        cell(f"s{study}", condition, task, rng.choice(SCALE, 40), rng.choice(SCALE, 40))
        for study in range(10)
        for task in range(3)
        for condition in range(3)
    ]
    result = agreement(cells, resamples=200)
    assert result["correlation"] is not None and result["slope_ci95"] is not None
    for name in ("correlation_ceiling", "correlation_empirical_best", "slope_corrected"):
        assert result[name] is None


def test_a_model_that_always_says_the_same_agrees_with_half_of_the_signs_and_correlates_with_nothing():
    result = agreement([cell("s", 1, 1, [1, 2, 3], [4, 4]), cell("s", 2, 1, [5, 6, 7], [4, 4])])
    assert (result["sign_agreement"], result["correlation"], result["slope"]) == (0.5, None, 0)
    (line,) = effect_lines(find_questions([cell("s", 1, 1, [1, 2], [4, 4]), cell("s", 2, 1, [5, 7], [4, 4])]))
    assert (line["predicted_effect"], line["predicted_effect_ci95"]) == (0, None)
    assert line["human_effect_clear"] is False  # four people


def test_predictions_far_outside_count_as_the_end_of_the_questions_range_over_all_conditions():
    cells = [cell("s", 1, 1, [1, 2], [1001, 1002]), cell("s", 2, 1, [2, 3], [-50, 2]), cell("s", 3, 1, [11], [5])]
    (line,) = effect_lines(find_questions(cells))
    assert (line["human_range"], line["predicted_effect"]) == (10, -9.5)  # condition 3 gives the range and no effect


def test_rounding_is_neither_an_effect_nor_a_spread():
    """In sevenths, the mean of 1, 2, 6 is not the float that the mean of three 3 is; nor is that of eleven 4."""
    cells = [
        cell("s", 1, 1, [1, 2, 6], [4] * 11),
        cell("s", 2, 1, [3, 3, 3], [6] * 23),
        cell("s", 3, 1, [1, 8], [1, 8]),
    ]
    line = next(effect_lines(find_questions(cells)))
    assert (line["human_effect"], line["predicted_effect_ci95"]) == (0, None)


def test_what_cannot_be_compared_is_left_out():
    cells = [
        cell("a", 1, 1, [1, 2], [1, 2]),
        cell("a", 2, 1, [1, 2], [1]),  # too few predictions, so that condition 1 is alone
        cell("a", 1, 2, [1, 5], [1, 2]),
        cell("a", 2, 2, [1, 100], [1, 2], scale=(0, 100)),  # the same task number with another scale
        cell("b", 1, "q-x", [4, 4], [1, 2]),
        cell("b", 2, "q-x", [4, 4], [1, 2]),
        cell("b", 1, 3, [1, 5], [1, 2], scale=None),
        cell("b", 2, 3, [1, 5], [1, 2], scale=None),
        cell("b", 3, 3, [1, 5], []),
    ]
    questions = find_questions(cells)
    assert [(question.study_id, question.task_num, question.conditions) for question in questions] == [("b", 3, (1, 2))]
    alike = [cell("s", 1, 1, [1, 1], [4, 5]), cell("s", 2, 1, [2, 2], [4, 5])]
    (line,) = effect_lines(find_questions(alike))
    assert (line["human_effect"], line["human_effect_ci95"], line["human_effect_clear"]) == (1, None, False)
    nothing = summarize_effects([], seed=1)
    assert nothing["pairs"] == 0 and all(nothing[name] is None for name in (*NUMBERS, "p_value", "prediction"))


def test_many_conditions_have_lines_against_the_lowest_numbered_one_and_all_their_pairs_in_the_summary():
    rng = np.random.default_rng(5)
    cells = [cell("s", condition, 1, rng.choice(SCALE, 5), rng.choice(SCALE, 5)) for condition in range(3, 99)]
    questions = find_questions(cells)
    lines = list(effect_lines(questions))
    assert [(line["condition_a"], line["condition_b"]) for line in lines] == [(3, other) for other in range(4, 99)]
    assert agreement(cells)["pairs"] == 4560
    assert len(list(effect_lines(find_questions(cells[:ALL_PAIRS])))) == ALL_PAIRS * (ALL_PAIRS - 1) // 2


def test_halves_of_the_people_agree_as_often_as_random_halves_do():
    rng = np.random.default_rng(6)
    a, b = rng.choice(100, 40), 6 + rng.choice(100, 60)
    result = agreement([cell("s", 1, 1, a, [1, 2]), cell("s", 2, 1, b, [1, 2])])
    sides = [rng.permuted(np.tile(side, (20_000, 1)), axis=1) for side in (a, b)]
    halves = np.array([[half.mean(axis=1) for half in np.split(side, 2, axis=1)] for side in sides])
    first, second = halves[1] - halves[0]
    assert result["sign_agreement_halves"] == pytest.approx(np.mean(first * second > 0), abs=0.02)
    assert result["sign_agreement_clear_halves"] is None


def test_recorded_probabilities_count_instead_of_drawn_answers():
    drawn = [cell("s", 1, 1, [1, 2, 3], [5, 5]), cell("s", 2, 1, [5, 6, 7], [4, 4])]
    known = [replace(one, predicted_distribution={3: 1 - p, 9: p}) for one, p in zip(drawn, (0.2, 0.3), strict=True)]
    (question,) = find_questions(known)
    assert question.expected == pytest.approx([0.8 / 3 + 0.2, 0.7 / 3 + 0.3])
    assert (agreement(drawn)["sign_agreement"], agreement(known)["sign_agreement"]) == (0, 1)
    assert next(effect_lines([question]))["expected_effect_standardized"] == pytest.approx(0.2 / 3)


def test_the_p_value_counts_the_signs_of_whole_studies():
    cells = random_cells(7, studies=8)
    studies: dict[str, list[float]] = {}
    for one in find_questions(cells):
        studies.setdefault(one.study_id, []).append(np.cov(one.human.mean, one.predicted.mean)[0, 1])
    means = np.array([np.mean(covariances) for covariances in studies.values()])
    turned = [signs @ means for signs in np.array(list(product((1, -1), repeat=len(means))))]
    assert agreement(cells, resamples=500)["p_value"] == pytest.approx(np.mean(turned >= means.sum() - 1e-12))
    assert agreement(random_cells(7, studies=5))["p_value"] is None


def made_questions(studies, spread=0.4, seed=8):
    """Slopes around 0.5; residuals of 0.04 between two conditions; two questions, the second of two conditions."""
    rng = np.random.default_rng(seed)
    for study in range(studies):
        slope = rng.normal(0.5, spread)
        for task, k in enumerate((3 + study % 3, 2)):
            x, n = rng.normal(0.5, 0.1, k), rng.integers(40, 400, k).astype(float)
            mean = 0.2 + slope * x + rng.normal(0, 0.04 / np.sqrt(2), k) + rng.normal(0, 0.3 / np.sqrt(n))
            human = Moments(n, mean, np.full(k, 0.09))
            yield ComparedQuestion(f"s{study:02}", task, 1.0, tuple(range(k)), human, human, x)


def dense(questions, slope_sd, residual_sd):
    """-2 log restricted likelihood, slope, standard error: from whole matrices of contrasts within questions."""
    contrasts = linalg.block_diag(*(linalg.null_space(np.ones((1, len(one.conditions)))).T for one in questions))
    x, y, noise = (
        np.concatenate(side)
        for side in zip(*((q.expected, q.human.mean, q.human.variance / q.human.n) for q in questions), strict=True)
    )
    study = np.concatenate([[one.study_id] * len(one.conditions) for one in questions])
    same = study[:, None] == study
    covariance = np.diag(residual_sd**2 / 2 + noise) + slope_sd**2 * np.outer(x, x) * same
    x, y, covariance = contrasts @ x, contrasts @ y, contrasts @ covariance @ contrasts.T
    inverse = np.linalg.inv(covariance)
    precision = x @ inverse @ x
    slope = x @ inverse @ y / precision
    residual = y - slope * x
    return np.linalg.slogdet(covariance)[1] + np.log(precision) + residual @ inverse @ residual, slope, precision**-0.5


def test_the_model_has_the_greatest_restricted_likelihood():
    questions = list(made_questions(12))
    model = fit_model(questions)
    least, slope, error = dense(questions, model.slope_sd, model.residual_sd)
    assert (model.slope, model.slope_standard_error) == pytest.approx((slope, error), rel=1e-6)
    for factors in product((0.8, 0.98, 1.02, 1.25), repeat=2):
        assert dense(questions, model.slope_sd * factors[0], model.residual_sd * factors[1])[0] > least


def test_a_known_model_is_found_and_tells_of_a_new_experiment():
    model = fit_model(list(made_questions(400)))
    assert (model.slope, model.slope_sd, model.residual_sd) == pytest.approx((0.5, 0.4, 0.04), rel=0.1)
    assert model.slope_ci95[0] < 0.5 < model.slope_ci95[1]
    known = EffectModel(
        slope=0.5, slope_ci95=[0, 1], slope_standard_error=0.0, slope_sd=0.4, residual_sd=0.04, studies=10**6
    )
    effects = np.array([0.0, 0.1, -0.2])
    low, high = prediction_interval(effects, 0.0, known)
    assert low == pytest.approx(0.5 * effects - 1.6449 * np.hypot(0.4 * effects, 0.04), abs=1e-5)
    assert low + high == pytest.approx(effects)
    assert prediction_interval(0.1, 0.05, known)[1] > high[1]
    with pytest.raises(SocratesError, match="level between 0 and 1"):
        prediction_interval(0.1, 0.0, known, level=90)


@pytest.mark.parametrize(
    ("questions", "reason"),
    [
        (list(made_questions(5)), "in 5 studies, and 6 are needed"),
        ([replace(one, expected=one.expected * 0 + 0.3) for one in made_questions(9)], "in no studies"),
        ([replace(one, expected=one.expected * 1e-9) for one in made_questions(9)], "differ too little"),
        ([one for one in made_questions(9) if one.task_num == 1], "one comparison alone"),
    ],
)
def test_what_cannot_be_told_of_new_experiments_says_why(questions, reason):
    result = summarize_effects(questions, seed=1, resamples=50)
    assert result["prediction"] is None and reason in result["no_prediction"]
