"""The benchmark of training runs, and its ways compute the same."""

import re

import pytest
from processes import ROOT, run_loaded

PROGRAM = ROOT / "benchmarks" / "bench_training.py"


@pytest.mark.slow
def test_it_measures_and_says_that_no_gpu_was_measured(tmp_path):
    options = ("--shape", "smallest", "--rows-a-step", 16, "--steps", 1, "--only", "flattening", "--output", "table.md")
    done = run_loaded(PROGRAM, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "table.md").read_text()
    rows = dict(re.findall(r"^\| ([^|]*) \| [\d,]+ \| [\d.]+ \| ([\d.]+%)", text, re.MULTILINE))
    assert rows["this project"] == "0.0%" and float(rows["TRL's defaults"].rstrip("%")) > 20
    assert len(rows) == 3
    assert "Not measured on a GPU" in text and "agree within 5% (dropout differs): yes" in text


@pytest.mark.parametrize("arguments", [["--rows-a-step", "12"], ["--steps", "0"], ["--device", "cuda"]])
def test_what_it_cannot_measure_it_refuses(arguments, tmp_path):
    done = run_loaded(PROGRAM, *arguments, cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
