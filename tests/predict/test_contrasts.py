"""Effects of factors, paired differences, codes and indices, against statsmodels on the same arrays."""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import wls
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from socrates.data.scales import Scale
from socrates.evaluation.effect_model import EffectModel, prediction_interval
from socrates.predict.contrasts import find_contrasts
from socrates.predict.estimates import (
    estimate_differences,
    estimate_distributions,
    estimate_means,
    expect_differences,
    index_of,
    moments_of,
)

FACTORS = {"frame": ("gain", "loss"), "dose": ("low", "mid", "high"), "source": ("expert", "friend")}


def rated(low, high):
    return SimpleNamespace(answers=Scale(tuple(range(low, high + 1))), nominal=False, labels={})


def nominal(*values):
    return SimpleNamespace(answers=Scale(values), nominal=True, labels={value: f"<{value}>" for value in values})


def crossed(factors=FACTORS, seed=0):
    """Every crossing as a condition, in a random order: their names and levels."""
    levels = [dict(zip(factors, one, strict=True)) for one in itertools.product(*factors.values())]
    levels = [levels[place] for place in np.random.default_rng(seed).permutation(len(levels))]
    return [", ".join(one.values()) for one in levels], levels


def random_answers(*shape, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), size=shape[:-1])


def point_masses(answers, values):
    """Probabilities of personas who each give one answer for certain."""
    return (np.asarray(answers)[..., None] == np.asarray(values)).astype(float)


@pytest.mark.parametrize("question", [rated(1, 7), nominal(1, 2)], ids=["means", "shares"])
def test_main_effects_and_interactions_are_those_of_a_linear_model(question):
    conditions, levels = crossed()
    answers = question.answers.values
    table, weights = random_answers(12, 40, len(answers)), np.random.default_rng(1).uniform(0, 2, 40)
    scores = table[..., 0] if question.nominal else table @ np.array(answers, float)
    rows = [
        {"y": scores[place, person], "w": weights[person], **levels[place]}
        for place in range(12)
        for person in range(40)
    ]
    data = pd.DataFrame(rows)
    found = estimate_differences(
        moments_of(question, table), find_contrasts(conditions, FACTORS, levels), np.arange(12), weights, 0
    )
    effects = found[found["effect"] != ""]
    assert effects["effect"].value_counts().to_dict() == {
        **{"frame": 1, "dose": 3, "source": 1, "frame × dose": 2, "frame × source": 1, "dose × source": 2},
        "frame × dose × source": 2,
    }
    for _, row in effects.iterrows():
        compared = row["effect"].split(" × ")
        # Levels against the first one where they are compared, sum-to-zero where they are averaged over.
        parts = [part.split(": ") for part in row["name"].split(", by ")]
        against = {factor: change.split(" − ") for factor, change in parts}
        coded = [
            f'C({factor}, Treatment("{against[factor][1]}"))' if factor in compared else f"C({factor}, Sum)"
            for factor in FACTORS
        ]
        terms = [
            f"{one}[T.{against[factor][0]}]" for one, factor in zip(coded, FACTORS, strict=True) if factor in compared
        ]
        model = wls(f"y ~ {' * '.join(coded)}", data, weights=data["w"]).fit()
        assert row["difference"] == pytest.approx(model.params[":".join(terms)], abs=1e-10)
        assert row["b"] - row["a"] == pytest.approx(row["difference"], abs=1e-10)


def test_differences_within_people_are_paired():
    rng = np.random.default_rng(2)
    first = rng.integers(1, 6, 80)
    answers, weights = np.stack([first, first + rng.integers(0, 3, 80)]), np.ones(80)
    moments, contrasts = (
        moments_of(rated(1, 7), point_masses(answers, range(1, 8))),
        find_contrasts(["a", "b"], {}, [{}, {}]),
    )
    paired, apart = (
        estimate_differences(moments, contrasts, np.array(people), weights, 0).iloc[0] for people in ([0, 0], [0, 1])
    )
    a, b = (DescrStatsW(side) for side in answers)
    change = DescrStatsW(answers[1] - answers[0])
    assert paired["difference"] == apart["difference"] == pytest.approx(change.mean, abs=1e-10)
    ddof = np.sqrt(79 / 80)
    assert paired["by_chance"] == pytest.approx(1.959963984540054 * change.std_mean * ddof, abs=1e-10)
    standard_error = CompareMeans(b, a).std_meandiff_separatevar
    assert apart["by_chance"] == pytest.approx(1.959963984540054 * standard_error * ddof, abs=1e-10)
    assert paired["by_chance"] < apart["by_chance"]


def test_a_mixed_design_pairs_only_what_the_same_people_see():
    conditions, levels = crossed({"group": ("x", "y"), "time": ("1", "2")})
    rng = np.random.default_rng(3)
    person = rng.integers(1, 5, (2, 60))  # other people in each group
    groups = np.array([one["group"] == "y" for one in levels]).astype(int)
    answers = person[groups] + rng.integers(0, 2, (4, 60))
    answers += np.array([one["time"] == "2" for one in levels])[:, None]
    moments = moments_of(rated(1, 7), point_masses(answers, range(1, 8)))
    contrasts = find_contrasts(conditions, {"group": ("x", "y"), "time": ("1", "2")}, levels)
    found = estimate_differences(moments, contrasts, groups, np.ones(60), 0).set_index("name")["by_chance"]
    at = {(one["group"], one["time"]): answers[place] for place, one in enumerate(levels)}

    def half(*parts):
        return 1.959963984540054 * np.sqrt(sum(part.var() for part in parts) / 60)

    changes = [at[group, "2"] - at[group, "1"] for group in "xy"]
    means = [(at[group, "2"] + at[group, "1"]) / 2 for group in "xy"]
    assert found["time: 2 − 1"] == pytest.approx(half(*changes) / 2, abs=1e-10)
    assert found["group: y − x"] == pytest.approx(half(*means), abs=1e-10)
    assert found["group: y − x, by time: 2 − 1"] == pytest.approx(half(*changes), abs=1e-10)


def test_codes_are_no_answers():
    """Mean and difference are of those who answer, as in a survey: a persona counts by how likely it answers."""
    table = random_answers(2, 30, 4)  # the last one is a code
    weights, values = np.random.default_rng(4).uniform(0, 2, 30), np.arange(1, 4)
    moments = moments_of(rated(1, 3), table[..., :3])
    means = estimate_means(moments, ["a", "b"], weights, 0)
    shares = estimate_distributions(dict.fromkeys(values), ["a", "b"], table[..., :3], weights, 0, of_all=False)
    codes = estimate_distributions({99: "don't know"}, ["a", "b"], table[..., 3:], weights, 0, of_all=True)
    for place, condition in enumerate("ab"):
        whole = weights @ table[place] / weights.sum()
        expected = whole[:3] / whole[:3].sum()
        assert np.allclose(shares[shares["condition"] == condition]["probability"], expected, atol=1e-12)
        row = means.iloc[place]
        assert row["mean"] == pytest.approx(expected @ values) and row["low"] < row["mean"] < row["high"]
        assert row["sd"] == pytest.approx(np.sqrt(expected @ values**2 - (expected @ values) ** 2))
        assert codes.iloc[place]["probability"] == pytest.approx(whole[3])
    found = estimate_differences(moments, find_contrasts(["a", "b"], {}, [{}, {}]), np.arange(2), weights, 0)
    assert found["difference"][0] == pytest.approx(means["mean"][1] - means["mean"][0])


def test_a_resample_of_people_without_weight_has_no_difference():
    table = point_masses([[1, 2, 3], [3, 4, 1]], range(1, 8))  # every difference of those who count is 2
    found = estimate_differences(
        moments_of(rated(1, 7), table), find_contrasts(["a", "b"], {}, [{}, {}]), np.arange(2), np.array([1.0, 1, 0]), 0
    )
    assert found["difference"][0] == found["low"][0] == found["high"][0] == 2


def test_an_index_is_the_mean_of_its_items_and_has_no_spread():
    items = [random_answers(2, 30, 7, seed=seed) for seed in range(3)]
    weights, values = np.ones(30), np.arange(1, 8)
    index = index_of([moments_of(rated(1, 7), item) for item in items], [False, True, False])
    means = estimate_means(index, ["a", "b"], weights, 0)
    by_hand = [(item @ values).mean(axis=1) for item in items]
    assert np.allclose(means["mean"], (by_hand[0] + (8 - by_hand[1]) + by_hand[2]) / 3)
    assert means[["sd", "sd_low", "sd_high"]].isna().all(axis=None) and means[["low", "high"]].notna().all(axis=None)
    found = estimate_differences(index, find_contrasts(["a", "b"], {}, [{}, {}]), np.arange(2), weights, 0)
    assert found["difference"][0] == pytest.approx(means["mean"][1] - means["mean"][0])
    assert found[["by_chance", "standardized"]].isna().all(axis=None)


def test_an_effect_over_several_conditions_gets_the_interval_of_their_sum():
    """What no slope explains is a condition's own, so an effect averages it out as its weights say."""
    conditions, levels = crossed({"f": ("1", "2"), "g": ("1", "2")})
    numbers = dict.fromkeys(("slope_standard_error", "slope_sd", "residual_sd"), 0.1)
    model = EffectModel(slope=0.8, slope_ci95=[0.6, 1.0], studies=20, **numbers)
    table = point_masses(np.tile([[1], [3], [4], [4]], (1, 50)), range(1, 8))  # personas do not differ
    contrasts = find_contrasts(conditions, {"f": ("1", "2"), "g": ("1", "2")}, levels)
    found = expect_differences(moments_of(rated(1, 7), table), contrasts, np.ones(50), model)
    for (judged, expected, low, high), weights in zip(found, contrasts.weights, strict=True):
        assert expected == pytest.approx(0.8 * judged)
        other = model.model_copy(update={"residual_sd": 0.1 * np.sqrt((weights**2).sum() / 2)})
        assert np.allclose([low, high], np.multiply(6, prediction_interval(judged / 6, 0.0, other)))


def test_without_every_crossing_pairs_alone_are_compared():
    conditions, levels = crossed({"f": ("1", "2"), "g": ("1", "2")})
    assert set(find_contrasts(conditions[:3], {"f": ("1", "2"), "g": ("1", "2")}, levels[:3]).names["effect"]) == {""}
    assert not len(find_contrasts(["alone"], {}, [{}]).names)
