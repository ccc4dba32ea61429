"""The benchmark of training runs, and its ways compute the same."""

import re
import subprocess
import sys

import pytest
from processes import PATIENCE, ROOT, environment


@pytest.mark.slow
def test_it_measures_and_says_that_no_gpu_was_measured(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "bench_training.py"), "--shape", "smallest"]
    command += ["--rows-a-step", "16", "--steps", "1", "--only", "flattening", "--output", "table.md"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "table.md").read_text()
    rows = dict(re.findall(r"^\| ([^|]*) \| [\d,]+ \| [\d.]+ \| ([\d.]+%)", text, re.MULTILINE))
    assert rows["this project"] == "0.0%" and float(rows["TRL's defaults"].rstrip("%")) > 20
    assert len(rows) == 3
    assert "Not measured on a GPU" in text and "agree within 5% (dropout differs): yes" in text


@pytest.mark.parametrize("arguments", [["--rows-a-step", "12"], ["--steps", "0"], ["--device", "cuda"]])
def test_what_it_cannot_measure_it_refuses(arguments, tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "bench_training.py"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2 and "Traceback" not in done.stderr
