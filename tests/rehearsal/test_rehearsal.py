"""What a rehearsal is made of: repeatable from its seed, in the published layout, said to be made up."""

import json

import pytest
from made_answers import make_sample_data
from processes import ROOT

from socrates.config import describe_difference
from socrates.data.records import read_answers, render_prompt
from socrates.data.scales.text import parse_scale
from socrates.errors import SocratesError
from socrates.files import sha256_file, write_jsonl
from socrates.rehearsal.base_model import _next_token_shares, make_base_model
from socrates.rehearsal.rehearsal import main, make_published_sample, rehearsal_config


def test_sample_answers_are_made_up_answerable_and_split_by_study(tmp_path):
    make_published_sample(tmp_path)
    (data_file,) = (tmp_path / "data").iterdir()
    for answer in read_answers(data_file):
        assert answer.response in parse_scale(answer.stimuli).values
        assert answer.prompt == render_prompt(answer.demographic, answer.stimuli)
    lists = json.loads((tmp_path / "metadata" / "participant_mapping.json").read_text())
    assert not {*lists["seen"]} & {*lists["unseen"]}
    before = sha256_file(data_file)
    make_published_sample(tmp_path)
    assert sha256_file(data_file) == before, "they repeat from their seed"
    assert "made up" in json.loads((tmp_path / "made.json").read_text())["source"]


def test_next_token_shares_are_those_of_equally_likely_answers():
    shares = _next_token_shares([(1, 9), (2, 9), (1, 0, 9)])  # answers "1", "2" and "10", ended by 9
    assert shares == {
        (): {1: pytest.approx(2 / 3), 2: pytest.approx(1 / 3)},
        (1,): {9: 0.5, 0: 0.5},
        (2,): {9: 1.0},
        (1, 0): {9: 1.0},
    }


@pytest.mark.slow
def test_the_base_model_repeats_from_its_seed(tmp_path):
    make_sample_data(tmp_path / "data", people=4)
    data_file = tmp_path / "data" / "train.jsonl"
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        make_base_model(tmp_path / name, data_file, seed, steps=2)
    weights = [sha256_file(tmp_path / name / "model.safetensors") for name in ("one", "two", "other")]
    assert weights[0] == weights[1] != weights[2]


def test_real_answers_are_linked_and_only_read(tmp_path):
    source = tmp_path / "source"
    make_sample_data(source, people=4)
    before = sorted(p.name for p in source.iterdir())
    main(str(tmp_path / "place"), str(source), base_steps=2)
    linked = tmp_path / "place" / "data" / "socsci210_full" / "train.jsonl"
    assert linked.is_symlink() and sha256_file(linked) == sha256_file(source / "train.jsonl")
    assert sorted(p.name for p in source.iterdir()) == before


def test_data_without_any_stated_scale_is_an_error(tmp_path):
    row = {"study_id": "s", "condition_num": 0, "task_num": 0, "prompt": "How much? Only return an integer."}
    write_jsonl(tmp_path / "train.jsonl", [row | {"response": 3}])
    with pytest.raises(SocratesError, match="no question states its valid answers"):
        make_base_model(tmp_path / "model", tmp_path / "train.jsonl")
    assert not (tmp_path / "model").exists()


def test_the_rehearsal_differs_from_the_validation_run_in_sizes_only():
    real = json.loads((ROOT / "config_500step_validation.json").read_text())
    mine = rehearsal_config(real["model_name"], real["dataset_path"], steps=40, save_steps=20)
    changed = {line.split(":")[0] for line in describe_difference(real, mine)}
    steps = ("eval_examples", "eval_steps", "logging_steps", "max_steps", "save_steps")
    sizes = [f"training.{name}" for name in (*steps, "global_batch_size", "learning_rate", "num_processes")]
    assert changed <= {*sizes, "evaluation.max_examples", "price_per_hour"}
