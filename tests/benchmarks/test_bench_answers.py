"""The benchmark of the ways of asking: it runs, at a small size, and its ways give the same numbers."""

from __future__ import annotations

import math
import re
import sys

import numpy as np
import pytest
from processes import ROOT, run_loaded

PROGRAM = ROOT / "benchmarks" / "bench_answers.py"
sys.path.insert(0, str(PROGRAM.parent))


@pytest.fixture(scope="module")
def asked():
    """(model, questions)"""
    import torch
    from answer_ways import made_up_questions
    from random_model import answering_model, made_tokenizer

    model = answering_model("smallest", made_tokenizer(), torch.device("cpu"), seed=1)
    return model, made_up_questions(10, seed=1)


def test_the_ways_that_compute_the_same_agree(asked):
    import answer_ways as ways

    reference = ways.this(*asked, 1000)
    assert ways.largest_difference(ways.option_by_option(*asked, 1000).scores, reference.scores) < 1e-3
    # The model is one whose numbers can be wrong: they differ between answers, and between questions on one scale.
    logs = np.array([log for answers in reference.scores.values() for log in answers.values()])
    assert np.isfinite(logs).all() and logs.max() - np.median(logs) > 3
    assert np.std([answers[1] for answers in reference.scores.values() if 1 in answers]) > 0.1


def test_a_difference_is_found(asked):
    import answer_ways as ways

    expected = ways.this(*asked, 1000).scores
    wrong = {index: dict(answers) for index, answers in expected.items()}
    wrong[3][next(iter(wrong[3]))] += 0.01
    assert ways.largest_difference(wrong, expected) == pytest.approx(0.01)
    del wrong[3]
    assert ways.largest_difference(wrong, expected) == math.inf


def test_made_up_rows_are_like_real_ones():
    from answer_ways import made_up_questions

    from socrates.inference.forward import common_prefix

    questions = made_up_questions(200, seed=0)
    lengths = [len(question.prompt_ids) for question in questions]
    assert np.mean(lengths) == pytest.approx(193, abs=8)
    assert np.percentile(lengths, 95) == pytest.approx(339, abs=10) and 450 < max(lengths) <= 490
    shared = len(common_prefix([question.prompt_ids for question in questions]))
    assert shared / np.mean(lengths) == pytest.approx(0.21, abs=0.01)
    options = [len(question.scale.values) for question in questions]
    assert np.mean(options) == pytest.approx(22.3, abs=1) and set(options) == {2, 5, 7, 11, 101}


def test_work_counts_what_a_model_computes():
    """Against torch's own counter of operations."""
    import torch
    from answer_ways import pairs, work
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import Qwen2Config, Qwen2ForCausalLM

    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = Qwen2Config(vocab_size=100, num_key_value_heads=2, **shape)
    model = Qwen2ForCausalLM(config).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.arange(50)[None], use_cache=False)
    attention = 4 * 3 * 64  # operations for each pair
    # The counter may count the masked half of attention, or attention not at all.
    assert work(config, 50, pairs([50]), 50) == pytest.approx(
        counter.get_total_flops(), abs=attention * pairs([50]) + 1
    )
    assert work(config, 50, 0, 50) == pytest.approx(
        sum(2 * 50 * p.numel() for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n)
    )


@pytest.mark.slow
def test_the_program_prints_and_writes_its_table(tmp_path):
    table = tmp_path / "new folder" / "table.md"
    done = run_loaded(PROGRAM, "--shape", "smallest", "--rows", 6, "--sample", 3, "--repeats", 1, "--output", table)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert table.read_text() == done.stdout
    for way in ("this", "prefill alone", "option by option", "100 tokens", "in batches"):
        assert re.search(rf"^\| .*{way}.* \| [36] \| \d+\.\d\d \|", done.stdout, re.MULTILINE), way
    assert "- the ways that compute the same agree: yes (met)" in done.stdout


@pytest.mark.parametrize("program", ["bench_answers.py", "bench_training.py"])
@pytest.mark.parametrize("arguments, message", [(("--repeats", 0), "at least 1"), (("--device", "cuda"), "no GPU")])
def test_what_cannot_be_measured_is_said(program, arguments, message):
    import torch

    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = run_loaded(PROGRAM.with_name(program), *arguments)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
