"""The benchmark of training runs: its ways compute the same, and what they need is counted as torch counts it."""

import re
import subprocess
import sys

import pytest
from processes import PATIENCE, ROOT, environment, run_loaded

PROGRAM = ROOT / "benchmarks" / "bench_training.py"
sys.path.insert(0, str(PROGRAM.parent))


@pytest.mark.slow
def test_it_measures_and_says_what_was_not_measured(tmp_path):
    options = ("--shape", "smallest", "--rows-a-step", 16, "--steps", 1, "--only", "strongest", "head", "flash")
    done = run_loaded(PROGRAM, *options, "--output", "table.md", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "table.md").read_text()
    rows = dict(re.findall(r"^\| ([^|]*) \| [\d,]+ \| [\d.]+ \| ([\d.]+%)", text, re.MULTILINE))
    assert rows.pop("TRL's defaults") > "20" and set(rows.values()) == {"0.0%"} and len(rows) == 3
    assert "Not measured on a GPU" in text and "agree within 5% (dropout differs): yes (met)" in text
    assert "- not run: attention: flash_attention_2: " in text and "needs the package flash-attn and a GPU" in text


def test_operations_are_what_torch_counts():
    import torch
    from peft import LoraConfig, get_peft_model
    from random_model import SHAPES, random_qwen2
    from torch.utils.flop_counter import FlopCounterMode
    from training_ways import ANSWER_TOKENS, PROJECTIONS, training_operations

    length, shape = 50, SHAPES["smallest"]
    model = random_qwen2("smallest", torch.device("cpu"), seed=0, attention="eager")
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=16, target_modules=list(PROJECTIONS)))
    kept = torch.arange(length - ANSWER_TOKENS, length)
    with FlopCounterMode(display=False) as counter:
        logits = model(input_ids=torch.arange(length)[None], logits_to_keep=kept, use_cache=False).logits
        logits.sum().backward()
    masked = 12 * shape["num_hidden_layers"] * shape["hidden_size"] * (length**2 - length * (length + 1) // 2)
    assert training_operations(shape, 16, [length]) == counter.get_total_flops() - masked


def test_rows_a_step_are_batches_of_trl(tmp_path):
    done = run_loaded(PROGRAM, "--rows-a-step", 12, cwd=tmp_path)
    assert done.returncode == 2 and "multiple of 8" in done.stderr


@pytest.mark.slow
def test_the_script_for_a_gpu_runs_without_one(tmp_path):
    script = PROGRAM.with_name("on_gpu.sh")
    options = ("--device", "cpu", "--shape", "smallest", "--seconds", "1", "--output", tmp_path)
    done = subprocess.run([script, *options], capture_output=True, text=True, env=environment(), timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    answers = (tmp_path / "answers_smallest_cpu.md").read_text()
    training = (tmp_path / "training_smallest_cpu.md").read_text()
    assert "the ways that compute the same agree: yes" in answers and "| option by option | 8 |" in answers
    assert "| this project |" in training and "- not run: attention: flash_attention_2: no time left" in training
