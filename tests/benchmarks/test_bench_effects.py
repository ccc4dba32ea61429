"""The simulation of effects runs; its numbers are in `benchmarks/results/bench_effects.md`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))


@pytest.mark.slow
def test_a_small_run_writes_its_tables(tmp_path, capsys):
    import bench_effects

    bench_effects.main(["--data-sets", "2", "--output", str(tmp_path / "effects.md")])
    text = (tmp_path / "effects.md").read_text()
    assert capsys.readouterr().out == text and "nan" not in text
    assert text.count("\n| 40 |") == len(bench_effects.ASSUMPTIONS) + len(bench_effects.NOTHING)
