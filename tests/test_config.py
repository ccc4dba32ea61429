"""The shipped configs, and every way in which a config can be wrong."""

import copy
import json
from pathlib import Path

import pytest

from socrates.config import describe_difference, load_config, load_deepspeed, load_training, parse_config
from socrates.errors import SocratesError

ROOT = Path(__file__).parent.parent
SHIPPED = {
    "config_full_dataset.json": "deepspeed_config.json",
    "config_500step_validation.json": "deepspeed_config.json",
    "config_test_run.json": "deepspeed_config_test.json",
}
VALID = json.loads((ROOT / "config_full_dataset.json").read_text())


def with_value(path: str, value) -> dict:
    """The full config with one key (a dotted path) set to something else."""
    config = copy.deepcopy(VALID)
    *sections, key = path.split(".")
    place = config
    for section in sections:
        place = place.setdefault(section, {})
    place[key] = value
    return config


def problems_of(config: dict) -> str:
    with pytest.raises(SocratesError) as error:
        parse_config(config, "c.json")
    return str(error.value)


def test_every_shipped_config_is_tested_here():
    assert {p.name for p in ROOT.glob("config_*.json")} == set(SHIPPED)
    assert {p.name for p in ROOT.glob("deepspeed_*.json")} == set(SHIPPED.values())


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_config_and_its_deepspeed_file_are_valid(name):
    config = load_config(ROOT / name)
    load_deepspeed(ROOT / SHIPPED[name], config)
    assert config.to_dict() == json.loads((ROOT / name).read_text()), "a default that the file does not state"


def test_a_config_of_an_earlier_version_is_read():
    assert parse_config(with_value("decoding.answer_forms", []), "c.json") == parse_config(VALID, "c.json")


def test_rows_per_cell_is_recorded_only_where_it_is_set_so_that_older_checkpoints_go_on():
    assert parse_config(with_value("data.rows_per_cell", None), "c.json").to_dict() == VALID
    chosen = parse_config(with_value("data.rows_per_cell", 32), "c.json").to_dict()
    assert describe_difference(VALID, chosen) == ["data: None -> {'rows_per_cell': 32}"]


def test_validation_and_full_run_share_every_hyperparameter():
    full, validation = (
        load_config(ROOT / f"config_{n}.json").to_dict() for n in ("full_dataset", "500step_validation")
    )
    assert describe_difference(full, validation) == [
        "output_dir: 'models/socrates-qwen-full-dataset' -> 'models/socrates-qwen-500step-validation'",
        "training.max_steps: None -> 500",
    ]


def test_the_values_of_the_guide_that_no_page_tells():
    full, test = load_config(ROOT / "config_full_dataset.json"), load_config(ROOT / "config_test_run.json")
    assert (full.model_name, full.dataset_path) == ("Qwen/Qwen2.5-14B-Instruct", "data/socsci210_full")
    assert (test.training.max_steps, test.training.save_steps, test.training.logging_steps) == (50, 10, 10)
    assert test.training.num_processes == 2


@pytest.mark.parametrize(
    "path, value, message",
    [
        ("training.learning_rate", "1e-5", "must be a number"),
        ("training.learning_rate", 0, "must be above 0"),
        ("training.learning_rate", float("nan"), "must be a finite number, not NaN"),
        ("training.warmup_ratio", 1.0, "at most 0.99"),
        ("training.save_steps", 500.0, "must be a whole number"),
        ("training.bf16", 1, "must be true or false"),
        ("training.lr_scheduler_type", "cosin", "must be one of cosine"),
        ("lora.target_modules", "q_proj", "must be a list"),
        ("lora.target_modules", ["q_proj", "k_prj"], "must be one of q_proj, k_proj, v_proj, o_proj"),
        ("lora.target_modules", ["q_proj", "q_proj"], "stands there twice"),
        ("training.learning_rate", 10**400, "must be within ±1e+12, not 1000"),
        ("training.num_train_epochs", 1e300, "must be within ±1e+12, not 1e+300"),
        ("lora", [], "must be an object"),
        ("decoding.answer_forms", ["leading_space"], "which is no longer supported; remove it"),
        ("model_name", " ", "must not be empty"),
        ("evaluation.rows_per_cell", 1, "at least 2"),
        ("data.rows_per_cell", 0, "must be at least 1, not 0"),
        ("data.rows_per_cell", -3, "must be at least 1, not -3"),
        ("data.rows_per_cell", "32", 'must be a whole number, not "32"'),
        ("data.rows_per_cel", 32, 'did you mean "rows_per_cell"?'),
        ("rows_per_cell", 32, 'it belongs into "evaluation" or "data"'),
        ("prompt.date", "today", 'should be a valid date or datetime, input is too short, not "today"'),
        ("evaluation.data_file", "../val.jsonl", "must be a file name"),
        ("training.micro_batch_tokens", 1024, "is less than max_length = 2048"),
        ("training.eval_steps", 25, "is no multiple of logging_steps = 10"),
        *(
            (f"training.{gone}", 4, "unknown key; remove it: ")
            for gone in ("per_device_train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing")
        ),
        *(
            (f"{at}nonsense", 1, "unknown key")
            for at in ("", "lora.", "training.", "prompt.", "decoding.", "evaluation.")
        ),
        ("training.learning_rat", 1, 'did you mean "learning_rate"?'),
        ("learning_rate", 1, 'it belongs into "training"'),
    ],
)
def test_wrong_value_or_key(path, value, message):
    problem = problems_of(with_value(path, value))
    assert path.rpartition(".")[2] in problem and message in problem


def test_global_batch_must_divide_by_the_processes():
    problem = problems_of(with_value("training.num_processes", 3))
    assert '"training.global_batch_size": 256 does not divide by num_processes = 3' in problem
    assert "the nearest that does is 255" in problem


def test_a_limit_of_cost_needs_a_price():
    assert '"max_cost_usd": needs "price_per_hour"' in problems_of({**VALID, "price_per_hour": None, "max_cost_usd": 5})


def test_all_problems_at_once():
    config = with_value("training.learning_rate", -1)
    config["lora"]["rank"] = 3
    del config["model_name"]
    message = problems_of(config)
    assert message.startswith("c.json: 3 problems")
    assert all(part in message for part in ("learning_rate", "lora.rank", "model_name"))


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"seed": 1, "seed": 2}', 'key "seed" stands there twice'),
        ('{"seed": NaN}', "NaN is not a number that JSON allows"),
        ("[]", "must be a JSON object"),
        ("[" * 100_000, "recursion"),
        ("", "is empty"),
        ('{"seed": 1,}', "line 1, column"),
    ],
)
def test_malformed_file(tmp_path, text, message):
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(SocratesError) as error:
        load_config(path)
    assert message in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize(
    "output", ["run+dora", "my run", "läuft", "v1:final", "group/run", ".run", "set-aside", "..", "", "../run", "a\nb"]
)
def test_a_run_is_named_as_the_monitor_knows_it(tmp_path, output):
    value = json.loads((ROOT / "config_full_dataset.json").read_text())
    for folder in (f"models/{output}", f"/elsewhere/{output}", "out/run"):
        (tmp_path / "c.json").write_text(json.dumps(value | {"output_dir": folder}))
        with pytest.raises(SocratesError, match=r"must be models/NAME, .*; NAME of letters, digits, dots, - and _"):
            load_training(tmp_path / "c.json", ROOT / "deepspeed_config.json")
    (tmp_path / "c.json").write_text(json.dumps(value | {"output_dir": "./models/Qwen-2.5_a/"}))
    assert load_training(tmp_path / "c.json", None)[1] is None


@pytest.mark.parametrize(
    "change, message",
    [
        ({"scheduler": {"type": "WarmupLR"}}, '"scheduler": remove this block'),
        ({"optimizer": {"type": "AdamW"}}, '"optimizer": remove this block'),
        ({"train_batch_size": 128}, "128 contradicts the run config, which says 256"),
        ({"bf16": {"enabled": False}}, "False contradicts the run config, which says True"),
        ({"gradient_clipping": 0.5}, "0.5 contradicts"),
        ({"zero_optimization": {"stage": 3}}, "must be 1 or 2, not 3"),
        ({"zero_optimization": {}}, "must be 1 or 2, not None"),
        ({"zero_optimisation": {"stage": 2}}, 'did you mean "zero_optimization"?'),
        ({"zero_optimization": {"stage": 2, "overlap_com": True}}, 'did you mean "overlap_comm"?'),
        ({"checkpoint": {"load_universal": True}}, "checkpoint.load_universal"),
        ({"bf16": True}, '"bf16": must be {"enabled": "auto"}'),
        ({"gradient_accumulation_steps": 16}, 'write "auto", not 16: micro-batches are counted in tokens'),
        *(
            ({key: ...}, f'"{key}": missing; write')  # or DeepSpeed would take its own default
            for key in ("train_micro_batch_size_per_gpu", "gradient_clipping", "bf16")
        ),
    ],
)
def test_wrong_deepspeed_file(tmp_path, change, message):
    path, value = tmp_path / "d.json", json.loads((ROOT / "deepspeed_config.json").read_text()) | change
    path.write_text(json.dumps({key: part for key, part in value.items() if part is not ...}))
    with pytest.raises(SocratesError) as error:
        load_deepspeed(path, load_config(ROOT / "config_full_dataset.json"))
    assert message in str(error.value)
