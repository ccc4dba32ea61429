"""scripts/predict.py on designs as social scientists have them: factors, several screens, codes, indices, a pilot."""

import csv
import html
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from comparing import json_lines
from processes import ROOT, run_loaded
from tiny import save_model, survey_model

from socrates.errors import SocratesError
from socrates.predict import predict as predicting
from socrates.predict.tables import write_prediction

SCALE = {"low": 1, "high": 5, "labels": {"5": "fully"}, "codes": {"99": "don't know"}}
EXPERIMENT = {
    "title": "A bridge",
    "factors": {
        "frame": {"gain": "saves an hour", "loss": "costs an hour less"},
        "source": {"expert": "An engineer", "friend": "A friend"},
    },
    "template": {
        "text": "{source} says: it {frame}.",
        "before": ["Welcome.", {"question": "How old?", "answer": "{age}"}],
    },
    "within": ["frame"],
    "questions": {
        "honest": {"text": "How honest is that?", "scale": SCALE},
        "biased": {"text": "How biased is that?", "scale": SCALE},
        "pay": {"text": "How much would you pay?", "scale": {"low": 0, "high": 2, "step": 0.5}},
        "agree": {"text": "Do you agree?", "scale": {"low": 0, "high": 1, "labels": {"1": "yes"}}},
    },
    "indices": {"trust": {"items": ["honest", "biased"], "reversed": ["biased"], "together": True}},
    "population": {
        "personas": [
            {"age": age, "sex": sex, "weight": weight}
            for age, sex, weight in ((30, "Female", 1), (41, "Male", 2), (52, "Female", 1), (63, "Male", 0.5))
        ]
    },
}
CONDITIONS = ["gain, expert", "gain, friend", "loss, expert", "loss, friend"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_model(*survey_model(), tmp_path_factory.mktemp("model")))


def predict(model, folder, name="out", experiment=EXPERIMENT, **options):
    path = folder / "experiment.json"
    path.write_text(json.dumps(experiment))
    write_prediction(folder / name, predicting.predict(model, path, folder / name, processes=1, **options))
    return json.loads((folder / name / "predict.json").read_text())


def page_of(folder):
    return html.unescape(" ".join((folder / "predict.html").read_text().split()))


def pilot_file(folder, people=40, **columns):
    """Answers of people who do not exist; by default each in one condition."""
    rng = np.random.default_rng(4)
    table = pd.DataFrame({"condition": [CONDITIONS[place % 4] for place in range(people)]})
    table["age"], table["gender"] = rng.integers(20, 70, people), rng.choice(["Female", "Male"], people)
    for question, answers in (
        ("honest", range(1, 6)),
        ("biased", [1, 2, 3, 99]),
        ("pay", [0, 0.5, 2]),
        ("agree", [0, 1]),
    ):
        table[question] = rng.choice(list(answers), people)
    path = folder / "pilot.csv"
    table.assign(**columns).to_csv(path, index=False, sep=";")
    return path


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("designs")
    return folder, predict(model, folder, humans=pilot_file(folder), width=0.5)


def test_every_part_of_a_design_reaches_tables_and_page(made):
    folder, record = made
    out = folder / "out"
    answers = json_lines(out / "answers.jsonl")
    differences, means = pd.DataFrame(record["differences"]), pd.DataFrame(record["means"])
    assert set(differences["effect"]) == {"", "frame", "source", "frame × source"}
    assert list(dict.fromkeys(means["question"])) == ["honest", "biased", "pay", "agree", "trust"]

    # By hand, from the kept answers: codes are left out of means, and shares of them are of everybody.
    mine = [one for one in answers if (one["condition"], one["question"]) == ("loss, friend", "honest")]
    weights = {"30": 1, "41": 2, "52": 1, "63": 0.5}
    by_age = {  # of the personas; the pilot's people stand below
        one["demographic"]["age"]: {value: p / sum(one["decoded"].values()) for value, p in one["decoded"].items()}
        for one in mine[:4]
    }
    total = {value: sum(weights[age] * one.get(value, 0) for age, one in by_age.items()) for value in "12345"}
    mean = sum(int(value) * share for value, share in total.items()) / sum(total.values())
    (row,) = means[(means["condition"] == "loss, friend") & (means["question"] == "honest")].to_dict("records")
    assert row["mean"] == pytest.approx(mean)
    codes = pd.read_csv(out / "codes.csv")
    share = sum(weights[age] * one.get("99", 0) for age, one in by_age.items()) / 4.5
    found = codes[(codes["condition"] == "loss, friend") & (codes["question"] == "honest")]
    assert found["label"].tolist() == ["don't know"] and found["probability"].tolist() == pytest.approx([share])

    by = means.set_index(["question", "condition"])["mean"]
    assert np.allclose(by["trust"], (by["honest"] + 6 - by["biased"]) / 2, atol=0.2)  # but for who gives codes
    people = pd.read_csv(out / "predictions.csv")
    assert set(people[people["question"] == "pay"]["answer"]) <= {0, 0.5, 1, 1.5, 2}
    drawn = people.pivot(index=["persona", "condition"], columns="question", values="answer")
    assert np.allclose(drawn["trust"], (drawn["honest"] + 6 - drawn["biased"]) / 2)

    page = page_of(out)
    for told in (
        "frame: loss − gain, by source: friend − expert",
        "The mean of honest, biased (reversed).",
        "Share of everybody who gives no answer on the scale",
        "The same people see every level of frame.",
        "<th scope=row class=word>assistant</th>",
        "What a few humans add",
        "With fewer than 50 people in a condition",
        "People in all conditions for a 95% interval 0.5 wide",
    ):
        assert told in page, told
    assert "Pairs of conditions" in page and "distributions-5" not in page
    assert not (out / "predict-distributions-5.png").exists() and (out / "predict-differences-5.png").exists()


def test_a_pilot_and_predictions_stand_in_one_table_and_one_for_r(made):
    folder, _ = made
    found = pd.read_csv(folder / "out" / "pilot.csv")
    answers = pd.read_csv(folder / "pilot.csv", sep=";").replace({"honest": {99: np.nan}, "biased": {99: np.nan}})
    alone = found.set_index(["question", "name"])["classical"]
    of_condition = answers.groupby("condition")
    for name in CONDITIONS:
        for question in ("honest", "biased", "pay", "agree"):
            assert alone[question, name] == pytest.approx(of_condition[question].mean()[name])
        items = answers[answers["condition"] == name]
        index = pd.concat([items["honest"], 6 - items["biased"]], axis=1).mean(axis=1)
        assert alone["trust", name] == pytest.approx(index.mean())
    means = of_condition["pay"].mean()
    frame = (means[CONDITIONS[2:]].mean() - means[CONDITIONS[:2]].mean()).round(12)
    assert alone["pay", "frame: loss − gain"] == pytest.approx(frame)
    assert (found["people_with"] <= found["people_without"]).all() and (found["people"] <= 40).all()
    mixed = pd.read_csv(folder / "out" / "mixed_subjects.csv")
    one = mixed[(mixed["question"] == "pay") & (mixed["name"] == "loss, friend − gain, expert")]
    assert one["Y"].notna().sum() == 20 and len(one) == 24 and set(one["D"]) == {0, 1}
    treated = one[(one["D"] == 1) & one["Y"].notna()]
    assert treated["Y"].mean() == pytest.approx(means["loss, friend"])


def test_a_condition_of_codes_alone_is_named(model, tmp_path, monkeypatch):
    kept = predicting.kept_answer

    def silent(key, result):
        return kept(key, result) | {"undecoded": {"99": 1.0}, "decoded": {"99": 1.0}}

    monkeypatch.setattr(predicting, "kept_answer", silent)
    with pytest.raises(
        SocratesError, match='"honest" in the condition "gain, expert" the model gives no answer but codes'
    ):
        predict(model, tmp_path)


def test_a_plan_without_a_pilot_goes_by_the_predicted_spread(model, made, tmp_path):
    record = predict(model, tmp_path, width=0.5)
    found = pd.read_csv(tmp_path / "out" / "pilot.csv")
    assert "people_with" not in found and "estimate" not in found
    (row,) = found[(found["question"] == "pay") & (found["name"] == CONDITIONS[0])].to_dict("records")
    sd = next(row["sd"] for row in record["means"] if row["question"] == "pay")
    assert row["people_without"] == pytest.approx((2 * 1.96 * sd / 0.5) ** 2, rel=0.1)
    assert found[found["question"] == "trust"]["people_without"].isna().all()  # its spread is not predicted
    assert "if answers are as spread out as predicted" in page_of(tmp_path / "out")
    assert not (tmp_path / "out" / "mixed_subjects.csv").exists()


def test_two_models_stand_on_one_page(model, made, tmp_path):
    _, record = made
    other = str(save_model(*survey_model(seed=9), tmp_path / "other"))
    predict(other, tmp_path, "other model")
    found = predict(model, tmp_path, "own", compared=[tmp_path / "other model"])
    pd.testing.assert_frame_equal(pd.DataFrame(found["means"]), pd.DataFrame(record["means"]), rtol=1e-5)
    page = page_of(tmp_path / "own")
    assert "From other model to own, answers moved by" in page and "predict-compared-1" not in page
    assert (tmp_path / "own" / "predict-compared-5.png").exists()
    with pytest.raises(SocratesError, match="another folder is called own"):
        predict(model, tmp_path, "own", compared=[tmp_path / "own"])
    changed = EXPERIMENT | {"population": {"personas": EXPERIMENT["population"]["personas"][:3]}}
    with pytest.raises(SocratesError, match="is of other texts or people"):
        predict(model, tmp_path, "third", changed, compared=[tmp_path / "own"])
    assert not (tmp_path / "third").exists()


def test_a_question_may_be_left_out_of_a_condition(model, tmp_path):
    experiment = {
        "title": "Check",
        "conditions": {
            "control": None,
            "text": {"text": "Read this.", "verbatim": True},
            "third": {"questions": {"check": None}},
        },
        "questions": {"warm": {"text": "How warm?", "scale": SCALE}, "check": {"text": "Clear?", "scale": SCALE}},
        "population": {"size": 6, "gender": {"Female": 3, "Male": 3}},
    }
    record = predict(model, tmp_path, experiment=experiment)
    asked = {(row["question"], row["condition"]) for row in record["means"]}
    assert ("check", "third") not in asked and len(asked) == 5
    assert [row["condition_b"] for row in record["differences"] if row["question"] == "check"] == ["text"]
    assert "(not asked here)" in page_of(tmp_path / "out")

    given = ["--model", model, str(tmp_path / "experiment.json"), "--output", str(tmp_path / "out")]
    done = run_loaded(ROOT / "scripts" / "predict.py", *given, cwd=tmp_path)
    told = done.stdout.split("check (mean, 1 to 5):")[1]
    assert not done.returncode and "  control" in told and "  text" in told and "  third" not in told


NOBODY = {"undecoded": {"99": 1.0}, "decoded": {"99": 1.0}}


def test_who_gives_codes_alone_has_no_answer_and_leaves_the_pilot_as_it_is(model, made, tmp_path, monkeypatch):
    folder, _ = made
    kept = predicting.kept_answer
    # Keys count profiles, then conditions, then questions: the first persona's first condition.
    monkeypatch.setattr(predicting, "kept_answer", lambda key, result: kept(key, result) | (NOBODY if key == 0 else {}))
    record = predict(model, tmp_path, humans=folder / "pilot.csv")
    people = pd.read_csv(tmp_path / "out" / "predictions.csv").set_index(["question", "condition", "persona"])
    first = people.loc["honest", CONDITIONS[0], 1]
    assert first[["mean", "sd", "answer"]].isna().all() and people.drop(first.name)["answer"].notna().all()
    found, before = (pd.read_csv(of / "out" / "pilot.csv") for of in (tmp_path, folder))
    assert found["estimate"].notna().all() and np.allclose(found["classical"], before["classical"])
    assert not pd.read_csv(tmp_path / "out" / "mixed_subjects.csv")[["S0", "S1"]].isna().any(axis=None)
    assert [row["name"] for row in record["estimates"]] == [*found["name"]]

    # Of decoded probabilities, which the evaluation judges, a code alone may be left: then the own ones are judged.
    decoded = lambda key, result: kept(key, result) | ({"decoded": {"99": 1.0}} if key % 16 == 0 else {})  # noqa: E731
    monkeypatch.setattr(predicting, "kept_answer", decoded)
    path = tmp_path / "experiment.json"
    one = predicting.predict(model, path, tmp_path / "decoded", processes=1, undecoded=True).questions[0]
    assert (one.judged.sums[-1] > 0).all()
    with pytest.raises(
        SocratesError, match=f'"honest" in the condition "{CONDITIONS[0]}" the model gives no answer but'
    ):
        predicting.predict(model, path, tmp_path / "decoded", processes=1)


def test_predictions_of_options_and_of_larger_designs_are_compared(model, tmp_path):
    levels = {name: {f"{name}{level}": f"{name} is {level}" for level in range(3)} for name in ("one", "two")}
    options = {"text": "Which?", "scale": {"options": {"1": "A (x)", "2": "B", "3": "C"}}}
    experiment = {
        "title": "Three by three",
        "factors": levels,
        "template": "{one}, {two}",
        "questions": {"which": options, "warm": {"text": "How warm?", "scale": SCALE}},
        "population": {"personas": [{"age": 30}, {"age": 41}]},
    }
    predict(model, tmp_path, "first", experiment)
    record = predict(model, tmp_path, "second", experiment, compared=[tmp_path / "first"])
    names = [(row["question"], row["name"]) for row in record["differences"]]
    assert len(set(names)) == len(names) and ("warm", "one: one2 − one0, by two: two1 − two0") in names
    assert f"of {len(names)} differences, 0 changed direction" in page_of(tmp_path / "second")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--plan", "0.2"], "--plan: must be such as width=0.2"),
        (["--humans", "none.csv"], "none.csv"),
        (["--compare", "nowhere"], "nowhere"),
    ],
)
def test_wrong_options_end_with_2(model, tmp_path, arguments, said):
    (tmp_path / "e.json").write_text(json.dumps(EXPERIMENT))
    given = ["--model", model, str(tmp_path / "e.json"), "--output", str(tmp_path / "out"), *arguments]
    done = run_loaded(ROOT / "scripts" / "predict.py", *given, cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


EXAMPLES = [path for path in sorted((ROOT / "examples").glob("*.json")) if "population" in json.loads(path.read_text())]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_runs(path, model, tmp_path):
    prediction = predicting.predict(model, path, tmp_path / "out", processes=1, people=12)
    write_prediction(tmp_path / "out", prediction)
    assert Path(tmp_path / "out" / "predict.html").exists()
    with (tmp_path / "out" / "means.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == sum(len(one.conditions) for one in prediction.questions)


def test_the_page_says_what_is_true_of_this_design(model, tmp_path):
    asked, texts = "Safe, from 1 (no) to 5 (yes)? Only return an integer from 1 to 5, nothing else.", ["a", "b", "c"]
    five = {"low": 1, "high": 5, "codes": {"99": "don't know"}}
    experiment = {
        "title": "Bridge",
        "conditions": {name: {"text": name, "verbatim": True, "before": ["Hello."]} for name in texts} | {"silent": {}},
        "questions": {
            "safe": {"text": asked, "scale": {"low": 1, "high": 5}},
            "fair": {"text": "Fair?", "scale": five},
            "sure": {"text": "Sure?", "scale": five | {"labels": {"5": "very"}}},
            "which": {"text": "Which?", "scale": {"options": {"1": "Red", "2": "Blue"}, "codes": {"99": "none"}}},
        },
        "indices": {"all": {"items": ["fair", "sure"]}},
        "population": {"personas": [{"narrative": "A baker.", "age": 30}, {"narrative": "A nurse.", "age": 50}]},
    }
    experiment["conditions"]["silent"]["questions"] = {"safe": None}
    predict(model, tmp_path, experiment=experiment)
    page = page_of(tmp_path / "out")
    assert f"<p>“{asked}”</p>" in page and "“Fair?” Only return an integer from 1 to 5, or 99" in page
    lead = page.split("The answer</h2>")[1].split("</section>")[0]
    assert lead.index("all (mean, 1 to 5)") < lead.index("safe (mean")
    assert "2 personas with a narrative" in page and "<th scope=row class=word>A baker" not in page
    assert "Not in the training data: narrative." in page and "nan" not in page.split("<body")[1].split("base64")[0]
    assert (
        "<th scope=col class=word>condition</th> <th scope=col>1 Red</th>" in page
    )  # a line a condition: it is narrower
    assert ">5 very<" in page and "nan<" not in page
    assert "(nothing but the question)" in page and page.count("(nothing but the question)") == 1
