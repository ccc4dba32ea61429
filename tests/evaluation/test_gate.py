"""The decision: a table over real files through the real script, and the gate's rules one by one."""

from __future__ import annotations

import json
import math
import runpy
import subprocess
import sys
import time
from datetime import datetime
from fractions import Fraction
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import ROOT, run_loaded, run_script

from socrates.errors import SocratesError
from socrates.evaluation.gate import GO, NO_GO, decide
from socrates.evaluation.gate_text import decision_text, printed_distances, printed_improvement

SCRIPT = ROOT / "scripts" / "gate.py"

# The guide's section 1.3, as it stands there.
GUIDE = """
# Wasserstein Distance:
#   Baseline:    0.400
#   Checkpoint:  0.370
#   Improvement: 7.5%
#
# ✅ GO - Improvement ≥5%
# Proceed to full training!
"""
NO_GO_LINES = """
Wasserstein Distance:
  Baseline:    0.400
  Checkpoint:  0.390
  Improvement: 2.5%

❌ NO-GO - Improvement <5%
DO NOT proceed to full training. Debug, adjust the config and retry Phase 1: see VALIDATION_CRITERIA.md.
"""

SAME = {
    "data_sha256": "d" * 64,
    "rows_sha256": "e" * 64,
    "prompt_fingerprint": "f" * 16,
    "decoding": {"temperature": 0.6, "top_p": 0.9},
    "seed": 0,
    "metric_version": 2,
}


def metrics(distance, **changes):
    return {
        "wasserstein_distance": distance,
        "wasserstein_expected": None,
        "mae": 0.3,
        "rmse": 0.4,
        "correlation": 0.1,
        "correlation_within_cells": 0.05,
        "accuracy": 0.7,
        "valid_mass": 0.99,
        "bounds": {"uniform_guess": 0.8, "empirical_best": 0.0},
        "coverage": {"rows": 100, "rows_scored": 100, "cells_scored": 10},
        "comparability": SAME,
        "about": {},
        **changes,
    }


def without(content, *keys):
    return {key: value for key, value in content.items() if key not in keys}


def other(**changes):
    return metrics(0.3, comparability={**SAME, **changes})


def run_gate(*arguments):
    return run_loaded("gate.py", *arguments)


@pytest.fixture
def gate_on(tmp_path):
    """Write two files (a text as it stands, anything else as JSON; None: no file) and run the script on them."""

    def run(baseline, checkpoint, *options):
        paths = [tmp_path / "baseline.json", tmp_path / "checkpoint.json"]
        for path, content in zip(paths, (baseline, checkpoint), strict=True):
            if content is not None:
                path.write_text(content if isinstance(content, str) else json.dumps(content))
        return run_gate(*paths, *options)

    return run


DECIDED = [
    # baseline, checkpoint, exit status, printed improvement
    (0.400, 0.370, 0, "7.5%"),
    (0.400, 0.380, 0, "5.0%"),  # exactly 5%, where floating point falls short of it
    (0.400, 0.380016, 1, "4.996%"),
    (0.400, 0.3802, 1, "4.95%"),  # to one decimal this would read 5.0 or 4.9
    (0.2, 0.19000000000000003, 1, "4.99999999999998%"),
    (0.400, 0.4001, 1, "-0.02%"),  # worse, and not "-0.0%"
    (0.400, 0.400, 1, "0.0%"),
]


@pytest.mark.parametrize(("baseline", "checkpoint", "status", "improvement"), DECIDED)
def test_decisions(gate_on, baseline, checkpoint, status, improvement):
    result = gate_on(metrics(baseline), metrics(checkpoint))
    assert result.returncode == status, result.stderr
    assert f"  Improvement: {improvement}\n" in result.stdout
    assert ("✅ GO - Improvement ≥5%\n" in result.stdout) == (status == 0)
    assert ("❌ NO-GO - Improvement <5%\n" in result.stdout) == (status == 1)
    assert result.stderr == ""


OLD_DECODING = {**SAME["decoding"], "answer_forms": []}


def test_results_of_an_earlier_version_are_compared(gate_on):
    about = {"merged": False, "asked": {"merged": False, "decoding": OLD_DECODING}}
    old = metrics(0.4, comparability={**SAME, "decoding": OLD_DECODING}, about=about)
    assert gate_on(old, metrics(0.3)).returncode == gate_on(old, old | {"wasserstein_distance": 0.3}).returncode == 0


REFUSED = [
    # what is wrong, the baseline's file, the checkpoint's file, what stands on stderr
    ("NaN", json.dumps(metrics(math.nan)), metrics(0.3), "NaN is not a number"),
    ("infinity", metrics(0.4), '{"wasserstein_distance": 1e999}', "comparability"),
    ("infinite distance", metrics(0.4), json.dumps(metrics(77)).replace("77", "1e999"), "must be a finite number"),
    ("missing key", metrics(0.4), without(metrics(0.3), "wasserstein_distance"), '"wasserstein_distance": missing'),
    ("text", metrics(0.4), metrics("0.3"), 'must be a number, not "0.3"'),
    ("negative", metrics(0.4), metrics(-0.1), '"wasserstein_distance": must be at least 0, not -0.1'),
    ("very long integer", metrics(0.4), metrics(10**400), "must be a number, not 1000"),
    ("zero baseline", metrics(0), metrics(0.0), "is 0, on which nothing can improve"),
    ("signal out of range", metrics(0.4), metrics(0.3, mae=2e97), '"mae": must be at most 1'),
    ("merged", metrics(0.4), metrics(0.3, about={"merged": True}), 'made with "merged": true'),
    (
        "answer forms",
        metrics(0.4, comparability={**SAME, "decoding": {**OLD_DECODING, "answer_forms": ["leading_space"]}}),
        metrics(0.3),
        "no longer supported; evaluate again",
    ),
    ("empty file", "", metrics(0.3), "the baseline metrics is empty"),
    ("missing file", metrics(0.4), None, "no such checkpoint metrics"),
    ("not JSON", metrics(0.4), "wasserstein_distance: 0.3", "not JSON"),
    ("not an object", metrics(0.4), "[0.3]", "must be a JSON object"),
    ("duplicate key", metrics(0.4), '{"mae": 1,' + json.dumps(metrics(0.3))[1:], '"mae" stands there twice'),
    ("no comparability", metrics(0.4), without(metrics(0.3), "comparability"), '"comparability": missing'),
    ("other rows", metrics(0.4), other(rows_sha256="0" * 64), '"rows_sha256" is "eee'),
    (
        "a seed of a wrong type in both",
        metrics(0.4, comparability={**SAME, "seed": -1}),
        other(seed=-1),
        '"comparability.seed": must be at least 0, not -1',
    ),
    ("seen a text", metrics(0.4), metrics(0.3, seen="60 rows"), '"seen": must be an object, not "60 rows"'),
    (
        "seen a damaged count",
        metrics(0.4),
        metrics(0.3, seen={"rows": "60", "of": 100}),
        '"seen.rows": must be a whole number',
    ),
    ("another key", metrics(0.4), other(hardware="x"), '"hardware" is null in '),
    (
        "other decoding",
        metrics(0.4),
        other(decoding={"temperature": 1.0, "top_p": 0.9}),
        '"decoding" is {"temperature": 0.6, "top_p": 0.9} in ',
    ),
]


@pytest.mark.parametrize(("baseline", "checkpoint", "reason"), [pytest.param(*r[1:], id=r[0]) for r in REFUSED])
def test_no_decision_on_wrong_input(gate_on, tmp_path, baseline, checkpoint, reason):
    result = gate_on(baseline, checkpoint, "--output", tmp_path / "decision.json")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and reason in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "decision.json").exists()


@pytest.mark.parametrize("key", list(SAME))
def test_a_missing_key_in_both_is_not_taken_for_equal(key):
    same = without(SAME, key)
    with pytest.raises(SocratesError, match=f'"comparability.{key}": missing'):
        decide(metrics(0.4, comparability=same), metrics(0.3, comparability=same))


def test_every_difference_is_named_with_both_values_and_files():
    checkpoint = metrics(0.3, comparability={**SAME, "seed": 5, "decoding": {"temperature": 1.0, "top_p": 0.9}})
    with pytest.raises(SocratesError) as error:
        decide(metrics(0.4), checkpoint, names=("a/metrics.json", "b/metrics.json"))
    assert '"seed" is 0 in a/metrics.json and 5 in b/metrics.json' in str(error.value)
    assert '"decoding" is {"temperature": 0.6, "top_p": 0.9} in a/metrics.json and {"temp' in str(error.value)
    assert "same seed" in str(error.value) and "same temperature and top_p" in str(error.value)


def test_answers_made_elsewhere_are_not_compared_with_an_evaluation():
    external = {**SAME, "data_sha256": SAME["rows_sha256"], "prompt_fingerprint": "external", "decoding": "external"}
    with pytest.raises(SocratesError, match=r"scored from answers made elsewhere.*score_predictions\.py"):
        decide(metrics(0.4), metrics(0.3, comparability=external))
    assert decide(metrics(0.4, comparability=external), metrics(0.3, comparability=external)).go


def test_the_guides_example_byte_for_byte(gate_on):
    expected = "".join(line[2:] + "\n" for line in GUIDE.strip().split("\n"))
    assert expected.count("\n") == 7 and "#" not in expected
    result = gate_on(metrics(0.400), metrics(0.370))
    assert result.stdout.startswith(expected + "\n")


def test_no_go_reads_alike(gate_on):
    assert gate_on(metrics(0.400), metrics(0.390)).stdout.startswith(NO_GO_LINES.lstrip() + "\n")


def test_the_decision_prints_in_any_locale(gate_on, tmp_path):
    gate_on(metrics(0.4), metrics(0.3))
    paths = [tmp_path / "baseline.json", tmp_path / "checkpoint.json"]
    result = run_script("gate.py", *paths, cwd=tmp_path, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert result.returncode == 0 and "✅ GO" in result.stdout


def test_decision_json_records_all_of_it(gate_on, tmp_path):
    output = tmp_path / "new" / "decision.json"
    before = time.time()
    result = gate_on(metrics(0.4), metrics(0.37, mae=0.2, correlation=None), "--output", output)
    record = json.loads(output.read_text())
    assert result.returncode == 0
    assert record["decision"] == "GO"
    assert record["improvement_percent"] == 7.5
    assert record["threshold_percent"] == 5.0
    assert record["baseline_wasserstein_distance"] == 0.4
    assert record["checkpoint_wasserstein_distance"] == 0.37
    assert record["improvement_ci95"] is None and record["require_significant"] is False
    assert record["uniform_guess"] == 0.8 and record["worse_than_uniform"] is False
    assert record["comparability"] == SAME
    assert record["supporting_signals"]["MAE"] == {"baseline": 0.3, "checkpoint": 0.2, "verdict": "better"}
    assert record["supporting_signals"]["Correlation"]["verdict"] == "N/A"
    for role in ("baseline", "checkpoint"):
        path = tmp_path / f"{role}.json"
        assert record["inputs"][role] == {"path": str(path), "sha256": sha256(path.read_bytes()).hexdigest()}
    decided = datetime.fromisoformat(record["decided_at"])
    assert decided.utcoffset().total_seconds() == 0
    assert abs(decided.timestamp() - before) < 60


def test_an_output_that_cannot_be_written_is_no_go_ahead(gate_on, tmp_path):
    (tmp_path / "taken").write_text("a file where a folder should be")
    result = gate_on(metrics(0.4), metrics(0.3), "--output", tmp_path / "taken" / "decision.json")
    assert result.returncode == 2
    assert result.stdout == "", "found before anything is decided"
    assert "taken/decision.json: cannot" in result.stderr and "Traceback" not in result.stderr


def test_go_is_not_said_before_it_is_recorded(tmp_path, monkeypatch, capsys):
    def full(*_arguments):
        raise SocratesError("decision.json: cannot write: No space left on device")

    monkeypatch.syspath_prepend(SCRIPT.parent)
    monkeypatch.setattr("socrates.files.write_json", full)
    paths = [tmp_path / "baseline.json", tmp_path / "checkpoint.json"]
    for path, distance in zip(paths, (0.4, 0.3), strict=True):
        path.write_text(json.dumps(metrics(distance)))
    with pytest.raises(SocratesError, match="No space"):
        runpy.run_path(str(SCRIPT))["main"]([*map(str, paths), "--output", str(tmp_path / "decision.json")])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("role", ["baseline", "checkpoint"])
def test_the_output_never_overwrites_what_is_compared(gate_on, tmp_path, role):
    (tmp_path / "link.json").symlink_to(f"{role}.json")
    result = gate_on(metrics(0.4), metrics(0.3), "--output", tmp_path / "link.json")
    assert result.returncode == 2 and "would overwrite" in result.stderr
    assert json.loads((tmp_path / f"{role}.json").read_text())["mae"] == 0.3


def test_a_crash_inside_is_neither_go_nor_no_go(tmp_path):
    for name, distance in (("baseline", 0.4), ("checkpoint", 0.3)):
        (tmp_path / name).write_text(json.dumps(metrics(distance)))
    crash = (
        f"import runpy, sys; sys.path[:0] = [{str(ROOT)!r}, {str(SCRIPT.parent)!r}]; import socrates.evaluation.gate\n"
        "def crash(*a, **k): raise RuntimeError('injected')\n"
        "socrates.evaluation.gate.decide = crash; sys.argv[0] = 'gate.py'\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    command = [sys.executable, "-c", crash, tmp_path / "baseline", tmp_path / "checkpoint"]
    result = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert result.returncode == 2
    assert "injected" in result.stderr and "defect" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", [(), ("one.json",), ("a.json", "b.json", "c.json"), ("a", "b", "--out", "c")])
def test_wrong_arguments_are_no_decision(arguments):
    result = run_gate(*arguments)
    assert result.returncode == 2 and "usage:" in result.stderr and result.stdout == ""


def test_a_folder_or_an_unfinished_evaluation_is_named(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "good.json").write_text(json.dumps(metrics(0.3)))
    folder = run_gate(tmp_path / "base", tmp_path / "good.json")
    assert folder.returncode == 2 and "name the metrics.json in it" in folder.stderr
    unfinished = run_gate(tmp_path / "base" / "metrics.json", tmp_path / "good.json")
    assert unfinished.returncode == 2 and "did not finish" in unfinished.stderr


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"mae": 0.25}, "  MAE:          0.300 -> 0.250  better"),
        ({"mae": 0.35}, "  MAE:          0.300 -> 0.350  worse"),
        ({"correlation": 0.2}, "  Correlation:  0.100 -> 0.200  better"),
        ({"correlation": None}, "  Correlation:  0.100 -> N/A  N/A"),
    ],
)
def test_supporting_signals_are_reported_and_decide_nothing(changes, line):
    decision = decide(metrics(0.4), metrics(0.38, **changes))
    text = decision_text(decision)
    assert decision.decision == GO and line in text.splitlines()
    assert text.index("GO - Improvement") < text.index(line)


def bounded(distance, uniform=0.203, best=0.06):
    return metrics(distance, bounds={"uniform_guess": uniform, "empirical_best": best})


def test_notes_flag_what_is_not_plausible_and_decide_nothing():
    leaked = decide(bounded(0.2), bounded(0.0599))
    assert leaked.go and "below 0.060, what people's own answers resampled score" in decision_text(leaked)
    assert not decide(bounded(0.2), bounded(0.06)).notes
    fewer = decide(metrics(0.2), metrics(0.15, coverage={"rows_scored": 90, "cells_scored": 10}))
    assert "scored on 100 rows, the checkpoint on 90" in decision_text(fewer)
    mute = decide(metrics(0.2, valid_mass=None), metrics(0.15, valid_mass=1e-9))
    assert mute.go and "the checkpoint puts only 1e-09 of its probability on valid answers" in decision_text(mute)
    other_base = decide(metrics(0.2, about={"base_model": "a/7B"}), metrics(0.15, about={"base_model": "a/14B"}))
    assert "a/7B and a/14B" in decision_text(other_base)


def test_no_better_than_a_uniform_guess_is_said_aloud_go_or_not():
    text = decision_text(decide(bounded(0.25), bounded(0.2034)))
    assert "GO - Improvement ≥5%" in text
    assert "⚠ No better than a uniform guess: the checkpoint scores 0.2034, guessing 0.2030 on the same cells." in text
    assert "5% better than useless may still be useless." in text
    assert "⚠" in decision_text(decide(bounded(0.203), bounded(0.203)))
    better = decide(bounded(0.25), bounded(0.2029))
    assert "⚠" not in decision_text(better) and not better.worse_than_uniform


@pytest.mark.parametrize(
    ("interval", "required", "decision", "line"),
    [
        ((2.0, 12.0), False, GO, "It straddles 5%"),
        ((2.0, 12.0), True, NO_GO, "It straddles 5%"),
        ((5.0, 12.0), True, GO, "All of it is at or above 5%"),
        ((4.99, 12.0), True, NO_GO, "95% interval of the improvement: 4.99% to 12.00%"),
        ((5.01, 12.0), True, GO, "95% interval of the improvement: 5.0% to 12.0%"),
        (None, False, GO, "95% interval of the improvement: N/A"),
    ],
)
def test_the_interval_is_told_and_decides_only_where_that_is_asked_for(interval, required, decision, line):
    decided = decide(metrics(0.4), metrics(0.37), interval=interval, require_significant=required)
    text = decision_text(decided)
    assert decided.decision == decision and line in text
    if decision == NO_GO:
        assert "❌ NO-GO - Improvement ≥5%, but not significantly (--require-significant)" in text


def test_an_improvement_below_the_threshold_is_no_go_however_significant():
    decided = decide(metrics(0.4), metrics(0.39), interval=(2.4, 2.6), require_significant=True)
    assert not decided.go and "❌ NO-GO - Improvement <5%" in decision_text(decided)
    assert "All of it is below 5%" in decision_text(decided)


def test_significance_that_cannot_be_told_is_no_decision(gate_on):
    result = gate_on(metrics(0.4), metrics(0.3), "--require-significant")
    assert result.returncode == 2 and "cells.jsonl" in result.stderr


@pytest.fixture
def two_results(tmp_path):
    """Results of two models over the same answers, written as an evaluation writes them."""

    def write(name, predict):
        rng = np.random.default_rng(4)
        rows = [
            {
                **{"study_id": f"s{study}", "condition_num": cell, "task_num": 1, "participant": person},
                "response": int(answer),
                "prediction": predict(int(answer), study),
            }
            for study in range(6)
            for cell in range(3)
            for person, answer in enumerate(rng.integers(1, 8, size=20))
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        run_loaded("score_predictions.py", tmp_path / f"{name}.jsonl", "--output", tmp_path / name)
        return tmp_path / name / "metrics.json"

    return write("before", lambda answer, study: 1), write("after", lambda answer, study: 1 + study % 3)


def test_the_interval_comes_from_the_same_cells_of_both(two_results, tmp_path):
    before, after = two_results
    result = run_gate(before, after, "--output", tmp_path / "decision.json")
    record = json.loads((tmp_path / "decision.json").read_text())
    low, high = record["improvement_ci95"]
    assert low < record["improvement_percent"] < high
    assert f"95% interval of the improvement: {low:.1f}% to {high:.1f}%" in result.stdout
    # Against another way to the same interval: studies alone, drawn by hand. Cells within a study add little.
    lines = [[json.loads(line) for line in path.with_name("cells.jsonl").open()] for path in two_results]
    means = np.array([[cell["wasserstein_distance"] for cell in side] for side in lines]).reshape(2, 6, 3).mean(axis=2)
    drawn = means[:, np.random.default_rng(0).integers(6, size=(20_000, 6))].mean(axis=2)
    spread = np.std(1 - drawn[1] / drawn[0]) * 100
    assert 1.5 * 1.96 * spread < high - low < 3 * 1.96 * spread

    cells = after.with_name("cells.jsonl")
    cells.write_text("".join(cells.read_text().splitlines(keepends=True)[1:]))
    result = run_gate(before, after)
    assert result.returncode == 2 and "is not of the metrics.json beside it" in result.stderr
    cells.unlink()
    result = run_gate(before, after)
    assert result.returncode in (0, 1) and "95% interval of the improvement: N/A" in result.stdout


def test_means_over_other_cells_are_not_compared():
    with pytest.raises(SocratesError, match="baseline metrics scores 10 cells and checkpoint metrics 9"):
        decide(metrics(0.2), metrics(0.15, coverage={"rows_scored": 90, "cells_scored": 9}))


@pytest.mark.parametrize("key", ["mae", "rmse", "correlation", "accuracy", "valid_mass", "coverage"])
def test_a_missing_key_is_another_kind_of_file_and_null_is_not_defined(key):
    for pair in ((without(metrics(0.4), key), metrics(0.3)), (metrics(0.4), without(metrics(0.3), key))):
        with pytest.raises(SocratesError, match=f'"{key}": missing'):
            decide(*pair)
    if key != "coverage":
        assert "N/A" in decision_text(decide(metrics(0.4, **{key: None}), metrics(0.3)))


def test_a_file_is_not_compared_with_itself(gate_on, tmp_path):
    gate_on(metrics(0.4), metrics(0.3))
    result = run_gate(tmp_path / "baseline.json", tmp_path / "baseline.json")
    assert result.returncode == 2 and "are the same file" in result.stderr and result.stdout == ""


def test_an_earlier_decision_does_not_outlive_a_failure(gate_on, tmp_path):
    (tmp_path / "decision.json").write_text('{"decision": "GO"}')
    result = gate_on(metrics(0.4), metrics(0.3, mae="x"), "--output", tmp_path / "decision.json")
    assert result.returncode == 2 and not (tmp_path / "decision.json").exists()


@pytest.mark.parametrize(
    ("baseline", "checkpoint", "printed"),
    [
        (0.4, 0.37, ("0.400", "0.370")),
        (0.2051, 0.1512, ("0.205", "0.151")),
        (0.40001, 0.40002, ("0.40001", "0.40002")),  # three decimals would hide the difference
        (0.4, 0.380016, ("0.40000", "0.38002")),  # 0.400 -> 0.380 would read as 5%
        (0.0004, 0.0002, ("0.0004", "0.0002")),
        (0.4, 0.4, ("0.400", "0.400")),
    ],
)
def test_distances_have_the_decimals_that_the_decision_needs(baseline, checkpoint, printed):
    assert printed_distances(decide(metrics(baseline), metrics(checkpoint))) == list(printed)


thousandths = st.integers(1, 1000).map(lambda n: n / 1000)


@given(thousandths | st.floats(1e-3, 1), thousandths | st.floats(0, 1))
def test_what_is_printed_never_contradicts_the_decision(baseline, checkpoint):
    decision = decide(metrics(baseline), metrics(checkpoint))
    shown = Fraction(printed_improvement(decision))
    assert (shown >= 5) == decision.go
    assert abs(shown - decision.improvement) <= Fraction(1, 20)
    assert (shown > 0, shown < 0) == (decision.improvement > 0, decision.improvement < 0)
    before, after = map(Fraction, printed_distances(decision))
    assert ((1 - after / before) * 100 >= 5) == decision.go
    assert abs(before - Fraction(baseline)) <= Fraction(1, 2000)


@given(st.integers(1, 50))
def test_exactly_five_percent_is_go_wherever_it_can_be_written(twentieths):
    baseline = twentieths * 20 / 1000
    checkpoint = twentieths * 19 / 1000
    assert decide(metrics(baseline), metrics(checkpoint)).decision == GO
    assert decide(metrics(baseline), metrics(math.nextafter(checkpoint, 1))).decision == NO_GO


def test_rows_that_may_have_been_trained_on_are_told_and_recorded(gate_on, tmp_path):
    seen = {"rows": 60, "of": 100, "studies": ["s1"], "split": None}
    result = gate_on(metrics(0.4, seen=None), metrics(0.3, seen=seen), "--output", tmp_path / "decision.json")
    assert result.returncode == 0
    assert "Note: the checkpoint may have been trained on 60 of the 100 rows that it is evaluated on" in result.stdout
    record = json.loads((tmp_path / "decision.json").read_text())
    assert "trained on 60" in record["notes"][0] and record["rows_seen"] == {"baseline": 0, "checkpoint": 60}
    for unknown in ({}, {"seen": None}, {"seen": seen | {"rows": 0}}):
        assert "trained on" not in gate_on(metrics(0.4), metrics(0.3, **unknown)).stdout
