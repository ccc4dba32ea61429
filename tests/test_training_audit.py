"""TRAINING_AUDIT.md names tests that are there, and its figures are those of the configs and of the tables."""

import ast
import math
import re
from pathlib import Path

import pytest

from socrates.config import load_config

ROOT = Path(__file__).resolve().parent.parent
AUDIT = (ROOT / "TRAINING_AUDIT.md").read_text(encoding="utf-8")
_OTHERS = ("the opposite answer", "a uniform guess")
SEEN_ROWS, ALL_ROWS = 2_418_748, 2_901_390


def test_every_test_and_every_file_that_it_names_is_there():
    tests = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", AUDIT)
    assert len(tests) > 15
    for file, test in tests:
        functions = {node.name for node in ast.parse((ROOT / file).read_text()).body if hasattr(node, "name")}
        assert not test or test in functions, f"{file}::{test}"
    named = set(re.findall(r"`((?:benchmarks|scripts|tests)/[\w/.]+|config_\w+\.json|VALIDATION_CRITERIA\.md)`", AUDIT))
    assert len(named) >= 8
    assert [file for file in sorted(named) if not (ROOT / file).is_file()] == []


@pytest.mark.parametrize("name", ["config_full_dataset.json", "config_500step_validation.json"])
def test_its_hyperparameters_are_the_configs(name):
    config = load_config(ROOT / name)
    training, lora = config.training, config.lora
    assert (training.learning_rate, training.global_batch_size, training.weight_decay) == (1e-5, 256, 0.1)
    assert (training.lr_scheduler_type, training.warmup_ratio, training.max_grad_norm) == ("cosine", 0.05, 1.0)
    assert (lora.r, lora.alpha, lora.dropout, len(lora.target_modules)) == (16, 32, 0.05, 7)
    assert (training.max_length, training.save_steps, training.bf16) == (2048, 500, True)
    assert (config.decoding.temperature, config.decoding.top_p, config.prompt.system_message) == (0.6, 0.9, None)
    asked = f"at most {config.evaluation.max_examples:,} in many cells, {config.evaluation.rows_per_cell} people a cell"
    assert asked in AUDIT


def test_its_steps_follow_from_the_rows():
    config = load_config(ROOT / "config_full_dataset.json")
    seen, everything = config.planned_steps(SEEN_ROWS), config.planned_steps(ALL_ROWS)
    checkpoints = math.ceil(seen / config.training.save_steps), math.ceil(everything / config.training.save_steps)
    assert (seen, everything, *checkpoints) == (9449, 11334, 19, 23)
    assert "9,449 (2,418,748 / 256, rounded up)" in AUDIT and "11,334 is an epoch of *all* rows" in AUDIT
    warmup = [math.ceil(steps * config.training.warmup_ratio) for steps in (seen, 500)]
    assert f"{warmup[0]} warm-up steps of 9,449, {warmup[1]} of 500" in AUDIT
    assert f"500 steps are {500 * 256:,} rows, {500 * 256 / SEEN_ROWS:.1%} of an epoch" in AUDIT
    assert (math.ceil(23_210 / 256), math.ceil(22_944 / 256)) == (91, 90)  # what tells the replication's split


def test_its_table_of_predictions_is_the_benchmarks():
    def table(text):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
        return {row[0]: row[1:] for row in rows}

    measured = table((ROOT / "benchmarks/results/definitions.md").read_text(encoding="utf-8"))
    copied = table(AUDIT.partition("| prediction | paper's W |")[2].partition("\n\n")[0])
    assert len(copied) == 6
    for name, numbers in copied.items():
        assert numbers == [measured[name][0], *measured[name][-2:]], name
    constant, opposite, uniform = (copied[name][0] for name in ("the middle of the scale", *_OTHERS))
    assert f"({constant} and {opposite} on the\nrows above" in AUDIT and f"a uniform guess has {uniform})" in AUDIT
