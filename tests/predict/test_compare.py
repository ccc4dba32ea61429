"""Predictions of several models side by side: the same experiment only, distances as scipy computes them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wasserstein_distance

from socrates.errors import SocratesError
from socrates.predict.compare import compare, draw_compared, read_compared
from socrates.report.plot import styled

ASKED = {"prompts": "p" * 64, "model": "m"}
PEOPLE = {"source": "people.csv", "personas": 40, "profiles": 30, "seed": 42}
SCALES = {"support": [0, 5, 50, 100], "bus": [1, 2, 8]}
CONDITIONS = ["control", "late"]


def predicted(seed):
    """A record as predict.json has it, with more keys than are read: a rated question and one of options."""
    rng = np.random.default_rng(seed)
    record = {"asked": ASKED | {"model": f"m{seed}"}, "people": PEOPLE | {"source": "/else/where.csv"}, "seconds": 1.5}
    record |= {"means": [], "distributions": [], "differences": []}
    for question, answers in SCALES.items():
        shares = rng.dirichlet(np.ones(len(answers)), 2)
        means = shares @ answers
        for condition, own, mean in zip(CONDITIONS, shares, means, strict=True):
            cell = {"question": question, "condition": condition}
            numbers = {"mean": mean, "low": mean - 1, "high": mean + 1} if question == "support" else {"mean": None}
            record["means"].append(cell | numbers | {"sd": None})
            record["distributions"] += [
                cell | {"answer": answer, "label": None, "probability": p, "low": 0.0, "high": 1.0}
                for answer, p in zip(answers, own, strict=True)
            ]
        difference = means[1] - means[0] if question == "support" else shares[1, 0] - shares[0, 0]
        pair = {"question": question, "name": "late − control", "effect": "", "by_chance": 0.1}
        record["differences"].append(pair | {"difference": difference, "low": None, "high": None})
    return record


def write(folder, record):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "predict.json").write_text(record if isinstance(record, str) else json.dumps(record))
    return folder


def read(*folders, asked=ASKED, people=PEOPLE):
    return read_compared(folders, Path("of this one"), asked, people)


@pytest.fixture
def three(tmp_path):
    return read(*(write(tmp_path / name, predicted(seed)) for seed, name in enumerate(("base", "half", "trained"))))


def test_numbers_stand_beside_one_another_with_the_distance_to_the_last_model(three):
    tables, told = compare(three, {"bus"})
    records = {name: predicted(seed) for seed, name in enumerate(three)}
    for row in tables["means"].to_dict("records"):
        cell = {"question": row["question"], "condition": row["condition"]}
        mine, last = (
            [one["probability"] for one in records[name]["distributions"] if cell.items() <= one.items()]
            for name in (row["model"], "trained")
        )
        answers = SCALES[row["question"]]
        expected = wasserstein_distance(answers, answers, mine, last) / 100
        if row["question"] == "bus":
            expected = np.abs(np.subtract(mine, last)).sum() / 2
        assert row["distance"] == pytest.approx(expected, abs=1e-12)
        (found,) = (one for one in records[row["model"]]["means"] if cell.items() <= one.items())
        wanted = [np.nan if found.get(name) is None else found[name] for name in ("mean", "low", "high")]
        assert np.array_equal([row["mean"], row["low"], row["high"]], wanted, equal_nan=True)
    assert len(tables["means"]) == 3 * 4 and len(tables["differences"]) == 3 * 2
    assert [row["model"] for row in tables["differences"].to_dict("records")][::2] == ["base", "half", "trained"]
    for name, sentence in zip(("base", "half"), told, strict=True):
        apart = tables["means"].query("model == @name")["distance"].mean()
        own, last = ([row["difference"] for row in records[one]["differences"]] for one in (name, "trained"))
        turned = sum(x * y < 0 for x, y in zip(own, last, strict=True))
        assert f"From {name} to trained, answers moved by {apart:.2f}" in sentence
        assert f"of 2 differences, {turned} changed direction" in sentence


def test_the_order_of_rows_decides_nothing_and_a_model_is_no_distance_from_itself(tmp_path):
    record = predicted(0)
    mixed = record | {part: record[part][::-1] for part in ("means", "distributions", "differences")}
    tables, told = compare(read(write(tmp_path / "a", mixed), write(tmp_path / "b", record)), {"bus"})
    assert not tables["means"]["distance"].any() and "moved by 0.00" in told[0] and ", 0 changed" in told[0]


def test_one_condition_has_no_differences(tmp_path):
    models = {}
    for seed, name in enumerate("ab"):
        record = predicted(seed) | {"differences": []}
        for part in ("means", "distributions"):
            record[part] = [row for row in record[part] if row["condition"] == "late"]
        models |= read(write(tmp_path / name, record))
    tables, told = compare(models, {"bus"})
    assert len(tables["means"]) == 4 and tables["differences"].empty and told[0].endswith(", 0 changed direction.")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda r: json.dumps(r)[:-2], r"predict\.json: line 1, column \d+: not JSON"),
        (lambda r: r | {"asked": None}, r'predict\.json, "asked": not as scripts/predict\.py writes it'),
        (lambda r: {k: v for k, v in r.items() if k != "means"}, r'predict\.json, "means": not as .*: .means.'),
        (lambda r: r | {"distributions": "none"}, r'predict\.json, "distributions": not as'),
        (lambda r: r | {"means": [{**row, "mean": "much"} for row in r["means"]]}, r'"means": not as .*much'),
        (lambda r: r | {"means": [{**r["means"][0], "condition": None}]}, r'"means": not as .*: lacks condition'),
        (
            lambda r: r | {"differences": [{"difference": 1.0}]},
            r'"differences": not as .*: lacks name, question',
        ),
        (lambda r: r | {"asked": {"prompts": "q"}}, r'other texts or people: prompts \("q", now "p+…?'),
        (lambda r: r | {"people": PEOPLE | {"seed": 1}}, r"other texts or people: seed \(1, now 42\); predict this"),
    ],
)
def test_what_is_no_prediction_of_this_experiment_is_refused(tmp_path, spoil, told):
    with pytest.raises(SocratesError, match=rf"other.*{told}"):
        read(write(tmp_path / "other", spoil(predicted(0))))


def test_folders_that_are_missing_or_of_one_name_are_refused(tmp_path, three):
    with pytest.raises(SocratesError, match=r"nothing/predict\.json: no such prediction"):
        read(tmp_path / "nothing")
    with pytest.raises(SocratesError, match="another folder is called base, too"):
        read(tmp_path / "base", write(tmp_path / "x" / "base", predicted(1)))
    renamed = json.loads(json.dumps(predicted(1)).replace("late", "delayed"))
    with pytest.raises(
        SocratesError, match=r'has no question "support" in a condition "(late|delayed)"; make it again'
    ):
        compare(three | read(write(tmp_path / "renamed", renamed)), {"bus"})


def test_the_picture_has_a_point_for_each_model_under_each_difference(three):
    tables, _ = compare(three, {"bus"})
    differences = tables["differences"]
    with styled():
        plot = draw_compared("support", differences[differences["question"] == "support"], "compared-1", "scale points")
    support = [row["difference"] for row in differences.to_dict("records") if row["question"] == "support"]
    assert "; ".join(f"{n} {d:.2f}" for n, d in zip(three, support, strict=True)) in plot.alt and plot.png
    assert pd.isna(differences["low"]).all()  # one persona has no interval
