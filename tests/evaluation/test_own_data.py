"""Other people's files, all the way: twelve layouts to metrics.json, and one study from CSV to a decision."""

import csv
import json
import sys

import numpy as np
import pytest
from made_answers import make_sample_data
from made_tables import KINDS
from processes import run_loaded, run_script, train

from socrates.files import write_json
from socrates.rehearsal.base_model import make_base_model
from socrates.rehearsal.rehearsal import rehearsal_config, rehearsal_deepspeed

pytestmark = pytest.mark.slow
COLUMNS = {
    "study": "tax_letter",
    "person": "id",
    "condition": "arm",
    "weight": "wgt",
    "conditions": {"control": None, "letter": "The city writes: thank you for paying."},
    "demographics": {"age": "age"},
    "questions": {
        "fair": {"text": "How fair is the tax?", "scale": "1 to 7"},
        "share": {"text": "What share would you pay?", "scale": "0 to 1 by 0.1"},
        "party": {
            "text": "Which party is close to you?",
            "scale": {"1": "Left", "2": "Centre", "3": "Right"},
            "nominal": True,
        },
    },
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    make_sample_data(folder / "set", people=8, train_studies=4, val_studies=3)
    make_base_model(folder / "base", folder / "set" / "train.jsonl", steps=20)
    return folder / "base"


@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_goes_to_metrics(kind, base, tmp_path):
    made = KINDS[kind](tmp_path)
    write_json(tmp_path / "columns.json", made.columns)
    options = ("--columns", "columns.json", "--output", "rows.jsonl")
    converted = run_loaded("convert_data.py", *made.files, *options, cwd=tmp_path)
    assert converted.returncode == 0, converted.stderr
    results = ("--test-data", "rows.jsonl", "--max-examples", "0", "--output", "out")
    evaluated = run_loaded("evaluate.py", "--model", base, *results, cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    given = sum(1 for _ in (tmp_path / "rows.jsonl").open())
    assert 0 < metrics["wasserstein_distance"] < 1 and metrics["coverage"]["cells_drawn"] == 0
    assert metrics["coverage"]["rows_predicted"] + metrics["coverage"]["missing_answers"] == given


def survey(path):
    """Made-up answers of 300 people: the letter makes the tax a little fairer."""
    rng = np.random.default_rng(5)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "arm", "age", "wgt", "fair", "share", "party"])
        for person in range(300):
            letter = person % 2
            fair = int(np.clip(round(rng.normal(5.2 + 0.8 * letter, 0.9)), 1, 7))
            share, party = rng.integers(6, 11) / 10, rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1])
            arm, weight = ("control", "letter")[letter], round(rng.uniform(0.5, 1.5), 2)
            rows.writerow([person, arm, rng.integers(18, 90), weight, fair, share, party])


def test_one_study_of_300_people_goes_from_csv_to_a_decision(tmp_path):
    survey(tmp_path / "survey.csv")
    write_json(tmp_path / "columns.json", COLUMNS)
    by_person = ("--split", "own", "--by", "person", "--judge-share", "0.5", "--val-share", "0.8")
    source = ("--source", "survey.csv", "--columns", "columns.json")
    prepared = run_loaded("prepare_data.py", "--output", "data/mine", *source, *by_person, cwd=tmp_path)
    assert prepared.returncode == 0, prepared.stderr
    assert "No participant of a study is in two parts" in prepared.stdout
    make_base_model(tmp_path / "models" / "base", tmp_path / "data" / "mine" / "train.jsonl", steps=60)
    config = rehearsal_config("models/base", "data/mine", steps=10, save_steps=10)
    write_json(tmp_path / "config.json", config | {"output_dir": "models/run"})
    write_json(tmp_path / "deepspeed_config.json", rehearsal_deepspeed())
    baseline = run_script("evaluate_baseline.sh", "--config", "config.json", cwd=tmp_path, VIRTUAL_ENV=sys.prefix)
    assert baseline.returncode == 0, baseline.stderr
    assert "These numbers are of new people of this study only" in baseline.stdout
    trained = train(tmp_path)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    metrics = "evaluation_results/baseline/metrics.json"
    decided = run_script(
        "evaluate_checkpoint.sh", "models/run/checkpoint-10", metrics, cwd=tmp_path, VIRTUAL_ENV=sys.prefix
    )
    assert decided.returncode in (0, 1), decided.stdout + decided.stderr  # which of them, a toy does not promise
    assert ("✅ GO" in decided.stdout) == (
        decided.returncode == 0
    ) and "with other people of this study" in decided.stdout
    assert "2 of the 6 cells are nominal, and not in this distance" in decided.stdout
    for cell in map(json.loads, (tmp_path / "evaluation_results/run/checkpoint-10/cells.jsonl").open()):
        assert cell["n_human"] < 75  # fewer than there are, as their weights differ
        assert cell["task_num"] != "share" or cell["predicted_distribution"].keys() <= {
            str(n / 10) for n in range(11)
        } | {"0", "1"}
    checkpoint = ("--model", "models/run/checkpoint-10")
    trained_on = ("--test-data", "data/mine/train.jsonl", "--output", "seen")
    seen = run_loaded("evaluate.py", *checkpoint, *trained_on, cwd=tmp_path)
    assert seen.returncode == 2 and "may have been trained on 450 of these 450 rows" in seen.stderr
    both = ("--config", "config.json", "--unseen", "--output", "both")
    assert run_loaded("evaluate.py", *checkpoint, *both, cwd=tmp_path).returncode == 0
