"""scripts/predict.py: from a described experiment to predictions, with a tiny random model."""

import copy
import csv
import html
import itertools
import json
import math
import shutil
from dataclasses import fields, replace

import numpy as np
import pytest
from comparing import assert_close, json_lines
from made_results import few_metrics
from processes import ROOT, run_loaded
from scipy.stats import t as student
from tiny import ask, save_model, survey_model

from socrates.data.scales.text import parse_scale
from socrates.errors import SocratesError
from socrates.inference.engine import Question
from socrates.model.chat import prompt_token_ids
from socrates.model.hub import locate_model
from socrates.model.load import load_model
from socrates.predict import predict as predicting
from socrates.predict.contrasts import find_contrasts
from socrates.predict.estimates import (
    EXPECTED,
    estimate_differences,
    estimate_distributions,
    estimate_means,
    moments_of,
    sample_answers,
)
from socrates.predict.experiment import OutcomeQuestion, read_experiment
from socrates.predict.outcomes import QuestionPrediction
from socrates.predict.population import FIELDS, Population, quotas, read_personas
from socrates.predict.prompts import plan_prompts
from socrates.predict.tables import write_prediction

EXAMPLES = ROOT / "examples"

EXPERIMENT = {
    "title": "Harbour <festival> & ferry",
    "conditions": {"control": None, "late": "The ferry to the island was late again."},
    "questions": {
        "warmth": {"text": "How warm do you feel about the harbour festival?", "scale": {"low": 1, "high": 7}},
        "yes": {"text": "Would you go?", "scale": {"options": {"1": "Yes", "2": "No"}}},
    },
    "population": {"csv": "people.csv"},
}
PEOPLE = "age,gender,weight\n34,Female,1\n70,,2\n34,Female,1\n51,Male,1\n"


def write(folder, experiment, people=PEOPLE):
    (folder / "people.csv").write_text(people)
    path = folder / "experiment.json"
    path.write_text(experiment if isinstance(experiment, str) else json.dumps(experiment))
    return path


def changed(**paths):
    """The experiment with another value at paths such as questions__warmth__scale; ... removes what is there."""
    experiment = copy.deepcopy(EXPERIMENT)
    for path, value in paths.items():
        *parents, last = path.split("__")
        inner = experiment
        for key in parents:
            inner = inner[key]
        if value is ...:
            del inner[last]
        else:
            inner[last] = value
    return experiment


def people(**fields):
    return changed(population=fields)


def warmth(**scale):
    return changed(questions__warmth__scale=scale)


def options(**options):
    return changed(questions__yes__scale={"options": options})


SHARES = {"gender": {"Male": 0.49, "Female": 0.51}}
OWN_SCALE = "Only return an integer from 1 to 5, nothing else."

MALFORMED = {
    "not JSON": ('{"title": ', "experiment.json: line 1, column 11: not JSON"),
    "a key misspelt": (changed(condition={}), '"condition": unknown key; did you mean "conditions"?'),
    "no conditions": (changed(conditions={}), '"conditions": must be an object'),
    "a condition without text": (changed(conditions__late=" "), '"conditions.late.text": must not be empty'),
    "half a character": (changed(conditions__late="a\ud800"), '"conditions.late.text": holds half a character'),
    "a line break in a name": (changed(questions={"a\nb": {}}), '"questions.a\\nb": holds a line break'),
    "one name twice": (changed(conditions={"a": None, "a ": "x"}), '"conditions.a ": has white space around it'),
    "a control character": (
        changed(conditions__late="a\0b"),
        '"conditions.late.text": holds a control character (U+0000)',
    ),
    "no scale": (changed(questions__yes__scale=...), '"questions.yes.scale": missing: the valid answers'),
    "one value": (warmth(low=3, high=3), 'must be below "high", and is 3 where that is 3'),
    "ends that are no numbers": (warmth(low="1", high=True), "must be a number, not true"),
    "a high end alone": (warmth(high=7), 'warmth.scale": takes "low" and "high"'),
    "both kinds": (warmth(low=1, options={"1": "a", "2": "b"}), 'takes either "options"'),
    "too wide": (warmth(low=0, high=9999), "10,000 answers; at most 4,096"),
    "a label outside": (warmth(low=1, high=7, labels={"8": "x"}), 'warmth.scale": the label of 8 lies outside 1 to 7'),
    "an option that is no number": (options(Yes="1", No="2"), 'scale.options.Yes": the answer must be a number'),
    "labels that read as another scale": (
        options(**{"1": "Yes", "2": "No”; 9 for “Perhaps"}),
        "it reads as the scale 1, 2, 9, not 1, 2",
    ),
    "a missing answer among the options": (
        options(**{"1": "Yes", "2": "No", "99": "Prefer not to say"}),
        '"questions.yes": 99 ("Prefer not to say") is a missing answer, which measures nothing; put it under',
    ),
    "an instruction of its own": (
        changed(questions__warmth__text=f"How warm? {OWN_SCALE}"),
        '"questions.warmth.text": states the scale 1 to 5 itself, and not 1 to 7',
    ),
    "an instruction in a condition": (
        changed(conditions__late=f"The ferry was late. {OWN_SCALE}"),
        '"conditions.late": tells to answer from 1 to 5, and not from 1 to 7, which "questions.warmth"',
    ),
    "no size": (people(**SHARES), '"population": "size" is missing'),
    "an unknown field": (
        people(size=9, gendre=SHARES["gender"]),
        'the key "gendre" is no known field; did you mean "gender"?',
    ),
    "shares that do not sum to 1": (people(size=9, gender={"a": 0.5, "b": 0.4}), '"gender" sums to 0.9: must be s'),
    "counts that are not whole": (people(gender={"a": 1.5, "b": 2.5}), '"gender" sums to 4: must be shares'),
    "counts of other numbers": (people(gender={"a": 5}, education={"b": 6}), "sums to 6, but the population has 5"),
    "a range of ages that falls": (people(size=9, age={"65-60": 1}), '"65-60" must be an age ("34") or a band'),
    "a value twice": (people(size=9, gender={"Male": 0.5, "Male ": 0.5}), '"Male" stands there twice'),
    "a value that is none": (people(size=9, party_id={"NaN": 1}), '"NaN" is no value; leave it empty'),
    "ages that overlap": (people(size=9, age={"18-29": 1, "20-40": 1}), '"20-40": the age 20 is in "18-29" already'),
    "fields beside a CSV": (people(csv="people.csv", size=9), '"population": "size" does not go with "csv"'),
}

MALFORMED_PEOPLE = {
    "empty": ("", "people.csv: is empty"),
    "nobody": ("age,gender\n\n", "lists nobody"),
    "a column misspelt": ("educaton,shoe size\n1,2\n", 'line 1: the column "educaton" is no known field; did you mean'),
    "a column twice": ("age,age\n1,2\n", 'several columns are named "age"'),
    "no field": ("weight\n1\n", "line 1: names no demographic field"),
    "ragged": ("age,gender\n34,Male\n35\n36,Male,x\n", "line 3: has 1 fields and the header 2"),
    "nothing known of one": ("age,weight\n34,1\n,1\n", "line 3: says nothing of this person"),
    "a bad weight": ("age,weight\n34,much\n35,-1\n36,nan\n", "line 2: the weight must be a number of 0 or more"),
    "no weight": ("age,weight\n34,0\n35,0\n", "all weights are 0"),
    "an open quote": ('age\n"34\n', "cannot be read as csv: unexpected end of data"),
    "a line break in a value": ('gender\n"a\nb"\n', "line 3, gender: holds a line break"),
    **{
        f"no age: {age}": (f"gender,age\na,{age}\n", 'line 2, age: must be an age ("34") or a band of ages')
        for age in ("29-18", "-5", "250", "37.5", "\u0663\u0664", "007")
    },
    **{
        f"no value: {value}": (f"age,income\n34,{value}\n", "is no value; leave it empty where it is not known")
        for value in ("NA", "null", "n/a")
    },
}


@pytest.mark.parametrize(("experiment", "message"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_experiment_gets_its_message(tmp_path, experiment, message):
    with pytest.raises(SocratesError) as error:
        read_experiment(write(tmp_path, experiment))
    assert message in str(error.value) and str(tmp_path / "experiment.json") in str(error.value)


@pytest.mark.parametrize(("text", "message"), MALFORMED_PEOPLE.values(), ids=MALFORMED_PEOPLE)
def test_a_malformed_list_of_personas_gets_its_message(tmp_path, text, message):
    (tmp_path / "people.csv").write_text(text)
    with pytest.raises(SocratesError) as error:
        read_personas(tmp_path / "people.csv")
    assert message in str(error.value) and "people.csv" in str(error.value)


def test_personas_of_a_data_frame_with_gaps_and_of_any_weights(tmp_path):
    (tmp_path / "people.csv").write_text("age,household_size,weight\n37.0,2.0,1e308\n , \n,3,1e308\n")
    personas = read_personas(tmp_path / "people.csv")
    plan = plan_prompts(read_experiment(write(tmp_path, EXPERIMENT)), personas)
    assert plan.profiles == ({"age": "37", "household_size": "2"}, {"household_size": "3"})
    _, means = conditions_of(rated(0, 1), ["c"], np.array([[[1.0, 0], [0, 1]]]), plan.weights, 0)
    assert means["mean"][0] == 0.5 and math.isfinite(means["high"][0])


def test_a_scale_that_people_read_about_is_no_instruction(tmp_path):
    told = "The ferry was late. Passengers rated it 2 on a scale from 1 to 10."
    asked = "How warm do you feel, from 1 (cold) to 7 (warm)?"
    read_experiment(write(tmp_path, changed(conditions__late=told, questions__warmth__text=asked)))


def test_all_problems_are_told_at_once_and_leave_with_2(tmp_path):
    path = write(tmp_path, changed(title=" ", questions__yes__scale={"low": 1, "high": 1}, population={"size": 3}))
    result = run_loaded("predict.py", path, "--model", tmp_path, "--output", tmp_path / "out")
    assert result.returncode == 2 and "Traceback" not in result.stderr and not (tmp_path / "out").exists()
    problems = [line.split(":")[0].strip() for line in result.stderr.splitlines()[1:]]
    assert problems == ['"title"', '"questions.yes.scale"', '"population"']


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SocratesError, match="no such experiment"):
        read_experiment(tmp_path / "none.json")
    (path := write(tmp_path, EXPERIMENT)).with_name("people.csv").unlink()
    with pytest.raises(SocratesError, match=r"people\.csv: no such file"):
        read_experiment(path).population.personas(tmp_path, 0)


@pytest.mark.parametrize(
    ("scale", "instruction"),
    [
        ({"low": -3, "high": 3}, "Only return an integer from -3 to 3, nothing else."),
        (
            {"low": 1, "high": 7, "labels": {"7": "yes (all)", "1": "no", "4": "so so"}},
            "Only return an integer from 1 to 7, where 1 means no, 4 means so so and 7 means yes (all), nothing else.",
        ),
        ({"options": {"1": "$1-$5", "2": "5 to 50"}}, "Only return 1 for “$1-$5” or 2 for “5 to 50”, nothing else."),
        (
            {"options": {"8": "Don't care", "1": "1 or 2 times", "2": "from 3 to 9"}},
            "Only return 1 for “1 or 2 times”; 2 for “from 3 to 9”; 8 for “Don't care”, nothing else.",
        ),
    ],
)
def test_answer_instructions_are_those_of_the_data_set(tmp_path, scale, instruction):
    experiment = read_experiment(write(tmp_path, changed(questions__yes__scale=scale)))
    question = experiment.questions["yes"]
    assert question.instruction == instruction
    late = "You read “The ferry to the island was late again.”"
    for condition, told in (("control", "You were asked: "), ("late", late)):
        stimuli = experiment.stimuli(condition, "yes")
        assert stimuli.startswith(told) and stimuli.endswith(f": “Would you go?” {instruction}")
        assert parse_scale(stimuli) == question.answers


def test_quotas_are_the_whole_numbers_nearest_to_the_shares():
    rng = np.random.default_rng(3)
    for _ in range(40):
        shares, size = rng.dirichlet(np.ones(3)), int(rng.integers(1, 12))
        found = quotas(shares.tolist(), size)
        whole = [parts for parts in itertools.product(range(size + 1), repeat=3) if sum(parts) == size]
        assert sum(found) == size
        nearest = min(np.abs(parts - shares * size).sum() for parts in whole)
        assert np.isclose(np.abs(found - shares * size).sum(), nearest)
    assert quotas([0.1, 0.2, 0.7], 10) == [1, 2, 7]  # 0.7 * 10 is not quite 7 in binary


def test_personas_have_the_margins_exactly_and_fields_are_independent():
    shares = {
        "gender": {"Female": 0.51, "Male": 0.49},
        "age": {"18-29": 0.2, "30-44": 0.3, "45-90": 0.5},
        "ideology": {"Liberal": 40, "Moderate": 100, "Conservative": 60},
    }
    population = Population(size=200, **shares)
    people = population.personas(EXAMPLES, 1)
    assert list(people) == ["weight", "age", "gender", "ideology"]  # the data set's order
    ages, female = people["age"].astype(int).to_numpy(), people["gender"] == "Female"
    assert np.histogram(ages, [18, 30, 45, 91])[0].tolist() == [40, 60, 100] and female.sum() == 102
    assert {int(n) for n in np.bincount(ages)[18:45]} == {3, 4} and ages.max() == 90  # spread over all years of a range
    assert abs(np.corrcoef(ages, female)[0, 1]) < 0.2
    assert people.equals(population.personas(EXAMPLES, 1)) and not people.equals(population.personas(EXAMPLES, 2))
    few = population.personas(EXAMPLES, 1, people=10)["ideology"]
    assert sorted(few) == ["Conservative"] * 3 + ["Liberal"] * 2 + ["Moderate"] * 5


def rated(low, high):
    return OutcomeQuestion(text="How much?", scale={"low": low, "high": high})


def conditions_of(question, conditions, table, weights, seed):
    """Distributions and means."""
    labels = {answer: question.labels.get(answer) for answer in question.answers.values}
    shares = estimate_distributions(labels, conditions, table, weights, seed, of_all=False)
    return shares, estimate_means(moments_of(question, table), conditions, weights, seed)


def differences_of(question, conditions, table, weights, seed):
    """Of all pairs, between people."""
    contrasts = find_contrasts(conditions, {}, [{}] * len(conditions))
    return estimate_differences(moments_of(question, table), contrasts, np.arange(len(conditions)), weights, seed)


def random_answers(rng, conditions, personas, answers):
    return rng.dirichlet(np.ones(answers), size=(conditions, personas))


def test_a_condition_is_the_mixture_of_its_personas():
    rng = np.random.default_rng(0)
    table, weights, values = random_answers(rng, 2, 300, 3), rng.uniform(0, 2, 300), np.arange(1, 4)
    distributions, means = conditions_of(rated(1, 3), ["a", "b"], table, weights, seed=1)
    mixture = np.average(table[1], axis=0, weights=weights)
    assert np.allclose(distributions.loc[distributions["condition"] == "b", "probability"], mixture)
    first, second = means.itertuples()
    mean = mixture @ values
    assert second.mean == pytest.approx(mean)
    assert second.sd == pytest.approx(math.sqrt(mixture @ (values - mean) ** 2))
    # The delta method's standard error of a weighted mean, with Student's t as the expanded percentiles imitate it.
    deviations = weights * (table[0] @ values - first.mean)
    half = 1.968 * math.sqrt((deviations**2).sum()) / weights.sum()
    assert (first.high - first.low) / 2 == pytest.approx(half, rel=0.1)


def test_differences_compare_the_same_personas():
    rng, question = np.random.default_rng(0), rated(10**9 - 4, 10**9 - 1)  # on which squares lose all digits
    table, weights = random_answers(rng, 3, 60, 4), np.ones(60)
    table[1] = table[0] @ np.eye(4)[:, [3, 0, 1, 2]]  # in the second condition every answer is one higher, but the last
    found = differences_of(question, ["0", "1", "2"], table, weights, 0)
    assert found["name"].tolist() == ["1 − 0", "2 − 0", "2 − 1"] and set(found["measure"]) == {"mean"}
    shares, (a, b) = table.mean(axis=1), np.array([[0, 0, 1], [1, 2, 2]])
    means = shares @ np.arange(4)
    variances = shares @ np.arange(4) ** 2 - means**2
    difference, variance = means[b] - means[a], variances[a] + variances[b]
    assert np.allclose(found["difference"], difference, rtol=1e-6)
    assert np.allclose(found["standardized"], difference / np.sqrt(variance / 2), rtol=1e-6)
    assert np.allclose(found["by_chance"], 1.96 * np.sqrt(variance / 60), rtol=1e-4)
    table[2] = 0.5 * table[0] + 0.5 * np.array([0, 0, 0, 1.0])  # the effect differs between personas by half their mean
    same = differences_of(question, ["a", "b"], table[[0, 0]], weights, 0)
    assert not same[["difference", "low", "high"]].to_numpy().any()
    shifted = differences_of(question, ["a", "b"], table[[0, 2]], weights, 0)
    _, alone = conditions_of(question, ["a"], table[:1], weights, 0)
    assert np.allclose(shifted["high"] - shifted["low"], 0.5 * (alone["high"] - alone["low"]), rtol=0.01)


def test_of_options_the_shares_are_compared():
    def nominal(*values):
        return OutcomeQuestion(text="Which?", scale={"options": {str(value): f"<{value}>" for value in values}})

    rng, weights = np.random.default_rng(0), np.ones(50)
    two = differences_of(nominal(1, 2), ["a", "b"], random_answers(rng, 2, 50, 2), weights, 0)
    assert two["measure"].tolist() == ["share of 1 (<1>)"] and two["standardized"].isna().all()
    answers = random_answers(rng, 2, 50, 3)
    three = differences_of(nominal(1, 2, 8), ["a", "b"], answers, weights, 0)
    shares = answers.mean(axis=1)
    assert three["name"].tolist() == ["<1>: b − a", "<2>: b − a", "<8>: b − a"]
    assert np.allclose(three["difference"], shares[1] - shares[0])
    variance = (shares[:, 0] * (1 - shares[:, 0])).sum() / 50
    assert three["by_chance"][0] == pytest.approx(1.96 * math.sqrt(variance), rel=1e-4)


def test_a_weight_of_two_counts_as_two_and_one_persona_has_no_interval():
    answers, question = random_answers(np.random.default_rng(5), 2, 3, 4), rated(0, 3)
    weighted = differences_of(question, ["a", "b"], answers, np.array([2.0, 1, 1]), 0)
    twice = differences_of(question, ["a", "b"], answers[:, [0, 0, 1, 2]], np.ones(4), 0)
    assert np.allclose(weighted["difference"], twice["difference"])
    _, alone = conditions_of(question, ["a"], answers[:1, :1], np.ones(1), 0)
    assert alone["mean"].notna().all() and alone["low"].isna().all()


def test_sampled_answers_follow_the_probabilities():
    probabilities = np.tile([0.0, 0.3, 0.0, 0.7, 0.0], (20_000, 1))
    sampled = sample_answers(np.array([1.0, 2, 3, 4, 9]), probabilities, np.random.default_rng(0))
    assert set(sampled.tolist()) == {2, 4} and np.mean(sampled == 2) == pytest.approx(0.3, abs=0.01)


# --- with a model ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_model(*survey_model(), tmp_path_factory.mktemp("model")))


def predict(path, model, output, **options):
    write_prediction(output, predicting.predict(model, path, output, processes=1, **options))
    return json.loads((output / "predict.json").read_text())


def table(path, **chosen):
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if chosen.items() <= row.items()]


def mean_of(record, condition, question="warmth", number="mean"):
    (found,) = (row[number] for row in record["means"] if (row["condition"], row["question"]) == (condition, question))
    return found


def answers_in(folder):
    return json_lines(folder / "answers.jsonl")


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    """(the experiment's file, the folder of its prediction, its record)."""
    folder = tmp_path_factory.mktemp("predicted")
    path = write(folder, EXPERIMENT)
    return path, folder / "out", predict(path, model, folder / "out")


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_tables_hold_what_the_model_answers(made, model):
    """Against the exact answers to prompts that are written out here."""
    before = "You are a survey respondent with the following demographic profile:\n"
    after = (
        "\n\nRead the question below and answer exactly as this person would. Follow the response instructions "
        "precisely.\n\nYou read “The ferry to the island was late again.” and then were asked: “How warm do you feel "
        "about the harbour festival?” Only return an integer from 1 to 7, nothing else."
    )
    profiles = ("- Age: 34\n- Gender: Female", "- Age: 70", "- Age: 51\n- Gender: Male")
    loaded = load_model(locate_model(model), device="cpu")
    texts = [before + profile + after for profile in profiles]
    ids = prompt_token_ids(loaded.tokenizer, texts, None)
    scale = parse_scale(after)
    asked = [Question(tuple(one), scale, key) for key, one in enumerate(ids)]
    exact = ask(loaded, asked)
    shares = np.array([exact[index].normalized() for index in range(3)])

    _, out, record = made
    late = {"condition": "late", "question": "warmth"}
    lines = table(out / "predictions.csv", **late)
    assert [(row["persona"], row["age"], row["gender"], row["weight"]) for row in lines] == [
        ("1", "34", "Female", "1"),
        ("2", "70", "", "2"),
        ("3", "34", "Female", "1"),
        ("4", "51", "Male", "1"),
    ]
    expected = [shares[index] @ np.arange(1, 8) for index in (0, 1, 0, 2)]
    assert np.allclose([float(row["mean"]) for row in lines], expected, atol=1e-5)
    for row, index in zip(lines, (0, 1, 0, 2), strict=True):
        assert shares[index][int(row["answer"]) - 1] > 0
        assert float(row["valid_mass"]) == pytest.approx(exact[index].valid_mass, rel=1e-4)
    mixture = (2 * shares[0] + 2 * shares[1] + shares[2]) / 5
    rows = table(out / "distributions.csv", **late)
    assert np.allclose([float(row["probability"]) for row in rows], mixture, atol=1e-5)
    assert all(float(row["low"]) - 1e-6 <= float(row["probability"]) <= float(row["high"]) + 1e-6 for row in rows)
    means = {row["condition"]: float(row["mean"]) for row in table(out / "means.csv", question="warmth")}
    assert means["late"] == pytest.approx(mixture @ np.arange(1, 8), abs=1e-5)
    (difference,) = table(out / "differences.csv", question="warmth")
    assert float(difference["difference"]) == pytest.approx(means["late"] - means["control"], abs=1e-6)
    assert (difference["condition_a"], difference["condition_b"]) == ("control", "late")
    assert mean_of(record, "late") == pytest.approx(means["late"], abs=1e-6)
    assert len(answers_in(out)) == 3 * 2 * 2  # the same is known of two of the four, who are asked once


def test_the_page_says_what_it_is_not_and_needs_nothing_else(made):
    _, out, _ = made
    page = (out / "predict.html").read_text()
    assert "no substitute for asking people" in page and "not the model&#39;s error" in page
    assert (
        "Harbour &lt;festival&gt; &amp; ferry" in page and "How wrong this model is about people is not known" in page
    )
    assert (
        page.count("<img ") == page.count("src=") == page.count('src="data:image/svg+xml') == page.count(' alt="') == 4
    )
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    pictures = sorted(path.name for path in out.glob("*.png"))
    assert pictures == [f"predict-{kind}-{n}.png" for kind in ("differences", "distributions") for n in (1, 2)]


@pytest.mark.slow
def test_done_once_nothing_is_asked_again(made, model, tmp_path, monkeypatch, capsys):
    path, out, record = made
    before = files_of(out)
    for name in ("predict.json", "means.csv", "predict-differences-1.png"):  # as after a kill while they were written
        (out / name).unlink()
    monkeypatch.setattr(predicting, "run_inference", lambda *_, **__: pytest.fail("the model was asked"))
    predict(path, model, out)
    assert "Already asked" in capsys.readouterr().out
    after = files_of(out)
    assert set(after) == set(before)
    same = [name for name in before if not name.startswith("predict.")]  # those two tell when they were made
    assert [after[name] for name in same] == [before[name] for name in same]
    undecoded = predict(path, model, out, undecoded=True)
    assert undecoded["probabilities"]["temperature"] == 1
    assert mean_of(record, "late", number="sd") < mean_of(undecoded, "late", number="sd")

    renamed = changed(conditions={"late": None, "early": EXPERIMENT["conditions"]["late"]})  # nor are names asked
    other = predict(write(tmp_path, renamed), model, shutil.copytree(out, tmp_path / "out"))
    names = {"control": "late", "late": "early"}
    assert all(mean_of(other, now) == mean_of(record, before) for before, now in names.items())
    expected = [line | {"condition": names[line["condition"]]} for line in answers_in(out)]
    assert answers_in(tmp_path / "out") == expected
    predict(path, model, out)


def test_another_prediction_and_foreign_files_are_refused(made, model, tmp_path):
    _, out, _ = made
    before = files_of(out)
    other = write(tmp_path, changed(conditions__late="The bakery had no bread left."))
    with pytest.raises(SocratesError, match="holds another prediction of other texts, people or seed: prompts"):
        predict(other, model, out)
    assert files_of(out) == before
    (tmp_path / "checkpoint-7").mkdir()
    (tmp_path / "checkpoint-7" / "manifest.json").write_text("{}")
    with pytest.raises(SocratesError, match="is a checkpoint"):
        predict(other, model, tmp_path / "checkpoint-7", overwrite=True)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "means.csv").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(SocratesError, match=r"holds means\.csv, and no asked\.json"):
            predict(other, model, tmp_path / "foreign", overwrite=overwrite)
    assert files_of(tmp_path / "foreign") == {"means.csv": b"mine"}


def test_a_prediction_is_replaced_once_there_is_another(made, model, tmp_path, monkeypatch):
    _, out, _ = made
    shutil.copytree(out, tmp_path / "out")
    out = tmp_path / "out"
    own = ("predict-notes.png", "predict-mine-7.png", "predict-distributions-1-marked.png")
    for name in own:
        (out / name).write_bytes(b"mine")
    before = files_of(out)
    other = write(tmp_path, changed(conditions__late="The bakery had no bread left."))

    def out_of_memory(*_, **__):
        raise SocratesError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(predicting, "run_inference", out_of_memory)
        with pytest.raises(SocratesError, match="no memory"):
            predict(other, model, out, overwrite=True)
        assert files_of(out) == before
    predict(other, model, out, overwrite=True, people=2)
    assert len(table(out / "predictions.csv")) == 2 * 2 * 2
    after = files_of(out)
    assert set(after) == set(before) and {after[name] for name in own} == {b"mine"}


def test_the_headline_says_which_option_it_is_of(made, tmp_path):
    questions = {"bus": {"text": "Which?", "scale": {"options": {"1": "Red", "2": "Blue", "3": "None"}}}}
    question = read_experiment(write(tmp_path, changed(questions=questions))).questions["bus"]
    shares = np.array([[[0.5, 0.4, 0.1]], [[0.4, 0.2, 0.4]]])

    def headline(table):
        shares, means = conditions_of(question, ["a", "b"][: len(table)], table, np.ones(1), 0)
        known = dict.fromkeys(field.name for field in fields(QuestionPrediction))
        known |= {"question": question, "distributions": shares, "means": means}
        what, numbers = QuestionPrediction(**known).headline
        return what, [number.value for number in numbers]

    assert headline(shares) == ("share of “None”, the option that differs most", [0.1, 0.4])
    assert headline(shares[:1]) == ("share of “Red”, the most frequent option", [0.5])


def test_a_broken_off_prediction_goes_on_to_the_same_answers(made, model, tmp_path, monkeypatch, capsys):
    path, out, _ = made
    kept = []

    def interrupted(key, result):
        if len(kept) == 5:
            raise KeyboardInterrupt
        kept.append(key)
        return kept_answer(key, result)

    kept_answer = predicting.kept_answer
    monkeypatch.setattr(predicting, "kept_answer", interrupted)
    monkeypatch.setattr("socrates.inference.engine.token_budget", lambda *_: 10)  # every prompt goes alone
    with pytest.raises(KeyboardInterrupt):
        predict(path, model, tmp_path / "out")
    assert not (tmp_path / "out" / "asked.json").exists()
    monkeypatch.setattr(predicting, "kept_answer", kept_answer)
    (tmp_path / "out" / "answers.jsonl").write_text("")  # as after a kill between the two files that are written last
    predict(path, model, tmp_path / "out")
    assert "Going on: 5 of 12 rows are answered already" in capsys.readouterr().out
    assert_close(answers_in(tmp_path / "out"), answers_in(out))


@pytest.mark.parametrize(
    "edit", [('"valid_mass"', '"mass"'), ('"1": ', '"\\ud800": '), ('"1": 0', '"1": 1'), (": ", ": NaN, ")]
)
def test_answers_that_were_edited_are_asked_for_again(made, model, tmp_path, capsys, edit):
    path, out, _ = made
    shutil.copytree(out, tmp_path / "out")
    answers = tmp_path / "out" / "answers.jsonl"
    answers.write_text(answers.read_text().replace(*edit, 1))
    predict(path, model, tmp_path / "out")
    assert "answers.jsonl: is gone or damaged; asking again" in capsys.readouterr().out
    assert_close(answers_in(tmp_path / "out"), answers_in(out))


def test_a_text_that_is_too_long_is_named_before_the_model_is_loaded(model, tmp_path):
    path = write(tmp_path, changed(conditions__late="late " * 3000))
    with pytest.raises(SocratesError) as error:
        predict(path, model, tmp_path / "out")
    assert '"conditions.late" with "questions.warmth": ' in str(error.value) and "can read" in str(error.value)
    assert "conditions.control" not in str(error.value) and not (tmp_path / "out").exists()


def test_results_of_this_model_tell_how_far_to_believe_it(made, model, tmp_path):
    path, out, record = made
    metrics = few_metrics(0.16) | {
        "wasserstein_distance_ci95": [0.15, 0.17],
        "effects": {
            "correlation": 0.3,
            "correlation_ci95": [-0.1, 0.6],
            "sign_agreement_clear": 0.75,
            "clear_pairs": 8,
        },
        "seen": {"rows": 3, "of": 9},
        "about": {"model": "m", "asked": {"model": record["asked"]["model"]}},
    }
    metrics["coverage"]["studies_scored"] = 40
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    assert predict(path, model, out, results=tmp_path)["evidence"] == str(tmp_path)
    page = " ".join((out / "predict.html").read_text().split())
    for told in (
        "In 40 studies whose people’s answers are known",
        "0.160 (95% interval 0.150 to 0.170)",
        "Of 8 clear differences between conditions it predicts 75% in the right direction",
        "It is not shown that this model predicts differences",
        "may have been trained on some of these studies",
        "The evaluation used other probabilities (temperature 1, top-p 1)",
    ):
        assert told in page, told
    metrics["about"]["asked"]["model"] = "another"
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(SocratesError, match="are results of another model"):
        predict(path, model, out, results=tmp_path)


EFFECT_MODEL = {
    "slope": 0.4,
    "slope_ci95": [0.2, 0.6],
    "slope_standard_error": 0.1,
    "slope_sd": 0.2,
    "residual_sd": 0.05,
    "studies": 12,
}


def write_metrics(folder, record, **changes):
    """Results of the model that was asked, judged under the decoding of the prediction."""
    metrics = few_metrics(0.16) | {"about": {"asked": {"model": record["asked"]["model"]}}}
    metrics["comparability"]["decoding"] = {"temperature": 0.6, "top_p": 0.9}
    folder.mkdir(exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics | changes))
    return folder


def page_of(folder):
    return html.unescape(" ".join((folder / "predict.html").read_text().split()))


def test_the_temperature_of_the_results_is_taken_without_asking_again(made, model, tmp_path, monkeypatch):
    path, made_out, record = made
    out = shutil.copytree(made_out, tmp_path / "out")
    monkeypatch.setattr(predicting, "run_inference", lambda *_, **__: pytest.fail("the model was asked"))
    results = write_metrics(tmp_path / "results", record, calibration={"temperature": 1.7}, wasserstein_calibrated=0.12)
    calibrated = predict(path, model, out, results=results)
    late = [answer for answer in answers_in(out) if (answer["condition"], answer["question"]) == ("late", "warmth")]
    own = np.array([[answer["undecoded"].get(str(value), 0) for value in range(1, 8)] for answer in late])
    shares = own ** (1 / 1.7) / (own ** (1 / 1.7)).sum(axis=1, keepdims=True)
    mixture = (2 * shares[0] + 2 * shares[1] + shares[2]) / 5  # two of the four are alike, one counts twice
    rows = table(out / "distributions.csv", condition="late", question="warmth")
    assert np.allclose([float(row["probability"]) for row in rows], mixture, rtol=1e-7)
    assert calibrated["probabilities"]["calibration"] == {"temperature": 1.7, "from": str(results)}
    assert calibrated["probabilities"]["undecoded"]
    assert f"own probabilities at temperature 1.7, which fits people best ({results})" in page_of(out)
    assert "Calibrated, distributions are apart by 0.120" in page_of(out)

    left = predict(path, model, out, results=results, uncalibrated=True)
    assert left["means"] == record["means"] and left["probabilities"]["calibration"]["temperature"] is None
    undecoded = predict(path, model, out, results=results, undecoded=True)
    assert undecoded["means"] == predict(path, model, out, undecoded=True)["means"] != calibrated["means"]
    without = predict(path, model, out, results=write_metrics(tmp_path / "results", record))
    assert without["means"] == record["means"]
    assert f"Not calibrated: {results} has no temperature that fits people" in page_of(out)
    assert (out / "answers.jsonl").read_bytes() == (made_out / "answers.jsonl").read_bytes()


def test_what_to_expect_of_people_is_the_models_of_decoded_differences(made, model, tmp_path):
    path, made_out, record = made
    out = shutil.copytree(made_out, tmp_path / "out")
    known = {"calibration": {"temperature": 1.7}, "effects": {"prediction": EFFECT_MODEL}}
    found = predict(path, model, out, results=write_metrics(tmp_path / "results", record, **known))
    means = {
        (answer["condition"], answer["demographic"]["age"]): sum(
            int(value) * p for value, p in answer["decoded"].items()
        )
        / sum(answer["decoded"].values())
        for answer in answers_in(out)
        if answer["question"] == "warmth"
    }
    each = np.array([means["late", age] - means["control", age] for age in ("34", "70", "34", "51")])
    weights = np.array([1, 2, 1, 1])
    difference = np.average(each, weights=weights)
    squared_error = (weights**2 * (each - difference) ** 2).sum() / 5**2 * 4 / 3
    variance = (0.2**2 + 0.1**2) * difference**2 + (0.4**2 + 0.2**2 + 0.1**2) * squared_error + (0.05 * 6) ** 2
    half = student.ppf(0.95, 10) * math.sqrt(variance)
    (row,) = table(out / "differences.csv", question="warmth")
    judged, *numbers = (float(row[name]) for name in EXPECTED)
    assert judged == pytest.approx(difference, rel=1e-6)
    assert numbers == pytest.approx([0.4 * difference, 0.4 * difference - half, 0.4 * difference + half], rel=1e-6)
    assert float(row["difference"]) != pytest.approx(difference, rel=0.01)  # which is calibrated
    (options,) = table(out / "differences.csv", question="yes")
    assert {options[name] for name in EXPECTED} == {""} and found["effects"] == EFFECT_MODEL
    written = "{:.2f} [{:.2f}, {:.2f}]".format(*numbers).replace("-0.00", "0.00")
    page = page_of(out)
    assert f">{written}<" in page and f">{judged:z.2f}<" in page
    assert "the model’s difference times 0.40 (95% interval 0.20 to 0.60)" in page
    assert "holds the true difference in 9 of 10 experiments like those" in page
    assert "Calibrated, distributions are apart by" not in page  # these results do not say by how much

    predict(path, model, out, results=tmp_path / "results", people=1, overwrite=True)
    (alone,) = table(out / "differences.csv", question="warmth")
    assert alone["expected"] and not alone["expected_low"]
    assert "xpected of people" not in page_of(out)

    # Of one condition, and of options alone, there is nothing to say about differences of means.
    for experiment in (changed(conditions={"late": "x"}), changed(questions__warmth=...)):
        predict(write(tmp_path, experiment), model, out, results=tmp_path / "results", overwrite=True)
        assert "xpected of people" not in page_of(out) and "to expect of people" not in page_of(out)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "is of an older version"),
        (
            {"effects": {"prediction": None, "no_prediction": "predictions differ in two studies"}},
            "in its evaluation, predictions differ in two studies",
        ),
        (
            {"effects": {"prediction": EFFECT_MODEL}, "comparability": few_metrics(0.1)["comparability"]},
            "is of differences under temperature 1, top-p 1, which are not predicted here",
        ),
        (
            {
                "effects": {"prediction": EFFECT_MODEL},
                "comparability": few_metrics(0.1)["comparability"] | {"decoding": "external"},
            },
            "is of differences under a decoding that is not recorded, which",
        ),
    ],
)
def test_why_nothing_is_expected_of_people_is_told(made, model, tmp_path, changes, why):
    path, out, record = made
    out = shutil.copytree(out, tmp_path / "out")
    predict(path, model, out, results=write_metrics(tmp_path / "results", record, **changes))
    assert why in page_of(out).split("How far its differences lie from those of people is not known: ")[1][:110]
    assert {row["expected"] for row in table(out / "differences.csv")} == {""}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"calibration": {"temperature": 0.01}}, '"calibration.temperature": must be at least 0.05'),
        ({"calibration": {"temperature": 25.0}}, '"calibration.temperature": must be at most 20'),
        ({"calibration": {"temperature": "1"}}, '"calibration.temperature": must be a number'),
        ({"effects": {"prediction": EFFECT_MODEL | {"slope": None}}}, r'"effects.prediction": .*\n.*"slope": must be'),
        *(
            (
                {"effects": {"prediction": EFFECT_MODEL | {key: value}}},
                rf'"effects.prediction": .*\n.*"{key}.*": must be',
            )
            for key, value in (
                ("slope", 1e300),
                ("slope", 10**400),
                ("slope_sd", 1e200),
                ("slope_sd", -0.2),
                ("residual_sd", -0.1),
                ("slope_standard_error", -0.1),
                ("slope_ci95", []),
                ("slope_ci95", [0.2, 1e300]),
                ("studies", 10**400),
            )
        ),
    ],
)
def test_results_that_nothing_can_be_computed_with_are_refused(made, model, tmp_path, changes, key):
    path, out, record = made
    with pytest.raises(SocratesError, match=rf"metrics\.json(?s:.*){key}"):
        predict(path, model, out, results=write_metrics(tmp_path, record, **changes))


def test_a_column_that_nobody_makes_is_no_empty_one(made, model, tmp_path):
    path, out, _ = made
    prediction = predicting.predict(model, path, shutil.copytree(out, tmp_path / "out"), processes=1)
    questions = [replace(one, differences=one.differences.drop(columns="measure")) for one in prediction.questions]
    with pytest.raises(KeyError, match="measure"):
        write_prediction(tmp_path / "out", replace(prediction, questions=questions))


def test_who_has_no_answer_in_a_condition_is_left_out_of_all(made, model, tmp_path, monkeypatch):
    path, out, _ = made
    whole, kept_answer = table(out / "predictions.csv"), predicting.kept_answer
    nothing = {"valid_mass": 0.0, "undecoded": {}, "decoded": {}}
    # Keys count profiles, then conditions, then questions: the first profile's late warmth.
    monkeypatch.setattr(
        predicting, "kept_answer", lambda key, result: kept_answer(key, result) | (nothing if key == 2 else {})
    )
    record = predict(path, model, tmp_path / "out")
    assert [mean_of(record, "late", name, "personas") for name in ("warmth", "yes")] == [2, 4]
    rows = table(tmp_path / "out" / "predictions.csv")
    gone = [row["question"] == "warmth" and row["persona"] in ("1", "3") for row in rows]
    assert [row["mean"] == "" == row["answer"] for row in rows] == gone
    for row, before, left in zip(rows, whole, gone, strict=True):
        assert left or row["mean"] == before["mean"]
    late = mean_of(record, "late")
    second, fourth = float(rows[5]["mean"]), float(rows[7]["mean"])  # the second persona counts twice
    assert late == pytest.approx((2 * second + fourth) / 3, abs=1e-6)
    assert "2 personas got no valid answer" in (tmp_path / "out" / "predict.html").read_text()


def test_one_condition_one_person_and_a_wide_scale_have_a_page_too(model, tmp_path):
    experiment = changed(
        conditions={"=only(1)": None},
        questions={
            "gift": EXPERIMENT["questions"]["warmth"] | {"scale": {"low": -1, "high": 299, "labels": {"-1": "-"}}}
        },
    )
    path = write(tmp_path, experiment, "age,gender\n40,@home\n")
    record = predict(path, model, tmp_path / "out", people=1)
    assert mean_of(record, "=only(1)", "gift", "low") is None and len(record["distributions"]) == 301
    # A spreadsheet shows a text that looks like a formula as it stands, and computes nothing; a number stays one.
    (said,) = table(tmp_path / "out" / "predictions.csv")
    (least,) = table(tmp_path / "out" / "distributions.csv", answer="-1")
    assert said["condition"] == least["condition"] == "'=only(1)" and least["label"] == "'-"
    assert said["gender"] == "'@home"
    (tmp_path / "again.csv").write_text(f"gender\n{said['gender']}\n")
    assert read_personas(tmp_path / "again.csv")["gender"].tolist() == ["@home"]
    assert not record["differences"]
    assert table(tmp_path / "out" / "differences.csv") == []
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["predict-distributions-1.png"]


def test_the_examples_are_whole():
    for name in ("bus_line.json", "library_hours.json"):
        experiment = read_experiment(EXAMPLES / name)
        assert len(experiment.population.personas(EXAMPLES, 0)) in (40, 200) and "made up" in experiment.note
    told = (EXAMPLES / "README.md").read_text()
    assert all(field in told for field in FIELDS)
