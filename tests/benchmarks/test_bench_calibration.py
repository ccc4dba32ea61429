"""The simulation of widening, small: its figures come from the real calibration, metric and gate."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))


def test_a_small_run_tells_the_wider_from_the_better_and_finds_the_temperature(tmp_path, monkeypatch):
    import bench_calibration

    for name, value in {"STUDIES": 10, "CELLS": 4, "DATA_SETS": 1, "TEMPERATURES": (2.0,)}.items():
        monkeypatch.setattr(bench_calibration, name, value)  # a forked process has them, too
    options = ["--simulations", "1", "--processes", "1", "--output", str(tmp_path / "calibration.md")]
    assert bench_calibration.main(options) in (0, 1)
    text = (tmp_path / "calibration.md").read_text()
    wider, better = re.findall(r"^\| (?:only wider|truly better) \| (\S+) .*\| (\S+) .*\| \*\*(\S+)\*\*", text, re.M)
    assert float(wider[0]) > 5 > float(wider[1]) and wider[2] == "100.0%"
    assert float(better[1]) > 3 and better[2] == "0.0%"
    assert 1.7 < float(re.search(r"^\| 2 \| (\S+) ", text, re.M)[1]) < 2.3
